"""Whether stored runs can be what they say: sums, schema, identity, and figures that belong together.

Every check says what is wrong in words; a run without a fault gets a *checked* mark (`bench_core.results.marks`). What this finds is
damage, mistakes and careless edits. It cannot find a forger, who can recompute every checksum: `bench replicate` is for that.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench_core.execution.fingerprint import cell_identity
from bench_core.results import store
from bench_core.results.hashing import canonical
from bench_core.results.record import Measurement, RunRecord, environment_key
from bench_core.results.scan import Stored, run_folders
from bench_core.sharing.agreement import differing

COSINES = ("alignment", "batch_stability")  # their values are cosines
ROUNDING = 1e-6


def faults(run: Stored) -> list[str]:
    """What is wrong with one run, on its own."""
    try:
        record = store.read(run.folder, sums=True)
    except store.Unreadable as reason:
        return [str(reason)]
    found = [*_identity(run.folder, record), *_figures(record)]
    return found + _curve(run.folder, record) if record.status == "done" else found


def _identity(folder: Path, record: RunRecord) -> Iterator[str]:
    raw = json.loads((folder / store.RUN).read_text(encoding="utf-8"))
    code = {
        name: entry.get("digest", "")
        for name, entry in record.code.items()
        if isinstance(entry, dict)
    }
    made_of = (raw["cell"], code, record.data_checksum, record.algorithm)
    if cell_identity(*made_of) != record.identity:
        yield "its identity is not that of its cell, code and data"


def _figures(record: RunRecord) -> Iterator[str]:
    planned = record.cell.last_epoch
    if record.status == "done":
        if record.accuracy is None:
            yield "done, but without an accuracy"
        if record.stopped_by is None and planned and record.epochs != planned:
            yield f"done after {record.epochs} epochs, but its recipe has {planned}"
        missing = {
            "epochs.jsonl",
            "checkpoint.safetensors",
            "probe.safetensors",
        } - record.files.keys()
        if missing:
            yield f"done, but without {', '.join(sorted(missing))}"
    elif record.reason is None:
        yield f"{record.status}, but without a reason"
    if planned and record.epochs > planned:
        yield f"{record.epochs} epochs, more than its recipe's {planned}"
    for when, measured in (("initial", record.initial), ("measurements", record.measurements)):
        for name, item in measured.items():
            value = item.value
            if name in COSINES and value is not None and abs(value) > 1 + ROUNDING:
                yield f"{when}.{name}: {value:g} is no cosine"
            if item.unit == "x" and value is not None and value < 0:
                yield f"{when}.{name}: {value:g} is no ratio of norms"


def _curve(folder: Path, record: RunRecord) -> list[str]:
    """epochs.jsonl against run.json."""
    try:
        lines = (folder / "epochs.jsonl").read_text(encoding="utf-8").splitlines()
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        epochs = [row["epoch"] for row in rows]
        last = rows[-1]
        found = []
        if epochs != list(range(record.epochs + 1)):
            found.append(f"epochs.jsonl has not the epochs 0 … {record.epochs}, each once")
        for name in ("accuracy", "train_loss"):
            if repr(last[name]) != repr(getattr(record, name)):
                found.append(
                    f"{name} is {getattr(record, name)} in run.json and {last[name]} at the end of epochs.jsonl"
                )
        for name, item in record.measurements.items():
            told = last["measurements"].get(name)
            if told is not None and repr(Measurement.model_validate(told).value) != repr(
                item.value
            ):
                found.append(
                    f"{name} is {item.value} in run.json and {told['value']} at the end of epochs.jsonl"
                )
        trained = sum(row["seconds"] for row in rows)
        if trained > record.seconds + 0.01 * len(rows) + 0.01:
            found.append(f"{trained:.1f} s of training in a run of {record.seconds:.1f} s")
        return found
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        return [f"epochs.jsonl cannot be read: {type(error).__name__}"]


def between(runs: Sequence[Stored]) -> Iterator[str]:
    """What is wrong among runs: one data set with two checksums, one identity with two sets of numbers in one environment."""
    sums: dict[str, dict[str, Path]] = defaultdict(dict)
    seen: dict[tuple[str, str], Stored] = {}
    for run in runs:
        record = run.record
        dataset = f"{record.cell.dataset.short} {canonical(record.cell.dataset.params)}"
        if record.data_checksum:
            sums[dataset].setdefault(record.data_checksum, run.folder)
        key = (record.identity, environment_key(record))
        other = seen.setdefault(key, run)
        if record.cell.training.get("deterministic", True) and (
            told := differing(record, other.record)
        ):
            yield f"{run.folder} and {other.folder}: one identity, one environment, other numbers: {'; '.join(told)}"
    for dataset, found in sums.items():
        if len(found) > 1:
            where = ", ".join(
                f"{checksum[:12]} ({folder.name[:12]})"
                for checksum, folder in sorted(found.items())
            )
            yield f"{dataset}: runs read {len(found)} different data: {where}"


def unreadable(roots: Sequence[Path]) -> Iterator[Path]:
    """Run folders under the given ones that cannot be read."""
    for root in roots:
        for folder in sorted(run_folders(root)):
            try:
                store.read(folder, sums=True)
            except store.Unreadable:
                yield folder


def set_aside(folder: Path) -> Path | None:
    """Quarantine a folder that cannot be read; None where somebody is at work on it, where it can be read
    by now, or where a newer bench wrote it."""
    descriptor = store.lock(folder)
    if descriptor is None:
        return None
    try:
        store.read(folder, sums=True)
    except store.Newer:
        return None
    except store.Unreadable as reason:
        return store.quarantine(folder, str(reason))
    finally:
        store.unlock(folder, descriptor)
    return None
