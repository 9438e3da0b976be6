"""Laws of the verdict of a row: paired intervals, recipes that cannot judge, survivors, pairs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import pytest
from folders import leaderboard
from pydantic import ValidationError
from records import SICK, frozen, measured, run, seeds

from bench_core.analysis.sensitivity import sensitivities
from bench_core.analysis.stats import Estimate, t_critical, welch_difference
from bench_core.analysis.verdicts.alignment import NO_CREDIT
from bench_core.analysis.verdicts.floors import explained
from bench_core.analysis.verdicts.judge import Floor
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.analysis.verdicts.rescaled import Rescaled
from bench_core.analysis.verdicts.roles import EVERY_RULE, is_floor
from bench_core.analysis.verdicts.rows import Group, Row
from bench_core.analysis.verdicts.settings import Settings
from bench_core.analysis.verdicts.verdict import AT_CHANCE, UNTRIED, UNTRIED_BELOW, margin, reading
from bench_core.report.tables import notes
from bench_core.report.text.numbers import with_interval
from bench_core.report.words import reasons, row_doubts, summary, trained
from bench_core.report.words.rows import PASSPORT, gamma, value_of
from bench_core.results.record import Measurement, RunRecord
from bench_core.suite.cells import CORE_DEFAULTS
from bench_core.suite.judging import DepthUtility
from bench_core.training.local_method import LocalMethod
from bench_core.training.method import Method, Passport

BP, DFA, EP = "bench-core/bp", "bench-core/dfa", "bench-core/ep"
BACKPROP = [*seeds(BP, [0.611, 0.615, 0.619]), *frozen(BP, [0.418, 0.419, 0.420])]


def group(records: list[RunRecord]) -> Group:
    (only,) = judge_all(records, Settings())
    return only


def row(records: list[RunRecord], name: str = "dfa") -> Row:
    return next(row for row in group(records).rows if row.label == name)


def lines_of(records: list[RunRecord]) -> list[trained.Line]:
    return [line for lines in trained.sorted_rules(group(records)).values() for line in lines]


def remarks(records: list[RunRecord]) -> str:
    return "\n".join(notes.of_group(group(records), Settings()))


@pytest.mark.parametrize(
    ("mean", "half", "expected"),
    [
        (2.0, 1.9, "passes"),
        (2.0, 2.0, "open"),  # the interval touches 0
        (1.9, 0.0, "fires"),
        (1.0, 0.9, "fires"),
        (1.0, 1.0, "open"),  # the interval touches the threshold
        (2.8, 23.8, "open"),
        (-5.0, 1.0, "fires"),
        (9.0, None, "open"),
    ],
)
def test_a_margin_is_read_with_its_interval(mean: float, half: float | None, expected: str) -> None:
    assert reading(Estimate(mean, half, half, 3), 2.0) == expected


@pytest.mark.parametrize(
    ("accuracies", "floor", "kind", "text"),
    [
        # differences 11, 12, 13 points
        ([0.50, 0.51, 0.52], [0.39, 0.39, 0.39], "trustworthy", "trustworthy"),
        # 1.0, 1.1, 0.9
        ([0.500, 0.501, 0.499], [0.49] * 3, "walked back", "walked back (d)"),
        # 12, −8, 5: mean 3, interval ± 25
        ([0.54, 0.34, 0.47], [0.42] * 3, *["not separated from its floor"] * 2),
    ],
)
def test_d_of_a_row(accuracies: list[float], floor: list[float], kind: str, text: str) -> None:
    found = row([*seeds(DFA, accuracies), *frozen(DFA, floor)])
    assert (found.verdict.kind, found.verdict.text) == (kind, text)


def test_a_rule_with_the_wrong_sign_is_walked_back_though_its_own_floor_is_wrecked() -> None:
    """17 … 22 % on digits over a wrecked floor, but 95 % with random blocks under bp."""
    bp = [*seeds(BP, [0.98, 0.981, 0.982]), *frozen(BP, [0.95, 0.947, 0.947])]
    wrong = measured(gamma=-0.06)
    mine = seeds(DFA, [0.176, 0.22, 0.19], measurements=wrong, chance=0.11)
    records = [*bp, *mine, *frozen(DFA, [0.09, 0.14, 0.11])]
    found = row(records)
    assert found.verdict.text == "walked back (bp floor)"
    assert found.verdict.three == "UNDETERMINED(D3)"
    assert dict(found.runs[0].judgement.not_diagnostic) == {"d": AT_CHANCE}
    assert "dfa walked back: 75.3 ± 5.9 points below bp with random blocks" in remarks(records)
    assert "Γ deep of dfa lies below 0" in remarks(records)


def test_a_floor_at_chance_leaves_the_judgement_to_the_floor_of_bp() -> None:
    mine = seeds(DFA, [0.55, 0.551, 0.549], chance=0.1)
    wrecked = frozen(DFA, [0.10, 0.11, 0.09])
    assert row([*BACKPROP, *mine, *wrecked]).verdict.text == "trustworthy"
    assert row([*BACKPROP, *mine, *wrecked]).replaced
    assert not row([*BACKPROP, *mine, *wrecked], "dfa[frozen]").replaced
    few = frozen(DFA, [0.10, 0.11], chance=0.1)  # the margin that is read is paired
    (told,) = [line.text for line in lines_of([*BACKPROP, *mine, *few]) if line.label == "dfa"]
    assert told.startswith("accuracy .550 ± .002 (n = 3), 13.1 ± 0.4 points higher than bp with")
    assert "unpaired" not in told
    lost = [record for record in BACKPROP if not (is_floor(record) and record.cell.seed == 456)]
    (told,) = [line.text for line in lines_of([*lost, *mine, *wrecked]) if line.label == "dfa"]
    assert told.endswith(" (unpaired: the floor has 2 seeds)")
    level = seeds(DFA, [0.42, 0.43, 0.41], chance=0.1)
    assert row([*BACKPROP, *level, *wrecked]).verdict.text == "not separated from its floor"
    assert row([*mine, *wrecked]).verdict.text == "undetermined (d not judged)"  # no floor of bp
    own = [*seeds(BP, [0.611, 0.615, 0.619], chance=0.1), *frozen(BP, [0.10, 0.101, 0.099])]
    found = {
        r.label: r.verdict.text for r in group([*own, *mine, *wrecked]).rows if r.role != "floor"
    }
    assert found == dict.fromkeys(["bp", "dfa"], "undetermined (d not judged)")


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        (143, "by up to ± 8.2 points (95 %)"),
        (2000, "by up to ± 2.2 points"),
        (10_000, ""),
        (None, ""),
    ],
)
def test_a_small_test_set_is_said(samples: int | None, told: str) -> None:
    """1.96·√(.5·.5/143) is .082; beside it bp has .615."""
    records = [*BACKPROP, *seeds(DFA, [0.49, 0.50, 0.51]), *frozen(DFA, [0.3, 0.31, 0.32])]
    sized = [record.model_copy(update={"test_samples": samples}) for record in records]
    lines = [each for each in notes.of_group(group(sized), Settings()) if "so few leave" in each]
    assert [told in line for line in lines] == [True] * bool(told)
    assert all(f"are of {samples:,} test samples: so few leave one" in line for line in lines)
    mixed = [each.model_copy(update={"test_samples": 7 + n % 2}) for n, each in enumerate(sized)]
    assert "so few leave one" not in " ".join(notes.of_group(group(mixed), Settings()))
    held = [each.cell.model_copy(update={"data": {"evaluate_on": "validation"}}) for each in sized]
    held = [each.model_copy(update={"cell": own}) for each, own in zip(sized, held, strict=True)]
    told = " ".join(notes.of_group(group(held), Settings()))
    assert ("are of 143 validation samples: " in told) == (samples == 143)


def test_a_small_test_set_says_nothing_of_explained_variance_and_of_runs_without_accuracy() -> None:
    bp = [each.model_copy(update={"chance": None, "test_samples": 20}) for each in BACKPROP]
    assert "so few leave one" not in remarks(bp)
    lost = [run(DFA, seed, status="failed", test_samples=20) for seed in (1, 2)]
    assert "so few leave one" not in remarks(lost)
    with pytest.raises(ValidationError):
        run(DFA, 1, 0.5, test_samples=-5)


def test_the_rounding_of_accuracies_in_ties_is_that_of_the_stated_test_set() -> None:
    """.5 is a count of any even number of samples; .611 of bp one of 1,000."""
    tied = [*BACKPROP, *seeds(DFA, [0.5] * 3), *frozen(DFA, [0.25] * 3)]
    for samples, step in ((360, 1 / 360), (40, 1 / 40), (26_032, 1 / 26_032), (None, 0.001)):
        sized = [record.model_copy(update={"test_samples": samples}) for record in tied]
        found = row([record for record in sized if record.cell.method.name == DFA])
        if samples is None:
            found = row(sized)
        assert found.accuracy is not None
        expected = t_critical(3) * step / math.sqrt(36)
        assert found.accuracy.half_width == pytest.approx(expected)


def test_two_seeds_of_a_floor_whose_interval_reaches_chance_hide_no_loss() -> None:
    """Of two seeds an interval is wide; a low floor makes gains look large, and no losses."""
    mine = seeds(DFA, [0.45, 0.33], chance=0.122)
    wide = frozen(DFA, [0.90, 0.75])  # .825 ± .95; the margins -45 and -42
    found = row([*BACKPROP, *mine, *wide])
    assert found.verdict.text == "walked back (d)"
    assert not found.replaced
    bp = [*seeds(BP, [0.95, 0.96]), *frozen(BP, [0.1, 0.1])]  # at chance: d was not judged
    assert row([*bp, *mine, *wide]).verdict.text == "walked back (d)"
    level = row([*BACKPROP, *mine, *frozen(DFA, [0.47, 0.31])])  # -2 and 2
    assert level.replaced


def test_the_rounding_of_a_floor_in_ties_is_that_of_the_whole_test_set() -> None:
    """.104 is a count of 125 samples or of 10,000; the accuracies of bp say of which."""
    fine = [*seeds(BP, [0.6111, 0.6153, 0.6192], chance=0.1), *frozen(BP, [0.1031] * 3)]
    for floor in (0.1040, 0.1041):
        mine = seeds(DFA, [floor + 0.0195, floor + 0.0194, floor + 0.0196], chance=0.1)
        assert row([*fine, *mine, *frozen(DFA, [floor] * 3)]).verdict.text == "walked back (d)", (
            floor
        )


def test_a_mean_below_the_bp_floor_is_flagged_and_one_far_below_walks_back() -> None:
    over = frozen(DFA, [0.30, 0.31, 0.32])
    near = [*BACKPROP, *seeds(DFA, [0.40, 0.45, 0.38]), *over]
    assert row(near).verdict.text == "trustworthy"
    text = "dfa (-0.9 ± 9.0 points): mean below bp with random blocks, though the seeds do not"
    assert text in remarks(near)
    far = [*BACKPROP, *seeds(DFA, [0.40, 0.401, 0.402]), *over]
    assert row(far).verdict.text == "walked back (bp floor)"


def test_c_or_a_alone_on_blocks_that_beat_random_ones_has_a_second_cause() -> None:
    floor = frozen(DFA, [0.30, 0.31, 0.32])
    text = "batch_stability alone fires for dfa, and the blocks beat random ones: test samples"
    alone = [*seeds(DFA, [0.40, 0.41, 0.42], measurements=measured(c=0.83)), *floor]
    assert (row(alone).verdict.text, text in remarks(alone)) == ("walked back (c)", True)
    grown = [*seeds(DFA, [0.40, 0.41, 0.42], measurements=measured(a=74.8)), *floor]
    other = "scale_growth alone fires for dfa, and the blocks beat random ones: an embedding whose"
    assert (row(grown).verdict.text, other in remarks(grown)) == ("walked back (a)", True)
    assert "alone fires" not in remarks([*seeds(DFA, [0.31] * 3, measurements=measured(a=75.0))])
    for accuracy, values in ((0.40, measured(a=90.0, c=0.83)), (0.31, measured(c=0.83))):
        assert text not in remarks([*seeds(DFA, [accuracy] * 3, measurements=values), *floor])
    blind = [*seeds(BP, [0.31, 0.32, 0.33]), *frozen(BP, [0.30, 0.31, 0.32])]  # d is not judged
    level = [*seeds(DFA, [0.31, 0.32, 0.33], measurements=measured(c=0.83)), *floor]
    assert text not in remarks([*blind, *level])


def test_flags_of_the_network_walk_a_row_back_with_their_counts() -> None:
    records = seeds(DFA, [0.302, 0.306, 0.310], measurements=SICK)
    records[2] = records[2].model_copy(update={"measurements": measured(c=0.9)})
    found = row([*records, *frozen(DFA, [0.348, 0.349, 0.350])])
    assert found.verdict.text == "walked back (a 2/3, b 2/3, c 1/3, d)"
    assert found.verdict.three == "FAIL(D1+D2+D3)"
    assert [r.judgement.text for r in found.runs] == ["flagged (a+b+d)"] * 2 + ["flagged (c+d)"]


def test_one_seed_has_flags_and_no_verdict() -> None:
    sick = [run(DFA, 42, 0.3, measurements=SICK), run(DFA, 42, 0.29, params={"freeze": "blocks"})]
    assert row(sick).verdict.text == "single seed, flagged (a+b+d)"
    assert row(sick).rank is None
    well = [run(DFA, 42, 0.5), run(DFA, 42, 0.29, params={"freeze": "blocks"})]
    assert row(well).verdict.text == "single seed"
    assert row(well).runs[0].judgement.text == "no flag"


def test_a_mean_below_the_threshold_is_enough_whatever_its_interval() -> None:
    """+1.4 ± 2.0: bp is not separated from its floor, and the recipe judges no rule."""
    bp = [*seeds(BP, [0.316, 0.322, 0.304]), *frozen(BP, [0.30] * 3)]
    assert row(bp, "bp").verdict.text == "undetermined (d not judged)"
    enough = [*seeds(BP, [0.316, 0.352, 0.304]), *frozen(BP, [0.30] * 3)]  # +2.4 ± 6.2
    assert row(enough, "bp").verdict.text == "not separated from its floor"


@pytest.mark.parametrize("gain", [1.2, 1.7])
def test_a_recipe_whose_bp_does_not_clear_its_floor_cannot_judge(gain: float) -> None:
    """But a rule whose whole interval lies above 2 shows that blocks can train here."""
    bp = [*seeds(BP, [0.30 + gain / 100] * 3), *frozen(BP, [0.30] * 3)]
    records = [
        *bp,
        *seeds(EP, [0.40, 0.41, 0.42]),
        *frozen(EP, [0.30] * 3),
        *seeds("lab/near", [0.30, 0.33, 0.36]),
        *frozen("lab/near", [0.30] * 3),
        *seeds(DFA, [0.31] * 3, measurements=SICK),
        *frozen(DFA, [0.31] * 3),
    ]
    verdicts = {
        item.label: item.verdict.text for item in group(records).rows if item.role != "floor"
    }
    assert verdicts == {
        "bp": "undetermined (d not judged)",
        "ep": "trustworthy",
        "lab/near": "undetermined (d not judged)",
        "dfa": "walked back (a, b)",
    }
    assert notes.warning(group(records), Settings()) == (
        "This recipe cannot tell trained blocks from random ones: bp itself gains only "
        f"{with_interval(row(records, 'bp').margin)} points over its random blocks. "
        "More epochs or more data may help. ep: the whole interval lies above 2 points."
    )
    assert notes.warning(group([*BACKPROP, *records[6:]]), Settings()) == ""


def judged_with(floor: DepthUtility, *rules: list[RunRecord]) -> tuple[dict[str, str], str]:
    """Return the verdicts of all rules, where chance is .1, and the warning above their table."""
    records = [r.model_copy(update={"chance": 0.1}) for own in rules for r in own]
    settings = Settings(depth_utility=floor)
    (own,) = judge_all(records, settings)
    verdicts = {item.label: item.verdict.text for item in own.competing}
    return verdicts, notes.warning(own, settings)


def test_another_floor_of_the_suite_does_not_say_whether_the_recipe_trains_bp() -> None:
    """Only bp's own random blocks do; in the three cases bp lies 20 points above them."""
    bp = [*seeds(BP, [0.60, 0.61, 0.62]), *frozen(BP, [0.40, 0.41, 0.42])]
    dfa = [*seeds(DFA, [0.30, 0.31, 0.315]), *frozen(DFA, [0.28, 0.29, 0.30])]
    above = judged_with(DepthUtility(floor_value=0.7), bp, dfa)
    assert above == ({"bp": "walked back (d)", "dfa": "walked back (d, bp floor)"}, "")
    ep = [*seeds(EP, [0.65, 0.66, 0.67]), *frozen(EP, [0.595, 0.607, 0.615])]
    near = judged_with(DepthUtility(floor="ep"), bp, ep)
    assert near == ({"ep": "trustworthy", "bp": "walked back (d)"}, "")
    ep = [*seeds(EP, [0.50, 0.51, 0.52]), *frozen(EP, [0.10, 0.11, 0.09])]
    at_chance = judged_with(DepthUtility(floor="ep"), bp, ep)
    assert at_chance == ({"bp": "trustworthy", "ep": "trustworthy"}, "")


