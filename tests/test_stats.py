"""Laws of intervals and paired differences."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench_core.analysis.stats import Estimate, estimate, median_of
from bench_core.analysis.verdicts.verdict import below_zero

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


@given(st.permutations([None, 2.0, math.nan, 1.0, 5.0]))
def test_a_median_counts_nan_as_infinite_in_every_order(values: list[float | None]) -> None:
    assert median_of(values) == 3.5  # of 1, 2, 5 and ∞
    assert median_of([*values, math.nan]) == 5.0
    assert median_of([None]) is None


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


def test_an_interval_that_touches_zero_is_not_below_it() -> None:
    assert not below_zero(Estimate(-0.5, 0.5, 0.1, 3))
    assert below_zero(Estimate(-0.5, math.nextafter(0.5, 0), 0.1, 3))
    assert below_zero(Estimate(-0.5, 0.0, 0.0, 3))
    assert not below_zero(Estimate(0.5, 0.4, 0.1, 3))
    assert not below_zero(Estimate(-0.5, None, None, 1))
    assert not below_zero(None)


def test_imports_are_cheap() -> None:
    """Reading results loads neither torch nor scipy nor a plugin."""
    code = (
        "import sys, bench_core.analysis.stats, bench_core.analysis.verdicts.leaderboard\n"
        "import bench_core.report.tables.formats\n"
        "heavy = ('torch', 'scipy', 'numpy', 'tabulate', 'bench_plugins')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
        == "[]"
    )
