"""The conformance kit: every built-in passes it, and every check is failed by a plugin that was
planted for it, and by no other."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import some
from planted import (
    ARCHS,
    DATASETS,
    DIAGNOSTICS,
    METHODS,
    PUSHING,
    AsksByName,
    Blend,
    Chain,
    ChangesTheError,
    DigestOfFiles,
    Direct,
    DrawsFromItsOwnGenerator,
    DrawsNothing,
    FitsTheErrorInSetup,
    FixedFeedback,
    ForgetsDecay,
    GoodDataset,
    GoodDiagnostic,
    GoodNet,
    KolenPollack,
    MeasuresTime,
    NoControls,
    OwnGeneratorOfTheRun,
    ReadsAClock,
    StashesStates,
)

from bench_core.errors import UsageError
from bench_core.names import OURS, bare_name
from bench_core.registry import plugins
from bench_core.registry.entry_points import of_file
from bench_core.registry.loading import take
from bench_core.registry.registry import Registry
from bench_core.testing import Outcome, checks, run
from bench_core.testing.kit import REGISTERED

REGISTRY = plugins.load(only={OURS})
BUILT_IN = [
    f"{item.kind}:{item.full_name}" for item in REGISTRY.components if item.kind != "executor"
]
QUICK = {  # of all kinds, and rules of each interface
    name for name in BUILT_IN if not name.startswith("method:") or bare_name(name) in {"bp", "vec"}
} - {"diagnostic:bench-core/perturbation_correlation", "diagnostic:bench-core/settledness"}
PLANTED = [*METHODS, *ARCHS, *DATASETS, *DIAGNOSTICS]


def outcomes(subject: Any, **options: Any) -> dict[str, Outcome]:
    return {bound.name: run(bound) for bound in checks(subject, registry=REGISTRY, **options)}


def failed(found: dict[str, Outcome]) -> dict[str, str]:
    return {name: outcome.reason for name, outcome in found.items() if outcome.status == "failed"}


@pytest.mark.parametrize("name", some(BUILT_IN, QUICK))
def test_every_built_in_passes(name: str) -> None:
    found = outcomes(name)
    assert failed(found) == {}
    absent = any("the data are not here" in outcome.reason for outcome in found.values())
    assert absent or sum(outcome.status == "passed" for outcome in found.values()) >= 3
    assert all(outcome.reason for outcome in found.values() if outcome.status == "skipped")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sign_symmetry", {"magnitude": "brsf"}),
        ("ep", {"readout": "displacement"}),
        ("predictive_coding", {"fixed_prediction": True, "step_size": 1.0}),
        ("synthetic_gradients", {"target": "exact"}),
    ],
)
def test_an_option_that_changes_what_a_rule_uses_changes_what_it_declares(
    name: str, options: dict[str, Any]
) -> None:
    found = outcomes(f"method:bench-core/{name}", options=options, category="passport")
    assert found
    assert failed(found) == {}


@pytest.fixture
def numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data directory with the file that some planted data sets read."""
    digits = (f"{(7 * i) % 360 / 100}\n" for i in range(360))
    (tmp_path / "numbers.txt").write_text("".join(digits))
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path))


@pytest.mark.long
@pytest.mark.parametrize(
    "good",
    [
        Direct, Chain, Blend, FitsTheErrorInSetup, KolenPollack, OwnGeneratorOfTheRun,
        FixedFeedback, GoodNet, DrawsNothing, GoodDataset, DigestOfFiles, GoodDiagnostic,
        ReadsAClock, MeasuresTime, AsksByName,
    ],
)  # fmt: skip
@pytest.mark.usefixtures("numbers")
def test_the_plugins_that_the_planted_ones_are_made_of_pass(good: type) -> None:
    assert failed(outcomes(good)) == {}


@pytest.mark.long
def test_a_state_that_a_rule_changes_in_place_is_not_taken_for_a_draw() -> None:
    found = failed(outcomes(ChangesTheError))  # which adds .1 to the error, so it is not linear
    assert {*found} == {"credit_is_linear_in_the_error", "data_stay_as_they_are"}


def test_an_unknown_line_of_the_passport_is_named_with_its_place_and_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "passed.py").write_text(
        "from bench_core.api import Passport\n\nASKED = Passport(labels=True)\n"
    )
    registry = Registry()
    take(registry, of_file("passed.py"))
    (trouble,) = registry.troubles
    assert trouble.reason.endswith("'labels' (at passed.py:3); did you mean labels_below_head?")


