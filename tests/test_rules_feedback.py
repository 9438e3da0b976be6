"""Laws of the rules whose feedback is tied to, copied from, or fitted to the forward network,
and of the calibrators."""

from __future__ import annotations

import pytest
import torch
from bench_plugins.methods.dendritic_learning import growth
from bench_plugins.methods.product_feedback import oja
from bench_plugins.methods.substitute import at_layer, bypassed, matrices, send_down
from nets import TRAINING, LinearNet, Written, arch, gradients, ready, resmlp, rule, toy_data
from torch.nn import functional as F

from bench_core.training.net import exact_gradients

NETS = {
    "residual": lambda: resmlp(w2_std=0.3),
    "plain": lambda: resmlp(residual=False),
    "cnn": lambda: arch("small_cnn", (1, 8, 8)),
    "cnn with BatchNorm": lambda: arch("small_cnn", (1, 8, 8), batch_norm=True),
    "tokens": lambda: arch("vit_mini", (1, 8, 8), width=8, depth=2, heads=2),
}


def images(n=64):
    draws = torch.Generator().manual_seed(0)
    data = toy_data(n=n, features=64, test=n)
    x = torch.randn(n, 1, 8, 8, generator=draws)
    return data.__class__(x, data.train_y, x, data.test_y, data.classes)


def prepared(name, kind, **params):
    """(method, net, x, y) on one of NETS."""
    data = toy_data() if kind in ("residual", "plain") else images()
    method, net = ready(rule(name, **params), NETS[kind](), data)
    return method, net, data.train_x[:32], data.train_y[:32]


def seen(net, x, y):
    with torch.no_grad():
        return net.states(x).detach(y)


def cosine(a, b):
    return float(F.cosine_similarity(a.detach().flatten(), b.detach().flatten(), dim=0))


def assert_is_backpropagation(method, net, x, y):
    """Credits at the sites and the embedding, and the update of every parameter, are the
    gradient's."""
    states = seen(net, x, y)
    g = exact_gradients(net, states.h[0], y)
    credits = method.credit(states, y, 0)
    for a, site in zip(credits.audited, net.sites, strict=True):
        torch.testing.assert_close(a, g[site], rtol=1e-4, atol=1e-6)
    names = [name for name, _ in net.named_parameters()]
    expected = torch.autograd.grad(
        net.loss(net.states(x, statistics=False).logits, y), list(net.parameters())
    )
    found = gradients(method, net, x, y)
    for name, gradient in zip(names, expected, strict=True):
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6, msg=name)


# --------------------------------------------------- sign_symmetry, kolen_pollack, weight_mirror


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize(
    "name", ["sign_symmetry", "kolen_pollack", "weight_mirror", "dendritic_learning"]
)
def test_with_the_forward_weights_for_feedback_it_is_backpropagation(name, kind):
    """Whatever the block: derivatives are taken at the true states, and the feedback alone is
    replaced."""
    options = {"sign_symmetry": {"magnitude": "frsf"}, "dendritic_learning": {"learn": False}}
    method, net, x, y = prepared(name, kind, normalize="none", **options.get(name, {}))
    with torch.no_grad():
        own = {key: module.weight.clone() for key, module in matrices(net).items()}
    initial = "M" if name == "sign_symmetry" else "B"
    assert set(method.state_dict()) == {f"{initial}_{key}" for key in own}
    method.kept = {f"{initial}_{key}": W.abs() if initial == "M" else W for key, W in own.items()}
    assert_is_backpropagation(method, net, x, y)


def test_uniform_sign_symmetry_with_the_weights_own_magnitude_is_backpropagation():
    """usf where every weight of a matrix is ±s: s·sign(W) is W."""
    data = toy_data()
    net = resmlp()
    with torch.no_grad():
        for module in matrices(net).values():
            module.weight.copy_(0.1 * module.weight.sign())
    method, net = ready(rule("sign_symmetry", normalize="none"), net, data)
    assert_is_backpropagation(method, net, data.train_x[:32], data.train_y[:32])


@pytest.mark.parametrize(("magnitude", "expected"), [("usf", 0.80), ("frsf", 0.64), ("brsf", 0.64)])
def test_the_feedback_has_the_signs_of_the_weights_and_the_published_angle(magnitude, expected):
    """E|w|/rms: .80 for Gaussian weights and one magnitude, .80² = .64 for Gaussian magnitudes
    (their draw independent)."""
    data = toy_data()
    method, net = ready(rule("sign_symmetry", magnitude=magnitude), resmlp(width=64), data)
    for step in range(2):
        before = {name: B.clone() for name, B in method.feedback().items()}
        method.step(data.train_x[32 * step :][:32], data.train_y[32 * step :][:32], 0)
    after = method.feedback()
    for name, module in matrices(net).items():
        assert torch.equal(after[name].sign(), module.weight.sign())
        assert torch.equal(after[name].abs(), before[name].abs()) == (magnitude != "brsf")
    second = [name for name in after if name.endswith("_1")]  # W2 is Gaussian at init
    fresh, net = ready(rule("sign_symmetry", magnitude=magnitude), resmlp(width=64), data)
    for name in second:
        assert cosine(fresh.feedback()[name], matrices(net)[name].weight) == pytest.approx(
            expected, abs=0.03
        )


