"""Start one worker process, listen to it, hold it to its budget, end it, keep a run of its cell.

A worker is a fresh interpreter, or a fork of one, in a session of its own, so that it can be ended
together with the processes that it started; one that left the group is found by a mark in its
environment. The worker prints to the file that becomes log.txt; its events come through a pipe. A
worker over its budget gets SIGTERM, and SIGKILL `groups.GRACE` seconds later. The caller holds the
lock of the run folder.
"""

from __future__ import annotations

import errno
import math
import os
import resource
import secrets
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_core.errors import DISK, BenchError, StoreError
from bench_core.execution.events import Event
from bench_core.execution.planning.job import Job, make_record
from bench_core.execution.planning.reuse import sparser
from bench_core.execution.resumption import CONTINUES, attempts, saved_state
from bench_core.printable import last_line
from bench_core.processes import child, groups
from bench_core.processes.clock import Clock
from bench_core.processes.forking import MARK, Forked
from bench_core.results import epochs, files, locks, logs, store
from bench_core.results.files import writing
from bench_core.results.record import RunRecord
from bench_core.results.status import Status, is_reused
from bench_core.units import MIB

WORKER = "bench_core.execution.worker.process"
EX_IOERR = 74  # a worker's exit code if the results folder cannot be written
MOST_AT_ONCE = 1 << 20  # bytes of events between two looks at the budgets


@dataclass
class Worker:
    """A worker process and what it reported so far.

    mark          in the environment of the process and of the processes that it starts
    before        the stamp of the run in its folder when it started
    spent         seconds of the earlier attempts that it continues
    kernel_kills  processes that the kernel had killed for want of memory when it started
    clock         seconds since its start
    reported      the last epoch that it reported
    closed        whether its pipe is closed, so that no event will come
    unwritable    number and text of the error by which it could not write its run
    cut_short     status and reason of a run that it says it could not end
    ending        status and reason if the supervisor ends it
    orphaned      whether an earlier attempt ended because its parent process did
    """

    job: Job
    process: groups.Process
    mark: str
    before: tuple[int, int] | None
    spent: float
    kernel_kills: int
    epochs: int
    clock: Clock = field(default_factory=Clock)
    reported: int = -1
    buffer: bytes = b""
    closed: bool = False
    unwritable: tuple[Any, str] | None = None
    cut_short: tuple[Status, str] | None = None
    ending: tuple[Status, str] | None = None
    kill_at: float = math.inf
    orphaned: bool = False

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
        return self.spent + self.clock()


def made_since(final: Path, stamp: tuple[int, int] | None) -> RunRecord | None:
    """Return the run that was made since the plan found one with this stamp, if any.

    The caller holds the lock. An unreadable folder is set aside. Raises StoreError if a newer bench
    made the run.
    """
    store.restore(final)
    if not os.path.lexists(final):
        return None
    try:
        record = store.read(final, sums=True)
    except store.Newer as reason:
        raise StoreError(store.of_newer(final, reason)) from None
    except store.Unreadable as reason:
        store.quarantine(final, str(reason))
        return None
    return record if store.stamp(final) != stamp else None


def finished_elsewhere(final: Path, stamp: tuple[int, int] | None, job: Job) -> RunRecord | None:
    """Return the run of `made_since` if a plan would reuse it for a job.

    A run that was interrupted or over a smaller budget, or is sparser than the job, is none.
    """
    record = made_since(final, stamp)
    if record is None or record.original or sparser(record, job):
        return None
    return record if is_reused(record.status, record.budget, job["budget"]) else None


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
        child.send(process, {"job": job, "lock": lock})
        return worker
    except BaseException as error:  # an interrupt may come at any moment
        groups.end_groups([process] if process is not None else [])
        store.remove_temporary(final)
        if isinstance(error, OSError):
            raise BenchError(f"a worker cannot be started: {error.strerror}") from error
        raise


def new_events(worker: Worker) -> Iterator[Event]:
    """Yield what the worker reported since the last call, in whole lines: epochs, and why a saved
    state was not used.

    A plugin can write to any descriptor, so other lines are ignored, and one call reads 1 MiB at
    most.
    """
    size, chunk = 0, None
    while size < MOST_AT_ONCE and (chunk := worker.pipe.read(65536)):
        worker.buffer += chunk
        size += len(chunk)
    worker.closed = chunk == b""
    *lines, rest = worker.buffer.split(b"\n")
    worker.buffer = rest if len(rest) <= files.LARGEST["row"] else b""
    for line in lines:
        try:
            event = files.parsed(line, "row")
        except ValueError:
            continue
        kind = event.get("event") if isinstance(event, dict) else None
        if kind == "epoch" and _is_next(worker, event.get("row")):
            worker.epochs = worker.reported = event["row"]["epoch"]
            yield {"event": "epoch", "row": event["row"]}
        elif kind == "anew":
            worker.spent, worker.epochs = 0.0, 0  # the earlier attempt is no part of this one
            yield {"event": "anew", "reason": last_line(str(event.get("reason")).encode())}
        elif kind == "cut short" and event.get("status") in ("crashed", "oom"):
            worker.cut_short = event["status"], last_line(str(event.get("reason")).encode())
        elif kind == "unwritable":
            worker.unwritable = event.get("errno"), last_line(str(event.get("reason")).encode())


def _is_next(worker: Worker, row: Any) -> bool:
    """Test whether a value is a row of epochs.jsonl that comes after those reported so far."""
    planned: float = worker.job["cell"]["training"].get("epochs", math.inf)
    return epochs.is_row(row) and worker.reported < row["epoch"] <= planned


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


