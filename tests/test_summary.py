"""Laws of the first sentence, of folded floors, and of intervals, on planted verdicts."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from folders import leaderboard
from hypothesis import given
from hypothesis import strategies as st
from posted import CORPUS
from records import SICK, audit, frozen, measured, run, seeds
from test_leaderboard import rows_shown

from bench_core.analysis.comparison import compared
from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.stats import Estimate
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.analysis.verdicts.settings import Settings
from bench_core.errors import UsageError
from bench_core.report import export
from bench_core.report.pages import provenance, site
from bench_core.report.tables import legend
from bench_core.report.tables.formats import Wanted, texts
from bench_core.report.tables.next_steps import next_steps
from bench_core.report.text.numbers import (
    decimals,
    fraction,
    share,
    signed,
    unsigned,
    with_interval,
)
from bench_core.report.view import view
from bench_core.report.words import doubts, reasons, summary, trained
from bench_core.report.words.criteria import criteria
from bench_core.report.words.rows import families
from bench_core.results.record import Measurement, RunRecord
from bench_core.results.scan import scan
from bench_core.suite.judging import DepthUtility

BP, DFA, EP, FA = (f"bench-core/{name}" for name in ("bp", "dfa", "ep", "fa"))
GOOD = [*seeds(BP, [0.611, 0.615, 0.619]), *frozen(BP, [0.418, 0.419, 0.420])]
OVER = frozen(DFA, [0.30, 0.31, 0.32])


def sentence(records: list[RunRecord], settings: Settings | None = None) -> str:
    (group,) = judge_all(records, settings or Settings())
    return summary.sentence(group)


def opening(records: list[RunRecord]) -> str:
    (group,) = judge_all(records)
    return summary.opening(group)


def lone(**changes: object) -> list[RunRecord]:
    """Dfa far above both floors, with one change."""
    return [*seeds(DFA, [0.50, 0.51, 0.52], **changes), *OVER]  # type: ignore[arg-type]


FAR = Measurement(value=9.0, letter="e", direction="above", threshold=1.0)
REASONS = {
    "trains blocks that are worse than random ones": [*seeds(DFA, [0.2] * 3), *OVER],
    "falls below backpropagation with random blocks; the seeds do not show whether it beats its "
    "own random blocks": [*seeds(DFA, [0.30, 0.30, 0.35]), *OVER],
    # the interval of its own margin contains 0 and ends below 2 points: that much is shown
    "falls below backpropagation with random blocks; its blocks gain less than 2 points over "
    "random ones, if anything": [*seeds(DFA, [0.305, 0.310, 0.325]), *OVER],
    # the same of an interval above 0
    "falls below backpropagation with random blocks; its blocks gain less than 2 points over "
    "random ones": [*seeds(DFA, [0.309, 0.320, 0.331]), *OVER],
    # its own margin is above 0, and whether it reaches 2 points is open
    "falls below backpropagation with random blocks": [*seeds(DFA, [0.326, 0.330, 0.331]), *OVER],
    "falls below backpropagation with random blocks, though its blocks beat its own random ones": [
        *seeds(DFA, [0.35, 0.36, 0.37]),
        *OVER,
    ],
    "trains blocks that are hardly or no better than random ones": [
        *seeds(DFA, [0.501, 0.500, 0.502]),
        *frozen(DFA, [0.49] * 3),
    ],
    "lets the hidden states explode": lone(measurements=measured(a=99.0)),
    "leaves hardly any gradient to compare with": lone(measurements=measured(b=1e-9)),
    "pulls the gradients of all batches in one direction": lone(measurements=measured(c=0.9)),
    "pulls the gradients of all batches in one direction in 1 of 3 seeds": [
        run(DFA, 42, 0.50, measurements=measured(c=0.9)),
        run(DFA, 123, 0.51),
        run(DFA, 456, 0.52),
        *OVER,
    ],
    "has a batch_stability that is not finite": lone(measurements=measured(c=float("nan"))),
    "is flagged by far": lone(measurements={**measured(), "lab/far": FAR}),
    "ends with an accuracy that is not finite": [*seeds(DFA, [float("nan"), 0.5, 0.5]), *OVER],
    "is not yet told apart from random blocks": [
        *seeds(DFA, [0.54, 0.44, 0.47]),
        *frozen(DFA, [0.44] * 3),
    ],
    "lies above random blocks, but by how much is not settled": [
        *seeds(DFA, [0.4320, 0.4365, 0.4420]),
        *frozen(DFA, [0.419] * 3),
    ],
    "has a floor with one seed, which is too few for a verdict": [
        *seeds(DFA, [0.50, 0.51, 0.52]),
        *frozen(DFA, [0.30]),
    ],
    "has one finished seed, which is too few for a verdict": [run(DFA, 42, 0.5), *OVER],
    "has one finished seed of 2, which is too few for a verdict": [
        run(DFA, 42, 0.5),
        run(DFA, 123, status="failed"),
        *OVER,
    ],
    "has unfinished runs": [*seeds(DFA, [0.5, 0.5]), run(DFA, 456, status="diverged"), *OVER],
    "has no finished run (failed 1/1)": [run(DFA, 42, status="failed"), *OVER],
    "has no floor to be compared with": seeds(DFA, [0.5, 0.51, 0.52]),
    "is not measured completely": lone(measurements=measured(c=None)),
}


FLAGS = ("lets ", "leaves ", "pulls ", "has a batch_", "is flagged ")  # of the network itself


@pytest.mark.parametrize("words", REASONS)
def test_every_reason_has_its_words(words: str) -> None:
    though = ", though its blocks beat random ones" * words.startswith(FLAGS)
    told = f"1 of 2 rules is trustworthy: bp. dfa {words}{though}."
    assert sentence([*GOOD, *REASONS[words]]) == told


def test_a_recipe_that_does_not_train_bp_judges_no_rule_by_its_floor() -> None:
    """Bp lies below its own floor, so another rule with the same accuracies does not fail by it."""
    same = [0.380, 0.381, 0.382]
    over = [*seeds(BP, same), *frozen(BP, [0.419] * 3), *seeds(EP, same)]
    (group,) = judge_all([*over, *frozen(EP, [0.350, 0.351, 0.352])], Settings())
    told = "None of 2 rules is trustworthy. bp and ep cannot be judged by this recipe."
    assert summary.sentence(group) == told
    assert [reasons.why(row, Settings()) for row in group.rows if row.role != "floor"] == [[], []]
    assert "ceiling" not in " ".join(doubts.of_group(group, Settings()))


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [
        (0.3103, "hardly or no better than"),
        (0.3097, "hardly or no better than"),
        (0.28, "worse than"),
    ],
)
def test_a_single_seed_is_worse_from_two_points_on(accuracy: float, words: str) -> None:
    told = sentence([run(DFA, 42, accuracy), run(DFA, 42, 0.31, params={"freeze": "blocks"})])
    assert f"In that seed, dfa trains blocks that are {words} random ones." in told


def test_the_reason_rounds_a_margin_as_the_table_does() -> None:
    near = [run(DFA, 42, 0.2995), run(DFA, 42, 0.349, params={"freeze": "blocks"})]
    (group,) = judge_all(near)
    row = next(row for row in group.rows if row.label == "dfa")
    assert row.margin is not None
    assert -4.95 < row.margin.mean < -4.9499999  # 100 · (.2995 - .349) in binary
    assert with_interval(row.margin) == "-5.0"
    assert "5.0 points worse than random blocks" in reasons.why(row, Settings())


def test_worse_is_said_only_of_an_interval_below_zero() -> None:
    """Sentence, reason and plain words agree where the interval contains 0."""
    near = [*seeds(DFA, [0.29, 0.30, 0.30]), *frozen(DFA, [0.31] * 3)]
    told = sentence([*GOOD, *near])
    assert "its blocks gain less than 2 points over random ones, if anything" in told
    (group,) = judge_all([*GOOD, *near])
    row = next(row for row in group.rows if row.label == "dfa")
    assert reasons.why(row, Settings()) == [
        "1.3 ± 1.4 points below random blocks; a margin of +2 is needed, and its interval ends "
        "lower",
        "12.2 ± 1.2 points below bp with random blocks",
    ]
    (line,) = (own for own in trained.sorted_rules(group)[trained.LOOK] if own.label == "dfa")
    assert line.text.endswith(
        "not told apart from random blocks (-1.3 ± 1.4 points) and 12.2 ± 1.2 points lower than "
        "bp with random blocks"
    )


def test_a_rule_whose_blocks_beat_random_ones_although_a_diagnostic_fires_is_no_failure() -> None:
    told = sentence([*GOOD, *lone(measurements=SICK)])
    assert "lets the hidden states explode, though its blocks beat random ones." in told
    floorless = seeds(DFA, [0.30, 0.31, 0.32], measurements=SICK)
    assert heading([*GOOD, *floorless]) == trained.LOOK  # below bp with random blocks
    assert heading(floorless) == trained.OPEN  # nothing says whether its blocks train


def heading(records: list[RunRecord], label: str = "dfa") -> str:
    """Return the heading in plain words under which a rule stands."""
    (group,) = judge_all(records)
    found = trained.sorted_rules(group).items()
    return next(head for head, lines in found if label in [line.label for line in lines])


CHANCE: dict[str, Any] = {"chance": 0.1}
BP_CHANCE = [
    *seeds(BP, [0.611, 0.615, 0.619], **CHANCE),
    *frozen(BP, [0.418, 0.419, 0.420], **CHANCE),
]
AT_CHANCE = frozen(DFA, [0.10, 0.099, 0.101], **CHANCE)  # every margin over it is large


def test_a_margin_over_a_floor_at_chance_proves_nothing() -> None:
    sick = seeds(DFA, [0.43, 0.42, 0.44], measurements=measured(a=694.0), **CHANCE)
    records = [*BP_CHANCE, *sick, *AT_CHANCE]
    assert "dfa lets the hidden states explode." in sentence(records)
    assert heading(records) != trained.FIRES
    near = [*BP_CHANCE, *seeds(DFA, [0.428, 0.429, 0.430], **CHANCE), *AT_CHANCE]
    assert "dfa lies above bp with random blocks, but by less than 2 points." in sentence(near)
    good = [*BP_CHANCE, *seeds(DFA, [0.458, 0.459, 0.460], **CHANCE), *AT_CHANCE]
    text = leaderboard(good, width=None)
    assert "its own floor (where its interval reaches chance, over that of bp)" in text
    assert "is not judged for dfa by its own floor, but by bp with random blocks: the" in text
    (line,) = trained.sorted_rules(judge_all(good)[0])[trained.TRAIN][1:]
    assert line.text.endswith("4.0 ± 0.1 points higher than bp with random blocks")


def test_a_margin_that_is_read_in_place_of_another_is_said_with_its_sign() -> None:
    wide = [*BP_CHANCE, *seeds(DFA, [0.30, 0.42, 0.46], **CHANCE), *AT_CHANCE]
    text = " ".join(leaderboard(wide, width=None).split())
    chance = "chance (.100, the commonest class of the test set)"
    instead = f"which is read because the interval of its own floor reaches {chance}"
    assert (
        f"2.6 ± 20.4 points below bp with random blocks, {instead}; a margin of +2 or more is "
        "needed" in text
    )


def test_a_lost_first_seed_does_not_bring_back_the_margin_over_a_floor_at_chance() -> None:
    broken = run(DFA, 42, None, status="failed", reason="boom")
    rest = seeds(DFA, [0.428, 0.429, 0.430], **CHANCE)[1:]
    (group,) = judge_all([*BP_CHANCE, broken, *rest, *AT_CHANCE])
    (row,) = (row for row in group.rows if row.label == "dfa")
    assert row.replaced
    assert row.read == row.margin_bp
    assert round(row.read.mean, 9) == 1.0  # .429 over .419, .430 over .420
    (line,) = (
        each
        for lines in trained.sorted_rules(group).values()
        for each in lines
        if each.label == "dfa"
    )
    assert "points higher than bp with random blocks" in line.text
    assert "than with random blocks" not in line.text


def test_an_audit_is_offered_only_for_runs_that_have_weights() -> None:
    lacking = {name: item for name, item in measured().items() if name != "batch_stability"}
    rows = [*seeds(DFA, [0.50, 0.51, 0.52], measurements=lacking), *OVER]
    offer = "batch_stability not measured (`bench audit FOLDER --diagnostic NAME`"
    assert offer in leaderboard([*GOOD, *rows], width=None)
    of_sums = {"run.json": {"bytes": 1, "blake2b": "0"}}
    compact = [
        record.model_validate({**record.model_dump(), "original": of_sums}) for record in rows
    ]
    text = leaderboard([*GOOD, *compact], width=None)
    assert "batch_stability not measured" in text
    assert "bench audit" not in text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.45, 0.46, 0.47], ""),
        (
            [0.425, 0.426, 0.427],
            "; over backpropagation with random blocks it gains less than 2 points.",
        ),
        (
            [0.418, 0.421, 0.416],
            "; over backpropagation with random blocks it gains less than 2 points, if anything.",
        ),
        ([0.42, 0.44, 0.45], "; the seeds do not show whether it beats backpropagation with rand"),
        ([0.436, 0.44, 0.431], "; over backpropagation with random blocks its gain is not settled"),
    ],
)
def test_a_weak_floor_of_its_own_makes_no_rule_better_than_bps(
    values: list[float], said: str
) -> None:
    """Its own floor lies far below that of bp: then two points over bp's are asked for as well."""
    low = frozen("lab/weak", [0.1, 0.11, 0.105])
    told = sentence([*GOOD, *seeds("lab/weak", values), *low])
    assert ("weak beats its own random blocks" + said in told) == bool(said), told


