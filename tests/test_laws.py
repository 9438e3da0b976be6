"""The laws that the learning rules obey: each test names the law that it holds."""

from __future__ import annotations

import copy
import math
import re
from dataclasses import replace

import pytest
import torch
from bench_plugins.methods.bp import Backprop
from bench_plugins.methods.bridge import depth_features
from bench_plugins.methods.dfa import DirectFeedbackAlignment
from bench_plugins.methods.relaxation import errors
from conftest import some
from nets import LOCAL, METHODS, Exact, LinearNet, gradients, ready, resmlp, rule, toy_data
from torch import nn
from torch.nn import functional as F

from bench_core.api import States
from bench_core.errors import BenchError
from bench_core.training.build import Built
from bench_core.training.credit import rms
from bench_core.training.data import Held
from bench_core.training.evaluation import evaluate, reset_accuracies
from bench_core.training.loop import train
from bench_core.training.net import exact_gradients, tensors_of
from bench_core.training.optimizer import Updater, cosine
from bench_core.training.rng import stream
from bench_core.training.setup import set_up_beside_copy

FEW = {"bp", "fa", "kolen_pollack", "ep", "vec"}  # rules of each interface, for `make test`

# --------------------------------------------------------------------------- the local machinery


@pytest.mark.parametrize("options", [{"terminal_norm": False}, {"residual": False}])
def test_bp_through_the_local_path_of_other_residual_networks_is_loss_backward(
    data, batch, options
):
    """c_l = g_{l+1}, embedding g_0, no normalisation, no clipping: the gradients are those of
    loss.backward() to 1e-6."""
    x, y = batch
    method, net = ready(Exact(Exact.Params(normalize="none")), resmlp(**options), data)
    local = gradients(method, net, x, y)
    net.zero_grad()
    F.cross_entropy(net.states(x).logits, y).backward()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(local[name], parameter.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("penalty", [0.0, 0.3])
@pytest.mark.parametrize("normalize", ["sample", "batch", "none"])
def test_the_one_backward_pass_descends_the_surrogate_as_it_is_written(
    data, batch, name, penalty, normalize
):
    """mean ⟨f_l, sg(rms(c_l))⟩ + λ·mean ‖f_l‖² per block, mean ⟨h_0, sg(rms(a_0))⟩, CE on
    sg(h_L), written out naively."""
    x, y = batch
    method, net = ready(rule(name, penalty=penalty, normalize=normalize), resmlp(), data)
    twin_method, twin = copy.deepcopy((method, net))
    found = gradients(method, net, x, y, epoch=3)

    states, plain = twin_method.local_states(x), twin.states(x, local=True)
    seen = states.detach(y)
    twin_method.learn(seen, y, 3)
    credits = twin_method.credit(seen, y, 3)
    loss = F.cross_entropy(states.logits, y)
    loss = loss + (states.h[0] * rms(credits.for_embed, 1e-6, normalize)).sum(1).mean()
    for f, own, c in zip(states.f, plain.f, credits.for_blocks, strict=True):
        loss = loss + (f * rms(c, 1e-6, normalize)).sum(1).mean()
        loss = loss + penalty * (own**2).sum(1).mean()
    parameters = dict(twin.named_parameters())
    expected = dict(
        zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True)
    )
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, rtol=2e-4, atol=1e-6)


def test_rms_has_unit_mean_square_per_sample_and_per_batch():
    a = torch.randn(8, 100) * torch.logspace(-2, 2, 8).unsqueeze(1)
    torch.testing.assert_close(rms(a).square().mean(1), torch.ones(8), rtol=1e-3, atol=0)
    assert math.isclose(float(rms(a, mode="batch").square().mean()), 1, rel_tol=1e-3)
    assert rms(a, mode="batch").square().mean(1).std() > 1  # samples keep their relative size
    assert torch.equal(rms(a, mode="none"), a)


def test_eps_switches_the_normalisation_off_for_tiny_credits():
    """The 1e-6 that decides fa's fate: a credit far below it keeps its size, relative to it."""
    a = torch.randn(4, 50)
    torch.testing.assert_close(rms(1e-12 * a), 1e-6 * a, rtol=1e-3, atol=0)


@pytest.mark.parametrize(("eps", "same"), [({"per_n": 1e-6 * 32}, True), ({"per_n": 1e-6}, False)])
def test_normalize_eps_per_n_is_divided_by_the_batch_size(data, batch, eps, same):
    one = gradients(*ready(rule("fa", normalize_eps=1e-6), resmlp(), data), *batch)
    other = gradients(*ready(rule("fa", normalize_eps=eps), resmlp(), data), *batch)
    assert all(torch.equal(one[name], other[name]) for name in one) == same


def test_each_group_is_clipped_on_its_own(data):
    """After the step every group's gradient has norm at most 1, and one that was below is
    untouched."""
    net = resmlp()
    updater = Updater(net.groups(), 1e-3, 0.0, 1.0)
    assert list(updater.groups) == ["embed", "block_0", "block_1", "block_2", "readout"]
    scales = {"embed": 100.0, "readout": 1e-6}
    loss = sum(scales.get(n, 1.0) * p.sum() for n, group in updater.groups.items() for p in group)
    updater.descend(loss)
    norms = {
        name: math.sqrt(sum(float(p.grad.square().sum()) for p in group))
        for name, group in updater.groups.items()
    }
    size = math.sqrt(sum(p.numel() for p in updater.groups["readout"]))
    assert norms["readout"] == pytest.approx(1e-6 * size, rel=1e-4)
    assert all(norms[name] == pytest.approx(1.0, rel=1e-4) for name in norms if name != "readout")


@pytest.mark.parametrize("largest", [1.0, 1e-3, 1e6])
def test_clipping_equals_torchs_own_bit_by_bit(largest):
    """Also where a parameter, or a whole group, has no gradient."""
    torch.default_generator.manual_seed(0)
    shapes = [(), (7,), (5, 3), (60, 70)]
    groups = [[torch.nn.Parameter(torch.randn(s)) for s in shapes] for _ in range(5)]
    for scale, own in enumerate(groups[:-1]):
        for parameter in own[scale % 2 :]:
            parameter.grad = torch.randn_like(parameter) * 100.0 ** (scale - 2)
    expected = copy.deepcopy(groups)
    for own, other in zip(groups, expected, strict=True):
        for parameter, copied in zip(own, other, strict=True):
            copied.grad = None if parameter.grad is None else parameter.grad.clone()
        torch.nn.utils.clip_grad_norm_(other, largest)
    Updater({str(i): own for i, own in enumerate(groups)}, 1e-3, 0.0, largest).clip(largest)
    for own, other in zip(groups, expected, strict=True):
        for parameter, copied in zip(own, other, strict=True):
            assert (parameter.grad is None) == (copied.grad is None)
            assert parameter.grad is None or torch.equal(parameter.grad, copied.grad)


