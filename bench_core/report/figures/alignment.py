"""Per-layer alignment as a map: Γ_l by method and layer, struck out where it means nothing."""

from __future__ import annotations

from typing import Any

from bench_core.analysis.leaderboard import Group
from bench_core.report.figures.drawing import Figure, chart, panel
from bench_core.report.layers import Layers, layers
from bench_core.report.rows import signed
from bench_core.report.view import View, competing, plural, rounded

MOST = 60  # methods drawn


def alignment_map(found: View) -> list[tuple[int | None, Figure]]:
    """One figure per recipe in which a method's credit was audited."""
    made: list[tuple[int | None, Figure]] = []
    for number, group in enumerate(found.groups):
        if rows := [row for row in layers(group, MOST) if not row.floor]:
            made.append((number, _figure(rows, group)))
    return made


def _figure(shown: list[Layers], group: Group) -> Figure:
    import altair as alt

    names = [row.label for row in shown]
    points: list[dict[str, Any]] = []
    for row in shown:
        for layer in row.layers:
            if layer.gamma is None:
                continue
            half = layer.gamma.half_width
            read = signed(layer.gamma.mean, 3) + ("" if half is None else f" ± {half:.3f}")
            points.append(
                {
                    "method": row.label,
                    "layer": f"l{layer.site}",
                    "gamma": rounded(layer.gamma.mean),
                    "text": signed(layer.gamma.mean, 2),
                    "read": read,
                    "n": layer.gamma.n,
                    "ratio": "–" if layer.ratio is None else f"{layer.ratio:.2g}",
                    "means": "nothing: " + row.not_diagnostic
                    if row.not_diagnostic
                    else "what it says",
                    "struck": bool(row.not_diagnostic),
                }
            )
    sites = sorted({layer.site for row in shown for layer in row.layers})
    x = alt.X(
        "layer:N",
        sort=[f"l{site}" for site in sites],
        title="layer",
        axis=alt.Axis(labelAngle=0, orient="top"),
    )
    y = alt.Y("method:N", sort=names, title=None)
    tooltip = [
        alt.Tooltip("method:N"),
        alt.Tooltip("layer:N"),
        alt.Tooltip("read:N", title="Γ"),
        alt.Tooltip("n:Q"),
        alt.Tooltip("ratio:N", title="‖a‖/‖g‖"),
        alt.Tooltip("means:N", title="it means"),
    ]
    base = chart(points).encode(x=x, y=y, tooltip=tooltip)
    cells = base.transform_filter("!datum.struck").mark_rect(stroke="#8A8A8A", strokeWidth=0.5).encode(
        color=alt.Color("gamma:Q", title="Γ", legend=alt.Legend(orient="top", gradientLength=160)).scale(
            domain=[-1, 0, 1], range=["#D55E00", "#F4F4F2", "#0072B2"], type="linear", interpolate="rgb"
        )
    )  # fmt: skip
    struck = base.transform_filter("datum.struck").mark_rect(
        fill="#8A8A8A", fillOpacity=0.12, stroke="#8A8A8A", strokeWidth=0.5, strokeDash=[3, 2]
    )
    numbers = (
        base.transform_filter("!datum.struck")
        .mark_text(fontSize=11)
        .encode(
            text="text:N",
            color=alt.condition("abs(datum.gamma) > 0.6", alt.value("white"), alt.value("#1d1d1f")),
        )
    )
    faint = (
        base.transform_filter("datum.struck")
        .mark_text(fontSize=11, color="#8A8A8A")
        .encode(text="text:N")
    )
    line = base.transform_filter("datum.struck").mark_tick(
        orient="horizontal", thickness=1.5, size=34, color="#D55E00", opacity=0.9
    )
    out = sum(1 for row in shown if row.not_diagnostic)
    counts = sorted({layer.gamma.n for row in shown for layer in row.layers if layer.gamma})
    runs = (
        "" if not counts else f"n = {counts[0]}" + (f" to {counts[-1]}" if len(counts) > 1 else "")
    )
    caption = (
        "Γ_l, the cosine between a method's credit and the backprop gradient at layer l (unclamped), mean over runs. "
        "Blue: along the gradient; orange: against it. Grey and struck through: the number means nothing, because the "
        f"reference it is read against does not. {runs} runs per method; {plural(out, 'row')} struck out. "
        "Floors are in the table."
    )
    if (total := len(competing(group))) > MOST:
        caption += f" Of {total} methods the first {MOST} are drawn."
    made = panel(
        "Γ by method and layer", alt.layer(cells, struck, numbers, faint, line), 28 * len(names)
    )
    return Figure("alignment", "Alignment by layer", caption, (made,), columns=1)