def test_a_low_given_floor_does_not_hide_that_a_recipe_cannot_train_bp() -> None:
    bp = [*seeds(BP, [0.60, 0.61, 0.62]), *frozen(BP, [0.595, 0.607, 0.615])]
    dfa = [*seeds(DFA, [0.60, 0.61, 0.615]), *frozen(DFA, [0.59, 0.605, 0.61])]
    verdicts, warned = judged_with(DepthUtility(floor_value=0.4), bp, dfa)
    assert verdicts == {"bp": "trustworthy", "dfa": "trustworthy"}
    assert "bp itself gains only +0.4 ± 0.3 points over its random blocks." in warned
    assert warned.endswith("bp, dfa: the whole interval lies above 2 points.")
    # without a run of bp's random blocks the given floor is all there is
    _, warned = judged_with(DepthUtility(floor_value=0.6), bp[:3], dfa)
    assert "bp itself gains only +1.0 ± 2.5 points over the given floor of .600." in warned
    # and the floor of another rule says nothing of bp
    named = judged_with(DepthUtility(floor="dfa"), bp[:3], dfa)
    assert named[1] == ""


def test_a_rule_whose_blocks_keep_their_weights_is_walked_back_whatever_its_floor() -> None:
    """Its own floor may be poorer than its blocks are, if it trains less of the network."""
    floor = frozen("lab/idle", [0.30, 0.31, 0.32])
    for counts, verdict in (
        ((0, 4), "walked back (blocks unchanged)"),
        ((1, 4), "trustworthy"),
        ((0, 0), "trustworthy"),  # blocks without a weight
        (None, "trustworthy"),  # recorded before schema 6
    ):
        idle = seeds("lab/idle", [0.42, 0.43, 0.44], blocks_changed=counts)
        own = row([*BACKPROP, *idle, *floor], "lab/idle")
        assert own.verdict.text == verdict
        assert own.verdict.three == ("FAIL" if "walked" in verdict else "PASS")
    idle = seeds("lab/idle", [0.42, 0.43, 0.44], blocks_changed=(0, 4))
    text = leaderboard([*BACKPROP, *idle, *floor], width=None)
    assert "no weight of its blocks has changed in training" in text
    assert "does not train its blocks: no weight of them changes" in text
    old = [idle[0].model_copy(update={"blocks_changed": None}), *idle[1:]]  # states nothing
    assert (
        row([*BACKPROP, *old, *floor], "lab/idle").verdict.text == "walked back (blocks unchanged)"
    )
    some = [idle[0], *(run.model_copy(update={"blocks_changed": (4, 4)}) for run in idle[1:])]
    assert row([*BACKPROP, *some, *floor], "lab/idle").verdict.text == "trustworthy"
    alone = row([*BACKPROP, idle[0], *floor], "lab/idle")
    assert alone.verdict.text == "single seed, blocks unchanged"
    lists = trained.sorted_rules(group([*BACKPROP, idle[0], *floor]))
    assert [line.label for line in lists[trained.LOOK]] == ["idle"]


