"""Draw how much the verdicts depend on the thresholds: the band over which no verdict changes."""

from __future__ import annotations

import math
from typing import Any

from bench_core.analysis.sensitivity import CIRCULAR, Sensitivity
from bench_core.report.criteria import criterion_of
from bench_core.report.figures.audit import MOST
from bench_core.report.figures.drawing import (
    BLUE,
    GREEN,
    ORANGE,
    SMALLEST,
    Figure,
    Key,
    Panel,
    by_key,
    chart,
    limit_line,
    log_axis,
    panel,
    picked,
)
from bench_core.report.numbers import compact
from bench_core.report.view import View, finite, name_of, plural, rounded

KEYS = (Key("healthy", BLUE, "circle"), Key("degenerate", ORANGE, "triangle-up"))


def sensitivity(view: View) -> list[Figure]:
    """Draw a suite: its thresholds serve all recipes."""
    panels = [
        _panel(item, points) for item in view.sensitivities if (points := _points(view, item))
    ]
    if not panels:
        return []
    runs = plural(max(item.n for item in view.sensitivities), "judged run")
    caption = (
        "The shaded band holds the thresholds over which no run changes its verdict; the dashed "
        "line is the threshold in force, the marks are the runs. Triangles: degenerate, that is "
        f"walked back by a diagnostic of the network itself. n = {runs}. A wide band says that the "
        f"threshold hardly matters here, not that it is right: {CIRCULAR}."
    )
    return [Figure(caption, tuple(panels), KEYS)]


def in_words(item: Sensitivity) -> str:
    """Return the band as an interval, such as `[12, 693)`: open at the end where a run lies."""
    low, high = (criterion_of(item).shown(end) for end in item.band)
    left, right = ("[", ")") if item.direction == "above" else ("(", "]")
    lower = "(−∞" if low == -math.inf else left + compact(low)
    return f"{lower}, " + ("∞)" if high == math.inf else compact(high) + right)


def _points(view: View, item: Sensitivity) -> list[dict[str, Any]]:
    """Return the data of the runs that have a value of the diagnostic."""
    labels = {run.record.identity: name_of(row) for _, row, run in view.runs}
    return [
        {
            "method": labels[point.run.record.identity],
            "seed": point.run.record.cell.seed,
            "state": "degenerate" if point.degenerate else "healthy",
            "value": rounded(_shown(item, point.value)),
        }
        for point in item.points[:MOST]
        if finite(point.value) is not None
    ]


def _shown(item: Sensitivity, number: float) -> float:
    """Return a stored number as the axis shows it."""
    criterion = criterion_of(item)
    number = criterion.shown(number)
    return max(number, SMALLEST) if criterion.log else number


def _panel(item: Sensitivity, points: list[dict[str, Any]]) -> Panel:
    import altair as alt

    criterion = criterion_of(item)
    limit = _shown(item, item.threshold)
    ends = [_shown(item, end) if math.isfinite(end) else end for end in item.band]
    values = [*(point["value"] for point in points), limit, *filter(math.isfinite, ends)]
    low, high = min(values), max(values)
    if criterion.log:
        low, high = low / 2, high * 2
        scale, axis = alt.Scale(type="log", domain=[low, high], nice=False), log_axis(values)
    else:
        margin = 0.08 * (high - low or 1)
        low, high = low - margin, high + margin
        scale = alt.Scale(domain=[low, high], nice=False)
        axis = alt.Axis(title=None, tickCount=6, format="~g")
    band = {
        "low": rounded(max(ends[0], low)),
        "high": rounded(min(ends[1], high)),
        "read": in_words(item),
    }
    shaded = (
        chart([band])
        .mark_rect(color=GREEN, opacity=0.18)
        .encode(
            x=alt.X("low:Q", scale=scale, axis=axis),
            x2="high:Q",
            tooltip=[alt.Tooltip("read:N", title="no verdict changes")],
        )
    )
    dots = (
        chart(points)
        .mark_point(filled=True, size=70)
        .encode(
            x="value:Q",
            y=alt.Y("state:N", sort=["healthy", "degenerate"], title=None),
            opacity=picked("state", 0.7),
            tooltip=[
                "method:N",
                alt.Tooltip("seed:Q", format="d"),
                alt.Tooltip("value:Q", format=".3~g"),
                "state:N",
            ],
            **by_key(KEYS, "state", "color", "shape"),
        )
    )
    rule = limit_line(limit, f"limit {compact(limit)}")[0]
    return panel(criterion.title, [shaded, rule, dots], 62)
