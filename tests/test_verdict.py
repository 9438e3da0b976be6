"""Laws of flags and verdicts: what fires, what is missing, which floor, how a row is judged."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from folders import leaderboard
from records import SICK, audit, frozen, measured, run, seeds

from bench_core.analysis.accuracies import Scored, grain
from bench_core.analysis.first_firing import firings
from bench_core.analysis.sensitivity import sensitivities
from bench_core.analysis.stats import Estimate
from bench_core.analysis.verdicts.alignment import alignment
from bench_core.analysis.verdicts.judge import UNTRAINED, Floor, Judgement, deciding, judge
from bench_core.analysis.verdicts.labels import label
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.analysis.verdicts.ranks import rank
from bench_core.analysis.verdicts.recipes import recipe
from bench_core.analysis.verdicts.roles import is_ceiling, is_floor
from bench_core.analysis.verdicts.rows import Group, Row
from bench_core.analysis.verdicts.settings import Settings
from bench_core.analysis.verdicts.untrained import Witnessed, at_start, untrained
from bench_core.analysis.verdicts.verdict import Reading, margin, reading, verdict, worse
from bench_core.report.words import summary
from bench_core.results.epochs import Epoch
from bench_core.results.record import Measurement, RunRecord, fires
from bench_core.results.status import STATUSES
from bench_core.suite.judging import DepthUtility

DFA, BP = "bench-core/dfa", "bench-core/bp"


def above(value: float | None, threshold: float | None = 50.0) -> Measurement:
    return Measurement(value=value, letter="a", direction="above", threshold=threshold)


def only(records: list[RunRecord], settings: Settings | None = None) -> Group:
    groups = judge_all(records, settings or Settings())
    assert len(groups) == 1
    return groups[0]


def row_of(records: list[RunRecord], name: str, settings: Settings | None = None) -> Row:
    return next(row for row in only(records, settings).rows if row.label == name)


# --------------------------------------------------------------------------------------- firing


@pytest.mark.parametrize(
    ("value", "expected"),
    [(50.0, False), (50.1, True), (math.inf, True), (math.nan, True), (-math.inf, True)],
)
def test_fires_strictly_above(value: float, expected: bool) -> None:
    assert fires(above(value)) is expected


def test_fires_strictly_below() -> None:
    item = Measurement(value=2.0, letter="d", direction="below", threshold=2.0)
    assert not fires(item)
    assert fires(item, threshold=2.1)
    assert fires(item.model_copy(update={"value": 1.9}))


def test_no_verdict_rests_on_a_time() -> None:
    clock = Measurement(value=9.0, direction="above", threshold=1.0, repeatable=False)
    assert deciding({"lab/clock": clock}).keys() == {"d"}
    again = clock.model_copy(update={"repeatable": True})
    assert deciding({"lab/clock": again}).keys() == {"d", "lab/clock"}


def test_what_never_fires() -> None:
    assert not fires(above(None))
    assert not fires(above(99.0, None))
    assert not fires(above(math.nan).model_copy(update={"not_diagnostic": "too few batches"}))
    assert not fires(Measurement(value=math.inf))
    assert fires(above(10.0), threshold=5.0)
    assert fires(above(-1.0), threshold=-2.0)


# -------------------------------------------------------------------------------------- one run


@pytest.mark.parametrize(
    ("found", "floor", "text"),
    [
        (measured(), 0.1, "no flag"),
        (measured(), None, "incomplete (d not measured)"),
        (measured(c=None), None, "incomplete (c+d not measured)"),
        (measured(c=None), 0.1, "incomplete (c not measured)"),
        (SICK, 0.39, "flagged (a+b+d)"),
        (measured(a=99.0, b=1e-9), 0.1, "flagged (a+b)"),
        (measured(c=0.9), None, "flagged (c)"),
        (measured(a=math.inf), None, "flagged (a)"),
    ],
)
def test_flags_of_a_run(found: dict[str, Measurement], floor: float | None, text: str) -> None:
    given = Floor("f", mean=floor)
    judgement = judge(run(accuracy=0.4, measurements=found), given, given, given, Settings())
    assert judgement.text == text


@pytest.mark.parametrize("status", ["diverged", "failed", "crashed", "interrupted"])
def test_a_run_that_is_not_done_has_its_status(status: str) -> None:
    given = Floor("f", mean=0.1)
    judgement = judge(run(status=status), given, given, given, Settings())  # type: ignore[arg-type]
    assert (judgement.text, judgement.fired, judgement.margin) == (status, (), None)


def test_d_fires_below_two_points_and_not_at_them() -> None:
    record = run(accuracy=0.5)
    for floor, text in (
        (0.4799, "no flag"),
        (0.4801, "flagged (d)"),
        (0.55, "flagged (d)"),
    ):
        given = Floor("f", mean=floor)
        assert judge(record, given, given, given, Settings()).text == text
    exact = Floor("f", mean=0.25)
    assert (
        judge(record, exact, exact, exact, Settings(thresholds={"depth_utility": 25.0})).text
        == "no flag"
    )
    assert judge(
        record, exact, exact, exact, Settings(thresholds={"depth_utility": 25.1})
    ).fired == ("d",)


def test_what_fires_on_the_untrained_network_is_not_diagnostic() -> None:
    record = run(measurements=measured(c=0.9), initial=measured(c=0.8))
    given = Floor("f", mean=0.1)
    judgement = judge(record, given, given, given, Settings())
    assert judgement.text == "no flag"
    assert dict(judgement.not_diagnostic) == {"c": "already fires on the untrained network"}
    healthy = judge(
        record.model_copy(update={"initial": measured(c=0.2)}), given, given, given, Settings()
    )
    assert healthy.text == "flagged (c)"
    # d compares trained cells: it has no untrained value
    low = Floor("f", mean=0.5)
    untrained = measured()
    untrained["depth_utility"] = untrained["depth_utility"].model_copy(update={"value": -5.0})
    assert judge(run(initial=untrained), low, low, low, Settings()).fired == ("d",)
    # the threshold in force decides about the untrained network too
    assert judge(
        record, given, given, given, Settings(thresholds={"batch_stability": 0.85})
    ).fired == ("c",)


def test_chance_on_both_sides_of_a_threshold_makes_a_diagnostic_mean_nothing_for_every_seed() -> (
    None
):
    """The untrained network of one seed fires in all runs of the seed: c says nothing about the
    runs whose own untrained network did not."""
    found = measured(c=0.6)
    start = {seed: measured(c=c) for seed, c in ((42, 0.5), (123, 0.1), (456, 0.1))}
    records = [run(seed=seed, measurements=found, initial=start[seed]) for seed in start]
    floors = [
        run(seed=seed, accuracy=0.1, params={"freeze": "blocks"}, initial=start[seed])
        for seed in start
    ]
    records += floors
    row = row_of(records, "dfa")
    assert row.verdict.text == "trustworthy"
    assert all(dict(found.judgement.not_diagnostic) == {"c": UNTRAINED} for found in row.runs)
    alone = row_of([record for record in records if record.cell.seed != 42], "dfa")
    assert alone.verdict.text == "walked back (c)"
    (c,) = [item for item in sensitivities([only(records)], Settings()) if item.letter == "c"]
    # no threshold under .5 makes any of them fire
    assert {point.fires for point in c.points} == {(0.5, 0.6)}
    epochs = [
        Epoch(epoch=t, learning_rate=1e-3, accuracy=0.3, measurements=measured(c=0.1 + 0.3 * t))
        for t in (0, 1)
    ]
    assert {item.key: item.epoch for item in firings(epochs)}["c"] == 1
    silent = {item.key: item for item in firings(epochs, None, row.runs[1].judgement)}["c"]
    assert (silent.epoch, silent.not_diagnostic) == (None, UNTRAINED)


def test_an_untrained_measurement_that_means_nothing_yields_to_that_of_the_recipe() -> None:
    own = Measurement(value=0.95, direction="above", threshold=0.3, not_diagnostic="few batches")
    agreed = Measurement(value=0.9, direction="above", threshold=0.3)
    record = run(initial={"batch_stability": own})
    seen = {"batch_stability": {42: Witnessed(agreed)}}
    assert at_start(record, seen) == {"batch_stability": agreed}
    assert at_start(record, {}) == {"batch_stability": own}


def test_what_a_rule_does_to_the_network_before_training_mutes_no_diagnostic() -> None:
    """One rule's `initial`, `chance` or further diagnostic changes no verdict, in however many
    variants, floors and seeds it stands, and not its own."""
    sick, healthy = measured(a=99.0), measured()
    further = {"e_thing": Measurement(value=0.0, letter="e", direction="above", threshold=1.0)}
    odd: dict[str, Any] = {"initial": sick, "measurements": {**sick, **further}, "chance": 0.99}
    variants = [{}, {"penalty": 0.1}, {"penalty": 0.2}, {"freeze": "blocks"}]
    doing = [run("x/other", seed, 0.9, params=own, **odd) for own in variants for seed in (42, 123)]
    alone = [run("x/other", 999, 0.9, params=own, **odd) for own in ({}, {"freeze": "blocks"})]
    others = [
        run(name, seed, accuracy, params=params, initial=healthy, measurements=sick, chance=0.1)
        for name in ("bench-core/dfa", "bench-core/fa")
        for seed in (42, 123)
        for accuracy, params in ((0.4, {}), (0.3, {"freeze": "blocks"}))
    ] + [run("bench-core/dfa", 1 + seed, 0.4, chance=0.1) for seed in range(8)]
    for extra in (doing, doing[:1], [*doing, *alone]):
        for row in only([*extra, *others]).rows:
            silent = {letter for item in row.runs for letter, _ in item.judgement.not_diagnostic}
            missing = {letter for item in row.runs for letter in item.judgement.missing}
            if row.method.name != "x/other":
                assert "a" not in silent, row.label
                assert "e" not in missing, row.label
            elif row.role != "floor":  # of seed 999 nobody else shows the network
                assert ("a" in silent) == (extra[-1] in alone), row.label


def test_a_rule_that_begins_with_another_network_is_named() -> None:
    def text(growth: float) -> str:
        mine = [run("x/mine", k, 0.5, initial=measured(a=growth)) for k in (1, 2)]
        bp = [run("bench-core/bp", k, 0.6, initial=measured(a=1.04)) for k in (1, 2)]
        return leaderboard([*mine, *bp], width=None)

    told = "mine changes the network before its training: untrained, its states grow 60.9 times "
    told += "in one block, those of other rules 1.04 times (2 seeds)"
    assert told in text(60.9)
    assert "changes the network" not in text(1.0404)  # as another machine may round it
    assert "grow 1.045 times in one block, those of other rules 1.04 times" in text(1.045)
    failed = run("x/mine", 1, None, status="failed", initial=measured(a=60.9))
    assert "changes the network" not in leaderboard(
        [failed, run("bench-core/bp", 1, 0.6, initial=measured(a=1.04))], width=None
    )
    # a rule that is alone in its seed is compared with nothing
    alone = [run("x/mine", k, 0.5, initial=measured(a=growth))
             for k, growth in ((1, 1.04), (1, 1.04), (2, 60.9))]  # fmt: skip
    two = [run("x/mine", 1, 0.5, params=own, initial=measured(a=growth))
           for own, growth in (({}, 1.04), ({"x": 1}, 60.9))]  # fmt: skip
    for records in (alone, two):
        assert "changes the network" not in leaderboard(records, width=None)


def test_bp_shows_the_untrained_network_before_a_majority_of_rules() -> None:
    """Two rules that change the network alike do not outvote bp; without bp the middle counts."""
    sick, healthy = measured(a=99.0), measured()
    rules = [run(f"lab/{name}", 42, 0.4, initial=sick) for name in ("one", "two")]
    bp = run("bench-core/bp", 42, 0.6, initial=healthy)

    def growth(*records: RunRecord) -> float | None:
        return untrained(records)["scale_growth"][42].measurement.value

    assert growth(*rules, bp) == 1.1
    assert growth(*rules) == 99.0
    unlike = untrained([rules[0], run("lab/three", 42, 0.4, initial=healthy)])
    assert 42 not in unlike["scale_growth"]  # nothing says which of the two changed it
    assert untrained(rules[:1]) == {name: {} for name in sick if sick[name].value is not None}
    one = run("bench-core/dfa", 7, 0.4, initial=sick, measurements=sick)
    text = leaderboard([one, *seeds("bench-core/dfa", [0.4, 0.4], initial=healthy)], width=200)
    assert "explode) is not diagnostic for dfa in 1 of 3 runs: already fires" in text


def test_a_credit_that_is_odd_before_training_is_the_rules_own_affair() -> None:
    """A diagnostic that is none of the network itself may fire for one rule from the start."""
    odd = {"lab/e": Measurement(value=9.0, letter="e", direction="above", threshold=1.0)}
    fine = {"lab/e": Measurement(value=0.0, letter="e", direction="above", threshold=1.0)}
    mine = run("lab/mine", 42, 0.4, initial=odd, measurements={**measured(), **odd})
    bp = run("bench-core/bp", 42, 0.6, initial=fine, measurements={**measured(), **fine})
    ((found,),) = (row.runs for row in only([mine, bp]).rows if row.method.name == "lab/mine")
    assert dict(found.judgement.not_diagnostic)["e"] == UNTRAINED


def test_a_declared_reason_is_neither_fired_nor_missing() -> None:
    found = measured()
    found["batch_stability"] = found["batch_stability"].model_copy(
        update={"value": None, "not_diagnostic": "3 of 10 probe batches"}
    )
    given = Floor("f", mean=0.1)
    judgement = judge(run(measurements=found), given, given, given, Settings())
    assert (judgement.text, dict(judgement.not_diagnostic)) == (
        "no flag",
        {"c": "3 of 10 probe batches"},
    )


def test_letters_of_strangers_join() -> None:
    extra = {
        "lab/rank": Measurement(value=9.0, letter="r", direction="above", threshold=1.0),
        "lab/entropy": Measurement(value=9.0, direction="above", threshold=1.0),
        "lab/impostor": Measurement(value=9.0, letter="a", direction="above", threshold=1.0),
        "lab/note": Measurement(value=9.0),
    }
    given = Floor("f", mean=0.1)
    judgement = judge(run(measurements=measured() | extra), given, given, given, Settings())
    assert judgement.text == "flagged (r+lab/entropy+lab/impostor)"
    found = verdict([judgement] * 2, {"d": "passes"}, None)
    assert found.text == "walked back (r, lab/entropy, lab/impostor)"
    assert found.three == "PASS"  # none of them is one of the three


def test_a_stranger_takes_no_letter_of_a_built_in_diagnostic() -> None:
    """Not even where a run lacks that diagnostic; d is judged all the same."""
    forged = measured(gamma=None)
    for name, new in (("scale_growth", "growth"), ("depth_utility", "block_depth")):
        forged[new] = forged.pop(name)
    forged["block_depth"] = forged["block_depth"].model_copy(
        update={"direction": "above", "threshold": 1000.0}
    )
    worse = Floor("f", mean=0.5)
    judgement = judge(run(measurements=forged), worse, worse, worse, Settings())
    assert (judgement.text, judgement.missing) == ("flagged (d)", ("a",))


def test_the_words_of_a_built_in_diagnostic_are_not_those_of_a_record() -> None:
    sick = measured(a=694.0)
    sick["scale_growth"] = sick["scale_growth"].model_copy(
        update={"sentence": "all is well", "title": "the weather"}
    )
    text = leaderboard([*seeds(DFA, [0.4, 0.4], measurements=sick), *frozen(DFA, [0.2, 0.2])])
    assert "grows 694 times in one block" in " ".join(text.split())
    assert "all is well" not in text


def test_a_diagnostic_that_other_runs_have_is_missing() -> None:
    extra = measured() | {
        "lab/rank": Measurement(value=0.0, letter="r", direction="above", threshold=1.0)
    }
    records = [run(seed=42, measurements=extra), run(seed=123), *frozen(DFA, [0.2, 0.21])]
    row = row_of(records, "dfa")
    assert [run_.judgement.text for run_ in row.runs] == ["no flag", "incomplete (r not measured)"]
    assert row.verdict.text == "undetermined (r not measured)"


def test_thresholds_of_the_suite_replace_the_stored_ones() -> None:
    records = [*seeds(DFA, [0.4, 0.4]), *frozen(DFA, [0.2, 0.2])]
    for name in ("scale_growth", "bench-core/scale_growth"):
        assert (
            row_of(records, "dfa", Settings(thresholds={name: 1.0})).verdict.text
            == "walked back (a)"
        )


def test_gamma_is_marked_where_b_fires() -> None:
    given = Floor("f", mean=0.1)
    for found, reason in (
        (SICK, "reference at the floor"),
        (measured(), None),
        (measured(a=99.0), None),
    ):
        record = run(measurements=found)
        gamma = alignment(record, judge(record, given, given, given, Settings()))
        assert gamma is not None
        assert gamma.not_diagnostic == reason
    assert alignment(run(measurements=measured(gamma=None)), Judgement("done", "method")) is None


# --------------------------------------------------------------------------------------- floors


def test_d_is_judged_per_run_against_its_twin_and_per_row_by_the_paired_interval() -> None:
    """Differences 1, 4 and 2: mean 7/3, s = √(7/3), half width 4.303 · √(7/3)/√3 = 3.79."""
    records = [*seeds(DFA, [0.30, 0.34, 0.33]), *frozen(DFA, [0.29, 0.30, 0.31])]
    row = row_of(records, "dfa")
    assert [run_.judgement.margin for run_ in row.runs] == pytest.approx([1.0, 4.0, 2.0])
    assert [run_.judgement.text for run_ in row.runs] == ["flagged (d)", "no flag", "no flag"]
    assert row.verdict.text == "not separated from its floor"
    assert row.margin_matched is not None
    assert row.margin_matched.mean == pytest.approx(7 / 3)
    assert row.margin_matched.half_width == pytest.approx(4.302653 * math.sqrt(7 / 9))


def test_failed_floor_runs_do_not_count() -> None:
    records = [
        run(accuracy=0.40),
        *frozen(DFA, [0.30]),
        run(seed=123, status="failed", params={"freeze": "blocks"}),
    ]
    row = row_of(records, "dfa")
    assert row.runs[0].judgement.margin == pytest.approx(10.0)


def test_matched_floor_has_the_same_params_but_never_a_penalty() -> None:
    records = [
        run(accuracy=0.40, params={"penalty": 0.01}),
        run(accuracy=0.40, params={"normalize": "batch"}),
        run(accuracy=0.30, params={"freeze": "blocks"}),
        run(accuracy=0.20, params={"freeze": "blocks", "normalize": "batch"}),
    ]
    assert row_of(records, "dfa[penalty=0.01]").runs[0].judgement.margin == pytest.approx(10.0)
    assert row_of(records, "dfa[normalize=batch]").runs[0].judgement.margin == pytest.approx(20.0)


def test_bp_named_and_literal_floors() -> None:
    records = [
        run(accuracy=0.50),
        run("bench-core/fa", accuracy=0.45),
        *frozen(DFA, [0.30]),
        *frozen(BP, [0.42]),
    ]
    for floor, points in (
        (DepthUtility(floor="bp"), 8.0),
        (DepthUtility(floor="dfa"), 20.0),
        (DepthUtility(floor="dfa", floor_value=0.1), 40.0),
    ):
        judgement = row_of(records, "dfa", Settings(depth_utility=floor)).runs[0].judgement
        assert judgement.margin == pytest.approx(points)
        assert (judgement.margin_matched, judgement.margin_bp) == (
            pytest.approx(20.0),
            pytest.approx(8.0),
        )
    fa = row_of(records, "fa").runs[0].judgement
    assert (fa.text, fa.margin_matched, fa.margin_bp) == (
        "incomplete (d not measured)",
        None,
        pytest.approx(3.0),
    )
    assert row_of(records, "fa", Settings(depth_utility=DepthUtility(floor="nobody"))).floor.reason


def test_a_floor_of_another_recipe_is_no_floor() -> None:
    records = [run(), *frozen(DFA, [0.2], training={"epochs": 30})]
    assert {row.verdict.text for group in judge_all(records) for row in group.rows} == {
        "single seed, incomplete (d not measured)",
        "floor",
    }


def test_roles() -> None:
    assert is_floor(run(params={"freeze": "blocks"}))
    assert not is_floor(run())
    assert is_ceiling(run(BP))
    for params in ({"freeze": "blocks"}, {"penalty": 0.1}, {"random_targets": True}):
        assert not is_ceiling(run(BP, params=params))
    assert not is_ceiling(run("stranger/bp"))


def test_recipe_is_everything_but_method_and_seed() -> None:
    base = run()
    assert recipe(base) == recipe(run(BP, seed=9, params={"penalty": 1.0}))
    assert recipe(base) != recipe(run(training={"learning_rate": 1e-2}))
    assert recipe(base) != recipe(run(arch="bench-core/vit_mini"))


# ----------------------------------------------------------------------------------------- rows


def _judged(kind: str, *letters: str) -> Judgement:
    if kind == "floor":
        return Judgement("done", "floor")
    if kind == "missing":
        return Judgement("done", "method", missing=letters)
    return Judgement(kind, "method", fired=letters)


@pytest.mark.parametrize(
    ("judgements", "d", "text", "three"),
    [
        (
            [
                _judged("done", "a", "b", "d"),
                _judged("done", "a", "b", "d"),
                _judged("done", "a", "b", "c", "d"),
            ],
            "fires",
            "walked back (a, b, c 1/3, d)",
            "FAIL(D1+D2+D3)",
        ),
        ([_judged("done")] * 3, "passes", "trustworthy", "PASS"),
        # of d the interval decides, whatever single runs were flagged
        (
            [_judged("done"), _judged("done", "d"), _judged("done", "d")],
            "open",
            "not separated from its floor",
            "UNDETERMINED(D3)",
        ),
        ([_judged("done"), _judged("done", "d")], "passes", "trustworthy", "PASS"),
        (
            [_judged("done", "a"), _judged("done", "a"), _judged("diverged")],
            "passes",
            "walked back (a), diverged 1/3",
            "FAIL(D1)",
        ),
        ([_judged("done"), _judged("done", "d")], "fires", "walked back (d)", "FAIL(D3)"),
        (
            [_judged("done", "d"), _judged("done", "d"), _judged("diverged")],
            "fires",
            "walked back (d), diverged 1/3",
            "FAIL(D3)",
        ),
        (
            [_judged("missing", "d")] * 2,
            "open",
            "undetermined (d not measured)",
            "UNDETERMINED(D3)",
        ),
        (
            [_judged("done", "a"), _judged("failed")],
            "open",
            "single seed, flagged (a), failed 1/2",
            "FLAGGED(D1)",
        ),
        ([_judged("failed")] * 3, "open", "failed 3/3", "FAILED"),
        ([_judged("floor")] * 3, "fires", "floor", "FLOOR"),
        (
            [_judged("floor")] * 2 + [Judgement("crashed", "floor")],
            "fires",
            "floor, crashed 1/3",
            "FLOOR",
        ),
    ],
)
def test_verdict_of_a_row(judgements: list[Judgement], d: Reading, text: str, three: str) -> None:
    found = verdict(judgements, {"d": d}, None)
    assert (found.text, found.three) == (text, three)


def test_labels() -> None:
    methods = [
        run(),
        run(params={"penalty": 0.01}),
        run(params={"freeze": "blocks"}),
        run(BP, params={"freeze": "blocks"}),
        run(BP),
        run("lab/sb", params={"hidden": 3, "tau": 1}),
        run("lab/sb", params={"hidden": 2, "tau": 1, "normalize_eps": {"per_n": 1e-6}}),
    ]
    peers = [record.cell.method for record in methods]
    assert [label(peer, peers) for peer in peers] == [
        "dfa",
        "dfa[penalty=0.01]",
        "dfa[frozen]",
        "bp[frozen]",
        "bp",
        "lab/sb[hidden=3]",
        'lab/sb[normalize_eps={"per_n": 1e-06}, hidden=2]',
    ]


def test_a_label_says_what_is_not_the_rules_own_default() -> None:
    """Alone in its table too: a tuned rule is not the plain one. A parameter without a default
    is always said."""
    tuned = run(
        "lab/sb", params={"hidden": 3, "tau": 1, "normalize": "none", "must": 2}
    ).cell.method
    own = {"lab/sb": {"hidden": 2, "tau": 1.0, "normalize": "none", "penalty": 0.0}}
    assert label(tuned, [tuned], own) == "lab/sb[hidden=3, must=2]"
    assert label(tuned, [tuned]) == "lab/sb[normalize=none]"
    sampled = run("lab/sb", params={"hidden": 2, "tau": 1, "normalize": "sample"}).cell.method
    assert label(sampled, [sampled], own) == "lab/sb[normalize=sample]"


def test_failed_runs_stay_in_n_and_out_of_the_mean() -> None:
    row = row_of(audit(), "ep")
    assert row.accuracy is not None
    assert (row.accuracy.n, row.accuracy.mean) == (2, pytest.approx(0.405))
    assert row.verdict.text == "undetermined (its margin is the same in both seeds), diverged 1/3"


def test_recipes_are_never_mixed() -> None:
    groups = judge_all(seeds(DFA, [0.3, 0.3]) + seeds(DFA, [0.5, 0.5], training={"epochs": 30}))
    assert [len(group.rows) for group in groups] == [1, 1]


def test_a_seed_counts_once() -> None:
    """The latest done record stands for its seed, the others are counted as set aside."""
    records = [
        run(accuracy=0.1, finished="2026-01-01"),
        run(accuracy=0.2, finished="2026-01-02"),
        run(status="failed", finished="2026-01-03"),
    ]
    group = only(records)
    assert group.set_aside == 2
    assert group.rows[0].accuracy is not None
    assert (group.rows[0].accuracy.mean, group.rows[0].accuracy.n) == (0.2, 1)


def test_an_accuracy_that_is_not_finite_enters_no_mean() -> None:
    row = row_of([run(accuracy=math.nan), *frozen(DFA, [0.1])], "dfa")
    assert (row.accuracy, row.verdict.text) == (None, "single seed, flagged (d)")


def test_the_order_of_records_does_not_matter_to_their_judgement() -> None:
    records = audit()
    expected = judge_all(records)
    for seed in range(5):
        random.Random(seed).shuffle(records)
        assert judge_all(records) == expected


def test_rows_are_sorted_and_ranked_without_floors() -> None:
    rows = only(audit()).rows
    assert [(row.label, row.rank) for row in rows] == [
        ("bp", (1, 1)),
        ("bp[frozen]", None),
        ("ep", None),  # one of its seeds diverged
        ("dfa[frozen]", None),
        ("ep[frozen]", None),
        ("dfa", (2, 2)),
    ]


@pytest.mark.parametrize("status", [name for name in STATUSES if name != "done"])
def test_every_status_is_named_in_the_verdict_of_its_row(status: str) -> None:
    bad, good = Judgement(status, "method"), Judgement("done", "method")
    assert verdict([bad], {"d": "open"}, None).text == f"{status} 1/1"
    survivors = verdict([good, good, bad], {"d": "passes"}, None)
    assert survivors.text == f"undetermined, {status} 1/3"


def test_a_margin_of_exactly_two_points_is_not_below_two() -> None:
    """.36 − .34 is 1.9999999999999962 in binary, whichever accuracy out of 10,000 images it is."""
    record = run()
    for k in range(0, 8000):
        above = record.model_copy(update={"accuracy": (k + 200) / 10000})
        assert Floor("f", mean=k / 10000).margin(above) == 2.0


def test_a_bp_floor_without_an_interval_makes_nobody_trustworthy_who_lies_below_it() -> None:
    """6.9 points below the one seed of bp's random blocks, and 5 over the rule's own."""
    rule = [*seeds("bench-core/dfa", [0.350, 0.351, 0.353]),
            *frozen("bench-core/dfa", [0.300, 0.301, 0.302])]  # fmt: skip
    bp = seeds("bench-core/bp", [0.611, 0.615, 0.619])
    (lone, *lost) = frozen("bench-core/bp", [0.42, 0.0, 0.0])
    lost = [run("bench-core/bp", seed, status="crashed", params={"freeze": "blocks"})
            for seed in (42, 123, 456)]  # fmt: skip
    above = run("bench-core/bp", 42, 0.34, params={"freeze": "blocks"})
    near = run("bench-core/bp", 42, 0.36, params={"freeze": "blocks"})
    two = run("bench-core/bp", 42, 0.3705, params={"freeze": "blocks"})  # 1.92 points
    more = run("bench-core/bp", 42, 0.3715, params={"freeze": "blocks"})  # 2.02 points
    for floor, said in (
        ([lone], "undetermined (bp's floor has one seed)"),
        (lost, "undetermined (bp's floor has no finished run)"),
        ([above], "trustworthy"),
        ([near], "trustworthy"),  # .9 points below one seed
        ([two], "trustworthy"),
        ([more], "undetermined (bp's floor has one seed)"),
        ([], "trustworthy"),
        # which of two rows is bp's floor is not known: neither is lost
        (
            [
                *lost,
                *(
                    r.model_copy(
                        update={
                            "cell": r.cell.model_copy(
                                update={
                                    "method": r.cell.method.model_copy(
                                        update={"params": {"freeze": "blocks", "own": 1}}
                                    )
                                }
                            )
                        }
                    )
                    for r in lost
                ),
            ],
            "trustworthy",
        ),
    ):
        assert row_of([*rule, *bp, *floor], "dfa").verdict.text == said
    text = leaderboard([*rule, *bp, lone], width=None)
    assert "dfa lies below backpropagation with random blocks, but these have one seed" in text
    text = leaderboard([*rule, *bp, *lost], width=None)
    assert "dfa cannot be compared with bp's random blocks: none of these runs is done" in text


@pytest.mark.parametrize(
    ("less", "said"),
    [
        (1, "walked back (d)"),
        (36, "walked back (d, bp floor)"),
        (-7, "not separated from its floor"),  # +1.94 ± .28
    ],
)
def test_a_tie_of_three_seeds_is_no_certainty(less: int, said: str) -> None:
    """Of 360 test samples, one below bp's floor in all seeds is chance; 36 are not."""
    floor = [320 / 360, 331 / 360, 327 / 360]
    rule = [*seeds("bench-core/dfa", [value - less / 360 for value in floor]),
            *frozen("bench-core/dfa", floor)]  # fmt: skip
    bp = [*seeds(BP, [342 / 360, 345 / 360, 343 / 360]), *frozen(BP, floor)]
    row = row_of([*rule, *bp], "dfa")
    assert row.verdict.text == said
    assert row.margin is not None
    # t(2) · (1/360)/√6 / √3 of a count that is known to ± half a sample
    assert row.margin.half_width == pytest.approx(4.3027 * 100 / 360 / 6**0.5 / 3**0.5, rel=1e-4)
    text = " ".join(leaderboard([*rule, *bp]).split())
    assert "its interval is that of the rounding of accuracies to a test sample" in text


