"""Estimate the time left of a sweep from the epochs that its cells have finished.

A cell needs (epochs left) · (seconds of an epoch), in wall time with its measurements. An epoch
takes as long as the epochs of the cell so far; before its first epoch, as long as those of the
same rule, else as the mean of all. As many cells run at once as now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

from bench_core.execution.events import Event, ended

if TYPE_CHECKING:
    from bench_core.execution.planning.plan import PlannedCell
    from bench_core.results.record import Cell


@dataclass(frozen=True)
class Progress:
    """The epochs left of a cell, and the seconds of one.

    rule     cells of equal rules take about as long
    left     epochs left; 0 once the cell has ended
    seconds  of an epoch; None: not known yet
    running  whether a worker trains it now
    """

    rule: str
    left: int
    seconds: float | None = None
    running: bool = False


def rule_of(cell: Cell) -> str:
    """Name the rule of a cell, with frozen blocks or not, for `Progress`."""
    return f"{cell.method.name} {cell.method.params.get('freeze')}"


def seconds_left(cells: Iterable[Progress]) -> float | None:
    """Estimate the seconds until all cells have ended; None if no epoch has ended yet."""
    cells = list(cells)
    known = [cell for cell in cells if cell.seconds is not None]
    if not any(cell.left for cell in cells):
        return 0.0
    if not known:
        return None
    overall = fmean(cell.seconds or 0.0 for cell in known)
    by_rule: dict[str, list[float]] = {}
    for cell in known:
        by_rule.setdefault(cell.rule, []).append(cell.seconds or 0.0)
    means = {rule: fmean(own) for rule, own in by_rule.items()}

    def cost(cell: Progress) -> float:
        seconds = means.get(cell.rule, overall) if cell.seconds is None else cell.seconds
        return cell.left * seconds

    costs = [cost(cell) for cell in cells]
    at_once = max(1, sum(cell.running for cell in cells))
    return max(sum(costs) / at_once, *costs)


@dataclass
class _Trained:
    """The epochs of a cell since the first row that its worker reported."""

    rule: str
    last: int
    begun: int = 0  # epochs that a saved state has
    since: float = 0.0
    latest: float = 0.0
    first: int = -1  # the epoch of the first row
    epoch: int = -1
    running: bool = False
    ended: bool = False

    def progress(self) -> Progress:
        epochs = self.epoch - self.first
        seconds = (self.latest - self.since) / epochs if epochs > 0 else None
        left = 0 if self.ended else self.last - max(self.epoch, self.begun)
        return Progress(self.rule, left, seconds, self.running)


@dataclass
class Forecast:
    """The time left of cells that run, from the executor's events."""

    cells: Sequence[PlannedCell]
    clock: Callable[[], float] = time.monotonic
    trained: dict[str, _Trained] = field(init=False)

    def __post_init__(self) -> None:
        self.trained = {
            cell.identity: _Trained(rule_of(cell.cell), cell.cell.last_epoch, cell.begun)
            for cell in self.cells
        }

    def event(self, cell: PlannedCell, event: Event) -> None:
        """Take an event of the executor."""
        own, now = self.trained[cell.identity], self.clock()
        if event["event"] == "start":
            own.running = True
        elif event["event"] == "epoch":
            own.epoch, own.latest = event["row"]["epoch"], now
            if own.first < 0:
                own.first, own.since = own.epoch, now
        elif ended(event):
            own.running, own.ended = False, True

    def seconds_left(self, identity: str | None = None) -> float | None:
        """Estimate the seconds until all cells have ended, or this one."""
        if identity is not None:
            return seconds_left([self.trained[identity].progress()])
        return seconds_left(own.progress() for own in self.trained.values())