def test_cosine_schedule_starts_at_lr_and_would_end_at_zero():
    assert cosine(0.1, 0, 100) == pytest.approx(0.1)
    assert cosine(0.1, 50, 100) == pytest.approx(0.05)
    assert cosine(0.1, 99, 100) == pytest.approx(0.05 * (1 + math.cos(0.99 * math.pi)))
    assert cosine(0.1, 100, 100) == pytest.approx(0.0)


# ---------------------------------------------------------------------------------- single rules


def test_fa_with_the_transposed_forward_weights_is_bp_on_a_linear_network(data, batch):
    """Without residuals and normalisation, B_l = W_l (the weights that lead from h_l to h_{l+1})
    gives BP's gradients."""
    x, y = batch
    torch.default_generator.manual_seed(0)
    net = LinearNet(16, 3, 12, 5)
    method, _ = ready(rule("fa", normalize="none"), net, data)
    for layer, block in enumerate(net.blocks):
        method.kept[f"B_{layer}"] = block.weight.detach().clone()  # (above, below)
    local = gradients(method, net, x, y)
    net.zero_grad()
    F.cross_entropy(net.states(x).logits, y).backward()
    for name, parameter in net.named_parameters():
        # fa's credit is that of the batch mean: it carries 1/N
        scale = 1.0 if name.startswith("readout") else 1 / len(x)
        torch.testing.assert_close(local[name], scale * parameter.grad, rtol=1e-4, atol=1e-8)


def test_fa_has_an_exact_top_and_carries_one_over_n(data, batch):
    x, y = batch
    method, net = ready(rule("fa"), resmlp(), data)
    states = net.states(x).detach(y)
    credits = method.credit(states, y, 0)
    torch.testing.assert_close(
        credits.audited[-1], exact_gradients(net, states.h[0], y, "mean")[-1]
    )
    assert credits.reduction == "mean"


def test_dfa_is_linear_in_the_output_error(data, batch):
    x, y = batch
    method, net = ready(rule("dfa"), resmlp(), data)
    states = net.states(x).detach(y)
    before = [a.clone() for a in method.credit(states, y, 0).audited]
    doubled = States(states.x, states.h, states.f, states.logits, 2 * states.output_error)
    for a, b in zip(before, method.credit(doubled, y, 0).audited, strict=True):
        torch.testing.assert_close(2 * a, b)


def test_dfa_feedback_has_variance_one_over_classes():
    data = toy_data(classes=10)
    method, _ = ready(rule("dfa"), resmlp(width=512, classes=10), data)
    assert len(method.kept) > 0
    for B in method.kept.values():
        assert B.shape == (10, 512)
        assert float(B.square().mean()) == pytest.approx(0.1, rel=0.1)


def test_feedback_does_not_depend_on_the_initial_weights_nor_the_other_way(data):
    """Streams are separate: the seed alone decides the feedback, whatever the network's weights
    are."""
    one, _ = ready(rule("dfa"), resmlp(seed=1), data, seed=7)
    other, _ = ready(rule("dfa"), resmlp(seed=2), data, seed=7)
    assert all(torch.equal(one.kept[name], other.kept[name]) for name in one.kept)
    third, _ = ready(rule("dfa"), resmlp(seed=1), data, seed=8)
    assert not torch.equal(one.kept["B_0"], third.kept["B_0"])


def doubled(net, data):
    """Net and data in float64."""
    return net.double(), replace(data, train_x=data.train_x.double(), test_x=data.test_x.double())


def test_ep_prediction_error_is_the_gradient_to_a_thousandth(data):
    """β → 0, T → ∞: the residual read-out equals g_l at every layer (float64; the rest is of the
    order of β)."""
    net, data = doubled(resmlp(), data)
    x, y = data.train_x[:16], data.train_y[:16]
    method, net = ready(rule("ep", beta=1e-6, steps=800, step_size=0.35), net, data)
    states = net.states(x).detach(y)
    credits = method.credit(states, y, 0)
    g = exact_gradients(net, states.h[0], y)
    for a, site in zip(credits.audited, net.sites, strict=True):
        torch.testing.assert_close(a, g[site], rtol=1e-3, atol=3e-5 * float(g[site].abs().max()))


def test_ep_displacement_points_the_same_way_but_is_longer(data):
    """The displacement is the gradient times a positive matrix that grows with l."""
    net, data = doubled(resmlp(), data)
    x, y = data.train_x[:16], data.train_y[:16]
    method, net = ready(rule("ep", beta=1e-4, steps=600, step_size=0.35), net, data)
    states = net.states(x).detach(y)
    credits = method.credit(states, y, 0)
    g = exact_gradients(net, states.h[0], y)
    ratios = []
    for a, site in zip(credits.readouts["displacement"], net.sites, strict=True):
        assert float(F.cosine_similarity(a, g[site]).mean()) > 0.9
        ratios.append(float((a.norm(dim=1) / g[site].norm(dim=1)).mean()))
    assert ratios == sorted(ratios)
    assert ratios[-1] > 2


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_ep_credits_of_layers_that_the_nudge_has_not_reached_are_zero(data, batch, steps):
    """The nudge moves down one layer per step: a_l is exactly 0 while T ≤ L − l."""
    x, y = batch
    method, net = ready(rule("ep", steps=steps), resmlp(), data)
    credits = method.credit(net.states(x).detach(y), y, 0)
    for name in ("prediction_error", "displacement"):
        for a, site in zip(credits.readouts[name], net.sites, strict=True):
            # a displaced h_{l+1} shows in ε_{l+1} at once, in h_l one step later
            reached = steps > net.depth - site
            assert bool((a != 0).any()) == reached, (name, site)


def test_ep_energy_is_exactly_zero_at_the_free_state(data, batch):
    _, net = ready(rule("ep"), resmlp(), data)
    states = net.states(batch[0]).detach()
    assert all(float(e.detach().abs().max()) == 0.0 for e in errors(net, states.h, states.h[0]))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_state_bridge_credit_is_the_slope_of_the_loss_at_its_prediction(data, reduction):
    """Finite differences in float64: moving h_l by ε·v changes the CE at G's prediction by
    ε·⟨a_l, v⟩."""
    net, data = doubled(resmlp(), data)
    x, y = data.train_x[:8], data.train_y[:8]
    method, net = ready(rule("state_bridge", reduction=reduction), net, data)
    method.bridge.double()
    states = net.states(x).detach(y)
    credits = method.credit(states, y, 0)
    assert credits.reduction == reduction

    def loss(h, layer):
        t = torch.full((8,), layer / net.depth, dtype=torch.float64)
        return F.cross_entropy(
            net.readout(method.bridge(h, t, states.output_error)), y, reduction=reduction
        )

    for a, site in zip(credits.audited, net.sites, strict=True):
        v = torch.randn_like(states.h[site])
        step = 1e-5
        measured = (
            loss(states.h[site] + step * v, site) - loss(states.h[site] - step * v, site)
        ) / (2 * step)
        assert float(measured.detach()) == pytest.approx(float((a * v).sum()), rel=1e-4, abs=1e-9)


