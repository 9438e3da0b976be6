"""The audit figure: what each of a, b, c and d measured on every run, with the threshold it is judged by."""

from __future__ import annotations

from typing import Any

from bench_core.analysis.leaderboard import Group
from bench_core.report.figures.drawing import (
    STATE_KEYS,
    Figure,
    Panel,
    chart,
    coloured,
    log_axis,
    panel,
    picked,
    shaped,
)
from bench_core.report.rows import compact, signed
from bench_core.report.view import (
    View,
    competing,
    finite,
    name_of,
    plural,
    rounded,
    state,
    thresholds,
    value,
)

PANELS = {
    "a": ("a · largest growth of ‖h‖ in one block (×)", "growth"),
    "b": ("b · ‖g_L‖, batch-mean CE at N = 128", "‖g_L‖"),
    "c": ("c · cosine between the gradients of batches", "cosine"),
    "d": ("d · accuracy over the floor (percentage points)", "margin"),
}
LOG = ("a", "b")
SMALLEST = 1e-30  # where a zero is drawn on a logarithmic axis
MOST = 600  # runs drawn per recipe: beyond that dots hide each other, and the page grows


def audit(found: View) -> list[tuple[int | None, Figure]]:
    """One figure per recipe with a judged run."""
    made: list[tuple[int | None, Figure]] = []
    for number, group in enumerate(found.groups):
        if (figure := _figure(found, group)) is not None:
            made.append((number, figure))
    return made


def _points(group: Group, letter: str) -> tuple[list[dict[str, Any]], int, int]:
    """Dots of one panel; how many runs have a value that cannot be drawn; how many are left out as too many."""
    points: list[dict[str, Any]] = []
    undrawn = left_out = 0
    for row in competing(group):
        for run in row.finished:
            if len(points) >= MOST:
                left_out += 1
                continue
            measured = value(run, letter)
            shown = finite(measured)
            if shown is None:
                undrawn += measured is not None
                continue
            drawn = max(shown, SMALLEST) if letter in LOG else shown
            points.append(
                {
                    "method": name_of(row),
                    "seed": run.record.cell.seed,
                    "state": state(run, letter),
                    "value": rounded(drawn),
                    "read": f"{signed(shown, 2)} pp" if letter == "d" else compact(shown),
                    "verdict": run.judgement.text,
                }
            )
    return points, undrawn, left_out


def _panel(
    points: list[dict[str, Any]], names: list[str], letter: str, limits: list[float]
) -> Panel:
    import altair as alt

    title, word = PANELS[letter]
    scale = (
        alt.Scale(type="log", nice=False, padding=12)
        if letter in LOG
        else alt.Scale(zero=False, padding=12)
    )
    axis = (
        log_axis([*(point["value"] for point in points), *limits], title=None)
        if letter in LOG
        else alt.Axis(title=None, tickCount=6, format="~g")
    )
    dots = (
        chart(points)
        .mark_point(filled=True, size=80, opacity=0.85)
        .encode(
            x=alt.X("value:Q", scale=scale, axis=axis),
            y=alt.Y("method:N", sort=names, title=None, scale=alt.Scale(domain=names)),
            opacity=picked("state"),
            color=coloured(STATE_KEYS, "state"),
            shape=shaped(STATE_KEYS, "state"),
            tooltip=[
                alt.Tooltip("method:N"),
                alt.Tooltip("seed:Q", format="d"),
                alt.Tooltip("read:N", title=word),
                alt.Tooltip("state:N", title=f"diagnostic {letter}"),
                alt.Tooltip("verdict:N"),
            ],
        )
    )
    layers = [dots]
    for limit in limits:
        lined = chart([{"limit": limit, "text": f"limit {compact(limit)}"}])
        layers.append(
            lined.mark_rule(strokeDash=[5, 3], strokeWidth=1.5).encode(
                x=alt.X("limit:Q", scale=scale)
            )
        )
        layers.append(
            lined.mark_text(align="left", dx=4, y=-5, fontSize=10).encode(
                x=alt.X("limit:Q", scale=scale), text=alt.Text("text:N")
            )
        )
    return panel(title, alt.layer(*layers), 26 * len(names))


def _figure(found: View, group: Group) -> Figure | None:
    rows = [row for row in competing(group) if row.finished]
    names = [name_of(row) for row in rows]
    runs = sum(len(row.finished) for row in rows)
    panels, remarks = [], []
    in_force = thresholds(group, found.settings)
    for letter in PANELS:
        points, undrawn, left_out = _points(group, letter)
        if not points:
            remarks.append(f"{letter} has no value that can be drawn.")
            continue
        limits = [limit for limit in in_force.get(letter, ()) if letter not in LOG or limit > 0]
        panels.append(_panel(points, names, letter, limits))
        if undrawn:
            remarks.append(
                f"{letter}: {plural(undrawn, 'value')} not finite and not drawn; such a value fires."
            )
        if left_out:
            remarks.append(f"{letter}: {plural(left_out, 'further run')} not drawn.")
        if any(point["value"] == SMALLEST for point in points):
            remarks.append(f"{letter}: zero is drawn at 1e-30.")
    if not panels:
        return None
    healthy = sum(run.judgement.kind == "trustworthy" for row in rows for run in row.finished)
    back = sum(run.judgement.kind == "walked back" for row in rows for run in row.finished)
    caption = (
        "What a (growth), b (reference gradient), c (batch stability) and d (depth utility) measured after the last "
        "epoch. A triangle beyond the dashed line has fired; a diamond is not judged (not diagnostic or not measured). "
        f"n = {plural(runs, 'finished run')} of {plural(len(rows), 'method')}, one dot each; "
        f"{healthy} trustworthy, {back} walked back. Floors are not judged and not drawn. "
        + " ".join(remarks)
    )
    return Figure("audit", "Audit: four diagnostics", caption.strip(), tuple(panels), STATE_KEYS)
