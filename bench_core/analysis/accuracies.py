"""Estimate means of accuracies and of their differences: pure functions of numbers.

An accuracy is a count of N samples, known to ± half a sample. Where all seeds have the same value,
Student's interval would be 0, as if another seed could not differ. Each accuracy then counts as
rounded to a step of 1/N: it deviates by 1/(N·√12), and the interval is t_{n-1} times the error of
the mean that follows. Two differences that are equal show no scatter, since of two counts they are
often equal by chance: they have no interval.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from bench_core.analysis.stats import Estimate, estimate, t_critical

SEVEN_DIGITS = 6e-8  # by which an accuracy in the reference may be rounded
EXACT = 1e-14  # by which an accuracy of all digits may be
SAME = 4 * SEVEN_DIGITS  # by which two differences of accuracies may differ that are equal
FEWEST_SAMPLES, MOST_OF_SEVEN, MOST_SAMPLES = 100, 2_886, 100_000


@dataclass(frozen=True)
class Scored:
    """What runs tell of the samples on which their accuracies were measured.

    samples  their number; None: no run states it, or two runs state two
    shares   accuracies on them, from which the step is inferred where the number is not known
    """

    samples: int | None = None
    shares: tuple[float, ...] = ()

    def step(self, values: Iterable[float]) -> float:
        """Return the step of these accuracies, 1/N."""
        return 1 / self.samples if self.samples else grain([*values, *self.shares])


UNKNOWN = Scored()


def of_accuracies(
    values: Iterable[float],
    scored: Scored = UNKNOWN,
    terms: int = 1,
    counts: bool = True,
) -> Estimate:
    """Estimate the mean of accuracies, or of their differences by seed.

    scored  the samples on which they were measured
    terms   accuracies in a value: 2 in a difference, 4 in that of two margins
    counts  whether they are shares of a number of samples; explained variance is none
    Raises `ValueError` for no values or a value that is not finite.
    """
    own = list(values)
    if not counts:
        return estimate(own)
    roundings = terms / max(1, len(own))
    step = scored.step(map(abs, own))
    return with_rounding(estimate(own), [own], roundings, step, terms > 1)[0]


def with_rounding(
    mean: Estimate,
    sides: Collection[Collection[float]],
    roundings: float,
    step: float,
    differences: bool,
) -> tuple[Estimate, bool]:
    """Give an estimate the interval of the accuracies' rounding if the values of each side are
    equal; also return whether they are.

    sides        the values; two collections, if their means are subtracted
    roundings    the variance of the mean in units of that of one rounding
    step         of the accuracies, 1/N
    differences  whether accuracies are subtracted: then two values on each side have no interval
    """
    tied = mean.half_width is not None and all(max(own) - min(own) < SAME for own in sides)
    if not tied:
        return mean, False
    if differences and all(len(own) == 2 for own in sides):
        return Estimate(mean.mean, None, None, 2), True
    error = step * math.sqrt(roundings / 12)
    half = t_critical(mean.n) * error
    return Estimate(mean.mean, half, error * math.sqrt(mean.n), mean.n), True


def grain(accuracies: Iterable[float | None]) -> float:
    """Return the step of accuracies, 1/N if they are shares of N samples.

    N is the least common multiple of the simplest denominators, for runs from before 0.2, which do
    not say how many test samples they had. Fewer than 100 are not believed of round numbers. Seven
    digits tell fractions apart up to N = 2,886, since two of them lie 1/N² or further from each
    other. Where N is not found, as with a score that is no share, the step is 1/2,886: too long
    rather than too short, since an interval rests on it.
    """
    finite = {value for value in accuracies if value is not None and math.isfinite(value)}
    samples = math.lcm(*map(_denominator, sorted(finite)[:100]))
    return 1 / (max(samples, FEWEST_SAMPLES) if samples <= MOST_SAMPLES else MOST_OF_SEVEN)


@cache
def _denominator(value: float) -> int:
    """Return the denominator of the simplest fraction that the value is, as far as its digits go.

    Four decimals are believed as they stand: they are the count of a test set of 10,000. A value
    of float32 has seven digits and more that mean nothing.
    """
    if (decimals := Fraction(f"{value:.4f}")) == Fraction(repr(value)):
        return decimals.denominator
    whole = value != float(f"{value:.7g}")
    exact = Fraction(value)
    for most, error in [(MOST_SAMPLES, EXACT)] * whole + [(MOST_OF_SEVEN, SEVEN_DIGITS)]:
        limits = (min(2**power, most) for power in range(most.bit_length() + 1))
        for limited in map(exact.limit_denominator, limits):
            if abs(limited - exact) < error:
                return limited.denominator
    return exact.denominator
