"""Show the progress of `bench run`: live bars on a terminal, a line per ended cell elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from bench_core.analysis.judge import label
from bench_core.commands.options import spared
from bench_core.execution.plan import PlannedCell
from bench_core.report.escape import visible
from bench_core.report.terminal import echo


def title(cell: PlannedCell, peers: Sequence[PlannedCell]) -> str:
    """Return `dfa[penalty=0.01] · seed 42`, without the cell's architecture, data and training."""
    method = cell.cell.method
    name = label(method, [peer.cell.method for peer in peers], {method.name: cell.defaults})
    return f"{visible(name)} · seed {cell.cell.seed}"


def outcome(event: dict[str, Any], last: dict[str, Any] | None) -> str:
    """Say how a cell ended."""
    record = event["record"]
    if event["event"] == "reused":
        return f"{record.status} by another runner"
    if record.status == "done" and last is not None:
        epochs = "1 epoch" if last["epoch"] == 1 else f"{last['epoch']} epochs"
        return f"accuracy {last['accuracy']:.3f} after {epochs}"
    return f"{record.status}: {visible(record.reason or '')}"


class Plain(AbstractContextManager["Plain"]):
    """Print one line per ended cell, without control codes."""

    def __init__(self, cells: Sequence[PlannedCell]) -> None:
        self.cells, self.done = cells, 0
        self.last: dict[str, dict[str, Any]] = {}

    def __exit__(self, *exc: object) -> None:
        pass

    def event(self, cell: PlannedCell, event: dict[str, Any]) -> None:
        """Take an event of the executor."""
        if event["event"] == "epoch":
            self.last[cell.identity] = event["row"]
        elif event["event"] in ("end", "reused"):
            self.done += 1
            text = outcome(event, self.last.get(cell.identity))
            echo(f"[{self.done}/{len(self.cells)}] {title(cell, self.cells)} · {text}")


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
            progress.TimeRemainingColumn(),
            console=Console(highlight=False),
            transient=True,
        )
        self.total = self.bars.add_task("cells", total=len(cells), note="")
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> Plain:
        self.bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.bars.stop()

    def event(self, cell: PlannedCell, event: dict[str, Any]) -> None:
        name = title(cell, self.cells)
        if event["event"] == "start":
            last = cell.cell.last_epoch
            self.tasks[cell.identity] = self.bars.add_task(f"  {name}", total=last, note="")
        elif event["event"] == "epoch":
            row = event["row"]
            task = self.tasks[cell.identity]
            self.bars.update(task, completed=row["epoch"])
            if row["accuracy"] is not None:
                self.bars.update(task, note=f"accuracy {row['accuracy']:.3f}")
        else:
            self.bars.advance(self.total)
            if cell.identity in self.tasks:
                self.bars.remove_task(self.tasks.pop(cell.identity))
            if event["record"].status != "done":
                self.bars.console.print(f"{name} · {outcome(event, None)}", markup=False)


class Spared(AbstractContextManager["Spared"]):
    """A display that ends no training: its first fault is a warning and its last event."""

    def __init__(self, display: Plain) -> None:
        self.display, self.works = display, True

    def __enter__(self) -> Spared:
        with spared("progress"):
            self.display.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        with spared("progress"):
            self.display.__exit__(*exc)

    def event(self, cell: PlannedCell, event: dict[str, Any]) -> None:
        if self.works:
            self.works = False
            with spared("progress"):
                self.display.event(cell, event)
                self.works = True


def choose(cells: Sequence[PlannedCell]) -> Spared:
    """Return bars on a terminal, lines elsewhere."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    return Spared(Live(cells) if terminal else Plain(cells))
