"""Compute intervals, paired differences and ranks with ties: pure functions of numbers.

The unit is the seed. At the 3 to 10 seeds of this field intervals are Student's t (bootstrap
intervals cover 75 % at n=3), and methods are compared on differences paired by seed, because all
runs of a seed share initial weights and batch order. Ranks are not corrected for multiple
comparisons: with many methods some pairs separate by chance.

Trade-off: ranks by pairwise tests need not be transitive. `tie_ranks` counts the methods that are
*significantly better*, so the best method always has rank 1, and a method shares rank 1 if no
method is separated from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

LEVEL = 0.95
EXACT = 16  # pairs up to which all 2ⁿ signs are tried
DRAWS = 100_000  # signs drawn at random beyond that


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds and its interval mean ± half_width; without interval and std at n=1."""

    mean: float
    half_width: float | None
    std: float | None
    n: int

    def scaled(self, factor: float) -> Estimate:
        """Return the estimate of `factor` times the quantity (factor > 0), such as percent."""
        return Estimate(
            self.mean * factor,
            None if self.half_width is None else self.half_width * factor,
            None if self.std is None else self.std * factor,
            self.n,
        )


@cache
def t_critical(n: int) -> float:
    """Return the two-sided 95 % point of Student's t, n - 1 degrees of freedom (4.303 at n=3)."""
    from scipy.special import stdtrit  # scipy.stats would take half a second to import

    return float(stdtrit(n - 1, 0.5 + LEVEL / 2))


def estimate(values: Iterable[float]) -> Estimate:
    """Compute the mean and its 95 % interval t_{n-1} · s / √n, s = √(Σ(x - mean)² / (n - 1)).

    Sums are exact (fsum), so the result does not depend on the order of the values.
    Raises `ValueError` for no values or a value that is not finite: a failed run has no part in a
    mean.
    """
    data = list(values)
    if not data or not all(math.isfinite(value) for value in data):
        raise ValueError("an estimate needs at least one value, all of them finite")
    n = len(data)
    mean = math.fsum(data) / n
    if n == 1:
        return Estimate(mean, None, None, 1)
    if min(data) == max(data):  # the mean may round; equal values have no spread
        return Estimate(data[0], 0.0, 0.0, n)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in data) / (n - 1))
    return Estimate(mean, t_critical(n) * std / math.sqrt(n), std, n)


def paired_difference(a: Mapping[int, float], b: Mapping[int, float]) -> Estimate | None:
    """Estimate a - b over the common seeds (values by seed); None without a common seed."""
    common = sorted(a.keys() & b.keys())
    return estimate(a[seed] - b[seed] for seed in common) if common else None


def separated(difference: Estimate | None) -> bool:
    """Decide whether the interval excludes 0; an interval that touches 0 does not.

    Without an interval nothing is separated. Equal differences (half width 0) separate exactly if
    they are not 0.
    """
    return (
        difference is not None
        and difference.half_width is not None
        and abs(difference.mean) > difference.half_width
    )


def tie_ranks(rows: Sequence[Mapping[int, float]]) -> list[int | None]:
    """Rank methods: rank_i = 1 + #{j : paired difference j - i > 0, its 95 % interval excludes 0}.

    rows  values by seed, one mapping per method; higher is better

    A method with fewer than two seeds has no rank (None), because its noise is unknown. A pair with
    fewer than two common seeds cannot be separated. The ranks are those of
    `separated(paired_difference(j, i))` for every pair, but all pairs of a method are computed at
    once, so that thousands of methods rank within seconds.
    """
    import numpy as np

    ranks: list[int | None] = [None] * len(rows)
    ranked = [index for index, row in enumerate(rows) if len(row) >= 2]
    if not ranked:
        return ranks
    seeds = sorted({seed for index in ranked for seed in rows[index]})
    values = np.array(
        [[rows[index].get(seed, math.nan) for seed in seeds] for index in ranked], dtype=np.float64
    )
    critical = np.array([math.inf, math.inf] + [t_critical(n) for n in range(2, len(seeds) + 1)])
    for position, index in enumerate(ranked):
        difference = values - values[position]
        common = ~np.isnan(difference)
        n = common.sum(axis=1)
        filled = np.where(common, difference, 0.0)
        mean = filled.sum(axis=1) / np.maximum(n, 1)
        square = np.where(common, difference - mean[:, None], 0.0) ** 2
        std = np.sqrt(square.sum(axis=1) / np.maximum(n - 1, 1))
        half_width = (
            np.where(n >= 2, critical[np.minimum(n, len(seeds))], 0.0)
            * std
            / np.sqrt(np.maximum(n, 1))
        )
        better = (n >= 2) & (mean > half_width)
        ranks[index] = 1 + int(better.sum())
    return ranks


def smallest_p(n: int) -> float:
    """Return the smallest two-sided p of a sign-flip test of n pairs: 2 of its 2ⁿ signs."""
    return min(1.0, 2.0 / 2.0**n) if n <= EXACT else max(2.0 / 2.0**n, 1.0 / (DRAWS + 1))


def sign_flip_p(differences: Sequence[float]) -> float:
    """Compute the two-sided p of the paired permutation test.

    p is the share of random signs whose mean lies at least as far from 0. Under the null
    hypothesis each difference is as likely to have the other sign. Exact over all 2ⁿ signs up to
    n = 16; beyond that over 100,000 signs drawn from a fixed seed, p = (k + 1)/(100,000 + 1).
    Ties count as extreme, within rounding. Raises `ValueError` for no differences or one that is
    not finite.
    """
    import numpy as np

    values = np.asarray(differences, dtype=np.float64)
    n = len(values)
    if n == 0 or not np.isfinite(values).all():
        raise ValueError("a permutation test needs at least one difference, all of them finite")
    observed = abs(values.sum())
    slack = 1e-12 * float(np.abs(values).sum())
    if n <= EXACT:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float((np.abs(signs @ values) >= observed - slack).mean())
    signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(DRAWS, n))
    return float(((np.abs(signs @ values) >= observed - slack).sum() + 1) / (DRAWS + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values by Holm's step-down method, in the order given.

    The i-th smallest of m is multiplied by m - i + 1; the results never fall and are at most 1.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for position, index in enumerate(order):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - position)))
        adjusted[index] = highest
    return adjusted
