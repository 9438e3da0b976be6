"""The diagnostics beyond a, b, c, d and Γ: each against a naive computation, and what it says
when it means nothing."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

import pytest
import torch
from bench_plugins.diagnostics import null_calibration
from nets import METHODS, LinearNet, arch, ready, resmlp, rule, toy_data
from test_diagnostics import audited, diagnostic, naive_gradients
from torch.nn import functional as F

from bench_core.training.audit import Audit
from bench_core.training.diagnostic_tools import credits_become
from bench_core.training.loop import train

FINAL = [
    "perturbation_correlation", "nudging", "null_calibration", "layer0_dominance",
    "gradient_support", "loss_decrease", "drift",
]  # fmt: skip
TRAINING = {
    "epochs": 2, "stop_after": None, "batch_size": 32, "learning_rate": 1e-2,
    "weight_decay": 0.01, "clip_norm": 1.0, "schedule": "cosine", "device": "cpu",
    "precision": "float32",
}  # fmt: skip


def with_params(name, **params):
    kind = type(diagnostic(name))
    return kind(kind.Params(**params))


def loss_of(audit, h, layer):
    """CE per sample from h_l on, in float64, written out."""
    net = audit.double
    for block in list(net.blocks)[layer:]:
        h = h + block(h)
    return F.cross_entropy(net.readout(h), audit.data.test_y[: len(h)], reduction="none")


# --------------------------------------------------------------------------------- ρ and nudging


@pytest.mark.long
def test_rho_is_the_mean_over_draws_of_pearson_over_samples():
    audit = audited("dfa", width=24)
    found = with_params("perturbation_correlation", draws=60).measure(audit)
    # the whole probe at once, with other draws: equal up to the sampling of directions
    e = audit.batches[0].states
    h = torch.cat([batch.states.h[1] for batch in audit.batches])[:1024].double()
    a = torch.cat([batch.credits.audited[1] for batch in audit.batches])[:1024].double()
    assert e.h[1].shape[1] == 24
    draws, values = torch.Generator().manual_seed(9), []
    with torch.no_grad():
        for _ in range(60):
            v = F.normalize(torch.randn(h.shape, generator=draws, dtype=torch.float64), dim=1)
            change = loss_of(audit, h + 1e-3 * v, 1) - loss_of(audit, h, 1)
            values.append(torch.corrcoef(torch.stack([(a * 1e-3 * v).sum(1), change]))[0, 1].item())
    error = stdev(values) / len(values) ** 0.5
    assert found.details["layers"][1] == pytest.approx(fmean(values), abs=6 * error)
    assert found.details["n"] == 1024


def test_nudging_is_the_loss_change_after_a_normalised_step():
    audit = audited("dfa")
    found = diagnostic("nudging").measure(audit)
    h = torch.cat([batch.states.h[2] for batch in audit.batches]).double()
    a = torch.cat([batch.credits.audited[2] for batch in audit.batches]).double()
    step = 0.01 * a / a.square().mean(1, keepdim=True).sqrt()
    expected = float((loss_of(audit, h - step, 2) - loss_of(audit, h, 2)).mean())
    assert found.details["layers"][2] == pytest.approx(expected, rel=1e-4)
    assert found.value == pytest.approx(fmean(found.details["layers"][1:]))


def test_nudging_normalises_a_credit_as_the_rule_gives_it():
    """fa's credit carries 1/N, and the 1e-6 beside it is felt."""
    audit = audited("fa")
    found = diagnostic("nudging").measure(audit)
    h = torch.cat([batch.states.h[0] for batch in audit.batches]).double()
    a = torch.cat([batch.credits.audited[0] for batch in audit.batches]).double()
    assert audit.batches[0].credits.reduction == "mean"
    expected = loss_of(
        audit, h - 0.01 * a / (a.square().mean(1, keepdim=True).sqrt() + 1e-6), 0
    ) - loss_of(audit, h, 0)
    assert found.details["layers"][0] == pytest.approx(float(expected.mean().detach()), rel=1e-6)


