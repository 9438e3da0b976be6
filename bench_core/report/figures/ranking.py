"""Draw the leaderboard: mean accuracies with their intervals, every seed, and the floors."""

from __future__ import annotations

import math
from typing import Any

import altair as alt

from bench_core.analysis.verdicts.kinds import FLOOR, TRUSTWORTHY, WALKED_BACK
from bench_core.analysis.verdicts.rows import Group, Row
from bench_core.report.figures import Figure, Key
from bench_core.report.figures import drawing as draw
from bench_core.report.text.numbers import plural, rounded
from bench_core.report.view import View, name_of

MOST = 80  # rows drawn
OPEN = "not settled"
KEYS = (
    Key(TRUSTWORTHY, draw.BLUE, "circle"),
    Key(WALKED_BACK, draw.ORANGE, "triangle-up"),
    Key(OPEN, draw.YELLOW, "square"),
    Key(FLOOR, draw.GREY, "diamond"),
)


def ranking(view: View, group: Group) -> list[Figure]:
    """Draw a recipe with a finished run."""
    finished = [row for row in group.rows if row.accuracy is not None]
    if not finished:
        return []
    judged = [row for row in finished if row.role != "floor"][:MOST]
    floors = [row for row in finished if row.role == "floor"][: MOST - len(judged)]
    rows = [row for row in finished if row in [*judged, *floors]]
    counts = [row.accuracy.n for row in rows if row.accuracy]
    of_rules = [row.accuracy.n for row in judged if row.accuracy] or counts
    with_floors = f", {draw.counted(counts, 'seed')} with the floors" * ({*counts} != {*of_rules})
    mean = (
        "Mean accuracy after the last epoch with its 95 % interval (Student t over seeds); small "
        "ticks are the seeds."
    )
    caption = (
        f"{mean if max(counts) > 1 else 'Accuracy after the last epoch.'} "
        f"n = {draw.counted(of_rules, 'seed')} per method{with_floors}. A diamond is the mean of "
        "the method's floor. The verdict compares the two seed by seed, so intervals may overlap."
    )
    if len(finished) > len(rows):
        left_out = len(finished) - len(rows)
        caption += f" {plural(left_out, 'row')} of {len(finished)} are not drawn, floors first."
    drawn = draw.panel("accuracy", _layers(rows), 22 * len(rows))
    kinds = {_kind(row) for row in rows}
    keys = tuple(key for key in KEYS if key.name in kinds)
    return [Figure(caption, (drawn,), keys, columns=1)]


def _kind(row: Row) -> str:
    """Return the kind of a row's verdict; undetermined, not separated and single seed are open."""
    known = {key.name for key in KEYS}
    return row.verdict.kind if row.verdict.kind in known else OPEN


def _span(rows: list[Row]) -> list[float]:
    """Return the ends of the axis: a little beyond means, intervals and seeds, within 0 and 1."""
    means = [draw.accuracy(row.accuracy) for row in rows if row.accuracy is not None]
    values = [mean[end] for mean in means for end in ("low", "value", "high")]
    seeds = (run.record.accuracy for row in rows for run in row.finished)
    values += [seed for seed in seeds if seed is not None]
    low, high = min(values), max(values)
    room = max(0.04 * (high - low), 0.002)
    ends = math.floor(1000 * (low - room)) / 1000, math.ceil(1000 * (high + room)) / 1000
    return [max(0.0, ends[0]), min(1.0, ends[1])]


def _layers(rows: list[Row]) -> list[Any]:
    means = [
        {
            "method": name_of(row),
            "kind": _kind(row),
            "n": row.accuracy.n,
            "verdict": row.verdict.text,
        }
        | draw.accuracy(row.accuracy)
        for row in rows
        if row.accuracy is not None
    ]
    runs = [(name_of(row), run.record) for row in rows for run in row.finished]
    seeds = [
        {"method": name, "seed": record.cell.seed, "accuracy": rounded(record.accuracy)}
        for name, record in runs
    ]
    names = [name_of(row) for row in rows]
    y = alt.Y("method:N", sort=names, title=None, scale=alt.Scale(domain=names))
    scale, axis = alt.Scale(domain=_span(rows)), alt.Axis(tickCount=8)
    base = draw.chart(means).encode(y=y, opacity=draw.picked("kind", opacity=1.0))
    bars = base.mark_rule(strokeWidth=2).encode(
        alt.X("low:Q", title=None, scale=scale, axis=axis),
        x2=alt.X2("high:Q"),
        **draw.by_key(KEYS, "kind", "color"),
    )
    points = base.mark_point(filled=True, size=90).encode(
        x=alt.X("value:Q"),
        tooltip=draw.tips(method="", read="accuracy", n="", verdict=""),
        **draw.by_key(KEYS, "kind", "color", "shape"),
    )
    marks = draw.chart(seeds).mark_tick(thickness=1.5, size=12, opacity=0.6, color=draw.GREY)
    tooltip = draw.tips(method="", seed="", accuracy="")
    ticks = marks.encode(y=y, x=alt.X("accuracy:Q"), tooltip=tooltip)
    return [bars, ticks, points]
