"""Draw a suite over one of its axes: penalty, depth of the network, normalisation of the credit."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from bench_core.analysis.judge import option
from bench_core.analysis.leaderboard import Group, Row
from bench_core.analysis.stats import Estimate
from bench_core.report.escape import visible
from bench_core.report.figures.drawing import (
    GREY,
    Figure,
    Key,
    by_key,
    chart,
    counted,
    interval,
    measured,
    panel,
    picked,
    series,
)
from bench_core.report.numbers import compact, fraction, signed
from bench_core.report.rows import gamma, median_of
from bench_core.report.view import View, competing, plural, rounded, state_norm
from bench_core.results.hashing import canonical, jsonable

Point = dict[str, Any]


def penalty(view: View, group: Group) -> list[Figure]:
    """Draw each rule without and with the branch penalty; of more values see `lambda_sweep`."""
    say = (
        "What a penalty λ on the branches rescues: accuracy, the size of the residual stream and "
        "deep alignment."
    )
    entries = _varied(group, _penalty_of, ("penalty",), alone=True)
    values = {entry.at for entry in entries}
    return _figure(say, "penalty λ", entries, tuple(QUANTITIES)) if len(values) == 2 else []


def lambda_sweep(view: View, group: Group) -> list[Figure]:
    """Draw rules over three or more values of λ."""
    say = "How strong the penalty must be: λ from none upward, equally spaced whatever its value."
    entries = _varied(group, _penalty_of, ("penalty",))
    values = {entry.at for entry in entries}
    return _figure(say, "penalty λ", entries, THREE) if len(values) > 2 else []


def normalization(view: View, group: Group) -> list[Figure]:
    """Draw rules under several normalisations of their credit."""
    say = "The rule apart from its scaling: the same rule under each normalisation of its credit."
    entries = _varied(group, _normalisation, ("normalize", "normalize_eps"))
    return _figure(say, "normalize", entries, THREE)


def depth_sweep(view: View) -> list[Figure]:
    """Draw rules over the depth of the network: recipes that differ in nothing else."""
    families: dict[str, list[Entry]] = {}
    for group in view.groups:
        cell = group.records[0].cell
        others = {key: item for key, item in cell.arch.params.items() if key != "depth"}
        depth = cell.arch.params.get("depth")
        if isinstance(depth, int):
            recipe = [cell.arch.name, others, cell.dataset.model_dump(), cell.data, cell.training]
            families.setdefault(canonical(recipe), []).extend(
                Entry(visible(row.label), depth, row) for row in competing(group) if row.finished
            )
    say = "The same rules on deeper networks of the same width."
    quantities = ("accuracy", "gamma", "margin", "norm")
    return [
        figure
        for entries in families.values()
        if len({entry.at for entry in entries}) > 1
        for figure in _figure(say, "depth L", entries, quantities)
    ]


# ----------------------------------------------------------------------------------------- entries


@dataclass(frozen=True)
class Entry:
    """A row of a leaderboard at one value of the axis."""

    series: str
    at: float | str
    row: Row


def _varied(
    group: Group, axis: Callable[[Row], float | str], options: Collection[str], alone: bool = False
) -> list[Entry]:
    """Return the rows of the methods that have more than one value on the axis.

    options  the options that make the axis; they are left out of the names of the lines
    alone    return the rows of all methods, if their values differ at all
    """
    entries = [
        Entry(_without(row, options), axis(row), row) for row in competing(group) if row.finished
    ]
    values: dict[str, set[float | str]] = {}
    for entry in entries:
        values.setdefault("" if alone else entry.series, set()).add(entry.at)
    return [entry for entry in entries if len(values["" if alone else entry.series]) > 1]


def _without(row: Row, options: Collection[str]) -> str:
    """Return the label of a row without these options."""
    name, _, inside = row.label.partition("[")
    parts = inside.rpartition("]")[0].split(", ")
    kept = [part for part in parts if part and part.partition("=")[0] not in options]
    return visible(f"{name}[{', '.join(kept)}]" if kept else name)


def _penalty_of(row: Row) -> float:
    value = option(row.method, "penalty")
    return float(value) if isinstance(value, (int, float)) else 0.0


def _normalisation(row: Row) -> str:
    mode, eps = option(row.method, "normalize"), option(row.method, "normalize_eps")
    if mode != "sample" or canonical(eps) == canonical(1e-6):
        return visible(str(mode))
    relative = eps.get("per_n") if isinstance(eps, dict) else None
    shown = json.dumps(jsonable(eps), default=str) if relative is None else f"{_text(relative)}/N"
    return visible(f"{mode}, eps {shown}")


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else visible(str(value))


# ------------------------------------------------------------------------------------------ panels


def _interval(estimate: Estimate | None, read: Callable[[float], str]) -> Point | None:
    return None if estimate is None else interval(estimate, read)


def _gamma(row: Row) -> Point | None:
    found = gamma(row)
    point = _interval(found.estimate, lambda value: signed(value, 3))
    return None if point is None else point | {"note": found.not_diagnostic or ""}


def _norm(row: Row) -> Point | None:
    value = median_of(state_norm(run.record) for run in row.finished).value
    return {"value": rounded(value), "read": compact(value)} if value and value > 0 else None


# name → title, logarithmic axis, and the data of a row
QUANTITIES: dict[str, tuple[str, bool, Callable[[Row], Point | None]]] = {
    "accuracy": ("accuracy", False, lambda row: _interval(row.accuracy, fraction)),
    "norm": ("‖h_L‖ (median over runs)", True, _norm),
    "gamma": ("Γ deep", False, _gamma),
    "margin": (
        "points over the matched floor",
        False,
        lambda row: _interval(row.margin_matched, signed),
    ),
}
THREE = ("accuracy", "norm", "gamma")


def _figure(
    say: str, axis: str, entries: Sequence[Entry], quantities: Sequence[str]
) -> list[Figure]:
    """Draw the entries in one panel per quantity that they have."""
    keys = series(list(dict.fromkeys(entry.series for entry in entries)))
    panels = [
        panel(QUANTITIES[name][0], _layers(points, entries, keys, name, axis), 230)
        for name in quantities
        if (points := _points(entries, name))
    ]
    if not panels:
        return []
    n = counted([len(entry.row.finished) for entry in entries], "seed")
    caption = (
        f"{say} Bars are 95 % intervals over seeds, n = {n} per point, "
        f"{plural(len(entries), 'point')}. Open marks: walked back on at least one seed. A grey "
        "cross through a Γ: it means nothing there."
    )
    return [Figure(caption, tuple(panels), keys)]


def _points(entries: Sequence[Entry], quantity: str) -> list[Point]:
    points = []
    for entry in entries:
        point = QUANTITIES[quantity][2](entry.row)
        if point is not None:
            runs = entry.row.finished
            kept = not any(run.judgement.kind == "walked back" for run in runs)
            points.append(
                {
                    "method": entry.series,
                    "x": _text(entry.at),
                    "verdict": entry.row.verdict,
                    "n": len(runs),
                    "note": "",
                }
                | point
                | {"filled": kept and not point.get("note")}
            )
    return points


def _layers(
    points: list[Point], entries: Sequence[Entry], keys: Sequence[Key], quantity: str, axis: str
) -> list[Any]:
    import altair as alt

    title, log, _ = QUANTITIES[quantity]
    order = sorted({entry.at for entry in entries}, key=lambda at: (isinstance(at, str), at))
    x = alt.X("x:O", sort=[_text(at) for at in order], title=axis, axis=alt.Axis(labelAngle=0))
    y = measured(alt.Y, "value", [point["value"] for point in points], log)
    offset = alt.XOffset("method:N").scale(domain=[key.name for key in keys], paddingOuter=1)
    base = chart(points).encode(
        x=x, xOffset=offset, opacity=picked("method", 1.0), **by_key(keys, "method", "color")
    )
    layers = [base.mark_line(strokeWidth=1.5).encode(y, **by_key(keys, "method", "strokeDash"))]
    if any("low" in point for point in points):
        layers.append(base.mark_rule(strokeWidth=1.5).encode(y="low:Q", y2="high:Q"))
    layers.append(
        base.mark_point(size=80, strokeWidth=2).encode(
            y,
            fillOpacity=alt.condition("datum.filled", alt.value(1.0), alt.value(0.0)),
            tooltip=[
                "method:N",
                alt.Tooltip("x:N", title=axis),
                alt.Tooltip("read:N", title=title),
                "n:Q",
                "verdict:N",
                alt.Tooltip("note:N", title="means nothing because"),
            ],
            **by_key(keys, "method", "shape", "fill"),
        )
    )
    if crossed := [point for point in points if point["note"]]:
        cross = chart(crossed).mark_point(
            shape="cross", angle=45, size=220, color=GREY, strokeWidth=1.5
        )
        layers.append(cross.encode(x, y, xOffset=offset))
    return layers
