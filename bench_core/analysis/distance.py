"""Compute the state distance: how far a rule's states lie from those of bp with the same start.

    d_l = median over the probe samples of ‖h_l − h_l^BP‖ / ‖h_l^BP‖,  l = 0 … L

h^BP are the states of the run of plain bp (the ceiling) with the same recipe and seed. Both runs
stored their flattened states after training (probe.safetensors); samples that only one run
stored are left out. Computed in float64 with a norm of at least 1e-30 for bp, by numpy, without
torch. The stored measurement `state_distance` has no value; it gets its value here, when results
are read. Source: arXiv:2606.21126.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.verdicts.recipes import recipe_under
from bench_core.analysis.verdicts.roles import is_ceiling
from bench_core.results import files
from bench_core.results.record import Measurement, RunRecord
from bench_core.results.store import PROBE

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "state_distance"
LARGEST = 80 << 20  # bytes of a probe; `bench run` stores 64 MiB of states
HEADER = 1 << 20  # bytes of its header; that of a network of 100 blocks has some thousand
BLOCK = 1 << 18  # numbers that are compared at once, as float64


def distances(run: Path, ceiling: Path) -> tuple[list[float], int]:
    """Compute (d_0 … d_L, number of samples) of two run folders.

    Raises `ValueError` with the reason if they cannot be compared.
    """
    import numpy as np

    own = _states(run)
    try:
        other = _states(ceiling)
    except ValueError as reason:
        raise ValueError(f"in the run of bp, {reason}") from None
    if [states.shape[1:] for states in own] != [states.shape[1:] for states in other]:
        raise ValueError("its states have other shapes than those of bp")
    by_layer, samples = [], 0
    for a, b in zip(own, other, strict=True):
        samples = min(len(a), len(b))
        step, ratios = max(1, BLOCK * len(a) // a.size), []
        for begin in range(0, samples, step):
            block = slice(begin, min(begin + step, samples))
            h, reference = (
                rows[block].astype(np.float64).reshape(block.stop - begin, -1) for rows in (a, b)
            )
            with np.errstate(invalid="ignore", over="ignore"):  # states need not be finite
                norms = np.maximum(np.linalg.norm(reference, axis=1), 1e-30)
                ratios.append(np.linalg.norm(h - reference, axis=1) / norms)
        by_layer.append(float(np.median(np.concatenate(ratios))))
    return by_layer, samples


def _states(folder: Path) -> list[NDArray[Any]]:
    """Read h_0 … h_L of a run folder, and only them."""
    from safetensors import SafetensorError, safe_open

    try:
        if (folder / PROBE).lstat().st_size > LARGEST:
            raise ValueError("too large")
        with (
            files.tensors(folder / PROBE, header=HEADER) as path,
            safe_open(path, framework="numpy") as file,
        ):
            count = sum(name.startswith("h_") for name in file.keys())  # noqa: SIM118
            states = [file.get_tensor(f"h_{layer}") for layer in range(count)]
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{PROBE} cannot be read: {type(error).__name__}") from None
    if not states or any(h.dtype.kind != "f" or h.ndim < 2 or not h.size for h in states):
        raise ValueError(f"{PROBE} has no states h_0 … h_L as numbers by sample")
    return states


def attach(results: SuiteResults) -> SuiteResults:
    """Return the results with the value of every measurement that is `across: "ceiling"`."""
    ceilings: dict[tuple[str, int], RunRecord] = {}
    for record in results.records:
        if is_ceiling(record) and record.status == "done":
            ceilings.setdefault(_place(results, record), record)
    records = tuple(_with_distance(results, record, ceilings) for record in results.records)
    return replace(results, records=records)


def _place(results: SuiteResults, record: RunRecord) -> tuple[str, int]:
    return recipe_under(record, results.settings), record.cell.seed


def _with_distance(
    results: SuiteResults, record: RunRecord, ceilings: Mapping[tuple[str, int], RunRecord]
) -> RunRecord:
    item = record.measurements.get(NAME)
    known = item is not None and item.value is not None and record.original
    if item is None or item.across != "ceiling" or known:  # a compact run has no states
        return record
    ceiling = ceilings.get(_place(results, record))
    try:
        if record.status != "done":
            raise ValueError(f"the run is {record.status}")
        if ceiling is None:
            raise ValueError("no finished run of bp with this recipe and seed")
        if record.original:
            raise ValueError("a compact run has no states")
        if ceiling.original:
            remedy = "`bench run --no-reference` trains it"
            raise ValueError(f"the run of bp is compact and has no states; {remedy}")
        layers, samples = distances(results.run_folder(record), results.run_folder(ceiling))
        measured = filled(item, layers, samples, ceiling.identity)
    except ValueError as reason:
        measured = item.model_copy(update={"not_diagnostic": str(reason)})
    return record.model_copy(update={"measurements": {**record.measurements, NAME: measured}})


def filled(item: Measurement, layers: Sequence[float], samples: int, ceiling: str) -> Measurement:
    """Return the stored measurement with d_L as its value and all layers as details."""
    details = {**item.details, "layers": list(layers), "samples": samples, "ceiling": ceiling}
    return item.model_copy(update={"value": layers[-1], "details": details})
