"""The local executor: several cells at once on this machine, each in a worker process of its own (`executors.supervise`).

A cell that another runner holds is waited for and then reused. When the results folder cannot be written the whole sweep stops,
with one line: the other cells would fail in the same way.
"""

from __future__ import annotations

import os
import selectors
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench_core.execution.devices import Leases, environment, visible
from bench_core.execution.executors import Event, Job, Options, supervise
from bench_core.execution.plan import PlannedCell
from bench_core.results import store
from bench_core.results.record import RunRecord

POLL = 0.2  # seconds between looks at the workers


@dataclass
class _Running:
    """A cell at work, with the lock and the device that it holds."""

    cell: PlannedCell
    worker: supervise.Worker
    lock: int
    device: str
    exit: (
        int | None
    )  # a descriptor that is ready once the process is gone, where the system has such


def default_slots(cells: Sequence[PlannedCell], per_gpu: int) -> int:
    """As many cells at once as there are cores for their threads, or slots on the accelerators."""
    if any(cell.device != "cpu" for cell in cells):
        return max(1, len(visible())) * per_gpu
    threads = max((cell.cell.training["threads"] for cell in cells), default=1)
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, cores // threads)


def execute(
    cells: Sequence[PlannedCell],
    job: Callable[[PlannedCell], Job],
    on_event: Event,
    options: Options,
) -> None:
    """Run the cells; the contract is that of `bench_core.execution.executors`."""
    slots = options.slots or default_slots(cells, options.per_gpu)
    deadline = time.monotonic() + options.sweep_seconds if options.sweep_seconds else None
    leases = Leases(options.per_gpu)
    waiting = deque(cells)
    running: list[_Running] = []
    selector = selectors.DefaultSelector()
    try:
        while waiting or running:
            for _ in range(len(waiting)):
                if len(running) >= slots:
                    break
                cell = waiting.popleft()
                device = leases.take(cell.device)
                lock = store.lock(cell.folder) if device is not None else None
                if (
                    device is None or lock is None
                ):  # no slot on its device, or another runner is at it
                    leases.give(device or "")
                    waiting.append(cell)
                    continue
                started = None
                try:
                    record = supervise.finished_elsewhere(cell.folder, cell.stamp)
                    over = deadline is not None and time.monotonic() >= deadline
                    skipped = _skip(cell, job(cell), options) if over and record is None else None
                    if record is None and skipped is None:
                        seen = {**job(cell), "device": "cuda"} if device else job(cell)
                        worker = supervise.start(seen, lock, environment(device))
                        started = _Running(cell, worker, lock, device, _exit_of(worker))
                        running.append(started)
                        for descriptor in (worker.pipe, started.exit):
                            if descriptor is not None:
                                selector.register(descriptor, selectors.EVENT_READ, started)
                finally:
                    if started is None:
                        store.unlock(cell.folder, lock)
                        leases.give(device)
                if record is not None:
                    on_event(cell, {"event": "reused", "record": record})
                else:
                    on_event(
                        cell,
                        {"event": "start"}
                        if skipped is None
                        else {"event": "end", "record": skipped},
                    )
            _listen(selector, on_event) if running else time.sleep(POLL if waiting else 0)
            for each in running:
                supervise.watch(each.worker)
            for each in [each for each in running if each.worker.process.poll() is not None]:
                _tell(each, on_event)
                running.remove(each)
                _end(each, selector, leases, on_event)
    except KeyboardInterrupt:
        supervise.interrupt([each.worker for each in running])
        raise
    finally:
        supervise.end([each.worker for each in running])
        for each in running:
            store.unlock(each.cell.folder, each.lock)
            _close(each)
        selector.close()


def _skip(cell: PlannedCell, job: Job, options: Options) -> RunRecord:
    """A row for a cell that the sweep had no time for; an older row stays."""
    if os.path.lexists(cell.folder):
        return store.read(cell.folder)
    store.clear_temporary(cell.folder)
    return supervise.leave_row(
        job, "skipped", f"the sweep's budget of {options.sweep_seconds:g} s was spent"
    )


def _exit_of(worker: supervise.Worker) -> int | None:
    return os.pidfd_open(worker.process.pid) if hasattr(os, "pidfd_open") else None


def _close(each: _Running) -> None:
    if each.exit is not None:
        os.close(each.exit)


def _listen(selector: selectors.BaseSelector, on_event: Event) -> None:
    """Wait a moment for events and hand them on."""
    for key, _ in selector.select(POLL):
        if key.fileobj is key.data.worker.pipe:
            _tell(key.data, on_event)
            if key.data.worker.deaf:  # a closed pipe would be ready for ever
                selector.unregister(key.fileobj)


def _tell(each: _Running, on_event: Event) -> None:
    for event in supervise.heard(each.worker):
        on_event(each.cell, event)


def _end(each: _Running, selector: selectors.BaseSelector, leases: Leases, on_event: Event) -> None:
    """A worker is gone: its row, and what it held."""
    for descriptor in (each.worker.pipe, each.exit):
        if descriptor is not None and descriptor in selector.get_map():
            selector.unregister(descriptor)
    try:
        record = supervise.finish(each.worker)
    finally:
        store.unlock(each.cell.folder, each.lock)
        leases.give(each.device)
        _close(each)
    on_event(each.cell, {"event": "end", "record": record})
