"""Draw the value of each diagnostic on every run, beside its threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench_core.analysis.leaderboard import Group, Row
from bench_core.report.criteria import Criterion, criteria
from bench_core.report.figures.drawing import (
    SMALLEST,
    STATE_KEYS,
    Figure,
    Panel,
    by_key,
    chart,
    limit_line,
    measured,
    panel,
    picked,
)
from bench_core.report.numbers import compact
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

MOST = 600  # runs drawn per recipe: more dots hide each other and make the page large


def audit(view: View, group: Group) -> list[Figure]:
    """Draw a recipe with a judged run."""
    rows = [row for row in competing(group) if row.finished]
    limits = thresholds(group, view.settings)
    panels, remarks = [], []
    judged_by = criteria(rows)
    for criterion in judged_by:
        points, remark = _points(rows, criterion)
        if points:
            panels.append(_panel(rows, points, criterion, limits.get(criterion.letter, ())))
        remarks += remark
    if not panels:
        return []
    kinds = [run.judgement.kind for row in rows for run in row.finished]
    names = ", ".join(f"{item.letter} ({item.heading})" for item in judged_by)
    caption = (
        f"Values of the diagnostics {names} after the last epoch. A triangle beyond the dashed "
        "line has fired; a diamond is not judged (not diagnostic or not measured). "
        f"n = {plural(len(kinds), 'finished run')} of "
        f"{plural(len(rows), 'method')}, one dot each; {kinds.count('trustworthy')} trustworthy, "
        f"{kinds.count('walked back')} walked back. Floors are not judged and not drawn."
    )
    return [Figure(" ".join([caption, *remarks]), tuple(panels), STATE_KEYS)]


def _points(rows: Sequence[Row], criterion: Criterion) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the dots of a panel, and remarks on the values that are not drawn as they are."""
    letter = criterion.letter
    runs = [(row, run, value(run, letter)) for row in rows for run in row.finished]
    numbers = [
        (row, run, number) for row, run, found in runs if (number := finite(found)) is not None
    ]
    points = [
        {
            "method": name_of(row),
            "seed": run.record.cell.seed,
            "state": state(run, letter),
            "value": rounded(max(number, SMALLEST) if criterion.log else number),
            "read": criterion.text(number, 2) + (" pp" if criterion.margin else ""),
            "verdict": run.judgement.text,
        }
        for row, run, number in numbers[:MOST]
    ]
    if not points:
        return [], [f"{letter} has no value that can be drawn."]
    remarks = []
    if infinite := sum(found is not None and finite(found) is None for _, _, found in runs):
        remarks.append(
            f"{letter}: {plural(infinite, 'value')} not finite and not drawn; such a value fires."
        )
    if left_out := len(numbers) - len(points):
        remarks.append(f"{letter}: {plural(left_out, 'further run')} not drawn.")
    if any(point["value"] == SMALLEST for point in points):
        remarks.append(f"{letter}: zero is drawn at {SMALLEST:g}.")
    return points, remarks


def _panel(
    rows: Sequence[Row], points: list[dict[str, Any]], criterion: Criterion, limits: Sequence[float]
) -> Panel:
    import altair as alt

    names = [name_of(row) for row in rows]
    log = criterion.log
    limits = [limit for limit in limits if limit > 0 or not log]
    dots = (
        chart(points)
        .mark_point(filled=True, size=80, opacity=0.85)
        .encode(
            measured(alt.X, "value", [*(point["value"] for point in points), *limits], log),
            y=alt.Y("method:N", sort=names, title=None, scale=alt.Scale(domain=names)),
            opacity=picked("state"),
            tooltip=[
                "method:N",
                alt.Tooltip("seed:Q", format="d"),
                alt.Tooltip("read:N", title=criterion.heading),
                alt.Tooltip("state:N", title=f"diagnostic {criterion.letter}"),
                "verdict:N",
            ],
            **by_key(STATE_KEYS, "state", "color", "shape"),
        )
    )
    lines = [part for limit in limits for part in limit_line(limit, f"limit {compact(limit)}")]
    return panel(criterion.title, [dots, *lines], 26 * len(names))
