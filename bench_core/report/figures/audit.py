"""Draw the value of each diagnostic on every run, beside its threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from bench_core.analysis.verdicts.kinds import FLAGGED, INCOMPLETE, NO_FLAG
from bench_core.analysis.verdicts.rows import Group, Row
from bench_core.report.figures import Figure, Panel
from bench_core.report.figures import drawing as draw
from bench_core.report.text.numbers import compact, plural, rounded
from bench_core.report.view import View, name_of, state, thresholds, value
from bench_core.report.words.criteria import SMALLEST, Criterion, criteria
from bench_core.results.details import finite

MOST = 600  # runs drawn per recipe: more dots hide each other and make the page large


def audit(view: View, group: Group) -> list[Figure]:
    """Draw a recipe with a judged run."""
    rows = [row for row in group.competing if row.finished]
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
        "line has fired; a diamond is not judged (not diagnostic or not measured). n = "
        f"{plural(len(kinds), 'finished run')} of {plural(len(rows), 'method')}, one dot each; "
        f"{kinds.count(NO_FLAG)} without a flag, {kinds.count(FLAGGED)} flagged, "
        f"{kinds.count(INCOMPLETE)} incomplete. Floors are not judged and not drawn."
    )
    return [Figure(" ".join([caption, *remarks]), tuple(panels), draw.STATE_KEYS)]


def _points(rows: Sequence[Row], criterion: Criterion) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the dots of a panel, and remarks on the values that are not drawn as they are."""
    letter = criterion.letter
    runs = [(row, run, value(run, letter)) for row in rows for run in row.finished]
    numbers = [
        (row, run, number) for row, run, stored in runs if (number := finite(stored)) is not None
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
    if infinite := sum(stored is not None for _, _, stored in runs) - len(numbers):
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
    names = [name_of(row) for row in rows]
    limits = [limit for limit in limits if limit > 0 or not criterion.log]
    values = [*(point["value"] for point in points), *limits]
    diagnostic = f"diagnostic {criterion.letter}"
    dots = draw.chart(points).mark_point(filled=True, size=80, opacity=0.85)
    dots = dots.encode(
        draw.measured(alt.X, "value", values, criterion.log),
        y=alt.Y("method:N", sort=names, title=None, scale=alt.Scale(domain=names)),
        opacity=draw.picked("state"),
        tooltip=draw.tips(method="", seed="", read=criterion.heading, state=diagnostic, verdict=""),
        **draw.by_key(draw.STATE_KEYS, "state", "color", "shape"),
    )
    texts = ((limit, f"limit {compact(limit)}") for limit in limits)
    lines = [part for limit, text in texts for part in draw.limit_line(limit, text)]
    return draw.panel(criterion.title, [dots, *lines], 26 * len(names))
