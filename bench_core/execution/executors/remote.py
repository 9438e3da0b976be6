"""Run cells on other machines or in jobs of a scheduler: what `ray` and `slurm` share.

`drive` hands cells over as text and turns the rows that appear in the results folder into events.
`run_job` runs one cell on the other machine as the local executor would: it takes the lock of the
run folder and supervises a worker. The worker first compares its code and data with the cell's
identity. If the other machine sees the results folder (a token file beside the runs shows it), it
works there, and a later attempt continues from the saved state of a lost one. If not, it works in a
folder of its own, and the run comes back as bytes in the answer.
"""

from __future__ import annotations

import base64
import fcntl
import json
import math
import os
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from bench_core.errors import StoreError
from bench_core.execution.executors import JobOf, OnEvent, Options, supervise
from bench_core.execution.planning.job import Job
from bench_core.execution.planning.plan import PlannedCell
from bench_core.execution.resumption import saved_state
from bench_core.processes.forking import import_path
from bench_core.results import files as disk
from bench_core.results import locks, store
from bench_core.results.epochs import is_row
from bench_core.results.files import writing
from bench_core.results.record import RunRecord
from bench_core.results.status import FINAL, Status

POLL = 0.2
ARRIVAL = 90.0  # seconds that a shared folder may take to show what was written elsewhere
HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RELEASE = 10.0  # seconds that a cancelled job may take to end its worker
PREEMPTION = 120.0  # seconds in which a job ends whose worker got a SIGTERM that was the job's


class Lost(Exception):  # noqa: N818
    """A cell's machine or job is gone for good; the text says how."""


class Handle(Protocol):
    """A cell that was handed over."""

    def answer(self) -> str | None:
        """Return what `run_job` returned, None as long as it runs. Raises Lost."""

    def cancel(self) -> None:
        """End the job, wherever it is; nothing if it has ended."""


class Posted(Job):
    """A job with what the other machine must know of this one."""

    token: str  # name of a file beside the runs
    stamp: list[int] | None  # of the run that the plan found (`store.stamp`)
    path: list[str]  # where Python imports from


Submit = Callable[[list[tuple[PlannedCell, str]]], list[Handle]]
Cancel = Callable[[list[Handle]], None]


def cancel_each(handles: list[Handle]) -> None:
    for handle in handles:
        with suppress(Exception):  # the others are cancelled all the same
            handle.cancel()


def payload(cell: PlannedCell, job: Job, token: str) -> str:
    """Return the text for `run_job`."""
    own = {"verify": True, "stamp": cell.stamp, "token": token, "cwd": os.getcwd()}
    return json.dumps({**job, **own, "path": import_path()})