@pytest.mark.parametrize("kind", ["residual", "cnn"])
def test_kolen_pollack_shrinks_the_difference_by_the_decay(kind):
    """W − B ← (1 − learning rate · weight decay)·(W − B), AdamW, clipping and all; frozen
    weights and their B stay."""
    data = toy_data() if kind == "residual" else images()
    method, net = ready(rule("kolen_pollack", train_last=1), NETS[kind](), data, weight_decay=20.0)
    start = {
        name: (module.weight - method.kept[f"B_{name}"]).detach()
        for name, module in matrices(net).items()
    }
    for _ in range(10):
        method.step(data.train_x[:32], data.train_y[:32], 0)
    for name, module in matrices(net).items():
        trained = int(name.split("_")[0]) == net.depth - 1
        shrunk = (1 - TRAINING["learning_rate"] * 20.0) ** 10 if trained else 1.0
        torch.testing.assert_close(
            module.weight - method.kept[f"B_{name}"], shrunk * start[name], rtol=1e-4, atol=1e-6
        )


@pytest.mark.long
@pytest.mark.parametrize("kind", ["residual", "cnn"])
def test_the_weight_mirror_finds_the_forward_weights(kind):
    """At rest: direction and size of every W, to the error that the docstring says."""
    method, net, *_ = prepared("weight_mirror", kind, first=0)
    assert max(abs(cosine(method.kept[f"B_{n}"], m.weight)) for n, m in matrices(net).items()) < 0.4
    for _ in range(800):
        method.mirror()
    for name, module in matrices(net).items():
        B, W = method.kept[f"B_{name}"], module.weight
        expected = (0.01 / 2 * W[0].numel() / TRAINING["batch_size"]) ** 0.5
        assert float((B - W).norm() / W.norm()) < 1.5 * expected + 0.05, name


# -------------------------------------------------------------------------- direct_kolen_pollack


def test_direct_feedback_on_the_last_state_becomes_the_readouts_own():
    """A readout from h_L and B_L get the same updates: under the same optimiser their difference
    shrinks by the decay."""
    data = toy_data()
    method, net = ready(
        rule("direct_kolen_pollack"),
        LinearNet(16, 2, 12, 5),
        data,
        weight_decay=20.0,
        clip_norm=None,
    )
    start = (net.readout.weight - method.state_dict()["B_2"]).detach().clone()
    for _ in range(20):
        method.step(data.train_x[:32], data.train_y[:32], 0)
    gap = net.readout.weight - method.state_dict()["B_2"]
    torch.testing.assert_close(gap, (1 - 1e-3 * 20.0) ** 20 * start, rtol=1e-3, atol=1e-5)


# ------------------------------------------------------------------------------------------- dfa


def test_a_centred_credit_is_that_of_the_error_less_its_mean():
    """It is the same to the readout, whose loss is the whole one."""
    data = toy_data()
    x, y = data.train_x[:32], data.train_y[:32]
    plain, net = ready(rule("dfa"), resmlp(seed=1), data)
    centred, _ = ready(rule("dfa", center=True), resmlp(seed=1), data)
    states = net.states(x).detach(y)
    e = states.output_error
    for site, credit in enumerate(centred.credit(states, y, 0).audited):
        expected = (e - e.mean(0)) @ plain.kept[f"B_{site}"]
        torch.testing.assert_close(credit, expected)
    same = e[:1].expand_as(e)
    centred_states = states.__class__(states.x, states.h, states.f, states.logits, same)
    assert all(bool((a.abs() < 1e-6).all()) for a in centred.credit(centred_states, y, 0).audited)


# -------------------------------------------------------- target_projection, error_decorrelation


def test_target_projection_is_dfa_with_the_label_in_place_of_the_error():
    data = toy_data()
    x, y = data.train_x[:32], data.train_y[:32]
    label = F.one_hot(y, 5).float()
    for params in ({}, {"center": True}):
        method, net = ready(rule("target_projection", **params), resmlp(seed=1), data)
        states = seen(net, x, y)
        dfa, _ = ready(rule("dfa", **params), resmlp(seed=1), data)
        expected = dfa.credit(states.__class__(**{**vars(states), "error": label}), y, 0)
        other = states.__class__(**{**vars(states), "logits": 9 - states.logits, "error": None})
        for found, wanted in zip(method.credit(other, y, 0).audited, expected.audited, strict=True):
            torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("memory", [0.0, 0.7])
