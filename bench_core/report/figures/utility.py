"""Draw the decision utility: how many runs each way of reporting would walk back."""

from __future__ import annotations

from typing import Any

import altair as alt

from bench_core.analysis import utility as strategies
from bench_core.report.figures import Figure
from bench_core.report.figures import drawing as draw
from bench_core.report.text.numbers import plural
from bench_core.report.view import View


def utility(view: View) -> list[Figure]:
    """Draw a suite with a finished run."""
    total = strategies.total(view.groups)
    if not total.n:
        return []
    values: list[dict[str, Any]] = [
        {"strategy": f"{name}: {strategies.WORDS[name]}", "back": back, "n": total.n}
        for name, back in total.walked_back.items()
    ]
    names = [value["strategy"] for value in values]
    base = draw.chart(values).encode(
        x=alt.X(
            "back:Q",
            title=f"runs walked back, of {total.n}",
            scale=alt.Scale(domain=[0, total.n]),
            axis=alt.Axis(tickMinStep=1, format="d"),
        ),
        y=alt.Y("strategy:N", sort=names, title=None),
        tooltip=draw.tips(strategy="walks back", back="walked back", n=""),
    )
    bars = base.mark_bar(color=draw.ORANGE, opacity=0.85, height=14)
    numbers = base.mark_text(align="left", dx=5, fontSize=11).encode(text=alt.Text("back:Q"))
    caption = (
        "Judged run by run, where a verdict judges a rule over its seeds. S0 walks back "
        "nothing; S1 a run whose headline Γ is not positive; S2 to S5 add one of the "
        f"diagnostics a, b, c and d; S_full adds all. {strategies.HEADLINE} "
        f"n = {plural(total.n, 'finished run')} of methods and the ceiling. The runs that S_full "
        "walks back and S1 keeps are those that accuracy and cosine miss."
    )
    if total.without_gamma:
        caption += f" {plural(total.without_gamma, 'run')} without Γ."
    title = "runs walked back by each way of reporting"
    return [Figure(caption, (draw.panel(title, [bars, numbers], 24 * len(values)),), columns=1)]
