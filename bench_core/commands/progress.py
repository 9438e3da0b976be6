"""What `bench run` shows while it works: live bars on a terminal, plain lines elsewhere.

Plain output has one line per cell that ended, nothing that moves and no control codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import click

from bench_core.analysis.judge import label
from bench_core.execution.plan import PlannedCell
from bench_core.report.escape import visible


class Progress(Protocol):
    """Hears of every event of the executor."""

    def __enter__(self) -> Progress: ...
    def __exit__(self, *exc: object) -> None: ...
    def event(self, cell: PlannedCell, event: dict[str, Any]) -> None: ...


def title(cell: PlannedCell, peers: Sequence[PlannedCell]) -> str:
    """`dfa[penalty=0.01] · seed 42`, with what else sets the cell apart left to the leaderboard."""
    method = cell.cell.method
    name = label(method, [peer.cell.method for peer in peers], {method.name: cell.defaults})
    return f"{visible(name)} · seed {cell.cell.seed}"


def outcome(event: dict[str, Any], last: dict[str, Any] | None) -> str:
    """How a cell ended, in words."""
    record = event["record"]
    if event["event"] == "reused":
        return f"{record.status} by another runner"
    if record.status == "done" and last is not None:
        epochs = "1 epoch" if last["epoch"] == 1 else f"{last['epoch']} epochs"
        return f"accuracy {last['accuracy']:.3f} after {epochs}"
    return f"{record.status}: {visible(record.reason or '')}"


class Plain:
    """One line per cell that ended."""

    def __init__(self, cells: Sequence[PlannedCell]) -> None:
        self.cells, self.done = cells, 0
        self.last: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def event(self, cell: PlannedCell, event: dict[str, Any]) -> None:
        if event["event"] == "epoch":
            self.last[cell.identity] = event["row"]
        elif event["event"] in ("end", "reused"):
            self.done += 1
            text = outcome(event, self.last.get(cell.identity))
            click.echo(f"[{self.done}/{len(self.cells)}] {title(cell, self.cells)} · {text}")


class Live:
    """A bar for the suite and one for every cell at work."""

    def __init__(self, cells: Sequence[PlannedCell]) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bars

        self.cells = cells
        self.bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(highlight=False),
            transient=True,
        )
        self.total = self.bars.add_task("cells", total=len(cells), note="")
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> Progress:
        self.bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.bars.stop()

    def event(self, cell: PlannedCell, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "start":
            self.tasks[cell.identity] = self.bars.add_task(
                f"  {title(cell, self.cells)}", total=cell.cell.last_epoch, note=""
            )
        elif kind == "epoch":
            row = event["row"]
            note = f"accuracy {row['accuracy']:.3f}"
            self.bars.update(self.tasks[cell.identity], completed=row["epoch"], note=note)
        else:
            self.bars.advance(self.total)
            task = self.tasks.pop(cell.identity, None)
            if task is not None:
                self.bars.remove_task(task)
            if event["record"].status != "done":
                self.bars.console.print(
                    f"{title(cell, self.cells)} · {outcome(event, None)}", markup=False
                )


def choose(cells: Sequence[PlannedCell], terminal: bool) -> Progress:
    """Bars on a terminal, lines elsewhere."""
    return Live(cells) if terminal else Plain(cells)
