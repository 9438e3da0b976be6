"""Turn the rows of epochs.jsonl into curves: ‖h_L‖, ‖g_L‖ and accuracy by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_core.report.rows import N
from bench_core.report.view import finite, last_of
from bench_core.results import epochs
from bench_core.results.epochs import Epoch
from bench_core.results.store import Unreadable


@dataclass(frozen=True)
class Point:
    """One epoch: ‖h_L‖, ‖g_L‖ at N = 128 and accuracy; None: not measured or not finite."""

    epoch: int
    h: float | None
    g: float | None
    accuracy: float | None


def read_rows(folder: Path) -> tuple[Epoch, ...]:
    """Read the epochs of a run folder; a folder that cannot be read has no epochs."""
    try:
        return epochs.read(folder)
    except Unreadable:
        return ()


def curve(rows: Sequence[Epoch]) -> list[Point]:
    """Return ‖h_L‖, ‖g_L‖ and accuracy by epoch."""
    points = []
    for row in rows:
        g = last_of(row.measurements.get("reference_floor"), "g")
        h = last_of(row.measurements.get("scale_growth"), "h")
        points.append(Point(row.epoch, h, None if g is None else g / N, finite(row.accuracy)))
    return points
