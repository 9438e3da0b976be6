"""Laws of vec, perlayer_vector, blend, the null methods and the depth ladder."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from bench_plugins.archs.resmlp import ResMLP
from bench_plugins.archs.small_cnn import SmallCNN
from bench_plugins.archs.small_resnet import SmallResNet
from bench_plugins.archs.vit_mini import ViTMini
from bench_plugins.datasets.digits import Digits
from bench_plugins.methods.dfa import DirectFeedbackAlignment
from conftest import some
from nets import METHODS, TRAINING, gradients, ready, resmlp, rule, toy_data
from pydantic import ValidationError
from test_archs import TINY, setting
from torch.nn import functional as F

from bench_core.api import Method
from bench_core.execution.planning import fit
from bench_core.training.audit import Audit
from bench_core.training.credit import rms
from bench_core.training.loop import train
from bench_core.training.net import exact_gradients

ONE = {**TRAINING, "epochs": 2, "stop_after": 1}
BRANCHES = [
    "random_trainable", "shuffled_trainable", "fresh_random_target", "zero_target", "time_only",
    "constant_input", "perlayer_vector", "prefit_frozen", "prefit_trainable", "gaussian_noise",
    "dfa_norm_match", "continue_dfa",
]  # fmt: skip
NULLS = ["random_credit", "shuffled_credit", "noise_credit"]


def blend(branch="random_trainable", **params):
    return rule("blend", branch=branch, **{"start": 0, "prefit": 1, **params})


def doubled(method, net, data):
    """Method set up on the net, all in float64."""
    data = replace(data, train_x=data.train_x.double(), test_x=data.test_x.double())
    method, net = ready(method, net.double(), data)
    method.fit.network.double()
    return method, net, data.train_x[:32], data.train_y[:32]


def alignments(method, net, data, count=512):
    """Mean cosine of a_l and g_l on test samples, by site."""
    x, y = data.test_x[:count], data.test_y[:count]
    states = net.states(x).detach(y)
    g = exact_gradients(net, states.h[0], y)
    audited = method.credit(states, y, 0).audited
    return [
        float(F.cosine_similarity(a, g[site]).mean())
        for a, site in zip(audited, net.sites, strict=True)
    ]


def fitted(method, net, data, steps):
    """`steps` steps of the method's auxiliary fit on a network that stays as it is."""
    draws = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(data.train_y), (32,), generator=draws)
        method.learn(
            net.states(data.train_x[rows]).detach(data.train_y[rows]), data.train_y[rows], 0
        )


# ----------------------------------------------------------------------- vec and perlayer_vector


@pytest.mark.parametrize("options", [{}, {"terminal_norm": False}, {"residual": False}])
@pytest.mark.parametrize(
    ("differences", "step", "exact_to"), [("central", 1e-4, 1e-6), ("forward", 1e-6, 1e-4)]
)
@pytest.mark.parametrize("scale", ["state", "fixed"])
def test_measured_changes_are_the_exact_directional_derivatives(
    data, options, differences, step, exact_to, scale
):
    """δ = ⟨g_l, r_l·u⟩ up to the error of the difference (float64), for every state that gets
    credit."""
    method = rule("vec", differences=differences, step=step, scale=scale)
    method, net, x, y = doubled(method, resmlp(**options), data)
    states = net.states(x).detach(y)
    u = [method.fit.directions(states.h[layer]) for layer in method.fit.layers]
    found = method.fit.changes(states, y, u)
    g = exact_gradients(net, states.h[0], y)
    assert method.fit.layers == sorted({0, *net.sites})
    for delta, layer, direction in zip(found, method.fit.layers, u, strict=True):
        v = (
            states.h[layer].square().mean(1, keepdim=True).sqrt() if scale == "state" else 1
        ) * direction
        torch.testing.assert_close(delta, (g[layer] * v).sum(1), rtol=exact_to, atol=exact_to)