# of several faults that one check must see, one is tried in full
FIRST = {check: bad for bad, check, _ in reversed(PLANTED)}


def test_a_rule_that_changes_the_recipe_fails_its_checks() -> None:
    found = failed(outcomes(ForgetsDecay, only="weights_change_by_the_recipe_alone"))
    (reason,) = found.values()
    assert "a step of the network has the weight decay 0, and the recipe has" in reason


class OneBlockAtATime(Direct):
    """Trains the blocks in turn, each for its share of the epochs."""

    def credit(self, states, y, epoch):
        credits = super().credit(states, y, epoch)
        turn = epoch * self.net.depth // self.task.epochs
        blocks = [c if block == turn else 0 * c for block, c in enumerate(credits.audited)]
        return replace(credits, blocks=blocks)


def test_a_rule_that_trains_its_blocks_in_turn_gives_each_a_credit() -> None:
    (outcome,) = outcomes(OneBlockAtATime, only="some_credit_is_not_zero").values()
    assert outcome.status == "passed", outcome.reason


@pytest.mark.usefixtures("numbers", "tf32")
@pytest.mark.parametrize(
    ("bad", "check", "reason"), PLANTED, ids=[f"{c}-{b.__name__}" for b, c, _ in PLANTED]
)
def test_a_planted_plugin_fails_its_check(bad: type, check: str, reason: str) -> None:
    assert reason in failed(outcomes(bad, only=check))[check]


@pytest.mark.long
@pytest.mark.usefixtures("numbers", "tf32")
@pytest.mark.parametrize("check", FIRST)
def test_the_first_planted_plugin_of_a_check_fails_no_other(check: str) -> None:
    bad = FIRST[check]
    found = failed(outcomes(bad))
    if bad in PUSHING:
        assert found.pop("weights_change_by_the_recipe_alone")
    if bad is StashesStates:
        assert found.pop("an_audit_sees_the_credit_that_trains")
    assert list(found) == [check], found


def test_every_check_has_a_planted_plugin() -> None:
    for subject in (Direct, GoodNet, GoodDataset, GoodDiagnostic):
        list(checks(subject))
    names = {check.name for each in REGISTERED.values() for check in each}
    caught = {check for _, check, _ in PLANTED} | {"the_docstring_is_a_card"}  # it only hints
    assert names - caught == (
        {"runs_on_an_accelerator"} if not torch.cuda.is_available() else set()
    )
    assert all(check.law for each in REGISTERED.values() for check in each)


def test_global_state_that_a_plugin_changes_is_put_back() -> None:
    def state() -> list[Any]:
        generators = [
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),
            random.getstate(),
        ]
        functions = [torch.nn.functional.cross_entropy, torch.backends.cudnn.benchmark]
        return [os.getcwd(), dict(os.environ), *generators, *functions]

    before = state()
    tried = [bad for bad, check, _ in METHODS if check == "global_state_stays_as_it_is"]
    for bad in tried:
        outcomes(bad, only="global_state_stays_as_it_is")
    assert len(tried) >= 7
    assert state() == before


@pytest.mark.long
def test_a_known_failure_is_expected_and_one_that_passes_is_not() -> None:
    bad, check, _ = METHODS[0]
    found = outcomes(bad, expected_failures={check: "known, see the tracker"})
    assert found[check].status == "expected"
    assert found[check].reason.startswith("known, see the tracker (")
    assert failed(found) == {}
    found = outcomes(Direct, expected_failures={check: "long ago"}, only=check)
    assert "take it off the list" in failed(found)[check]


def test_a_check_is_named_as_the_report_writes_it_or_by_a_part_of_its_name_in_a_hint() -> None:
    assert list(outcomes(Direct, only="no batches are kept")) == ["no_batches_are_kept"]
    with pytest.raises(UsageError, match="'other_blocks'; did you mean other_blocks_states_are"):
        outcomes(Direct, only="other blocks")
    with pytest.raises(UsageError, match="did you mean frozen_blocks_stay_as_they_are"):
        outcomes(Direct, only="frozen block stay")


@pytest.mark.parametrize("options", [{"only": "no_sync"}, {"expected_failures": {"no_sync": "?"}}])
def test_a_check_that_is_not_there_is_said(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="no check of a method is called 'no_sync'"):
        outcomes(Direct, **options)