def test_one_seed_of_bp_below_the_threshold_cannot_judge_either() -> None:
    bp = [run(BP, 42, 0.312), run(BP, 42, 0.30, params={"freeze": "blocks"})]
    found = group([*bp, run(DFA, 42, 0.29), run(DFA, 42, 0.30, params={"freeze": "blocks"})])
    said = notes.warning(found, Settings())
    assert said.startswith("One seed does not show that this recipe can tell trained blocks from")
    assert all("d" not in run.judgement.fired for row in found.rows for run in row.runs)
    assert {row.verdict.text for row in found.rows if row.role != "floor"} == {
        "single seed, d not judged"
    }
    lines = csv.DictReader(io.StringIO(leaderboard(list(found.records), format="csv")))
    reasons = {line["label"]: line["not_diagnostic"] for line in lines}
    assert reasons["dfa"] == reasons["bp"] == '{"d": "this recipe cannot judge d"}'


def test_two_equal_margins_of_bp_do_not_show_that_a_recipe_cannot_judge() -> None:
    bp = [*seeds(BP, [0.31, 0.32]), *frozen(BP, [0.30, 0.31])]
    assert notes.warning(group(bp), Settings()).startswith("The seeds of bp do not show that")


def test_thresholds_of_d_are_not_varied_where_d_says_nothing() -> None:
    bp = [*seeds(BP, [0.312] * 3), *frozen(BP, [0.30] * 3)]
    blind = [*bp, *seeds(DFA, [0.31] * 3), *frozen(DFA, [0.30] * 3)]
    assert "d" not in {item.letter for item in sensitivities([group(blind)], Settings())}
    wrecked = frozen(DFA, [0.10, 0.11, 0.09])
    mine = [*BACKPROP, *seeds(DFA, [0.105] * 3, chance=0.1), *wrecked]
    points = next(i for i in sensitivities([group(mine)], Settings()) if i.letter == "d").points
    assert {point.run.record.cell.method.short for point in points} == {"bp"}


def test_accuracies_that_are_not_finite_walk_a_rule_back() -> None:
    nan = [*seeds(DFA, [float("nan"), 0.5, 0.51]), *frozen(DFA, [0.30] * 3)]
    assert row(nan).verdict.text == "walked back (accuracy not finite 1/3)"
    assert row(nan).rank is None
    assert "dfa walked back: accuracy is not finite in 1 of 3 runs" in remarks(nan)
    ruined = [
        *BACKPROP,
        *seeds(DFA, [float("nan"), 0.551, 0.549]),
        *frozen(DFA, [0.3, 0.301, 0.302]),
    ]
    found = row(ruined).verdict  # its margin over both floors is good
    assert (found.kind, found.three) == ("walked back", "FAIL")
    for values in ([float("nan")] * 3, [None] * 3):
        broken = seeds(DFA, values, measurements=SICK)  # type: ignore[arg-type]
        text = "walked back (a, b, accuracy not finite 3/3)"
        assert row([*broken, *frozen(DFA, [0.30] * 3)]).verdict.text == text
        assert "accuracy is not finite in 3 of 3 runs" in remarks(broken)


def test_a_seed_without_a_twin_makes_the_margin_unpaired_over_all_seeds() -> None:
    """The floor has runs of the two good seeds alone: they are no fair sample of the rule."""
    mine = seeds(DFA, [0.5, 0.51, 0.30, 0.30, 0.30])
    found = row([*mine, *frozen(DFA, [0.30, 0.31])])
    assert found.verdict.text == "not separated from its floor"
    assert found.margin is not None
    assert found.margin.mean == pytest.approx(7.7)


def test_a_single_seed_is_compared_with_its_twin() -> None:
    records = [run(DFA, 42, 0.50), *frozen(DFA, [0.49, 0.30, 0.30])]
    found = row(records)
    assert found.margin is not None
    assert found.margin.mean == pytest.approx(1.0)
    assert found.verdict.text == "single seed, flagged (d)"


@pytest.mark.parametrize(("mean", "expected"), [(21.0, "passes"), (31.0, "open"), (62.0, "fires")])
def test_a_limit_from_above_is_read_from_above(mean: float, expected: str) -> None:
    assert reading(Estimate(mean, 2.0, 1.0, 3), 30.0, "above") == expected


def test_what_is_missing_beside_d_leaves_the_three_diagnostics_alone() -> None:
    records = [*seeds(DFA, [0.5, 0.51, 0.52], measurements=measured(c=None))]
    found = row([*records, *frozen(DFA, [0.30] * 3)])
    assert (found.verdict.text, found.verdict.three) == ("undetermined (c not measured)", "PASS")


def test_bp_with_an_unfinished_seed_says_what_its_other_seeds_say() -> None:
    def bp(first: float) -> list[RunRecord]:
        lost = run(BP, 123, status="crashed", reason="node lost")
        return [run(BP, 42, first), lost, *frozen(BP, [0.30, 0.301])]

    near = [*seeds(DFA, [0.306, 0.307, 0.308]), *frozen(DFA, [0.30, 0.301, 0.302])]
    assert row([*bp(0.31), *near], "dfa").verdict.text == "undetermined (d not judged)"
    assert "bp itself gains only +1.0" in notes.warning(group([*bp(0.31), *near]), Settings())
    assert row([*bp(0.40), *near], "dfa").verdict.text == "walked back (d)"
    records = [*bp(0.40), *seeds(EP, [0.40, 0.41, 0.42]), *frozen(EP, [0.30] * 3)]
    assert notes.warning(group(records), Settings()) == ""
    assert row(records, "ep").verdict.text == "trustworthy"
    known = "Whether this recipe can tell trained blocks from random ones is not known: "
    rest = "; verdicts rest on the margins of the rules alone"
    assert f"{known}1 of 2 seeds of bp are done{rest}" in remarks(records)
    assert f"{known}it has no run of bp{rest}" in remarks(records[4:])
    assert known not in remarks([*BACKPROP, *records[4:]])


# --------------------------------------------------------------------------------- survivors, pairs


def test_a_rule_is_not_ranked_by_its_survivors() -> None:
    """Rank 2 of two went to a shared rank 1 when the third seed diverged."""
    ep = [*seeds(EP, [0.60, 0.62]), run(EP, 456, status="diverged", reason="loss is nan")]
    records = [*BACKPROP, *ep, *frozen(EP, [0.30] * 3), *seeds(DFA, [0.30, 0.31, 0.32])]
    found = row(records, "ep")
    assert found.rank is None
    assert found.verdict.text == "undetermined, diverged 1/3"
    assert row(records, "bp").rank == (1, 1)
    assert "ep unranked: 2 of 3 seeds done; the ranks are among the others" in remarks(records)


def test_a_cell_that_also_diverged_is_named() -> None:
    before = run(DFA, 42, status="diverged", finished="2026-01-01").model_copy(
        update={"identity": "0123456789abcdef"}
    )
    another = run(DFA, 123, status="diverged", finished="2026-01-01", params={"penalty": 0.01})
    records = [*seeds(DFA, [0.5, 0.51, 0.52], finished="2026-02-01"), before]
    records += [*seeds(DFA, [0.5, 0.51, 0.52], finished="2026-02-01", params={"penalty": 0.01})]
    records.append(another.model_copy(update={"identity": "fedcba9876543210"}))
    text = remarks(records)
    assert "dfa seed 42 is done here, but diverged in run 0123456789ab" in text
    penalised = "dfa[penalty=0.01] seed 123 is done here, but diverged in run fedcba987654"
    assert penalised in text


