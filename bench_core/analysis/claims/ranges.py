"""Give the values in which a claim holds, and those that its figure can have."""

from __future__ import annotations

import math

from bench_core.results.details import COSINES, PORTIONS
from bench_core.suite.claim import SHARES, Expectation

COSINES_BY_LAYER = ("deep", "mean", "layers", "unclamped", "library", "library_mean")


def claimed_range(claim: Expectation) -> tuple[float, float]:
    """Return the ends of the range in which a claim holds."""
    if claim.value is None:
        low = -math.inf if claim.at_least is None else claim.at_least
        return low, math.inf if claim.at_most is None else claim.at_most
    if claim.factor is not None:
        low, high = sorted((claim.value / claim.factor, claim.value * claim.factor))
        return low, high
    assert claim.tolerance is not None
    return claim.value - claim.tolerance, claim.value + claim.tolerance


def holds(claim: Expectation, value: float) -> bool:
    """Decide whether a mean lies in the claimed range, ends included; NaN lies in none."""
    # .306 + .008 is not .314 in binary
    slack = 1e-12 * max(1.0, abs(value)) if math.isfinite(value) else 0.0
    if claim.factor is not None and claim.value is not None:
        ratio = value / claim.value
        return (1 - 1e-12) / claim.factor <= ratio <= claim.factor * (1 + 1e-12)
    low, high = claimed_range(claim)
    return low - slack <= value <= high + slack


def possible(claim: Expectation) -> tuple[float, float]:
    """Return the least and the greatest value that a figure can have."""
    parsed = claim.parsed
    if claim.minus is None and claim.divide_by == 1:
        if claim.figure == "accuracy" or parsed.kind in SHARES:
            return 0.0, 1.0
        if parsed.kind == "first_epoch":  # the untrained network, epoch 0, is not diagnostic
            return 1.0, math.inf
        if parsed.name in PORTIONS and (not parsed.path or parsed.path[0] == "layers"):
            return 0.0, 1.0
        if parsed.name in COSINES and (not parsed.path or parsed.path[0] in COSINES_BY_LAYER):
            return -1.0, 1.0
    return -math.inf, math.inf
