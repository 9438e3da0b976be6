"""One cell on another machine or in another scheduler's job: what `ray` and `slurm` have in common.

Over there `run_job(text)` does what the local executor does for one cell: it takes the lock of the run folder, supervises a worker
process under its budget and makes the cell a row. Before it trains, the worker checks that it would run the code and read the data
that the cell's identity says. Where the other machine sees the results folder (a token file beside the runs tells), it works in
it, and a later attempt goes on from the saved state of one that was lost. Where it does not, it works in a folder of its own and
the run comes back as bytes. Jobs and answers are JSON text and bytes.

Here `Watch` turns what appears in the results folder into the events of `bench_core.execution.executors`.
"""

from __future__ import annotations

import base64
import json
import math
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from bench_core.errors import StoreError
from bench_core.execution.executors import Event, Job, Options, supervise
from bench_core.execution.plan import PlannedCell
from bench_core.results import store
from bench_core.results.files import writing
from bench_core.results.record import RunRecord
from bench_core.results.status import Status

POLL = 0.2
TOKEN = ".shared-"
ARRIVAL = 30.0  # seconds that a shared folder may take to show what was written elsewhere


def payload(cell: PlannedCell, job: Job, token: str) -> str:
    """The job as text, with what `run_job` needs beyond a worker's needs."""
    return json.dumps(
        {**job, "verify": True, "stamp": cell.stamp, "token": token, "cwd": os.getcwd()}
    )


def token_in(folder: Path) -> str:
    """Leave a file by which another machine knows the folder; its name."""
    name = f"{TOKEN}{os.getpid()}-{time.time_ns()}"
    with writing(folder):
        (folder / name).touch()
    return name


def run_job(text: str) -> str:
    """Run one cell here. The answer, as JSON text: {"is": "end" | "reused" | "busy" | "unwritable", …}."""
    job: dict[str, Any] = json.loads(text)
    final = Path(job["final"])
    if (final.parent / job["token"]).exists():
        return json.dumps(_run_at(job, final))
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        own = Path(home) / final.parent.name / final.name
        own.parent.mkdir()
        told = _run_at({**job, "final": str(own), "stamp": None}, own)
        if told["is"] == "end":
            told["files"] = {
                path.name: base64.b64encode(path.read_bytes()).decode() for path in own.iterdir()
            }
        return json.dumps(told)


def _run_at(job: dict[str, Any], final: Path) -> dict[str, Any]:
    """Whatever ends this, a signal's SystemExit too, ends the worker and frees the lock; what was saved stays."""
    lock = None
    try:
        lock = store.lock(final)
        if lock is None:
            return {"is": "busy"}
        if (
            supervise.finished_elsewhere(final, tuple(job["stamp"]) if job["stamp"] else None)
            is not None
        ):
            return {"is": "reused"}
        worker = supervise.start(job, lock)
        try:
            while worker.process.poll() is None:
                time.sleep(POLL)
                deque(supervise.heard(worker), 0)
                supervise.watch(worker)
            deque(supervise.heard(worker), 0)
            supervise.finish(worker)
        finally:
            supervise.end([worker])
        return {"is": "end"}
    except StoreError as error:
        return {"is": "unwritable", "reason": str(error)}
    finally:
        if lock is not None:
            store.unlock(final, lock)


class Lost(Exception):  # noqa: N818
    """A cell's machine or job is gone for good; the text says how."""


class Handle(Protocol):
    """A cell that was handed over."""

    def answer(self) -> str | None:
        """What `run_job` answered, None while it has not. Raises Lost."""

    def cancel(self) -> None:
        """Give it up, wherever it is."""


def drive(
    cells: Sequence[PlannedCell],
    job: Callable[[PlannedCell], Job],
    on_event: Event,
    options: Options,
    submit: Callable[[list[tuple[PlannedCell, str]]], list[Handle]],
    at_once: int | None,
) -> None:
    """Hand cells over, `at_once` at a time, and see each to its row; the contract is that of `bench_core.execution.executors`."""
    folder = cells[0].folder.parent
    token = token_in(folder)
    deadline = time.monotonic() + options.sweep_seconds if options.sweep_seconds else math.inf
    watch = Watch(cells, on_event)
    todo = list(cells)
    held: list[PlannedCell] = []  # by another runner
    handles: list[tuple[PlannedCell, Handle]] = []
    try:
        while todo or handles or held:
            room = len(todo) if at_once is None else at_once - len(handles)
            if time.monotonic() < deadline and todo and room > 0:
                now, todo = todo[:room], todo[room:]
                texts = [(cell, payload(cell, job(cell), token)) for cell in now]
                handles += list(zip(now, submit(texts), strict=True))
            elif time.monotonic() >= deadline:
                todo += _give_up(handles, watch)
                for cell in todo:
                    watch.end(
                        cell,
                        _row(
                            cell,
                            job(cell),
                            "skipped",
                            f"the sweep's budget of {options.sweep_seconds:g} s was spent",
                        ),
                    )
                todo = []
            time.sleep(POLL)
            watch.look()
            free = [cell for cell in held if _is_free(cell)]
            held, todo = [cell for cell in held if cell not in free], todo + free
            for cell, handle in list(handles):
                try:
                    answer = handle.answer()
                    if answer is None:
                        continue
                    record, ran = settle(cell, answer), json.loads(answer)["is"] == "end"
                except Lost as how:
                    record, ran = _row(cell, job(cell), "crashed", str(how)), True
                handles.remove((cell, handle))
                if record is None:
                    held.append(cell)
                else:
                    watch.end(cell, record, ran)
    finally:
        for _, handle in handles:
            handle.cancel()
        _wait_for_locks([cell for cell, _ in handles])
        with suppress(OSError):
            (folder / token).unlink()