def test_another_accuracy_by_other_code_is_named() -> None:
    """Whoever invents a digest of code gets another identity, so this is no conflict."""
    before = run(DFA, 42, 0.3).model_copy(update={"identity": "0123456789abcdef"})
    near = run(DFA, 123, 0.52).model_copy(update={"identity": "fedcba9876543210"})
    (found,) = judge_all(seeds(DFA, [0.5, 0.51, 0.52]), Settings(older=(before, near)))
    text = " ".join(notes.of_group(found, Settings()))
    assert "dfa seed 42 is .500 here, but .300 in run 0123456789ab" in text
    assert "fedcba" not in text
    many = tuple(before.model_copy(update={"identity": f"{k:016x}"}) for k in range(40))
    (found,) = judge_all(seeds(DFA, [0.5, 0.51, 0.52]), Settings(older=many))
    text = " ".join(notes.of_group(found, Settings()))
    assert text.count("but .300 in run") == 3
    assert " and 37 more" in text


def test_a_run_by_other_code_that_diverged_is_named_though_it_does_not_count() -> None:
    before = run(DFA, 42, status="diverged").model_copy(update={"identity": "0123456789abcdef"})
    (found,) = judge_all(seeds(DFA, [0.5, 0.51, 0.52]), Settings(older=(before,)))
    assert found.set_aside == 0
    raised = before.model_copy(update={"status": "failed"})  # its code was mended since
    (mended,) = judge_all(seeds(DFA, [0.5, 0.51, 0.52]), Settings(older=(raised,)))
    assert mended.contradicted == ()
    text = "dfa seed 42 is done here, but diverged in run 0123456789ab"
    assert text in notes.of_group(found, Settings())


def test_a_median_takes_nan_as_infinitely_large_also_where_it_means_nothing() -> None:
    values = [(float("nan"), "it diverged"), (0.78, None), (0.51, "too few steps")]
    runs = [
        run(DFA, seed, 0.5, measurements={"settledness": Measurement(value=v, not_diagnostic=why)})
        for seed, (v, why) in enumerate(values)
    ]
    (row,) = judge_all(runs)[0].rows
    assert value_of(row, "settledness") == math.inf  # of .78 and NaN
    calm = [*runs[1:], run(DFA, 9, 0.5, measurements={"settledness": Measurement(value=0.6)})]
    (row,) = judge_all([*calm, runs[0]])[0].rows
    assert value_of(row, "settledness") == 0.78


def test_a_measurement_that_raised_is_named_with_its_error() -> None:
    raised = Measurement(details={"error": "mine raised ValueError: no"})
    records = seeds(DFA, [0.5, 0.51], measurements={"x/mine": raised})
    assert "x/mine not measured for dfa: mine raised ValueError: no" in remarks(records)


def test_a_recipe_that_does_not_train_bp_says_so() -> None:
    bp = [*seeds(BP, [0.10, 0.11, 0.12]), *frozen(BP, [0.30] * 3)]
    assert "It does not train bp: look at the learning rate first." in notes.warning(
        group(bp), Settings()
    )
    # a given floor within two points of 1 is the suite's own: no harder task is asked for
    high = Settings(depth_utility=DepthUtility(floor_value=0.99))
    (given,) = judge_all(seeds(BP, [0.991, 0.992, 0.993]), high)
    assert "gains only +0.2" in notes.warning(given, high)
    assert "harder task" not in notes.warning(given, high)
    near = [*seeds(BP, [0.29, 0.31, 0.295]), *frozen(BP, [0.30] * 3)]  # -.2 ± 2.6 points
    assert "More epochs or more data may help." in notes.warning(group(near), Settings())
    fires = measured(c=0.4)  # as that of bp does after a first epoch
    bp = [*seeds(BP, [0.310, 0.311, 0.312], measurements=fires), *frozen(BP, [0.30] * 3)]
    assert "More epochs or more data may help." in notes.warning(group(bp), Settings())


def test_each_seed_is_compared_with_its_own_twin() -> None:
    floor = Floor("f", "matched", {1: 0.30, 2: 0.50}, 0.40)
    assert floor.margin(run(seed=1, accuracy=0.4)) == 10.0
    assert floor.margin(run(seed=2, accuracy=0.4)) == -10.0
    assert floor.margin(run(seed=3, accuracy=0.4)) == 0.0  # no twin: the mean
    over = margin({1: 0.4, 2: 0.6}, floor)
    assert over is not None
    assert (over.how, over.seeds) == ("paired", (1, 2))
    assert (over.estimate.mean, over.estimate.n) == (pytest.approx(10.0), 2)
    assert over.estimate.half_width is None  # equal in both seeds
    third = margin({1: 0.4, 2: 0.6, 3: 0.5}, replace(floor, accuracies={1: 0.3, 2: 0.5, 3: 0.4}))
    assert third is not None
    # t(2) · (1/100)/√6 / √3, as these accuracies may be of 100 samples
    assert third.estimate.half_width == pytest.approx(4.3027 / 18**0.5, rel=1e-4)


def test_without_shared_seeds_the_margin_is_welchs_and_said() -> None:
    mine = [run(DFA, seed, value) for seed, value in ((1, 0.50), (2, 0.52), (3, 0.54))]
    records = [*mine, *frozen(DFA, [0.30, 0.31, 0.32])]
    over = row(records).over_floor
    assert over is not None
    assert over.how == "unpaired"
    # variances 4e-4 and 1e-4: v = 5/3·1e-4, ν = 2·25/17 = 2.94, t = 3.21
    assert over.estimate.mean == pytest.approx(21.0)
    assert over.estimate.half_width == pytest.approx(100 * 3.214 * (5e-4 / 3) ** 0.5, rel=2e-3)
    how = "(seeds 42, 123, 456) are compared unpaired, with Welch's interval"
    lacking = "as the floor has no finished run of seeds 1, 2, 3"
    assert f"dfa (seeds 1, 2, 3) and its floor {how}, {lacking}" in remarks(records)
    more = [*seeds(DFA, [0.50, 0.52, 0.54, 0.55]), *frozen(DFA, [0.30, 0.31, 0.32])]
    added = more[3].cell.seed
    assert remarks(more).count(f"as the floor has no finished run of seed {added}") == 1
    single: list[Any] = [run(DFA, 9, 0.5), *frozen(DFA, [0.30, 0.31, 0.32])]
    assert "dfa (seed 9) and its floor (seeds 42, 123, 456) are compared by means" in remarks(
        single
    )


def test_welch_of_equal_sizes_and_variances_is_students_with_twice_the_freedom() -> None:
    found = welch_difference([0.0, 1.0, 2.0], [5.0, 6.0, 7.0])
    assert found.mean == -5.0
    assert found.half_width == pytest.approx(2.7764 * (2 / 3) ** 0.5, rel=1e-4)  # t, 4 degrees
    assert welch_difference([1.0], [2.0, 3.0]).half_width is None
    assert welch_difference([1.0, 1.0], [2.0, 2.0]) == Estimate(-1.0, 0.0, None, 2)


def test_rules_on_other_seeds_do_not_share_a_rank() -> None:
    other = [run(EP, seed, value) for seed, value in ((1, 0.10), (2, 0.11), (3, 0.09))]
    records = [*seeds(DFA, [0.978, 0.980, 0.976]), *other]
    assert (row(records).rank, row(records, "ep").rank) == ((1, 1), (2, 2))
    assert "dfa and ep share no two seeds: compared unpaired" in remarks(records)


def test_every_key_of_a_passport_has_its_letter_and_words() -> None:
    assert PASSPORT.keys() == {item.name for item in fields(Passport)}
    assert len({letter for letter, _ in PASSPORT.values()}) == len(PASSPORT)


def test_the_defaults_of_the_core_are_those_of_the_options() -> None:
    """Judging loads no torch, so it states them a second time."""
    options = {name: field.default for name, field in LocalMethod.Params.model_fields.items()}
    assert options == CORE_DEFAULTS
    assert tuple(Method.Params.model_fields) == EVERY_RULE


def test_a_gamma_that_is_not_finite_in_some_runs_is_struck() -> None:
    values = (0.9, math.nan, math.nan)
    records = [run(DFA, s, 0.5, measurements=measured(gamma=g)) for s, g in enumerate(values)]
    found = gamma(row(records))
    assert found.not_diagnostic == "it is not finite in 2 of 3 runs"
    assert found.estimate is not None
    assert found.estimate.mean == 0.9


def test_a_bp_that_does_not_train_is_no_ceiling() -> None:
    bp = [*seeds(BP, [0.30, 0.302, 0.301]), *frozen(BP, [0.418, 0.419, 0.420])]
    records = [*bp, *seeds(DFA, [0.45, 0.452, 0.454]), *frozen(DFA, [0.35, 0.351, 0.352])]
    assert "has its training seen the test set, or more data in a step?" not in remarks(records)
    above = remarks([*BACKPROP, *seeds(DFA, [0.711, 0.715, 0.719])])  # by 10 points in each seed
    assert "has its training seen the test set, or more data in a step?" in above
    assert "one seed is too few" not in above


def of_reset(
    lost: float, values: Sequence[float] = (0.55, 0.553, 0.549), **fields: Any
) -> list[RunRecord]:
    """A rule that loses so many points with its initial blocks."""
    runs = seeds(DFA, [*values], **{"test_samples": 10_000, **fields})
    return [
        run.model_copy(update={"reset_accuracy": value - lost / 100})
        for run, value in zip(runs, values, strict=True)
    ]


