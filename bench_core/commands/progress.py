"""Show the progress of `bench run`: bars on a terminal, a table in a notebook, lines elsewhere.

Every display has an estimate of the time left (`bench_core.execution.forecast`). Off a terminal a
line stands for every ended cell, and at least one every two minutes for the running cells.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from bench_core.commands.options import spared
from bench_core.execution.events import Ended, Event, ended
from bench_core.execution.forecast import Forecast
from bench_core.execution.planning.cell_names import names_of
from bench_core.execution.planning.plan import PlannedCell
from bench_core.report.text.escape import visible
from bench_core.report.text.numbers import fraction
from bench_core.report.text.terminal import echo
from bench_core.results.duration import spoken

PAUSE = 100.0  # seconds without a line after which the running cells get one
WAITING = "waiting: another runner, or a queue, has the cells that are left"
MOST = 4  # running cells in one line


def outcome(event: Ended, last: dict[str, Any] | None) -> str:
    """Say how a cell ended."""
    record = event["record"]
    if event["event"] == "reused":
        return f"{record.status} by another runner"
    if record.status == "done" and last is not None:
        epochs = "1 epoch" if last["epoch"] == 1 else f"{last['epoch']} epochs"
        read = "validation " * (record.cell.data.get("evaluate_on") == "validation")
        return f"{read}accuracy {fraction(last['accuracy'])} after {epochs}"
    return f"{record.status}: {visible(record.reason or '')}"


def time_left(seconds: float | None) -> str:
    """Return `about 12 min left`; empty if it is not known, or if nothing is left."""
    return f"about {spoken(seconds)} left" if seconds and seconds >= 1 else ""


def reached(epoch: int, last: int, accuracy: float | None) -> str:
    """Return `epoch 3 of 30, accuracy .412`; last: 0 if it is not known."""
    of = f" of {last}" if last else ""
    return f"epoch {epoch}{of}" + ("" if accuracy is None else f", accuracy {fraction(accuracy)}")


class Plain(AbstractContextManager["Plain"]):
    """Print lines without control codes: one per ended cell, and others while cells run."""

    def __init__(self, cells: Sequence[PlannedCell], pause: float = PAUSE) -> None:
        self.cells, self.pause, self.done = cells, pause, 0
        self.forecast = Forecast(cells)
        identities = [cell.identity for cell in cells]
        self.names = dict(zip(identities, map(visible, names_of(cells)), strict=True))
        self.last: dict[str, dict[str, Any]] = {}
        self.running: dict[str, PlannedCell] = {}
        self.spoke = time.monotonic()
        self.lock, self.ended = threading.RLock(), threading.Event()
        self.reminder = threading.Thread(target=self._remind, daemon=True)

    def __enter__(self) -> Plain:
        self.reminder.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.ended.set()
        self.reminder.join()  # no line comes after the end, such as below the table

    def event(self, cell: PlannedCell, event: Event) -> None:
        """Take an event of the executor."""
        with self.lock:
            self.take(cell, event)
            if end := ended(event):
                text = outcome(end, self.last.get(cell.identity))
                self.say(f"{self.names[cell.identity]} · {text}")

    def take(self, cell: PlannedCell, event: Event) -> None:
        """Keep what an event says of the cells."""
        self.forecast.event(cell, event)
        if event["event"] == "start":
            self.running[cell.identity] = cell
        elif event["event"] == "epoch":
            self.last[cell.identity] = event["row"]
        elif ended(event):
            self.done += 1
            self.running.pop(cell.identity, None)

    def say(self, text: str) -> None:
        """Print a line with the number of ended cells and the time left."""
        self.spoke = time.monotonic()
        left = time_left(self.forecast.seconds_left())
        echo(" · ".join(filter(None, [f"[{self.done}/{len(self.cells)}] {text}", left])))

    def say_running(self) -> None:
        """Print a line about the running cells."""
        with self.lock:
            cells = [self.describe(cell) for cell in self.running.values()]
            more = [f"and {len(cells) - MOST} more"] if len(cells) > MOST else []
            self.say("; ".join([*cells[:MOST], *more]) or WAITING)

    def describe(self, cell: PlannedCell) -> str:
        """Return name, epoch and accuracy of a running cell."""
        row = self.last.get(cell.identity, {"epoch": 0, "accuracy": None})
        text = reached(row["epoch"], cell.cell.last_epoch, row["accuracy"])
        return f"{self.names[cell.identity]} · {text}"

    def _remind(self) -> None:
        """Print a line whenever none was printed for a while, until the cells have ended."""
        while not self.ended.wait(max(0.0, self.spoke + self.pause - time.monotonic())):
            if time.monotonic() >= self.spoke + self.pause:
                with spared("progress"):
                    self.say_running()


class Live(Plain):
    """Show a bar for the suite and a bar for every running cell."""

    def __init__(self, cells: Sequence[PlannedCell]) -> None:
        from rich import progress
        from rich.console import Console

        super().__init__(cells)
        self.bars = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=20),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[note]}", markup=False),
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.fields[left]}", markup=False),
            console=Console(highlight=False),
            transient=True,
        )
        self.total = self.bars.add_task("cells", total=len(cells), note="", left="")
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> Plain:
        self.bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.bars.stop()

    def event(self, cell: PlannedCell, event: Event) -> None:
        name, identity = self.names[cell.identity], cell.identity
        self.take(cell, event)
        if event["event"] == "start":
            last = cell.cell.last_epoch
            self.tasks[identity] = self.bars.add_task(f"  {name}", total=last, note="", left="")
        elif event["event"] == "epoch":
            row, left = event["row"], time_left(self.forecast.seconds_left(identity))
            self.bars.update(self.tasks[identity], completed=row["epoch"], left=left)
            if row["accuracy"] is not None:
                self.bars.update(self.tasks[identity], note=f"accuracy {fraction(row['accuracy'])}")
        elif end := ended(event):
            self.bars.advance(self.total)
            if identity in self.tasks:
                self.bars.remove_task(self.tasks.pop(identity))
            if end["record"].status != "done":
                self.bars.console.print(f"{name} · {outcome(end, None)}", markup=False)
        self.bars.update(self.total, left=time_left(self.forecast.seconds_left()))


class Notebook(Plain):
    """Show the running cells in the output of a notebook's cell."""

    handle: Any = None

    def __enter__(self) -> Plain:
        from IPython.display import display

        self.handle = display({"text/plain": self.text()}, raw=True, display_id=True)
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def text(self) -> str:
        """Return the number of ended cells, the time left, and a line per running cell."""
        left = time_left(self.forecast.seconds_left())
        head = ", ".join(filter(None, [f"{self.done} of {len(self.cells)} cells", left]))
        return "\n".join([head, *map(self.describe, self.running.values())])

    def event(self, cell: PlannedCell, event: Event) -> None:
        self.take(cell, event)
        self.handle.update({"text/plain": self.text()}, raw=True)


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


class Spared(AbstractContextManager["Spared"]):
    """Forward events to a display. After its first error, warn once and forward nothing more."""

    def __init__(self, display: Plain) -> None:
        self.display, self.works = display, True

    def __enter__(self) -> Spared:
        with spared("progress"):
            self.display.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        with spared("progress"):
            self.display.__exit__(*exc)

    def event(self, cell: PlannedCell, event: Event) -> None:
        if self.works:
            self.works = False
            with spared("progress"):
                self.display.event(cell, event)
                self.works = True


def choose(cells: Sequence[PlannedCell]) -> Spared:
    """Return bars on a terminal, a table in a notebook, lines elsewhere."""
    if in_notebook():
        return Spared(Notebook(cells))
    terminal = sys.stdout is not None and sys.stdout.isatty()
    return Spared(Live(cells) if terminal else Plain(cells))