def test_of_tokens_both_are_of_the_cls_token():
    """Other tokens stay where they are: the step and the directions are those of the stream that
    Γ and ‖g‖ are read on."""
    net = arch("vit_mini", (3, 8, 8), width=16, depth=2, heads=2, patch=2)
    images = toy_data(64, 192, test=256)
    data = replace(
        images, train_x=images.train_x.view(-1, 3, 8, 8), test_x=images.test_x.view(-1, 3, 8, 8)
    )
    method, net = ready(rule("bp"), net, data)
    audit = Audit(net, method, data, 0, 0)
    h, a = (
        torch.cat(part).double()
        for part in zip(
            *((b.states.h[1], b.credits.audited[1]) for b in audit.batches), strict=True
        )
    )
    step = torch.zeros_like(h)
    step[:, 0] = 0.01 * a[:, 0] / (a[:, 0].square().mean(1, keepdim=True).sqrt() + 1e-6)
    expected = float((loss_of(audit, h - step, 1) - loss_of(audit, h, 1)).mean())
    assert diagnostic("nudging").measure(audit).details["layers"][1] == pytest.approx(
        expected, rel=1e-6
    )
    assert with_params("perturbation_correlation", draws=4).measure(audit).details[
        "layers"
    ] == pytest.approx([1, 1], abs=1e-3)
    for batch in audit.batches:
        batch.credits.audited[1][:, 1:] = (
            1e3  # what the other tokens are credited with is not asked
        )
    assert with_params("perturbation_correlation", draws=4).measure(audit).details["layers"][
        1
    ] == pytest.approx(1, abs=1e-3)


def test_both_are_measured_where_float32_would_round_the_change_away():
    """States of 1e8 before a terminal norm: ΔCE is far below float32's resolution, and the exact
    gradient still predicts it."""
    audit = audited("bp", width=24)
    with torch.no_grad():
        audit.net.embed[1].weight.mul_(1e8)
        audit.net.embed[1].bias.mul_(1e8)
    rho, nudge = (
        diagnostic("perturbation_correlation").measure(audit),
        diagnostic("nudging").measure(audit),
    )
    assert rho.not_diagnostic is None
    assert rho.value > 0.9
    assert -1e-8 < nudge.value < 0


def test_rho_is_not_diagnostic_below_the_resolution_of_float64():
    audit = audited("bp")
    with torch.no_grad():
        audit.net.embed[1].weight.mul_(1e18)
    found = diagnostic("perturbation_correlation").measure(audit)
    assert "units of the last place" in found.not_diagnostic


def test_without_residual_the_layers_are_one_to_depth():
    data = toy_data()
    method, net = ready(rule("dfa"), LinearNet(16, 3, 12, 5), data)
    found = diagnostic("nudging").measure(Audit(net, method, data, 0, 3))
    assert found.details["sites"] == [1, 2, 3]
    assert found.value == pytest.approx(fmean(found.details["layers"][:2]))


# ------------------------------------------------------------------------------ null calibration


@pytest.mark.long
def test_the_null_of_dfa_is_what_fresh_matrices_give_and_training_stands_out_of_it():
    data = toy_data(n=2048)
    method, net = ready(rule("dfa", penalty=1e-2), resmlp(width=32, depth=3), data, epochs=8)
    train(method, net, data, {**TRAINING, "epochs": 8}, 0)
    audit = Audit(net, method, data, 0, 7)
    found = diagnostic("null_calibration").measure(audit)
    g, _ = naive_gradients(audit)
    e = torch.cat([batch.states.output_error for batch in audit.batches])
    draws = torch.Generator().manual_seed(3)
    null = [
        fmean(
            float(
                F.cosine_similarity(
                    e @ torch.randn(5, 32, generator=draws), g[layer], eps=1e-30
                ).mean()
            )
            for layer in (1, 2)
        )
        for _ in range(60)
    ]
    assert found.details["null_deep_std"] == pytest.approx(stdev(null), rel=0.5)
    assert abs(found.details["null_deep_mean"]) < 3 * stdev(null)
    assert found.details["layers"] == pytest.approx(
        diagnostic("alignment").measure(audit).details["unclamped"]
    )
    own, center, spread = (
        found.details[key] for key in ("deep", "null_deep_mean", "null_deep_std")
    )
    assert found.value == pytest.approx((own - center) / spread)
    # the embedding's credit is aligned
    assert 0 in set(audit.net.sites) - set(found.details["flagged"])