LOW = frozen(DFA, [0.3, 0.301, 0.302])
RESET = "putting all its blocks back to their initial weights"
NEEDLESS = "dfa loses less than 2 points with all blocks put back to their initial weights."


def list_of(records: list[RunRecord], name: str = "dfa") -> str:
    lists = trained.sorted_rules(group(records))
    (heading,) = (head for head, own in lists.items() if any(x.label == name for x in own))
    return heading


@pytest.mark.parametrize(
    ("lost", "kind", "heading"),
    [
        (0.0, "not separated from its floor", trained.LOOK),
        (-1.0, "not separated from its floor", trained.LOOK),  # better without
        (1.9, "not separated from its floor", trained.LOOK),
        (2.0, "trustworthy", trained.TRAIN),
        (30.0, "trustworthy", trained.TRAIN),
    ],
)
@pytest.mark.parametrize("n", [2, 3])
def test_a_margin_is_not_that_of_blocks_whose_training_is_not_needed(
    n: int, lost: float, kind: str, heading: str
) -> None:
    """Nor of two seeds with equal losses, which have no interval."""
    records = [*BACKPROP, *of_reset(lost)[:n], *LOW]
    assert row(records).verdict.kind == kind
    assert (row(records).dispensable, row(records).held) == (lost < 2, "reset" * (lost < 2))
    assert list_of(records) == heading
    assert (NEEDLESS in summary.sentence(group(records))) == (lost < 2)


def test_the_cost_of_the_initial_weights_is_said_in_points() -> None:
    records = [*BACKPROP, *of_reset(0.5), *LOW]
    cost = f"{RESET} costs 0.5 ± 0.0 points"
    assert row(records).reset is not None
    half = t_critical(3) * 100 / 10_000 * math.sqrt(2 / 3 / 12)
    assert row(records).reset.half_width == pytest.approx(half)  # type: ignore[union-attr]
    assert reasons.of_row(row(records), Settings()) == [f"{cost}; 2 or more are needed"]
    assert row_doubts.dispensable(row(records)) == []  # it is said already
    for lost, told in ((1.96, "costs 1.96 ± 0.0 points"), (-1.0, "gains 1.0 ± 0.0 points")):
        (reason,) = reasons.of_row(row([*BACKPROP, *of_reset(lost), *LOW]), Settings())
        assert reason == f"{RESET} {told}; 2 or more are needed"
    records = [*BACKPROP, *of_reset(0.5, measurements=SICK), *LOW]
    assert row_doubts.dispensable(row(records)) == [f"{cost}: its margin is not that of its blocks"]
    assert "though its blocks beat" not in summary.sentence(group(records))
    assert list_of(records) == trained.LOOK
    asked = [*BACKPROP, *of_reset(0.0, chance=None), *LOW]
    assert row(asked).reset == Estimate(0.0, 0.0, 0.0, 3)  # explained variance is no count


@pytest.mark.parametrize(
    ("own", "floor", "how"),
    [
        ([0.50, 0.52, 0.54], [0.30, 0.31, 0.32], "paired"),
        ([0.50, 0.52, 0.54], [0.30, 0.31], "unpaired"),
        ([0.50, 0.50, 0.50], [0.30, 0.30], "unpaired"),  # with the interval of rounding
        ([0.50, 0.52, 0.54], [0.30], "mean"),
    ],
)
def test_a_margin_in_json_says_how_it_is_compared(
    own: list[float], floor: list[float], how: str
) -> None:
    records = [*seeds(DFA, own), *frozen(DFA, floor)]
    (suite,) = json.loads(leaderboard(records, format="json"))["suites"]
    (mine,) = (each for each in suite["groups"][0]["rows"] if each["label"] == "dfa")
    margin = mine["margin_matched_pp"]
    assert margin["how"] == how
    assert (margin["std"] is None) == (how != "paired")
    assert (margin["half_width"] is None) == (how == "mean")


def test_each_margin_in_json_is_over_its_own_floor() -> None:
    records = [*BACKPROP, *seeds(DFA, [0.50, 0.52, 0.54]), *frozen(DFA, [0.30, 0.31, 0.32])]
    (suite,) = json.loads(leaderboard(records, format="json"))["suites"]
    (mine,) = (each for each in suite["groups"][0]["rows"] if each["label"] == "dfa")
    judged = row(records)
    assert mine["margin_matched_pp"]["mean"] == pytest.approx(21.0)
    assert judged.margin_bp is not None
    assert mine["margin_bp_pp"]["mean"] == judged.margin_bp.mean != pytest.approx(21.0)


def test_the_cost_of_the_initial_weights_is_a_number_of_csv_and_json_and_a_column() -> None:
    records = [*BACKPROP, *of_reset(0.5), *LOW]
    (suite,) = json.loads(leaderboard(records, format="json"))["suites"]
    (own,) = (each for each in suite["groups"][0]["rows"] if each["label"] == "dfa")
    assert own["reset_loss_pp"]["mean"] == pytest.approx(0.5)
    assert [each["reset_accuracy"] for each in own["runs"]] == pytest.approx([0.545, 0.548, 0.544])
    assert {each["recalibrated_accuracy"] for each in own["runs"]} == {None}
    lines = csv.DictReader(io.StringIO(leaderboard(records, format="csv")))
    cells = {line["label"]: line["reset_loss_pp"] for line in lines}
    assert float(cells.pop("dfa")) == pytest.approx(0.5)
    assert set(cells.values()) == {""}  # bp's runs do not say, and a floor has none
    shown = leaderboard(records, columns=["reset"])
    assert "loss with" in shown
    assert "+0.5 ± 0.0" in shown
    assert "loss with" not in leaderboard(records)


@pytest.mark.parametrize(
    ("lost", "low", "told"),
    [(0.5, 0.3, True), (0.5, 0.53, True), (0.5, 0.54, False), (2.0, 0.3, False)],
)
def test_a_single_seed_that_needs_no_training_of_its_blocks_is_no_rule_that_trains(
    lost: float, low: float, told: bool
) -> None:
    records = [*of_reset(lost)[:1], *frozen(DFA, [low])]
    doubt = [f"{RESET} costs 0.5 points: its margin is not that of its blocks"] * told
    assert row_doubts.dispensable(row(records)) == doubt
    assert row_doubts.dispensable(row(records, "dfa[frozen]")) == []
    if low == 0.3:
        assert list_of(records) == (trained.LOOK if told else trained.TRAIN)


def test_runs_that_do_not_say_what_their_blocks_are_worth_leave_the_margin() -> None:
    silent = of_reset(0.0)
    silent[1] = silent[1].model_copy(update={"reset_accuracy": None})
    assert row([*BACKPROP, *silent, *LOW]).reset is None
    assert row([*BACKPROP, *silent, *LOW]).verdict.kind == "trustworthy"
    still = silent[1].model_copy(update={"blocks_changed": (0, 4)})  # nothing is lost there
    assert row([*BACKPROP, silent[0], still, silent[2], *LOW]).held == "reset"
    noisy = of_reset(0.0)
    noisy[1] = noisy[1].model_copy(update={"reset_accuracy": 0.45})  # not settled by these seeds
    assert row([*BACKPROP, *noisy, *LOW]).verdict.text == "trustworthy"
    for odd in (math.nan, math.inf):
        noisy[1] = noisy[1].model_copy(update={"reset_accuracy": odd})
        assert row([*BACKPROP, *noisy, *LOW]).reset is None
    recalibrated = [
        run.model_copy(update={"recalibrated_accuracy": run.reset_accuracy + extra})
        for run, extra in zip(of_reset(30.0), (0.031, 0.03, 0.029), strict=True)
    ]
    shown = row([*BACKPROP, *recalibrated, *LOW])  # both with statistics that were measured anew
    assert shown.reset is not None
    assert (shown.reset.mean, shown.verdict.kind) == (pytest.approx(3.0), "trustworthy")
    odd_too = [run.model_copy(update={"recalibrated_accuracy": math.inf}) for run in of_reset(0.0)]
    assert row([*BACKPROP, *odd_too, *LOW]).reset is None
    lost = [*of_reset(0.0)[:2], of_reset(0.0)[2].model_copy(update={"accuracy": math.nan})]
    assert row([*BACKPROP, *lost, *LOW]).reset == Estimate(0.0, None, None, 2)
    told = "not tried with their initial blocks: bp, whose runs do not say their accuracy with "
    assert told in remarks([*BACKPROP, *of_reset(0.0), *LOW])
    assert told not in remarks([*BACKPROP, *of_reset(9.0), *LOW])
    known = [
        run.model_copy(update={"reset_accuracy": 0.3, "test_samples": 10_000})
        for run in seeds("lab/known", [0.55, 0.56, 0.57])
    ]
    beside = [*BACKPROP, *of_reset(0.0), *LOW, *known, *frozen("lab/known", [0.3, 0.301, 0.302])]
    assert row(beside, "lab/known").verdict.kind == "trustworthy"
    assert told in remarks(beside)  # and not lab/known, which was tried


def test_initial_blocks_hide_no_loss_and_no_open_margin() -> None:
    close = frozen(DFA, [0.44, 0.4405, 0.441])
    assert row([*BACKPROP, *of_reset(0.0, (0.45, 0.451, 0.452)), *close]).verdict.letters == ("d",)
    wide = [*BACKPROP, *of_reset(0.0, (0.32, 0.55, 0.65)), *LOW]
    assert (row(wide).held, row(wide).verdict.kind) == ("", "not separated from its floor")
    assert "dfa is not yet told apart from" in summary.sentence(group(wide))


