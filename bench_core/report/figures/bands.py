"""How much the verdicts depend on the thresholds, and what each way of reporting would walk back."""

from __future__ import annotations

import math
from typing import Any

from bench_core.analysis import sensitivity as bands
from bench_core.analysis import utility as strategies
from bench_core.analysis.sensitivity import Sensitivity
from bench_core.report.figures.audit import MOST, PANELS, SMALLEST
from bench_core.report.figures.drawing import (
    Figure,
    Key,
    Panel,
    chart,
    coloured,
    log_axis,
    panel,
    picked,
    shaped,
)
from bench_core.report.rows import N, compact
from bench_core.report.view import View, finite, name_of, plural, rounded

KEYS = (Key("healthy", "#0072B2", "circle"), Key("degenerate", "#D55E00", "triangle-up"))


def unit(letter: str) -> float:
    """What a stored value is divided by to be read: b is kept per sample."""
    return float(N) if letter == "b" else 1.0


def sensitivity(found: View) -> list[tuple[int | None, Figure]]:
    """One figure per suite: thresholds serve all its recipes."""
    made = [item for item in found.sensitivities if item.n]
    panels = [drawn for item in made if (drawn := _band(item, _points(found, item))) is not None]
    if not panels:
        return []
    widest = max(item.n for item in made)
    caption = (
        "The shaded band holds the thresholds over which no run changes its verdict; the dashed line is the threshold in "
        "force, the marks are the runs. Triangles: degenerate, that is walked back by a diagnostic of the network itself. "
        f"n = {plural(widest, 'judged run')}. A wide band says that the threshold hardly matters here, not that it is right: "
        f"{bands.CIRCULAR}."
    )
    return [
        (None, Figure("sensitivity", "Sensitivity to the thresholds", caption, tuple(panels), KEYS))
    ]


def _points(found: View, item: Sensitivity) -> list[dict[str, Any]]:
    """The runs of one diagnostic, as the band sees them."""
    labels = {run.record.identity: name_of(row) for _, row, run in found.runs}
    return [
        {
            "method": labels[point.run.record.identity],
            "seed": point.run.record.cell.seed,
            "state": "degenerate" if point.degenerate else "healthy",
            "value": point.value / unit(item.letter),
        }
        for point in item.points[:MOST]
        if finite(point.value) is not None
    ]


def _band(item: Sensitivity, points: list[dict[str, Any]]) -> Panel | None:
    import altair as alt

    if not points:
        return None
    log = item.letter in ("a", "b")
    limit = item.threshold / unit(item.letter)
    ends = [end / unit(item.letter) for end in item.band]
    values = (
        [point["value"] for point in points] + [limit] + [end for end in ends if math.isfinite(end)]
    )
    values = [max(value, SMALLEST) if log else value for value in values]
    low, high = min(values), max(values)
    low, high = (
        (low / 2, high * 2)
        if log
        else (low - 0.08 * (high - low or 1), high + 0.08 * (high - low or 1))
    )
    shaded = [max(ends[0], low), min(ends[1], high)]
    scale = alt.Scale(type="log" if log else "linear", domain=[low, high], nice=False)
    axis = log_axis(values, title=None) if log else alt.Axis(title=None, tickCount=6, format="~g")
    band = {"low": rounded(shaded[0]), "high": rounded(shaded[1]), "read": in_words(item)}
    drawn = [
        {**point, "value": rounded(max(point["value"], SMALLEST) if log else point["value"])}
        for point in points
    ]
    layers = [
        chart([band])
        .mark_rect(color="#009E73", opacity=0.18)
        .encode(
            x=alt.X("low:Q", scale=scale, axis=axis),
            x2="high:Q",
            tooltip=[alt.Tooltip("read:N", title="no verdict changes")],
        ),
        chart([{"limit": limit, "text": f"limit {compact(limit)}"}])
        .mark_rule(strokeDash=[5, 3], strokeWidth=1.5)
        .encode(x=alt.X("limit:Q", scale=scale)),
        chart(drawn)
        .mark_point(filled=True, size=70)
        .encode(
            x=alt.X("value:Q", scale=scale),
            y=alt.Y("state:N", sort=["healthy", "degenerate"], title=None),
            color=coloured(KEYS, "state"),
            shape=shaped(KEYS, "state"),
            opacity=picked("state", 0.7),
            tooltip=[
                "method:N",
                alt.Tooltip("seed:Q", format="d"),
                alt.Tooltip("value:Q", format=".3~g"),
                "state:N",
            ],
        ),
    ]
    return panel(
        PANELS.get(item.letter, (f"{item.letter} · {item.name}", ""))[0], alt.layer(*layers), 62
    )


def in_words(item: Sensitivity) -> str:
    """`[12, 693)`: the band as an interval, open where a run lies on the end."""
    low, high = (end / unit(item.letter) for end in item.band)
    shown = ["−∞" if low == -math.inf else compact(low), "∞" if high == math.inf else compact(high)]
    left, right = ("[", ")") if item.direction == "above" else ("(", "]")
    return f"{'(' if low == -math.inf else left}{shown[0]}, {shown[1]}{')' if high == math.inf else right}"


def utility(found: View) -> list[tuple[int | None, Figure]]:
    """One figure per suite."""
    import altair as alt

    total = strategies.total(found.groups)
    if not total.n:
        return []
    values = [
        {
            "strategy": name,
            "words": strategies.WORDS[name],
            "back": back,
            "kept": total.n - back,
            "n": total.n,
        }
        for name, back in total.walked_back.items()
    ]
    names = [str(value["strategy"]) for value in values]
    base = chart(values).encode(
        y=alt.Y("strategy:N", sort=names, title=None),
        x=alt.X("back:Q", title=f"runs walked back, of {total.n}", scale=alt.Scale(domain=[0, total.n]),
                axis=alt.Axis(tickMinStep=1, format="d")),
        tooltip=["strategy:N", alt.Tooltip("words:N", title="walks back"), alt.Tooltip("back:Q", title="walked back"), "n:Q"],
    )  # fmt: skip
    bars = base.mark_bar(color="#D55E00", opacity=0.85, height=14)
    text = base.mark_text(align="left", dx=5, fontSize=11).encode(text="back:Q")
    made = panel(
        "runs walked back by each way of reporting", alt.layer(bars, text), 24 * len(names)
    )
    caption = (
        "S0 reports accuracy only; S1 walks back where the headline Γ is not positive; S2 to S5 add one of a, b, c and d; "
        f"S_full adds all. n = {plural(total.n, 'finished run')} of methods and the ceiling. What S_full walks back and S1 keeps "
        "is what accuracy and cosine miss."
    )
    if total.without_gamma:
        caption += f" {plural(total.without_gamma, 'run')} without Γ."
    return [(None, Figure("utility", "Decision utility", caption, (made,), columns=1))]