def test_a_rule_that_raises_fails_with_its_own_line() -> None:
    class Raises(Direct):
        def credit(self, states: Any, y: Any, epoch: int) -> Any:
            raise ValueError("broken\nhere")

    found = outcomes(Raises)["a_step_returns_the_loss_of_its_forward_pass"]
    assert found.status == "failed"
    assert found.reason.startswith("it raised ValueError: broken here (at test_conformance.py:")
    assert "Traceback" in found.trace


def test_what_draws_make_meaningless_is_skipped_with_its_reason() -> None:
    found = outcomes(DrawsFromItsOwnGenerator)
    reason = (
        "not reached: the same samples get another credit, and that changes the generator gen of "
        "the rule; mend an_audit_draws_nothing first"
    )
    skipped = {name for name, outcome in found.items() if outcome.reason == reason}
    assert {
        "state_dict_holds_all_that_the_credit_needs",
        "other_blocks_states_are_read_only_if_declared",
        "audits_teach_nothing",
    } <= skipped
    assert found["forward_passes_are_counted"].status == "passed"
    assert found["feedback_is_learned_only_if_declared"].status == "passed"


CONTROLLED = ("it_has_controls", "its_controls_behave", "its_controls_can_fail")


def test_a_time_that_never_fires_needs_no_controls() -> None:
    found = outcomes(MeasuresTime)
    reason = "it never fires and is not repeatable: the right answer is known nowhere"
    assert {(found[name].status, found[name].reason) for name in CONTROLLED} == {
        ("skipped", reason)
    }
    assert found["what_it_measures_can_be_stored"].status == "passed"


def test_without_controls_nothing_is_said_to_behave() -> None:
    found = outcomes(NoControls)
    assert [found[name].status for name in CONTROLLED] == ["failed", "skipped", "skipped"]
    assert "mend it_has_controls first" in found["its_controls_behave"].reason


def test_a_credit_that_is_no_credit_says_what_it_returned() -> None:
    class ReturnsADict(Direct):
        def credit(self, states: Any, y: Any, epoch: int) -> Any:
            return {"audited": super().credit(states, y, epoch).audited}

    found = outcomes(ReturnsADict, only="credits_have_the_shapes_of_their_states")
    assert list(failed(found).values()) == [
        "credit() returned a dict; it returns Credits(audited=[…])"
    ]


def test_a_measurement_that_is_a_number_says_what_it_must_be() -> None:
    class ReturnsAFloat(GoodDiagnostic):
        def measure(self, audit: Any) -> Any:
            return 0.5

    found = outcomes(ReturnsAFloat, only="what_it_measures_can_be_stored")
    assert list(failed(found).values()) == [
        "it raised AttributeError: 'float' object has no attribute 'details'; "
        "measure() returned a float; it returns Measured(value)"
    ]


def test_a_rule_for_other_networks_is_skipped_with_its_reason() -> None:
    class Picky(Direct):
        def unsupported(self, net: Any) -> str | None:
            return "needs spikes"

    found = outcomes(Picky)
    assert {outcome.status for outcome in found.values()} == {"skipped"}
    assert "needs spikes" in found["credits_have_the_shapes_of_their_states"].reason


def test_a_rule_without_a_card_gets_a_hint() -> None:
    class Bare(Direct):
        """a_l = e·B_l.

        Source: me.
        """

    found = outcomes(Bare, only="the_docstring_is_a_card")["the_docstring_is_a_card"]
    assert found.status == "skipped"
    assert "`Ours:` and `Verified:`" in found.reason


def test_options_of_the_component_count() -> None:
    found = outcomes("bench-core/ep", options={"steps": 1}, only="the_credit_tends_to_the_gradient")
    assert list(found) == ["the_credit_tends_to_the_gradient"]
    with pytest.raises(UsageError, match="did you mean dfa"):
        outcomes("dfaa")


def test_a_check_in_a_test_file_fails_skips_and_passes_as_pytest_does() -> None:
    bad, check, reason = METHODS[0]
    (bound,) = checks(bad, only=check)
    with pytest.raises(pytest.fail.Exception, match="shape"):
        bound()
    assert reason
    (bound,) = checks(Direct, only="the_top_credit_is_exact")
    with pytest.raises(pytest.skip.Exception, match="not declared"):
        bound()
    (bound,) = checks(bad, only=check, expected_failures={check: "known"})
    with pytest.raises(pytest.xfail.Exception, match="known"):
        bound()
    (bound,) = checks(Direct, only=check)
    bound()