def server_ended_first(worker: Worker) -> bool:
    """Test whether a worker ended with the process that it was forked from, and left no run."""
    process, run = worker.process, store.stamp(worker.final)
    by_itself = (
        not isinstance(process, Forked)
        or not process.killed_with_server
        or worker.ending is not None
    )
    return not by_itself and run in (None, worker.before)


def finish(worker: Worker) -> RunRecord:
    """End the processes that a worker left, and return the run of its cell: its own or a row.

    Raises StoreError if the disk is at fault.
    """
    final, code = worker.final, worker.process.wait()
    try:
        groups.signal_group(worker.process, signal.SIGKILL)
        groups.kill_marked(worker.mark)
        worker.pipe.close()
        if store.stamp(final) in (None, worker.before):
            status, reason = worker.ending or worker.cut_short or _how_it_died(worker, code)
            return leave_row(worker.job, status, reason, worker.epochs, worker.seconds)
        try:
            return store.read(final)
        except store.Newer as fault:
            raise StoreError(store.of_newer(final, fault)) from None
        except store.Unreadable as fault:  # a plugin wrote there
            store.quarantine(final, str(fault))
            reason = f"its run cannot be read right after it was written: {fault}"
            return leave_row(worker.job, "crashed", reason, worker.epochs, worker.seconds)
    finally:
        store.remove_temporary(final)


def _how_it_died(worker: Worker, code: int) -> tuple[Status, str]:
    """Return status and reason. Raises StoreError if every other cell would end in this way."""
    when = f"after epoch {worker.epochs}"
    if code == EX_IOERR and worker.unwritable is not None:
        number, reason = worker.unwritable
        if _is_of_the_disk(number):
            raise StoreError(reason)
        return "crashed", f"the worker could not write its run {when}: {reason}"
    if code == -signal.SIGKILL and groups.killed_by_kernel() > worker.kernel_kills:
        return "oom", f"killed by the system for want of memory {when}"
    name = groups.signal_name(-code) if code < 0 else f"exit code {code}"
    last = logs.last_words(worker.log)
    if last.startswith(CONTINUES):  # no cause
        last = ""
    if code == -signal.SIGKILL and worker.orphaned:
        last = "its parent process was killed before it; a plugin of the cell may be the cause"
    return "crashed", f"the worker ended with {name} {when}" + (f": {last}" if last else "")


def _is_of_the_disk(number: Any) -> bool:
    """Test whether an errno is a fault of the disk, or of the runner's own limit."""
    limited = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
    return number in DISK or (number == errno.EFBIG and limited)


def leave_row(
    job: Job, status: Status, reason: str, epochs: int = 0, seconds: float = 0.0
) -> RunRecord:
    """Keep a run for a cell whose worker left none. Its log has at least the reason.

    Files of the worker that cannot be kept are deleted. Raises StoreError.
    """
    final = Path(job["final"])
    began = locks.beside(final, "lock")
    started = began.stat().st_mtime if began.exists() else 0.0
    outcome = {"status": status, "reason": reason, "epochs": epochs, "seconds": round(seconds, 3)}
    outcome["resumed"] = attempts(final, epochs, started)
    record, line = make_record(job, **outcome), f"{status}: {reason}\n".encode()
    try:
        return _keep(record, final, line)
    except StoreError as error:
        if _is_of_the_disk(getattr(error.__cause__, "errno", None)):
            raise
        store.clear_temporary(final)  # a plugin may have put anything there
        return _keep(record, final, line)


def _keep(record: RunRecord, final: Path, line: bytes) -> RunRecord:
    """Commit a record with a line at the end of its log. Raises StoreError."""
    with writing(final):
        files.make_folder(store.temporary(final))
        with files.append_to(store.output_file(final)) as log:
            log.write(line)
    return store.commit(record, final)


def new_row(job: Job, status: Status, reason: str) -> RunRecord:
    """Keep a run for a cell that has no worker any more."""
    store.clear_temporary(Path(job["final"]))
    try:
        return leave_row(job, status, reason)
    finally:
        store.remove_temporary(Path(job["final"]))


def skip(job: Job) -> RunRecord:
    """Keep a run for a cell that the sweep has no time for, unless it has one already."""
    final = Path(job["final"])
    if os.path.lexists(final):
        return left(job, f"its {store.read(final).status} run stays")
    return new_row(job, "skipped", SPENT)


def left(job: Job, why: str) -> RunRecord:
    """Return a record, which is not kept, for a cell that a sweep without time leaves alone."""
    return make_record(job, status="skipped", reason=f"{SPENT}; {why}")


SPENT = "the sweep's time (budget.sweep_seconds) was spent"  # of `bench tune`: what was left of it
BUSY = "another runner is at work on it"


def interrupt(workers: list[Worker]) -> None:
    """End workers after Ctrl-C, and keep a run for each cell that has none.

    A second Ctrl-C kills them at once; then no runs are kept.
    """
    if not groups.end_groups([worker.process for worker in workers]):
        return
    for worker in workers:
        if not store.result_of(worker.final):
            reason = interrupted(worker.final, worker.epochs)
            leave_row(worker.job, "interrupted", reason, worker.epochs, worker.seconds)


def interrupted(final: Path, epochs: int) -> str:
    """Say how far an interrupted training came and where the next attempt goes on."""
    saved = saved_state(final)
    then = f"continues after epoch {saved['epoch']}" if saved else "begins it anew"
    return f"interrupted after epoch {epochs}; the next run {then}"


def end(workers: list[Worker]) -> None:
    """End workers and all processes that they started, and delete their temporary folders."""
    groups.end_groups([worker.process for worker in workers])
    for worker in workers:
        groups.kill_marked(worker.mark)
        worker.pipe.close()
        store.remove_temporary(worker.final)