def test_a_site_that_no_draw_changes_has_no_null():
    """fa's exact top: Γ there is what it is whatever is drawn, and a deviation of 0 neither
    flags it nor enters the mean."""
    found = diagnostic("null_calibration").measure(audited("fa")).details
    *_, top = found["sites"]
    assert found["without_null"] == [top]
    assert top not in found["flagged"]
    assert found["null_deep_mean"] == pytest.approx(fmean(found["null_mean"][1:-1]))
    assert abs(found["null_deep_mean"]) < 0.1 < found["null_mean"][-1]


@pytest.mark.parametrize(
    ("times", "why"),
    [
        (0.0, "a credit is zero by fresh feedback"),
        (1.0, "Γ of this credit does not depend on what is drawn in setup"),
    ],
)
def test_a_null_that_does_not_vary_says_whether_its_credits_are_zero(
    times: float, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def same(rule: Any, audit: Audit, batch: Any) -> list[torch.Tensor]:
        return [times * batch.g[site] for site in audit.net.sites]

    monkeypatch.setattr(null_calibration, "credits_of", same)
    found = diagnostic("null_calibration").measure(audited("dfa"))
    assert found.value is None
    assert found.not_diagnostic == f"the null does not vary: {why}"


@pytest.mark.long
def test_a_null_leaves_the_method_as_it_was():
    """Its tensors, its optimisers (a saved state must fit them) and its streams."""
    audit = audited("state_bridge")
    tools = audit.method.tools
    before = {name: value.clone() for name, value in audit.method.state_dict().items()}
    updaters, streams = (
        list(tools.updaters),
        [g.get_state() for g in (tools.generator, tools.aux_generator)],
    )
    diagnostic("null_calibration").measure(audit)
    assert all(
        torch.equal(value, before[name]) for name, value in audit.method.state_dict().items()
    )
    assert tools.updaters == updaters
    assert all(
        torch.equal(g.get_state(), s)
        for g, s in zip((tools.generator, tools.aux_generator), streams, strict=True)
    )


@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["noise_credit", "node_perturbation", "forward_gradient", "shuffled_credit"]
)
def test_noise_does_not_stand_out_of_fresh_noise(name):
    """The draws of the null differ, also if a rule draws from the seed of its stream."""
    found = diagnostic("null_calibration").measure(audited(name, width=24))
    assert found.details["null_deep_std"] > 1e-4
    assert abs(found.value) < 4


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "params"),
    [("weight_mirror", {}), ("sign_symmetry", {}), ("sign_symmetry", {"magnitude": "frsf"})],
)
def test_feedback_made_from_the_forward_weights_stands_out_of_a_null_that_knows_other_weights(
    name, params
):
    method, net = ready(rule(name, **params), resmlp(width=24, w2_std=0.3), toy_data())
    found = diagnostic("null_calibration").measure(Audit(net, method, toy_data(), 0, 0))
    assert found.value > 3
    assert found.details["null_deep_mean"] < found.details["deep"] - 0.05