@pytest.mark.parametrize("less", [0.0352, -0.2, 0.0001])
def test_two_seeds_with_one_margin_show_no_scatter(less: float) -> None:
    """They tell nothing of a third seed: 3.5 points below a floor twice is no ± 0.0."""
    floor = [0.3341, 0.3321]
    rule = seeds(DFA, [value - less for value in floor])
    bp = [*seeds(BP, [0.62, 0.625]), *frozen(BP, floor)]
    over = row_of([*rule, *bp], "dfa").over_bp
    assert over is not None
    assert (over.estimate.half_width, over.estimate.n, over.tied) == (None, 2, True)
    own = [*rule, *frozen(DFA, [0.30, 0.25])]  # its own margin differs between the seeds
    text = leaderboard([*own, *bp], width=None)
    far = less > 0.02  # by the points that a single seed needs
    verdict = row_of([*own, *bp], "dfa").verdict.text
    assert ("bp's floor is the same in both seeds" in verdict) == far
    assert ("below backpropagation with random blocks by the same margin in both" in text) == far
    assert "a margin over a floor is the same in both seeds, so it has no interval" in text
    level = [*rule, *frozen(DFA, floor)]
    assert row_of([*level, *bp], "dfa").verdict.text == (
        "undetermined (its margin is the same in both seeds)"
    )
    text = leaderboard([*level, *bp], width=None)
    assert "dfa has the same margin in both seeds, which shows no scatter: add a third" in text


