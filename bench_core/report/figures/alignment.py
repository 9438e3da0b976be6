"""Draw the alignment as a map: Γ_l by method and state, struck out with its reason."""

from __future__ import annotations

from typing import Any

import altair as alt

from bench_core.analysis.verdicts.rows import Group
from bench_core.report.figures import Figure
from bench_core.report.figures import drawing as draw
from bench_core.report.layers import Layers, layers
from bench_core.report.text.escape import visible
from bench_core.report.text.numbers import plural, signed
from bench_core.report.view import View

MOST = 60  # methods drawn
STROKE = "M-1,0.35L1,-0.35"  # an SVG path


def alignment(view: View, group: Group) -> list[Figure]:
    """Draw a recipe in which the credit of a method was audited."""
    rows = [row for row in layers(group, MOST) if not row.floor]
    cells = [cell for row in rows for cell in _cells(row)]
    if not cells:
        return []
    runs = draw.counted([cell["n"] for cell in cells], "run")
    silent = [visible(row.not_diagnostic) for row in rows if row.not_diagnostic is not None]
    reasons = "; ".join(dict.fromkeys(silent))
    struck = f"Grey and struck through: Γ is not diagnostic ({reasons}). " if silent else ""
    caption = (
        "Γ_l, the cosine between a method's credit and the backprop gradient at the state h_l "
        f"(unclamped), mean over runs. Blue: along the gradient; orange: against it. {struck}"
        f"n = {runs} per method; {plural(len(silent), 'row')} struck through. Floors are in the "
        "table."
    )
    if (total := len(group.competing)) > MOST:
        caption += f" Of {total} methods the first {MOST} are drawn."
    panel = draw.panel("Γ by method and state", _layers(cells, rows), 28 * len(rows), around=120)
    return [Figure(caption, (panel,), columns=1)]


def _cells(row: Layers) -> list[dict[str, Any]]:
    reason = row.not_diagnostic
    return [
        {
            "method": row.label,
            "state": f"h_{layer.site}",
            "text": signed(layer.gamma.mean, 2).replace("-", "−"),  # wider
            "n": layer.gamma.n,
            "ratio": "–" if layer.ratio is None else f"{layer.ratio:.2g}",
            "means": f"nothing: {reason}" if reason else "what it says",
            "struck": reason is not None,
            **draw.interval(layer.gamma, lambda value: signed(value, 3)),
        }
        for layer in row.layers
        if layer.gamma is not None
    ]


def _layers(cells: list[dict[str, Any]], rows: list[Layers]) -> list[Any]:
    sites = [f"h_{site}" for site in sorted({layer.site for row in rows for layer in row.layers})]
    top = alt.Axis(labelAngle=0, orient="top")
    base = draw.chart(cells).encode(
        x=alt.X("state:N", sort=sites, title=None, axis=top),
        y=alt.Y("method:N", sort=[row.label for row in rows], title=None),
        tooltip=draw.tips(method="", state="", read="Γ", n="", ratio="‖a‖/‖g‖", means="it means"),
    )
    valid, struck = base.transform_filter("!datum.struck"), base.transform_filter("datum.struck")
    edge: dict[str, Any] = {"stroke": draw.GREY, "strokeWidth": 0.5}
    gamma = alt.Color("value:Q", title="Γ", legend=alt.Legend(orient="top", gradientLength=160))
    ink = alt.condition("abs(datum.value) > 0.6", alt.value("white"), alt.value("#1d1d1f"))
    shades = [draw.ORANGE, "#F4F4F2", draw.BLUE]
    return [
        valid.mark_rect(**edge).encode(
            color=gamma.scale(domain=[-1, 0, 1], range=shades, type="linear", interpolate="rgb")
        ),
        struck.mark_rect(fill="#EDEDEB", strokeDash=[3, 2], **edge),
        # below the text and across it, so that its sign stays legible
        struck.mark_point(shape=STROKE, size=1600, color=draw.ORANGE, strokeWidth=1.2),
        valid.mark_text(fontSize=11).encode(text=alt.Text("text:N"), color=ink),
        struck.mark_text(fontSize=11, color="#4A4A4A").encode(text=alt.Text("text:N")),
    ]
