"""Compare a row with its ceilings: bp, and for a rule with local heads bp_local_heads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench_core.analysis.accuracies import Scored
from bench_core.analysis.stats import Estimate
from bench_core.analysis.verdicts.floors import accuracies, explained
from bench_core.analysis.verdicts.judge import Floor
from bench_core.analysis.verdicts.roles import is_local_ceiling
from bench_core.analysis.verdicts.rows import Group, Row
from bench_core.analysis.verdicts.verdict import better, margin, points_of, worse


@dataclass(frozen=True)
class Above:
    """The points by which a row lies above a ceiling."""

    ceiling: Row
    points: Estimate


def over(row: Row, ceiling: Row, scored: Scored) -> Estimate | None:
    """Return the points by which a row lies above another; None where one has no accuracy.

    scored  the samples on which both were measured
    """
    by_seed, theirs = (accuracies(run.record for run in each.runs) for each in (row, ceiling))
    if ceiling.accuracy is None:
        return None
    floor = Floor("", accuracies=theirs, mean=ceiling.accuracy.mean)
    counts = not explained(run.record for run in row.runs)
    return points_of(margin(by_seed, floor, scored, counts))


def local_ceiling(row: Row, rows: Iterable[Row]) -> Row | None:
    """Return bp_local_heads if the row has local heads and lies beside it, and is another rule."""
    declared = any(run.record.passport.get("local_heads") for run in row.runs)
    has_heads = row.role == "method" and declared
    ceilings = (each for each in rows if is_local_ceiling(each.runs[0].record))
    return next((each for each in ceilings if has_heads and each is not row), None)


def above_ceiling(row: Row, group: Group) -> Above | None:
    """Return by how much a row is shown to lie above all of its ceilings, at the nearest one.

    A rule with local heads must lie above bp_local_heads too, and this rule has no ceiling: the
    heads may lift it above bp. A bp that is worse than its own random blocks is no ceiling.
    """
    ceilings = [each for each in group.rows if each.role == "ceiling" and not worse(each.margin)]
    if row.role in ("ceiling", "floor") or is_local_ceiling(row.runs[0].record):
        return None
    ceilings += filter(None, [local_ceiling(row, group.rows)])
    pairs = [(each, over(row, each, group.scored)) for each in ceilings]
    every = [Above(each, points) for each, points in pairs if points is not None]
    nearest = min(every, key=lambda each: each.points.mean, default=None)
    return nearest if nearest is not None and better(nearest.points) else None