def test_state_bridge_learns_to_predict_the_last_state(data, batch):
    x, y = batch
    method, net = ready(rule("state_bridge"), resmlp(), data)
    states = net.states(x).detach(y)

    def miss():
        t = torch.zeros(len(x))
        return float(
            (
                (method.bridge(states.h[0], t, states.output_error) - states.h[-1]).square().sum(1)
            ).mean()
        )

    before = miss()
    for _ in range(200):
        method.learn(states, y, 0)
    assert miss() < 0.3 * before


@pytest.mark.long
def test_credit_bridge_value_meets_its_boundary_conditions_after_training(data, batch):
    """V(h_L) → CE and ∂V/∂h_L → the direction of ∂CE/∂h_L: trained on one batch, both misses
    shrink."""
    x, y = batch
    method, net = ready(rule("credit_bridge"), resmlp(), data)
    states = net.states(x).detach(y)
    losses = F.cross_entropy(states.logits, y, reduction="none")

    def misses():
        one = torch.ones(len(x))
        top = states.h[-1].clone().requires_grad_()
        value = method.value(top, one, states.output_error).squeeze(1)
        (slope,) = torch.autograd.grad(value.sum(), top)
        g = exact_gradients(net, states.h[0], y)[-1]
        return float((value - losses).square().mean()), float(
            1 - F.cosine_similarity(slope, g).mean()
        )

    before = misses()
    for _ in range(300):
        method.learn(states, y, 0)
    after = misses()
    assert after[0] < 0.2 * before[0]
    assert after[1] < 0.5 * before[1]


def test_credit_bridge_target_is_minus_tau_log_mean_exp(data, batch, monkeypatch):
    """With σ = 0 all K draws agree and the target is V̄ itself; with noise it is at most the
    mean of the draws (Jensen)."""
    from bench_plugins.methods import credit_bridge

    x, y = batch
    method, net = ready(rule("credit_bridge"), resmlp(), data)
    states = net.states(x).detach(y)
    one = torch.ones(len(x))
    monkeypatch.setattr(credit_bridge, "SIGMA", 0.0)
    plain = method.slow(states.h[-1], one, states.output_error).squeeze(1)
    torch.testing.assert_close(
        method.target(states.h[-1], one, states.output_error), plain, rtol=1e-4, atol=1e-5
    )
    monkeypatch.setattr(credit_bridge, "SIGMA", 30.0)
    method.slow.trunk[-1].weight.data.mul_(100)
    draws = torch.Generator()
    draws.set_state(method.tools.aux_generator.get_state())
    target = method.target(states.h[-1], one, states.output_error)
    noise = torch.randn(credit_bridge.K, *states.h[-1].shape, generator=draws)
    values = torch.stack(
        [method.slow(states.h[-1] + 30.0 * z, one, states.output_error).squeeze(1) for z in noise]
    )
    least = values.double().min(0).values
    expected = least - 0.1 * torch.exp(-(values.double() - least) / 0.1).mean(0).log()
    torch.testing.assert_close(target.double(), expected, rtol=1e-3, atol=1e-3)
    assert bool((target <= values.mean(0) + 1e-4).all())


def test_credit_bridge_trains_with_dfa_while_it_warms_up(data, batch):
    x, y = batch
    method, net = ready(rule("credit_bridge", warmup=0.5), resmlp(), data)
    states = net.states(x).detach(y)
    # 4 epochs: 0 and 1 are warm-up
    warm, own = (method.credit(states, y, 1), method.credit(states, y, 2))
    dfa = method.dfa.credit(states, y, 0)
    assert not warm.in_use
    assert own.in_use
    assert all(torch.equal(a, b) for a, b in zip(warm.for_blocks, dfa.for_blocks, strict=True))
    assert torch.equal(warm.for_embed, dfa.for_embed)
    assert all(torch.equal(a, b) for a, b in zip(warm.audited, own.audited, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(own.for_blocks, own.audited, strict=True))


def test_credit_bridge_slow_copy_follows_with_momentum(data, batch):
    x, y = batch
    method, net = ready(rule("credit_bridge"), resmlp(), data)
    before = [p.clone() for p in method.slow.parameters()]
    method.learn(net.states(x).detach(y), y, 0)
    for old, slow, fast in zip(
        before, method.slow.parameters(), method.value.parameters(), strict=True
    ):
        torch.testing.assert_close(slow, 0.995 * old + 0.005 * fast)


def test_depth_features_tell_all_layers_apart():
    features = depth_features(torch.linspace(0, 1, 13))
    assert features.shape == (13, 32)
    assert float(torch.cdist(features, features).add(torch.eye(13) * 9).min()) > 0.05


# ------------------------------------------------------------------------------ every rule alike


@pytest.mark.parametrize("name", METHODS)
def test_zero_learning_rate_changes_nothing(few, name):
    method, net = ready(rule(name), resmlp(), few, learning_rate=0.0)
    before = copy.deepcopy(net.state_dict())
    train(method, net, few, {**TRAINING_ONE, "learning_rate": 0.0}, 0)
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in before.items())


TRAINING_ONE = {
    "epochs": 2, "stop_after": 1, "batch_size": 32, "learning_rate": 1e-3, "weight_decay": 0.01,
    "clip_norm": 1.0,
    "schedule": "cosine", "device": "cpu", "precision": "float32",
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_bits(few, name):
    def run(seed):
        method, net = ready(rule(name), resmlp(seed), few, seed=seed)
        row = train(method, net, few, TRAINING_ONE, seed)
        return row.train_loss, {**net.state_dict(), **method.state_dict()}

    (loss, one), (again, other), (third, _) = run(3), run(3), run(4)
    assert loss == again
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert loss != third


@pytest.mark.parametrize("name", METHODS)
def test_what_is_observed_does_not_change_what_is_trained(few, name):
    """Audits between the epochs draw from no stream of the training."""
    from bench_core.training.audit import Audit

    def run(look):
        method, net = ready(rule(name), resmlp(), few)
        rows = train(method, net, few, TRAINING_ONE, 0, look(method, net))
        return rows.train_loss, net.state_dict()

    loss, plain = run(lambda method, net: lambda row: None)
    watched_loss, watched = run(
        lambda method, net: lambda row: Audit(net, method, few, 0, 0).batches and None
    )
    assert loss == watched_loss
    assert all(torch.equal(plain[key], watched[key]) for key in plain)


@pytest.mark.parametrize("name", METHODS)
def test_frozen_blocks_keep_their_weights_while_the_rest_learns(few, name):
    method, net = ready(rule(name, freeze="blocks"), resmlp(), few)
    before = copy.deepcopy(net.state_dict())
    assert {key.startswith("blocks") for key in before} == {True, False}
    train(method, net, few, TRAINING_ONE, 0)
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]) == key.startswith("blocks"), key