def test_an_unpaired_margin_of_equal_accuracies_has_the_interval_of_their_rounding() -> None:
    """Its n is that of the smaller side; no two differences are equal."""
    floor = frozen(DFA, [0.3, 0.3])
    row = row_of([*seeds(DFA, [0.6, 0.6, 0.6]), *floor], "dfa")
    assert row.over_floor is not None
    assert (row.over_floor.how, row.over_floor.tied) == ("unpaired", True)
    assert row.over_floor.estimate.half_width is not None
    assert "trustworthy" in row.verdict.text


def test_two_accuracies_on_each_side_without_scatter_have_no_interval_either() -> None:
    floor = [run(DFA, seed, 0.3, params={"freeze": "blocks"}) for seed in (42, 7)]
    row = row_of([*seeds(DFA, [0.32, 0.32]), *floor], "dfa")
    assert row.over_floor is not None
    assert (row.over_floor.how, row.over_floor.tied) == ("mean", True)
    assert row.verdict.text == "undetermined (its margin is the same in both seeds)"


def test_a_floor_that_lost_a_run_grants_no_verdict() -> None:
    """Its two finished seeds are no fair sample: the third was the highest, say."""
    bp = [*seeds(BP, [0.62, 0.63, 0.64]), *frozen(BP, [0.4, 0.41, 0.42])]
    rule, floor = seeds(DFA, [0.45, 0.46, 0.47]), frozen(DFA, [0.40, 0.41, 0.42])
    assert row_of([*rule, *floor, *bp], "dfa").verdict.text == "trustworthy"
    lost = run(DFA, 456, None, "diverged", params={"freeze": "blocks"})
    found = [*rule, *floor[:2], lost, *bp]
    assert row_of(found, "dfa").verdict.text == "undetermined (its floor lost runs)"
    assert "dfa has a floor that lost runs, so the finished ones" in leaderboard(found, width=None)
    other = run(DFA, 7, None, "diverged", params={"freeze": "blocks"})  # a seed of none of its runs
    assert row_of([*rule, *floor, other, *bp], "dfa").verdict.text == "trustworthy"
    low = seeds(DFA, [0.2, 0.21, 0.22])
    assert row_of([*low, *floor[:2], lost, *bp], "dfa").verdict.kind == "walked back"


