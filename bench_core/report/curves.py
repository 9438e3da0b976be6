"""Turn the rows of epochs.jsonl into curves: ‖h_L‖, ‖g_L‖ and accuracy by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_core.report.rows import N
from bench_core.report.view import finite
from bench_core.results import epochs
from bench_core.results.epochs import Epoch
from bench_core.results.store import Unreadable


@dataclass(frozen=True)
class Point:
    """One epoch of a run: ‖h_L‖, ‖g_L‖ at N = 128, accuracy; None: not measured or not finite."""

    epoch: int
    h: float | None
    g: float | None
    accuracy: float | None


def read_rows(folder: Path) -> tuple[Epoch, ...]:
    """The rows of a run folder; none where they cannot be read: a curve that is not there is not drawn."""
    try:
        return epochs.read(folder)
    except Unreadable:
        return ()


def _last(row: Epoch, diagnostic: str, detail: str) -> float | None:
    """The last entry of a list in the details of a measurement."""
    item = row.measurements.get(diagnostic)
    found = item.details.get(detail) if item is not None else None
    return finite(found[-1]) if isinstance(found, list) and found else None


def curve(rows: Sequence[Epoch]) -> list[Point]:
    """‖h_L‖, ‖g_L‖ and accuracy by epoch."""
    points = []
    for row in rows:
        g = _last(row, "reference_floor", "g")
        h = _last(row, "scale_growth", "h")
        points.append(Point(row.epoch, h, None if g is None else g / N, finite(row.accuracy)))
    return points