def scaled(values: Sequence[float], scale: float = 100.0, rule: str = DFA) -> list[RunRecord]:
    """The floor of a rule with random blocks of another scale."""
    return seeds(rule, [*values], params={"freeze": "blocks", "block_scale": scale})


@pytest.mark.parametrize(
    ("values", "kind", "heading"),
    [
        ((0.40, 0.401, 0.402), "trustworthy", trained.TRAIN),  # 15 points below the rule
        ((0.53, 0.533, 0.529), "trustworthy", trained.TRAIN),  # exactly 2
        ((0.54, 0.543, 0.539), "not separated from its floor", trained.LOOK),  # 1
        ((0.60, 0.601, 0.602), "not separated from its floor", trained.LOOK),  # above the rule
        ((0.45, 0.50, 0.60), "not separated from its floor", trained.OPEN),  # not settled
        ((0.45,), "trustworthy", trained.TRAIN),  # one seed shows what holds of its networks
        ((0.545,), "not separated from its floor", trained.LOOK),
    ],
)
def test_blocks_must_also_beat_random_ones_of_another_scale(
    values: Sequence[float], kind: str, heading: str
) -> None:
    """A rule that only makes its random blocks larger beats its floor, and no such blocks."""
    rule = [*seeds(DFA, [0.55, 0.553, 0.549]), *LOW]
    assert row([*BACKPROP, *rule]).verdict.kind == "trustworthy"
    records = [*BACKPROP, *rule, *scaled(values), *scaled((0.2, 0.21, 0.22), 10.0)]
    found = row(records)
    assert (found.verdict.kind, list_of(records)) == (kind, heading)
    assert found.rescaled.floor is not None
    assert found.rescaled.floor.name == "dfa[frozen, block_scale=100.0]"
    assert found.floor.name == "dfa[frozen]"  # d reads the blocks as they were drawn
    held = kind != "trustworthy"
    assert found.held == "scale" * held
    said = "dfa does not clearly beat random blocks of another scale."
    assert (said in summary.sentence(group(records))) == held
    why = reasons.of_row(found, Settings())
    assert why == [] or "random blocks of another scale (dfa[frozen, block_scale=100.0])" in why[0]
    assert bool(why) == held


def test_backpropagation_with_random_blocks_of_another_scale_is_named_beside_the_rules() -> None:
    rule = [*seeds(DFA, [0.5, 0.502, 0.504]), *LOW, *scaled((0.4, 0.401, 0.402))]
    larger = scaled((0.51, 0.511, 0.512), rule=BP)
    records = [*BACKPROP, *rule, *larger]
    drawn = "Backpropagation with random blocks reaches .419"
    assert f"{drawn}." in summary.opening(group([*BACKPROP, *rule]))
    also = f"{drawn}, and .511 at another scale (bp[frozen, block_scale=100.0]), more than dfa."
    assert row(records).verdict.kind == "trustworthy"
    assert also in summary.opening(group(records))
    told = (
        "(bp[frozen, block_scale=100.0]) reaches .511 (3 seeds), more than dfa; of these dfa beats "
        "its own random blocks; verdicts compare"
    )
    assert told in remarks(records)
    many = [r for i in range(9) for r in seeds(f"lab/r{i}", [0.43, 0.431, 0.432])]
    others = ", lab/r0, lab/r1, lab/r2, lab/r3, lab/r4 and 4 more; of these"
    assert told.replace("; of these", others) in remarks([*records, *many])
    assert row(records).verdict == row([*BACKPROP, *rule]).verdict
    above = [*seeds("lab/known", [0.55, 0.56, 0.57]), *frozen("lab/known", [0.3, 0.301, 0.302])]
    assert told in remarks([*records, *above])  # and not lab/known
    worse = [*BACKPROP, *rule, *scaled((0.3, 0.31, 0.32), rule=BP)]
    assert "another scale (bp" not in remarks(worse) + summary.opening(group(worse))


def test_floors_of_another_scale_are_of_one_rule_and_take_part_in_no_other_comparison() -> None:
    rule = [*seeds(DFA, [0.55, 0.553, 0.549]), *LOW]
    alone = row([*BACKPROP, *rule])
    others = [*scaled((0.6, 0.61, 0.62), rule=BP), *scaled((0.6, 0.61, 0.62), rule="lab/known")]
    beside = [*BACKPROP, *rule, *others]
    assert (row(beside).rescaled.floor, row(beside).verdict.unsure) == (None, UNTRIED_BELOW)
    assert row(beside).over_bp == alone.over_bp  # bp's floor has the blocks as they were drawn
    assert row(beside, "bp").held == "scale"
    lost = [each.model_copy(update={"status": "failed"}) for each in scaled((0.6, 0.61, 0.62))]
    assert row([*BACKPROP, *rule, *lost]).rescaled == Rescaled(lost=True)
    assert row([*BACKPROP, *rule, *lost]).verdict.unsure == "its floor lost runs"
    some = [*scaled((0.4, 0.41, 0.42))[:2], lost[2]]
    assert row([*BACKPROP, *rule, *some]).verdict.unsure == "its floor lost runs"
    grown = [
        each.model_copy(
            update={
                "cell": each.cell.model_copy(
                    update={
                        "method": each.cell.method.model_copy(
                            update={"params": {**each.cell.method.params, "block_scale": 10.0}}
                        )
                    }
                )
            }
        )
        for each in seeds(DFA, [0.55, 0.553, 0.549])
    ]
    label = "dfa[block_scale=10.0]"
    own = row([*BACKPROP, *grown, *scaled((0.3, 0.301, 0.303), 10.0), *LOW], label)
    assert own.floor.name == "dfa[frozen, block_scale=10.0]"  # a rule's own initial scale
    assert own.rescaled.floor is not None
    assert own.rescaled.floor.name == "dfa[frozen]"
    told = "not compared with random blocks of another scale, which may reach as much"
    assert f"{told}: bp; `bench run`" in remarks([*BACKPROP, *rule, *scaled((0.4, 0.41, 0.42))])
    assert f"{told}: bp, dfa; `bench run`" in remarks([*BACKPROP, *rule])


def test_one_line_names_what_holds_a_margin_open() -> None:
    """The initial weights come first; a margin that is open by itself is held by nothing."""
    high = scaled((0.6, 0.601, 0.602))
    both = row([*BACKPROP, *of_reset(0.0), *LOW, *high])
    assert both.held == "reset"
    wide = row([*BACKPROP, *seeds(DFA, [0.32, 0.55, 0.65]), *LOW, *high])
    assert (wide.held, wide.verdict.kind) == ("", "not separated from its floor")
    assert "random blocks of another scale" not in " ".join(reasons.of_row(wide, Settings()))
    (line,) = [x for x in lines_of([*BACKPROP, *of_reset(30.0), *LOW, *high]) if x.label == "dfa"]
    below = "5.0 ± 0.6 points below random blocks of another scale (dfa[frozen, block_scale=100.0])"
    assert line.text.endswith(f"; {below}")
    held = row([*BACKPROP, *of_reset(30.0), *LOW, *high])
    assert held.held == "scale"
    assert reasons.of_row(held, Settings()) == [
        f"{below}; +2 or more are needed, with an interval above 0"
    ]
    silent = seeds(DFA, [0.551, 0.553, 0.549], test_samples=10_000)
    with_unknown = [*BACKPROP, *silent, *LOW, *high]
    assert "not tried with their initial blocks" not in remarks(with_unknown)


def test_floors_of_another_scale_differ_in_nothing_else() -> None:
    rule = [*seeds(DFA, [0.55, 0.553, 0.549]), *LOW]
    larger = {"freeze": "blocks", "block_scale": 100.0}
    other = seeds(DFA, [0.6, 0.61, 0.62], params={**larger, "normalize": "none"})
    assert row([*BACKPROP, *rule, *other]).rescaled == Rescaled()
    floor = row([*BACKPROP, *rule, *scaled((0.6, 0.61, 0.62))], "dfa[frozen]")
    assert (floor.rescaled, floor.held) == (Rescaled(), "")
    drawn = row([*BACKPROP, *rule, *scaled((0.2, 0.21, 0.22))]).rescaled.floor
    assert drawn is not None  # the floor as drawn, which is better, is not among them
    assert drawn.name == "dfa[frozen, block_scale=100.0]"


@pytest.mark.parametrize(
    ("gammas", "untried"),
    [
        ((0.0, 0.0, 0.0), True),
        ((-0.3, -0.3, -0.3), True),  # against the gradient is no direction in which to learn
        ((0.01, 0.06, 0.06), False),  # the mean decides
        ((0.0, 0.03, 0.06), True),  # within two standard errors of 0
        ((0.05, -0.05, 0.0), True),
    ],
)
def test_the_mean_of_gamma_says_whether_a_credit_has_a_direction(
    gammas: Sequence[float], untried: bool
) -> None:
    runs = seeds(DFA, [0.55, 0.553, 0.549])
    mine = [
        one.model_copy(update={"measurements": measured(gamma=own)})
        for one, own in zip(runs, gammas, strict=True)
    ]
    found = row([*BACKPROP, *mine, *LOW]).verdict
    assert found.kind == ("undetermined" if untried else "trustworthy")
    assert (found.unsure == "random blocks of another scale not tried") == untried


