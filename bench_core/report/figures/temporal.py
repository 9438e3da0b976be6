"""Draw ‖h_L‖, ‖g_L‖ and accuracy after every epoch, and mark where a diagnostic first fired."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, pairwise, zip_longest
from typing import Any

import altair as alt

from bench_core.analysis.first_firing import firings
from bench_core.analysis.verdicts.judge import letter_order
from bench_core.analysis.verdicts.kinds import TRUSTWORTHY
from bench_core.analysis.verdicts.rows import Group, Row, Run
from bench_core.report.figures import Figure, Key, Panel
from bench_core.report.figures import drawing as draw
from bench_core.report.text.layout import joined, listed
from bench_core.report.text.numbers import compact, fraction, plural, rounded
from bench_core.report.view import Point, View, curve, name_of, thresholds
from bench_core.report.words.criteria import criteria
from bench_core.report.words.rows import BP_FLOOR, bp_floor

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

    @property
    def marked(self) -> bool:
        """Whether a diagnostic fired."""
        return any(epoch is not None for epoch in self.fired.values())

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


WARM = "during its warm-up, in which another credit trains the blocks"
QUANTITIES = (
    Quantity("h", "‖h_L‖ (median over the probe)", True, compact),
    Quantity("g", "‖g_L‖ at N = 128", True, compact),
    Quantity("accuracy", "accuracy", False, fraction),
)


def temporal(view: View, group: Group) -> list[Figure]:
    """Draw a recipe whose runs have rows by epoch."""
    rows = group.competing
    by_row = ([(name_of(row), run) for run in row.runs] for row in rows)
    # seed by seed over all methods
    runs = [pair for pair in chain.from_iterable(zip_longest(*by_row)) if pair is not None]
    read = (_curve(view, method, run) for method, run in runs[:MOST_RUNS])
    curves = [curve for curve in read if curve is not None]
    names = list(dict.fromkeys(name_of(row) for row in rows))
    names = [name for name in names if any(curve.method == name for curve in curves)]
    keys, marks, early = draw.series(names), _mark_keys(rows, curves), _early(curves)
    limits = _limits(view, group)
    panels = [
        drawn
        for quantity in QUANTITIES
        if (drawn := _panel(quantity, curves, keys, marks, early, limits.get(quantity.name, {})))
    ]
    if not panels:
        return []
    never = sum(not curve.marked for curve in curves)
    longest = max(curve.points[-1].epoch for curve in curves)
    shown = [
        [point.epoch for point in curve.points if getattr(point, quantity.name) is not None]
        for curve in curves
        for quantity in QUANTITIES
    ]
    gap = max((b - a for epochs in shown for a, b in pairwise(epochs)), default=1)
    when = "after every epoch" if gap == 1 else f"at most {gap} epochs apart"
    every = "" if never else "; in each a diagnostic with a mark fired"
    silent = f"; in {never} no diagnostic with a mark ever fired" if never else every
    runs_drawn = "a line per run" + ", all seeds" * (len(runs) <= MOST_RUNS)
    caption = (
        f"The residual stream, the reference gradient and the accuracy {when}, "
        f"epoch 0 before training; {runs_drawn}. {_meaning_of_marks(rows, curves)}"
        f"n = {plural(len(curves), 'run')} of {plural(len(names), 'method')} "
        f"over {plural(longest, 'epoch')}{silent}. Floors have no curve."
    )
    if early:
        caption += " The axis of epochs is logarithmic but for its start, at 0."
    warm = list(dict.fromkeys(curve.method for curve in curves if curve.warm))
    caution = f"{joined(warm)} fired first {WARM}." if warm else ""
    caption = f"{caption} {caution}".rstrip()
    if left_out := runs[MOST_RUNS:]:
        named = listed(f"{method} (seed {run.record.cell.seed})" for method, run in left_out)
        caption += f" Not drawn: {named}."
    return [Figure(caption, tuple(panels), keys, tuple(marks.values()), columns=3, caution=caution)]


def _mark_keys(rows: Sequence[Row], curves: Sequence[Curve]) -> dict[str, Key]:
    """Map each diagnostic that fired to its entry of the legend; a letter has one shape."""
    letters = sorted({letter for curve in curves for letter in curve.fired}, key=letter_order)
    names = {item.letter: f" ({item.short})" for item in criteria(rows)}
    fired = {k for curve in curves for k, epoch in curve.fired.items() if epoch is not None}
    return {
        letter: Key(f"{letter}{names.get(letter, '')} first fires", draw.GREY, shape)
        for letter, shape in zip(letters, cycle(draw.SHAPES[1:]), strict=False)
        if letter in fired
    }


def _early(curves: Sequence[Curve]) -> bool:
    """Decide whether a linear axis has all marks in its first tenth, where they hide each other."""
    fired = [epoch for curve in curves for epoch in curve.fired.values() if epoch is not None]
    last = max((curve.points[-1].epoch for curve in curves), default=0)
    return bool(fired) and 10 * max(fired) <= last


def _meaning_of_marks(rows: Sequence[Row], curves: Sequence[Curve]) -> str:
    """Say what a mark means, and which rules have marks and are trustworthy."""
    marked = {curve.method for curve in curves if curve.marked}
    if not marked:
        return ""
    good = [
        name_of(row) for row in rows if row.verdict.kind == TRUSTWORTHY and name_of(row) in marked
    ]
    text = "A mark stands where a diagnostic first fired. It alone is no verdict, because a "
    text += "verdict rests on the last epoch"
    has = "has such marks and is" if len(good) == 1 else "have such marks and are"
    return f"{text}: {joined(good)} {has} trustworthy. " if good else f"{text}. "


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
        "alignment" in measured and measured["alignment"].details.get("in_use") is False
        for measured in first_rows
    )
    return Curve(method, run, curve(drawn), fired, warm)


def _panel(
    quantity: Quantity,
    curves: Sequence[Curve],
    keys: Sequence[Key],
    shapes: Mapping[str, Key],
    early: bool,
    limits: Mapping[float, str],
) -> Panel | None:
    """Draw a quantity of all runs; None if no run has a value of it."""
    values = [value for curve in curves for value in _thinned(curve.of(curve.points, quantity))]
    if not values:
        return None
    numbers = [*(value["value"] for value in values), *limits]
    y = draw.measured(alt.Y, "value", numbers, quantity.log)
    last = max(value["epoch"] for value in values)
    ticks: dict[str, Any] = {"values": list(range(last + 1))} if last < 6 else {"tickCount": 6}
    scale: dict[str, Any] = {"nice": False}
    if early:
        scale, ticks = scale | {"type": "symlog"}, {"values": [0, *draw.rounds(0, len(str(last)))]}
    axis = alt.Axis(format="d", **ticks)
    x = alt.X("epoch:Q", title="epoch", axis=axis, scale=alt.Scale(**scale))
    colour = draw.by_key(keys, "method", "color")
    layers = _lines(draw.chart(values).encode(x, y, **colour), quantity, keys)
    if marks := _marks(curves, quantity, shapes):
        tooltip = draw.tips(method="", seed="", fires="", read=quantity.title)
        opacity = draw.picked("method", "mark", opacity=1.0)
        firing = draw.chart(marks).mark_point(filled=False, size=70, strokeWidth=1.5)
        look = colour | draw.by_key(list(shapes.values()), "mark", "shape")
        layers.append(firing.encode(x, y, opacity=opacity, tooltip=tooltip, **look))
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


def _marks(
    curves: Sequence[Curve], quantity: Quantity, shapes: Mapping[str, Key]
) -> list[dict[str, Any]]:
    marks = []
    for run in curves:
        for letter, epoch in run.fired.items():
            for mark in run.of([point for point in run.points if point.epoch == epoch], quantity):
                fires = f"{letter} first fires at epoch {epoch}"
                mark |= {"letter": letter, "mark": shapes[letter].name, "fires": fires}
                marks.append(mark | {"read": quantity.read(mark["value"])})
    return marks
