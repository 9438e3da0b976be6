"""Hand cells to other machines or to jobs of a scheduler: what `ray` and `slurm` share.

`drive` hands cells over as text for `run_job` (`remote_job`) and turns the rows that appear in the
results folder into events (`watch`). If the other machine sees the results folder (a token file
beside the runs shows it), it works there, and a later attempt continues from the saved state of a
lost one. If not, the run comes back as bytes in the answer.
"""

from __future__ import annotations

import base64
import json
import math
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from bench_core.errors import StoreError
from bench_core.execution.executors import JobOf, OnEvent, Options, supervise
from bench_core.execution.executors.remote_job import run_job as run_job
from bench_core.execution.executors.watch import Watch
from bench_core.execution.planning.job import Job
from bench_core.execution.planning.plan import PlannedCell
from bench_core.processes.forking import import_path
from bench_core.results import files as disk
from bench_core.results import locks, store
from bench_core.results.files import writing
from bench_core.results.record import RunRecord

POLL = 0.2
ARRIVAL = 90.0  # seconds that a shared folder may take to show what was written elsewhere
HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RELEASE = 10.0  # seconds that a cancelled job may take to end its worker


class Lost(Exception):  # noqa: N818
    """A cell's machine or job is gone for good; the text says how."""


class Handle(Protocol):
    """A cell that was handed over."""

    def answer(self) -> str | None:
        """Return what `run_job` returned, None as long as it runs. Raises Lost."""

    def cancel(self) -> None:
        """End the job, wherever it is; nothing if it has ended."""


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
                locks.take(descriptors[-1])
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
        sweep = _Sweep(cells, job, Watch(cells, on_event), submit, cancel, tokens)
        sweep.run(time.monotonic() + (options.sweep_seconds or math.inf), at_once)


class _Sweep:
    """The cells of one call of `drive`.

    todo     those that wait to be handed over
    handles  those that were
    busy     those at which another runner is at work
    tokens   folder → name of the file by which other machines recognise it
    """

    def __init__(
        self,
        cells: Sequence[PlannedCell],
        job: JobOf,
        watch: Watch,
        submit: Submit,
        cancel: Cancel,
        tokens: Mapping[Path, str],
    ) -> None:
        self.job, self.watch, self.submit, self.cancel = job, watch, submit, cancel
        self.tokens = tokens
        self.todo, self.busy = list(cells), list[PlannedCell]()
        self.handles: list[tuple[PlannedCell, Handle]] = []

    def run(self, deadline: float, at_once: int | None) -> None:
        """Go on until each cell has a run, or the time is up."""
        try:
            while self.todo or self.handles or self.busy:
                if time.monotonic() >= deadline:
                    self._skip()
                self._hand_over(len(self.todo) if at_once is None else at_once - len(self.handles))
                time.sleep(POLL)
                self.watch.look()
                free = [cell for cell in self.busy if _is_free(cell)]
                self.busy = [cell for cell in self.busy if cell not in free]
                self.todo += free
                for cell, handle in list(self.handles):
                    self._collect(cell, handle)
        except BaseException:
            with interrupts_held():  # a second Ctrl-C would leave jobs in the queue
                self.cancel([handle for _, handle in self.handles])
                _end_cancelled([cell for cell, _ in self.handles], self.job, self.watch)
            raise

    def _skip(self) -> None:
        """End the cells that have not started; no time is left for them."""
        queued = [pair for pair in self.handles if pair[0].identity not in self.watch.epochs]
        self.cancel([handle for _, handle in queued])
        self.handles = [pair for pair in self.handles if pair not in queued]
        for cell in [*self.todo, *(cell for cell, _ in queued), *self.busy]:
            job = self.job(cell)
            record = _keep_row(cell, partial(supervise.skip, job))
            self.watch.end(cell, record or supervise.left(job, supervise.BUSY))
        self.todo, self.busy = [], []

    def _hand_over(self, room: int) -> None:
        if not self.todo or room <= 0:
            return
        now, self.todo = self.todo[:room], self.todo[room:]
        texts = [(cell, payload(cell, self.job(cell), self._token(cell))) for cell in now]
        with interrupts_held():
            self.handles += list(zip(now, self.submit(texts), strict=True))

    def _token(self, cell: PlannedCell) -> str:
        return self.tokens[cell.folder.parent]

    def _collect(self, cell: PlannedCell, handle: Handle) -> None:
        """Take the run of a cell if its job has ended."""
        try:
            answer = handle.answer()
            if answer is None:
                return
            outcome = json.loads(answer)
            record, ran = settle(cell, self.job(cell), outcome), outcome["is"] == "end"
            for why in outcome.get("anew", []):
                self.watch.anew(cell, why)
        except Lost as reason:
            self.cancel([handle])  # it may only have been out of sight
            _await_release(cell, time.monotonic() + RELEASE)
            self.watch.look_at(cell)
            row = partial(self.watch.leave_row, cell, self.job(cell), "crashed", str(reason))
            record, ran = _keep_row(cell, row), True
        self.handles.remove((cell, handle))
        if record is None:
            self.busy.append(cell)
        else:
            self.watch.end(cell, record, ran)


def _is_free(cell: PlannedCell) -> bool:
    with locks.locked(cell.folder) as lock:
        return lock is not None


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