def test_central_differences_are_exact_to_second_order(data):
    """Twice the step, four times the error; one-sided differences err in proportion to the step."""
    errors = {}
    for differences in ("central", "forward"):
        for step in (0.02, 0.04):
            method, net, x, y = doubled(
                rule("vec", differences=differences, step=step), resmlp(), data
            )
            states = net.states(x).detach(y)
            u = [method.fit.directions(states.h[layer]) for layer in method.fit.layers]
            g = exact_gradients(net, states.h[0], y)
            exact = [
                (g[k] * states.h[k].square().mean(1, keepdim=True).sqrt() * d).sum(1)
                for k, d in enumerate(u)
            ]
            errors[differences, step] = float(
                (method.fit.changes(states, y, u) - torch.stack(exact)).norm()
            )
    assert errors["central", 0.04] / errors["central", 0.02] == pytest.approx(4, rel=0.1)
    assert errors["forward", 0.04] / errors["forward", 0.02] == pytest.approx(2, rel=0.1)


@pytest.mark.long
def test_vec_fitted_on_a_frozen_network_becomes_the_gradient():
    """Cosine above .8 and norms within 20 % at every state, on samples outside the fit."""
    data = toy_data(n=1024)
    method, net = ready(rule("vec"), resmlp(), data)
    before = copy.deepcopy(net.state_dict())
    assert max(map(abs, alignments(method, net, data))) < 0.3
    fitted(method, net, data, 300)
    assert min(alignments(method, net, data)) > 0.8
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    x, y = data.test_x[:256], data.test_y[:256]
    states = net.states(x).detach(y)
    g = exact_gradients(net, states.h[0], y)
    for a, site in zip(method.credit(states, y, 0).audited, net.sites, strict=True):
        assert float(a.norm() / g[site].norm()) == pytest.approx(1, abs=0.2)


@pytest.mark.long
def test_vec_is_fitted_as_well_where_states_have_exploded():
    """Steps relative to the state: with h_L of 1e6 before a terminal LayerNorm, where g_L is
    1e-6, the credit still finds it."""
    data = toy_data(n=1024)
    method, net = ready(rule("vec"), resmlp(), data)
    with torch.no_grad():
        net.embed[1].weight.mul_(1e6)
    fitted(method, net, data, 300)
    states = net.states(data.test_x).detach(data.test_y)
    assert float(exact_gradients(net, states.h[0], data.test_y)[-1].norm(dim=1).median()) < 1e-5
    assert min(alignments(method, net, data)) > 0.8


@pytest.mark.long
def test_the_terminal_term_aligns_the_credit_at_the_last_state(data, batch):
    x, y = batch
    cosines = {}
    for weight in (0.0, 4.0):
        method, net = ready(rule("vec", terminal=weight, directions=1), resmlp(), data)
        # nothing but the terminal term to learn from
        method.fit.target = lambda changes, _: torch.zeros_like(changes)
        states = net.states(x).detach(y)
        for _ in range(150):
            method.learn(states, y, 0)
        (top,) = method.fit.answer(states, [net.depth])
        cosines[weight] = float(
            F.cosine_similarity(top.detach(), exact_gradients(net, states.h[0], y)[-1]).mean()
        )
        assert method.passport.exact_top_credit == (weight > 0)
    assert cosines[4.0] > 0.9 > 0.3 > abs(cosines[0.0])


