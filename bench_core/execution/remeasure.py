"""Measure diagnostics on the checkpoints of finished runs, each in a child process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_core.printable import last_line
from bench_core.processes.groups import end_groups
from bench_core.results import store
from bench_core.results.record import Measurement, RunRecord

TIMEOUT = 3600.0  # seconds for one run; a hang is ended, a measurement is not


@dataclass(frozen=True)
class Outcome:
    """What a late audit of one run came to: measurements by short name, or the reason why there are none."""

    folder: Path
    record: RunRecord
    measurements: Mapping[str, Measurement]
    problem: str | None = None


def audit_runs(
    runs: Sequence[store.Stored],
    diagnostics: Sequence[Mapping[str, Any]],
    data_dir: Path | None,
    device: str | None,
    workers: int,
) -> Iterator[Outcome]:
    """Measure diagnostics on the checkpoints of runs, several at once, and keep what was measured.

    diagnostics  `{"name": full name, "params": …}` of each
    device       None: the one that the run was trained on
    """

    def one(run: store.Stored) -> Outcome:
        if "checkpoint.safetensors" not in run.record.files:
            return Outcome(
                run.folder, run.record, {}, f"it is {run.record.status} and left no checkpoint"
            )
        job = {"folder": str(run.folder.absolute()), "diagnostics": list(diagnostics), "device": device,
               "data_dir": str(data_dir) if data_dir else None}  # fmt: skip
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "bench_core.execution.remeasure_worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            out, err = child.communicate(json.dumps(job).encode(), TIMEOUT)
        except subprocess.TimeoutExpired:
            return Outcome(
                run.folder, run.record, {}, f"it took over {TIMEOUT:.0f} s and was ended"
            )
        finally:
            end_groups([child])
        try:
            answer = json.loads(out.decode("utf-8", "replace").splitlines()[-1])
            if "problem" in answer:
                return Outcome(run.folder, run.record, {}, answer["problem"])
            found = {
                name: Measurement.model_validate(value)
                for name, value in answer["measurements"].items()
            }
        except (IndexError, ValueError, KeyError, TypeError):
            return Outcome(
                run.folder,
                run.record,
                {},
                f"its process ended with {child.returncode}: {last_line(err)}",
            )
        return Outcome(run.folder, run.record, found)

    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(one, runs)


def choose(
    runs: Sequence[store.Stored], keep: Callable[[RunRecord], bool] = lambda record: True
) -> list[store.Stored]:
    """The runs that a late audit is asked for, in a stable order."""
    return sorted((run for run in runs if keep(run.record)), key=lambda run: str(run.folder))
