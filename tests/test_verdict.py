"""Laws of flags and verdicts: what fires, what is missing, which floor, how a row is judged."""

from __future__ import annotations

import math
import random

import pytest
from folders import leaderboard
from records import SICK, audit, frozen, measured, run, seeds

from bench_core.analysis.first_firing import firings
from bench_core.analysis.sensitivity import sensitivities
from bench_core.analysis.verdicts.judge import (
    UNTRAINED,
    Floor,
    Judgement,
    Settings,
    alignment,
    is_ceiling,
    is_floor,
    judge,
    judged,
    label,
)
from bench_core.analysis.verdicts.leaderboard import Group, Row, judge_all
from bench_core.analysis.verdicts.recipes import recipe
from bench_core.analysis.verdicts.untrained import at_start
from bench_core.analysis.verdicts.verdict import Reading, verdict
from bench_core.results.epochs import Epoch
from bench_core.results.record import Measurement, RunRecord, fires
from bench_core.results.status import STATUSES
from bench_core.suite.model import DepthUtility

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
    assert judged({"lab/clock": clock}).keys() == {"d"}
    again = clock.model_copy(update={"repeatable": True})
    assert judged({"lab/clock": again}).keys() == {"d", "lab/clock"}


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
    assert row.verdict == "trustworthy"
    assert all(dict(found.judgement.not_diagnostic) == {"c": UNTRAINED} for found in row.runs)
    alone = row_of([record for record in records if record.cell.seed != 42], "dfa")
    assert alone.verdict == "walked back (c)"
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
    assert at_start(record, {"batch_stability": agreed}) == {"batch_stability": agreed}
    assert at_start(record, {}) == {"batch_stability": own}


def test_an_odd_untrained_network_counts_for_its_own_run_unless_the_others_agree() -> None:
    """A single forged `initial`, `chance` or further diagnostic changes no verdict of others."""
    sick, healthy = measured(a=99.0), measured()
    further = {"e_thing": Measurement(value=0.0, letter="e", direction="above", threshold=1.0)}
    forged = run("x/other", 42, 0.9, initial=sick, measurements={**sick, **further}, chance=0.99)
    others = [
        run(name, seed, accuracy, params=params, initial=healthy, measurements=sick, chance=0.1)
        for name in ("bench-core/dfa", "bench-core/fa")
        for seed in (42, 123)
        for accuracy, params in ((0.4, {}), (0.3, {"freeze": "blocks"}))
    ]
    rows = only([forged, *others]).rows
    for row in rows:
        silent = {letter for item in row.runs for letter, _ in item.judgement.not_diagnostic}
        if row.role != "floor":
            assert silent == ({"a"} if row.method.name == "x/other" else set()), row.label
            assert not any("e" in item.judgement.missing for item in row.runs)
    agreeing = [item.model_copy(update={"initial": sick}) for item in others]
    row = row_of([forged, *agreeing], "dfa")
    assert all(dict(item.judgement.not_diagnostic) == {"a": UNTRAINED} for item in row.runs)
    one = run("bench-core/dfa", 7, 0.4, initial=sick, measurements=sick, chance=0.1)
    text = leaderboard([one, *others], width=200)
    assert "explode) is not diagnostic for dfa in 1 of 3 runs: already fires" in text


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
    records = [run(seed=42, measurements=extra), run(seed=123), *frozen(DFA, [0.2, 0.2])]
    row = row_of(records, "dfa")
    assert [run_.judgement.text for run_ in row.runs] == ["no flag", "incomplete (r not measured)"]
    assert row.verdict == "undetermined (r not measured)"


def test_thresholds_of_the_suite_replace_the_stored_ones() -> None:
    records = [*seeds(DFA, [0.4, 0.4]), *frozen(DFA, [0.2, 0.2])]
    for name in ("scale_growth", "bench-core/scale_growth"):
        assert row_of(records, "dfa", Settings(thresholds={name: 1.0})).verdict == "walked back (a)"


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
    assert row.verdict == "not separated from its floor"
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
    for floor, margin in (
        (DepthUtility(floor="bp"), 8.0),
        (DepthUtility(floor="dfa"), 20.0),
        (DepthUtility(floor="dfa", floor_value=0.1), 40.0),
    ):
        judgement = row_of(records, "dfa", Settings(depth_utility=floor)).runs[0].judgement
        assert judgement.margin == pytest.approx(margin)
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
    assert {row.verdict for group in judge_all(records) for row in group.rows} == {
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
    assert row.verdict == "undetermined, diverged 1/3"


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
    assert (row.accuracy, row.verdict) == (None, "single seed, flagged (d)")


def test_order_of_records_does_not_matter() -> None:
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
