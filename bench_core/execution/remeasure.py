"""Measure diagnostics on the checkpoints of finished runs, each run in a child process.

The child rebuilds network and rule from the cell and loads the checkpoint. States on the probe, and
credits if the environment is the same, must equal the stored ones. Otherwise code, data or versions
have changed since, and the audit is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_core.errors import BenchError, UsageError
from bench_core.execution.allowance import allowance
from bench_core.execution.cell import attempt, build_cell, diagnostics, environment
from bench_core.execution.tensors import probe
from bench_core.processes import child
from bench_core.registry import plugins
from bench_core.results import epochs, files, remeasured, store
from bench_core.results.hashing import jsonable
from bench_core.results.record import Measurement, RunRecord, environment_key
from bench_core.results.scan import Stored
from bench_core.suite.recipe import TrainingOptions
from bench_core.training.checkpoint import part

if TYPE_CHECKING:
    from bench_core.training.audit import Audit

TIMEOUT = 3600.0  # seconds for one run


@dataclass(frozen=True)
class Outcome:
    """The late audit of one run: measurements by short name, or the problem that prevented them."""

    folder: Path
    record: RunRecord
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    problem: str | None = None


def audit_runs(
    runs: Sequence[Stored],
    wanted: Sequence[Mapping[str, Any]],
    data_dir: Path | None,
    device: str | None,
    workers: int,
) -> Iterator[Outcome]:
    """Measure diagnostics on the checkpoints of several runs at once, and keep the measurements.

    wanted  `{"name": full name, "params": …}` of each
    device  None: the device that the run was trained on
    """

    job = {
        "diagnostics": list(wanted),
        "device": device,
        "data_dir": str(data_dir) if data_dir else None,
    }

    def audit(run: Stored) -> Outcome:
        try:
            if store.CHECKPOINT not in run.record.files:
                raise UsageError(f"it is {run.record.status} and left no checkpoint")
            own = {**job, "folder": str(run.folder.absolute())}
            memory = allowance(run.record)["memory_mb"]
            (answer,) = child.answers(__name__, own, TIMEOUT, memory_mb=memory)
        except child.ChildError as error:
            return Outcome(run.folder, run.record, problem=f"the measurement {error}")
        except UsageError as error:
            return Outcome(run.folder, run.record, problem=str(error))
        measurements = {name: Measurement.model_validate(value) for name, value in answer.items()}
        return Outcome(run.folder, run.record, measurements)

    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(audit, runs)


# ------------------------------------------------------------------------------ the child's side


def serve(job: dict[str, Any], say: Callable[[Any], None]) -> None:
    """Measure and keep the job's diagnostics, and send the measurements by short name.

    Raises BenchError if the run cannot be rebuilt.
    """
    from bench_core.training.audit import Audit

    folder = Path(job["folder"])
    try:
        record = store.read(folder, sums=True)
    except store.Unreadable as reason:
        raise BenchError(str(reason)) from None
    cell = record.cell
    device = job["device"] or record.environment.get("device", "cpu")
    training = {**TrainingOptions().model_dump(), **cell.training, "device": device}
    parts = [ref.name for ref in (cell.method, cell.arch, cell.dataset)]
    registry = plugins.load_for([*parts, *(entry["name"] for entry in job["diagnostics"])])
    listed = diagnostics(registry, job["diagnostics"])
    built = build_cell(registry, cell, training, job["data_dir"])
    load_checkpoint(folder, built, device)
    epoch = max(record.epochs - 1, 0)
    data = built.data.opened()
    audit = Audit(built.net, built.method, data, cell.seed, epoch, initial=built.initial)
    try:
        audit.history = list(epochs.lines(folder, epochs.MOST))
    except (OSError, ValueError) as error:
        raise BenchError(f"its {store.EPOCHS} {files.reason(error)}") from None
    audit.due = [diagnostic for _, diagnostic in listed]
    check_states(folder, audit)
    versions = environment(device, training)
    here = record.model_copy(update={"environment": record.environment | versions})
    if environment_key(here) == environment_key(record):  # other environments round differently
        check_credits(folder, audit)

    measurements = {}
    for entry, (name, diagnostic) in zip(job["diagnostics"], listed, strict=True):
        measurement = attempt(name, diagnostic, audit)
        measurements[name] = measurement.model_dump(mode="json")
        if "error" not in measurement.details:
            late = remeasured.Late(
                late_schema=remeasured.SCHEMA,
                checkpoint=remeasured.checkpoint_sum(record),
                diagnostic=entry["name"],
                params=diagnostic.params.model_dump(mode="json"),
                measurement=measurement,
                versions=versions,
                measured=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            remeasured.write(folder, late)
    say(jsonable(measurements))


def load_checkpoint(folder: Path, built: Any, device: str) -> None:
    """Load the network's and the method's tensors from the end of the training."""
    from safetensors.torch import load_file

    with files.tensors(folder / store.CHECKPOINT) as path:
        tensors = load_file(path, device=device)
    try:
        built.net.load_state_dict(part(tensors, "net."))
        built.method.load_state_dict(part(tensors, "method."))
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BenchError(
            f"its checkpoint does not fit the installed code, which has changed since: {reason}"
        ) from None


def check_states(folder: Path, audit: Audit) -> None:
    """Raise BenchError if the rebuilt network gives other states than the run stored."""
    if name := first_difference(folder, audit, "h_", rtol=1e-3, atol=1e-5):
        raise BenchError(
            f"the network rebuilt from its checkpoint gives other states {name} on the "
            "probe than the run stored: code, data or versions have changed; see `bench why`"
        )


def check_credits(folder: Path, audit: Audit) -> None:
    """Raise BenchError if the rebuilt rule gives other credits than the run stored.

    A credit that depends on random draws is not compared.
    """
    name = first_difference(folder, audit, "a_", rtol=1e-2, atol=1e-3)
    if name and not drawn(audit):
        raise BenchError(
            f"the rule rebuilt from its checkpoint gives another credit {name} on the probe "
            "than the run stored: its state_dict lacks a tensor that its credit needs "
            "(`bench check` tests this), or its code has changed since"
        )


def first_difference(
    folder: Path, audit: Audit, prefix: str, rtol: float, atol: float
) -> str | None:
    """Return the first tensor of the probe whose values differ from the stored ones.

    prefix  of the names of the compared tensors, which may be stored without the last samples
    atol    relative to the largest stored value
    """
    import torch
    from safetensors.torch import load_file

    with files.tensors(folder / store.PROBE) as path:
        stored = load_file(path)
    rebuilt = probe(audit, max(map(len, stored.values()), default=1))
    for name, rows in rebuilt.items():
        if name.startswith(prefix) and (then := stored.get(name)) is not None:
            now, limit = rows.cpu()[: len(then)], atol * float(then.abs().max())
            if now.shape != then.shape or not torch.allclose(now, then, rtol, limit, True):
                return name
    return None


def drawn(audit: Audit) -> bool:
    """Tell whether the credit depends on the random streams, whose state no checkpoint holds."""
    import torch

    from bench_core.training.rng import set_to

    first, own = audit.batches[0], audit.generators
    with set_to(own, [torch.Generator().manual_seed(1).get_state() for _ in own]):
        again = audit.batch(next(audit.data.test_batches(len(first.y)))[0], first.y)
    return not all(torch.equal(a, b) for a, b in zip(again.audited, first.audited, strict=True))


def main() -> None:
    child.serve(serve)


if __name__ == "__main__":
    main()
