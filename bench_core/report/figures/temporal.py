"""Draw ‖h_L‖, ‖g_L‖ and accuracy after every epoch, and mark where a diagnostic first fired."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, zip_longest
from typing import Any

import altair as alt

from bench_core.analysis.first_firing import firings
from bench_core.analysis.judge import letter_order
from bench_core.analysis.leaderboard import Group, Run
from bench_core.report.figures import Figure, Key, Panel
from bench_core.report.figures import drawing as draw
from bench_core.report.numbers import compact, fraction, plural, rounded
from bench_core.report.rows import BP_FLOOR, bp_floor
from bench_core.report.text import joined
from bench_core.report.view import Point, View, competing, curve, name_of, thresholds

MOST_RUNS = 60  # curves per recipe
MOST_POINTS = 120  # per curve
MOST_KEPT = 10_000  # epochs of a run in memory; of a longer one every second, third, … is drawn


@dataclass(frozen=True)
class Curve:
    """The epochs of one run, and the epoch at which each diagnostic first fired (None: never)."""

    method: str
    run: Run
    points: list[Point]
    fired: dict[str, int | None]
    warm: bool  # a diagnostic fired while the blocks still learned from another credit

    def of(self, points: Iterable[Point], quantity: Quantity) -> list[dict[str, Any]]:
        """Return the data of these epochs, without those that the axis cannot show."""
        run = {"method": self.method, "seed": self.run.record.cell.seed}
        values = [(point.epoch, getattr(point, quantity.name)) for point in points]
        return [
            {**run, "epoch": epoch, "value": rounded(value, 4)}
            for epoch, value in values
            if value is not None and (value > 0 or not quantity.log)
        ]


@dataclass(frozen=True)
class Quantity:
    """A quantity by epoch, in a panel of its own.

    name  its attribute of a `Point`
    """

    name: str
    title: str
    log: bool
    read: Callable[[float], str]


WARM = "while another credit than its own still trained the blocks (warm-up)"
QUANTITIES = (
    Quantity("h", "‖h_L‖ (median over the probe)", True, compact),
    Quantity("g", "‖g_L‖ at N = 128", True, compact),
    Quantity("accuracy", "accuracy", False, fraction),
)


def temporal(view: View, group: Group) -> list[Figure]:
    """Draw a recipe whose runs have rows by epoch."""
    rows = competing(group)
    by_row = ([(name_of(row), run) for run in row.runs] for row in rows)
    # seed by seed over all methods
    runs = [pair for pair in chain.from_iterable(zip_longest(*by_row)) if pair is not None]
    read = (_curve(view, method, run) for method, run in runs[:MOST_RUNS])
    curves = [curve for curve in read if curve is not None]
    names = list(dict.fromkeys(name_of(row) for row in rows))
    names = [name for name in names if any(curve.method == name for curve in curves)]
    letters = sorted({letter for curve in curves for letter in curve.fired}, key=letter_order)
    keys = draw.series(names)
    limits = _limits(view, group)
    panels = [
        drawn
        for quantity in QUANTITIES
        if (drawn := _panel(quantity, curves, keys, letters, limits.get(quantity.name, {})))
    ]
    if not panels:
        return []
    shapes = dict(zip(letters, draw.SHAPES[1:], strict=False))
    marks = ", ".join(f"{shape.removesuffix('-up')} {letter}" for letter, shape in shapes.items())
    never = sum(set(curve.fired.values()) <= {None} for curve in curves)
    longest = max(curve.points[-1].epoch for curve in curves)
    gaps = [b.epoch - a.epoch for curve in curves for a, b in pairwise(curve.points)]
    gap = max(gaps, default=1)
    when = "after every epoch" if gap == 1 else f"at most {gap} epochs apart"
    caption = (
        f"The residual stream, the reference gradient and the accuracy {when}, "
        "epoch 0 before training; a line per run, all seeds. A mark stands where a diagnostic "
        f"first fired{f' ({marks})' if marks else ''}: from there on the alignment or the depth of "
        f"that run is in doubt. n = {plural(len(curves), 'run')} of {plural(len(names), 'method')} "
        f"over {plural(longest, 'epoch')}; {never} never fired. Floors have no curve."
    )
    warm = list(dict.fromkeys(curve.method for curve in curves if curve.warm))
    caution = f"{joined(warm)} fired first {WARM}." if warm else ""
    caption = f"{caption} {caution}".rstrip()
    if left_out := len(runs[MOST_RUNS:]):
        caption += f" {plural(left_out, 'further run')} not drawn."
    return [Figure(caption, tuple(panels), keys, columns=3, caution=caution)]


def _limits(view: View, group: Group) -> dict[str, dict[float, str]]:
    """Return the lines of each panel: the threshold of b, and the accuracy of bp's floor."""
    below = thresholds(group, view.settings).get("b", ())
    lines = {"g": {limit: f"b fires below {compact(limit)}" for limit in below if limit > 0}}
    mean = bp_floor(group.rows)
    lines["accuracy"] = {} if mean is None else {mean: BP_FLOOR}
    return lines


