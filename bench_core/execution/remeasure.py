"""Measure diagnostics on the checkpoints of finished runs, in child processes.

The child rebuilds network and rule from the cell and loads the checkpoint. States on the probe, and
credits if the environment is the same, must equal the stored ones. Otherwise code, data or versions
have changed since, and the audit is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from bench_core.errors import BenchError, UsageError
from bench_core.execution.limits import allowance
from bench_core.execution.planning.job import measured_by
from bench_core.execution.worker.cell import attempt, build_cell, diagnostics, environment
from bench_core.execution.worker.tensors import probe
from bench_core.processes import child
from bench_core.registry import plugins
from bench_core.results import epochs, files, remeasured, store
from bench_core.results.hashing import jsonable
from bench_core.results.record import Measurement, RunRecord, now, same_environment
from bench_core.results.scan import Stored
from bench_core.suite.recipe import TrainingOptions
from bench_core.training.saved_state import TrainingState, part

if TYPE_CHECKING:
    from bench_core.execution.planning.job import Listed
    from bench_core.training.audit import Audit

TIMEOUT = 3600.0  # seconds for one run


@dataclass(frozen=True)
class Remeasured:
    """The late audit of one run: measurements by short name, or the problem that prevented them."""

    folder: Path
    record: RunRecord
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    problem: str | None = None


def audit_runs(
    runs: Sequence[Stored],
    wanted: Sequence[Listed],
    data_dir: Path | None,
    device: str | None,
    workers: int,
) -> Iterator[Remeasured]:
    """Measure diagnostics on the checkpoints of several runs at once, and keep the measurements.

    device  None: the device that the run was trained on
    """
    job = {
        "diagnostics": list(wanted),
        "device": device,
        "data_dir": str(data_dir) if data_dir else None,
    }
    outcomes: list[Future[Remeasured]] = [Future() for _ in runs]

    def carry_out(own: slice) -> None:
        waiting = iter(outcomes[own])
        try:
            for outcome in _one_after_the_other(runs[own], job):
                next(waiting).set_result(outcome)
        except BaseException as error:
            for future in waiting:
                future.set_exception(error)

    for first in range(min(workers, len(runs))):  # an interrupted command waits for none of them
        Thread(target=carry_out, args=[slice(first, None, workers)], daemon=True).start()
    yield from (future.result() for future in outcomes)


def _one_after_the_other(runs: Sequence[Stored], job: Mapping[str, Any]) -> Iterator[Remeasured]:
    """Measure runs in one child process, and after a child that ends early in another one.

    Importing torch's parts and the data takes longer than measuring a small run.
    """
    limits: dict[Path, float] = {}
    problems: dict[Path, str] = {}
    for run in runs:
        try:
            if store.CHECKPOINT not in run.record.files:
                raise UsageError(f"its status is {run.record.status}, and it left no checkpoint")
            limits[run.folder] = allowance(run.record)["memory_mb"]
        except UsageError as error:
            problems[run.folder] = str(error)
    answers: Iterator[dict[str, Any]] | None = None
    for number, run in enumerate(runs):
        if run.folder in problems:
            yield Remeasured(run.folder, run.record, problem=problems[run.folder])
            continue
        if answers is None:
            left = [each.folder for each in runs[number:] if each.folder in limits]
            own = {**job, "folders": [str(folder.absolute()) for folder in left]}
            memory = max(limits[folder] for folder in left)
            answers = child.ask(__name__, own, TIMEOUT, each=True, memory_mb=memory)
        try:
            answer = next(answers)
        except (child.ChildError, UsageError) as error:
            answers = None
            words = "the measurement " if isinstance(error, child.ChildError) else ""
            answer = {"problem": f"{words}{error}"}
        values = answer.get("measurements", {})
        measured = {name: Measurement.model_validate(value) for name, value in values.items()}
        yield Remeasured(run.folder, run.record, measured, answer.get("problem"))


# ------------------------------------------------------------------------------ the child's side


def serve(job: dict[str, Any], say: Callable[[Any], None]) -> None:
    """Measure the job's runs one after the other; send the measurements or the problem of each."""
    for folder in job["folders"]:
        try:
            say({"measurements": jsonable(measured(job, Path(folder)))})
        except BenchError as error:
            say({"problem": str(error)})


def measured(job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Measure and keep the job's diagnostics of a run; return the measurements by short name.

    Raises BenchError if the run cannot be rebuilt, and if a diagnostic changes what the next one
    would measure.
    """
    from bench_core.execution.worker.untouched import Untouched
    from bench_core.training.audit import Audit

    try:
        record = store.read(folder, sums=True)
    except store.Unreadable as reason:
        raise BenchError(str(reason)) from None
    cell = record.cell
    device = job["device"] or record.device
    training = {**TrainingOptions().model_dump(), **cell.training, "device": device}
    parts = [ref.name for ref in cell.refs.values()]
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
    if same_environment(here, record):  # other environments round differently
        check_credits(folder, audit)

    measurements = {}
    untouched = Untouched(TrainingState(built.net, built.method, {}))
    for entry, (name, diagnostic) in zip(job["diagnostics"], listed, strict=True):
        measurement = attempt(name, diagnostic, audit)
        untouched.check(name, audit)
        measurements[name] = measurement.model_dump(mode="json")
        if measurement.raised is None:
            code = measured_by([entry]).get(entry["name"])
            late = remeasured.Late(
                late_schema=remeasured.SCHEMA,
                checkpoint=remeasured.checkpoint_sum(record),
                diagnostic=entry["name"],
                params=diagnostic.params.model_dump(mode="json"),
                measurement=measurement,
                versions={**versions, "numerics": diagnostic.numerics, "code": code},
                measured=now(),
            )
            remeasured.write(folder, late)
    return measurements


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
