"""Measure diagnostics on the checkpoints of finished runs, each run in a child process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_core.errors import UsageError
from bench_core.processes import child
from bench_core.results.record import Measurement, RunRecord
from bench_core.results.scan import Stored

WORKER = "bench_core.execution.remeasure_worker"
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
    diagnostics: Sequence[Mapping[str, Any]],
    data_dir: Path | None,
    device: str | None,
    workers: int,
) -> Iterator[Outcome]:
    """Measure diagnostics on the checkpoints of runs, several runs at once, and keep the measurements.

    diagnostics  `{"name": full name, "params": …}` of each
    device       None: the device that the run was trained on
    """

    def audit(run: Stored) -> Outcome:
        if "checkpoint.safetensors" not in run.record.files:
            problem = f"it is {run.record.status} and left no checkpoint"
            return Outcome(run.folder, run.record, problem=problem)
        job = {"folder": str(run.folder.absolute()), "diagnostics": list(diagnostics), "device": device,
               "data_dir": str(data_dir) if data_dir else None}  # fmt: skip
        try:
            (answer,) = child.answers(WORKER, job, TIMEOUT)
        except child.ChildError as error:
            return Outcome(run.folder, run.record, problem=f"the measurement {error}")
        except UsageError as error:
            return Outcome(run.folder, run.record, problem=str(error))
        measurements = {name: Measurement.model_validate(value) for name, value in answer.items()}
        return Outcome(run.folder, run.record, measurements)

    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(audit, runs)


def choose(
    runs: Sequence[Stored], keep: Callable[[RunRecord], bool] = lambda record: True
) -> list[Stored]:
    """Return the runs that `keep` accepts, in a stable order."""
    return sorted((run for run in runs if keep(run.record)), key=lambda run: str(run.folder))