def test_floors_at_chance_everywhere_are_the_reason_and_not_a_missing_measurement() -> None:
    bp = [*seeds(BP, [0.611, 0.615, 0.619], **CHANCE), *frozen(BP, [0.1] * 3, **CHANCE)]
    records = [*bp, *seeds(DFA, [0.428, 0.429, 0.430], **CHANCE), *AT_CHANCE]
    chance = "chance (.100, the commonest class of the test set)"
    floors = "neither their own floor nor bp's"
    assert f"bp and dfa cannot be judged: {floors} is shown to lie above {chance}" in sentence(
        records
    )
    text = leaderboard(records, width=None)
    assert f"its floor reaches {chance}, and bp with random blocks does too" in text
    without = leaderboard([record for record in records if not is_frozen_bp(record)], width=None)
    assert f"its floor reaches {chance}, and bp with random blocks was not run" in without
    floors = [record for record in records if record.cell.method.params["freeze"] == "blocks"]
    assert "change the epochs" not in " ".join(next_steps(judge_all(floors), "mine"))
    only = [record for record in records if record.cell.method.name != BP]
    (step,) = next_steps(judge_all(only), "mine")
    assert step.startswith("Next: change the epochs, the data or the task")


def test_a_margin_over_bps_floor_that_is_equal_in_both_seeds_needs_a_third() -> None:
    """It is read in the place of that over a floor at chance."""
    bp = [*seeds(BP, [0.61, 0.65], **CHANCE), *frozen(BP, [0.40, 0.42], **CHANCE)]
    rule = [*seeds(DFA, [0.55, 0.57], **CHANCE), *frozen(DFA, [0.1, 0.1], **CHANCE)]
    told = sentence([*bp, *rule])
    assert "dfa has the same margin in both seeds, which shows no scatter: add a third" in told
    third = [run(BP, 456, 0.62, **CHANCE), run(DFA, 456, 0.56, **CHANCE)]
    third += [*frozen(BP, [0.4, 0.4, 0.413], **CHANCE)[2:], *frozen(DFA, [0.1] * 3, **CHANCE)[2:]]
    assert "the same margin in both seeds" not in sentence([*bp, *rule, *third])


