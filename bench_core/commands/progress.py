"""Show the progress of `bench run`: live bars on a terminal, plain lines elsewhere.

Plain output has one line per ended cell, and no control codes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Protocol

import click

from bench_core.analysis.judge import label
from bench_core.execution.plan import PlannedCell
from bench_core.report.escape import visible


class Progress(Protocol):
    """A display that receives every event of the executor."""

    def __enter__(self) -> Progress: ...
    def __exit__(self, *exc: object) -> None: ...
    def event(self, cell: PlannedCell, event: dict[str, Any]) -> None: ...


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


class Plain:
    """One line per ended cell."""

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
    """A bar for the suite and a bar for every running cell."""

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


def choose(cells: Sequence[PlannedCell]) -> Progress:
    """Return bars on a terminal, lines elsewhere."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    return Live(cells) if terminal else Plain(cells)