def test_the_floor_that_lost_a_run_is_named_if_it_is_the_one_that_is_read() -> None:
    chance: Any = {"chance": 0.1}
    bp = [*seeds(BP, [0.62, 0.63, 0.64], **chance), *frozen(BP, [0.4, 0.41, 0.42], **chance)[:2]]
    bp.append(run(BP, 456, None, "diverged", params={"freeze": "blocks"}, **chance))
    rule = seeds(DFA, [0.45, 0.46, 0.47], **chance)
    wrecked = frozen(DFA, [0.1, 0.11, 0.09], **chance)
    found = [*rule, *wrecked, *bp]
    assert row_of(found, "dfa").verdict.text == "undetermined (bp's floor lost runs)"
    assert "dfa cannot be judged: the bp floor, which replaces its own, lost runs" in (
        leaderboard(found, width=None)
    )
    # bp's floor is not the one that is read: the rule's own is whole
    own = [*rule, *frozen(DFA, [0.40, 0.41, 0.42], **chance), *bp]
    assert row_of(own, "dfa").verdict.text == "trustworthy"
    blind = [*seeds(BP, [0.405, 0.415, 0.425]), *frozen(BP, [0.4, 0.41, 0.42])]
    lost = run(DFA, 456, None, "diverged", params={"freeze": "blocks"})
    unread = [*seeds(DFA, [0.41, 0.42, 0.43]), *frozen(DFA, [0.40, 0.41, 0.42])[:2], lost, *blind]
    assert row_of(unread, "dfa").verdict.text == "undetermined (d not judged)"


