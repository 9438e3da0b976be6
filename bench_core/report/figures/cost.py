"""Draw accuracy against the operations of the training, with the rules that no other dominates."""

from __future__ import annotations

import altair as alt

from bench_core.analysis.cost import costs
from bench_core.analysis.verdicts.rows import Group
from bench_core.report.figures import Figure, Key
from bench_core.report.figures import drawing as draw
from bench_core.report.text.numbers import rounded
from bench_core.report.view import View, name_of

KEYS = (
    Key("no rule is as accurate with fewer operations", draw.BLUE, "circle"),
    Key("another rule is at least as accurate with fewer", draw.GREY, "triangle-up"),
)


def cost(view: View, group: Group) -> list[Figure]:
    """Draw a recipe with two rules whose operations were counted."""
    drawn = [
        item
        for item in costs(group, lambda record: (), None)
        if item.training_flops and item.row.accuracy is not None
    ]
    if len(drawn) < 2:
        return []
    values = [
        {
            "method": name_of(item.row),
            "kind": KEYS[0 if item.efficient else 1].name,
            "flops": rounded(item.training_flops),
            "accuracy": rounded(item.row.accuracy.mean),
        }
        for item in drawn
        if item.row.accuracy is not None
    ]
    flops = [float(item.training_flops or 0) for item in drawn]
    x = draw.measured(alt.X, "flops", flops, log=True, title="floating-point operations")
    y = draw.measured(alt.Y, "accuracy", [], title="accuracy")
    base = draw.chart(values).encode(x=x, y=y, opacity=draw.picked("kind", opacity=1.0))
    points = base.mark_point(filled=True, size=90).encode(
        tooltip=draw.tips(method="", accuracy="", flops="operations of the training"),
        **draw.by_key(KEYS, "kind", "color", "shape"),
    )
    names = base.mark_text(align="left", dx=8, fontSize=11).encode(text=alt.Text("method:N"))
    front = draw.chart([item for item in values if item["kind"] == KEYS[0].name])
    line = front.mark_line(strokeDash=[5, 3], color=draw.BLUE, interpolate="step-after")
    best = sum(item.efficient for item in drawn)
    joins = "The line joins the rules that no other rule dominates (Pareto front). " * (best > 1)
    caption = (
        "Mean accuracy after the last epoch against the floating-point operations of the "
        f"training: products and convolutions, median over seeds. {joins}Floors are not drawn."
    )
    layers = [line.encode(x=x, y=y), points, names]
    panel = draw.panel("accuracy against operations of the training", layers, 260)
    return [Figure(caption, (panel,), KEYS, columns=1)]
