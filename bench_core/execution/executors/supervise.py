"""Start one worker process, listen to it, hold it to its budget, end it, keep a run of its cell.

A worker is a fresh interpreter, or a fork of one, in a session of its own, so that it can be ended
together with the processes that it started; one that left the group is found by a mark in its
environment. The worker prints to the file that becomes log.txt; its events come through a pipe. A
worker over its budget gets SIGTERM, and SIGKILL `groups.GRACE` seconds later. The caller holds the
lock of the run folder.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_core.errors import BenchError, StoreError
from bench_core.execution.executors import Job
from bench_core.execution.job import make_record
from bench_core.execution.resumption import saved_state
from bench_core.processes import child, groups
from bench_core.processes.forking import MARK, Forked
from bench_core.results import files, logs, store
from bench_core.results.files import writing
from bench_core.results.record import RunRecord
from bench_core.results.status import Status
from bench_core.suite.budget import MIB

WORKER = "bench_core.execution.worker"
EX_IOERR = 74  # a worker's exit code if the results folder cannot be written


@dataclass
class Worker:
    """A worker process and what it reported so far.

    mark          in the environment of the process and of the processes that it starts
    before        the stamp of the run in its folder when it started
    spent         seconds of the earlier attempts that it continues
    kernel_kills  processes that the kernel had killed for want of memory when it started
    closed        whether its pipe is closed, so that no event will come
    ending        status and reason if the supervisor ends it
    """

    job: Job
    process: groups.Process
    mark: str
    before: tuple[int, int] | None
    spent: float
    kernel_kills: int
    epochs: int
    started: float = field(default_factory=time.monotonic)
    buffer: bytes = b""
    closed: bool = False
    unwritable: str | None = None
    ending: tuple[Status, str] | None = None
    kill_at: float = math.inf

    @property
    def final(self) -> Path:
        return Path(self.job["final"])

    @property
    def log(self) -> Path:
        return store.output_file(self.final)

    @property
    def pipe(self) -> Any:
        return self.process.stdout

    @property
    def seconds(self) -> float:
        return self.spent + time.monotonic() - self.started


def finished_elsewhere(final: Path, stamp: tuple[int, int] | None) -> RunRecord | None:
    """Return the run that another runner made since the plan found one with this stamp, if any.

    An unreadable folder is set aside. Raises StoreError if a newer bench made the run.
    """
    if not os.path.lexists(final):
        return None
    try:
        record = store.read(final, sums=True)
    except store.Newer as reason:
        raise StoreError(f"{final}: written by a newer bench: {reason}") from None
    except store.Unreadable as reason:
        store.quarantine(final, str(reason))
        return None
    return record if store.stamp(final) != stamp else None


def start(
    job: Job, lock: int, environ: Mapping[str, str] | None = None, fork: bool = False
) -> Worker:
    """Start the worker of a job and pass it the lock. Leaves nothing if it raises.

    fork  fork it where that is possible

    Raises StoreError if the folder cannot be written, BenchError if no process can be started.
    """
    final, mark = Path(job["final"]), secrets.token_hex(8)
    threads = job["cell"]["training"]["threads"]
    variables = {**child.environment(threads), MARK: mark, **(environ or {})}
    if job["device"].startswith("cuda"):  # torch's deterministic algorithms ask for it
        variables.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    process = None
    store.clear_temporary(final)
    try:
        with writing(final):
            log = files.append_to(store.output_file(final))
        with log:
            process = child.start(
                WORKER,
                env=variables,
                fork=fork and job["device"] == "cpu",
                stderr=log,
                pass_fds=[lock],
                cwd=job.get("cwd"),
            )
        saved = saved_state(final) or {}
        worker = Worker(
            job=job,
            process=process,
            mark=mark,
            before=store.stamp(final),
            spent=float(saved.get("seconds", 0.0)),
            kernel_kills=groups.killed_by_kernel(),
            epochs=int(saved.get("epoch", 0)),
        )
        os.set_blocking(worker.pipe.fileno(), False)
        child.send(process, {**job, "runner": child.parent(process), "lock": lock})
        return worker
    except BaseException as error:  # an interrupt may come at any moment
        groups.end_groups([process] if process is not None else [])
        store.remove_temporary(final)
        if isinstance(error, OSError):
            raise BenchError(f"a worker cannot be started: {error.strerror}") from error
        raise


def new_events(worker: Worker) -> Iterator[dict[str, Any]]:
    """Yield the events that the worker reported since the last call; only whole lines."""
    while chunk := worker.pipe.read(65536):
        worker.buffer += chunk
    worker.closed = chunk == b""
    *lines, worker.buffer = worker.buffer.split(b"\n")
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # not from us: a plugin can write to any descriptor
        if not isinstance(event, dict):
            continue
        if event.get("event") == "epoch":
            worker.epochs = event["row"]["epoch"]
            yield event
        elif event.get("event") == "unwritable":
            worker.unwritable = str(event.get("reason"))


def watch(worker: Worker) -> None:
    """Cut back the log of a running worker, and end the worker if it is over its budget."""
    logs.trim(worker.log)
    now = time.monotonic()
    if worker.process.poll() is not None:
        return  # it ended by itself, whatever came over its budget since
    if worker.ending is None:
        worker.ending = _over_budget(worker)
        if worker.ending is not None:
            worker.kill_at = now + groups.GRACE
            groups.signal_group(worker.process, signal.SIGTERM)
    elif now >= worker.kill_at:
        groups.signal_group(worker.process, signal.SIGKILL)


def _over_budget(worker: Worker) -> tuple[Status, str] | None:
    budget, pid, epochs = worker.job["budget"], worker.process.pid, worker.epochs
    if worker.seconds > budget.get("seconds", math.inf):
        return "timeout", f"over its budget of {budget['seconds']:g} s after epoch {epochs}"
    if "memory_mb" not in budget or groups.resident(pid) <= budget["memory_mb"] * MIB:
        return None
    if (used := groups.proportional(pid) / MIB) <= budget["memory_mb"]:
        return None
    limit = f"over its budget of {budget['memory_mb']} MiB"
    return "oom", f"{used:.0f} MiB resident, {limit}, after epoch {epochs}"


def lost(worker: Worker) -> bool:
    """Test whether a worker ended with the process that it was forked from, and left no run."""
    process, run = worker.process, store.stamp(worker.final)
    by_itself = not isinstance(process, Forked) or not process.lost or worker.ending is not None
    return not by_itself and run in (None, worker.before)


def finish(worker: Worker) -> RunRecord:
    """End the processes that a worker left, and return the run of its cell: its own or a row."""
    final, code = worker.final, worker.process.wait()
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
    when = f"after epoch {worker.epochs}"
    if code == -signal.SIGKILL and groups.killed_by_kernel() > worker.kernel_kills:
        return "oom", f"killed by the system for want of memory {when}"
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    last = logs.last_words(worker.log)
    return "crashed", f"the worker ended with {name} {when}" + (f": {last}" if last else "")


def leave_row(
    job: Job, status: Status, reason: str, epochs: int = 0, seconds: float = 0.0
) -> RunRecord:
    """Keep a run for a cell whose worker left none. Its log has at least the reason."""
    final = Path(job["final"])
    with writing(final):
        files.make_folder(store.temporary(final))
        with files.append_to(store.output_file(final)) as log:
            log.write(f"{status}: {reason}\n".encode())
    record = make_record(
        job, status=status, reason=reason, epochs=epochs, seconds=round(seconds, 3)
    )
    return store.commit(record, final)


def new_row(job: Job, status: Status, reason: str) -> RunRecord:
    """Keep a run for a cell that has no worker any more."""
    store.clear_temporary(Path(job["final"]))
    try:
        return leave_row(job, status, reason)
    finally:
        store.remove_temporary(Path(job["final"]))


def skip(job: Job, sweep_seconds: float | None) -> RunRecord:
    """Return the older run of a cell that the sweep has no time for, or keep a new one."""
    final = Path(job["final"])
    if os.path.lexists(final):
        return store.read(final)
    reason = f"the sweep's budget of {sweep_seconds:g} s was spent"
    return new_row(job, "skipped", reason)


def interrupt(workers: list[Worker]) -> None:
    """End workers after Ctrl-C, and keep a run for each cell that has none.

    A second Ctrl-C kills them at once; then no runs are kept.
    """
    if not groups.end_groups([worker.process for worker in workers]):
        return
    for worker in workers:
        if not os.path.lexists(worker.final):
            saved = saved_state(worker.final)
            then = f"continues after epoch {saved['epoch']}" if saved else "begins it anew"
            reason = f"interrupted after epoch {worker.epochs}; the next run {then}"
            leave_row(worker.job, "interrupted", reason, worker.epochs, worker.seconds)


def end(workers: list[Worker]) -> None:
    """End workers and all processes that they started, and delete their temporary folders."""
    groups.end_groups([worker.process for worker in workers])
    for worker in workers:
        groups.kill_marked(worker.mark)
        worker.pipe.close()
        store.remove_temporary(worker.final)