def test_rules_that_only_name_the_commonest_class_are_said_to_do_so() -> None:
    common = {"chance": 0.694}

    def said(bp: list[float], dfa: list[float], **others: list[float]) -> str:
        every = {BP: bp, DFA: dfa, **{f"bench-core/{name}": own for name, own in others.items()}}
        return opening([r for name, own in every.items() for r in seeds(name, own, **common)])

    flat = [0.694, 0.694, 0.694]
    assert "Both" not in said(flat, flat)
    assert "bp and dfa are no more accurate than the commonest class (.694)." in said(flat, flat)
    assert "All 3 rules are no more accurate than the commonest class (.694)." in said(
        flat, [0.60, 0.61, 0.62], fa=[0.69, 0.70, 0.695]
    )
    good = [0.90, 0.91, 0.92]
    assert "dfa is no more accurate than the commonest class (.694)." in said(good, flat)
    assert "commonest" not in said(good, [0.715, 0.716, 0.717])
    assert "commonest" not in said(good, [0.704, 0.705, 0.706])  # by a point, but not by chance
    assert "commonest" not in said(good, [0.65, 0.80, 0.90])  # its interval reaches it, that is all
    assert "commonest" not in opening([*seeds(BP, flat), *seeds(DFA, flat)])  # runs state none


def test_the_size_of_a_margin_has_the_digits_that_show_its_sign() -> None:
    assert unsigned(Estimate(-11.3, 5.0, 1.0, 3)) == "11.3 ± 5.0"
    assert unsigned(Estimate(-1.111, 1.091, 1.0, 5)) == "1.11 ± 1.09"  # not 1.1 ± 1.1
    assert unsigned(Estimate(-0.0187, 0.0038, 1.0, 2)) == "0.02 ± 0.00"
    assert unsigned(Estimate(-0.0187, None, None, 1)) == "0.02"
    assert unsigned(Estimate(-0.00012, 0.0, 0.0, 2)) == "0.0001 ± 0.0000"
    assert unsigned(Estimate(-0.01, 0.04, 0.1, 3)) == "0.01 ± 0.04"  # it contains 0, and is not 0
    assert unsigned(Estimate(-1.05, 1.06, 1.0, 3)) == "1.1 ± 1.1"  # it contains 0
    assert unsigned(Estimate(0.0, 0.0, 0.0, 3)) == "0.0 ± 0.0"


def test_trainings_that_a_diagnostic_ended_are_not_silently_compared_with_whole_ones() -> None:
    ended = [
        record.model_copy(update={"epochs": epochs, "stopped_by": "scale_growth"})
        for record, epochs in zip(seeds(DFA, [0.3, 0.31, 0.32]), (7, 7, 9), strict=True)
    ]
    told = (
        "scale_growth ended trainings: this rule ends after epoch 7, 9, bp[frozen] after 100, "
        "dfa[frozen] after 100, other rules after 100; margins and ranks compare unlike lengths"
    )
    records = [*GOOD, *ended, *OVER]
    assert f"dfa: {told}" in leaderboard(records, width=None)
    (group,) = json.loads(leaderboard(records, format="json"))["suites"][0]["groups"]
    doubted = {row["label"]: row["doubts"] for row in group["rows"]}
    assert told in doubted["dfa"]
    assert not any("ended" in text for name in ("bp", "dfa[frozen]") for text in doubted[name])
    (found,) = judge_all(records)
    rows = {row.label: row for row in found.rows}
    assert compared("", rows["dfa"], rows["bp"]).note == (
        "trainings of unequal length, in epochs by seed (A: 7, 7, 9; B: 100, 100, 100)"
    )
    assert compared("", rows["bp"], rows["bp[frozen]"]).note == ""
    alike = [
        record.model_copy(update={"epochs": 7, "stopped_by": "scale_growth"})
        for record in [*seeds(BP, [0.6, 0.61, 0.62]), *seeds(DFA, [0.3, 0.31, 0.32])]
    ]
    floors = [*frozen(BP, [0.4, 0.41, 0.42]), *OVER]
    short = leaderboard([*alike, *floors], width=None)  # their floors alone go on
    ends = "dfa: scale_growth ended trainings: this rule ends after epoch 7, bp[frozen] after 100"
    assert f"{ends}, dfa[frozen] after 100; margins compare unlike lengths" in short
    (found,) = judge_all([*alike, *floors])
    rows = {row.label: row for row in found.rows}
    assert compared("", rows["dfa"], rows["bp"]).note == ""
    assert "unlike lengths" not in leaderboard(alike, width=None)
    of_bp = [
        record.model_copy(update={"epochs": 3, "stopped_by": "scale_growth"})
        for record in frozen(BP, [0.4, 0.41, 0.42])
    ]
    cut = leaderboard([*GOOD[:3], *of_bp, *seeds(DFA, [0.3, 0.31, 0.32]), *OVER], width=None)
    ends = "scale_growth ended trainings: this rule ends after epoch 100, bp[frozen] after 3"
    assert f"bp, dfa: {ends}; margins compare unlike lengths" in cut
    both = leaderboard([*GOOD[:3], *of_bp, *ended, *OVER], width=None)
    assert f"bp: {ends}; margins compare unlike lengths" in both  # that dfa was cut is said of dfa


def test_a_gradient_at_the_floor_of_fitted_data_is_no_fault_of_the_rule() -> None:
    low = measured(b=6.6e-8 * 128)
    fitted = seeds(DFA, [0.999, 1.0, 1.0], train_loss=1.6e-4, measurements=low)
    told = (
        "b fires in all 3 runs where hardly any training loss is left (1.6e-04 or less): there "
        "the gradient is small because the data are fitted, which is no fault of the rule"
    )
    assert f"dfa: {told}" in leaderboard([*GOOD, *fitted, *OVER], width=None)
    variance = seeds(DFA, [0.99] * 3, train_loss=1.6e-4, measurements=low, chance=None)
    assert "fitted" not in leaderboard([*variance, *frozen(DFA, [0.5] * 3)], width=None)
    lost = seeds(DFA, [0.1, 0.1, 0.11], train_loss=0.02, measurements=low)
    assert "fitted" not in leaderboard([*GOOD, *lost, *OVER], width=None)


