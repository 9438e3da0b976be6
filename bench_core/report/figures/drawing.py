"""The figures: Vega-Lite specs made with Altair, once for the page (panels as wide as they may be) and for paper.

A figure is a title, a caption that says what to see and n, and panels that are specs of their own. Colours are those of
Okabe and Ito, which colour-blind readers tell apart; what colour says, shape or dash says too. Names of methods are
data in a spec, never field names or expressions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bench_core.report.view import STATES

Spec = dict[str, Any]

HEALTHY, FIRED, SILENT = "#0072B2", "#D55E00", "#8A8A8A"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F6A00", "#8A8A8A")
DASHES: tuple[tuple[int, ...], ...] = (
    (1, 0),
    (6, 3),
    (2, 2),
    (8, 3, 2, 3),
    (10, 4),
    (4, 2, 1, 2),
    (3, 3),
    (12, 2),
)
SHAPES = (
    "circle",
    "triangle-up",
    "square",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "triangle-left",
)
STATE_COLOURS = (HEALTHY, FIRED, SILENT)
STATE_SHAPES = ("circle", "triangle-up", "diamond")


@dataclass(frozen=True)
class Panel:
    """A chart: a Vega-Lite spec without a width and without a legend, and what it shows."""

    title: str
    spec: Spec


@dataclass(frozen=True)
class Key:
    """An entry of a legend: how what bears this name is drawn."""

    name: str
    colour: str
    shape: str
    dash: tuple[int, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A figure of one recipe or one suite. Every panel fades what the signal `pick`, a list of legend names, leaves out."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    legend: tuple[Key, ...] = ()
    columns: int = 2


def chart(values: Sequence[dict[str, Any]]) -> Any:
    """A chart of inline data."""
    import altair as alt

    return alt.Chart(alt.Data(values=list(values)))  # type: ignore[no-untyped-call]


def panel(title: str, drawing: Any, height: int) -> Panel:
    """An Altair chart as a panel, without Altair's configuration."""
    import altair as alt
    from altair.utils import schemapi

    drawing = drawing.properties(height=max(height, 60), description=title).add_params(
        alt.param(name="pick", value=[])
    )
    spec: Spec = drawing.to_dict(validate=schemapi.DEBUG_MODE)
    return Panel(
        title, {key: item for key, item in spec.items() if key not in ("$schema", "config")}
    )


def picked(field: str, otherwise: float = 0.85) -> Any:
    """The opacity of what the legend's choice keeps, and of the rest."""
    import altair as alt

    return alt.condition(
        f"length(pick) == 0 || indexof(pick, datum.{field}) >= 0",
        alt.value(otherwise),
        alt.value(0.08),
    )


def coloured(keys: Sequence[Key], field: str) -> Any:
    import altair as alt

    return alt.Color(f"{field}:N", legend=None).scale(
        domain=[k.name for k in keys], range=[k.colour for k in keys]
    )


def shaped(keys: Sequence[Key], field: str) -> Any:
    import altair as alt

    return alt.Shape(f"{field}:N", legend=None).scale(
        domain=[k.name for k in keys], range=[k.shape for k in keys]
    )


def dashed(keys: Sequence[Key], field: str) -> Any:
    import altair as alt

    return alt.StrokeDash(f"{field}:N", legend=None).scale(
        domain=[key.name for key in keys], range=[list(key.dash) for key in keys]
    )


def log_axis(values: Iterable[float | None], **more: Any) -> Any:
    """A logarithmic axis with few ticks: powers of ten; 1, 2 and 5 of each, or round numbers, where the values span little."""
    import altair as alt

    found = [value for value in values if value is not None and value > 0] or [1.0]
    ticks = _log_ticks(min(found), max(found))
    plain = "datum.value >= 0.01 && datum.value < 10000"
    expression = f"{plain} ? format(datum.value, '~g') : format(datum.value, '~e')"
    return alt.Axis(labelExpr=expression, values=ticks, **more)


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    span = math.log10(high / low)
    if span >= 2:
        return [10.0**power for power in range(first, last + 1, max(1, round((last - first) / 8)))]
    if span >= 0.7 or high == low:
        return [step * 10.0**power for power in range(first, last + 1) for step in (1, 2, 5)]
    width = 10.0 ** math.floor(math.log10((high - low) / 2))
    return [
        float(f"{k * width:.6g}")
        for k in range(math.floor(low / width), math.ceil(high / width) + 1)
    ]


STATE_KEYS = tuple(Key(*item) for item in zip(STATES, STATE_COLOURS, STATE_SHAPES, strict=True))


def series(names: Sequence[str]) -> tuple[Key, ...]:
    """How the lines of a chart are drawn, in the given order."""
    return tuple(
        Key(name, PALETTE[i % len(PALETTE)], SHAPES[i % len(SHAPES)], DASHES[i % len(DASHES)])
        for i, name in enumerate(names)
    )
