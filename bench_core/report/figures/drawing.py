"""Build the panels of figures from Vega-Lite specs that Altair makes.

The page makes panels as wide as it is, `paper` gives them a fixed width. Colours are those of Okabe
and Ito, which colour-blind readers can tell apart; a shape or a dash repeats what a colour says.
Names of methods are data in a spec, never field names or expressions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import altair as alt
from altair.utils import schemapi

from bench_core.analysis.stats import Estimate
from bench_core.report.figures import CHANNELS, Key, Panel, Spec
from bench_core.report.text.numbers import fraction, plural, rounded, share
from bench_core.report.view import STATES

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
YELLOW, SKY, OLIVE, GREY = "#E69F00", "#56B4E9", "#7F6A00", "#8A8A8A"
COLOURS = (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, OLIVE, GREY)
DASHES = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3), (10, 4), (4, 2, 1, 2), (3, 3), (12, 2))
POINTS = ("circle", "triangle-up", "square", "diamond", "cross")
SHAPES = (*POINTS, "triangle-down", "triangle-right", "triangle-left")
_MARKS = ((BLUE, "circle"), (ORANGE, "triangle-up"), (GREY, "diamond"))
STATE_KEYS = tuple(Key(name, *mark) for name, mark in zip(STATES, _MARKS, strict=True))


def series(names: Sequence[str]) -> tuple[Key, ...]:
    """Return the keys of a chart's lines, in the given order: 64 pairs of a colour and a dash."""
    marks = list(zip(SHAPES, DASHES, strict=True))
    return tuple(
        Key(name, COLOURS[i % len(COLOURS)], *marks[(i + i // len(COLOURS)) % len(marks)])
        for i, name in enumerate(names)
    )


def chart(values: Sequence[dict[str, Any]]) -> Any:
    """Return an Altair chart of inline data; Altair copies no tuple at every step."""
    return alt.Chart(alt.Data(values=tuple(values)))  # type: ignore[no-untyped-call]


def panel(title: str, layers: Sequence[Any], height: int, around: int = Panel.around) -> Panel:
    """Lay Altair charts over each other in a panel, without Altair's configuration."""
    spec: Spec = alt.layer(*layers).to_dict(validate=schemapi.DEBUG_MODE)
    del spec["$schema"], spec["config"]
    # Altair would copy all layers for each of these
    spec |= {"height": max(height, 60), "description": title}
    spec["params"] = [*spec.get("params", []), {"name": "pick", "value": []}]
    return Panel(title, spec, around)


def limit_line(limit: float, text: str, horizontal: bool = False) -> list[Any]:
    """Draw a dashed line at a threshold, with a text beside it: at the right end of a curve."""
    line = chart([{"limit": limit, "text": text}])
    at = alt.Y("limit:Q") if horizontal else alt.X("limit:Q")
    place: dict[str, Any] = {"align": "left", "dx": 4, "y": -5}
    if horizontal:
        place = {"align": "right", "dx": -4, "dy": -6, "x": "width"}
    return [
        line.mark_rule(strokeDash=[5, 3], strokeWidth=1.5).encode(at),
        line.mark_text(fontSize=10, **place).encode(at, alt.Text("text:N")),
    ]


def by_key(keys: Sequence[Key], field: str, *channels: str) -> dict[str, Any]:
    """Return encodings of a field by the colours, shapes or dashes of its values in the legend."""
    names = [key.name for key in keys]
    return {
        channel: getattr(alt, channel[0].upper() + channel[1:])(f"{field}:N", legend=None).scale(
            domain=names, range=[getattr(key, CHANNELS[channel]) for key in keys]
        )
        for channel in channels
    }


# fields of tooltips that are numbers, with their formats
NUMBERS: dict[str, dict[str, Any]] = {
    "seed": {"format": "d"},
    "epoch": {"format": "d"},
    "n": {},
    "accuracy": {},
    "back": {},
}


def tips(**titles: str) -> list[Any]:
    """Return a tooltip of fields; a field without a title is shown under its own name."""
    return [
        alt.Tooltip(
            f"{name}:{'Q' if name in NUMBERS else 'N'}",
            title=title or alt.Undefined,
            **NUMBERS.get(name, {}),
        )
        for name, title in titles.items()
    ]


def picked(*fields: str, opacity: float = 0.85) -> Any:
    """Return the opacity of the marks that the legend's choice keeps, and of all others."""
    chosen = (f"indexof(pick, datum.{field}) >= 0" for field in fields)
    kept = " || ".join(["length(pick) == 0", *chosen])
    # alt.condition returns a dictionary, for which `encode` searches the class by its schema
    return alt.OpacityValue(0.08, condition={"test": kept, "value": opacity})


def measured(
    channel: Any, field: str, values: Collection[float], log: bool = False, title: str | None = None
) -> Any:
    """Encode a measured field (channel: alt.X or alt.Y): logarithmic, or linear without zero."""
    scale: dict[str, Any] = {"type": "log", "nice": False} if log else {"zero": False}
    axis = log_axis(values) if log else linear_axis()
    axis.title = title
    return channel(f"{field}:Q", scale=alt.Scale(padding=10, **scale), axis=axis)


def linear_axis() -> Any:
    """Return a linear axis with plain numbers: `format` alone would write -20 as -2e+1."""
    return alt.Axis(title=None, tickCount=6, labelExpr="format(datum.value, '~g')")


def log_axis(values: Collection[float]) -> Any:
    """Return a logarithmic axis with few ticks: powers of ten, or round numbers in a small span."""
    positive = [value for value in values if value > 0] or [1.0]
    plain = "datum.value >= 0.01 && datum.value < 10000"
    return alt.Axis(
        title=None,
        labelExpr=f"{plain} ? format(datum.value, '~g') : format(datum.value, '~e')",
        values=_log_ticks(min(positive), max(positive)),
    )


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    span = math.log10(high / low)
    if span >= 2:
        return [10.0**power for power in range(first, last + 1, max(1, round((last - first) / 8)))]
    if span >= 0.7 or high == low:
        return rounds(first, last)
    width = 10.0 ** math.floor(math.log10((high - low) / 2))
    steps = range(math.floor(low / width), math.ceil(high / width) + 1)
    return [float(f"{k * width:.6g}") for k in steps]


def rounds(first: int, last: int) -> list[float]:
    """Return 1, 2, 5, 10, … from a power of ten to another."""
    return [step * 10.0**power for power in range(first, last + 1) for step in (1, 2, 5)]


def interval(estimate: Estimate | None, read: Callable[[float], str]) -> dict[str, Any]:
    """Return the data of a mean with its 95 % interval: value, low, high, and `read` in words."""
    if estimate is None:
        return {}
    half = estimate.half_width
    words = f" (n={estimate.n})" if half is None else f" ± {read(half).lstrip('+')}"
    return {
        "value": rounded(estimate.mean),
        "low": rounded(estimate.mean - (half or 0.0)),
        "high": rounded(estimate.mean + (half or 0.0)),
        "read": read(estimate.mean) + words,
    }


def accuracy(estimate: Estimate | None) -> dict[str, Any]:
    """Return `interval` of an accuracy: it ends at 0 and 1."""
    data = interval(estimate, fraction)
    if estimate is not None and estimate.half_width is not None:
        data |= {"low": max(data["low"], 0.0), "high": min(data["high"], 1.0)}
        data["read"] = share(estimate.mean, estimate.half_width)
    return data


def counted(counts: Collection[int], noun: str) -> str:
    """Return `3 seeds`, or `2 to 3 seeds` if the counts differ."""
    low, high = min(counts), max(counts)
    return plural(low, noun) if low == high else f"{low} to {high} {noun}s"