def test_a_single_seed_at_the_limit_below_bps_floor_is_beyond_the_rounding_of_floats() -> None:
    for own, floor in ((0.28, 0.30), (0.41, 0.43)):
        bp = [run(BP, 42, 0.62), *frozen(BP, [floor])]
        row = row_of([*bp, run(DFA, 42, own), *frozen(DFA, [0.2])], "dfa")
        assert row.verdict.text == "single seed, bp floor", own


def test_two_equal_margins_over_a_given_floor_have_no_interval_either() -> None:
    settings = Settings(depth_utility=DepthUtility(floor_value=0.3))
    (group,) = judge_all([*seeds(DFA, [0.4, 0.4])], settings)
    (row,) = group.rows
    assert row.verdict.text == "undetermined (its margin is the same in both seeds)"


def test_a_recipe_that_cannot_judge_says_so_and_not_that_a_rule_lies_below() -> None:
    """Its own floor lies at chance, and it lies 17 points above bp's random blocks."""
    bp = [*seeds(BP, [0.47, 0.49], chance=0.1), *frozen(BP, [0.465, 0.485], chance=0.1)]
    rule = [*seeds(DFA, [0.64, 0.66], chance=0.1), *frozen(DFA, [0.1, 0.08], chance=0.1)]
    text = leaderboard([*rule, *bp], width=None)
    assert "dfa cannot be judged by this recipe" in text
    assert "below backpropagation" not in text