@pytest.mark.parametrize(
    ("blocks", "untried"),
    [
        ([0.0, 0.0, 0.9], False),  # the last block alone gets a credit
        ([0.0, 0.0, 0.01], True),
        ([0.0, 0.5, -0.9], False),  # the deep ones that get one
        ([0.0, 0.01, 0.9], True),
        ([0.0, math.nan, 0.9], True),
    ],
)
def test_a_block_without_a_credit_has_no_say_in_its_direction(
    blocks: list[float], untried: bool
) -> None:
    details = {**measured(gamma=0.3)["alignment"].details, "blocks": blocks, "blocks_deep": 0.0}
    alignment = Measurement(value=0.3, details=details)
    mine = seeds(DFA, [0.55, 0.553, 0.549], measurements={**measured(), "alignment": alignment})
    found = row([*BACKPROP, *mine, *LOW]).verdict
    assert found.kind == ("undetermined" if untried else "trustworthy")


def test_a_rule_that_changes_its_blocks_before_training_has_no_floor_of_its_own() -> None:
    def begun(records: list[RunRecord], growth: float) -> list[RunRecord]:
        initial = {"scale_growth": measured(a=growth)["scale_growth"]}
        return [each.model_copy(update={"initial": initial}) for each in records]

    rule = seeds(DFA, [0.55, 0.553, 0.549])
    alike = row([*BACKPROP, *begun(rule, 1.02), *begun(LOW, 1.0201)])
    assert alike.verdict.kind == "trustworthy"  # as another machine may round it
    cosines = [
        [r.model_copy(update={"initial": {"batch_stability": measured(c=c)["batch_stability"]}})
         for r in runs]
        for runs, c in ((rule, 1e-6), (LOW, -1e-6))
    ]  # fmt: skip
    assert row([*BACKPROP, *cosines[0], *cosines[1]]).verdict.kind == "trustworthy"
    records = [*BACKPROP, *begun(rule, 1.9), *begun(LOW, 1.02)]
    found = row(records)
    assert (found.verdict.kind, found.over_matched, found.over_floor) == (
        "undetermined",
        None,
        None,
    )
    (why,) = reasons.of_row(found, Settings())
    assert why == (
        "setup() changes the blocks before training, and those of dfa[frozen] stay as they were "
        "drawn"
    )
    said = "dfa changes the blocks before training, so that its floor has others."
    assert said in summary.sentence(group(records))
    own = begun(seeds(DFA, [0.3, 0.31, 0.32], params={"freeze": "blocks"}), 1.9)
    assert row([*BACKPROP, *begun(rule, 1.9), *own]).verdict.kind == "trustworthy"
    low = begun(seeds(DFA, [0.35, 0.353, 0.349]), 1.9)  # below the floor of bp
    assert row([*BACKPROP, *low, *begun(LOW, 1.02)]).verdict.kind == "walked back"


def test_floors_whose_scale_changed_nothing_were_not_tried() -> None:
    rule = seeds(DFA, [0.55, 0.553, 0.549], measurements=measured(gamma=0.0))
    floors = [run.accuracy or 0.0 for run in LOW]
    assert row([*BACKPROP, *rule, *LOW, *scaled(floors)]).rescaled == Rescaled()
    assert row([*BACKPROP, *rule, *LOW, *scaled(floors)]).verdict.unsure == UNTRIED
    floors[0] += 0.01
    assert row([*BACKPROP, *rule, *LOW, *scaled(floors)]).rescaled.tried


def test_a_direction_that_is_not_known_asks_for_floors_of_another_scale() -> None:
    """A rule without a credit, one not in use, or a Γ that means nothing shows no direction."""
    good = measured(gamma=0.3)

    def with_gamma(item: Measurement | None, n: int = 3) -> Row:
        own = (
            {**good, "alignment": item}
            if item
            else {k: v for k, v in good.items() if k != "alignment"}
        )
        runs = seeds(DFA, [0.55, 0.553, 0.549], measurements=own)[:n]
        runs += seeds(DFA, [0.55, 0.553, 0.549], measurements=good)[n:]
        return row([*BACKPROP, *runs, *LOW])

    details = good["alignment"].details
    unused = Measurement(value=0.3, details={**details, "in_use": False})
    none = Measurement(value=None, not_diagnostic=NO_CREDIT)
    odd = Measurement(value=math.nan, details={**details, "deep": math.nan})
    shallow = Measurement(value=0.0, details={"unclamped": [0.01], "library": [0.01], "deep": None})
    for item in (unused, none, odd, shallow):
        found = with_gamma(item)
        assert (found.verdict.kind, found.verdict.unsure) == ("undetermined", UNTRIED)
        assert with_gamma(item, 1).verdict.kind == (
            "undetermined" if item is not shallow else "trustworthy"
        )
        (why,) = reasons.of_row(found, Settings())
        assert "random blocks of another scale may beat its floor as well" in why
    silent = {**good, "alignment": none}
    exact = [*seeds(BP, [0.611, 0.615, 0.619], measurements=silent), *BACKPROP[3:]]
    assert row(exact, "bp").verdict.kind == "trustworthy"  # its credit is the gradient
    along = Measurement(value=0.5, details={"unclamped": [0.5], "library": [0.5], "deep": None})
    assert with_gamma(along).verdict.kind == "trustworthy"  # one block, whose credit is Γ_0
    bare = with_gamma(None)  # what no run measured decides nothing, and a line says so
    assert bare.verdict.kind == "trustworthy"
    own = {k: v for k, v in good.items() if k != "alignment"}
    runs = seeds(DFA, [0.55, 0.553, 0.549], measurements=own)
    told = "Γ is not measured, so larger random blocks may beat random ones as well as dfa"
    assert told in remarks([*BACKPROP, *runs, *LOW])
    assert told not in remarks([*BACKPROP, *seeds(DFA, [0.55, 0.553, 0.549]), *LOW])


def test_floors_that_were_not_tried_are_missed_where_a_rule_would_pass_alone() -> None:
    """Where something else decides, its verdict and its words stay."""
    aimless = measured(gamma=0.0)

    def of(values: list[float], floor: list[float]) -> Row:
        mine = seeds(DFA, values, measurements=aimless)
        return row([*BACKPROP, *mine, *frozen(DFA, floor)])

    assert of([0.54, 0.34, 0.47], [0.42] * 3).verdict.kind == "not separated from its floor"
    lost = run(DFA, 456, status="failed", params={"freeze": "blocks"})
    short = [*seeds(DFA, [0.55, 0.553, 0.549], measurements=aimless), *LOW[:2], lost]
    assert row([*BACKPROP, *short]).verdict.unsure == "its floor lost runs"
    mine = of_reset(0.0, measurements=aimless)
    assert row([*BACKPROP, *mine, *LOW]).verdict.kind == "not separated from its floor"
    records = [*BACKPROP, *seeds(DFA, [0.55, 0.553, 0.549], measurements=aimless), *LOW]
    said = "dfa is not known to learn in the direction of the gradient, and random blocks of anoth"
    assert said in summary.sentence(group(records))


def test_a_rule_that_bps_larger_random_blocks_reach_must_beat_its_own() -> None:
    """Larger random blocks may explain its margin, whatever the credit is that it shows."""
    rule = seeds(DFA, [0.55, 0.553, 0.549], measurements=measured(gamma=0.3))

    def of(bp: Sequence[float], *own: RunRecord, scale: float = 100.0) -> Row:
        return row([*BACKPROP, *scaled(bp, scale, BP), *rule, *LOW, *own])

    for bp in ((0.56, 0.561, 0.562), (0.54, 0.545, 0.538)):  # above it, and below by a point
        found = of(bp)
        assert (found.verdict.kind, found.verdict.unsure) == ("undetermined", UNTRIED_BELOW)
        assert found.verdict.three == "UNDETERMINED"
        (why,) = reasons.of_row(found, Settings())
        assert why == (
            "it does not clearly beat backpropagation with random blocks of another scale, and was "
            "not compared with its own of such a scale: `--set floor_scales=[10,100]` of `bench "
            "run` trains these"
        )
        assert of(bp, *scaled((0.4, 0.401, 0.402))).verdict.kind == "trustworthy"
        assert of(bp, *scaled((0.4,))).verdict.kind == "trustworthy"  # it counts by its mean
        five = [*scaled((0.4, 0.401, 0.402), 5.0)]
        assert of(bp, *five).verdict.unsure == UNTRIED_BELOW  # of another scale than bp's
        assert of(bp, *five, scale=5.0).verdict.kind == "trustworthy"
        held = of(bp, *scaled((0.54, 0.541, 0.538)))
        assert held.verdict.kind == "not separated from its floor"
    assert of((0.5, 0.51, 0.505)).verdict.kind == "trustworthy"
    near = [
        *seeds(DFA, [0.425, 0.428, 0.424]),
        *LOW,
    ]  # a scale that lowers bp's floor explains none
    shrunk = scaled((0.416, 0.417, 0.415), 0.1, BP)
    assert row([*BACKPROP, *shrunk, *near]).verdict.kind == "trustworthy"
    bare = [*BACKPROP[:3], *scaled((0.56, 0.561, 0.562), rule=BP)]  # bp's floor as drawn is missing
    assert row([*bare, *rule, *LOW]).verdict.unsure == UNTRIED_BELOW
    exact = [*BACKPROP, *scaled((0.56, 0.561, 0.562), rule=BP)]
    assert row(exact, "bp").verdict.kind == "trustworthy"
    said = "dfa does not clearly beat backpropagation with random blocks of another scale, and its "
    records = [*exact, *rule, *LOW]
    assert f"{said}own of such a scale were not tried." in summary.sentence(group(records))
    low = [*seeds(DFA, [0.40, 0.401, 0.402]), *LOW]  # walked back by bp's floor alone
    found = row([*exact, *low])
    assert (found.verdict.text, found.verdict.three) == ("walked back (bp floor)", "PASS")


