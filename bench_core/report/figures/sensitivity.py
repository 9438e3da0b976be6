"""Draw how much flags depend on the thresholds: the band over which no run changes its flags."""

from __future__ import annotations

import math
from typing import Any

import altair as alt

from bench_core.analysis.sensitivity import CIRCULAR, Sensitivity
from bench_core.report.figures import Figure, Key, Panel
from bench_core.report.figures import drawing as draw
from bench_core.report.figures.audit import MOST
from bench_core.report.text.numbers import compact, plural, rounded
from bench_core.report.view import View, name_of
from bench_core.report.words.criteria import band_text, criterion_of
from bench_core.results.details import finite

KEYS = (Key("healthy", draw.BLUE, "circle"), Key("degenerate", draw.ORANGE, "triangle-up"))


def sensitivity(view: View) -> list[Figure]:
    """Draw a suite: its thresholds serve all recipes."""
    every = [(item, _points(view, item)) for item in view.sensitivities]
    panels = [_panel(item, points) for item, points in every if points]
    if not panels:
        return []
    runs = plural(max(item.n for item in view.sensitivities), "judged run")
    caption = (
        "The shaded band holds the thresholds over which no run changes its flags; the verdict of "
        "a rule may change for d, which compares an interval with the threshold. The dashed line "
        "is the threshold in force, the marks are the runs. Triangles: degenerate, that is "
        f"flagged by a diagnostic of the network itself. n = {runs}. A wide band says that the "
        f"threshold hardly matters here, not that it is right: {CIRCULAR}."
    )
    return [Figure(caption, tuple(panels), KEYS)]


def _points(view: View, item: Sensitivity) -> list[dict[str, Any]]:
    labels = {run.record.identity: name_of(row) for _, row, run in view.runs}
    return [
        {
            "method": labels[point.run.record.identity],
            "seed": point.run.record.cell.seed,
            "state": "degenerate" if point.degenerate else "healthy",
            "value": rounded(criterion_of(item).on_axis(point.value)),
        }
        for point in item.points[:MOST]
        if finite(point.value) is not None
    ]


def _panel(item: Sensitivity, points: list[dict[str, Any]]) -> Panel:
    criterion = criterion_of(item)
    limit = criterion.on_axis(item.threshold)
    ends = [criterion.on_axis(end) if math.isfinite(end) else end for end in item.band]
    values = [*(point["value"] for point in points), limit, *filter(math.isfinite, ends)]
    low, high = min(values), max(values)
    if criterion.log:
        low, high = low / 2, high * 2
        scale, axis = alt.Scale(type="log", domain=[low, high], nice=False), draw.log_axis(values)
    else:
        margin = 0.08 * (high - low or 1)
        low, high = low - margin, high + margin
        scale = alt.Scale(domain=[low, high], nice=False)
        axis = draw.linear_axis()
    first, last = rounded(max(ends[0], low)), rounded(min(ends[1], high))
    band = {"low": first, "high": last, "read": band_text(item)}
    shaded = draw.chart([band]).mark_rect(color=draw.GREEN, opacity=0.18)
    shaded = shaded.encode(
        x=alt.X("low:Q", scale=scale, axis=axis),
        x2=alt.X2("high:Q"),
        tooltip=draw.tips(read="no flag changes"),
    )
    value = alt.Tooltip("value:Q", format=".3~g")
    dots = draw.chart(points).mark_point(filled=True, size=70)
    dots = dots.encode(
        x=alt.X("value:Q"),
        y=alt.Y("state:N", sort=["healthy", "degenerate"], title=None),
        opacity=draw.picked("state", opacity=0.7),
        tooltip=[*draw.tips(method="", seed=""), value, *draw.tips(state="")],
        **draw.by_key(KEYS, "state", "color", "shape"),
    )
    rule = draw.limit_line(limit, f"limit {compact(limit)}")[0]
    return draw.panel(criterion.title, [shaded, rule, dots], 62)