@pytest.mark.parametrize("name", ["alignment", "null_calibration", "layer0_dominance"])
def test_a_cosine_to_a_reference_at_the_floor_is_not_diagnostic(name):
    """‖g_L‖ of 1e-8 at N = 128: b fires, and libraries' clamp is not reached yet."""
    audit = audited("dfa", width=24)
    factor = float(diagnostic("reference_floor").measure(audit).value) / (128 * 4e-8)
    audit = audited("dfa", width=24)
    with torch.no_grad():  # h_L × factor divides the gradient behind the terminal norm by as much
        for parameter in audit.net.embed.parameters():
            parameter.mul_(factor)
        for block in audit.net.blocks:
            block.w2.weight.mul_(factor)
    aligned = diagnostic("alignment").measure(audit)
    audit.history = [
        {
            "epoch": 1,
            "measurements": {"alignment": {"details": aligned.details, "not_diagnostic": None}},
        }
    ]
    assert 1e-8 < diagnostic("reference_floor").measure(audit).details["mean_128"] < 1e-7
    found = diagnostic(name).measure(audit)
    assert found.not_diagnostic == "reference at the floor"
    assert found.value is not None  # kept, and struck through wherever it is shown


@pytest.mark.parametrize("name", ["bp", "ep"])
def test_a_rule_without_feedback_has_no_null(name):
    assert "no feedback" in diagnostic("null_calibration").measure(audited(name)).not_diagnostic


# ------------------------------------------------------------------------ what the training left


def test_drift_and_loss_decrease_are_those_of_the_training():
    data = toy_data()
    method, net = ready(rule("dfa"), resmlp(), data)
    initial = {name: value.detach().clone() for name, value in net.state_dict().items()}
    rows = []
    train(
        method,
        net,
        data,
        TRAINING,
        0,
        lambda row: rows.append({"train_loss": row.train_loss}) or False,
    )
    audit = Audit(net, method, data, 0, 1, initial=initial)
    audit.history = rows
    found = diagnostic("drift").measure(audit)

    def moved(name):
        return float((net.state_dict()[name] - initial[name]).norm() / initial[name].norm())

    assert found.value == pytest.approx(fmean(moved(f"blocks.{i}.w2.weight") for i in range(3)))
    assert found.details["embed"] == pytest.approx(moved("embed.1.weight"))
    assert found.value > 0.1
    fell = diagnostic("loss_decrease").measure(audit)
    assert fell.value == rows[1]["train_loss"] - rows[2]["train_loss"]


def test_frozen_blocks_do_not_drift():
    data = toy_data()
    method, net = ready(rule("dfa", freeze="blocks"), resmlp(), data)
    initial = {name: value.detach().clone() for name, value in net.state_dict().items()}
    train(method, net, data, TRAINING, 0)
    found = diagnostic("drift").measure(Audit(net, method, data, 0, 1, initial=initial))
    assert found.value == 0
    assert found.details["embed"] > 0


def test_gradient_support_counts_samples_over_tau():
    audit = audited()
    g, _ = naive_gradients(audit)
    tau = float(g[2].norm(dim=1).median()) / 128
    found = with_params("gradient_support", tau=tau).measure(audit)
    assert found.details["layers"][2] == pytest.approx(0.5, abs=1e-3)
    expected = [float((layer.norm(dim=1) / 128 > tau).double().mean()) for layer in g]
    assert found.details["layers"] == pytest.approx(expected, abs=2e-3)
    assert found.value == pytest.approx(fmean(found.details["layers"][:-1]))


def test_layer0_dominance_is_read_at_epochs_one_two_and_the_end():
    def row(epoch, layer0, deep, reason=None):
        details = {"sites": [0, 1, 2], "unclamped": [layer0, deep, deep], "deep": deep}
        return {
            "epoch": epoch,
            "measurements": {"alignment": {"details": details, "not_diagnostic": reason}},
        }

    audit = audited()
    audit.history = [
        row(0, 0.0, 0.0),
        row(1, 0.4, 0.1),
        row(2, 0.5, 0.1),
        row(3, 0.1, 0.3),
        row(4, 0.2, 0.25),
    ]
    found = diagnostic("layer0_dominance").measure(audit)
    kept = {entry["epoch"]: round(entry["difference"], 6) for entry in found.details["epochs"]}
    assert kept == {1: 0.3, 2: 0.4, 4: -0.05}
    assert found.value == pytest.approx(-0.05)
    audit.history = [row(1, 0.4, 0.1, "the credit is zero")]
    assert diagnostic("layer0_dominance").measure(audit).not_diagnostic == "the credit is zero"


