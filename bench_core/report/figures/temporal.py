"""Draw ‖h_L‖, ‖g_L‖ and accuracy after every epoch, and mark where a diagnostic first fired."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bench_core.analysis.first_firing import firings
from bench_core.analysis.judge import letter_order
from bench_core.analysis.leaderboard import Group, Run
from bench_core.report.curves import Point, curve, read_rows
from bench_core.report.figures.drawing import (
    SHAPES,
    Figure,
    Key,
    Panel,
    by_key,
    chart,
    limit_line,
    measured,
    panel,
    picked,
    series,
)
from bench_core.report.numbers import compact, fraction
from bench_core.report.view import View, competing, name_of, plural, rounded, thresholds

MOST_RUNS = 60  # curves per recipe
MOST_POINTS = 120  # per curve


@dataclass(frozen=True)
class Curve:
    """The epochs of one run, and the epoch at which each diagnostic first fired (None: never)."""

    method: str
    run: Run
    points: list[Point]
    fired: dict[str, int | None]

    def of(self, points: Iterable[Point], quantity: Quantity) -> list[dict[str, Any]]:
        """Return the data of these epochs, without those that the axis cannot show."""
        return [
            {
                "method": self.method,
                "seed": self.run.record.cell.seed,
                "epoch": point.epoch,
                "value": rounded(value, 4),
            }
            for point in points
            if (value := quantity.value(point)) is not None and (value > 0 or not quantity.log)
        ]


@dataclass(frozen=True)
class Quantity:
    """A quantity by epoch, in a panel of its own.

    limit  letter of the diagnostic whose threshold the panel shows
    """

    name: str
    title: str
    log: bool
    value: Callable[[Point], float | None]
    read: Callable[[float], str]
    limit: str = ""


QUANTITIES = (
    Quantity("h", "‖h_L‖ (median over the probe)", True, lambda point: point.h, compact),
    Quantity("g", "‖g_L‖ at N = 128", True, lambda point: point.g, compact, "b"),
    Quantity("accuracy", "test accuracy", False, lambda point: point.accuracy, fraction),
)


def temporal(view: View, group: Group) -> list[Figure]:
    """Draw a recipe whose runs have rows by epoch."""
    runs, left_out = _first_runs(group)
    curves = [curve for method, run in runs if (curve := _curve(view, method, run)) is not None]
    names = list(dict.fromkeys(name_of(row) for row in competing(group)))
    names = [name for name in names if any(curve.method == name for curve in curves)]
    letters = sorted({letter for curve in curves for letter in curve.fired}, key=letter_order)
    keys = series(names)
    limits = thresholds(group, view.settings)
    panels = [
        made
        for quantity in QUANTITIES
        if (made := _panel(quantity, curves, keys, letters, limits.get(quantity.limit, ())))
    ]
    if not panels:
        return []
    shapes = dict(zip(letters, SHAPES[1:], strict=False))
    marks = ", ".join(f"{shape.removesuffix('-up')} {letter}" for letter, shape in shapes.items())
    never = sum(not any(curve.fired.values()) for curve in curves)
    longest = max(curve.points[-1].epoch for curve in curves)
    caption = (
        "The residual stream, the reference gradient and the test accuracy after every epoch, "
        "epoch 0 before training; a line per run, all seeds. A mark stands where a diagnostic "
        f"first fired{f' ({marks})' if marks else ''}: from there on the alignment or the depth "
        f"of that run is in doubt. n = {plural(len(curves), 'run')} of "
        f"{plural(len(names), 'method')} over {plural(longest, 'epoch')}; {never} "
        "never fired. Floors are not drawn."
    )
    if left_out:
        caption += f" {plural(left_out, 'further run')} not drawn."
    return [Figure(caption, tuple(panels), keys, columns=3)]


def _first_runs(group: Group) -> tuple[list[tuple[str, Run]], int]:
    """Return the runs to draw, seed by seed over all methods, and how many are left out."""
    rows = competing(group)
    most = max((len(row.runs) for row in rows), default=0)
    runs = [(name_of(row), row.runs[k]) for k in range(most) for row in rows if k < len(row.runs)]
    return runs[:MOST_RUNS], len(runs[MOST_RUNS:])


def _curve(view: View, method: str, run: Run) -> Curve | None:
    """Read the epochs of a run; None if it has fewer than two."""
    rows = read_rows(view.results.run_folder(run.record))
    if len(rows) < 2:
        return None
    first = firings(rows, view.settings.thresholds, run.judgement)
    fired = {item.key: item.epoch for item in first if "@" not in item.key}
    return Curve(method, run, curve(rows), fired)


def _panel(
    quantity: Quantity,
    curves: Sequence[Curve],
    keys: Sequence[Key],
    letters: Sequence[str],
    limits: Sequence[float],
) -> Panel | None:
    """Draw a quantity of all runs; None if no run has a value of it."""
    import altair as alt

    values = [value for curve in curves for value in _thinned(curve.of(curve.points, quantity))]
    if not values:
        return None
    limits = [limit for limit in limits if limit > 0]
    y = measured(alt.Y, "value", [*(value["value"] for value in values), *limits], quantity.log)
    last = max(value["epoch"] for value in values)
    ticks = {"values": list(range(last + 1))} if last < 6 else {"tickCount": 6}
    axis, scale = alt.Axis(format="d", **ticks), alt.Scale(nice=False)
    x = alt.X("epoch:Q", title="epoch", axis=axis, scale=scale)
    layers = _lines(chart(values).encode(x, y, **by_key(keys, "method", "color")), quantity, keys)
    if marks := _marks(curves, quantity):
        layers.append(
            chart(marks)
            .mark_point(filled=False, size=110, strokeWidth=2)
            .encode(
                x,
                y,
                opacity=picked("method", 1.0),
                shape=alt.Shape("letter:N", legend=None).scale(
                    domain=list(letters), range=list(SHAPES[1 : len(letters) + 1])
                ),
                tooltip=[
                    "method:N",
                    alt.Tooltip("seed:Q", format="d"),
                    alt.Tooltip("fires:N"),
                    alt.Tooltip("read:N", title=quantity.title),
                ],
                **by_key(keys, "method", "color"),
            )
        )
    for limit in limits:
        text = f"{quantity.limit} fires below {compact(limit)}"
        layers += limit_line(limit, text, horizontal=True)
    return panel(quantity.title, layers, 230)


def _thinned(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return about `MOST_POINTS` of the values, evenly, with the first and the last."""
    kept = values[:: -(-len(values) // MOST_POINTS) or 1]
    return kept if kept[-1:] == values[-1:] else [*kept, values[-1]]


def _lines(base: Any, quantity: Quantity, keys: Sequence[Key]) -> list[Any]:
    """Draw a line per run, and the point of it that is nearest to the mouse."""
    import altair as alt

    near = alt.selection_point(
        name=f"near_{quantity.name}",
        nearest=True,
        on="pointerover",
        clear="pointerout",
        fields=["method", "seed", "epoch"],
        empty=False,
    )
    lines = base.mark_line(strokeWidth=1.6).encode(
        detail="seed:N", opacity=picked("method"), **by_key(keys, "method", "strokeDash")
    )
    points = base.mark_point(filled=True, size=60).encode(
        opacity=alt.condition(near, alt.value(1.0), alt.value(0.0)),
        tooltip=[
            "method:N",
            alt.Tooltip("seed:Q", format="d"),
            alt.Tooltip("epoch:Q", format="d"),
            alt.Tooltip("value:Q", title=quantity.title, format=".2~e" if quantity.log else ".3~g"),
        ],
    )
    return [lines, points.add_params(near)]


def _marks(curves: Sequence[Curve], quantity: Quantity) -> list[dict[str, Any]]:
    """Return the data of the first firings."""
    return [
        mark
        | {
            "letter": letter,
            "fires": f"{letter} first fires at epoch {epoch}",
            "read": quantity.read(mark["value"]),
        }
        for curve in curves
        for letter, epoch in curve.fired.items()
        for mark in curve.of([p for p in curve.points if p.epoch == epoch], quantity)
    ]
