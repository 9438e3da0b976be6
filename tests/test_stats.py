"""Laws of intervals, paired differences and ranks."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_core.analysis.stats import Estimate, estimate, paired_difference, separated, tie_ranks

accuracy = st.floats(0, 1)
by_seed = st.dictionaries(st.integers(0, 4), accuracy, max_size=5)


def test_interval_by_hand() -> None:
    """{.302, .306, .310}: s = .004, t(2 df, 97.5 %) = 4.302653, half width = 4.302653 · .004 /
    √3."""
    found = estimate([0.302, 0.306, 0.310])
    assert found.n == 3
    assert found.mean == pytest.approx(0.306)
    assert found.std == pytest.approx(0.004)  # ddof=1; with ddof=0 it would be .00327
    assert found.half_width == pytest.approx(4.302653 * 0.004 / math.sqrt(3), rel=1e-6)


@pytest.mark.parametrize(("n", "t"), [(2, 12.7062), (5, 2.7764), (10, 2.2622)])
def test_interval_uses_n_minus_one_degrees_of_freedom(n: int, t: float) -> None:
    values = [0.1 * i for i in range(n)]
    found = estimate(values)
    assert found.std is not None
    assert found.half_width == pytest.approx(t * found.std / math.sqrt(n), rel=1e-4)


def test_one_value_has_no_interval() -> None:
    assert estimate([0.3]) == Estimate(0.3, None, None, 1)


def test_equal_values_have_no_width() -> None:
    # although the sum of three .1 is not .3
    assert estimate([0.1] * 3) == Estimate(0.1, 0.0, 0.0, 3)


@pytest.mark.parametrize("values", [[], [math.nan], [0.1, math.inf]])
def test_what_must_not_reach_a_mean_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        estimate(values)


@given(st.lists(accuracy, min_size=1, max_size=8), st.randoms())
def test_order_does_not_matter(values: list[float], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert estimate(values) == estimate(shuffled)


def test_differences_are_paired_by_seed() -> None:
    """A constant gain over seeds that vary widely is certain when paired and invisible when not."""
    a, b = {1: 0.1, 2: 0.5, 3: 0.91}, {3: 0.88, 1: 0.08, 2: 0.475}
    found = paired_difference(a, b)
    assert found is not None
    assert found.mean == pytest.approx(0.025)
    assert separated(found)
    unpaired = paired_difference(a, dict(zip(a, b.values(), strict=True)))
    assert not separated(unpaired)


def test_only_common_seeds_are_compared() -> None:
    found = paired_difference({1: 0.5, 2: 0.6, 9: 0.0}, {1: 0.4, 2: 0.5, 8: 1.0})
    assert found is not None
    assert (found.n, found.mean) == (2, pytest.approx(0.1))
    assert paired_difference({1: 0.5}, {2: 0.5}) is None


@given(by_seed, by_seed)
def test_difference_is_antisymmetric(a: dict[int, float], b: dict[int, float]) -> None:
    forth, back = paired_difference(a, b), paired_difference(b, a)
    assert (forth is None) == (back is None)
    if forth is not None and back is not None:
        assert forth.mean == -back.mean
        assert separated(forth) == separated(back)


def test_an_interval_that_touches_zero_is_a_tie() -> None:
    assert not separated(Estimate(0.5, 0.5, 0.1, 3))
    assert separated(Estimate(0.5, math.nextafter(0.5, 0), 0.1, 3))
    assert separated(Estimate(-0.5, 0.4, 0.1, 3))
    assert not separated(Estimate(0.5, None, None, 1))
    assert not separated(None)


def test_equal_differences_separate_unless_they_are_zero() -> None:
    a = {1: 0.5, 2: 0.5, 3: 0.5}
    assert tie_ranks([a, dict(a)]) == [1, 1]
    assert tie_ranks([a, {1: 0.25, 2: 0.25, 3: 0.25}]) == [1, 2]


def test_higher_is_better_and_noise_ties() -> None:
    good = {1: 0.610, 2: 0.615, 3: 0.620}
    middle = {1: 0.30, 2: 0.34, 3: 0.31}
    similar = {1: 0.31, 2: 0.32, 3: 0.32}
    bad = {1: 0.10, 2: 0.11, 3: 0.10}
    assert tie_ranks([bad, middle, good, similar]) == [4, 2, 1, 2]


def test_ranks_use_the_sample_deviation() -> None:
    """Differences .3 ± .0273 at n=2: half width .347 with ddof=1 (a tie), .245 with ddof=0."""
    assert tie_ranks([{1: 0.5, 2: 0.5}, {1: 0.1727, 2: 0.2273}]) == [1, 1]
    assert tie_ranks([{1: 0.5, 2: 0.5}, {1: 0.19, 2: 0.21}]) == [1, 2]


def test_one_seed_earns_no_rank() -> None:
    assert tie_ranks([{1: 0.9}, {1: 0.1}]) == [None, None]
    assert tie_ranks([{1: 0.9}, {1: 0.1, 2: 0.2}, {}]) == [None, 1, None]
    assert tie_ranks([]) == []


def test_pairs_without_common_seeds_tie() -> None:
    assert tie_ranks([{1: 0.9, 2: 0.91}, {2: 0.10, 3: 0.11}]) == [1, 1]


@settings(max_examples=60, deadline=None)
@given(st.lists(by_seed, max_size=5))
def test_ranks_are_what_their_definition_says(rows: list[dict[int, float]]) -> None:
    """Pair by pair through `paired_difference`; pairs on the border of rounding are left out."""
    pairs = [paired_difference(a, b) for a in rows for b in rows]
    if any(
        p and p.half_width is not None and abs(abs(p.mean) - p.half_width) < 1e-12 and p.mean
        for p in pairs
    ):
        return
    expected = []
    for row in rows:
        rivals = [paired_difference(other, row) for other in rows]
        better = sum(rival is not None and separated(rival) and rival.mean > 0 for rival in rivals)
        expected.append(1 + better if len(row) >= 2 else None)
    assert tie_ranks(rows) == expected
    assert tie_ranks(rows[::-1]) == expected[::-1]


def test_imports_are_cheap() -> None:
    """Reading results loads neither torch nor scipy nor a plugin."""
    code = (
        "import sys, bench_core.analysis.stats, bench_core.analysis.leaderboard\n"
        "import bench_core.report.tables\n"
        "heavy = ('torch', 'scipy', 'numpy', 'tabulate', 'bench_plugins')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
        == "[]"
    )
