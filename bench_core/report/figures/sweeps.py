"""Draw a suite over one of its axes: penalty, depth of the network, normalisation of the credit."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from bench_core.analysis.stats import median_of
from bench_core.analysis.verdicts.kinds import WALKED_BACK
from bench_core.analysis.verdicts.roles import option
from bench_core.analysis.verdicts.rows import Group, Row
from bench_core.report.figures import Figure, Key, with_settings
from bench_core.report.figures import drawing as draw
from bench_core.report.text.escape import visible
from bench_core.report.text.numbers import compact, plural, rounded, signed
from bench_core.report.view import View, name_of, state_norm
from bench_core.report.words.rows import gamma
from bench_core.results.details import finite
from bench_core.results.hashing import canonical, jsonable

Point = dict[str, Any]


def penalty(view: View, group: Group) -> list[Figure]:
    """Draw each rule without and with the branch penalty; of more values see `lambda_sweep`."""
    parts = "accuracy, the size of the residual stream and deep alignment"
    say = f"What a penalty λ on the branches rescues: {parts}."
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
    families: dict[str, list[Entry]] = defaultdict(list)
    settings: dict[str, dict[str, str]] = {}
    for group, own in zip(view.groups, view.distinctions, strict=True):
        cell = group.records[0].cell
        others = {key: item for key, item in cell.arch.params.items() if key != "depth"}
        depth = cell.arch.params.get("depth")
        if isinstance(depth, int):
            recipe = canonical(
                [cell.arch.name, others, cell.dataset.model_dump(), cell.data, cell.training]
            )
            rows = [row for row in group.competing if row.finished]
            entries = [Entry(name_of(row), depth, row) for row in rows]
            families[recipe] += entries
            settings[recipe] = {k: v for k, v in own.items() if k != "arch.depth"}
    say = "The same rules on deeper networks of the same width."
    quantities = ("accuracy", "gamma", "margin", "norm")
    figures = []
    for recipe, entries in families.items():
        if len({entry.at for entry in entries}) > 1:
            drawn = _figure(say, "depth L", entries, quantities)
            figures += [with_settings(figure, settings[recipe]) for figure in drawn]
    return figures


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
    rows = [row for row in group.competing if row.finished]
    entries = [Entry(_without(row, options), axis(row), row) for row in rows]
    values: dict[str, set[float | str]] = defaultdict(set)
    for entry in entries:
        values["" if alone else entry.series].add(entry.at)
    return [entry for entry in entries if len(values["" if alone else entry.series]) > 1]


def _without(row: Row, options: Collection[str]) -> str:
    """Return the label of a row without these options."""
    name, _, inside = name_of(row).partition("[")
    parts = inside.rpartition("]")[0].split(", ")
    kept = [part for part in parts if part and part.partition("=")[0] not in options]
    return f"{name}[{', '.join(kept)}]" if kept else name


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


def _gamma(row: Row) -> Point:
    deep = gamma(row)
    point = draw.interval(deep.estimate, lambda value: signed(value, 3))
    return point and point | {"note": deep.not_diagnostic or ""}


def _norm(row: Row) -> Point:
    value = finite(median_of(state_norm(run.record) for run in row.finished))
    return {"value": rounded(value), "read": compact(value)} if value and value > 0 else {}


MARGIN = "points over own floor"
# name → title, logarithmic axis, and the data of a row, empty if it has none
QUANTITIES: dict[str, tuple[str, bool, Callable[[Row], Point]]] = {
    "accuracy": ("accuracy", False, lambda row: draw.accuracy(row.accuracy)),
    "norm": ("‖h_L‖ (median over runs)", True, _norm),
    "gamma": ("Γ deep", False, _gamma),
    "margin": (MARGIN, False, lambda row: draw.interval(row.margin_matched, signed)),
}
THREE = ("accuracy", "norm", "gamma")


def _figure(
    say: str, axis: str, entries: Sequence[Entry], quantities: Sequence[str]
) -> list[Figure]:
    """Draw the entries in one panel per quantity that they have."""
    keys = draw.series(list(dict.fromkeys(entry.series for entry in entries)))
    panels = []
    for name in quantities:
        if points := _points(entries, name):
            layers = _layers(points, entries, keys, name, axis)
            panels.append(draw.panel(QUANTITIES[name][0], layers, 230))
    if not panels:
        return []
    n = draw.counted([len(entry.row.finished) for entry in entries], "seed")
    several = any(len(entry.row.finished) > 1 for entry in entries)
    caption = [
        say,
        *["Bars are 95 % intervals over seeds."] * several,
        f"n = {n} per point, {plural(len(entries), 'point')}.",
        *["Points at one value are shifted sideways for legibility."] * (len(keys) > 1),
        "Open marks: walked back, or flagged by a single seed.",
    ]
    if any(_gamma(entry.row).get("note") for entry in entries):
        caption.append("A grey cross through a Γ: it is not diagnostic there.")
    return [Figure(" ".join(caption), tuple(panels), keys)]


def _points(entries: Sequence[Entry], quantity: str) -> list[Point]:
    points = []
    for entry in entries:
        if point := QUANTITIES[quantity][2](entry.row):
            runs = entry.row.finished
            kept = not entry.row.verdict.letters and entry.row.verdict.kind != WALKED_BACK
            place = {
                "method": entry.series,
                "x": _text(entry.at),
                "verdict": entry.row.verdict.text,
            }
            filled = {"filled": kept and not point.get("note")}
            points.append(place | {"n": len(runs), "note": ""} | point | filled)
    return points


def _layers(
    points: list[Point], entries: Sequence[Entry], keys: Sequence[Key], quantity: str, axis: str
) -> list[Any]:
    title, log, _ = QUANTITIES[quantity]
    order = sorted({entry.at for entry in entries}, key=lambda at: (isinstance(at, str), at))
    x = alt.X("x:O", sort=[_text(at) for at in order], title=axis, axis=alt.Axis(labelAngle=0))
    y = draw.measured(alt.Y, "value", [point["value"] for point in points], log)
    offset = alt.XOffset("method:N").scale(domain=[key.name for key in keys], paddingOuter=1)
    colour, dash = (draw.by_key(keys, "method", channel) for channel in ("color", "strokeDash"))
    opacity = draw.picked("method", opacity=1.0)
    base = draw.chart(points).encode(x=x, xOffset=offset, opacity=opacity, **colour)
    layers = [base.mark_line(strokeWidth=1.5).encode(y, **dash)]
    if any("low" in point for point in points):
        layers.append(base.mark_rule(strokeWidth=1.5).encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q")))
    note = "is not diagnostic because"
    marks = base.mark_point(size=80, strokeWidth=2).encode(
        y,
        fillOpacity=alt.condition("datum.filled", alt.value(1.0), alt.value(0.0)),
        tooltip=draw.tips(method="", x=axis, read=title, n="", verdict="", note=note),
        **draw.by_key(keys, "method", "shape", "fill"),
    )
    layers.append(marks)
    if crossed := [point for point in points if point["note"]]:
        base = draw.chart(crossed).encode(x, y, xOffset=offset)
        shape: dict[str, Any] = {"shape": "M-1,-1L1,1M1,-1L-1,1", "size": 320, "strokeWidth": 1.5}
        layers.append(base.mark_point(color=draw.GREY, **shape))
    return layers