def test_figures_by_two_versions_of_a_diagnostic_are_named() -> None:
    def numbered(method: str, version: int, values: list[float]) -> list[RunRecord]:
        numerics = {"training": 1, "diagnostic bench-core/scale_growth": version}
        return seeds(method, values, numerics=numerics)

    told = (
        "scale_growth was measured by 2 versions of the diagnostic (numerics 1, 2), whose figures "
        "and flags do not compare: `bench audit FOLDER --diagnostic scale_growth` measures it again"
    )
    mixed = [*numbered(BP, 1, [0.61, 0.62]), *numbered(DFA, 2, [0.5, 0.51])]
    assert f"bp, dfa: {told}" in leaderboard(mixed, width=None)
    (group,) = json.loads(leaderboard(mixed, format="json"))["suites"][0]["groups"]
    assert all(told in row["doubts"] for row in group["rows"])
    same = [*numbered(BP, 2, [0.61, 0.62]), *numbered(DFA, 2, [0.5, 0.51])]
    assert "versions" not in leaderboard(same, width=None)
    asked = {"diagnostic bench-core/drift": 1}  # which measured neither of them
    other = [*seeds(BP, [0.6, 0.61], numerics=asked), *seeds(DFA, [0.5, 0.51], numerics={})]
    assert "versions" not in leaderboard(other, width=None)


def test_figures_by_two_codes_of_a_diagnostic_are_named() -> None:
    """An edit without a raised number, between two commands."""

    def by_code(method: str, code: str | None, values: list[float]) -> list[RunRecord]:
        items = {**measured(), "own": Measurement(value=0.5)}
        by = {} if code is None else {"measured_by": {"lab/own": code}}
        numerics = {"training": 1, "diagnostic lab/own": 1}
        return seeds(method, values, measurements=items, numerics=numerics, **by)

    told = "own was measured by 2 versions of the diagnostic (its code differs between the runs)"
    for first, second, names in (("a", "b", "bp, dfa: "), ("a", "a", None), ("a", None, None)):
        mixed = [*by_code(BP, first, [0.61, 0.62]), *by_code(DFA, second, [0.5, 0.51])]
        text = leaderboard(mixed, width=None)
        assert f"{names}{told}" in text if names else "versions" not in text


def is_frozen_bp(record: RunRecord) -> bool:
    return record.cell.method.name == BP and record.cell.method.params["freeze"] == "blocks"


def test_further_seeds_are_those_of_the_suites_file() -> None:
    def steps(records: list[RunRecord], seeds: tuple[int, ...] = ()) -> str:
        return " ".join(next_steps(judge_all(records), "mine", own_seeds=seeds))

    one = [run(BP, 1001, 0.6)]
    assert "with --seed 42 --seed 123 --seed 456" in steps(one)
    assert "more seeds: the same `bench run` with --seed 7 --seed 99" in steps(one, (7, 99, 1001))
    assert steps(one, tuple(range(2000, 2100))).count("--seed") == 2
    two = [*seeds(BP, [0.6, 0.61]), *frozen(BP, [0.4, 0.42])]
    assert "with --seed 1 --seed 2 trains these alone" in steps(two)
    assert "with --seed 456 trains these alone" in steps(two, (42, 123, 456))


def test_a_single_seed_whose_margin_cannot_be_judged_is_not_decided() -> None:
    bp = [run(BP, 1, 0.43), run(BP, 42, 0.43), *frozen(BP, [0.42])[:1]]
    assert heading([*bp, run(DFA, 42, 0.405), *frozen(DFA, [0.41])[:1]]) == trained.OPEN
    high = [run(DFA, 42, 0.50), *frozen(DFA, [0.41])[:1]]  # and bp gains one point
    assert heading([run(BP, 42, 0.43), *frozen(BP, [0.42]), *high]) == trained.OPEN
    low = [run(BP, 42, 0.63, **CHANCE), *frozen(BP, [0.42], **CHANCE), run(DFA, 42, 0.41, **CHANCE)]
    assert heading([*low, *frozen(DFA, [0.10], **CHANCE)]) == trained.OPEN


def test_a_single_seed_below_bp_with_random_blocks_is_no_rule_that_trains() -> None:
    """Its blocks gain 10 points over its own random ones, and lie 7 points below bp's."""
    bp = [run(BP, 42, 0.62), *frozen(BP, [0.42])]
    low = [*bp, run(DFA, 42, 0.35), *frozen(DFA, [0.25])]
    assert heading(low) == trained.LOOK
    (row,) = (row for row in judge_all(low)[0].rows if row.label == "dfa")
    assert row.verdict.text == "single seed, bp floor"
    assert "In that seed, dfa falls below backpropagation with random blocks." in sentence(low)
    near = [*bp, run(DFA, 42, 0.405), *frozen(DFA, [0.25])]  # by less than a single seed needs
    assert heading(near) == trained.TRAIN


def test_seeds_that_began_with_one_network_are_named() -> None:
    """An architecture that sets the seed itself: three seeds are no three networks."""

    def began(growths: dict[int, float], norm: float = 0.5) -> str:
        records = [
            record.model_copy(update={"initial": measured(a=growths[record.cell.seed], b=norm)})
            for name in (BP, DFA)
            for record in seeds(name, [0.4, 0.41, 0.42])
        ]
        (group,) = judge_all(records)
        return "\n".join(doubts.of_group(group, Settings()))

    said = "began with the same network: untrained, its growth and its gradient norm are equal"
    assert f"seeds 42, 123, 456 {said}" in began(dict.fromkeys((42, 123, 456), 1.004016655875063))
    assert f"seeds 42, 456 {said}" in began({42: 1.25, 123: 1.5, 456: 1.25})
    assert said not in began({42: 1.25, 123: 1.5, 456: 1.2500000001})
    assert said not in began(dict.fromkeys((42, 123, 456), 1.0), norm=0.0)  # a head of zeros


def test_a_diagnostic_that_fires_decides_nothing_about_blocks_that_are_not_told_apart() -> None:
    """The same margin, open from below 0 to above 2 points, with and without a diagnostic."""
    floor = frozen(DFA, [0.40, 0.41, 0.42])
    for measurements in (measured(), measured(c=0.99)):
        near = [*seeds(DFA, [0.43, 0.40, 0.45], measurements=measurements), *floor]
        assert heading([*GOOD, *near]) == trained.OPEN
    hardly = seeds(DFA, [0.41, 0.42, 0.43], measurements=measured(c=0.99))
    assert heading([*GOOD, *hardly, *floor]) == trained.LOOK  # fewer than 2 points are shown


def test_the_sentence_names_the_floor_that_was_compared() -> None:
    given = Settings(depth_utility=DepthUtility(floor_value=0.40))
    mine = [*seeds(DFA, [0.397, 0.40, 0.402]), *frozen(DFA, [0.35, 0.351, 0.352])]
    assert "beats its own random blocks" not in sentence([*GOOD, *mine], given)
    of_bp = Settings(depth_utility=DepthUtility(floor="bp"))
    near = [*seeds(DFA, [0.42, 0.43, 0.40]), *frozen(DFA, [0.35, 0.351, 0.352])]
    assert "dfa is not yet told apart from bp[frozen]." in sentence([*GOOD, *near], of_bp)


