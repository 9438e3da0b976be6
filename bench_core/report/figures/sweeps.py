"""Figures over an axis of a suite: penalty rescue, λ sweep, depth sweep, normalisation."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from bench_core.analysis.judge import option
from bench_core.analysis.leaderboard import Row
from bench_core.analysis.stats import Estimate
from bench_core.report.escape import visible
from bench_core.report.figures.drawing import (
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
    shaped,
)
from bench_core.report.rows import compact, fraction, gamma, over_runs, signed
from bench_core.report.view import View, competing, plural, rounded, state_norm
from bench_core.results.hashing import canonical, jsonable


@dataclass(frozen=True)
class Entry:
    """A row of a leaderboard at one value of the axis."""

    series: str
    at: str
    row: Row


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else visible(str(value))


def _rest(row: Row, without: Sequence[str]) -> str:
    """The name of a line: the method and its other options."""
    label = row.label.partition("[")[0]
    inside = row.label.partition("[")[2].rpartition("]")[0]
    kept = [part for part in inside.split(", ") if part and part.partition("=")[0] not in without]
    return visible(f"{label}[{', '.join(kept)}]" if kept else label)


def _normalisation(row: Row) -> str:
    mode, eps = option(row.method, "normalize"), option(row.method, "normalize_eps")
    if mode != "sample" or canonical(eps) == canonical(1e-6):
        return visible(str(mode))
    relative = eps.get("per_n") if isinstance(eps, dict) else None
    shown = (
        f"{_number(relative)}/N" if relative is not None else json.dumps(jsonable(eps), default=str)
    )
    return visible(f"{mode}, eps {shown}")


def _within(
    found: View, axis: Callable[[Row], Any], named: Sequence[str], alone: bool = False
) -> list[tuple[int, list[Entry], list[str]]]:
    """Per recipe in which an option varies: the entries of the methods with more than one value of it (`alone`: of all
    methods), and its values in order."""
    made = []
    for number, group in enumerate(found.groups):
        rows = [row for row in competing(group) if row.finished]
        values: dict[str, set[Hashable]] = {}
        for row in rows:
            values.setdefault(_rest(row, named), set()).add(axis(row))
        kept = [row for row in rows if alone or len(values[_rest(row, named)]) > 1]
        if len({axis(row) for row in kept}) > 1:
            order = sorted({axis(row) for row in kept}, key=lambda v: (isinstance(v, str), v))
            entries = [Entry(_rest(row, named), _number(axis(row)), row) for row in kept]
            made.append((number, entries, [_number(value) for value in order]))
    return made


# ------------------------------------------------------------------------------------------------------- what is drawn


def _estimated(found: Estimate | None, read: Callable[[float], str]) -> dict[str, Any] | None:
    if found is None:
        return None
    half = found.half_width or 0.0
    text = read(found.mean) + (
        " (n=1)" if found.half_width is None else f" ± {read(found.half_width).lstrip('+')}"
    )
    return {
        "y": rounded(found.mean),
        "low": rounded(found.mean - half),
        "high": rounded(found.mean + half),
        "read": text,
    }


def _accuracy(row: Row) -> dict[str, Any] | None:
    return _estimated(row.accuracy, fraction)


def _gamma(row: Row) -> dict[str, Any] | None:
    found = gamma(row)
    drawn = _estimated(found.estimate, lambda value: signed(value, 3))
    return None if drawn is None else drawn | {"note": found.not_diagnostic}


def _margin(row: Row) -> dict[str, Any] | None:
    return _estimated(row.margin_matched, lambda value: signed(value, 1))


def _norm(row: Row) -> dict[str, Any] | None:
    figure = over_runs(state_norm(run.record) for run in row.finished)
    if figure.value is None or figure.value <= 0:
        return None
    return {"y": rounded(figure.value), "read": compact(figure.value)}


QUANTITIES: dict[str, tuple[str, bool, Callable[[Row], dict[str, Any] | None]]] = {
    "accuracy": ("accuracy", False, _accuracy),
    "norm": ("‖h_L‖ (median over runs)", True, _norm),
    "gamma": ("Γ deep", False, _gamma),
    "margin": ("points over the matched floor", False, _margin),
}


def _panel(
    entries: Sequence[Entry], order: Sequence[str], quantity: str, axis: str
) -> Panel | None:
    import altair as alt

    title, log, read = QUANTITIES[quantity]
    keys = _keys(entries)
    points = []
    for entry in entries:
        drawn = read(entry.row)
        if drawn is not None:
            back = any(run.judgement.kind == "walked back" for run in entry.row.finished)
            fixed = {"method": entry.series, "x": entry.at, "verdict": entry.row.verdict}
            note = drawn.get("note")
            fill = "struck out" if note else ("walked back" if back else "not walked back")
            points.append(
                {"note": "", **drawn, **fixed, "fill": fill, "n": len(entry.row.finished)}
            )
    if not points:
        return None
    scale = (
        alt.Scale(type="log", nice=False, padding=10) if log else alt.Scale(zero=False, padding=10)
    )
    offset = alt.XOffset("method:N").scale(domain=[key.name for key in keys], paddingOuter=1)
    base = chart(points).encode(
        x=alt.X("x:O", sort=list(order), title=axis, axis=alt.Axis(labelAngle=0)),
        xOffset=offset,
        opacity=picked("method", 1.0),
        color=coloured(keys, "method"),
    )
    axis_y = (
        log_axis((point["y"] for point in points), title=None)
        if log
        else alt.Axis(format="~g", tickCount=6, title=None)
    )
    y = alt.Y("y:Q", scale=scale, axis=axis_y)
    layers = [
        base.mark_line(strokeWidth=1.5).encode(
            y=y, strokeDash=dashed(keys, "method")
        ),
        base.mark_rule(strokeWidth=1.5).encode(y=alt.Y("low:Q"), y2="high:Q")
        if any("low" in point for point in points)
        else None,
        base.mark_point(size=80, strokeWidth=2)
        .encode(
            y=y,
            shape=shaped(keys, "method"),
            fillOpacity=alt.condition("datum.fill == 'not walked back'", alt.value(1.0), alt.value(0.0)),
            fill=alt.Fill("method:N", legend=None).scale(
                domain=[key.name for key in keys], range=[key.colour for key in keys]
            ),
            tooltip=["method:N", alt.Tooltip("x:N", title=axis), alt.Tooltip("read:N", title=title), "n:Q", "verdict:N",
                     alt.Tooltip("note:N", title="means nothing because")],
        ),
        chart(crossed)
        .mark_point(shape="cross", angle=45, size=220, color="#8A8A8A", strokeWidth=1.5)
        .encode(x=alt.X("x:O", sort=list(order)), y=y, xOffset=offset)
        if (crossed := [point for point in points if point["note"]])
        else None,
    ]  # fmt: skip
    return panel(title, alt.layer(*(layer for layer in layers if layer is not None)), 230)


def _keys(entries: Sequence[Entry]) -> tuple[Key, ...]:
    return series(list(dict.fromkeys(entry.series for entry in entries)))


def _figure(
    name: str,
    title: str,
    say: str,
    axis: str,
    entries: Sequence[Entry],
    order: Sequence[str],
    what: Sequence[str],
) -> Figure | None:
    panels = [
        made for quantity in what if (made := _panel(entries, order, quantity, axis)) is not None
    ]
    if not panels:
        return None
    counts = sorted({len(entry.row.finished) for entry in entries})
    n = plural(counts[0], "seed") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    caption = (
        f"{say} Bars are 95 % intervals over seeds, n = {n} per point, {plural(len(entries), 'point')}. Open marks: walked "
        "back on at least one seed. A grey cross through a Γ: it means nothing there."
    )
    return Figure(name, title, caption, tuple(panels), _keys(entries))


def _penalty_of(row: Row) -> float:
    value = option(row.method, "penalty")
    return float(value) if isinstance(value, (int, float)) else 0.0


def penalty(found: View) -> list[tuple[int | None, Figure]]:
    """Each rule without and with the branch penalty; a sweep over more values is a figure of its own."""
    say = "What a penalty λ on the branches rescues: accuracy, the size of the residual stream and deep alignment."
    made = [
        (
            k,
            _figure(
                "penalty",
                "Penalty rescue",
                say,
                "penalty λ",
                entries,
                order,
                ("accuracy", "norm", "gamma", "margin"),
            ),
        )
        for k, entries, order in _within(found, _penalty_of, ("penalty",), alone=True)
        if len(order) == 2
    ]
    return [(k, figure) for k, figure in made if figure is not None]


def lambda_sweep(found: View) -> list[tuple[int | None, Figure]]:
    """Rules over three or more values of λ."""
    say = "How strong the penalty must be: λ from none upward, equally spaced whatever its value."
    made = [
        (
            k,
            _figure(
                "lambda_sweep",
                "Penalty sweep",
                say,
                "penalty λ",
                entries,
                order,
                ("accuracy", "norm", "gamma"),
            ),
        )
        for k, entries, order in _within(found, _penalty_of, ("penalty",))
        if len(order) > 2
    ]
    return [(k, figure) for k, figure in made if figure is not None]


def normalization(found: View) -> list[tuple[int | None, Figure]]:
    """Rules under several normalisations of their credit."""
    say = "The rule apart from its scaling: the same rule under each normalisation of its credit."
    what = ("accuracy", "norm", "gamma")
    made = [
        (
            k,
            _figure(
                "normalization",
                "Normalisation of the credit",
                say,
                "normalize",
                entries,
                order,
                what,
            ),
        )
        for k, entries, order in _within(found, _normalisation, ("normalize", "normalize_eps"))
    ]
    return [(k, figure) for k, figure in made if figure is not None]


def depth_sweep(found: View) -> list[tuple[int | None, Figure]]:
    """Rules over the depth of the network: recipes that differ in nothing else."""
    families: dict[str, list[int]] = {}
    for number, group in enumerate(found.groups):
        cell = group.records[0].cell
        if "depth" in cell.arch.params:
            others = {key: item for key, item in cell.arch.params.items() if key != "depth"}
            key = canonical(
                [cell.arch.name, others, cell.dataset.model_dump(), cell.data, cell.training]
            )
            families.setdefault(key, []).append(number)
    made: list[tuple[int | None, Figure]] = []
    for numbers in families.values():
        at = {k: found.groups[k].records[0].cell.arch.params["depth"] for k in numbers}
        depths = sorted({d for d in at.values() if isinstance(d, int)})
        if len(depths) < 2:
            continue
        entries = [
            Entry(visible(row.label), str(at[k]), row)
            for k in numbers
            for row in competing(found.groups[k])
            if row.finished
        ]
        say = "The same rules on deeper networks of the same width."
        what = ("accuracy", "gamma", "margin", "norm")
        figure = _figure(
            "depth_sweep", "Depth sweep", say, "depth L", entries, [str(d) for d in depths], what
        )
        if figure is not None:
            made.append((None, figure))
    return made


SWEEPS: dict[str, Callable[[View], list[tuple[int | None, Figure]]]] = {
    "penalty": penalty,
    "lambda_sweep": lambda_sweep,
    "depth_sweep": depth_sweep,
    "normalization": normalization,
}