@pytest.mark.parametrize("options", [{"freeze": "blocks"}, {"train_last": 1}, {}])
def test_a_rule_that_changes_a_frozen_block_fails(few, options):
    """It would not be the floor that it is called. A block that learns may change."""
    method, net = ready(rule("dfa", **options), resmlp(), few)
    credit = method.credit

    def meddling(*states):
        next(net.blocks[0].parameters()).data.mul_(0.99)
        return credit(*states)

    method.credit = meddling
    net.blocks.requires_grad_(True)  # as a rule may do in its setup
    if not options:
        train(method, net, few, TRAINING_ONE, 0)
        return
    with pytest.raises(BenchError, match=r"^blocks\.0\.\S+ is frozen and changed in epoch 1, so"):
        train(method, net, few, TRAINING_ONE, 0)


class Prefit(DirectFeedbackAlignment):
    """Changes the blocks before training."""

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        with torch.no_grad():
            for value in net.parameters():
                value.mul_(2)
            for value in net.buffers():
                value.add_(1)


@pytest.mark.parametrize(("options", "random"), [({}, 0), ({"freeze": "blocks"}, 3),
                                                 ({"train_last": 1}, 2)])  # fmt: skip
def test_frozen_blocks_are_the_random_ones_of_the_seed(few, options, random):
    """A rule that trains blocks in its `setup` would be its own floor."""
    drawn = copy.deepcopy(resmlp())
    net = resmlp()
    for block in net.blocks:
        block.register_buffer("seen", torch.zeros(2))  # as running statistics
    ready(Prefit(Prefit.Params.model_validate(options)), net, few)
    pairs = list(zip(net.blocks, drawn.blocks, strict=True))
    factor = [1] * random + [2] * (len(pairs) - random)
    for times, (block, before) in zip(factor, pairs, strict=True):
        for now, was in zip(block.parameters(), before.parameters(), strict=True):
            assert torch.equal(now, times * was)
    assert all(bool((block.seen == 0).all()) for block in net.blocks[:random])
    for now, was in zip(net.readout.parameters(), drawn.readout.parameters(), strict=True):
        assert torch.equal(now, 2 * was)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda net: setattr(net.blocks[1], "w1", torch.nn.Linear(16, 999)), "blocks.1.w1.bias"),
        (lambda net: setattr(net.blocks[1], "more", torch.nn.Linear(2, 3)), "blocks.1.more.bias"),
        (lambda net: delattr(net.blocks[1], "w1"), "blocks.1.w1.bias"),
        # of equal shapes, but the optimiser would train the old one
        (lambda net: net.blocks.__setitem__(2, copy.deepcopy(net.blocks[2])), "blocks.2."),
        (lambda net: net.blocks[0].to(torch.bfloat16), "blocks.0."),
        (lambda net: setattr(net.blocks[1].w1.bias, "data", torch.ones(1)), "blocks.1.w1.bias"),
        (lambda net: net.blocks[0].register_buffer("seen", torch.ones(5)), "blocks.0.seen"),
        (lambda net: delattr(net.blocks[0], "seen"), "blocks.0.seen"),
        (lambda net: net.blocks[0].register_buffer("feedback", torch.ones(3)), None),
    ],
)
def test_a_rule_that_swaps_parameters_of_the_network_is_refused(few, change, name):
    class Swaps(DirectFeedbackAlignment):
        def setup(self, net, task, tools):
            super().setup(net, task, tools)
            change(net)

    net = resmlp()
    net.blocks[0].register_buffer("seen", torch.zeros(2))  # as running statistics
    if name is None:  # buffers may be added
        ready(Swaps(Swaps.Params()), net, few)
        return
    with pytest.raises(BenchError, match=rf"^setup\(\) replaces {re.escape(name)}.*, and another"):
        ready(Swaps(Swaps.Params()), net, few)


def hooked(net):
    net.readout.register_forward_hook(lambda module, inputs, out: out if module.training else -out)


def replaced(net):
    forward = net.readout.forward
    net.readout.forward = lambda x: forward(x) if net.training else 0 * forward(x)


@pytest.mark.parametrize("change", [hooked, replaced])
def test_an_accuracy_is_that_of_the_network_alone(few, change):
    """A rule that changes what the network computes in eval mode is refused, with or without a
    look at its first samples: its accuracy would be that of another network."""

    class Changes(DirectFeedbackAlignment):
        def setup(self, net, task, tools):
            super().setup(net, task, tools)
            change(net)

    net, method = resmlp(), Changes(Changes.Params())
    bare = set_up_beside_copy(method, net, few, TRAINING_ONE, 0)
    with pytest.raises(BenchError, match="in eval mode the network gives other outputs"):
        train(method, net, few, {**TRAINING_ONE, "epochs": 1}, 0, bare=bare)


def test_a_hook_that_spares_the_first_samples_changes_no_accuracy(few):
    class Spares(DirectFeedbackAlignment):
        def setup(self, net, task, tools):
            super().setup(net, task, tools)
            net.embed.register_forward_pre_hook(self.seen)
            net.readout.register_forward_hook(self.answer)

        def seen(self, module, inputs):
            self.alike = torch.equal(inputs[0][:1], few.test_x[:1])

        def answer(self, module, inputs, out):
            return out if module.training or self.alike else torch.zeros_like(out)

    def trained(rule_class):
        net, method = resmlp(), rule_class(rule_class.Params())
        bare = set_up_beside_copy(method, net, few, TRAINING_ONE, 0)
        train(method, net, few, {**TRAINING_ONE, "epochs": 2}, 0, bare=bare)
        return evaluate(bare, few)

    assert trained(Spares) == trained(DirectFeedbackAlignment)


@pytest.mark.parametrize("back", [False, True])
def test_the_learning_rate_of_the_network_belongs_to_the_recipe(few, back):
    """Also where a rule sets it back after each step, or changes one group of several."""

    class Faster(DirectFeedbackAlignment):
        def step(self, x, y, epoch):
            groups = self.tools.updater.optimiser.param_groups
            groups[0]["lr"] = 0.5
            loss = super().step(x, y, epoch)
            groups[0]["lr"] = 1e-3 if back else 0.5
            return loss

    method, net = ready(Faster(Faster.Params()), resmlp(), few)
    told = r"a step of the network has the learning rate 0.5, and the recipe has 0.001"
    with pytest.raises(BenchError, match=told):
        train(method, net, few, {**TRAINING_ONE, "epochs": 1}, 0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("weight_decay", 0.0), "has the weight decay 0, and the recipe has 0.01"),
        (
            ("betas", (0.0, 0.999)),
            r"has the betas \(0.0, 0.999\), and the recipe has \(0.9, 0.999\)",
        ),
        (("clip_norm", None), "has the clip norm None, and the recipe has 1:"),
    ],
)
@pytest.mark.parametrize("early", [False, True])
def test_all_settings_of_the_optimiser_belong_to_the_recipe(few, change, told, early):
    """Also where a rule changes them in `setup`, before the first epoch."""
    name, value = change

    class Other(DirectFeedbackAlignment):
        def apply(self):
            updater = self.tools.updater
            if name == "clip_norm":
                updater.clip_norm = value
            else:
                updater.optimiser.param_groups[0][name] = value

        def setup(self, net, task, tools):
            super().setup(net, task, tools)
            if early:
                self.apply()

        def learn(self, states, y, epoch):
            if not early:
                self.apply()

    method, net = ready(Other(Other.Params()), resmlp(), few)
    with pytest.raises(BenchError, match=told):
        train(method, net, few, {**TRAINING_ONE, "epochs": 1}, 0)