def test_a_run_without_a_number_is_no_firing_diagnostic() -> None:
    lost = [run(DFA, 1, 0.43), run(DFA, 2, math.nan), run(DFA, 3, status="diverged")]
    records = [*GOOD, *lost, *(run(DFA, s, 0.35, params={"freeze": "blocks"}) for s in (1, 2, 3))]
    assert heading(records) == trained.LOOK
    nan = seeds(DFA, [0.5, 0.51, 0.52], measurements=measured(a=math.nan))
    (group,) = judge_all([*GOOD, *nan, *frozen(DFA, [0.3] * 3)])
    (line,) = trained.sorted_rules(group)[trained.FIRES]
    assert line.text.endswith("; it has a scale_growth that is not finite")
    growths = (60.0, math.nan, math.nan)
    mixed = [run(DFA, s, 0.5, measurements=measured(a=a)) for s, a in enumerate(growths)]
    (found,) = (row for row in judge_all(mixed)[0].rows)
    first, second = reasons.why(found, Settings())
    assert first.endswith("(limit 50 times) in 1 of 3 runs")
    assert second.endswith("is not finite in 2 of 3 runs")
    for growths, said in (
        ((60.0, 60.0, math.nan), "lets the hidden states explode in 2 of 3 seeds"),
        ((math.nan, math.nan, math.nan), "has a scale_growth that is not finite"),
    ):
        some = [run(DFA, s, 0.5, measurements=measured(a=a)) for s, a in enumerate(growths)]
        own = [run(DFA, s, 0.3, params={"freeze": "blocks"}) for s in range(3)]
        assert f"dfa {said}, though" in sentence([*GOOD, *some, *own])


def test_a_floor_with_one_seed_leaves_a_rule_undetermined() -> None:
    records = [*GOOD, *seeds(DFA, [0.50, 0.51, 0.52]), *frozen(DFA, [0.30])]
    (group,) = judge_all(records)
    row = next(row for row in group.rows if row.label == "dfa")
    assert row.verdict.text == "undetermined (its floor has one seed)"
    assert "dfa has a floor with one seed, which is too few for a verdict." in sentence(records)


def test_the_floor_that_a_trustworthy_rule_beats_is_named() -> None:
    settings = Settings(depth_utility=DepthUtility(floor_value=0.1))
    near = [*GOOD, *seeds(DFA, [0.41, 0.42, 0.43]), *frozen(DFA, [0.41, 0.42, 0.43])]
    told = sentence(near, settings)
    assert "dfa beats the given floor" in told
    assert "own random blocks" not in told


def test_a_ceiling_that_fires_is_said_at_once() -> None:
    def opening(records: list[RunRecord]) -> str:
        (group,) = judge_all([*records, *frozen(BP, [0.418, 0.419, 0.420])])
        return summary.opening(group)

    fair = "this recipe, its number of epochs included, judges no rule fairly by"
    sick = [run(BP, seed, 0.6, measurements=measured(c=0.9)) for seed in (42, 123, 456)]
    pulls = "Even the ceiling bp pulls the gradients of all batches in one direction"
    assert f" {pulls}: {fair} batch_stability." in opening(sick)
    assert f" {pulls} in 1 of 3 seeds: " in opening([sick[0], *GOOD[1:3]])
    both = run(BP, 42, 0.6, measurements=measured(a=99.0, c=0.9))
    assert f"states explode: {fair} scale_growth and batch_stability." in opening([both])
    assert "Even" not in opening(GOOD[:3])


def test_a_rule_is_compared_with_the_floor_that_the_suite_names() -> None:
    settings = Settings(depth_utility=DepthUtility(floor="bp"))
    told = sentence([*GOOD, *seeds(DFA, [0.40, 0.401, 0.402]), *OVER], settings)
    below = " dfa falls below backpropagation with random blocks"
    assert told.endswith(f"{below}, though its blocks beat its own random ones.")


def test_a_flag_that_all_single_seeds_share_is_said_without_their_names() -> None:
    four = [run(DFA, 42, 0.28, params={"penalty": 0.1 * n}) for n in range(1, 5)]
    floor = frozen(DFA, [0.31])
    told = "In that seed, all of them train blocks that are worse than random ones."
    assert told in sentence([*GOOD, *four, *floor])
    three = sentence([*GOOD, *four[:3], *floor])
    assert "dfa[penalty=0.30000000000000004] train blocks that are worse" in three


@pytest.mark.parametrize(
    ("records", "heading", "words"),
    [
        (lone(), trained.TRAIN, ".510 ± .025 (n = 3), 20.0 ± 0.1 points higher than with random"),
        (REASONS["lets the hidden states explode"], trained.FIRES, "blocks; it lets the hidd"),
        (REASONS["trains blocks that are worse than random ones"], trained.LOOK, "points lower"),
        (REASONS["has no floor to be compared with"], trained.OPEN, "no floor of its own to comp"),
        (REASONS["is not yet told apart from random blocks"], trained.OPEN, "not told apart"),
        ([run(DFA, 42, 0.5), *OVER], trained.TRAIN, ".500 (n = 1), 20.0 points higher"),
        ([run(DFA, 42, 0.5, measurements=SICK), *OVER], trained.FIRES, "(n = 1)"),
        ([run(DFA, 42, status="failed"), *OVER], trained.OPEN, "no finished run"),
    ],
)  # fmt: skip
def test_rules_are_sorted_in_plain_words(
    records: list[RunRecord], heading: str, words: str
) -> None:
    (group,) = judge_all([*GOOD, *records])
    found = {line.label: (head, line.text) for head, own in trained.sorted_rules(group).items()
             for line in own}  # fmt: skip
    assert found["bp"][0] == trained.TRAIN
    assert found["dfa"][0] == heading
    assert words in found["dfa"][1]
    assert ("n = 1" in trained.caution(group)) == ("n = 1" in found["dfa"][1])


def test_a_tie_is_rounded_away_from_zero_however_it_was_computed() -> None:
    assert {signed(value) for value in (3.55, 100 * (0.3867 - 0.3512), 3.5500000000000003)} == {
        "+3.6"
    }
    assert [signed(value) for value in (-4.95, 19.05, -0.04, 0.05, -3.549)] == [
        *("-5.0", "+19.1", "+0.0", "+0.1", "-3.5")
    ]
    assert [*map(fraction, (0.3515, 0.4215, -0.0005, 0.9995, -0.0004, 0.35149))] == [
        *(".352", ".422", "-.001", "1.000", ".000", ".351")
    ]
    assert with_interval(Estimate(3.55, 1.25, 1.0, 3)) == "+3.6 ± 1.3"
    assert decimals(1.2345678905, 9) == "1.234567891"
    assert [decimals(x, 1) for x in (math.inf, 1e300)] == [f"{x:.1f}" for x in (math.inf, 1e300)]


