"""Run one cell on another machine, for `remote.drive`.

`run_job` takes the lock of the run folder and supervises a worker, as the local executor does. The
worker first compares its code and data with the cell's identity. Where the machine does not see the
results folder, it works in a folder of its own, and the answer has the run as bytes.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_core.errors import StoreError
from bench_core.execution.executors import supervise
from bench_core.execution.planning.job import Job
from bench_core.results import locks
from bench_core.results.status import FINAL

POLL = 0.2
PREEMPTION = 120.0  # seconds in which a job ends whose worker got a SIGTERM that was the job's


class Posted(Job):
    """A job with what the other machine must know of this one."""

    token: str  # name of a file beside the runs
    stamp: list[int] | None  # of the run that the plan found (`store.stamp`)
    path: list[str]  # where Python imports from


def run_job(text: str) -> str:
    """Run one cell on this machine and return JSON text for `settle`.

    {"is": "end"}                        a run was made; with "files" if the results are elsewhere,
                                         its record if it was "cut short", and the
                                         reasons why it began "anew"
    {"is": "reused"}                     another runner made the run meanwhile
    {"is": "busy"}                       another runner is at work on it
    {"is": "unwritable", "reason": …}    the results folder cannot be written
    """
    job: Posted = json.loads(text)
    # last, because this machine may keep its own packages elsewhere
    sys.path += [entry for entry in job["path"] if entry not in sys.path and Path(entry).exists()]
    final = Path(job["final"])
    if (final.parent / job["token"]).exists():
        return json.dumps(_run_at({**job, "cwd": _existing(job["cwd"], final.parent)}, final))
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        own = Path(home) / final.parent.name / final.name
        own.parent.mkdir()
        cwd = _existing(job["cwd"], own.parent)
        answer = _run_at({**job, "final": str(own), "stamp": None, "cwd": cwd}, own)
        if answer["is"] == "end":
            contents = {path.name: base64.b64encode(path.read_bytes()) for path in own.iterdir()}
            answer["files"] = {name: content.decode() for name, content in contents.items()}
        return json.dumps(answer)


def _existing(folder: str | None, other: Path) -> str:
    """Return the runner's working folder, or another one where this machine lacks it."""
    return folder if folder and os.path.isdir(folder) else str(other)


def _run_at(job: Posted, final: Path) -> dict[str, Any]:
    """Run a cell into a folder; any exception, a signal's SystemExit too, ends its worker."""
    stamp = (job["stamp"][0], job["stamp"][1]) if job["stamp"] else None
    try:
        with locks.locked(final) as lock:
            if lock is None:
                return {"is": "busy"}
            if supervise.finished_elsewhere(final, stamp, job) is not None:
                return {"is": "reused"}
            worker = supervise.start(job, lock)
            anew: list[str] = []
            try:
                while worker.process.poll() is None:
                    time.sleep(POLL)
                    anew += _anew(worker)
                    supervise.watch(worker)
                anew += _anew(worker)
                _await_preemption(worker)
                record = supervise.finish(worker)
            finally:
                supervise.end([worker])
            content = record.model_dump(mode="json", by_alias=True)
            cut = {} if record.status in FINAL else {"cut short": content}
            return {"is": "end", "anew": anew, **cut}
    except StoreError as error:
        return {"is": "unwritable", "reason": str(error)}


def _await_preemption(worker: supervise.Worker) -> None:
    """Wait for the end of this job if its worker ended by a SIGTERM that is not the supervisor's.

    A scheduler that preempts a job may signal each of its processes. The job then ends without an
    answer, and the next attempt continues from the saved state.
    """
    if worker.process.poll() != -signal.SIGTERM or worker.ending is not None:
        return
    deadline = time.monotonic() + PREEMPTION
    while time.monotonic() < deadline:
        time.sleep(POLL)


def _anew(worker: supervise.Worker) -> list[str]:
    """Read what a worker reported, and return why it did not use its saved state."""
    events = list(supervise.new_events(worker))
    return [event["reason"] for event in events if event["event"] == "anew"]
