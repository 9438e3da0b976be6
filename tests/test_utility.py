"""Decision utility: the published table, and what counts as a run."""

from __future__ import annotations

import math

import pytest
from records import SICK, audit, frozen, measured, run, seeds

from bench_core.analysis.utility import STRATEGIES, Decisions, headline, of_group, total, walks_back
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.analysis.verdicts.rows import Run
from bench_core.results.record import RunRecord


def of(records: list[RunRecord]) -> dict[str, Decisions]:
    (group,) = judge_all(records)
    return {found.label: found for found in [*of_group(group), total([group])]}


def judged_run(**fields: object) -> Run:
    (group,) = judge_all([run(**fields)])  # type: ignore[arg-type]
    return group.rows[0].runs[0]


def test_the_audit_in_miniature() -> None:
    """Γ is positive everywhere, so S1 walks nothing back; a, b and d catch dfa; d none of the
    others."""
    found = of(audit())
    assert found["dfa"].walked_back == {
        "S0": 0,
        "S1": 0,
        "S2": 3,
        "S3": 3,
        "S4": 0,
        "S5": 3,
        "S_full": 3,
    }
    assert found["bp"].walked_back == dict.fromkeys(STRATEGIES, 0)
    assert (found["ep"].n, found["total"].n) == (2, 8)
    assert found["total"].walked_back["S_full"] == 3
    assert not any("frozen" in label for label in found)


def test_total_is_the_sum_over_methods_and_recipes() -> None:
    long = audit()
    short = [
        item.model_copy(update={"cell": item.cell.model_copy(update={"training": {"epochs": 5}})})
        for item in long
    ]
    groups = judge_all(long + short)
    rows = [row for group in groups for row in of_group(group)]
    every = total(groups)
    assert every.n == sum(row.n for row in rows) == 16
    assert every.walked_back == {
        name: sum(row.walked_back[name] for row in rows) for name in STRATEGIES
    }


@pytest.mark.parametrize(
    ("gamma", "expected"),
    [(-0.15, True), (-0.1, True), (-0.05, False), (math.nan, True), (math.inf, True)],
)
def test_s1_walks_back_where_the_headline_is_not_positive(gamma: float, expected: bool) -> None:
    item = measured(gamma=gamma)["alignment"].model_copy(update={"value": gamma + 0.1})
    found = judged_run(measurements={**measured(), "alignment": item})
    assert walks_back(found, "S1") is expected
    assert not walks_back(found, "S0")
    assert all(walks_back(found, name) is expected for name in STRATEGIES if name != "S0")


def test_gamma_that_means_nothing_decides_all_the_same_and_one_that_is_missing_does_not() -> None:
    sick = measured(a=694.0, b=1e-9, gamma=-0.2)
    sick["alignment"] = sick["alignment"].model_copy(
        update={"value": -0.1, "not_diagnostic": "the reference is under the clamp"}
    )
    assert walks_back(judged_run(measurements=sick), "S1")
    without = judged_run(measurements=measured(gamma=None))
    assert headline(without) is None
    assert not walks_back(without, "S1")
    assert (
        of([run(measurements=measured(gamma=None)), *frozen("bench-core/dfa", [0.1])])[
            "dfa"
        ].without_gamma
        == 1
    )


def test_each_strategy_adds_its_own_letter() -> None:
    fired = {
        "S2": {"measurements": measured(a=60.0)},
        "S3": {"measurements": measured(b=1e-9)},
        "S4": {"measurements": measured(c=0.9)},
    }
    for strategy, fields in fired.items():
        found = judged_run(**fields)
        assert {name for name in STRATEGIES if walks_back(found, name)} == {strategy, "S_full"}
    found = of([*seeds("bench-core/dfa", [0.35]), *frozen("bench-core/dfa", [0.35])])["dfa"]
    assert {name for name, count in found.walked_back.items() if count} == {"S5", "S_full"}
    assert SICK["alignment"].value is not None