def test_rules_are_counted_and_grouped_by_reason() -> None:
    worse = [r for name in (DFA, FA) for r in (*seeds(name, [0.2] * 3), *frozen(name, [0.3] * 3))]
    assert sentence([*GOOD, *worse]) == (
        "1 of 3 rules is trustworthy: bp. dfa and fa train blocks that are worse than random ones."
    )
    assert sentence([*GOOD, *lone()]) == "Both rules are trustworthy: bp and dfa."
    assert sentence(GOOD) == "The only rule, bp, is trustworthy."
    for accuracy, words in (
        (0.2, "worse than random ones"),
        (0.301, "hardly or no better than random"),
    ):
        assert f"In that seed, dfa trains blocks that are {words}" in sentence(
            [run(DFA, 42, accuracy), *OVER]
        )
    assert sentence(worse).startswith("None of 2 rules is trustworthy. dfa and fa train")
    assert sentence(frozen(BP, [0.4])) == (
        "All runs here keep their blocks frozen, so no rule is judged."
    )
    single = [run(BP, 42, 0.6, measurements=measured(c=0.9)), run(DFA, 42, 0.2, measurements=SICK)]
    assert sentence(single) == (
        "No rule has a verdict yet: one finished seed is too few. In that seed, bp pulls the "
        "gradients of all batches in one direction; dfa lets the hidden states explode."
    )
    mixed = [*GOOD, run(DFA, 42, 0.45, measurements=SICK), *seeds(FA, [0.2] * 3)]
    assert sentence(mixed) == (
        "1 of 3 rules is trustworthy: bp. fa falls below backpropagation with random blocks. dfa "
        "has one finished seed, which is too few for a verdict. In that seed, dfa lets the hidden "
        "states explode."
    )
    given = Settings(depth_utility=DepthUtility(floor_value=0.9))
    assert "dfa stays below the given floor of .900." in sentence(lone(), given)
    above = [*GOOD, *seeds(DFA, [0.438, 0.439, 0.440])]
    given = Settings(depth_utility=DepthUtility(floor_value=0.43))
    told = "dfa lies above the given floor of .430, but by fewer points than it needs."
    assert told in sentence(above, given)
    (group,) = judge_all([*GOOD, *worse])
    assert summary.tally(group.rows) == {"trustworthy": 1, "walked back": 2}


def test_controls_are_no_rules_and_must_fail() -> None:
    noise = "bench-core/noise_credit"
    failed = [*seeds(noise, [0.2] * 3), *frozen(noise, [0.3] * 3)]
    assert sentence([*GOOD, *failed]) == (
        "The only rule, bp, is trustworthy. Walked back, as a control must be: noise_credit."
    )
    passed = [*seeds(noise, [0.5] * 3), *frozen(noise, [0.3] * 3)]
    assert "But trustworthy, which a control must not be: noise_credit." in sentence(
        [*GOOD, *passed]
    )
    assert sentence([run(noise, 42, 0.2)]) == (
        "No rule has run yet, only controls. noise_credit has one finished seed, which is too few "
        "to judge a control."
    )


def test_a_trustworthy_rule_near_the_floor_of_bp_is_named() -> None:
    """Its blocks train, and yet random blocks reach its accuracy with bp."""
    bp = [*seeds(BP, [0.60, 0.61, 0.62]), *frozen(BP, [0.42, 0.421, 0.42])]
    fa = [*seeds(FA, [0.41, 0.42, 0.40]), *frozen(FA, [0.35, 0.36, 0.34])]
    told = (
        "Both rules are trustworthy: bp and fa. fa beats its own random blocks; over "
        "backpropagation with random blocks it gains less than 2 points, if anything."
    )
    assert sentence([*bp, *fa]) == told
    over = [*seeds(FA, [0.51, 0.52, 0.50]), *frozen(FA, [0.35, 0.36, 0.34])]
    assert sentence([*bp, *over]) == "Both rules are trustworthy: bp and fa."


def test_one_seed_gives_no_verdict_in_several_recipes_either() -> None:
    def both(records: list[RunRecord]) -> str:
        shorter = [item.model_dump(by_alias=True) for item in records]
        for item in shorter:
            item["identity"] += "short"
            item["cell"]["training"]["epochs"] = 10
        return summary.of_recipes(judge_all([*records, *map(RunRecord.model_validate, shorter)]))

    single = "In 2 recipes, no rule has a verdict yet: one finished seed is too few."
    assert both([run(DFA, 42, 0.5), *OVER]) == single
    assert both([*GOOD, *lone()]) == "In 2 recipes, 4 of 4 rows are trustworthy."
    assert both(OVER) == "In 2 recipes, every row is a control or a floor: no rule is judged."


def test_floors_are_folded_below_their_rule() -> None:
    shared = [*audit(), *seeds(DFA, [0.2] * 3, params={"penalty": 0.1})]
    folded = [line.split()[1] for line in rows_shown(leaderboard(shared, width=None))]
    assert folded == ["bp", "ep", "dfa", "dfa[penalty=0.1]"]
    unfolded = leaderboard(shared, width=None, floors=True)
    shown = [line.split()[1] for line in rows_shown(unfolded)]
    assert shown == ["bp", "bp[frozen]", "ep", "ep[frozen]", "dfa", "dfa[frozen]", folded[-1]]
    (group,) = judge_all(shared)
    assert len({row.label for row in group.rows}) == len(group.rows)
    assert [len(floors) for _, floors in families(group, Settings())] == [1, 1, 1, 0]
    only = leaderboard(frozen(BP, [0.4, 0.41]), width=None)  # floors alone are shown
    assert [line.split()[0] for line in rows_shown(only)] == ["bp[frozen]"]


@given(st.floats(0, 1), st.floats(0, 20))
def test_the_interval_of_an_accuracy_ends_at_0_and_1(mean: float, half: float) -> None:
    text = share(mean, half)
    if "±" in text:
        low, high = mean - half, mean + half
    else:
        low, high = map(float, text.partition("[")[2].rstrip("]").split(", "))
    assert 0 <= low <= high <= 1


def test_the_legend_of_a_regression_says_what_its_accuracy_is() -> None:
    def said(*records: RunRecord) -> bool:
        lines = legend.of_all(judge_all(records), Settings())
        (line,) = (line for line in lines if line.startswith("accuracy: "))
        assert "on the test set" in line
        return "share of the targets' variance" in line

    targets, classes = run(DFA, 42, 0.5, chance=None), run(DFA, 42, 0.5, chance=0.1)
    assert said(targets)
    assert not said(classes)
    assert not said(targets, run(DFA, 123, 0.5, chance=0.1))
    older = scan([CORPUS / "schema-2"]).runs  # of digits; its records have no `chance` yet
    assert not said(*(item.record for item in older))


