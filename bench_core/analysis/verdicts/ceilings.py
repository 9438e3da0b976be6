"""Compare a row with its ceilings: bp, and for a rule with local heads bp_local_heads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench_core.analysis.stats import Estimate
from bench_core.analysis.verdicts.floors import accuracies, explained
from bench_core.analysis.verdicts.judge import Floor
from bench_core.analysis.verdicts.roles import is_local_ceiling
from bench_core.analysis.verdicts.rows import Row
from bench_core.analysis.verdicts.verdict import ONE_SEED, ends, margin, points_of, worse


def over(row: Row, ceiling: Row) -> Estimate | None:
    """Return the points by which a row lies above another; None where one has no accuracy."""
    by_seed, theirs = (accuracies(run.record for run in each.runs) for each in (row, ceiling))
    if ceiling.accuracy is None:
        return None
    floor = Floor("", accuracies=theirs, mean=ceiling.accuracy.mean)
    return points_of(margin(by_seed, floor, counts=not explained(run.record for run in row.runs)))


def local_ceiling(row: Row, rows: Iterable[Row]) -> Row | None:
    """Return bp_local_heads if the row has local heads and lies beside it, and is another rule."""
    declared = any(run.record.passport.get("local_heads") for run in row.runs)
    has_heads = row.role == "method" and declared
    ceilings = (each for each in rows if is_local_ceiling(each.runs[0].record))
    return next((each for each in ceilings if has_heads and each is not row), None)


def above_ceiling(row: Row, rows: Sequence[Row]) -> Estimate | None:
    """Return the points by which a row lies above its ceilings; None within the interval.

    A rule with local heads must lie above bp_local_heads too, and this rule has no ceiling: the
    heads may lift it above bp. A bp that is worse than its own random blocks is no ceiling.
    """
    ceilings = [each for each in rows if each.role == "ceiling" and not worse(each.margin)]
    if row.role in ("ceiling", "floor") or is_local_ceiling(row.runs[0].record):
        return None
    ceilings += filter(None, [local_ceiling(row, rows)])
    every = [points for each in ceilings if (points := over(row, each)) is not None]
    if not every:
        return None
    points = min(every, key=lambda each: each.mean)
    low = points.mean - ONE_SEED if points.half_width is None else ends(points)[0]
    return points if round(low, 9) > 0 else None