def test_error_decorrelation_descends_the_correlation_with_the_score(memory):
    """a_l is N/(1 − λ) times the gradient of ½‖λ·R + (1 − λ)·mean hᵀs‖² with s held."""
    data = toy_data()
    x, y = data.train_x[:32], data.train_y[:32]
    method, net = ready(rule("error_decorrelation", memory=memory, start=1.0), resmlp(), data)
    states = seen(net, x, y)
    before = {name: R.clone() for name, R in method.kept.items()}
    method.learn(states, y, 0)
    credits = method.credit(states, y, 0)
    for layer, a in enumerate((credits.for_embed, *credits.for_blocks)):
        h = states.h[layer].clone().requires_grad_()
        now = torch.stack([torch.outer(*pair) for pair in zip(h, states.error, strict=True)]).mean(
            0
        )
        R = memory * before[f"R_{layer}"] + (1 - memory) * now
        torch.testing.assert_close(method.kept[f"R_{layer}"], R.detach())
        (slope,) = torch.autograd.grad(0.5 * R.square().sum(), h)
        torch.testing.assert_close(a, len(x) / (1 - memory) * slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("memory", [0.99, 0.9999, 0.999999])
def test_error_decorrelation_forgets_at_its_rate(memory):
    """n batches with the same mean hᵀs move R to it by the share 1 − λⁿ, in float32 too."""
    data, n = toy_data(), 2000
    x, y = data.train_x[:32], data.train_y[:32]
    method, net = ready(rule("error_decorrelation", memory=memory), resmlp(), data)
    states = seen(net, x, y)
    before = method.kept["R_1"].double()
    for _ in range(n):
        method.learn(states, y, 0)
    way = (states.h[1].T @ states.error / len(x)).double() - before
    share = float(((method.kept["R_1"].double() - before) * way).sum() / way.square().sum())
    assert share == pytest.approx(1 - memory**n, rel=2e-3)


def test_error_decorrelation_that_forgets_nothing_is_dfa():
    """λ = 1 leaves R_l as drawn: dfa with B_l = R_lᵀ, one state further up."""
    data = toy_data()
    x, y = data.train_x[:32], data.train_y[:32]
    method, net = ready(rule("error_decorrelation", memory=1.0), resmlp(residual=False), data)
    dfa, _ = ready(rule("dfa"), resmlp(residual=False), data)
    dfa.kept |= {f"B_{layer}": method.kept[f"R_{layer}"].T.clone() for layer in dfa.layers}
    for step in range(3):
        method.step(data.train_x[32 * step :][:32], data.train_y[32 * step :][:32], 0)
    states = seen(net, x, y)
    found, expected = (rule_.credit(states, y, 0) for rule_ in (method, dfa))
    for one, other in zip(found.audited, expected.audited, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(found.for_embed, expected.for_embed)


# ------------------------------------------------------------------------------ product_feedback


def linear(**params):
    """product_feedback on a linear network of width 16 and depth 3: (method, net, x, y)."""
    data = toy_data()
    torch.manual_seed(0)
    method, net = ready(rule("product_feedback", **params), LinearNet(16, 3, 12, 5), data)
    return method, net, data.train_x[:32], data.train_y[:32]


@pytest.mark.parametrize("size", [3, 40])
def test_the_feedback_path_is_the_product_of_its_matrices(size):
    """Errors pass P, then Q; a narrow P leaves them rank m."""
    method, net, x, y = linear(size=size)
    states = seen(net, x, y)
    credits = method.credit(states, y, 0)
    expected = states.error @ net.readout.weight
    for layer in reversed(range(net.depth)):
        torch.testing.assert_close(credits.for_blocks[layer], expected, rtol=1e-4, atol=1e-7)
        expected = expected @ method.kept[f"P_{layer}_0"] @ method.kept[f"Q_{layer}_0"]
    rank = torch.linalg.matrix_rank(expected, rtol=1e-5)
    assert int(rank) == min(size, 4)  # the errors of 5 classes add up to 0


@pytest.mark.parametrize("size", [None, 16])
def test_a_wide_product_meets_the_weights_as_kolen_pollack_does(size):
    """P·Pᵀ = 1: W − P·Q shrinks by the decay; with Q = Pᵀ·W it is backpropagation."""
    data = toy_data()
    method, net = ready(rule("product_feedback", size=size), resmlp(), data, weight_decay=20.0)
    layers = matrices(net).items()
    start = {name: (m.weight - method.feedback()[name]).detach() for name, m in layers}
    for _ in range(10):
        method.step(data.train_x[:32], data.train_y[:32], 0)
    for name, module in layers:
        gap = (module.weight - method.feedback()[name]).detach()
        shrunk = (1 - TRAINING["learning_rate"] * 20.0) ** 10 * start[name]
        torch.testing.assert_close(gap, shrunk, rtol=1e-3, atol=1e-5)
        method.kept[f"Q_{name}"] = method.kept[f"P_{name}"].T @ module.weight.detach()
    assert_is_backpropagation(method, net, data.train_x[:32], data.train_y[:32])


def test_ojas_rule_finds_the_leading_directions_of_the_errors():
    draws = torch.Generator().manual_seed(0)
    errors = torch.randn(64, 8, generator=draws) * torch.logspace(0, -2, 8)
    P = torch.linalg.qr(torch.randn(8, 3, generator=draws))[0]
    for _ in range(300):
        P = oja(P, errors, 1.0)
    leading = torch.linalg.svd(errors)[2][:3]
    torch.testing.assert_close(P @ P.T, leading.T @ leading, rtol=0, atol=1e-3)


def test_p_learns_from_the_errors_at_its_layer():
    """The step of the rule is Oja's with the errors that come in at the layer's output."""
    method, net, x, y = linear(size=3, first="oja")
    states = seen(net, x, y)
    expected = {
        f"P_{layer}_0": oja(method.kept[f"P_{layer}_0"], c, 0.1)
        for layer, c in enumerate(method.credit(states, y, 0).for_blocks)
    }
    method.step(x, y, 0)
    for name, P in expected.items():
        torch.testing.assert_close(method.kept[name], P)


# ------------------------------------------------------- blocks that call their layers otherwise

SUBSTITUTES = {
    "sign_symmetry": {}, "kolen_pollack": {}, "weight_mirror": {"first": 0},
    "dendritic_learning": {}, "product_feedback": {"first": "oja", "size": 4},
}  # fmt: skip
BYPASSED = {
    "blocks.0.a.weight": lambda a, b, z: b(F.linear(z, a.weight, a.bias).tanh()),
    "blocks.0.b.weight": lambda a, b, z: a(z).tanh() @ b.weight.T,
    "blocks.0.a.weight (tied)": lambda a, b, z: a(z).tanh() @ a.weight,
}
CALLED = {
    "once": lambda a, b, z: b(a(z).tanh()),
    "twice": lambda a, b, z: b(a(a(z).tanh()).tanh()),
    "never": lambda a, b, z: b(z.tanh()),
}


@pytest.mark.parametrize(
    "module",
    [
        torch.nn.Linear(5, 3),
        torch.nn.Conv2d(4, 6, 3),
        torch.nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        torch.nn.Conv2d(4, 6, (3, 1), dilation=2, padding=(2, 0)),
        torch.nn.Conv2d(4, 6, 3, padding="same"),
        torch.nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
    ],
    ids=str,
)
def test_an_error_is_sent_down_as_the_derivative_of_the_layer_with_other_weights(module):
    draws = torch.Generator().manual_seed(0)
    shape = (2, 7, 5) if isinstance(module, torch.nn.Linear) else (2, 4, 9, 9)
    x = torch.randn(shape, generator=draws, requires_grad=True)
    B = torch.randn(module.weight.shape, generator=draws)
    out = at_layer(module, x, B)
    error = torch.randn(out.shape, generator=draws)
    (expected,) = torch.autograd.grad(out, x, error)
    torch.testing.assert_close(send_down(module, B, error, x.shape), expected)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("name", SUBSTITUTES)
def test_an_error_passes_every_layer_of_a_block_through_its_feedback(name, residual):
    """By hand, for f = W₂·φ(z) + b₂, z = W₁·n + b₁, n = norm(h): δ₂ = a_{l+1}, δ₁ = δ₂·B₂ ∘ φ'(z),
    and W₁ learns by δ₁ᵀ·n; the true W₂ is nowhere."""
    kind = "residual" if residual else "plain"
    method, net, x, y = prepared(name, kind, normalize="none", **SUBSTITUTES[name])
    B = {key: value.detach().clone() for key, value in method.feedback().items()}
    h = seen(net, x, y).h
    a = exact_gradients(net, h[0], y)[net.depth]
    expected = {}
    for layer in reversed(range(net.depth)):
        block, below = net.blocks[layer], h[layer].clone().requires_grad_()
        n = block.norm(below)
        z = block.w1(n).detach().requires_grad_()
        active = F.gelu(z)
        (delta,) = torch.autograd.grad(active, z, a @ B[f"{layer}_1"])
        expected[f"blocks.{layer}.w2.weight"] = a.T @ active.detach() / len(x)
        expected[f"blocks.{layer}.w2.bias"] = a.mean(0)
        expected[f"blocks.{layer}.w1.weight"] = delta.T @ n.detach() / len(x)
        expected[f"blocks.{layer}.w1.bias"] = delta.mean(0)
        down = torch.autograd.grad(n, [below, *block.norm.parameters()], delta @ B[f"{layer}_0"])
        for key, gradient in zip(("weight", "bias"), down[1:], strict=True):
            expected[f"blocks.{layer}.norm.{key}"] = gradient / len(x)
        a = a * residual + down[0]
    found = gradients(method, net, x, y)
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-3, atol=1e-7, msg=key)
    embedded = a.T @ x.flatten(1) / len(x)
    torch.testing.assert_close(found["embed.1.weight"], embedded, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("name", SUBSTITUTES)
def test_a_compiled_block_has_the_feedback_too(name):
    """Its compiled form from a plain pass does not look at hooks: the true weights would carry the
    credit."""
    found = []
    for compiled in (False, True):
        method, net, x, y = prepared(name, "residual", **SUBSTITUTES[name])
        for block in net.blocks if compiled else ():
            block.compile(backend="eager")
        exact_gradients(net, seen(net, x, y).h[0], y)  # a plain pass
        credits = method.credit(seen(net, x, y), y, 0)
        for _ in range(2):
            method.step(x, y, 0)
        assert all((block._compiled_call_impl is not None) == compiled for block in net.blocks)
        found.append([*credits.audited, *net.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_block_may_change_the_output_of_a_layer_in_place():
    draws = toy_data()
    found = []
    for form in (lambda a, b, z: b(a(z).relu_()), lambda a, b, z: b(a(z).relu())):
        torch.manual_seed(0)
        method, net = ready(rule("kolen_pollack"), Written(form), draws)
        found.append(gradients(method, net, draws.train_x[:16], draws.train_y[:16]))
    for key, gradient in found[1].items():
        torch.testing.assert_close(found[0][key], gradient, msg=key)


def test_a_block_that_raises_keeps_no_hook():
    def form(a, b, z):
        hidden = a(z).tanh()
        return 1 / 0 if broken else b(hidden)

    data, broken = toy_data(), []
    method, net = ready(rule("kolen_pollack"), Written(form), data)
    broken.append(True)
    with pytest.raises(ZeroDivisionError):
        method.step(data.train_x[:16], data.train_y[:16], 0)
    for module in matrices(net).values():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


@pytest.mark.parametrize("place", BYPASSED)
@pytest.mark.parametrize("name", SUBSTITUTES)
def test_a_block_that_uses_a_weight_without_its_layer_is_refused(name, place):
    """No feedback would be in the place of that weight: the credit would be the exact one."""
    for device in ("cpu", "meta"):
        with torch.device(device):
            net = Written(BYPASSED[place])
        refused = rule(name, **SUBSTITUTES[name]).unsupported(net)
        assert refused.startswith(f"a block uses {place.split()[0]} without calling its layer")


def test_the_search_for_a_bypassed_weight_leaves_the_network_as_it_was() -> None:
    """Frozen weights too are searched; modes, flags, statistics and generators stay, and an error
    of the network passes."""
    net = Written(BYPASSED["blocks.0.b.weight"]).double()
    net.blocks.requires_grad_(False)
    net.train()
    before = torch.get_rng_state()
    assert bypassed(net) == "blocks.0.b.weight"
    assert net.training
    assert not any(p.requires_grad for p in net.blocks.parameters())
    assert torch.equal(torch.get_rng_state(), before)

    def breaks(a, b, z):
        raise ArithmeticError("too deep")

    broken = Written(breaks)
    broken.blocks.requires_grad_(False)
    with pytest.raises(ArithmeticError):
        bypassed(broken)
    assert not any(p.requires_grad for p in broken.blocks.parameters())
    normed = Written(lambda a, b, z: b(F.dropout(a(z), training=True)))
    normed.embed = torch.nn.Sequential(torch.nn.Linear(12, 16), torch.nn.BatchNorm1d(16))
    statistics, before = normed.embed[1].running_mean.clone(), torch.get_rng_state()
    assert bypassed(normed) == ""
    assert torch.equal(normed.embed[1].running_mean, statistics)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_weight_that_is_masked_in_training_alone_is_found() -> None:
    def form(a, b, z):
        masked = F.linear(z, F.dropout(a.weight), a.bias) if a.training else a(z)
        return b(masked.tanh())

    refused = rule("kolen_pollack").unsupported(Written(form))
    assert refused.startswith("a block uses blocks.0.a.weight without calling its layer")


@pytest.mark.parametrize("form", [
    lambda a, b, z: b(a(z.detach().sign())),  # only the skip path passes a credit
    lambda a, b, z: z * a(torch.ones_like(z)) + b(z),  # a layer whose input has no graph
    lambda a, b, z: b(a(z)).detach() + z,  # layers that no error reaches
])  # fmt: skip
@pytest.mark.parametrize("name", SUBSTITUTES)
def test_a_block_that_passes_no_derivative_to_a_layer_is_trained(name, form):
    data, options = toy_data(), SUBSTITUTES[name]
    net = Written(form)
    assert rule(name, **options).unsupported(net) is None
    method, _ = ready(rule(name, **options), net, data)
    losses = [float(method.step(data.train_x[:32], data.train_y[:32], 0)) for _ in range(20)]
    assert losses[-1] < losses[0]


def test_a_network_may_have_an_input_shape_of_its_own() -> None:
    class Own(Written):
        @property
        def input_shape(self):
            return 7

    class Set(Written):
        def __init__(self, form):
            super().__init__(form)
            self.input_shape = 7

    for kind in (Own, Set):
        assert rule("kolen_pollack").unsupported(kind(CALLED["once"])) is None


@pytest.mark.parametrize("form", CALLED)
@pytest.mark.parametrize("name", SUBSTITUTES)
def test_a_block_may_call_a_layer_never_or_more_than_once(name, form):
    data, options = toy_data(), SUBSTITUTES[name]
    torch.manual_seed(0)
    net = Written(CALLED[form])
    assert rule(name, **options).unsupported(net) is None
    method, net = ready(rule(name, **options), net, data)
    x, y = data.train_x[:32], data.train_y[:32]
    for _ in range(2):
        method.step(x, y, 0)
    g = exact_gradients(net, seen(net, x, y).h[0], y)
    credits = method.credit(seen(net, x, y), y, 0)
    through = (credits.for_embed - credits.for_blocks[0]).flatten()  # without the skip path
    assert abs(cosine(through, (g[0] - g[1]).flatten())) < 0.98 or name == "sign_symmetry"


@pytest.mark.parametrize("rate", [0.1, 1.0])
def test_dendritic_feedback_of_a_layer_grows_by_each_of_its_calls(rate):
    """The growth of a layer that is called twice is that of both calls, by an own computation."""
    data = toy_data()
    method, net = ready(
        rule("dendritic_learning", rate=rate), Written(CALLED["twice"], depth=1), data
    )
    x, y = data.train_x[:32], data.train_y[:32]
    states = seen(net, x, y)
    block = net.blocks[0]
    A, B = (method.kept[name].detach().clone() for name in ("B_0_0", "B_0_1"))
    z1 = block.a(block.norm(states.h[0]))
    z2 = block.a(z1.tanh())
    d = exact_gradients(net, states.h[1], y, layer=1)[0]
    d2 = (d @ B) * (1 - z2.tanh() ** 2)  # at the output of the second call
    d1 = (d2 @ A) * (1 - z1.tanh() ** 2)
    slopes = {}
    method.optimiser.descend = lambda thetas, own: [
        slopes.update({id(t): slopes.get(id(t), 0) - s}) for t, s in zip(thetas, own, strict=True)
    ]
    method.step(x, y, 0)
    expected = (d2.T @ (d2 @ A) + d1.T @ (d1 @ A)) / len(x)
    torch.testing.assert_close(slopes[id(method.kept["B_0_0"])], expected.detach())


def test_oja_learns_from_every_call_of_a_layer():
    data = toy_data()
    options = {"first": "oja", "size": 4}
    method, net = ready(
        rule("product_feedback", **options), Written(CALLED["twice"], depth=1), data
    )
    x, y = data.train_x[:32], data.train_y[:32]
    P = method.kept["P_0_0"].clone()
    method.credit(seen(net, x, y), y, 0)
    two = [error for error, _ in method.errors["0_0"]]
    assert [tuple(error.shape) for error in two] == [(32, 16)] * 2
    assert not torch.equal(*two)
    method.step(x, y, 0)
    torch.testing.assert_close(method.kept["P_0_0"], oja(P, torch.cat(two), 0.1))


@pytest.mark.parametrize("size", [3, None])
def test_a_restored_population_computes_the_same_bits(size):
    """Its memory layout too: a product of other strides rounds otherwise."""
    data, options = toy_data(), {"first": "oja", "size": size}
    x, y = data.train_x[:32], data.train_y[:32]
    straight, net = ready(rule("product_feedback", **options), resmlp(w2_std=0.3), data)
    restored, other = ready(rule("product_feedback", **options), resmlp(w2_std=0.3), data)
    state = {key: value.clone(memory_format=torch.contiguous_format)
             for key, value in straight.state_dict().items()}  # fmt: skip
    restored.load_state_dict(state)
    for _ in range(3):
        straight.step(x, y, 0)
        restored.step(x, y, 0)
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


# ------------------------------------------------------------------------------ dual_propagation


@pytest.mark.parametrize("alpha", [0.5, 0.0])
def test_pairs_without_non_linearities_are_backpropagation(alpha):
    """On a linear network, for any distance of the pairs and either side of them."""
    data = toy_data()
    pairs = rule("dual_propagation", beta=5.0, alpha=alpha)
    method, net = ready(pairs, LinearNet(16, 3, 12, 5), data)
    assert_is_backpropagation(method, net, data.train_x[:32], data.train_y[:32])


@pytest.mark.parametrize("alpha", [0.5, 0.0, 0.8])
def test_the_pairs_of_relu_send_their_difference_down(alpha):
    """Credit and update of a block relu(W·h + b), by an own computation."""
    data = toy_data()
    net = arch("relu_mlp", (12,), width=16, depth=3)
    method, _ = ready(rule("dual_propagation", beta=2.0, alpha=alpha), net, data)
    x, y = data.train_x[:32], data.train_y[:32]
    states = seen(net, x, y)
    credits = method.credit(states, y, 0)
    found = gradients(method, net, x, y)
    below = (credits.for_embed, *credits.for_blocks)
    for layer, d in enumerate(credits.for_blocks):
        linear = net.blocks[layer][0]
        z = linear(states.h[layer])
        sent = ((z + 4 * alpha * d).relu() - (z - 4 * (1 - alpha) * d).relu()) / 4
        assert not torch.equal(sent, d * (z > 0))
        torch.testing.assert_close(below[layer], sent @ linear.weight, rtol=1e-4, atol=1e-6)
        expected = sent.T @ states.h[layer] / len(x)
        weights = found[f"blocks.{layer}.0.weight"]
        torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_one_sweep_of_the_sources_pairs_has_our_differences(alpha):
    """DP⊤ as its authors compute it: s⁺ = φ(z + (1−α)·fb), s⁻ = φ(z − α·fb), fb = W·(s⁺ − s⁻) of
    the layer above, nudged by β∂loss at the top. α·s⁺ + (1−α)·s⁻ is φ(z) to first order."""
    data, beta = toy_data(), 0.02
    torch.manual_seed(0)
    net = LinearNet(16, 3, 12, 5)
    weights = [block.weight.detach().double() for block in net.blocks]
    for layer in range(3):
        net.blocks[layer] = torch.nn.Sequential(net.blocks[layer], torch.nn.Tanh())
    method, _ = ready(rule("dual_propagation", beta=beta / 2, alpha=alpha), net, data)
    net.double()
    x, y = data.train_x[:32].double(), data.train_y[:32]
    states = seen(net, x, y)
    a = method.credit(states, y, 0)
    below = (a.for_embed, *a.for_blocks)
    back = -beta * below[3]  # the nudge of the top: of the hidden state h_L, by the readout
    for layer in reversed(range(3)):
        z = states.h[layer] @ weights[layer].T
        plus, minus = (z + (1 - alpha) * back).tanh(), (z - alpha * back).tanh()
        moved = (alpha * plus + (1 - alpha) * minus - z.tanh()).abs().max()
        assert moved < (back.abs().max() ** 2)
        back = (plus - minus) @ weights[layer]
        torch.testing.assert_close(below[layer], -back / beta, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("alpha", "order"), [(0.5, 2), (0.2, 1)])
def test_near_pairs_tend_to_backpropagation_with_a_power_of_their_distance(alpha, order):
    data = toy_data()
    x, y = data.train_x[:32].double(), data.train_y[:32]
    misses = []
    for beta in (1e-2, 1e-3):
        net = resmlp(w2_std=0.3)
        method, _ = ready(rule("dual_propagation", beta=beta, alpha=alpha), net, data)
        net.double()
        states = seen(net, x, y)
        g = exact_gradients(net, states.h[0], y)
        misses.append(float((method.credit(states, y, 0).for_embed - g[0]).norm() / g[0].norm()))
    assert misses[1] == pytest.approx(misses[0] / 10**order, rel=0.1)


@pytest.mark.parametrize("readout", [torch.nn.Tanh(), torch.nn.ReLU()])
@pytest.mark.parametrize("n", [4, 64])
def test_the_pairs_begin_below_the_readout(readout, n):
    """The credit that trains is the audited one for any batch size, and the readout learns by its
    own gradient, also where it has a non-linearity."""
    data = toy_data()
    net = Written(CALLED["once"], readout)
    method, net = ready(rule("dual_propagation", beta=1.0), net, data)
    x, y = data.train_x[:n], data.train_y[:n]
    states = seen(net, x, y)
    audited = method.credit(states, y, 0)
    exact = exact_gradients(net, states.h[-1], y, layer=net.depth)[0]
    torch.testing.assert_close(audited.for_blocks[-1], exact)
    h = states.h[-1].detach()
    expected = torch.autograd.grad(net.loss(net.readout(h), y), list(net.readout.parameters()))
    last = net.advance(states.h[-2].detach(), net.depth - 1)[1]
    through_b = torch.autograd.grad(last, net.blocks[-1].b.weight, exact / n)[0]
    found = gradients(method, net, x, y)
    for parameter, gradient in zip(net.readout.named_parameters("readout"), expected, strict=True):
        torch.testing.assert_close(found[parameter[0]], gradient)
    torch.testing.assert_close(found[f"blocks.{net.depth - 1}.b.weight"], through_b)


NON_LINEARITIES = {
    "hardswish": F.hardswish, "softsign": F.softsign, "log_sigmoid": F.logsigmoid,
    "sin": torch.sin, "clamp": lambda z: z.clamp(min=-0.1), "tanhshrink": F.tanhshrink,
    "softshrink": F.softshrink, "hardshrink": F.hardshrink, "hardsigmoid": F.hardsigmoid,
    "selu": F.selu, "celu": F.celu, "mish": F.mish, "relu6": F.relu6, "gelu": F.gelu,
    "softplus": F.softplus, "elu": F.elu, "leaky_relu": F.leaky_relu, "hardtanh": F.hardtanh,
}  # fmt: skip
IN_PLACE = {
    "relu_": lambda z: z.relu_(), "F.relu(inplace)": lambda z: F.relu(z, inplace=True),
    "input by name": lambda z: torch.clamp(input=z, min=-0.1),
    "used after": lambda z: (z.relu_(), z)[1], "leaky_relu_": lambda z: F.leaky_relu_(z),
}  # fmt: skip


@pytest.mark.parametrize("name", [*NON_LINEARITIES, *IN_PLACE])
def test_pairs_pass_every_elementwise_non_linearity(name):
    phi = {**NON_LINEARITIES, **IN_PLACE}[name]
    data, beta = toy_data(), 3.0
    net = Written(lambda a, b, z: b(phi(a(z) + 0)), depth=1)
    method, net = ready(rule("dual_propagation", beta=beta), net, data)
    x, y = data.train_x[:16], data.train_y[:16]
    states, block = seen(net, x, y), net.blocks[0]
    credits = method.credit(states, y, 0)
    z = block.a(block.norm(states.h[0])).detach()
    d = credits.for_blocks[0] @ block.b.weight
    sent = (phi(z + beta * d) - phi(z - beta * d)) / (2 * beta)
    h = states.h[0].detach().requires_grad_()
    (expected,) = torch.autograd.grad(block.a(block.norm(h)), h, sent.detach())
    below = credits.for_embed - credits.for_blocks[0]
    torch.testing.assert_close(below, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("beta", [1e-4, 3.0])
def test_bounds_that_are_tensors_pass_their_own_derivatives(beta):
    """Learned bounds learn, and bounds by the data are no part of the pairs."""
    data = toy_data()
    low = torch.nn.Parameter(torch.full((16,), -0.2))
    form = lambda a, b, z: b(torch.clamp(a(z), low, a(z).abs().amax(1, keepdim=True) / 2))  # noqa: E731
    net = Written(form, depth=1)
    net.blocks[0].low = low
    method, _ = ready(rule("dual_propagation", beta=beta), net, data)
    assert_is_backpropagation(method, net, data.train_x[:32], data.train_y[:32])
    assert low.grad is not None
    assert bool((low.grad != 0).any())


def test_pairs_go_on_after_a_readout_that_raised() -> None:
    class Breaks(torch.nn.Module):
        broken = False

        def forward(self, h):
            if self.broken:
                raise ArithmeticError("no readout")
            return h

    data = toy_data()
    net = Written(CALLED["once"], Breaks())
    method, _ = ready(rule("dual_propagation", beta=3.0), net, data)
    pairs = method.pairs()
    with pairs, pairs.but_in(net.readout):
        net.readout[0].broken = True
        with pytest.raises(ArithmeticError):
            net.readout(torch.zeros(2, 16))
        assert not pairs.paused


# ---------------------------------------------------------------------------- dendritic_learning


@pytest.mark.parametrize("learn", [True, False])
def test_dendritic_feedback_grows_along_the_errors_on_either_side(learn):
    """Θ descends −mean δ_yᵀ·δ_x, δ_x = δ_y·Θ, or stays; here through plain descent of rate 1."""
    data = toy_data()
    torch.manual_seed(0)
    method, net = ready(rule("dendritic_learning", learn=learn), LinearNet(16, 3, 12, 5), data)
    x, y = data.train_x[:32], data.train_y[:32]
    before = {name: B.detach().clone() for name, B in method.kept.items()}
    errors = method.credit(seen(net, x, y), y, 0).for_blocks
    if learn:
        method.optimiser.descend = lambda thetas, slopes: [
            theta.data.sub_(slope) for theta, slope in zip(thetas, slopes, strict=True)
        ]
    method.step(x, y, 0)
    for layer, d in enumerate(errors):
        theta = before[f"B_{layer}_0"]
        grown = d.T @ (d @ theta) / len(x) if learn else 0
        torch.testing.assert_close(method.kept[f"B_{layer}_0"].detach(), theta + grown)


def test_the_growth_of_a_convolution_is_the_slope_of_what_it_sends():
    """A 3×3 convolution written as a matrix: its growth is δ_yᵀ·δ_x, summed over shared weights."""
    draws = torch.Generator().manual_seed(0)
    conv = torch.nn.Conv2d(2, 3, 3, padding=1)
    B = torch.randn(3, 2, 3, 3, generator=draws)
    error = torch.randn(2, 3, 4, 4, generator=draws)
    sent = F.conv_transpose2d(error, B, padding=1)
    patches = F.unfold(sent, 3, padding=1)  # (N, 2·9, 16)
    expected = torch.einsum("nop,nip->oi", error.flatten(2), patches).view_as(B) / 2
    torch.testing.assert_close(growth(conv, B, error, sent.shape), expected, rtol=1e-4, atol=1e-4)