def _curve(view: View, method: str, run: Run) -> Curve | None:
    """Read the epochs of a run; None if it has fewer than two."""
    rows = view.epochs(run.record)
    if len(rows) < 2:
        return None
    first = firings(rows, view.settings.thresholds, run.judgement)
    fired = {item.key: item.epoch for item in first if "@" not in item.key}
    step = -(-len(rows) // MOST_KEPT)
    drawn = [row for row in rows if row.epoch % step == 0 or row.epoch in fired.values()]
    first_rows = [row.measurements for row in rows if row.epoch in fired.values()]
    warm = any(
        "alignment" in found and found["alignment"].details.get("in_use") is False
        for found in first_rows
    )
    return Curve(method, run, curve(drawn), fired, warm)


def _panel(
    quantity: Quantity,
    curves: Sequence[Curve],
    keys: Sequence[Key],
    letters: Sequence[str],
    limits: Mapping[float, str],
) -> Panel | None:
    """Draw a quantity of all runs; None if no run has a value of it."""
    values = [value for curve in curves for value in _thinned(curve.of(curve.points, quantity))]
    if not values:
        return None
    numbers = [*(value["value"] for value in values), *limits]
    y = draw.measured(alt.Y, "value", numbers, quantity.log)
    last = max(value["epoch"] for value in values)
    ticks = {"values": list(range(last + 1))} if last < 6 else {"tickCount": 6}
    axis, scale = alt.Axis(format="d", **ticks), alt.Scale(nice=False)
    x = alt.X("epoch:Q", title="epoch", axis=axis, scale=scale)
    colour = draw.by_key(keys, "method", "color")
    layers = _lines(draw.chart(values).encode(x, y, **colour), quantity, keys)
    if marks := _marks(curves, quantity):
        shapes = list(draw.SHAPES[1 : len(letters) + 1])
        shape = alt.Shape("letter:N", legend=None).scale(domain=list(letters), range=shapes)
        tooltip = draw.tips(method="", seed="", fires="", read=quantity.title)
        opacity = draw.picked("method", 1.0)
        firing = draw.chart(marks).mark_point(filled=False, size=110, strokeWidth=2)
        layers.append(firing.encode(x, y, opacity=opacity, shape=shape, tooltip=tooltip, **colour))
    for limit, text in limits.items():
        layers += draw.limit_line(limit, text, horizontal=True)
    return draw.panel(quantity.title, layers, 230)


def _thinned(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return about `MOST_POINTS` of the values, evenly, with the first and the last."""
    kept = values[:: -(-len(values) // MOST_POINTS) or 1]
    return kept if kept[-1:] == values[-1:] else [*kept, values[-1]]


def _lines(base: Any, quantity: Quantity, keys: Sequence[Key]) -> list[Any]:
    """Draw a line per run, and the point of it that is nearest to the mouse."""
    near = alt.selection_point(
        name=f"near_{quantity.name}",
        nearest=True,
        on="pointerover",
        clear="pointerout",
        fields=["method", "seed", "epoch"],
        empty=False,
    )
    lines = base.mark_line(strokeWidth=1.6).encode(
        detail=alt.Detail("seed:N"),
        opacity=draw.picked("method"),
        **draw.by_key(keys, "method", "strokeDash"),
    )
    form = ".2~e" if quantity.log else ".3~g"
    value = alt.Tooltip("value:Q", title=quantity.title, format=form)
    points = base.mark_point(filled=True, size=60).encode(
        opacity=alt.condition(near, alt.value(1.0), alt.value(0.0)),
        tooltip=[*draw.tips(method="", seed="", epoch=""), value],
    )
    return [lines, points.add_params(near)]


def _marks(curves: Sequence[Curve], quantity: Quantity) -> list[dict[str, Any]]:
    marks = []
    for run in curves:
        for letter, epoch in run.fired.items():
            for mark in run.of([point for point in run.points if point.epoch == epoch], quantity):
                fires = f"{letter} first fires at epoch {epoch}"
                mark |= {"letter": letter, "fires": fires, "read": quantity.read(mark["value"])}
                marks.append(mark)
    return marks