class Plain(DirectFeedbackAlignment):
    """Trains the readout by gradient descent of its own, or by other steps."""

    class Params(DirectFeedbackAlignment.Params):
        kind: str = ""

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        self.count = 0

    def step(self, x, y, epoch):
        self.count += 1
        turn = self.count % 2 == 0
        if self.params.kind == "own":
            loss = self.net.loss(self.net.states(x).logits, y)
            weights = list(self.net.readout.parameters())
            with torch.no_grad():
                for w, g in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                    w.sub_(1e-3 * g)
            for p in weights:
                p.requires_grad_(False)
        if self.params.kind == "turns":
            for p in self.net.readout.parameters():
                p.requires_grad_(turn)
        before = [p.detach().clone() for p in self.net.readout.parameters()]
        for _ in range(1 + (self.params.kind == "twice")):
            loss = super().step(x, y, epoch)
        with torch.no_grad():
            for p, old in zip(self.net.readout.parameters(), before, strict=True):
                p.add_(p - old if self.params.kind == "longer" else 0.0)
        for p in self.net.readout.parameters():
            p.requires_grad_(True)
        return loss


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("", (1, 1)), ("own", (0, 1)), ("turns", (0.5, 1)), ("twice", (2, 2)), ("longer", (0, 1))],
)
def test_steps_are_counted_over_the_parameters_that_change(few, kind, expected):
    method, net = ready(Plain(Plain.Params(kind=kind)), resmlp(), few)
    initial = {name: value.clone() for name, value in net.state_dict().items()}
    made = Built(net, method, None, initial, {}, net)
    assert made.steps_per_batch(0) is None
    assert made.steps_per_batch(2) is None  # nothing has changed
    train(method, net, few, {**TRAINING_ONE, "epochs": 2, "stop_after": 2}, 0)
    assert made.method.task.steps_per_epoch % 2 == 0
    assert made.steps_per_batch(2) == expected


def test_a_write_to_a_moment_makes_a_rule_suspect_in_a_step_that_is_not_watched(few):
    """Then every later step is watched."""
    method, _ = ready(DirectFeedbackAlignment(DirectFeedbackAlignment.Params()), resmlp(), few)
    updater = method.tools.updater
    x, y = next(few.test_batches(32))
    for number in range(3):
        method.step(x, y, 0)
        assert (updater.suspect, updater.others) == (False, False), number
    next(iter(updater.optimiser.state.values()))["exp_avg"].mul_(1.0)
    method.step(x, y, 0)
    assert (updater.suspect, updater.others) == (True, False)


def test_a_watched_step_keeps_no_second_copy_of_the_network(few):
    method, net = ready(DirectFeedbackAlignment(DirectFeedbackAlignment.Params()), resmlp(), few)
    updater, held = method.tools.updater, []
    descend = updater.optimiser.step
    updater.optimiser.step = lambda: (held.append(updater.seen), descend())
    x, y = next(few.test_batches(32))
    with updater.watched():
        method.step(x, y, 0)
        parameters = sum(p.numel() for p in net.parameters())
        assert sum(copy.numel() for copy in updater.seen) < 1.2 * parameters  # moments by sums
    assert held == [None]
    assert updater.seen is None


@pytest.mark.parametrize("data", [False, True])
@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq", "step"])
def test_moments_of_the_optimiser_change_by_its_steps_alone(few, name, data):
    """Also by `.data`, of whose writes torch keeps no count."""

    class Shrinks(DirectFeedbackAlignment):
        def after_update(self, epoch):
            for own in self.tools.updater.optimiser.state.values():
                (own[name].data if data else own[name]).mul_(0.5)

    method, net = ready(Shrinks(Shrinks.Params()), resmlp(), few)
    train(method, net, few, {**TRAINING_ONE, "epochs": 1}, 0)
    assert method.tools.updater.others
    honest, net = ready(DirectFeedbackAlignment(DirectFeedbackAlignment.Params()), resmlp(), few)
    train(honest, net, few, {**TRAINING_ONE, "epochs": 1}, 0)
    assert (honest.tools.updater.others, honest.tools.updater.suspect) == (False, False)


def test_the_accuracy_with_initial_blocks_is_that_of_such_a_network(few):
    """Embedding and readout as trained, all blocks as before training; nothing else changes."""
    method, net = Backprop(Backprop.Params()), resmlp()
    bare = set_up_beside_copy(method, net, few, {**TRAINING_ONE, "learning_rate": 0.02}, 0)
    initial = {name: value.clone() for name, value in net.state_dict().items()}
    train(method, net, few, {**TRAINING_ONE, "epochs": 4, "learning_rate": 0.02}, 0, bare=bare)
    trained = {name: value.clone() for name, value in net.state_dict().items()}
    blocks = {name: value for name, value in initial.items() if name.startswith("blocks.")}
    twin = resmlp()
    twin.load_state_dict({**trained, **blocks})
    expected, _ = evaluate(twin, few)
    found = {"reset_accuracy": expected, "recalibrated_accuracy": None}
    fresh = set_up_beside_copy(Backprop(Backprop.Params()), resmlp(seed=9), few, TRAINING_ONE, 0)
    assert reset_accuracies(net, Held(few), fresh, initial, 32) == found
    assert reset_accuracies(net, Held(few), bare, initial, 32) == found
    assert expected != evaluate(net, few)[0]  # the blocks matter here
    assert all(torch.equal(value, trained[name]) for name, value in net.state_dict().items())


class Spread(nn.Module):
    """Divides by the spread of the batch in training, and by a running one in eval mode."""

    def __init__(self, module, slow=0.5, listens=True):
        super().__init__()
        self.module, self.slow, self.listens = module, slow, listens
        self.register_buffer("spread", torch.ones(()))

    def forward(self, h):
        h = self.module(h)
        spread = h.detach().std() if self.training else self.spread
        if self.training and self.listens:
            self.spread.lerp_(spread, self.slow)
        return h / spread


