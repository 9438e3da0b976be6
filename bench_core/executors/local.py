"""The local executor: several cells at once on this machine, each in a worker process of its own.

Every worker is a fresh interpreter in a session of its own, so that it and whatever it starts can be ended as a group. It is given the
lock of its run folder, log.txt as standard error and a pipe for its events. A cell that another runner holds is waited for
and then reused. When the results folder cannot be written the whole sweep stops, with one line: the other cells would fail
in the same way.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
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
from bench_core.errors import StoreError
from bench_core.plan import PlannedCell
from bench_core.record import RunRecord
from bench_core.worker import EX_IOERR

POLL = 0.2  # seconds between looks at the workers
GRACE = 3.0  # seconds between asking a process group to end and killing it

Event = Callable[[PlannedCell, dict[str, Any]], None]


@dataclass
class _Running:
    """A worker, the lock it shares with us, and what it said so far."""

    cell: PlannedCell
    process: subprocess.Popen[bytes]
    lock: int
    started: float
    buffer: bytes = b""
    unwritable: str | None = None
    epochs: int = 0
    said_end: bool = False


def execute(
    cells: Sequence[PlannedCell],
    job: Callable[[PlannedCell], Mapping[str, Any]],
    on_event: Event,
    slots: int,
) -> None:
    """Run the cells, at most `slots` at once. `job` gives what a worker needs; `on_event` hears of
    {"event": "start"}, {"event": "epoch", "row": …}, {"event": "end", "status": …} and {"event": "reused"}.

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
                elif _finished_elsewhere(cell):
                    store.unlock(cell.folder, lock)
                    on_event(cell, {"event": "reused"})
                else:
                    worker = _start(cell, job(cell), lock)
                    running.append(worker)
                    selector.register(_pipe(worker), selectors.EVENT_READ, worker)
                    on_event(cell, {"event": "start"})
            _listen(selector, on_event) if running else time.sleep(POLL)
            for worker in [worker for worker in running if worker.process.poll() is not None]:
                _drain(worker, on_event)
                selector.unregister(_pipe(worker))
                running.remove(worker)
                _finish(worker, on_event)
    finally:
        for worker in running:
            end_group(worker.process)
        for worker in running:
            shutil.rmtree(store.temporary(worker.cell.folder), ignore_errors=True)
            store.unlock(worker.cell.folder, worker.lock)
        selector.close()


def _finished_elsewhere(cell: PlannedCell) -> bool:
    """Whether a run that the plan did not know of is there now; an unreadable folder is set aside."""
    if not cell.folder.exists():
        return False
    try:
        record = store.read(cell.folder, sums=True)
    except store.Unreadable as reason:
        store.quarantine(cell.folder, str(reason))
        return False
    return record.status == "done" and cell.why == "no run of this identity yet"


def _start(cell: PlannedCell, job: Mapping[str, Any], lock: int) -> _Running:
    try:
        folder = store.clear_temporary(cell.folder)
        log = (folder / "log.txt").open("wb")
    except OSError as error:
        store.unlock(cell.folder, lock)
        raise StoreError(store.full(cell.folder, error)) from error
    threads = str(cell.cell.training["threads"])
    environ = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
    if cell.device.startswith("cuda"):
        environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # asked for by torch's deterministic algorithms
    with log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bench_core.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            start_new_session=True, pass_fds=[lock], env=environ,
        )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    try:
        process.stdin.write(json.dumps({**job, "runner": os.getpid()}).encode())
        process.stdin.close()
    except BrokenPipeError:
        pass  # it died already: _finish says how
    return _Running(cell, process, lock, time.monotonic())


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
        if event.get("event") == "epoch":
            worker.epochs = event["row"]["epoch"]
            on_event(worker.cell, event)
        elif event.get("event") == "unwritable":
            worker.unwritable = str(event.get("reason"))
        elif event.get("event") == "end":
            worker.said_end = True


def _finish(worker: _Running, on_event: Event) -> None:
    """The worker is gone: make sure that its group is too and that its cell has a run folder."""
    cell, code = worker.cell, worker.process.returncode
    end_group(worker.process)
    try:
        if code == EX_IOERR:
            raise StoreError(worker.unwritable or f"{cell.folder}: cannot be written")
        if not worker.said_end:
            _record_crash(worker, code)
        record = store.read(cell.folder)
    except store.Unreadable as reason:
        raise StoreError(f"{cell.folder}: {reason} right after it was written") from None
    finally:
        shutil.rmtree(store.temporary(cell.folder), ignore_errors=True)
        store.unlock(cell.folder, worker.lock)
    on_event(cell, {"event": "end", "status": record.status, "reason": record.reason})


def _record_crash(worker: _Running, code: int) -> None:
    """A worker that left no run folder: its cell is a row all the same."""
    cell = worker.cell
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    folder = store.temporary(cell.folder)
    folder.mkdir(exist_ok=True)
    last = _last_line(folder / "log.txt")
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
    """The last line of a log, where Python puts what went wrong."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 2000))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return "".join(c if c.isprintable() else "?" for c in lines[-1])[:200] if lines else ""


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a worker's whole process group: asked first, killed after a moment."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except (ProcessLookupError, PermissionError):
            break
        deadline = time.monotonic() + GRACE
        while sign is signal.SIGTERM and time.monotonic() < deadline:
            process.poll()
            try:
                os.killpg(process.pid, 0)
            except (ProcessLookupError, PermissionError):
                break
            time.sleep(0.02)
    process.wait()