# ----------------------------------------------------------------- not diagnostic, never a crash


def test_the_trap_of_zeroed_references_is_not_diagnostic():
    """A tool that zeroes |g| ≤ 1e-8 and calls the cosine of an empty row 1 reports perfect
    alignment of pure noise."""
    audit = audited("dfa")
    with torch.no_grad():  # states of 1e9 before a terminal norm leave gradients of 1e-9
        for parameter in audit.net.embed.parameters():
            parameter.mul_(1e9)
    credits_become("noise")(audit)
    g = torch.cat([audit.net.flat(batch.g[0]) / 128 for batch in audit.batches])
    a = torch.cat([audit.net.flat(batch.credits.audited[0]) for batch in audit.batches])
    zeroed = torch.where(g.abs() > 1e-8, g, 0.0)
    empty = zeroed.norm(dim=1) == 0
    trap = torch.where(empty, torch.ones(()), F.cosine_similarity(a, zeroed))
    assert float(trap.mean()) == 1.0
    found = diagnostic("alignment").measure(audit)
    assert "under the clamp of libraries" in found.not_diagnostic
    assert abs(found.value) < 0.05


def test_credit_that_has_not_arrived_is_not_diagnostic():
    """EP's nudge needs L − l steps to reach h_l."""
    data = toy_data()
    method, net = ready(rule("ep", steps=1), resmlp(depth=4), data)
    audit = Audit(net, method, data, 0, 0)
    found = diagnostic("alignment").measure(audit)
    assert "the credit has not arrived" in found.not_diagnostic
    assert found.details["not_diagnostic"].keys() == {"0", "1", "2", "3"}
    assert "zero" in diagnostic("nudging").measure(audit).not_diagnostic


@pytest.mark.parametrize("name", ["alignment", *FINAL])
def test_states_that_are_not_finite_are_said_to_be(name):
    audit = audited()
    audit.initial = {key: value.clone() for key, value in audit.net.state_dict().items()}
    audit.history = [{"epoch": 1, "train_loss": 1.0, "measurements": {}}]
    with torch.no_grad():
        audit.net.blocks[1].w2.bias[0] = float("nan")
    found = diagnostic(name).measure(audit)
    assert found.not_diagnostic is not None or name in ("gradient_support", "drift")


@pytest.mark.parametrize("name", FINAL)
@pytest.mark.parametrize("method", METHODS)
def test_every_diagnostic_takes_every_method_and_a_probe_below_one_batch(name, method):
    data = toy_data(n=64, test=40)
    learner, net = ready(rule(method), resmlp(depth=2), data)
    audit = Audit(net, learner, data, 0, 3)
    few = {"draws": 2} if name in ("perturbation_correlation", "null_calibration") else {}
    found = with_params(name, **few).measure(audit)
    assert found.value is not None or found.not_diagnostic


def test_a_method_without_credit_is_not_diagnostic():
    audit = audited()
    audit.method = None
    for name in ("alignment", "perturbation_correlation", "nudging", "null_calibration"):
        assert diagnostic(name).measure(audit).not_diagnostic


def test_controls_do_not_touch_what_the_method_returns():
    audit = audited()
    before = [
        a.clone()
        for a in audit.method.credit(audit.batches[0].states, audit.batches[0].y, 0).audited
    ]
    credits_become("zero")(audit)
    after = audit.method.credit(audit.batches[0].states, audit.batches[0].y, 0).audited
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    # the batches were computed before the control
    assert replace(audit.batches[0].credits).audited[0].any()