@contextmanager
def tokens_in(folders: set[Path]) -> Iterator[dict[Path, str]]:
    """Leave files by which other machines recognise the folders; return their names.

    A file is locked as long as its runner lives: `tidy` deletes those of killed runners.
    """
    names = {folder: f"{store.TOKEN}{secrets.token_hex(8)}" for folder in folders}
    descriptors = []
    try:
        for folder, name in names.items():
            with writing(folder / name):
                descriptors.append(disk.open_lock(folder / name))
            with suppress(OSError):  # a file system without locks
                fcntl.flock(descriptors[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield names
    finally:
        for folder, name in names.items():
            with suppress(OSError):
                (folder / name).unlink()
        for descriptor in descriptors:
            os.close(descriptor)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Put Ctrl-C, SIGTERM and SIGHUP off: a job would be submitted and known to nobody.

    A second one is not put off.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []
    before = {number: signal.getsignal(number) for number in HELD}

    def put_back() -> None:
        for number, handler in before.items():
            if handler is not None:  # of code that is not Python
                signal.signal(number, handler)

    def hold(number: int, frame: Any) -> None:
        if pressed:
            put_back()
            signal.raise_signal(number)
        pressed.append(number)

    for number in HELD:
        signal.signal(number, hold)
    try:
        yield
    finally:
        put_back()
        if pressed:
            signal.raise_signal(pressed[-1])


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


def drive(
    cells: Sequence[PlannedCell],
    job: JobOf,
    on_event: OnEvent,
    options: Options,
    submit: Submit,
    at_once: int | None = None,
    cancel: Cancel = cancel_each,
) -> None:
    """Hand cells over, `at_once` at a time (None: all), until each has a run.

    submit  hands cells over; if it raises, it has cancelled those that it handed over
    cancel  ends jobs

    It keeps the promises of `bench_core.execution.executors`.
    """
    with tokens_in({cell.folder.parent for cell in cells}) as tokens:
        _drive(cells, job, on_event, options, submit, at_once, cancel, tokens)


def _drive(
    cells: Sequence[PlannedCell],
    job: JobOf,
    on_event: OnEvent,
    options: Options,
    submit: Submit,
    at_once: int | None,
    cancel: Cancel,
    tokens: dict[Path, str],
) -> None:
    deadline = time.monotonic() + (options.sweep_seconds or math.inf)
    watch = Watch(cells, on_event)
    todo = list(cells)
    busy: list[PlannedCell] = []  # another runner is at work on them
    handles: list[tuple[PlannedCell, Handle]] = []
    try:
        while todo or handles or busy:
            if time.monotonic() >= deadline:
                todo += _cancel_queued(handles, watch, cancel)
                for cell in [*todo, *busy]:
                    row = partial(supervise.skip, job(cell))
                    watch.end(
                        cell, _keep_row(cell, row) or supervise.left(job(cell), supervise.BUSY)
                    )
                todo, busy = [], []
            room = len(todo) if at_once is None else at_once - len(handles)
            if todo and room > 0:
                now, todo = todo[:room], todo[room:]
                texts = [
                    (cell, payload(cell, job(cell), tokens[cell.folder.parent])) for cell in now
                ]
                with interrupts_held():
                    handles += list(zip(now, submit(texts), strict=True))
            time.sleep(POLL)
            watch.look()
            free = [cell for cell in busy if _is_free(cell)]
            busy, todo = [cell for cell in busy if cell not in free], todo + free
            for cell, handle in list(handles):
                try:
                    answer = handle.answer()
                    if answer is None:
                        continue
                    outcome = json.loads(answer)
                    record, ran = settle(cell, job(cell), outcome), outcome["is"] == "end"
                    for why in outcome.get("anew", []):
                        watch.anew(cell, why)
                except Lost as reason:
                    cancel([handle])  # it may only have been out of sight
                    _await_release(cell, time.monotonic() + RELEASE)
                    watch.look_at(cell)
                    row = partial(watch.leave_row, cell, job(cell), "crashed", str(reason))
                    record, ran = _keep_row(cell, row), True
                handles.remove((cell, handle))
                if record is None:
                    busy.append(cell)
                else:
                    watch.end(cell, record, ran)
    except BaseException:
        cancel([handle for _, handle in handles])
        _end_cancelled([cell for cell, _ in handles], job, watch)
        raise


def _is_free(cell: PlannedCell) -> bool:
    with locks.locked(cell.folder) as lock:
        return lock is not None


def _cancel_queued(
    handles: list[tuple[PlannedCell, Handle]], watch: Watch, cancel: Cancel
) -> list[PlannedCell]:
    """Cancel the jobs that have not started and return their cells."""
    queued = [(cell, handle) for cell, handle in handles if cell.identity not in watch.epochs]
    cancel([handle for _, handle in queued])
    for pair in queued:
        handles.remove(pair)
    return [cell for cell, _ in queued]


def _await_release(cell: PlannedCell, deadline: float) -> None:
    """Wait for the lock of a cell whose job was cancelled."""
    while not _is_free(cell) and time.monotonic() < deadline:
        time.sleep(POLL)


def _end_cancelled(cells: Sequence[PlannedCell], job: JobOf, watch: Watch) -> None:
    """Keep a run of each cancelled cell that had started, and delete the temporary folders."""
    deadline = time.monotonic() + RELEASE
    for cell in cells:
        _await_release(cell, deadline)
        with locks.locked(cell.folder) as lock:
            if lock is None:
                continue
            watch.look_at(cell)
            started = cell.identity in watch.epochs
            with suppress(StoreError):  # the error at hand is the one to be told
                if started and supervise.made_since(cell.folder, cell.stamp) is None:
                    reason = supervise.interrupted(cell.folder, watch.reached(cell))
                    watch.leave_row(cell, job(cell), "interrupted", reason)
            store.remove_temporary(cell.folder)


def settle(cell: PlannedCell, job: Job, answer: dict[str, Any]) -> RunRecord | None:
    """Return the run of a cell, given what `run_job` says; None if another runner is at it.

    A run that came as bytes is put in its place. One that was cut short takes no result's place.
    Raises StoreError.
    """
    if answer["is"] == "unwritable":
        raise StoreError(answer["reason"])
    if answer["is"] == "busy":
        return None
    if "files" in answer or "cut short" in answer:
        with locks.locked(cell.folder) as lock:
            if lock is None:
                return None
            if (record := _install(cell, job, answer)) is not None:
                return record
    deadline = time.monotonic() + ARRIVAL
    while True:
        try:
            return store.read(cell.folder)
        except store.Unreadable as reason:  # a network file system may show it late
            if time.monotonic() > deadline:
                text = f"{cell.folder}: {reason} right after it was written elsewhere"
                raise StoreError(text) from None
            time.sleep(POLL)


def _install(cell: PlannedCell, job: Job, answer: dict[str, Any]) -> RunRecord | None:
    """Put a run that came as bytes in its place, unless there is one; the lock is held.

    Returns the record of a run that was cut short and takes no result's place.
    """
    store.restore(cell.folder)
    if "cut short" in answer and store.result_of(cell.folder):
        return store.not_kept(RunRecord.model_validate(answer["cut short"]), cell.folder)
    files = answer.get("files")  # without them the run lies in its place, which may show it late
    if files and supervise.finished_elsewhere(cell.folder, cell.stamp, job) is None:
        with store.installed(cell.folder) as folder:
            for name, content in files.items():
                disk.write_file(folder / Path(name).name, base64.b64decode(content))
    return None


def _keep_row(cell: PlannedCell, row: Callable[[], RunRecord]) -> RunRecord | None:
    """Keep a run for a cell that has no job, or return the one that came since the plan.

    None if another runner is at work on it.
    """
    with locks.locked(cell.folder) as lock:
        if lock is None:
            return None
        return supervise.made_since(cell.folder, cell.stamp) or row()


class Watch:
    """Report the start and the epochs of cells that run elsewhere, if the folder is shared.

    epochs  identity → lines of epochs.jsonl reported so far, for each cell that has started
    last    identity → the last epoch reported
    began   identity → the time when the start was seen, less the seconds of earlier attempts
    open    identity → cell, for each cell that has not ended
    """

    def __init__(self, cells: Sequence[PlannedCell], on_event: OnEvent) -> None:
        self.on_event = on_event
        self.epochs: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self.began: dict[str, float] = {}
        self.open = {cell.identity: cell for cell in cells}

    def look(self) -> None:
        """Report what the temporary folders show."""
        for cell in self.open.values():
            self.look_at(cell)

    def look_at(self, cell: PlannedCell) -> None:
        self._rows(cell, store.temporary(cell.folder))

    def end(self, cell: PlannedCell, record: RunRecord | None, ran: bool = True) -> None:
        """Report the last rows and the end; nothing if the cell is another runner's."""
        if self.open.pop(cell.identity, None) is None or record is None:
            return
        kept = record.checksum is not None  # else the folder has the rows of another training
        if ran and kept:
            self._started(cell)
            self._rows(cell, cell.folder)
        own = (ran and cell.identity in self.epochs) or not kept
        self.on_event(cell, {"event": "end" if own else "reused", "record": record})

    def anew(self, cell: PlannedCell, reason: str) -> None:
        """Report that the training did not use its saved state."""
        self._started(cell)
        self.last.pop(cell.identity, None)
        self.on_event(cell, {"event": "anew", "reason": reason})

    def reached(self, cell: PlannedCell) -> int:
        return self.last.get(cell.identity, 0)

    def leave_row(self, cell: PlannedCell, job: Job, status: Status, reason: str) -> RunRecord:
        """Keep a run for a cell whose job has ended, with its epochs and its log if they are here;
        the lock is held."""
        try:
            began = self.began.get(cell.identity)
            seconds = 0.0 if began is None else time.monotonic() - began
            return supervise.leave_row(job, status, reason, self.reached(cell), seconds)
        finally:
            store.remove_temporary(cell.folder)

    def _started(self, cell: PlannedCell) -> None:
        if cell.identity not in self.epochs:
            self.epochs[cell.identity] = 0
            spent = (saved_state(cell.folder) or {}).get("seconds", 0.0)
            self.began[cell.identity] = time.monotonic() - spent
            self.on_event(cell, {"event": "start"})

    def _rows(self, cell: PlannedCell, folder: Path) -> None:
        with suppress(OSError):
            lines = disk.read(folder / store.EPOCHS, "epochs").split(b"\n")[:-1]
            self._started(cell)
            for line in lines[self.epochs[cell.identity] :]:
                self.epochs[cell.identity] += 1
                with suppress(ValueError):
                    if is_row(row := disk.parsed(line, "row")):
                        self.last[cell.identity] = row["epoch"]
                        self.on_event(cell, {"event": "epoch", "row": row})
