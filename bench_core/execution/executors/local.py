"""Run several cells at once on this machine, each in a worker process of its own.

A cell that another runner is at work on is waited for and then reused. If the results folder cannot
be written the whole sweep stops with one line: the other cells would fail in the same way.
"""

from __future__ import annotations

import math
import os
import selectors
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from bench_core.execution.devices import Leases, cores, environment, visible
from bench_core.execution.events import Event
from bench_core.execution.executors import JobOf, OnEvent, Options, supervise
from bench_core.execution.planning.plan import PlannedCell
from bench_core.results import locks

POLL = 0.2  # seconds between looks at the workers


@dataclass(eq=False)
class _Running:
    """A cell at work; `held` releases its lock, its device and its place in the selector."""

    cell: PlannedCell
    worker: supervise.Worker
    held: ExitStack


def default_slots(cells: Sequence[PlannedCell], per_gpu: int) -> int:
    """Return how many cells run at once: by cores for their threads, or by accelerators."""
    if any(cell.device != "cpu" for cell in cells):
        return max(1, len(visible())) * per_gpu
    threads = max((cell.cell.training["threads"] for cell in cells), default=1)
    return max(1, cores() // threads)


def execute(cells: Sequence[PlannedCell], job: JobOf, on_event: OnEvent, options: Options) -> None:
    """Run the cells; `bench_core.execution.executors` has the contract."""
    slots = options.slots or default_slots(cells, options.per_gpu)
    waiting = list(cells)
    with _Sweep(job, on_event, options) as sweep:
        while waiting or sweep.running:
            for cell in waiting.copy():
                if len(sweep.running) >= slots:
                    break
                if sweep.begin(cell):
                    waiting.remove(cell)
            if sweep.running:
                _listen(sweep.selector, on_event)
            elif waiting:
                time.sleep(POLL)
            waiting += sweep.end_finished()


class _Sweep:
    """The cells at work, and the devices that they hold."""

    def __init__(self, job: JobOf, on_event: OnEvent, options: Options) -> None:
        self.job, self.on_event = job, on_event
        self.deadline = time.monotonic() + (options.sweep_seconds or math.inf)
        self.leases = Leases(options.per_gpu)
        self.running: list[_Running] = []
        self.orphans: set[str] = set()  # identities of cells whose fork server ended
        self.selector = selectors.DefaultSelector()

    def __enter__(self) -> _Sweep:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        workers = [running.worker for running in self.running]
        try:
            if kind is not None and issubclass(kind, KeyboardInterrupt):
                supervise.interrupt(workers)
        finally:
            supervise.end(workers)
            for running in self.running:
                running.held.close()
            self.selector.close()

    def begin(self, cell: PlannedCell) -> bool:
        """Start the worker of a cell; False if its device or its run folder is taken."""
        with ExitStack() as held:
            device = self.leases.take(cell.device)
            if device is None:
                return False
            held.callback(self.leases.give, device)
            lock = held.enter_context(locks.locked(cell.folder))
            if lock is not None:
                event = self._start(cell, lock, device, held)
            elif time.monotonic() >= self.deadline:
                record = supervise.left(self.job(cell), supervise.BUSY)
                event = {"event": "end", "record": record}
            else:
                return False
        self.on_event(cell, event)
        return True

    def _start(self, cell: PlannedCell, lock: int, device: str, held: ExitStack) -> Event:
        job = self.job(cell)
        record = supervise.finished_elsewhere(cell.folder, cell.stamp, job)
        if record is not None:
            return {"event": "reused", "record": record}
        if time.monotonic() >= self.deadline:
            return {"event": "end", "record": supervise.skip(job)}
        if device:
            job = {**job, "device": "cuda"}  # the worker sees the leased one alone
        orphaned = cell.identity in self.orphans
        worker = supervise.start(job, lock, environment(device), not orphaned)
        worker.orphaned = orphaned
        running = _Running(cell, worker, held.pop_all())
        self.running.append(running)
        self._listen_to(worker.pipe, running)
        # ready once the process is gone; a system may lack or refuse it, and is asked every POLL
        with suppress(AttributeError, OSError):
            descriptor = os.pidfd_open(worker.process.pid)
            running.held.callback(os.close, descriptor)
            self._listen_to(descriptor, running)
        return {"event": "start"}

    def _listen_to(self, descriptor: Any, running: _Running) -> None:
        self.selector.register(descriptor, selectors.EVENT_READ, running)
        running.held.callback(_unregister, self.selector, descriptor)

    def end_finished(self) -> list[PlannedCell]:
        """Hold the workers to their budgets, and keep the runs of those that have ended.

        Returns the cells that must start again, because the process that their worker was forked
        from has ended.
        """
        again = []
        for running in self.running:
            supervise.watch(running.worker)
        for running in [r for r in self.running if r.worker.process.poll() is not None]:
            _report(running, self.on_event)
            self.running.remove(running)
            with running.held:
                if supervise.server_ended_first(running.worker):
                    supervise.end([running.worker])
                    again.append(running.cell)
                    continue
                record = supervise.finish(running.worker)
            self.on_event(running.cell, {"event": "end", "record": record})
        self.orphans |= {cell.identity for cell in again}
        return again


def _unregister(selector: selectors.BaseSelector, descriptor: Any) -> None:
    with suppress(KeyError, ValueError):  # a closed pipe is not registered any more
        selector.unregister(descriptor)


def _listen(selector: selectors.BaseSelector, on_event: OnEvent) -> None:
    """Wait a moment for events and report them."""
    for key, _ in selector.select(POLL):
        if key.fileobj is key.data.worker.pipe:
            _report(key.data, on_event)
            if key.data.worker.closed:  # a closed pipe would be ready for ever
                selector.unregister(key.fileobj)


def _report(running: _Running, on_event: OnEvent) -> None:
    for event in supervise.new_events(running.worker):
        on_event(running.cell, event)
