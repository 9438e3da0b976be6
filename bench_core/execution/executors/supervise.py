"""One worker process under watch, on whatever machine: started with the lock of its run folder, listened to, held to its budget,
ended as a group, and its cell made a row however it ended.

Every worker is a fresh interpreter in a session of its own, so that it and what it starts can be ended together; what left the
group is known by a mark in its environment. log.txt is its standard error, a pipe takes its events. A worker over its budget is
asked to end (SIGTERM) and killed `processes.GRACE` seconds later.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench_core.errors import BenchError, StoreError
from bench_core.execution.executors import Job
from bench_core.processes import groups
from bench_core.results import logs, store
from bench_core.results.files import writing
from bench_core.results.record import Cell, RunRecord
from bench_core.results.status import Status
from bench_core.suite.budget import MIB
from bench_core.training import checkpoint

EX_IOERR = 74  # a worker's exit code when the results folder cannot be written


@dataclass
class Worker:
    """A worker process, and what it said so far."""

    job: Job
    process: subprocess.Popen[bytes]
    mark: str
    before: tuple[int, int] | None  # the stamp of its run folder before
    spent: float  # seconds of earlier attempts that it goes on from
    kernel_kills: int
    started: float = field(default_factory=time.monotonic)
    buffer: bytes = b""
    deaf: bool = False  # its pipe is closed: nothing more will be heard
    unwritable: str | None = None
    epochs: int = 0
    ending: tuple[Status, str] | None = None  # why we end it
    kill_at: float = math.inf

    @property
    def final(self) -> Path:
        return Path(self.job["final"])

    @property
    def pipe(self) -> Any:
        return self.process.stdout

    @property
    def seconds(self) -> float:
        return self.spent + time.monotonic() - self.started


def finished_elsewhere(final: Path, seen: tuple[int, int] | None) -> RunRecord | None:
    """The run that another runner made since the plan saw `seen`, if there is one; an unreadable folder is set aside. The lock
    is held. Raises StoreError where a newer bench made it."""
    if not os.path.lexists(final):
        return None
    try:
        record = store.read(final, sums=True)
    except store.Newer as reason:
        raise StoreError(f"{final}: written by a newer bench: {reason}") from None
    except store.Unreadable as reason:
        store.quarantine(final, str(reason))
        return None
    return record if store.stamp(final) != seen else None


def start(job: Job, lock: int, environ: Mapping[str, str] | None = None) -> Worker:
    """Start the worker of a job and hand it the lock. Raises StoreError, BenchError; then nothing is left."""
    final, mark = Path(job["final"]), secrets.token_hex(8)
    threads = str(job["cell"]["training"]["threads"])
    known = {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "PYTHONUNBUFFERED": "1",
        groups.MARK: mark,
    }
    variables = {**os.environ, **known, **(environ or {})}
    if job["device"].startswith("cuda"):
        variables.setdefault(
            "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
        )  # asked for by torch's deterministic algorithms
    folder = store.clear_temporary(final)
    process = None
    try:
        with writing(final):
            log = (folder / logs.LOG).open("ab")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "bench_core.execution.worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                start_new_session=True, pass_fds=[lock], env=variables, cwd=job.get("cwd"),
            )  # fmt: skip
        saved = checkpoint.header(store.resume_file(final)) or {}
        worker = Worker(
            job, process, mark, store.stamp(final), float(saved.get("seconds", 0.0)), groups.killed_by_kernel(),
            epochs=int(saved.get("epoch", 0)),
        )  # fmt: skip
        os.set_blocking(worker.pipe.fileno(), False)
        assert process.stdin is not None
        with (
            contextlib.suppress(BrokenPipeError),
            process.stdin as stdin,
        ):  # it died already: `finish` says how
            stdin.write(json.dumps({**job, "runner": os.getpid(), "lock": lock}).encode())
        return worker
    except BaseException as error:  # an interrupt may come at any moment
        groups.end_groups([process] if process is not None else [])
        store.remove_temporary(final)
        if isinstance(error, OSError):
            raise BenchError(f"a worker cannot be started: {error.strerror}") from error
        raise


def heard(worker: Worker) -> Iterator[dict[str, Any]]:
    """The events that the worker told since the last time; only whole lines."""
    while chunk := worker.pipe.read(65536):
        worker.buffer += chunk
    worker.deaf = chunk == b""
    *lines, worker.buffer = worker.buffer.split(b"\n")
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # not ours: the pipe is private, but a plugin can write to any descriptor
        if not isinstance(event, dict):
            continue
        if event.get("event") == "epoch":
            worker.epochs = event["row"]["epoch"]
            yield event
        elif event.get("event") == "unwritable":
            worker.unwritable = str(event.get("reason"))


def watch(worker: Worker) -> None:
    """Look at a running worker: cut its log back, ask it to end when it is over its budget, kill it when it does not."""
    logs.trim(store.temporary(worker.final) / logs.LOG)
    now = time.monotonic()
    if worker.process.poll() is not None:
        return  # it has ended by itself: whatever came over its budget since was not what ended it
    if worker.ending is None:
        worker.ending = _over_budget(worker)
        if worker.ending is not None:
            worker.kill_at = now + groups.GRACE
            groups.signal_group(worker.process, signal.SIGTERM)
    elif now >= worker.kill_at:
        groups.signal_group(worker.process, signal.SIGKILL)


def _over_budget(worker: Worker) -> tuple[Status, str] | None:
    budget, pid = worker.job["budget"], worker.process.pid
    if worker.seconds > budget.get("seconds", math.inf):
        return "timeout", f"over its budget of {budget['seconds']:g} s after epoch {worker.epochs}"
    limit = budget.get("memory_mb", math.inf) * MIB
    if (
        limit < math.inf
        and groups.resident(pid) > limit
        and (used := groups.proportional(pid)) > limit
    ):
        text = f"{used / MIB:.0f} MiB resident, over its budget of {budget['memory_mb']} MiB, after epoch {worker.epochs}"
        return "oom", text
    return None


def finish(worker: Worker) -> RunRecord:
    """The worker is gone: make sure that all that it started is too and that its cell has a run folder; the lock is held."""
    final, code = worker.final, worker.process.returncode
    try:
        groups.signal_group(worker.process, signal.SIGKILL)
        groups.kill_marked(worker.mark)
        worker.pipe.close()
        if code == EX_IOERR and worker.unwritable is not None:
            raise StoreError(worker.unwritable)
        if store.stamp(final) in (None, worker.before):
            status, reason = worker.ending or _how_it_died(worker, code)
            leave_row(worker.job, status, reason, worker.epochs, worker.seconds)
        return store.read(final)
    except store.Unreadable as reason:
        raise StoreError(f"{final}: {reason} right after it was written") from None
    finally:
        store.remove_temporary(final)


def _how_it_died(worker: Worker, code: int) -> tuple[Status, str]:
    if code == -signal.SIGKILL and groups.killed_by_kernel() > worker.kernel_kills:
        return "oom", f"killed by the system for want of memory after epoch {worker.epochs}"
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    last = logs.last_words(store.temporary(worker.final) / logs.LOG)
    return "crashed", f"the worker ended with {name} after epoch {worker.epochs}" + (
        f": {last}" if last else ""
    )


def leave_row(
    job: Job, status: Status, reason: str, epochs: int = 0, seconds: float = 0.0
) -> RunRecord:
    """A run folder for a cell whose worker left none; the lock is held. Its log has at least the reason."""
    final = Path(job["final"])
    folder = store.temporary(final)
    with writing(final):
        folder.mkdir(exist_ok=True)
        with (folder / logs.LOG).open("a", encoding="utf-8") as log:
            log.write(f"{status}: {reason}\n")
    record = RunRecord(
        identity=job["identity"],
        algorithm=job["algorithm"],
        numerics=job["numerics"],
        suite=job["suite"],
        cell=Cell.model_validate(job["cell"]),
        status=status,
        reason=reason,
        why=job["why"],
        budget=job["budget"],
        epochs=epochs,
        seconds=round(seconds, 3),
        passport=job["passport"],
        code=job["code"],
        data_checksum=job["data_checksum"],
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return store.commit(record, final)


def interrupt(workers: list[Worker]) -> None:
    """End workers because the user said so: asked first, a row each where there is none yet, and nothing half-written. A second
    interrupt kills them at once and leaves no rows. The locks are held."""
    if not groups.end_groups([worker.process for worker in workers]):
        return
    for worker in workers:
        if not os.path.lexists(worker.final):
            going_on = checkpoint.header(store.resume_file(worker.final))
            then = f"goes on after epoch {going_on['epoch']}" if going_on else "begins it anew"
            reason = f"interrupted after epoch {worker.epochs}; the next run {then}"
            leave_row(worker.job, "interrupted", reason, worker.epochs, worker.seconds)


def end(workers: list[Worker]) -> None:
    """Make sure that no worker is left, nor anything that one started, nor a temporary folder."""
    groups.end_groups([worker.process for worker in workers])
    for worker in workers:
        groups.kill_marked(worker.mark)
        worker.pipe.close()
        store.remove_temporary(worker.final)