def test_a_margin_at_its_limit_is_read_beyond_the_rounding_of_floats() -> None:
    """29 - 27 - 1e-12 points and the like are the limit itself, for the mean and for its ends."""
    at = Estimate(2.0 - 1e-12, 0.5, 0.1, 3)
    assert reading(at, 2.0) == "passes"
    assert reading(Estimate(1.5, 0.5 - 1e-12, 0.1, 3), 2.0) == "open"  # its end is the limit
    assert reading(Estimate(1.5, 0.4, 0.1, 3), 2.0) == "fires"
    assert reading(Estimate(2.0, 2.0, 0.1, 3), 2.0) == "open"  # its end is 0
    assert worse(Estimate(-2.0, None, None, 1))
    assert not worse(Estimate(-1.9, None, None, 1))


def test_the_step_of_accuracies_is_found_from_their_seven_digits() -> None:
    shares = [round(329 / 360, 7), round(1 / 3, 7), 0.5, None, math.nan]
    assert grain(shares) == pytest.approx(1 / 360)
    for size in (128, 360, 797, 1280, 1797):
        assert all(
            1 / size == pytest.approx(grain([round(k / size, 7), 1 / size]), rel=1e-9)
            for k in range(1, size, 7)
        )
    assert grain([0.6214, 0.5]) == pytest.approx(1e-4 * 2)  # 3107/5000
    assert grain([]) == grain([0.5, 1.0]) == 0.01  # round numbers show no small test set
    assert grain([2**-0.5, 3**-0.5, 0.1 * math.pi]) == 1 / 2886  # a score that is no share
    # of all digits it is found for large test sets too; from seven it never is too small
    for size in (4096, 5000, 7500, 8192, 9999, 10_000, 26_032):
        counts = [size // 3, size // 2 + 1, size - 7]
        assert grain([k / size for k in counts]) == pytest.approx(1 / size, rel=1e-9)
        assert grain([round(k / size, 7) for k in counts]) >= min(1 / size, 1 / 2886) * (1 - 1e-9)
    assert grain([float(np.float32(k / 360)) for k in (329, 347)]) == pytest.approx(1 / 360)
    assert grain([0.1234567, 0.5]) >= 1 / 2886  # no fraction of few samples


@pytest.mark.parametrize("less", [1, 36, -7])
def test_a_tie_stays_one_where_the_reference_writes_seven_digits(less: int) -> None:
    """The same runs have the same verdict before and after `bench submit`, which rounds them."""
    floor = [320 / 360, 331 / 360, 327 / 360]
    own = [value - less / 360 for value in floor]

    def verdict_of(rule: list[float], floors: list[float]) -> tuple[str, float | None, bool]:
        records = [*seeds("bench-core/dfa", rule), *frozen("bench-core/dfa", floors)]
        bp = [*seeds(BP, [342 / 360, 345 / 360, 343 / 360]), *frozen(BP, floors)]
        (group,) = judge_all([*records, *bp])
        row = next(row for row in group.rows if row.label == "dfa")
        assert row.margin is not None
        assert row.margin.half_width is not None
        assert row.over_floor is not None
        return row.verdict.text, round(row.margin.half_width, 3), row.over_floor.tied

    def seven(values: list[float]) -> list[float]:
        return [float(f"{value:.7g}") for value in values]

    exact = verdict_of(own, floor)
    assert exact[2]
    assert verdict_of(seven(own), seven(floor)) == exact
    assert verdict_of(own, seven(floor)) == exact
    alone = [*seeds("bench-core/dfa", own), *frozen("bench-core/dfa", seven(own))]
    assert "do its blocks learn at all?" in leaderboard(alone, width=None)


def test_equal_differences_of_seven_digits_have_no_scatter_in_the_ranks() -> None:
    """The typical deviation of differences that rounding alone makes is 0."""
    first = {1: 0.8888889, 2: 0.9194444}
    second = {seed: value - 1 / 3 for seed, value in {1: 320 / 360, 2: 331 / 360}.items()}
    assert rank([first, second]).deviation == 0.0


@pytest.mark.parametrize(
    ("own", "bp_floors", "unmeasured", "said", "words"),
    [
        # the own floor at chance, bp's with one seed
        ([0.1, 0.1, 0.11], 1, (), "undetermined (bp's floor has one seed)", "replaces its"),
        # one seed of the own floor, at chance; bp's stands for it
        ([0.1], 3, ("c",), "undetermined (c not measured)", "not measured completely"),
        ([0.1], 0, (), "undetermined (d not judged)", "nor bp's is shown to lie above"),
        ([0.3], 3, (), "undetermined (its floor has one seed)", "floor with one seed"),
    ],
)
def test_a_floor_of_one_seed_is_named_if_it_is_the_one_that_is_read(
    own: list[float], bp_floors: int, unmeasured: tuple[str, ...], said: str, words: str
) -> None:
    found = {
        name: item
        for name, item in measured().items()
        if not (unmeasured and name == "batch_stability")
    }
    chance = {"chance": 0.1}
    records = [
        *seeds("bench-core/dfa", [0.5, 0.51, 0.52], measurements=found, **chance),
        *frozen("bench-core/dfa", own, **chance),
        *seeds("bench-core/bp", [0.6, 0.61, 0.62], **chance),
        *(frozen("bench-core/bp", [0.41, 0.42, 0.43][:bp_floors], **chance)),
        *seeds("bench-core/fa", [0.45, 0.46, 0.47], **chance),
    ]
    (group,) = judge_all(records)
    row = next(row for row in group.rows if row.label == "dfa")
    assert row.verdict.text == said
    assert words in summary.reason(row)


def test_a_verdict_names_what_a_floor_lacks_only_if_it_rests_on_it() -> None:
    records = [*seeds("bench-core/dfa", [0.5, math.nan, 0.52]), *frozen("bench-core/dfa", [0.3])]
    row = row_of(records, "dfa")
    assert row.verdict.kind == "walked back"
    assert row.verdict.unsure == ""


def test_without_a_majority_nothing_shows_the_untrained_network() -> None:
    """Of 60, 1.0 and 61 nothing says which is right; two that agree outvote the third."""

    def of(*growths: float) -> dict[str, Any]:
        return {
            f"lab/{number}": [Measurement(value=growth, direction="above", threshold=50.0)]
            for number, growth in enumerate(growths)
        }

    def records(growths: dict[str, Any]) -> list[RunRecord]:
        return [
            run(name, 42, 0.4, initial={"scale_growth": items[0]})
            for name, items in growths.items()
        ]

    for split in ((60.0, 1.0, 61.0), (5.0, 1.0, 61.0), (60.0, 1.0), (60.0, 60.0, 1.0, 1.0)):
        assert 42 not in untrained(records(of(*split))).get("scale_growth", {})
    for agreed in ((60.0, 60.03, 1.0), (1.0449999, 1.0450001), (60.0, 60.0, 60.0, 1.0)):
        witness = untrained(records(of(*agreed)))["scale_growth"][42]
        assert witness.rule is None
        assert witness.measurement.value == pytest.approx(agreed[0], rel=1e-3)
    apart = untrained(records(of(1.0400, 1.0449)))
    assert 42 not in apart.get("scale_growth", {})


def test_an_odd_accuracy_of_a_peer_changes_no_other_verdict() -> None:
    floor = [320 / 360, 331 / 360]
    records = [*seeds("bench-core/dfa", [value - 1 / 360 for value in floor]),
               *frozen("bench-core/dfa", floor),
               *seeds("bench-core/bp", [342 / 360, 345 / 360]),
               *frozen("bench-core/bp", floor)]  # fmt: skip
    forged = seeds("lab/forged", [0.123457, 0.5])
    before, after = row_of(records, "dfa"), row_of([*records, *forged], "dfa")
    assert (before.verdict.text, before.margin) == (after.verdict.text, after.margin)


def test_two_rows_of_one_rule_require_no_diagnostic_of_others() -> None:
    extra = {**measured(), "lab/quality": Measurement(value=1.0, direction="above", threshold=9.0)}
    mine = [run("lab/mine", 42, 0.4, params=own, measurements=extra) for own in ({}, {"x": 1})]
    third = run("lab/other", 42, 0.4, measurements=extra)
    bp = run("bench-core/bp", 42, 0.6)
    assert "lab/quality" not in row_of([*mine, bp], "bp").runs[0].judgement.missing
    assert "lab/quality" in row_of([*mine, third, bp], "bp").runs[0].judgement.missing


def test_a_tie_without_twins_has_the_interval_of_its_rounding_too() -> None:
    """Over a given floor one rounding counts, over a floor of other seeds those of both means."""
    step, t2 = 1 / 360, 4.3027
    equal = {1: 187 / 360, 2: 187 / 360, 6: 187 / 360}
    bp = Scored(shares=(329 / 360,))  # tells the 360 samples, of which the others show half
    given = margin(equal, Floor("f", "literal", mean=0.5), bp)
    assert given is not None
    assert given.tied
    assert given.estimate.half_width == pytest.approx(100 * t2 * step / 36**0.5, rel=1e-4)
    floor = {3: 188 / 360, 4: 188 / 360, 5: round(188 / 360, 7)}  # as the reference writes it
    other = margin(equal, Floor("f", accuracies=floor, mean=188 / 360), bp)
    assert other is not None
    assert (other.how, other.tied) == ("unpaired", True)
    error = step * ((1 / 3 + 1 / 3) / 12) ** 0.5
    assert other.estimate.half_width == pytest.approx(100 * t2 * error, rel=1e-4)
    single = margin({1: 0.5}, Floor("f", "literal", mean=0.4))
    assert single is not None
    assert (single.estimate.half_width, single.tied) == (None, False)
