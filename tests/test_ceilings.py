"""Laws of the ceilings: bp, and for a rule with local heads bp_local_heads."""

from __future__ import annotations

from typing import Any

import pytest
from records import PASSPORT, frozen, seeds

from bench_core.analysis.accuracies import Scored
from bench_core.analysis.comparison import compared
from bench_core.analysis.stats import t_critical
from bench_core.analysis.verdicts.ceilings import Above, above_ceiling, over
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.analysis.verdicts.rows import Group, Row
from bench_core.analysis.verdicts.settings import Settings
from bench_core.report.words import doubts
from bench_core.results.record import RunRecord

BP, DFA = "bench-core/bp", "bench-core/dfa"
LOCAL, FORWARD = "bench-core/bp_local_heads", "bench-core/mono_forward"
HEADS: dict[str, Any] = {"passport": {**PASSPORT, "local_heads": True}}


def judged(*records: list[RunRecord]) -> tuple[Group, dict[str, Row]]:
    (group,) = judge_all([run for runs in records for run in runs], Settings())
    return group, {row.label: row for row in group.rows}


def above(group: Group, row: Row) -> Above:
    found = above_ceiling(row, group)
    assert found is not None
    return found


def test_equal_gains_over_bp_have_the_interval_of_the_stated_test_set() -> None:
    stated: dict[str, Any] = {"test_samples": 10_000}
    floor = frozen(BP, [0.5, 0.51, 0.52], **stated)
    group, rows = judged(seeds(BP, [0.94] * 3, **stated), floor, seeds(DFA, [0.945] * 3, **stated))
    half = 100 * t_critical(3) * (2 / 3 / 12) ** 0.5 / 10_000
    points = above(group, rows["dfa"]).points
    assert (points.mean, points.half_width) == (pytest.approx(0.5), pytest.approx(half))
    pair = compared("", rows["bp"], rows["dfa"]).effect
    assert pair.half_width == pytest.approx(points.half_width)  # as `bench compare` has it


def test_a_row_equals_itself_without_a_doubt_about_rounding() -> None:
    """A count of samples minus the same count is 0, however they are rounded."""
    _, rows = judged(seeds(BP, [0.61, 0.62, 0.63]))
    assert compared("", rows["bp"], rows["bp"]).effect.half_width == 0.0


def test_explained_variance_is_no_count_of_samples() -> None:
    free: dict[str, Any] = {"chance": None}
    group, rows = judged(seeds(BP, [0.94] * 3, **free), seeds(DFA, [0.945] * 3, **free))
    points = over(rows["dfa"], rows["bp"], group.scored)
    assert points is not None
    assert points.half_width == 0.0
    assert above(group, rows["dfa"]).points.mean == pytest.approx(0.5)


@pytest.mark.parametrize(("accuracy", "told"), [(0.52, True), (0.519, False)])
def test_one_seed_lies_above_by_two_points_or_more(accuracy: float, told: bool) -> None:
    group, rows = judged(seeds(BP, [0.5]), frozen(BP, [0.3]), seeds(DFA, [accuracy]))
    assert (above_ceiling(rows["dfa"], group) is not None) == told


def test_two_equal_gains_say_so_in_words() -> None:
    group, _ = judged(seeds(BP, [0.60, 0.61]), frozen(BP, [0.3, 0.31]), seeds(DFA, [0.70, 0.71]))
    assert any(
        line.startswith("dfa lies above its ceiling bp by +10.0 pp (in both of two seeds): ")
        for line in doubts.of_group(group, Settings())
    )


def test_the_nearest_ceiling_is_named_and_floors_have_none() -> None:
    heads = [0.64, 0.65, 0.66]
    group, rows = judged(
        seeds(BP, [0.60, 0.61, 0.62]),
        frozen(BP, [0.3, 0.31, 0.32]),
        seeds(LOCAL, heads, **HEADS),
        seeds(FORWARD, [0.70, 0.71, 0.72], **HEADS),
        frozen(FORWARD, [0.69, 0.70, 0.71], **HEADS),
    )
    nearest = above(group, rows["mono_forward"])
    assert nearest.ceiling is rows["bp_local_heads"]
    assert nearest.points.mean == pytest.approx(6.0)
    assert above_ceiling(rows["bp_local_heads"], group) is None
    assert above_ceiling(rows["mono_forward[frozen]"], group) is None
    text = "Over bp_local_heads, backpropagation with local heads: mono_forward +6.0 ± 1.0 pp"
    assert doubts.below_local_ceiling(group) == [text]


def test_an_explained_variance_that_equals_bps_does_not_lie_above_it() -> None:
    free: dict[str, Any] = {"chance": None}
    group, rows = judged(seeds(BP, [0.94] * 3, **free), seeds(DFA, [0.94] * 3, **free))
    assert above_ceiling(rows["dfa"], group) is None


def test_a_row_without_an_accuracy_is_not_above_anything() -> None:
    group, rows = judged(
        seeds(BP, [0.60, 0.61]), [seeds(DFA, [0.6])[0].model_copy(update={"status": "failed"})]
    )
    assert over(rows["bp"], rows["dfa"], Scored()) is None
    assert above_ceiling(rows["dfa"], group) is None
