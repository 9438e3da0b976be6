"""The local executor: several cells at once on this machine, each in a worker process of its own.

Every worker is a fresh interpreter in a session of its own, so that it and whatever it starts can be ended as a group. It is
given the lock of its run folder, log.txt as standard error and a pipe for its events. A cell that another runner holds is
waited for and then reused. When the results folder cannot be written the whole sweep stops, with one line: the other cells
would fail in the same way.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench_core import store
from bench_core.errors import BenchError, StoreError
from bench_core.plan import PlannedCell
from bench_core.processes import end_groups, last_line
from bench_core.record import RunRecord
from bench_core.worker import EX_IOERR

POLL = 0.2  # seconds between looks at the workers

Event = Callable[[PlannedCell, dict[str, Any]], None]


@dataclass
class _Running:
    """A worker, the lock it shares with us, and what it said so far."""

    cell: PlannedCell
    process: subprocess.Popen[bytes]
    lock: int
    before: tuple[int, int] | None  # the stamp of its run folder before
    started: float
    buffer: bytes = b""
    unwritable: str | None = None
    epochs: int = 0


def execute(
    cells: Sequence[PlannedCell],
    job: Callable[[PlannedCell], Mapping[str, Any]],
    on_event: Event,
    slots: int,
) -> None:
    """Run the cells, at most `slots` at once. `job` gives what a worker needs; `on_event` hears of
    {"event": "start"}, {"event": "epoch", "row": …}, and {"event": "end", "record": …} or, where another runner was
    faster, {"event": "reused", "record": …}.

    Raises StoreError when the results folder cannot be written, KeyboardInterrupt when interrupted; either way every
    worker is ended, and no temporary folder and no lock is left.
    """
    waiting = deque(cells)
    running: list[_Running] = []
    selector = selectors.DefaultSelector()
    try:
        while waiting or running:
            for _ in range(len(waiting)):
                if len(running) >= slots:
                    break
                cell = waiting.popleft()
                lock = store.lock(cell.folder)
                if lock is None:  # another runner is at it
                    waiting.append(cell)
                    continue
                worker = None
                try:
                    record = _finished_elsewhere(cell)
                    if record is None:
                        worker = _start(cell, job(cell), lock)
                        running.append(worker)
                        selector.register(_pipe(worker), selectors.EVENT_READ, worker)
                finally:
                    if worker is None:
                        store.unlock(cell.folder, lock)
                on_event(cell, {"event": "reused", "record": record} if worker is None else {"event": "start"})
            _listen(selector, on_event) if running else time.sleep(POLL)
            for worker in [worker for worker in running if worker.process.poll() is not None]:
                _drain(worker, on_event)
                selector.unregister(_pipe(worker))
                running.remove(worker)
                _finish(worker, on_event)
    finally:
        end_groups([worker.process for worker in running])
        for worker in running:
            store.remove_temporary(worker.cell.folder)
            store.unlock(worker.cell.folder, worker.lock)
        selector.close()


def _finished_elsewhere(cell: PlannedCell) -> RunRecord | None:
    """The run that another runner made since the plan, if there is one; an unreadable folder is set aside. The lock is held."""
    if not os.path.lexists(cell.folder):
        return None
    try:
        record = store.read(cell.folder, sums=True)
    except store.Unreadable as reason:
        store.quarantine(cell.folder, str(reason))
        return None
    return record if store.stamp(cell.folder) != cell.seen else None


def _start(cell: PlannedCell, job: Mapping[str, Any], lock: int) -> _Running:
    threads = str(cell.cell.training["threads"])
    environ = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
    if cell.device.startswith("cuda"):
        environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # asked for by torch's deterministic algorithms
    folder = store.clear_temporary(cell.folder)
    process = None
    try:
        with store.writing(cell.folder):
            log = (folder / store.LOG).open("ab")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "bench_core.worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                start_new_session=True, pass_fds=[lock], env=environ,
            )  # fmt: skip
        worker = _Running(cell, process, lock, store.stamp(cell.folder), time.monotonic())
        os.set_blocking(_pipe(worker).fileno(), False)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:  # it died already: _finish says how
            stdin.write(json.dumps({**job, "runner": os.getpid(), "lock": lock}).encode())
        return worker
    except BaseException as error:  # an interrupt may come at any moment
        end_groups([process] if process is not None else [])
        store.remove_temporary(cell.folder)
        if isinstance(error, OSError):
            raise BenchError(f"a worker cannot be started: {error.strerror}") from error
        raise


def _pipe(worker: _Running) -> Any:
    return worker.process.stdout


def _listen(selector: selectors.BaseSelector, on_event: Event) -> None:
    """Wait a moment for events and hand them on."""
    ready = selector.select(POLL)
    for key, _ in ready:
        _drain(key.data, on_event)
    if ready:
        time.sleep(0.01)  # a closed pipe is always ready: do not spin until the process is gone


def _drain(worker: _Running, on_event: Event) -> None:
    """Read what the worker said and hand on every whole line."""
    while chunk := _pipe(worker).read(65536):
        worker.buffer += chunk
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
            on_event(worker.cell, event)
        elif event.get("event") == "unwritable":
            worker.unwritable = str(event.get("reason"))


def _finish(worker: _Running, on_event: Event) -> None:
    """The worker is gone: make sure that its group is too and that its cell has a run folder."""
    cell, code = worker.cell, worker.process.returncode
    try:
        end_groups([worker.process])
        _pipe(worker).close()
        if code == EX_IOERR and worker.unwritable is not None:
            raise StoreError(worker.unwritable)
        if store.stamp(cell.folder) == worker.before:
            _record_crash(worker, code)
        record = store.read(cell.folder)
    except store.Unreadable as reason:
        raise StoreError(f"{cell.folder}: {reason} right after it was written") from None
    finally:
        store.remove_temporary(cell.folder)
        store.unlock(cell.folder, worker.lock)
    on_event(cell, {"event": "end", "record": record})


def _record_crash(worker: _Running, code: int) -> None:
    """A worker that left no run folder: its cell is a row all the same."""
    cell = worker.cell
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    folder = store.temporary(cell.folder)
    with store.writing(cell.folder):
        folder.mkdir(exist_ok=True)
    last = _last_line(folder / store.LOG)
    store.commit(
        RunRecord(
            identity=cell.identity,
            suite=cell.folder.parent.name,
            cell=cell.cell,
            status="crashed",
            reason=f"the worker ended with {name} after epoch {worker.epochs}" + (f": {last}" if last else ""),
            epochs=worker.epochs,
            seconds=round(time.monotonic() - worker.started, 3),
            passport=cell.passport,
            code=cell.code,
            data_checksum=cell.data_checksum,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
        cell.folder,
    )


def _last_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 2000))
            return last_line(file.read())
    except OSError:
        return ""
