"""The leaderboard as a figure: mean accuracy with its interval, every seed, and the floors beside the methods."""

from __future__ import annotations

from bench_core.analysis.leaderboard import Group
from bench_core.report.figures.drawing import Figure, Key, chart, coloured, panel, picked, shaped
from bench_core.report.rows import fraction
from bench_core.report.view import View, name_of, plural, rounded

MOST = 80  # rows drawn
KINDS = ("trustworthy", "walked back", "undetermined", "floor")
KEYS = tuple(
    Key(*item)
    for item in zip(
        KINDS,
        ("#0072B2", "#D55E00", "#E69F00", "#8A8A8A"),
        ("circle", "triangle-up", "square", "diamond"),
        strict=True,
    )
)


def ranking(found: View) -> list[tuple[int | None, Figure]]:
    """One figure per recipe with a finished run."""
    return [
        (k, _figure(group))
        for k, group in enumerate(found.groups)
        if any(row.accuracy for row in group.rows)
    ]


def _figure(group: Group) -> Figure:
    import altair as alt

    finished = [row for row in group.rows if row.accuracy is not None]
    rows = finished[:MOST]
    names = [name_of(row) for row in rows]
    means, dots = [], []
    for row in rows:
        assert row.accuracy is not None
        kinds = [run.judgement.kind for run in row.finished]
        kind = (
            "floor"
            if row.role == "floor"
            else next((k for k in KINDS[1:3] if k in kinds), "trustworthy")
        )
        half = row.accuracy.half_width
        means.append(
            {
                "method": name_of(row),
                "kind": kind,
                "mean": rounded(row.accuracy.mean),
                "low": rounded(row.accuracy.mean - (half or 0.0)),
                "high": rounded(row.accuracy.mean + (half or 0.0)),
                "read": fraction(row.accuracy.mean)
                + (f" ± {fraction(half)}" if half is not None else " (n=1)"),
                "n": row.accuracy.n,
                "verdict": row.verdict,
            }
        )
        dots += [
            {
                "method": name_of(row),
                "seed": run.record.cell.seed,
                "accuracy": rounded(run.record.accuracy),
            }
            for run in row.finished
        ]
    y = alt.Y("method:N", sort=names, title=None, scale=alt.Scale(domain=names))
    colour, opacity = coloured(KEYS, "kind"), picked("kind", 1.0)
    x = alt.X(
        "low:Q", title=None, scale=alt.Scale(zero=False, padding=10), axis=alt.Axis(tickCount=8)
    )
    base = chart(means).encode(y=y)
    bars = base.mark_rule(strokeWidth=2).encode(
        x=x, x2="high:Q", color=colour, opacity=opacity
    )  # fmt: skip
    points = base.mark_point(filled=True, size=90).encode(
        x="mean:Q",
        color=colour,
        shape=shaped(KEYS, "kind"),
        opacity=opacity,
        tooltip=["method:N", alt.Tooltip("read:N", title="accuracy"), "n:Q", "verdict:N"],
    )
    ticks = (
        chart(dots)
        .mark_tick(thickness=1.5, size=12, opacity=0.6, color="#8A8A8A")
        .encode(
            y=y,
            x="accuracy:Q",
            tooltip=["method:N", alt.Tooltip("seed:Q", format="d"), alt.Tooltip("accuracy:Q")],
        )
    )
    n = sorted({row.accuracy.n for row in rows if row.accuracy})
    seeds = plural(n[0], "seed") if len(n) == 1 else f"{n[0]} to {n[-1]} seeds"
    caption = (
        "Mean accuracy after the last epoch with its 95 % interval (Student t over seeds); small ticks are the seeds. "
        f"n = {seeds} per method. A method that does not clear the diamond of its floor has learned nothing in its blocks."
    )
    if len(finished) > len(rows):
        caption += f" The {len(rows)} best of {len(finished)} rows are drawn."
    made = panel("test accuracy", alt.layer(bars, ticks, points), 22 * len(names))
    return Figure("leaderboard", "Accuracy with intervals", caption, (made,), KEYS, columns=1)