def normed(seed=0, norm=lambda module, width: nn.Sequential(module, nn.BatchNorm1d(width))):
    """A resmlp whose embedding, blocks and readout end or begin with statistics of the batch."""
    net = resmlp(seed)
    width = net.states(torch.zeros(1, 12)).h[0].shape[1]
    net.embed = norm(net.embed, width)
    for i, block in enumerate(net.blocks):
        net.blocks[i] = norm(block, width)
    net.readout = nn.Sequential(norm(nn.Identity(), width), net.readout)
    return net


def trained(net, data, freeze=None, **recipe):
    """Train a network by bp; return its bare copy and its initial tensors."""
    method = Backprop(Backprop.Params(freeze=freeze))
    training = {**TRAINING_ONE, "epochs": 4, "learning_rate": 0.02, **recipe}
    bare = set_up_beside_copy(method, net, data, training, 0)
    initial = {name: value.detach().clone() for name, value in tensors_of(net).items()}
    train(method, net, data, training, 0, bare=bare)
    return bare, initial


@pytest.mark.parametrize("figure", ["recalibrated_accuracy", "reset_accuracy"])
def test_statistics_are_measured_anew(few, figure):
    """Each BatchNorm of blocks and readout gets the mean and the variance of the inputs that it
    sees behind the trained embedding: here of all samples, one batch."""
    net = normed()
    bare, initial = trained(net, few)
    found = reset_accuracies(net, Held(few), bare, initial, len(few.train_y))
    twin = normed()
    blocks = {name: value for name, value in initial.items() if name.startswith("blocks.")}
    twin.load_state_dict({**net.state_dict(), **(blocks if figure == "reset_accuracy" else {})})
    twin.eval()
    with torch.no_grad():
        h = twin.embed(few.train_x)  # with the statistics of the training
        for module, norm in [*twin.blocks, twin.readout[0]]:
            x = module(h)
            norm.running_mean, norm.running_var = x.mean(0), x.var(0)
            spread = (x.var(0, unbiased=False) + norm.eps).sqrt()
            h = h + (x - x.mean(0)) / spread * norm.weight + norm.bias
    assert found[figure] == evaluate(twin, few)[0] != evaluate(net, few)[0]
    for name, value in twin.named_buffers():
        if figure == "reset_accuracy" and not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(bare.get_buffer(name), value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"norm": lambda module, _: Spread(module)}])
def test_blocks_that_never_trained_lose_nothing_when_they_are_put_back(data, options):
    """Their statistics have moved: with the initial ones (0 and 1) they would seem to matter."""
    net = normed(**options)
    bare, initial = trained(net, data, "blocks")
    found = reset_accuracies(net, Held(data), bare, initial, 32)
    assert found["reset_accuracy"] == found["recalibrated_accuracy"]
    for name, value in net.named_buffers():
        if name.startswith("blocks."):
            value.copy_(initial[name])
    assert evaluate(net, data)[0] < found["reset_accuracy"] - 0.02


class Rebinds(nn.Module):
    """Keeps the mean of its batch in a new tensor, and a mask that is in no state_dict."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("mask", torch.ones(()), persistent=False)

    def forward(self, h):
        h = self.module(h) * self.mask
        if self.training:
            self.mean = 0.5 * self.mean + 0.5 * h.detach().mean()
        return h - self.mean


class Dead(nn.Module):
    def forward(self, h):
        return torch.zeros_like(h)


@pytest.mark.parametrize(
    "norm",
    [
        lambda module, _: Rebinds(module),
        # dead units: their statistics are measured to be 0, as they begin
        lambda module, width: nn.Sequential(Dead(), nn.BatchNorm1d(width, affine=False)),
    ],
)
def test_statistics_count_as_measured_whatever_value_the_passes_give_them(few, norm):
    net = resmlp()
    width = net.states(torch.zeros(1, 12)).h[0].shape[1]
    net.blocks[0] = norm(net.blocks[0], width)
    bare, initial = trained(net, few)
    found = reset_accuracies(net, Held(few), bare, initial, 32)
    assert None not in found.values()


def test_draws_of_the_passes_are_their_own(few):
    """Dropout before the statistics: the figures do not depend on torch's generator."""
    net = normed(norm=lambda m, width: nn.Sequential(m, nn.Dropout(0.5), nn.BatchNorm1d(width)))
    bare, initial = trained(net, few)
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(reset_accuracies(net, Held(few), bare, initial, 32))
    assert found[0] == found[1]


def test_a_buffer_that_no_forward_pass_moves_leaves_the_loss_unknown(few):
    net = normed(norm=lambda module, _: Spread(module, listens=False))
    bare, initial = trained(net, few)

    def reset():
        return reset_accuracies(net, Held(few), bare, initial, 32)["reset_accuracy"]

    assert reset() is not None  # nothing has moved
    net.blocks[0].spread.mul_(2)
    assert reset() is None
    net.blocks[0].spread = torch.ones(2)  # a cache that has grown
    assert reset() is None
    net.blocks[0].spread = torch.ones(())
    net.embed.spread.mul_(2)  # as trained
    assert reset() is not None


class Shallow(DirectFeedbackAlignment):
    """Trains embedding and readout alone, or the last block too."""

    class Params(DirectFeedbackAlignment.Params):
        blocks: int = 0

    def step(self, x, y, epoch):
        for block in self.net.blocks[: self.net.depth - self.params.blocks]:
            for p in block.parameters():
                p.requires_grad_(False)
        loss = self.net.loss(self.net.states(x).logits, y)
        self.tools.updater.descend(loss)
        return loss.detach()


@pytest.mark.parametrize(
    ("rule", "options", "expected"),
    [
        (DirectFeedbackAlignment, {}, (3, 3)),
        (DirectFeedbackAlignment, {"train_last": 1}, (1, 1)),
        (DirectFeedbackAlignment, {"freeze": "blocks"}, (0, 0)),
        (Shallow, {}, (0, 3)),
        (Shallow, {"blocks": 1}, (1, 3)),
        (Shallow, {"train_last": 2}, (0, 2)),
    ],
)
def test_the_blocks_that_change_are_counted_among_those_that_may(few, rule, options, expected):
    method, net = ready(rule(rule.Params(**options)), resmlp(), few)
    assert net.depth == 3
    initial = {name: value.clone() for name, value in net.state_dict().items()}
    made = Built(net, method, None, initial, {}, net)
    assert made.blocks_changed() == (0, expected[1])
    train(method, net, few, {**TRAINING_ONE, "epochs": 1}, 0)
    assert made.blocks_changed() == expected


class Seldom(DirectFeedbackAlignment):
    """Enlarges its weights in the steps of `when`, counted from 0."""

    when = frozenset()
    writes = False  # in every step, by a factor of 1 in the others

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        self.count = 0

    def step(self, x, y, epoch):
        loss = super().step(x, y, epoch)
        with torch.no_grad():
            for p in self.net.parameters():
                if self.writes or self.count in self.when:
                    p.mul_(1.01 if self.count in self.when else 1.0)
        self.count += 1
        return loss


