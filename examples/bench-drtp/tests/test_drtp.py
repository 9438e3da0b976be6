"""The conformance checks of bench, and tests of the rule's mathematics."""

import torch
from bench_drtp.rule import RandomTargetProjection

from bench_core.testing import conformance
from bench_core.testing.subjects import MethodSubject


@conformance("drtp")
def test_conformance(check):
    check()


def test_the_credit_of_a_class_is_its_row_of_the_feedback():
    trial = MethodSubject(RandomTargetProjection, {}).trial("residual")
    states, y = trial.states()
    for site, a in zip(trial.net.sites, trial.credits(states, y).audited, strict=True):
        for number, label in enumerate(y.tolist()):
            assert torch.equal(a[number], trial.method.kept[f"B_{site}"][label])


def test_the_feedback_is_bounded_as_kaiming_says():
    trial = MethodSubject(RandomTargetProjection, {}).trial("residual")
    for B in trial.method.kept.values():
        assert B.abs().max() <= (6 / B.shape[1]) ** 0.5
