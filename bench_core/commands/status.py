"""`bench status`: what runs in results folders now, from any shell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench_core.commands.options import (
    json_option,
    print_json,
    results_argument,
    shown_folders,
)
from bench_core.report.text.terminal import echo

if TYPE_CHECKING:
    from bench_core.execution.sweeps import CellState, SweepState


@click.command()
@results_argument
@json_option
def status(results: tuple[Path, ...], as_json: bool) -> None:
    """Say what runs now, what waits, and how long it will take.

    The answer covers the cells of the last `bench run` or `bench tune`. It comes from the folders,
    so any shell can ask while they work. RESULTS are results folders or suite folders  [default:
    results].
    """
    from bench_core.execution.sweeps import sweeps

    states = sweeps(shown_folders(results))
    if as_json:
        return print_json({"suites": [_plain(state) for state in states]})
    for state in states:
        for line in _lines(state):
            echo(line)
    if not states:
        echo("no runs yet: `bench run SUITE` makes some")
    return None


def _lines(state: SweepState) -> Iterator[str]:
    from bench_core.commands.progress import time_left
    from bench_core.execution.sweeps import RUNNING, STATES, STOPPED, WAITING
    from bench_core.report.text.numbers import plural
    from bench_core.results.ledger import TRIALS

    number = plural(len(state.cells), "cell")
    cells = f"{number} of the last `bench run` or `bench tune`: " if state.planned else ""
    counts = ", ".join(f"{count} {name}" for name, count in state.counts.items())
    left = time_left(state.seconds_left)
    trials = f" ({TRIALS})" * (state.folder.resolve().parent.name == TRIALS)
    yield f"{state.name}{trials}: {cells}{counts}" + (f" · {left}" if left else "")
    for cell in state.cells:
        if cell.state in STATES and cell.state != WAITING:
            yield f"  {_described(cell)}"
    if {WAITING, STOPPED} & state.counts.keys() and RUNNING not in state.counts:
        yield "  no process of this machine is at work here; the same command continues"


def _described(cell: CellState) -> str:
    """Return `running  dfa · seed 42 · epoch 3 of 30 · for 12 min (runner: process 42)`."""
    from bench_core.commands.progress import reached
    from bench_core.results.duration import spoken

    text = f"{cell.state}  {cell.name} · {reached(cell.epoch, cell.epochs, cell.accuracy)}"
    text += f" · for {spoken(cell.seconds)}"
    text += f", last epoch {spoken(cell.silent)} ago" * (cell.epoch > 0)
    return text + (f" (runner: process {cell.pid})" if cell.pid else "")


def _plain(state: SweepState) -> dict[str, object]:
    """Return the state of a suite for JSON."""
    from dataclasses import asdict

    cells = [asdict(cell) for cell in state.cells]
    for cell in cells:
        cell.pop("progress")
    head = {"name": state.name, "folder": str(state.folder), "counts": state.counts}
    return {**head, "seconds_left": state.seconds_left, "cells": cells}
