"""The per-epoch rows of runs, epochs.jsonl, as curves: read as data, limited in size, and never trusted.

A row has `epoch` (0: before training), `accuracy`, and `measurements` by diagnostic, as a run record has them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_core.report.rows import N
from bench_core.report.view import finite

EPOCHS = "epochs.jsonl"
LARGEST = 256 << 20  # bytes; 100 epochs of the audit are a quarter of a megabyte


@dataclass(frozen=True)
class Point:
    """One epoch of one run: ‖h_L‖, ‖g_L‖ at N = 128, accuracy; None where it was not measured or is not finite."""

    epoch: int
    h: float | None
    g: float | None
    accuracy: float | None


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run folder, by epoch; a line that is none is left out, a missing file has none."""
    path = folder / EPOCHS
    rows = []
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            return []
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    row = json.loads(line, parse_constant=_refused)
                except (ValueError, RecursionError):
                    continue
                if isinstance(row, dict) and isinstance(row.get("epoch"), int) and not isinstance(row["epoch"], bool):
                    rows.append(row)
    except OSError:
        return []
    return sorted(rows, key=lambda row: row["epoch"])


def _refused(name: str) -> Any:
    raise ValueError(name)


def _last(row: Mapping[str, Any], diagnostic: str, detail: str) -> float | None:
    """The last entry of a list in the details of a measurement."""
    found: Any = row.get("measurements")
    for key in (diagnostic, "details", detail):
        found = found.get(key) if isinstance(found, dict) else None
    return finite(found[-1]) if isinstance(found, list) and found else None


def curve(rows: list[dict[str, Any]]) -> list[Point]:
    """‖h_L‖, ‖g_L‖ and accuracy by epoch."""
    points = []
    for row in rows:
        g = _last(row, "reference_floor", "g")
        points.append(
            Point(
                row["epoch"],
                _last(row, "scale_growth", "h"),
                None if g is None else g / N,
                finite(row.get("accuracy")),
            )
        )
    return points


def thinned(points: list[Point], most: int) -> list[Point]:
    """At most about `most` points, evenly, with the first and the last."""
    if len(points) <= most:
        return points
    step = -(-len(points) // most)
    kept = points[::step]
    return kept if kept[-1] is points[-1] else [*kept, points[-1]]