def others_seen(few, when, writes=False, epochs=3, seed=4):
    """Return whether a training sees the changes of `Seldom` in these steps."""
    method, net = ready(Seldom(Seldom.Params()), resmlp(), few, seed)
    method.when, method.writes = when, writes
    training = {**TRAINING_ONE, "batch_size": 16, "epochs": epochs, "stop_after": None}
    train(method, net, few, training, seed)
    assert method.tools.updater.seen is None
    return method.tools.updater.others


def test_the_first_the_last_and_a_drawn_step_of_every_epoch_are_watched(few):
    steps, epochs, seed = len(few.train_y) // 16, 3, 4
    assert steps >= 4
    drawn = torch.randint(steps, (epochs,), generator=stream(seed, "watched")).tolist()
    watched = {
        epoch * steps + step for epoch in range(epochs) for step in (0, drawn[epoch], steps - 1)
    }
    assert len(watched) < epochs * steps
    for step in range(epochs * steps):
        assert others_seen(few, {step}) == (step in watched), step


def test_a_rule_that_writes_to_weights_by_other_means_is_watched_from_then_on(few):
    """Once a step, in a phase of each epoch, and in every step with a change in one of them."""
    steps = len(few.train_y) // 16
    for step in range(steps):
        assert others_seen(few, {step, steps + step}, epochs=2), step
        assert others_seen(few, {step}, writes=True, epochs=1), step
    assert not others_seen(few, set(), writes=True)


def test_an_auxiliary_optimiser_of_the_blocks_is_another_means(few):
    class Twice(DirectFeedbackAlignment):
        def setup(self, net, task, tools):
            super().setup(net, task, tools)
            tools.auxiliary({"own": [torch.nn.Parameter(torch.ones(1))]})
            assert not tools.updater.others
            tools.auxiliary({"blocks": list(net.blocks.parameters())})

    method, _ = ready(Twice(Twice.Params()), resmlp(), few)
    assert method.tools.updater.others


def test_what_is_measured_between_epochs_makes_no_rule_suspect(few):
    """A diagnostic may write to a weight and undo it; an epoch begins anew."""
    method, net = ready(DirectFeedbackAlignment(DirectFeedbackAlignment.Params()), resmlp(), few)

    def observe(row):
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(1.0)

    train(method, net, few, {**TRAINING_ONE, "epochs": 3, "stop_after": None}, 0, observe)
    assert (method.tools.updater.suspect, method.tools.updater.others) == (False, False)


def test_a_change_before_the_step_of_the_optimiser_is_seen_and_an_error_ends_the_watch():
    weight = torch.nn.Parameter(torch.ones(2))
    updater = Updater({"block": [weight]}, 0.1, 0.0, None)
    with updater.watched():
        updater.descend(weight.sum())
    assert updater.others is False
    with updater.watched():
        updater.descend(float("nan") * weight.sum())
    assert weight.isnan().all()
    assert updater.others is False
    with torch.no_grad():
        weight.fill_(1.0)
    with updater.watched():
        with torch.no_grad():
            weight.mul_(2)
        updater.descend(weight.sum())
    assert updater.others is True
    with updater.watched():
        updater.descend(weight.sum())
    assert updater.others is True  # it stays
    with pytest.raises(ValueError, match="x"), updater.watched():
        raise ValueError("x")
    assert updater.seen is None


@pytest.mark.parametrize(
    ("key", "value"), [("betas", [0.9, 0.999]), ("weight_decay", torch.tensor(0.01)), ("lr", 1e-3)]
)
def test_equal_settings_in_another_form_are_the_recipe(few, key, value):
    class Sets(DirectFeedbackAlignment):
        def learn(self, states, y, epoch):
            self.tools.updater.optimiser.param_groups[0][key] = value

    method, _ = ready(Sets(Sets.Params()), resmlp(), few)
    method.tools.updater.follow(1e-3)
    weight = next(method.net.readout.parameters())
    before = weight.detach().clone()
    method.step(few.train_x[:32], few.train_y[:32], 0)
    assert not torch.equal(weight, before)
    assert method.tools.updater.taken(weight) == 1


def test_every_group_of_the_optimiser_has_the_settings_of_the_recipe():
    one, two = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    updater = Updater({"block": [one]}, 0.1, 0.0, None)
    updater.optimiser.add_param_group({"params": [two], "weight_decay": 0.5})
    updater.follow(0.1)
    with pytest.raises(BenchError, match=r"has the weight decay 0 and 0\.5, and the recipe has 0:"):
        updater.descend(one.sum() + two.sum())


def test_frozen_blocks_have_taken_no_step_and_are_not_counted(few):
    method, net = ready(Plain(Plain.Params(freeze="blocks")), resmlp(), few)
    initial = {name: value.clone() for name, value in net.state_dict().items()}
    train(method, net, few, {**TRAINING_ONE, "epochs": 1}, 0)
    assert Built(net, method, None, initial, {}, net).steps_per_batch(1) == (1, 1)