def test_a_cosine_within_its_noise_or_a_step_elsewhere_is_no_direction() -> None:
    """Of three seeds one step lies against the gradient; or blocks do not step by the credit."""

    def of(gammas: Sequence[float], step: Measurement | None = None) -> Row:
        taken = {} if step is None else {"projected_step": step}
        accuracies = (0.55, 0.553, 0.549)
        runs = [
            run(DFA, seed, accuracy, measurements=measured(gamma=gamma) | taken)
            for seed, accuracy, gamma in zip((42, 123, 456), accuracies, gammas, strict=False)
        ]
        return row([*BACKPROP, *runs, *LOW])

    noisy = of((0.030, -0.011, 0.071))
    assert noisy.verdict.unsure == UNTRIED
    (why,) = reasons.of_row(noisy, Settings())
    assert why.startswith("its credit shows no direction beyond its scatter over the seeds (Γ deep")
    for gammas in ((0.030, 0.029, 0.031), (0.01, 0.3, 0.3), (0.1, 0.35), (0.05, 0.35, 0.05)):
        assert of(gammas).verdict.kind == "trustworthy"
    elsewhere = of((0.3, 0.3, 0.3), Measurement(value=0.013))
    assert elsewhere.verdict.unsure == UNTRIED
    (why,) = reasons.of_row(elsewhere, Settings())
    assert why.startswith(
        "its blocks do not step in the direction of the gradient (cosine +.013; Γ"
    )
    uncopied = of((0.3, 0.3, 0.3), Measurement(value=None, not_diagnostic="it keeps a graph"))
    assert uncopied.verdict.unsure == UNTRIED
    (why,) = reasons.of_row(uncopied, Settings())
    assert why.startswith("its step could not be compared with the gradient (it keeps a graph)")
    for step in (0.4, math.nan):  # a value that is not finite says nothing
        assert of((0.3, 0.3, 0.3), Measurement(value=step)).verdict.kind == "trustworthy"
    muted = Measurement(value=-0.5, not_diagnostic="an update is zero")
    assert of((0.3, 0.3, 0.3), muted).verdict.kind == "trustworthy"


def test_only_trustworthy_rules_are_named_that_lack_floors_of_another_scale() -> None:
    ep = [*seeds(EP, [0.3, 0.301, 0.302]), *frozen(EP, [0.35, 0.351, 0.352])]
    rule = [*seeds(DFA, [0.55, 0.553, 0.549]), *LOW, *scaled((0.4, 0.401, 0.402))]
    told = "not compared with random blocks of another scale, which may reach as much: bp;"
    assert told in remarks([*BACKPROP, *rule, *ep])


def test_every_format_has_the_margin_over_random_blocks_of_another_scale() -> None:
    rule = [*seeds(DFA, [0.55, 0.553, 0.549]), *LOW, *scaled((0.4, 0.401, 0.402))]
    records = [*BACKPROP, *rule]
    found = row(records)
    assert found.rescaled.over is not None
    (suite,) = json.loads(leaderboard(records, format="json"))["suites"]
    (mine,) = (each for each in suite["groups"][0]["rows"] if each["label"] == "dfa")
    assert mine["rescaled_floor"] == "dfa[frozen, block_scale=100.0]"
    assert mine["margin_rescaled_pp"]["mean"] == found.rescaled.over.estimate.mean
    text = leaderboard(records, format="markdown", columns=("rescaled",))
    (line,) = (line for line in text.split("\n") if line.startswith("|") and " dfa " in line)
    assert " +15.0 " in line


def test_no_further_floor_improves_a_verdict() -> None:
    """A rule must beat each of them: the best by its mean may have one seed, and no interval."""
    records = [*BACKPROP, *seeds(DFA, [0.55, 0.553, 0.549]), *LOW, *scaled((0.45, 0.50, 0.60))]
    assert row(records).held == "scale"
    found = row([*records, *scaled((0.525,), 10.0)])
    assert found.held == "scale"
    assert found.rescaled.floor is not None  # that which it does not beat, and not the best of all
    assert found.rescaled.floor.name == "dfa[frozen, block_scale=100.0]"


def with_initial(records: list[RunRecord], c: float) -> list[RunRecord]:
    def of(one: RunRecord) -> RunRecord:
        item = one.measurements["batch_stability"].model_copy(update={"value": c})
        return one.model_copy(update={"initial": {"batch_stability": item}})

    return [of(one) for one in records]


def test_blocks_of_another_scale_are_no_witnesses_of_the_untrained_network() -> None:
    mine = seeds(DFA, [0.55, 0.553, 0.549], measurements=measured(c=0.35))
    records = with_initial([*BACKPROP, *mine, *LOW], 0.35)
    larger = [*scaled((0.45, 0.451, 0.452), rule=BP), *scaled((0.45, 0.451, 0.452), 10.0, BP)]
    assert row(records).verdict.letters == ()
    assert row([*records, *with_initial(larger, 0.1)]).verdict.letters == ()


def test_a_single_seed_below_larger_random_blocks_is_not_said_to_train() -> None:
    one = [*seeds(DFA, [0.55]), *frozen(DFA, [0.3]), *scaled((0.6,))]
    assert list_of([*BACKPROP, *one]) != trained.TRAIN


def test_where_bps_floor_replaces_a_floor_its_other_scales_count_too() -> None:
    mine = seeds(DFA, [0.55, 0.551, 0.549], chance=0.1)
    records = [*BACKPROP, *mine, *frozen(DFA, [0.10, 0.11, 0.09])]
    assert row(records).replaced
    larger = [*scaled((0.10, 0.11, 0.09)), *scaled((0.6, 0.601, 0.602), rule=BP)]
    assert row([*records, *larger]).held == "scale"


def test_smaller_blocks_and_those_at_chance_are_no_trial_of_larger_ones() -> None:
    mine = seeds(DFA, [0.55, 0.553, 0.549], measurements=measured(gamma=0.0), chance=0.1)
    records = [*BACKPROP, *mine, *LOW]
    for other in (scaled((0.29, 0.291, 0.292), 0.01), scaled((0.10, 0.101, 0.099), 1e6)):
        assert row([*records, *other]).verdict.kind == "undetermined"


def test_a_rule_below_bps_random_blocks_may_beat_its_own() -> None:
    records = [*BACKPROP, *seeds(DFA, [0.39, 0.391, 0.392]), *frozen(DFA, [0.3, 0.301, 0.302])]
    below = "dfa falls below backpropagation with random blocks"
    though = f"{below}, though its blocks beat its own random ones."
    assert though in summary.sentence(group(records))
    dead = [*BACKPROP, *of_reset(0.0, (0.39, 0.391, 0.392)), *LOW]
    assert f"{below}." in summary.sentence(group(dead))


def test_only_runs_that_all_lack_the_accuracy_of_guessing_explain_a_variance() -> None:
    assert explained(seeds(DFA, [0.5, 0.6], chance=None))
    assert not explained([run(DFA, 1, 0.5, chance=0.1), run(DFA, 2, 0.5, chance=None)])


def test_a_given_floor_hides_no_threshold() -> None:
    given = DepthUtility(floor_value=0.4)
    settings = Settings(thresholds={"depth_utility": 5.0}, depth_utility=given)
    (found,) = judge_all([*BACKPROP, *seeds(DFA, [0.5] * 3)], settings)
    (dfa,) = (each for each in found.rows if each.label == "dfa")
    assert row_doubts.limits(dfa, settings) == ["d is judged against a given accuracy of 0.4"]


def test_a_noisy_bp_is_not_said_to_show_that_the_recipe_cannot_judge() -> None:
    bp = [*seeds(BP, [0.60, 0.60, 0.10]), *frozen(BP, [0.418, 0.419, 0.420])]
    text = "The seeds of bp do not show that this recipe can tell trained blocks from random ones: "
    assert notes.warning(group(bp), Settings()).startswith(text)
    below = [*seeds(BP, [0.30, 0.41, 0.42]), *frozen(BP, [0.418, 0.419, 0.420])]
    told = f"{text}bp itself gains nothing over its random blocks (-4.2 ± 16.3 points). "
    assert notes.warning(group(below), Settings()).startswith(told)
    strict = Settings(thresholds={"depth_utility": 25.0})
    (found,) = judge_all(BACKPROP, strict)
    by = "This recipe cannot tell trained blocks from random ones by 25 points: bp itself gains"
    assert notes.warning(found, strict).startswith(by)
    lax = Settings(thresholds={"depth_utility": 0.0})
    told = leaderboard([*BACKPROP, *seeds(DFA, [0.5] * 3), *frozen(DFA, [0.49] * 3)], settings=lax)
    assert "trustworthy: 0 points or more" in " ".join(told.split())
