"""Laws of rank intervals: family-wise error, power, pairs, and what a number of seeds resolves."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from bench_core.analysis.verdicts.ranks import (
    POINTS,
    PUBLISHED,
    RULES,
    critical,
    rank,
    resolution,
    resolved,
    seeds_for,
)

# the published audit: bp, fa, ep, dfa, credit_bridge, state_bridge
MEANS = (0.615, 0.401, 0.316, 0.306, 0.289, 0.205)
DEVIATIONS = (0.004, 0.009, 0.037, 0.008, 0.031, 0.039)


def drawn(means: object, deviations: object, seeds: int, draw: np.random.Generator) -> list:
    values = np.asarray(means)[:, None] + np.asarray(deviations)[:, None] * draw.standard_normal(
        (len(np.asarray(means)), seeds)
    )
    # what a seed does to all rules alike changes nothing
    values = values + draw.normal(0, 0.05, seeds)
    return [dict(enumerate(row)) for row in values.tolist()]


@pytest.mark.long
def test_26_identical_rules_share_all_ranks_in_at_least_95_of_100_tables() -> None:
    draw = np.random.default_rng(1)
    tables = [rank(drawn([0.5] * 26, [0.01] * 26, 3, draw)).intervals for _ in range(400)]
    wrong = sum(any(interval != (1, 26) for interval in table) for table in tables)
    assert wrong / len(tables) <= 0.05


@pytest.mark.long
@pytest.mark.parametrize(
    "deviations",
    [
        DEVIATIONS,
        [1.0, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4],
        [1.0, 0.5, 0.25, 0.12, 0.06, 0.03],
        [1.0, 1.0, 0.1, 0.1, 0.1, 0.1],
    ],
)
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_rules_of_equal_means_and_unequal_deviations_are_rarely_told_apart(
    deviations: list[float], seeds: int
) -> None:
    """The share of 1,500 tables with any separation: 5 % and three standard errors at most."""
    draw = np.random.default_rng(seeds)
    tables = [rank(drawn([0.5] * 6, deviations, seeds, draw)).intervals for _ in range(1500)]
    wrong = sum(any(interval != (1, 6) for interval in table) for table in tables)
    assert wrong / len(tables) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(tables))


@pytest.mark.parametrize(
    ("deviations", "seeds"),
    [
        ((1.0, 0.1, 0.01), 3),
        ((1.0, *[0.1] * 7), 3),
        ((1.0, *[0.1] * 9), 3),
        ((1.0, 0.2, 0.02), 4),
    ],
)
def test_one_loud_rule_beside_quieter_ones_separates_few_tables(
    deviations: tuple[float, ...], seeds: int
) -> None:
    """Of 100,000 tables of equal means: 5 %, .001 of the search, and three standard errors."""
    tables, draw = 100_000, np.random.default_rng(11)
    values = draw.standard_normal((tables, len(deviations), seeds))
    values *= np.asarray(deviations)[:, None]
    one, other = np.triu_indices(len(deviations), 1)
    apart = values[:, one] - values[:, other]
    variance = apart.var(2, ddof=1)
    floored = np.maximum(variance, variance.mean(1, keepdims=True))
    ratio = (np.abs(apart.mean(2)) / np.sqrt(floored / seeds)).max(1)
    share = float((ratio > critical(len(deviations), seeds)).mean())
    assert share <= 0.051 + 3 * math.sqrt(0.05 * 0.95 / tables)


def test_bp_is_first_in_at_least_95_of_100_simulated_audits_of_three_seeds() -> None:
    draw = np.random.default_rng(2)
    first = [rank(drawn(MEANS, DEVIATIONS, 3, draw)).intervals[0] for _ in range(500)]
    assert first.count((1, 1)) / len(first) >= 0.95


def test_by_hand() -> None:
    """Two rules, differences 1, 2, 3: mean 2, deviation 1, so 2 > c·1/√3 decides."""
    rows = [{1: 1.0, 2: 2.0, 3: 3.0}, {1: 0.0, 2: 0.0, 3: 0.0}]
    assert critical(2, 3) / math.sqrt(3) > 2.0
    found = rank(rows)
    assert found.intervals == ((1, 2), (1, 2))
    assert found.n == 3
    assert found.deviation == pytest.approx(1.0)
    shifted = [{seed: value + 1 for seed, value in rows[0].items()}, rows[1]]
    assert critical(2, 3) / math.sqrt(3) < 3.0
    assert rank(shifted).intervals == ((1, 1), (2, 2))


def test_the_typical_variance_guards_a_pair_that_is_equal_by_chance() -> None:
    """Two rules at a constant distance of .001 beside rules that scatter by .1."""
    quiet = [{1: 0.5, 2: 0.6, 3: 0.4}, {1: 0.501, 2: 0.601, 3: 0.401}]
    loud = [{1: 0.4, 2: 0.6, 3: 0.5}, {1: 0.6, 2: 0.4, 3: 0.5}]
    assert rank([*quiet, *loud]).intervals[:2] == ((1, 4), (1, 4))
    assert rank(quiet).intervals == ((2, 2), (1, 1))  # alone, nothing speaks of scatter


def test_equal_values_and_rules_without_seeds_to_compare() -> None:
    assert rank([]).intervals == ()
    assert rank([{1: 0.5}, {1: 0.4, 2: 0.5}, {}]).intervals == (None, None, None)
    same = {1: 0.1 + 0.2, 2: 0.7, 3: 0.3}
    assert rank([same, dict(same)]).intervals == ((1, 2), (1, 2))


def test_rules_on_other_seeds_are_compared_unpaired_and_named() -> None:
    high = {42: 0.978, 123: 0.980, 456: 0.976}
    low = {1: 0.10, 2: 0.11, 3: 0.09}
    found = rank([low, high])
    assert found.intervals == ((2, 2), (1, 1))
    assert found.unpaired == ((0, 1),)
    close = {1: 0.9, 2: 0.99, 3: 0.95}
    assert rank([close, high]).intervals == ((1, 2), (1, 2))


def test_points_fall_with_seeds_and_rise_with_rules() -> None:
    rows = [POINTS[seeds] for seeds in sorted(POINTS)]
    assert all(len(row) == len(RULES) and list(row) == sorted(row) for row in rows)
    for more, fewer in pairwise(rows[::-1]):
        assert all(a <= b for a, b in zip(more, fewer, strict=True))
    assert critical(2, 3) == pytest.approx(4.30, rel=0.02)  # two rules: Student's t
    assert critical(2, 30) == pytest.approx(2.05, rel=0.02)
    assert critical(7, 3) == critical(8, 3)
    assert critical(6, 7) == critical(6, 6)
    assert critical(40, 3) < critical(41, 3) < 1.02 * critical(40, 3)
    assert critical(6, 1) == math.inf


def test_seeds_that_two_points_need() -> None:
    needed = seeds_for(0.02, 6, PUBLISHED)
    assert needed is not None
    assert resolution(6, needed, PUBLISHED) <= 0.02 < resolution(6, needed - 1, PUBLISHED)
    assert seeds_for(0.001, 6, 0.5) is None
    told = (
        "with 3 seeds, two of 6 rules that differ by 15.3 points are told apart in 80 % of cases; "
        f"a difference of 2 points needs {needed} seeds (if all scatter like an audit)"
    )
    assert resolved(6, 3, PUBLISHED, "an audit") == told
    assert resolved(6, needed, PUBLISHED, "an audit").endswith(
        "told apart in 80 % of cases (if all scatter like an audit)"
    )
    wide = resolved(2, 2, 0.2, "an audit")
    assert "with 2 seeds, no two rules can be told apart; a difference of 2 points needs" in wide


@pytest.mark.long
@pytest.mark.parametrize(("rules", "seeds"), [(2, 3), (6, 2), (6, 3), (6, 10), (13, 3)])
def test_two_rules_that_differ_by_the_resolution_are_told_apart_four_times_out_of_five(
    rules: int, seeds: int
) -> None:
    """Of rules with equal deviations the first lies above the others by what the seeds resolve."""
    draw = np.random.default_rng(3)
    apart = resolution(rules, seeds, 0.02 * math.sqrt(2))
    means = [0.5 + apart, *[0.5] * (rules - 1)]
    tables = [rank(drawn(means, [0.02] * rules, seeds, draw)).intervals for _ in range(800)]
    # the lowest rank of the first rule is m − the number of rules that it beats, of m − 1
    beaten = [rules - table[0][1] for table in tables if table[0] is not None]
    assert 0.76 < sum(beaten) / ((rules - 1) * len(tables)) < 0.84


def test_a_rule_that_widens_all_ranks_is_named() -> None:
    quiet = [{s: 0.5 + k / 20 + (s % 3) / 1000 * (-1) ** k for s in range(3)} for k in range(5)]
    assert rank(quiet).dominant is None
    assert rank([*quiet, {0: 0.1, 1: 0.9, 2: 0.4}]).dominant == 5
    # the third is below both in every seed, and keeps them from being told apart
    bp, own = {0: 0.981, 1: 0.986, 2: 0.983}, {0: 0.930, 1: 0.935, 2: 0.925}
    assert rank([bp, own]).intervals == ((1, 1), (2, 2))
    far = rank([bp, own, {0: 0.2, 1: 0.33, 2: 0.21}])
    assert far.intervals == ((1, 2), (1, 2), (3, 3))
    assert far.dominant == 2
    low, lower = ({seed: value - 0.8 for seed, value in row.items()} for row in (bp, own))
    near = rank([{0: 0.8, 1: 0.93, 2: 0.81}, low, lower])
    assert near.intervals == ((1, 1), (2, 3), (2, 3))
    assert near.dominant == 0


def test_counts_that_differ_by_one_sample_in_every_seed_are_not_told_apart() -> None:
    """Each deviates by 1/(N·√12) from its rounding; two samples are told apart."""
    base = {seed: 0.5 + seed / 1000 for seed in range(3)}
    for samples, apart in ((1, False), (2, True)):
        rows = [base, {seed: value + samples / 1000 for seed, value in base.items()}]
        assert (rank(rows, 1 / 1000).intervals == ((2, 2), (1, 1))) == apart
        assert rank(rows).intervals == ((2, 2), (1, 1))  # values that are no counts
    assert rank(rows, 1 / 1000).deviation == pytest.approx(math.sqrt(2 / 12) / 1000)
    scattered = [{0: 0.5, 1: 0.6, 2: 0.55}, {0: 0.52, 1: 0.57, 2: 0.58}]
    assert rank(scattered, 1 / 1000) == rank(scattered)  # the seeds scatter by more