def test_what_to_do_next_follows_from_the_runs() -> None:
    def after(records: list[RunRecord]) -> str:
        return " ".join(next_steps(judge_all(records), "mine"))

    lost = [*GOOD, run(DFA, 42, status="interrupted")]
    again = "Next: the same `bench run` again trains 1 unfinished run, and any that has not begun"
    assert after(lost) == again
    own = run(DFA, 42, 0.5)  # perhaps with --method and --set: only the same command adds its seeds
    assert after([own]).endswith("the same `bench run` with --seed 42 --seed 123 --seed 456")
    others = seeds(EP, [0.4, 0.41, 0.42])[1:]
    assert after([own, *others]).endswith("the same `bench run` with --seed 123 --seed 456")
    marks = {"environment": {"reference": 1}, "original": {"run.json": "of another machine"}}
    shipped = own.model_copy(update=marks)
    assert "`bench plan mine` says what they cost" in after([shipped])
    beside = [shipped, run(FA, 42, 0.5)]
    assert "the same `bench run` with --seed" in after(beside)
    told = legend.of_all(judge_all(beside), Settings())
    ranked = legend.of_all(judge_all([*GOOD, *lone(), run(FA, 42, 0.5)]), Settings())
    assert any("rules; the others are ranked among themselves." in line for line in ranked)
    assert any(line.endswith("too few finished seeds or rules.") for line in told)
    assert any(
        line.endswith("longer. The reference was trained on other machines.") for line in told
    )
    for status in ("failed", "timeout"):  # the same command keeps these
        lost = after([own, run(DFA, 123, status=status)])
        assert "the same `bench run` with --retry-failed trains 1 failed run again" in lost
    elsewhere = [own, run(DFA, 123, status="failed"), run(FA, 42, status="interrupted")]
    steps = next_steps(judge_all(elsewhere), "mine", {own.identity})
    assert "again" not in " ".join(steps)  # other commands' cells
    planned = {own.identity, elsewhere[1].identity}
    (step,) = next_steps(judge_all(elsewhere), "mine", planned)
    assert "with --retry-failed trains 1 failed run again" in step
    broken = run("my_rule.py/mine", 42, status="failed")
    mended = "mend my_rule.py, then the same `bench run` trains 1 failed run again"
    assert after([broken]).startswith(f"Next: {mended}; `bench check`")
    both = after([broken, run(DFA, 123, status="failed")])
    assert f"{mended}; mend the cause, then the same `bench run` with --retry-failed" in both
    several = after([broken, run("other.py/own", 42, status="failed")])
    assert "mend my_rule.py, other.py, then the same `bench run` trains 2 failed runs" in several
    assert "more seeds" not in after([own, run(DFA, 123, status="diverged")])
    assert "table: the same `bench run` with --method my_rule" in after(GOOD)
    more = [*GOOD, run(BP, 1, 0.615)]
    assert "or add seeds: the same `bench run` with --seed 2 --seed 3 trains these alone" in after(
        more
    )
    mine = seeds("my_rule.py/mine", [0.5, 0.51, 0.52])
    assert after([*GOOD, *mine]) == (
        "Next, add seeds: the same `bench run` with --seed 1 --seed 2 trains these alone"
    )
    assert "more seeds" not in after([*mine, shipped])  # the same command would train nothing
    both = [item.model_copy(update=marks) for item in GOOD]
    assert after(both).endswith("or add seeds: bench run mine --seed 1 --seed 2")


def test_a_table_says_no_letter_that_it_does_not_explain() -> None:
    (table,) = (part for part in leaderboard(audit(), width=None).split("\n\n") if "\n---" in part)
    assert not {"D1", "(a", "(b", "(d)", "a,", "b,"} & set(table.split())
    (group,) = judge_all(audit())
    texts = [text for row in group.rows for text in reasons.of_row(row, Settings())]
    assert texts
    assert all(text[0].isupper() or text in table for text in texts)


def test_codes_are_compared_in_words() -> None:
    base = {"core.files.loop": "1", "core.digest": "x", "core.files.bp": "7"}
    traced = {
        "Code": {
            "C1": base,
            "C2": {"core.files.loop": "1", "core.digest": "y", "core.files.ep": "8"},
            "C3": {**base, "core.files.loop": "2"},
        },
        "Environment": {"E1": {"torch": "2.1", "threads": 1}, "E2": {"torch": "2.2", "threads": 1}},
    }
    assert provenance.differences(traced) == [
        "C1 and C2 have the same code, but for the modules of their own rules",
        "C3 differs from C1 in loop",
        "E2 differs from E1 in torch",
    ]


def test_the_legend_names_the_diagnostics_that_judged() -> None:
    silent = Measurement(
        value=0.9, letter="c", direction="above", threshold=0.3, not_diagnostic="too few batches"
    )
    nothing = Measurement(value=9.0, not_diagnostic="means nothing")
    mute = {"measurements": {**measured(), "batch_stability": silent, "spread": nothing}}
    records = [
        *seeds(BP, [0.61, 0.615, 0.62], **mute),
        *seeds("lab/own", [0.5, 0.51, 0.52], **mute),
    ]
    text = "\n".join(
        legend.of_all(judge_all([*records, *frozen(BP, [0.42, 0.43, 0.44])]), Settings())
    )
    assert "fires after the last epoch (scale_growth, reference_floor)" in text
    asked = leaderboard(records, width=None, columns=["c"])
    assert "0.9†" in asked
    medians = "cosine (c): median over finished runs; claims compare means"
    assert f"{medians}; †: not diagnostic, for the reason above" in asked
    results = SuiteResults("made", Settings(), tuple(records), superseded=0)
    lines = list(export.runs([view(results)]))
    assert not any("spread" in line for line in lines)
    assert {line["not_diagnostic"].partition("; d")[0] for line in lines} == {"c: too few batches"}


def test_a_column_may_belong_to_one_of_several_suites() -> None:
    far = [item.model_copy(update={"suite": "far"}) for item in REASONS["is flagged by far"]]
    suites = [SuiteResults("made", Settings(), tuple(r), superseded=0) for r in (GOOD, far)]
    one, two = texts(suites, "table", Wanted(None, columns=["far"]))
    assert ("e far" in one, "e far" in two) == (False, True)
    shown = leaderboard(GOOD, width=None, columns=["d", "alignment"])  # the diagnostics' own names
    assert "Γ" in shown
    with pytest.raises(UsageError, match="--column nope: no such column"):
        texts(suites, "csv", Wanted(columns=["nope"]))


def test_the_opening_names_the_floor_of_the_margins_and_not_that_of_another_penalty() -> None:
    frozen_with = {"freeze": "blocks", "penalty": 0.1}
    floors = [*GOOD, *seeds(BP, [0.5] * 3, params=frozen_with), *frozen("lab/ebd", [0.3] * 3)]
    (group,) = judge_all([*floors, *seeds("lab/ebd", [0.5, 0.51, 0.52])])
    assert "Backpropagation with random blocks reaches .419." in summary.opening(group)


def test_on_the_board_recipes_with_a_verdict_come_first() -> None:
    """A longer training without floors decides nothing."""
    longer = [
        item
        for rule in (BP, DFA, "bench-core/fa")
        for item in seeds(rule, [0.6, 0.61, 0.62], training={"epochs": 200})
    ]
    results = SuiteResults("s", Settings(), (*longer, *GOOD, *lone()), 0)
    known, open_ = site._first_recipes([view(results)])
    assert {line.label for line in known["lists"][trained.TRAIN]} == {"bp", "dfa"}
    assert [*open_["lists"]] == [trained.OPEN]
    assert "200 epochs" in open_["recipe"]


def test_the_headline_asks_of_a_trustworthy_rule_above_bp_or_of_another_recipe() -> None:
    floors = frozen("lab/ebd", [0.418, 0.419, 0.420])
    above = [*GOOD, *floors, *seeds("lab/ebd", [0.711, 0.715, 0.719])]
    told = (
        "Both rules are trustworthy: lab/ebd and bp. lab/ebd is more accurate than "
        "backpropagation, its ceiling: has its training seen the test set, or more data in a step?"
    )
    assert sentence(above) == told.replace("lab/", "")
    for taken, words in (
        ((1, 1), ""),
        ((0.2, 1), ""),
        ((0, 1), " ebd trains with another optimiser than backpropagation."),
        ((1, 2), " ebd takes more steps in a batch than backpropagation."),
    ):
        own = seeds("lab/ebd", [0.511, 0.515, 0.519], steps_per_batch=taken)
        assert sentence([*GOOD, *floors, *own]) == (
            f"Both rules are trustworthy: bp and ebd.{words}"
        )
    bad = [*GOOD, *frozen(DFA, [0.3] * 3), *seeds(DFA, [0.2] * 3, steps_per_batch=(0, 1))]
    assert "another optimiser" not in sentence(bad)


