"""Compute intervals and tests of differences: pure functions of numbers.

The unit is the seed. At the 3 to 10 seeds of this field intervals are Student's t (bootstrap
intervals cover 75 % at n=3), and methods are compared on differences paired by seed, because all
runs of a seed share initial weights and batch order. `bench_core.analysis.verdicts.ranks` compares
many rules at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median

LEVEL = 0.95
EXACT = 16  # pairs up to which all 2ⁿ signs are tried
DRAWS = 100_000  # signs drawn at random beyond that


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds and its interval mean ± half_width.

    Without interval and std at n = 1, and where two values that are equal show no scatter; without
    std where it is a difference of unpaired values.
    """

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


def median_of(values: Iterable[float | None]) -> float | None:
    """Return the median of the known values; None without one.

    NaN counts as infinitely large, so that healthy seeds do not hide it.
    """
    known = [math.inf if math.isnan(value) else value for value in values if value is not None]
    return median(known) if known else None


@cache
def t_critical(n: float) -> float:
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


def welch_difference(a: Iterable[float], b: Iterable[float]) -> Estimate:
    """Estimate mean(a) - mean(b) of unpaired values with Welch's interval; n is the smaller one's.

    It has no std: its values have no pairs whose differences could scatter.

    v = s_a²/n_a + s_b²/n_b, degrees of freedom v² / Σ (s²/n)²/(n - 1) (Welch-Satterthwaite).
    Without interval unless both have two values. Raises `ValueError` as `estimate` does.
    """
    one, other = estimate(a), estimate(b)
    mean, n = one.mean - other.mean, min(one.n, other.n)
    if one.std is None or other.std is None:
        return Estimate(mean, None, None, n)
    parts = [(item.std or 0.0) ** 2 / item.n for item in (one, other)]
    variance = sum(parts)
    if variance == 0.0:
        return Estimate(mean, 0.0, None, n)
    terms = zip(parts, (one.n, other.n), strict=True)
    freedom = variance**2 / sum(part**2 / (count - 1) for part, count in terms)
    half = t_critical(freedom + 1) * math.sqrt(variance)
    return Estimate(mean, half, None, n)


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
    Raises ValueError for a NaN, which has no place in the order.
    """
    if any(math.isnan(p) for p in p_values):
        raise ValueError("holm: a p-value is NaN")
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for position, index in enumerate(order):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - position)))
        adjusted[index] = highest
    return adjusted