class Grows(nn.Module):
    """Keeps a mask of the size of its input, or an offset of its first batch, in `kind`."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.done = kind, False
        empty = None if kind == "none" else torch.zeros(0 if kind in ("mask", "each") else 1)
        self.register_buffer("kept", empty, persistent=kind == "first")
        self.linear = nn.Linear(16, 16)

    def forward(self, h):
        size = 16 if self.kind != "each" else len(h)
        if self.kind == "first" and not self.done:
            self.kept, self.done = h.mean().detach().reshape(1), True
        elif self.kind != "first" and (
            self.kept is None or len(self.kept) != size + (self.kind == "each")
        ):
            self.kept = torch.ones(size + 1 if self.kind == "each" else size)
        factor = self.kept if self.kind != "each" else self.kept[1:, None]
        return self.linear(h) - factor if self.kind == "first" else self.linear(h) * factor


@pytest.mark.parametrize("options", [{}, {"freeze": "blocks"}])
@pytest.mark.parametrize("kind", ["mask", "none", "each", "first"])
def test_tensors_that_a_network_makes_at_first_use_have_their_accuracy(few, kind, options):
    """Masks, caches of each batch, and values of the first batch, in the copy that is evaluated."""

    class Uses(DirectFeedbackAlignment):
        def setup(self, net, task, tools):
            super().setup(net, task, tools)
            net.states(few.train_x[:3])

    net = resmlp(width=16)
    net.blocks[1] = Grows(kind)
    method = Uses(Uses.Params(**options))
    bare = set_up_beside_copy(method, net, few, TRAINING_ONE, 0)
    row = train(method, net, few, {**TRAINING_ONE, "epochs": 2}, 0, bare=bare)
    assert (row.accuracy, row.test_loss) == evaluate(net, few)


def test_a_network_that_draws_in_eval_mode_is_refused_by_that_name(few):
    class Noisy(nn.Module):
        def forward(self, h):
            return h + torch.randn_like(h)

    net = resmlp(width=16)
    net.blocks[1] = Noisy()
    method = DirectFeedbackAlignment(DirectFeedbackAlignment.Params())
    bare = set_up_beside_copy(method, net, few, TRAINING_ONE, 0)
    with pytest.raises(BenchError, match="other outputs for the same inputs again: it draws"):
        train(method, net, few, {**TRAINING_ONE, "epochs": 1}, 0, bare=bare)


def test_a_rule_gives_no_score_of_its_own(few):
    class Praises(DirectFeedbackAlignment):
        def setup(self, net, task, tools):
            super().setup(net, task, tools)
            net.loss = Praise()

    class Praise(type(few.loss)):
        def score(self, logits, y):
            return 0.98

    with pytest.raises(BenchError, match=r"a rule replaces net\.loss, by whose gradient all rules"):
        set_up_beside_copy(Praises(Praises.Params()), resmlp(), few, TRAINING_ONE, 0)


@pytest.mark.parametrize("when", ["setup", "step"])
@pytest.mark.parametrize("hook", ["register_hook", "register_post_accumulate_grad_hook"])
def test_a_hook_on_a_gradient_is_refused_by_the_name_of_its_parameter(few, when, hook):
    """A copy of the network has none, so `projected_step` would not see what it does."""

    class Hooks(DirectFeedbackAlignment):
        def setup(self, net, task, tools):
            super().setup(net, task, tools)
            if when == "setup":
                getattr(net.blocks[1].w1.weight, hook)(lambda gradient: None)

        def step(self, x, y, epoch):
            if when == "step":
                getattr(self.net.blocks[1].w1.weight, hook)(lambda gradient: None)
            return super().step(x, y, epoch)

    net, method = resmlp(), Hooks(Hooks.Params())

    def run():
        bare = set_up_beside_copy(method, net, few, TRAINING_ONE, 0)
        train(method, net, few, {**TRAINING_ONE, "epochs": 1}, 0, bare=bare)

    with pytest.raises(BenchError, match=r"hook on the gradient of blocks\.1\.w1\.weight"):
        run()


@pytest.mark.parametrize("name", some(METHODS, FEW))
def test_a_penalty_shrinks_the_branches(name):
    """It is larger than any credit, and the steps are ten times the usual ones."""
    data = toy_data(n=128, test=128)
    training = {**TRAINING_ONE, "epochs": 10, "stop_after": 2, "learning_rate": 1e-2}

    def branch(penalty):
        method, net = ready(rule(name, penalty=penalty), resmlp(), data)
        train(method, net, data, training, 0)
        return sum(float(f.detach().norm()) for f in net.states(data.test_x).f)

    assert branch(10.0) < 0.4 * branch(0.0)


@pytest.mark.parametrize("name", some(METHODS, FEW))
def test_random_targets_hide_every_label(few, name):
    """Whatever the labels are, the training is the same bit for bit."""
    hidden = replace(few, train_y=(few.train_y + 1) % 5)

    def trained(data):
        method, net = ready(rule(name, random_targets=True), resmlp(), data)
        train(method, net, data, {**TRAINING_ONE, "epochs": 2, "stop_after": 2}, 0)
        return {**net.state_dict(), **method.state_dict()}

    one, other = trained(few), trained(hidden)
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", ["bp", "dfa"])
def test_random_targets_leave_nothing_to_learn(data, name):
    """Trained on random labels, the network stays at chance on the true ones, and its loss at or
    above ln C."""
    method, net = ready(rule(name, random_targets=True), resmlp(), data)
    row = train(method, net, data, {**TRAINING_ONE, "epochs": 8, "stop_after": 4}, 0)
    assert row.accuracy < 0.4
    assert row.train_loss > math.log(5) - 0.05


@pytest.mark.parametrize("name", METHODS)
def test_permuting_hidden_units_permutes_the_updates(data, batch, name):
    """Relabel the units of W1/W2 inside a block: the gradients are relabelled and otherwise the
    same."""
    x, y = batch
    method, net = ready(rule(name), resmlp(), data)
    if not method.laws.permutation:
        pytest.skip("its feedback tells the units apart")
    twin_method, twin = copy.deepcopy((method, net))
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        block = twin.blocks[1]
        block.w1.weight.copy_(block.w1.weight[order])
        block.w1.bias.copy_(block.w1.bias[order])
        block.w2.weight.copy_(block.w2.weight[:, order])
    one, other = gradients(method, net, x, y, 3), gradients(twin_method, twin, x, y, 3)
    relabel = {
        "blocks.1.w1.weight": lambda g: g[order],
        "blocks.1.w1.bias": lambda g: g[order],
        "blocks.1.w2.weight": lambda g: g[:, order],
    }
    for key, gradient in one.items():
        torch.testing.assert_close(
            relabel.get(key, lambda g: g)(gradient), other[key], rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize("name", METHODS)
def test_a_checkpoint_gives_back_the_same_credits(few, name):
    """Feedback and auxiliary networks are in the state: a fresh method that loads it answers bit
    for bit the same."""
    x, y = few.train_x, few.train_y
    method, net = ready(rule(name), resmlp(), few)
    train(method, net, few, TRAINING_ONE, 0)
    states = net.states(x).detach(y)
    before = method.credit(states, y, 3)
    fresh, same_net = ready(rule(name), resmlp(), few, seed=99)
    same_net.load_state_dict(net.state_dict())
    fresh.load_state_dict({key: value.clone() for key, value in method.state_dict().items()})
    after = fresh.credit(states, y, 3)
    assert all(torch.equal(a, b) for a, b in zip(before.audited, after.audited, strict=True))


@pytest.mark.parametrize("name", some(METHODS, FEW))
@pytest.mark.parametrize("options", [{"terminal_norm": False}, {"residual": False}])
def test_every_rule_trains_every_variant_of_resmlp(name, options):
    """Credits have the shapes of the states at their sites, and the loss falls."""
    data = toy_data(n=128, test=128)
    method, net = ready(rule(name), resmlp(**options), data)
    x, y = data.train_x[:32], data.train_y[:32]
    credits = method.credit(net.states(x).detach(y), y, 3)
    assert [a.shape for a in credits.audited] == [net.states(x).h[site].shape for site in net.sites]
    assert credits.for_embed.shape == net.states(x).h[0].shape
    losses = []
    training = {**TRAINING_ONE, "epochs": 8, "stop_after": 3, "learning_rate": 3e-3}
    train(method, net, data, training, 0, lambda row: losses.append(row.train_loss))
    first, last = losses[1], losses[-1]
    # its credit need not point downhill: see its docstring
    assert last < first or (name == "pepita" and last < 1.05 * first)


def test_training_stops_at_a_loss_that_is_not_finite(data):
    from bench_core.training.loop import Diverged

    method, net = ready(rule("bp"), resmlp(), data)
    with torch.no_grad():
        net.readout.head.bias[0] = float("nan")
    with pytest.raises(Diverged, match="step 1 of epoch 1"):
        train(method, net, data, TRAINING_ONE, 0)