def test_the_reason_of_a_row_has_the_numbers_of_the_table() -> None:
    """A half width of .25 is .3 in both."""
    points = Estimate(-3.55, 0.25, 0.1, 3)
    (bp,) = (row for row in judge_all(GOOD)[0].rows if row.role == "ceiling")
    (margin,) = (each for each in criteria([bp]) if each.margin)
    assert margin.of_margin(points, 2.0, floor="it").startswith("3.6 ± 0.3 points worse")
    above = Estimate(1.55, 0.25, 0.1, 3)
    assert margin.of_margin(above, 2.0, floor="it").startswith("+1.6 ± 0.3 points over")
    assert reasons._unlike(above, 2.0) == "+1.6 ± 0.3"


def test_on_the_board_a_recipe_with_bp_stands_before_one_without() -> None:
    """Of two with bp, that with more decided runs, then that with fewer undecided rules."""
    many = [
        item
        for rule in (DFA, FA, "lab/one", "lab/two", "lab/three")
        for item in (*seeds(rule, [0.6, 0.61, 0.62]), *frozen(rule, [0.3, 0.31, 0.32]))
    ]
    many.append(run(BP, 42, None, status="failed"))
    without_bp = SuiteResults("many", Settings(), tuple(many), 0)
    whole = [*GOOD, *seeds(DFA, [0.6, 0.61, 0.62]), *frozen(DFA, [0.3, 0.31, 0.32])]
    with_bp = SuiteResults("few", Settings(), tuple(whole), 0)
    single = [run(f"lab/r{number}", 42, 0.3) for number in range(5)]
    more_open = SuiteResults("open", Settings(), (*whole, *single), 0)
    for results in ([without_bp, with_bp, more_open], [more_open, with_bp, without_bp]):
        (found,) = site._first_recipes([*map(view, results)])
        assert found["link"] == "suite-few.html"
        assert {line.label for lines in found["lists"].values() for line in lines} == {"bp", "dfa"}


def test_plain_words_say_that_a_margin_is_unpaired() -> None:
    """The floor has two of the three seeds."""
    for floors, words in ((3, ""), (2, " (unpaired: the floor has 2 seeds)")):
        own = [*seeds(DFA, [0.50, 0.51, 0.52]), *frozen(DFA, [0.30, 0.31, 0.32][:floors])]
        (group,) = judge_all([*GOOD, *own])
        (line,) = (
            line
            for lines in trained.sorted_rules(group).values()
            for line in lines
            if line.label == "dfa"
        )
        assert line.text.endswith(f"higher than with random blocks{words}")


def test_words_and_numbers_of_a_margin_agree() -> None:
    """At the limit, under a limit that a suite raised, and beside a floor of another rule."""
    bp = [*seeds(BP, [0.611, 0.615, 0.619]), *frozen(BP, [0.30, 0.31, 0.29])]
    near = [*bp, *seeds(DFA, [0.3196, 0.3396, 0.2996]), *frozen(DFA, [0.30, 0.3001, 0.2999])]
    text = leaderboard(near, width=None)
    assert "+1.96 ± 4.9 points over random blocks; a margin of +2 or more is needed" in text
    raised = Settings(thresholds={"depth_utility": 30.0})
    assert "dfa beats random blocks, but by fewer points than it needs." in sentence(lone(), raised)
    by_bp = Settings(depth_utility=DepthUtility(floor="bp"))
    worse = [*GOOD, *seeds(DFA, [0.30, 0.301, 0.302]), *frozen(DFA, [0.35, 0.351, 0.352])]
    told = "dfa falls below backpropagation with random blocks; its blocks are worse than its own"
    assert f"{told} random ones." in sentence(worse, by_bp)
    few = [*GOOD, *seeds(DFA, [0.30, 0.301, 0.302]), *frozen(DFA, [0.3015])]
    assert "worse than its own random" not in sentence(few, by_bp)  # of one seed
    blind = [*seeds(BP, [0.421, 0.422, 0.423]), *frozen(BP, [0.418, 0.419, 0.420])]
    unread = [*blind, *seeds(DFA, [0.30, 0.301, 0.302]), *frozen(DFA, [0.296, 0.297, 0.299])]
    assert "dfa falls below backpropagation with random blocks." in sentence(unread)


def test_floors_that_reach_chance_by_their_width_ask_for_seeds() -> None:
    """Two seeds of a floor at .5 and .7: the interval is all of 0 to 1."""

    def shown(*floor: float) -> str:
        records = [
            *seeds(BP, [0.9, 0.91], **CHANCE), *frozen(BP, list(floor), **CHANCE),
            *seeds(DFA, [0.8, 0.82], **CHANCE), *frozen(DFA, list(floor), **CHANCE),
        ]  # fmt: skip
        return " ".join(leaderboard(records, width=None).split())

    wide, low = shown(0.5, 0.7), shown(0.1, 0.1)
    assert "do better than chance: more seeds, more epochs, or classes of like size" in wide
    assert "Next: add seeds, or change the epochs, the data or the task" in wide
    assert "do better than chance: more epochs, or classes of like size" in low
    assert "Next: change the epochs, the data or the task" in low


def test_a_recipe_that_cannot_judge_asks_for_another_one() -> None:
    full = [*seeds(BP, [0.992, 0.993, 0.991]), *frozen(BP, [0.990, 0.991, 0.989])]
    text = " ".join(leaderboard(full, width=None).split())
    assert "These reach .990; 2 points more are impossible: take a harder task." in text
    assert "Next: change the epochs, the data or the task" in text
    low = [*seeds(BP, [0.422, 0.423, 0.421]), *frozen(BP, [0.420, 0.421, 0.419])]
    text = " ".join(leaderboard(low, width=None).split())
    assert "More epochs or more data may help." in text
    assert "impossible" not in text
    assert "Next: change" not in leaderboard(GOOD, width=None)
    clear = [*low, *seeds(DFA, [0.52, 0.521, 0.522]), *frozen(DFA, [0.32, 0.321, 0.322])]
    text = " ".join(leaderboard(clear, width=None).split())
    assert "more data may help. dfa: the whole interval lies above 2 points." in text
    assert "cannot judge its rules" not in text
    assert "Next: change" not in " ".join(next_steps([], "s"))


def test_the_three_diagnostics_fail_without_a_number_and_are_open_without_a_floor() -> None:
    def three(records: list[RunRecord]) -> str:
        return next(r for r in judge_all(records)[0].rows if r.label == "dfa").verdict.three

    lost = [run(DFA, 42, 0.5), run(DFA, 123, 0.5), run(DFA, 456, math.nan)]
    assert three([*GOOD, *lost, *OVER]) == "FAIL"
    few = [*seeds(BP, [0.611, 0.615, 0.619]), *frozen(BP, [0.6])]
    assert three([*few, *seeds(DFA, [0.50, 0.51, 0.52]), *OVER]) == "UNDETERMINED"
    assert three([*GOOD, *seeds(DFA, [0.50, 0.51, 0.52]), *OVER]) == "PASS"


def test_the_legend_explains_an_interval_that_is_cut_off_where_a_rule_has_one() -> None:
    said = "or [its ends] where it is cut off at 0 or 1"
    wide = [*seeds(BP, [0.983, 0.81, 0.95]), *frozen(BP, [0.5, 0.51, 0.52])]
    text = leaderboard(wide, width=None)
    assert " 1]" in text
    assert said in text
    loud_floor = [*seeds(BP, [0.983, 0.981, 0.984]), *frozen(BP, [0.95, 0.6, 0.9])]
    text = leaderboard(loud_floor, width=None)
    assert " 1]" not in text
    assert said not in text