def test_vec_trains_with_dfa_while_it_warms_up(data, batch):
    x, y = batch
    method, net = ready(rule("vec", warmup=0.5), resmlp(), data)
    states = net.states(x).detach(y)
    warm, own, dfa = (
        method.credit(states, y, 1),
        method.credit(states, y, 2),
        method.dfa.credit(states, y, 0),
    )
    assert (warm.in_use, own.in_use) == (False, True)
    assert all(torch.equal(a, b) for a, b in zip(warm.for_blocks, dfa.audited, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(warm.audited, own.audited, strict=True))


@pytest.mark.parametrize("name", ["vec", "credit_bridge"])
@pytest.mark.parametrize("share", [0.07, 0.14, 0.2, 0.28, 0.55, 0.56])
def test_a_warm_up_ends_with_its_share_of_100_epochs(data, batch, name, share):
    """0.07 · 100 is above 7 in floating point."""
    x, y = batch
    method, net = ready(rule(name, warmup=share), resmlp(), data)
    method.task = replace(method.task, epochs=100)
    states, last = net.states(x).detach(y), round(100 * share)
    used = [method.credit(states, y, epoch).in_use for epoch in (last - 1, last)]
    assert used == [False, True]


def test_forward_passes_count_the_measurements(data):
    """L = 3, residual: perturbed copies of h_0, h_1, h_2 run through the last block, for each
    direction and side."""
    assert ready(rule("vec"), resmlp(), data)[0].forward_passes == 1 + 4 * 2 * 3
    assert (
        ready(rule("vec", differences="forward", directions=1), resmlp(), data)[0].forward_passes
        == 1 + 3
    )
    assert ready(rule("vec"), resmlp(residual=False), data)[0].forward_passes == 1 + 4 * 2 * 3
    assert ready(blend("zero_target"), resmlp(), data)[0].forward_passes == 1


@pytest.mark.long
def test_perlayer_vector_gives_every_sample_one_direction_and_learns_the_mean_gradient(data):
    """⟨w_l, u⟩ is fitted to the measured changes: its best value is the mean over the samples of
    r_l·g_l."""
    method, net = ready(rule("perlayer_vector"), resmlp(), data)
    with torch.no_grad():
        net.readout.head.bias[0] = 4.0  # a mean that is not zero
        method.fit.network.vectors.zero_()
    fitted(method, net, data, 300)
    states = net.states(data.train_x).detach(data.train_y)
    g = exact_gradients(net, states.h[0], data.train_y)
    relative = method.fit.relative_credit(states)
    assert len(relative) > 1
    for layer, a in relative.items():
        assert float((a - a[0]).abs().max()) == 0
        mean = (g[layer] * states.h[layer].square().mean(1, keepdim=True).sqrt()).mean(0)
        assert float(F.cosine_similarity(a[0], mean, dim=0)) > 0.8, layer


# ----------------------------------------------------------------------------------------- blend


@pytest.mark.parametrize("normalize", ["sample", "batch", "none"])
def test_blend_without_its_auxiliary_part_is_dfa_bit_for_bit(few, normalize):
    def run(method):
        method, net = ready(method, resmlp(), few)
        row = train(method, net, few, {**ONE, "epochs": 4, "stop_after": 2}, 0)
        return row.train_loss, net.state_dict()

    loss, plain = run(rule("dfa", normalize=normalize))
    for options in ({"alpha": 0.0}, {"branch": "continue_dfa"}, {"start": 9}):
        blended_loss, blended = run(rule("blend", normalize=normalize, **{"start": 1, **options}))
        assert loss == blended_loss, options
        assert all(torch.equal(plain[key], blended[key]) for key in plain), options


@pytest.mark.parametrize("normalize", ["batch", "none"])
def test_blend_mixes_the_credits_themselves_where_samples_are_not_normalised(
    data, batch, normalize
):
    """r_l·a_l has the direction of a_l sample by sample, but not its size."""
    x, y = batch
    method, net = ready(blend(alpha=0.75, normalize=normalize), resmlp(), data)
    with torch.no_grad():
        net.embed[-1].weight.mul_(100)
    states = net.states(x).detach(y)
    aux, dfa = method.fit.credit(states), method.dfa.credit(states, y, 0).audited
    for a, site, d in zip(method.credit(states, y, 0).audited, net.sites, dfa, strict=True):
        torch.testing.assert_close(
            a, 0.75 * rms(aux[site], mode=normalize) + 0.25 * rms(d, mode=normalize)
        )


def test_blend_mixes_normalised_parts_and_is_not_normalised_again(data, batch):
    x, y = batch
    method, net = ready(blend(alpha=0.75), resmlp(), data)
    states = net.states(x).detach(y)
    found = method.credit(states, y, 0)
    aux, dfa = method.fit.relative_credit(states), method.dfa.credit(states, y, 0).audited
    expected = [
        0.75 * rms(aux[site]) + 0.25 * rms(d) for site, d in zip(net.sites, dfa, strict=True)
    ]
    for a, mix in zip(found.audited, expected, strict=True):
        torch.testing.assert_close(a, mix)
    # the norm of a mixture, not of an rms
    assert min(float(a.square().mean(1).max()) for a in found.audited) < 0.95
    # the same draws: learns one step, then trains
    got = gradients(*ready(blend(alpha=0.75), resmlp(), data), x, y)
    method.learn(states, y, 0)
    seeds = [a / len(x) for a in method.credit(states, y, 0).audited]
    local = net.states(x, local=True)
    wanted = torch.autograd.grad(local.f, net.blocks[0].w2.weight, seeds, allow_unused=True)[0]
    torch.testing.assert_close(got["blocks.0.w2.weight"], wanted)


@pytest.mark.parametrize("branch", BRANCHES)
def test_every_branch_trains_is_reproducible_and_survives_a_checkpoint(few, branch):
    x, y = few.train_x, few.train_y

    def run(seed=0):
        method, net = ready(blend(branch), resmlp(seed), few, seed=seed)
        row = train(method, net, few, {**ONE, "epochs": 4, "stop_after": 2}, seed)
        return method, net, row.train_loss

    (method, net, loss), (_, _, again) = run(), run()
    assert loss == again
    assert math.isfinite(loss)
    states = net.states(x).detach(y)
    fresh, _ = ready(blend(branch), net, few, seed=99)
    fresh.load_state_dict({key: value.clone() for key, value in method.state_dict().items()})
    one, other = method.credit(states, y, 3), fresh.credit(states, y, 3)
    assert all(torch.equal(a, b) for a, b in zip(one.audited, other.audited, strict=True))


@pytest.mark.parametrize("branch", ["gaussian_noise", "prefit_trainable", "shuffled_trainable"])
def test_audits_of_a_blend_do_not_change_what_is_trained(few, branch):
    def run(look):
        method, net = ready(blend(branch), resmlp(), few)
        train(method, net, few, ONE, 0, look(method, net))
        return net.state_dict()

    plain = run(lambda method, net: lambda row: None)
    watched = run(lambda method, net: lambda row: Audit(net, method, few, 0, 0).batches and None)
    assert all(torch.equal(plain[key], watched[key]) for key in plain)


@pytest.mark.long
def test_zero_target_drives_its_credit_to_zero(data):
    method, net = ready(blend("zero_target"), resmlp(), data)
    states = net.states(data.test_x[:64]).detach(data.test_y[:64])

    def size():
        return max(
            float(a.square().mean().sqrt()) for a in method.fit.relative_credit(states).values()
        )

    before = size()
    fitted(method, net, data, 300)
    assert size() < 0.1 * before


@pytest.mark.long
def test_only_true_targets_teach_the_gradient():
    """Fitted alike on a frozen network: the measured targets align the auxiliary credit,
    shuffled and random ones do not."""
    data = toy_data(n=1024)
    found = {}
    for branch in ("random_trainable", "shuffled_trainable", "fresh_random_target"):
        method, net = ready(blend(branch), resmlp(), data)
        fitted(method, net, data, 120)
        states = net.states(data.test_x[:512]).detach(data.test_y[:512])
        g, a = (
            exact_gradients(net, states.h[0], data.test_y[:512]),
            method.fit.relative_credit(states),
        )
        found[branch] = [float(F.cosine_similarity(a[layer], g[layer]).mean()) for layer in a]
    assert min(found["random_trainable"]) > 0.7
    assert max(map(abs, found["shuffled_trainable"] + found["fresh_random_target"])) < 0.3


def test_shuffled_targets_are_the_measured_ones_in_another_order(data):
    method, _ = ready(blend("shuffled_trainable"), resmlp(), data)
    changes = torch.arange(96.0).view(3, 32)
    dealt = method.fit.target(changes, method.fit.draws)
    assert torch.equal(dealt.sort(1).values, changes)
    assert not torch.equal(dealt, changes)


def test_fresh_random_targets_have_the_rms_of_the_measured_ones(data):
    method, _ = ready(blend("fresh_random_target"), resmlp(), data)
    changes = torch.tensor([[1e-3], [5.0]]).expand(2, 4096)
    drawn = method.fit.target(changes, method.fit.draws)
    torch.testing.assert_close(drawn.square().mean(1).sqrt(), changes[:, 0], rtol=0.1, atol=0)
    assert not torch.equal(drawn, method.fit.target(changes, method.fit.draws))


@pytest.mark.parametrize(
    ("branch", "moves"), [("time_only", "depth"), ("constant_input", "nothing")]
)
def test_what_an_auxiliary_network_does_not_see_does_not_move_it(data, batch, branch, moves):
    x, y = batch
    method, net = ready(blend(branch), resmlp(), data)
    a = method.fit.relative_credit(net.states(x).detach(y))
    other = method.fit.relative_credit(net.states(x.flip(0) + 1).detach(y.flip(0)))
    for layer in a:
        torch.testing.assert_close(a[layer], other[layer])
        torch.testing.assert_close(a[layer], a[layer][:1].expand_as(a[layer]))
    assert torch.allclose(a[0], a[2]) == (moves == "nothing")


@pytest.mark.long
def test_prefit_fits_while_the_network_waits_and_frozen_stays(data, batch):
    x, y = batch
    method, net = ready(blend("prefit_frozen", prefit=12), resmlp(), data)
    weights = copy.deepcopy(net.state_dict())
    states = net.states(x).detach(y)
    method.learn(states, y, 0)
    assert all(torch.equal(value, weights[key]) for key, value in net.state_dict().items())
    g = exact_gradients(net, states.h[0], y)
    aux = method.fit.relative_credit(states)
    assert min(float(F.cosine_similarity(aux[layer], g[layer]).mean()) for layer in aux) > 0.5
    again = [p.clone() for p in method.fit.network.parameters()]
    method.learn(states, y, 0)
    assert all(
        torch.equal(p, q) for p, q in zip(again, method.fit.network.parameters(), strict=True)
    )


def test_prefit_does_not_shift_the_order_of_the_training(few):
    """Further passes draw from the auxiliary stream: which batches the training meets is the
    same with and without them."""

    def seen(branch):
        method, net = ready(blend(branch), resmlp(), few)
        met, step = [], method.step
        method.step = lambda x, y, epoch: met.append(x) or step(x, y, epoch)
        train(method, net, few, ONE, 0)
        return torch.cat(met)

    assert torch.equal(seen("prefit_trainable"), seen("continue_dfa"))


def test_freeze_after_ends_the_fit(data, batch):
    x, y = batch
    method, net = ready(blend(start=2, freeze_after=1), resmlp(), data)
    states = net.states(x).detach(y)
    moved = []
    for epoch in range(5):
        before = [p.clone() for p in method.fit.network.parameters()]
        method.learn(states, y, epoch)
        pairs = zip(before, method.fit.network.parameters(), strict=True)
        moved.append(not all(torch.equal(p, q) for p, q in pairs))
    assert moved == [False, False, True, False, False]


def test_dfa_norm_match_has_dfas_direction_and_the_blends_norm(data, batch):
    x, y = batch
    states = None
    found = {}
    for branch in ("random_trainable", "dfa_norm_match", "continue_dfa"):
        method, net = ready(blend(branch), resmlp(), data)
        states = net.states(x).detach(y)
        found[branch] = method.credit(states, y, 0).audited
    for mixed, matched, plain in zip(*found.values(), strict=True):
        torch.testing.assert_close(matched.norm(dim=1), mixed.norm(dim=1))
        torch.testing.assert_close(F.cosine_similarity(matched, plain), torch.ones(len(x)))


# ---------------------------------------------------------------------------------- null methods


@pytest.mark.parametrize("name", NULLS)
def test_nulls_are_not_aligned(name):
    """Γ_l within four standard errors of zero: 1,280 samples whose cosines have deviation 1/√d
    at least."""
    data = toy_data()
    method, net = ready(rule(name), resmlp(width=64), data)
    assert max(map(abs, alignments(method, net, data, 1280))) < 0.1


def test_noise_credit_has_dfas_norms_and_no_direction_of_it(data, batch):
    x, y = batch
    method, net = ready(rule("noise_credit"), resmlp(width=256), data)
    states = net.states(x).detach(y)
    noise, dfa = method.credit(states, y, 0), method.dfa.credit(states, y, 0)
    for a, d in zip([*noise.audited, noise.for_embed], [*dfa.audited, dfa.for_embed], strict=True):
        torch.testing.assert_close(a.norm(dim=1), d.norm(dim=1))
        assert abs(float(F.cosine_similarity(a, d).mean())) < 4 / math.sqrt(256 * len(x))
    method.learn(states, y, 0)
    # fresh every step
    assert not torch.equal(method.credit(states, y, 0).audited[0], noise.audited[0])


@pytest.mark.parametrize("of", ["bp", "dfa"])
def test_shuffled_credit_deals_every_credit_to_another_sample(data, batch, of):
    x, y = batch
    method, net = ready(rule("shuffled_credit", of=of), resmlp(), data)
    states = net.states(x).detach(y)
    g = exact_gradients(net, states.h[0], y)
    true = (
        [g[site] for site in net.sites] if of == "bp" else method.dfa.credit(states, y, 0).audited
    )
    others = method.others(len(y))
    assert sorted(others.tolist()) == list(range(len(y)))
    assert bool((others != torch.arange(len(y))).all())
    found = method.credit(states, y, 0)
    for a, t in zip(found.audited, true, strict=True):
        assert torch.equal(a, t[others])
    if of == "bp":
        assert all(torch.equal(c, t[others]) for c, t in zip(found.for_blocks, g[1:], strict=True))
    assert method.passport.weight_transport == (of == "bp")
    method.learn(states, y, 0)
    assert not torch.equal(method.others(len(y)), others)


def test_random_credit_knows_neither_error_nor_label_and_never_changes(data, batch):
    x, y = batch
    method, net = ready(rule("random_credit"), resmlp(), data)
    states = net.states(x).detach(y)
    before = method.credit(states, y, 0).audited
    other = net.states(x).detach(y.flip(0))
    train(method, net, data, {**ONE, "learning_rate": 0.0}, 0)
    after = method.credit(other, y.flip(0), 3).audited
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(float(a.std(0).min()) > 0 for a in before)  # but it tells samples apart


# ------------------------------------------------------------------- every network, depth ladder


@pytest.mark.parametrize("arch", TINY)
@pytest.mark.parametrize(
    "branch", ["random_trainable", "perlayer_vector", "gaussian_noise", "dfa_norm_match"]
)
def test_blends_run_on_every_network(arch, branch):
    method, net, x, y = setting(arch, "blend", branch=branch, start=0)
    assert bool(method.step(x, y, 0).isfinite())
    states = net.states(x, statistics=False).detach(y)
    credits = method.credit(states, y, 0)
    assert [a.shape for a in credits.for_blocks] == [states.h[site].shape for site in net.sites]


def test_measured_changes_fit_projected_states():
    """Where states are seen through a projection, u lives in what is seen and ⟨a_l, v⟩ is still
    taken at the state."""
    method, net, x, y = setting("small_cnn", "vec", step=1e-3)
    states = net.states(x).detach(y)
    u = [method.fit.directions(states.h[layer]) for layer in method.fit.layers]
    g = exact_gradients(net, states.h[0], y)
    for delta, layer, d in zip(method.fit.changes(states, y, u), method.fit.layers, u, strict=True):
        r = states.h[layer].flatten(1).square().mean(1).sqrt().view(-1, *[1] * (d.dim() - 1))
        torch.testing.assert_close(
            delta, (g[layer] * r * d).flatten(1).sum(1), rtol=0.05, atol=5e-3
        )


@pytest.mark.parametrize("name", some(METHODS, {"bp", "fa", "ep"}))
def test_train_last_keeps_all_but_the_last_blocks_and_all_of_them_is_plain_training(few, name):
    def run(**params):
        method, net = ready(rule(name, **params), resmlp(), few)
        before = copy.deepcopy(net.state_dict())
        train(method, net, few, ONE, 0)
        return before, net.state_dict()

    (before, last), (_, every), (_, plain) = run(train_last=1), run(train_last=3), run()
    for key, value in last.items():
        assert torch.equal(value, before[key]) == key.startswith(("blocks.0", "blocks.1")), key
    assert all(torch.equal(every[key], plain[key]) for key in plain)


def test_train_last_zero_and_freeze_are_one_cell():
    found = [
        Method.Params.model_validate(params) for params in ({"train_last": 0}, {"freeze": "blocks"})
    ]
    assert found[0] == found[1]
    assert Method.Params.model_validate({"train_last": 2}) != Method.Params.model_validate({})


@pytest.mark.parametrize(
    "params", [{"freeze": "blocks", "train_last": 2}, {"train_last": -1}, {"train_last": False}]
)
def test_contradictions_about_what_is_trained_are_refused(params):
    with pytest.raises(ValidationError):
        Method.Params.model_validate(params)


@pytest.mark.parametrize("scale", [0.1, 100.0])
def test_block_scale_multiplies_the_initial_branches_and_nothing_else(few, scale):
    def started(**params):
        net = resmlp()
        _, net = ready(rule("dfa", **params), net, few)
        return net, dict(net.state_dict())

    net, plain = started(freeze="blocks")
    larger, own = started(freeze="blocks", block_scale=scale)
    changed = {key for key, value in own.items() if not torch.equal(value, plain[key])}
    assert changed == {f"blocks.{i}.w2.weight" for i in range(net.depth)}  # the bias is 0
    x = few.normalise(few.train_x[:8])
    with torch.no_grad():
        h = net.embed(x)
        for i in range(net.depth):
            (_, f), (_, g) = net.advance(h, i), larger.advance(h, i)
            torch.testing.assert_close(g, scale * f, rtol=1e-5, atol=1e-6)


def test_block_scale_multiplies_the_matrix_that_a_block_registers_last_and_its_bias(few):
    """Also in blocks that train, and not what stands before it."""
    net = resmlp()
    with torch.no_grad():
        for block in net.blocks:
            block.w2.bias.fill_(0.5)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    _, net = ready(rule("dfa", block_scale=10.0), net, few)
    for key, value in net.state_dict().items():
        last = key.startswith("blocks.") and ".w2." in key
        torch.testing.assert_close(value, before[key] * (10.0 if last else 1.0), msg=key)


def test_a_block_without_a_matrix_cannot_be_scaled():
    class Bare(ResMLP):
        def __init__(self, params, shape, classes):
            super().__init__(params, shape, classes)
            self.blocks[1] = torch.nn.LayerNorm(params.width)

    data, dfa = (Digits, Digits.Params()), DirectFeedbackAlignment
    assert fit.refusal((dfa, dfa.Params()), (Bare, Bare.Params()), data) is None
    assert fit.refusal((dfa, dfa.Params(block_scale=2.0)), (Bare, Bare.Params()), data) == {
        "at": "method",
        "why": "block_scale: block 1 has no weight matrix to scale",
    }
    refused = fit.refusal((dfa, dfa.Params()), (Bare, Bare.Params()), data, scaled=True)
    assert refused is not None
    assert refused["why"].endswith("matrix to scale; without `floor_scales` it can")
    assert fit.refusal((dfa, dfa.Params()), (ResMLP, ResMLP.Params()), data, scaled=True) is None


@pytest.mark.parametrize(
    ("arch", "options", "block"),
    [
        (SmallResNet, {}, 0),
        (SmallCNN, {"batch_norm": True}, 0),
        (SmallCNN, {}, None),
        (ViTMini, {}, None),
        (ResMLP, {"residual": False}, None),
    ],
)
def test_a_scale_that_a_norm_undoes_is_refused_before_training(arch, options, block):
    dfa, data = DirectFeedbackAlignment, (Digits, Digits.Params())
    of = (arch, arch.Params(**options))
    assert fit.refusal((dfa, dfa.Params()), of, data) is None
    found = fit.refusal((dfa, dfa.Params()), of, data, scaled=True)
    told = f"block_scale: block {block} does not give a larger output with larger weights, as "
    told += "behind a norm or before a gain of 0; without `floor_scales` it can"
    assert found == (None if block is None else {"at": "method", "why": told})


def test_a_scale_before_a_gain_of_zero_is_refused():
    class ReZero(torch.nn.Module):
        def __init__(self, width):
            super().__init__()
            self.gain = torch.nn.Parameter(torch.zeros(()))
            self.w = torch.nn.Linear(width, width)

        def forward(self, h):
            return self.gain * self.w(h)

    class Net(ResMLP):
        def __init__(self, params, shape, classes):
            super().__init__(params, shape, classes)
            self.blocks[1] = ReZero(params.width)

    dfa, data = DirectFeedbackAlignment, (Digits, Digits.Params())
    found = fit.refusal((dfa, dfa.Params(block_scale=3.0)), (Net, Net.Params()), data)
    assert found is not None
    assert found["why"] == (
        "block_scale: block 1 does not give a larger output with larger weights, as behind a norm "
        "or before a gain of 0"
    )


def test_more_blocks_than_there_are_is_said_before_training():
    arch, data, dfa = (
        (ResMLP, ResMLP.Params(depth=3)),
        (Digits, Digits.Params()),
        DirectFeedbackAlignment,
    )
    assert fit.refusal((dfa, dfa.Params(train_last=3)), arch, data) is None
    reason = fit.refusal((dfa, dfa.Params(train_last=4)), arch, data)
    assert reason == {
        "at": "method",
        "why": "train_last: 4 asks for more blocks than the 3 that there are",
    }
