"""Draw the leaderboard: mean accuracies with their intervals, every seed, and the floors."""

from __future__ import annotations

from typing import Any

from bench_core.analysis.leaderboard import Group, Row
from bench_core.report.figures.drawing import (
    BLUE,
    GREY,
    ORANGE,
    YELLOW,
    Figure,
    Key,
    by_key,
    chart,
    counted,
    interval,
    panel,
    picked,
)
from bench_core.report.numbers import fraction
from bench_core.report.view import View, name_of, rounded

MOST = 80  # rows drawn
KEYS = (
    Key("trustworthy", BLUE, "circle"),
    Key("walked back", ORANGE, "triangle-up"),
    Key("undetermined", YELLOW, "square"),
    Key("floor", GREY, "diamond"),
)


def ranking(view: View, group: Group) -> list[Figure]:
    """Draw a recipe with a finished run."""
    finished = [row for row in group.rows if row.accuracy is not None]
    if not finished:
        return []
    rows = finished[:MOST]
    n = counted([row.accuracy.n for row in rows if row.accuracy], "seed")
    caption = (
        "Mean accuracy after the last epoch with its 95 % interval (Student t over seeds); small "
        f"ticks are the seeds. n = {n} per method. A method that does not clear the "
        "diamond of its floor has learned nothing in its blocks."
    )
    if len(finished) > len(rows):
        caption += f" The {len(rows)} best of {len(finished)} rows are drawn."
    made = panel("test accuracy", _layers(rows), 22 * len(rows))
    return [Figure(caption, (made,), KEYS, columns=1)]


def _kind(row: Row) -> str:
    """Return the legend's name of a row: the worst kind among its runs, or floor."""
    kinds = {"floor"} if row.role == "floor" else {run.judgement.kind for run in row.finished}
    order = ("floor", "walked back", "undetermined")
    return next((kind for kind in order if kind in kinds), "trustworthy")


def _layers(rows: list[Row]) -> list[Any]:
    import altair as alt

    means = [
        {"method": name_of(row), "kind": _kind(row), "n": row.accuracy.n, "verdict": row.verdict}
        | interval(row.accuracy, fraction)
        for row in rows
        if row.accuracy is not None
    ]
    seeds = [
        {
            "method": name_of(row),
            "seed": run.record.cell.seed,
            "accuracy": rounded(run.record.accuracy),
        }
        for row in rows
        for run in row.finished
    ]
    names = [name_of(row) for row in rows]
    y = alt.Y("method:N", sort=names, title=None, scale=alt.Scale(domain=names))
    scale, axis = alt.Scale(zero=False, padding=10), alt.Axis(tickCount=8)
    base = chart(means).encode(y=y, opacity=picked("kind", 1.0))
    bars = base.mark_rule(strokeWidth=2).encode(
        alt.X("low:Q", title=None, scale=scale, axis=axis),
        x2="high:Q",
        **by_key(KEYS, "kind", "color"),
    )
    points = base.mark_point(filled=True, size=90).encode(
        x="value:Q",
        tooltip=["method:N", alt.Tooltip("read:N", title="accuracy"), "n:Q", "verdict:N"],
        **by_key(KEYS, "kind", "color", "shape"),
    )
    ticks = (
        chart(seeds)
        .mark_tick(thickness=1.5, size=12, opacity=0.6, color=GREY)
        .encode(
            y=y,
            x="accuracy:Q",
            tooltip=["method:N", alt.Tooltip("seed:Q", format="d"), "accuracy:Q"],
        )
    )
    return [bars, ticks, points]