def _is_free(cell: PlannedCell) -> bool:
    lock = store.lock(cell.folder)
    if lock is not None:
        store.unlock(cell.folder, lock)
    return lock is not None


def _give_up(handles: list[tuple[PlannedCell, Handle]], watch: Watch) -> list[PlannedCell]:
    """Cancel what has not begun; those cells."""
    given_up = [(cell, handle) for cell, handle in handles if cell.identity not in watch.told]
    for pair in given_up:
        pair[1].cancel()
        handles.remove(pair)
    return [cell for cell, _ in given_up]


def _wait_for_locks(cells: Sequence[PlannedCell], seconds: float = 10.0) -> None:
    """Until whoever carried these cells is gone, and with it what it left; not for ever."""
    deadline = time.monotonic() + seconds
    for cell in cells:
        while (lock := store.lock(cell.folder)) is None and time.monotonic() < deadline:
            time.sleep(POLL)
        if lock is not None:
            store.remove_temporary(cell.folder)
            store.unlock(cell.folder, lock)


def settle(cell: PlannedCell, text: str) -> RunRecord | None:
    """What became of a cell, from the answer of `run_job`; None where another runner is at it. A run that came as bytes is put in
    its place. Raises StoreError."""
    told = json.loads(text)
    if told["is"] == "unwritable":
        raise StoreError(told["reason"])
    if told["is"] == "busy" or ("files" in told and not _install(cell, told["files"])):
        return None
    deadline = time.monotonic() + ARRIVAL
    while True:
        try:
            return store.read(cell.folder)
        except store.Unreadable as reason:  # a network file system may show it late
            if time.monotonic() > deadline:
                raise StoreError(
                    f"{cell.folder}: {reason} right after it was written elsewhere"
                ) from None
            time.sleep(POLL)


def _install(cell: PlannedCell, files: dict[str, str]) -> bool:
    """Put a run that came as bytes in its place, if no other is there; False where another runner is at it."""
    lock = store.lock(cell.folder)
    if lock is None:
        return False
    try:
        if supervise.finished_elsewhere(cell.folder, cell.stamp) is None:
            folder = store.clear_temporary(cell.folder)
            with writing(cell.folder):
                for name, content in files.items():
                    (folder / Path(name).name).write_bytes(base64.b64decode(content))
            store.put(cell.folder)
        return True
    finally:
        store.remove_temporary(cell.folder)
        store.unlock(cell.folder, lock)


def _row(cell: PlannedCell, job: Job, status: Status, reason: str) -> RunRecord | None:
    """A row for a cell that nobody carries any more; an older one stays. None where another runner is at it."""
    lock = store.lock(cell.folder)
    if lock is None:
        return None
    try:
        elsewhere = supervise.finished_elsewhere(cell.folder, cell.stamp)
        if elsewhere is not None:
            return elsewhere
        if status == "skipped" and os.path.lexists(cell.folder):
            return store.read(cell.folder)
        store.clear_temporary(cell.folder)
        return supervise.leave_row(job, status, reason)
    finally:
        store.remove_temporary(cell.folder)
        store.unlock(cell.folder, lock)


class Watch:
    """Tells the start and the epochs of cells that run elsewhere, as far as a shared folder shows them."""

    def __init__(self, cells: Sequence[PlannedCell], on_event: Event) -> None:
        self.on_event = on_event
        self.told: dict[str, int] = {}
        self.open = {cell.identity: cell for cell in cells}

    def look(self) -> None:
        for cell in list(self.open.values()):
            self._rows(cell, store.temporary(cell.folder))

    def end(self, cell: PlannedCell, record: RunRecord | None, ran: bool = True) -> None:
        """The last rows, and the end; nothing where the cell is another runner's."""
        if self.open.pop(cell.identity, None) is None or record is None:
            return
        if ran:
            self.started(cell)
            self._rows(cell, cell.folder)
        self.on_event(
            cell, {"event": "end" if cell.identity in self.told else "reused", "record": record}
        )

    def started(self, cell: PlannedCell) -> None:
        if cell.identity not in self.told:
            self.told[cell.identity] = 0
            self.on_event(cell, {"event": "start"})

    def _rows(self, cell: PlannedCell, folder: Path) -> None:
        with suppress(OSError):
            lines = (folder / "epochs.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
            self.started(cell)
            for line in lines[self.told[cell.identity] :]:
                with suppress(ValueError):
                    row = json.loads(line)
                    self.told[cell.identity] += 1
                    self.on_event(cell, {"event": "epoch", "row": row})
