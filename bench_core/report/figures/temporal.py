"""The temporal figure: ‖h_L‖, ‖g_L‖ and accuracy after every epoch, with the epochs at which a diagnostic first fired."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench_core.analysis.first_firing import firings
from bench_core.analysis.leaderboard import Group, Run
from bench_core.report.curves import Point, curve, read_rows, thinned
from bench_core.report.figures.drawing import (
    DASHES,
    Figure,
    Key,
    Panel,
    chart,
    coloured,
    dashed,
    log_axis,
    panel,
    picked,
    series,
)
from bench_core.report.rows import compact, fraction
from bench_core.report.view import View, competing, name_of, plural, rounded, thresholds

MOST_RUNS = 60  # curves per recipe
MOST_RECIPES = 16
MOST_POINTS = 120  # per curve
LETTERS = ("a", "b", "c")
LETTER_SHAPES = ("triangle-up", "square", "diamond")

QUANTITIES: dict[str, tuple[str, bool, Callable[[Point], float | None]]] = {
    "h": ("‖h_L‖ (median over the probe)", True, lambda point: point.h),
    "g": ("‖g_L‖ at N = 128", True, lambda point: point.g),
    "accuracy": ("test accuracy", False, lambda point: point.accuracy),
}


def temporal(found: View) -> list[tuple[int | None, Figure]]:
    """One figure per recipe whose runs have rows by epoch; of many recipes the first."""
    made: list[tuple[int | None, Figure]] = []
    for number, group in enumerate(found.groups):
        if len(made) < MOST_RECIPES and (figure := _figure(found, group)) is not None:
            made.append((number, figure))
    return made


def _picked(group: Group) -> tuple[list[tuple[str, Run]], int]:
    """The runs that are drawn: seed by seed over all methods, until there are too many."""
    rows = competing(group)
    depth = max((len(row.runs) for row in rows), default=0)
    every = [(name_of(row), row.runs[k]) for k in range(depth) for row in rows if k < len(row.runs)]
    return every[:MOST_RUNS], len(every) - min(len(every), MOST_RUNS)


def _figure(found: View, group: Group) -> Figure | None:
    picked, left_out = _picked(group)
    drawn, marks, never, longest = [], [], 0, 0
    for name, run in picked:
        rows = read_rows(found.results.run_folder(run.record))
        if len(rows) < 2:
            continue
        points = curve(rows)
        longest = max(longest, points[-1].epoch)
        drawn.append((name, run, points))
        first = firings(rows, found.settings.thresholds, run.judgement)
        fired = {item.key: item.epoch for item in first if item.key in LETTERS}
        never += not any(epoch is not None for epoch in fired.values())
        by_epoch = {point.epoch: point for point in points}
        marks += [
            (name, run, letter, by_epoch[epoch])
            for letter, epoch in fired.items()
            if epoch is not None
        ]
    if not drawn:
        return None
    names = list(
        dict.fromkeys(
            name_of(row) for row in competing(group) if any(name_of(row) == d[0] for d in drawn)
        )
    )
    keys = series(names)
    limits = [limit for limit in thresholds(group, found.settings).get("b", ()) if limit > 0]
    panels = [
        made
        for quantity in QUANTITIES
        if (made := _panel(quantity, drawn, marks, keys, limits if quantity == "g" else []))
        is not None
    ]
    if not panels:
        return None
    caption = (
        "The residual stream, the reference gradient and the test accuracy after every epoch, epoch 0 before training; a "
        "line per run, all seeds. A mark stands where a diagnostic first fired (triangle a, square b, diamond c): from "
        f"there on the alignment or the depth of that run is in doubt. n = {plural(len(drawn), 'run')} of "
        f"{plural(len(names), 'method')} over {plural(longest, 'epoch')}; {never} never fired. Floors are not drawn."
    )
    if left_out:
        caption += f" {plural(left_out, 'further run')} not drawn."
    return Figure("temporal", "Over the epochs", caption, tuple(panels), keys, columns=3)


def _panel(
    quantity: str,
    drawn: list[tuple[str, Run, list[Point]]],
    marks: list[tuple[str, Run, str, Point]],
    keys: tuple[Key, ...],
    limits: list[float],
) -> Panel | None:
    import altair as alt

    title, log, pick_value = QUANTITIES[quantity]
    values: list[dict[str, Any]] = []
    for name, run, points in drawn:
        usable = [p for p in points if (v := pick_value(p)) is not None and (v > 0 or not log)]
        values += [
            {
                "method": name,
                "seed": run.record.cell.seed,
                "epoch": p.epoch,
                "value": rounded(pick_value(p), 4),
            }
            for p in thinned(usable, MOST_POINTS)
        ]
    if not values:
        return None
    read = fraction if quantity == "accuracy" else compact
    fired = [
        {"method": name, "seed": run.record.cell.seed, "epoch": p.epoch, "value": rounded(v, 4), "letter": letter,
         "read": f"{letter} first fires at epoch {p.epoch}", "at": read(v)}
        for name, run, letter, p in marks
        if (v := pick_value(p)) is not None and (v > 0 or not log)
    ]  # fmt: skip
    near = alt.selection_point(
        name=f"near_{quantity}", nearest=True, on="pointerover", clear="pointerout", fields=["method", "seed", "epoch"],
        empty=False,
    )  # fmt: skip
    scale = (
        alt.Scale(type="log", nice=False, padding=6) if log else alt.Scale(zero=False, padding=6)
    )
    axis = (
        log_axis([*(item["value"] for item in values), *limits], title=None)
        if log
        else alt.Axis(format="~g", tickCount=6, title=None)
    )
    y = alt.Y("value:Q", scale=scale, axis=axis)
    last = max(item["epoch"] for item in values)
    whole = (
        alt.Axis(values=list(range(last + 1)), format="d")
        if last < 6
        else alt.Axis(tickCount=6, format="d")
    )
    x = alt.X("epoch:Q", title="epoch", axis=whole, scale=alt.Scale(nice=False))
    colour = coloured(keys, "method")
    base = chart(values).encode(x=x, y=y, color=colour)
    layers: list[Any] = [
        base.mark_line(strokeWidth=1.6).encode(
            detail="seed:N",
            opacity=picked("method"),
            strokeDash=dashed(keys, "method"),
        ),
        base.mark_point(filled=True, size=60).encode(
            opacity=alt.condition(near, alt.value(1.0), alt.value(0.0)),
            tooltip=["method:N", alt.Tooltip("seed:Q", format="d"), alt.Tooltip("epoch:Q", format="d"),
                     alt.Tooltip("value:Q", title=title, format=".3~g" if quantity == "accuracy" else ".2~e")],
        ).add_params(near),
    ]  # fmt: skip
    if fired:
        layers.append(
            chart(fired)
            .mark_point(filled=False, size=110, strokeWidth=2)
            .encode(
                x=x,
                y=y,
                color=colour,
                opacity=picked("method", 1.0),
                shape=alt.Shape("letter:N", legend=None).scale(
                    domain=list(LETTERS), range=list(LETTER_SHAPES)
                ),
                tooltip=[
                    "method:N",
                    alt.Tooltip("seed:Q", format="d"),
                    alt.Tooltip("read:N", title="fires"),
                    alt.Tooltip("at:N", title=title),
                ],
            )
        )
    for limit in limits:
        line = chart([{"limit": limit, "text": f"b fires below {compact(limit)}"}])
        layers.append(
            line.mark_rule(strokeDash=list(DASHES[1]), strokeWidth=1.2).encode(
                y=alt.Y("limit:Q", scale=scale)
            )
        )
        layers.append(
            line.mark_text(align="left", dx=4, dy=-6, fontSize=10, x=0).encode(
                y=alt.Y("limit:Q", scale=scale), text="text:N"
            )
        )
    return panel(title, alt.layer(*layers), 230)
