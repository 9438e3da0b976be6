"""Rank rules by intervals that hold all at once: pure functions of accuracies by seed.

Rule j is better than rule i where d_ji > c·√(v_ji/n): d is the mean difference over the n common
seeds, v = max(s², p), s² the sample variance of those differences and p its mean over all pairs, or
the variance of their rounding to a sample, 2/(12·N²), if that is larger.
The rank interval of i is 1 + #{better than i} … m − #{worse than i}. With probability 0.95 or more
all m intervals contain the true ranks, because no true order is reversed anywhere.

c(m, n) is the largest 95 % point of max |d|/√(v/n) over m rules of equal means and any deviations
(normal values). `benchmarks/rank_points.py` searches it over patterns of deviations and checks it.
The rows of two to five seeds come from its full search, those of more seeds from a narrower one;
at five seeds the two agree within .05. A simulation apart from it found errors of .0535 for six
rules of 20 seeds, and .0524 for eight rules of six, in the worst pattern that it tried.
Values that are not normal err more often, most where one rule collapses in some seeds: with one
rule of log-normal errors at n = 3 .07 of tables at a log-deviation of .5, .16 at 1, .46 at 2. A
rule with a large deviation widens the intervals of all; a line names it.

Paired t tests with Holm's correction separate almost nothing at two degrees of freedom (c would be
17 for six rules and 81 for 26). Tukey's pooled variance separates, but it errs where deviations
differ: bp's is a tenth of that of ep. The floor p borrows the other pairs' degrees of freedom only
against variances that are small by chance.

Two rules with fewer than two common seeds are compared unpaired: v/n = s_i²/n_i + s_j²/n_j.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench_core.analysis.accuracies import SAME

RULES = (2, 3, 4, 5, 6, 8, 10, 13, 18, 26, 40)
POINTS = {
    2: (12.83, 13.40, 13.89, 14.32, 14.63, 15.49, 16.11, 16.57, 17.81, 19.13, 20.95),
    3: (4.31, 4.58, 4.82, 5.00, 5.13, 5.41, 5.60, 5.84, 6.09, 6.63, 7.33),
    4: (3.19, 3.39, 3.59, 3.74, 3.84, 4.02, 4.17, 4.41, 4.78, 5.22, 5.92),
    5: (2.78, 2.97, 3.13, 3.27, 3.38, 3.58, 3.78, 4.02, 4.36, 4.81, 5.41),
    6: (2.58, 2.77, 2.94, 3.03, 3.15, 3.39, 3.58, 3.80, 4.17, 4.56, 5.11),
    8: (2.37, 2.56, 2.72, 2.88, 3.00, 3.22, 3.44, 3.64, 3.94, 4.33, 4.76),
    10: (2.27, 2.46, 2.64, 2.81, 2.95, 3.16, 3.37, 3.54, 3.86, 4.15, 4.58),
    15: (2.15, 2.40, 2.58, 2.73, 2.86, 3.08, 3.24, 3.46, 3.67, 3.99, 4.32),
    20: (2.10, 2.37, 2.56, 2.71, 2.82, 3.06, 3.18, 3.41, 3.60, 3.87, 4.18),
    30: (2.05, 2.33, 2.56, 2.71, 2.81, 3.02, 3.15, 3.33, 3.56, 3.78, 4.01),
    50: (2.02, 2.32, 2.54, 2.70, 2.80, 2.98, 3.15, 3.27, 3.48, 3.72, 3.84),
    100: (1.99, 2.32, 2.53, 2.70, 2.80, 2.98, 3.13, 3.25, 3.43, 3.66, 3.83),
}  # seeds → c for each number of `RULES`
GROWTH = 0.35  # c ~ m^GROWTH beyond the table; simulated c grows with an exponent of .28 or less
BEYOND = {
    2: (3.66, 6.04, 6.20, 6.23, 6.14, 6.15, 6.12, 5.97, 5.96, 6.03, 6.22),
    3: (1.34, 1.89, 1.99, 2.00, 2.01, 2.04, 2.06, 2.08, 2.10, 2.17, 2.30),
    4: (1.07, 1.40, 1.47, 1.50, 1.52, 1.54, 1.56, 1.61, 1.66, 1.73, 1.85),
    5: (0.99, 1.24, 1.29, 1.33, 1.35, 1.37, 1.41, 1.44, 1.50, 1.57, 1.66),
    6: (0.94, 1.17, 1.21, 1.24, 1.26, 1.28, 1.32, 1.35, 1.41, 1.46, 1.53),
    8: (0.91, 1.08, 1.12, 1.15, 1.17, 1.20, 1.23, 1.25, 1.29, 1.34, 1.40),
    10: (0.88, 1.04, 1.08, 1.10, 1.12, 1.15, 1.18, 1.20, 1.24, 1.27, 1.32),
    15: (0.87, 0.99, 1.02, 1.04, 1.05, 1.07, 1.10, 1.11, 1.14, 1.17, 1.19),
    20: (0.86, 0.97, 0.99, 1.01, 1.03, 1.04, 1.06, 1.08, 1.09, 1.11, 1.14),
    30: (0.85, 0.94, 0.96, 0.97, 0.99, 1.00, 1.01, 1.02, 1.04, 1.05, 1.07),
    50: (0.85, 0.91, 0.93, 0.94, 0.96, 0.96, 0.97, 0.97, 0.99, 1.00, 1.00),
    100: (0.85, 0.89, 0.91, 0.91, 0.91, 0.92, 0.92, 0.93, 0.94, 0.94, 0.94),
}  # √(p/n) beyond c that separate two rules four times out of five, if all scatter alike
# √p of the published CIFAR-10 audit (arXiv:2606.21126): six rules, deviations of .4 to 3.9 points
PUBLISHED = 0.037


@dataclass(frozen=True)
class Ranking:
    """Rank intervals in the order of the rows.

    intervals   (lowest, highest) rank; None for a row with fewer than two seeds, and for a lone one
    n           the fewest seeds of a comparison
    deviation   the typical deviation √p of a paired difference, or that of its rounding; 0: all are
                equal over the seeds, and not rounded
    unpaired    pairs of rows that were compared without common seeds
    dominant    the row that supplies most of p (without it p is less than a quarter), if it widens
                the interval of another row
    """

    intervals: tuple[tuple[int, int] | None, ...]
    n: int = 0
    deviation: float = 0.0
    unpaired: tuple[tuple[int, int], ...] = ()
    dominant: int | None = None


def critical(rules: int, seeds: int) -> float:
    """Return c for so many rules and seeds, rounded up to the next entries of the table."""
    if seeds < min(POINTS):
        return math.inf
    growth = max(1.0, rules / RULES[-1]) ** GROWTH
    return float(_entry(POINTS, rules, seeds) * growth)


def _entry(table: Mapping[int, Sequence[float]], rules: int, seeds: int) -> float:
    """Return the entry for so many rules or the next more, and so many seeds or the next fewer."""
    rows = sorted(table)
    row = table[rows[bisect_right(rows, seeds) - 1]]
    return row[min(bisect_left(RULES, rules), len(RULES) - 1)]


def resolution(rules: int, seeds: int, deviation: float) -> float:
    """Return the difference that separates two rules four times out of five.

    All rules scatter alike, and v is estimated from the same seeds (`BEYOND`).

    deviation  typical deviation of the paired differences, √p
    """
    errors = critical(rules, seeds) + _entry(BEYOND, rules, seeds)
    return errors * deviation / math.sqrt(seeds)


def seeds_for(difference: float, rules: int, deviation: float) -> int | None:
    """Return the seeds that resolve a difference; None: over a thousand."""
    enough = (n for n in range(2, 1001) if resolution(rules, n, deviation) <= difference)
    return next(enough, None)


def resolved(rules: int, seeds: int, deviation: float, scatter: str, whose: str = "") -> str:
    """Say which difference so many seeds resolve with a power of 80 %; how many 2 points need.

    scatter  whose paired differences have the deviation
    whose    text after the number of seeds
    """
    points = 100 * resolution(rules, seeds, deviation)
    pair = "two rules" if rules == 2 else f"two of {rules} rules"
    text = (
        f"with {seeds} seeds{whose}, {pair} that differ by {points:.1f} points are told apart in "
    )
    text += "80 % of cases"
    if points >= 100:
        text = f"with {seeds} seeds{whose}, no two rules can be told apart"
    needed = seeds_for(0.02, rules, deviation) or "more than 1,000"
    text += "" if points <= 2 else f"; a difference of 2 points needs {needed} seeds"
    return f"{text} (if all scatter like {scatter})"


def rank(rows: Sequence[Mapping[int, float]], step: float = 0.0) -> Ranking:
    """Rank methods by their accuracies by seed; higher is better.

    step  of the accuracies, 1/N if they are shares of N samples; 0: they are not rounded
    """
    ranking = _rank(rows, step)
    return replace(ranking, dominant=_widening(rows, step, ranking))


def _rank(rows: Sequence[Mapping[int, float]], step: float) -> Ranking:
    """Rank methods; `dominant` is the row that may widen the intervals of others."""
    import numpy as np

    ranked = [index for index, row in enumerate(rows) if len(row) >= 2]
    intervals: list[tuple[int, int] | None] = [None] * len(rows)
    rules = len(ranked)
    if rules < 2:
        return Ranking(tuple(intervals))
    seeds = sorted({seed for index in ranked for seed in rows[index]})
    values = np.array([[rows[index].get(seed, math.nan) for seed in seeds] for index in ranked])
    own = (~np.isnan(values)).astype(float)
    x = np.where(own > 0, values - np.nanmean(values), 0.0)
    n, total, square = own @ own.T, x @ own.T, x**2 @ own.T  # total[i, j]: Σ x_i over common seeds
    paired = n >= 2
    safe = np.maximum(n, 2.0)
    difference = (total - total.T) / safe
    variance = (square + square.T - 2 * x @ x.T - safe * difference**2) / (safe - 1)
    counts = own.sum(axis=1)
    means = x.sum(axis=1) / counts
    single = ((x**2).sum(axis=1) - counts * means**2) / (counts - 1)
    pairs = np.triu(paired, 1)
    typical = variance[pairs].mean() if pairs.any() else 2 * single.mean()
    typical = max(typical if typical > SAME**2 else 0.0, 2 * step**2 / 12)
    error = np.where(
        paired,
        np.maximum(variance, typical) / safe,
        np.add.outer(np.maximum(single, typical / 2) / counts, np.zeros(rules))
        + np.maximum(single, typical / 2) / counts,
    )
    difference = np.where(paired, difference, np.subtract.outer(means, means))
    fewest = int(
        np.where(paired, n, np.minimum.outer(counts, counts))[~np.eye(rules, dtype=bool)].min()
    )
    point = critical(rules, fewest)
    better = difference > point * np.sqrt(np.maximum(error, 0.0)) + 1e-12
    for position, index in enumerate(ranked):
        above, below = int(better[:, position].sum()), int(better[position].sum())
        intervals[index] = (1 + above, rules - below)
    unpaired = np.argwhere(np.triu(~paired, 1))
    return Ranking(
        tuple(intervals),
        fewest,
        math.sqrt(typical),
        tuple((ranked[i], ranked[j]) for i, j in unpaired),
        next((ranked[i] for i in range(rules) if _dominates(variance, paired, i)), None),
    )


def _widening(rows: Sequence[Mapping[int, float]], step: float, ranking: Ranking) -> int | None:
    """Return the dominant row if another row's interval is narrower without it."""
    if ranking.dominant is None or (own := ranking.intervals[ranking.dominant]) is None:
        return None
    quiet = _rank(
        [{} if index == ranking.dominant else row for index, row in enumerate(rows)], step
    )
    for index, (before, after) in enumerate(zip(ranking.intervals, quiet.intervals, strict=True)):
        if index == ranking.dominant or not (before and after):
            continue
        # without a rule whose ranks it shares, a row has one rank fewer anyway
        shared = own[0] <= before[1] and before[0] <= own[1]
        if after[1] - after[0] < before[1] - before[0] - shared:
            return ranking.dominant
    return None


def _dominates(variance: Any, paired: Any, rule: int) -> bool:
    """Decide whether the mean variance without a rule is less than a quarter of that with it."""
    import numpy as np

    rest = np.delete(np.arange(len(variance)), rule)
    pairs, others = np.triu(paired, 1), np.triu(paired[np.ix_(rest, rest)], 1)
    if not others.any():
        return False
    without = variance[np.ix_(rest, rest)][others].mean()
    return bool(without < variance[pairs].mean() / 4)
