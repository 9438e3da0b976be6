"""The laws of tests/test_laws.py on every architecture, and what is particular to BatchNorm,
tokens and convolutions."""

from __future__ import annotations

import copy
import inspect
import math
from dataclasses import replace

import pytest
import torch
from conftest import pairs, some
from nets import LOCAL, METHODS, TRAINING, Exact, arch, gradients, ready, rule, toy_data
from torch import nn

from bench_core.api import SQUARED_ERROR, Net, ParamsModel
from bench_core.registry.faults import located
from bench_core.training.audit import Audit
from bench_core.training.data import Data
from bench_core.training.loop import train
from bench_core.training.net import exact_gradients, top_gradient

FLAT, IMAGE = (12,), (3, 4, 4)
TINY = {
    "relu_mlp": ("relu_mlp", FLAT, {"width": 16, "depth": 3}),
    "student_net": ("student_net", FLAT, {"width": 16, "depth": 3}),
    "student_net without embedding": ("student_net", FLAT, {"width": 12, "depth": 3}),
    "linear_lq": ("linear_lq", FLAT, {"width": 12, "depth": 3}),
    "vit_mini": ("vit_mini", IMAGE, {"width": 16, "depth": 3, "heads": 2, "patch": 2}),
    "small_cnn": ("small_cnn", IMAGE, {}),
    "small_cnn with BatchNorm": ("small_cnn", IMAGE, {"batch_norm": True}),
    "small_resnet": ("small_resnet", IMAGE, {"width": 4, "blocks_per_stage": 1}),
}
BATCH_NORM = ["small_cnn with BatchNorm", "small_resnet"]
UNEQUAL = ["small_cnn", "small_resnet"]
every_arch = pytest.mark.parametrize("name", TINY)
FEW = ["bp", "fa", "ep"]  # rules that `make test` tries on every network


def build(name: str, seed: int = 0) -> Net:
    kind, shape, params = TINY[name]
    return arch(kind, shape, seed=seed, **params)


def data_for(name: str, n: int = 64, test: int = 128) -> Data:
    """Gaussian inputs of the architecture's shape; for linear_lq with a linear target and
    squared error."""
    _, shape, _ = TINY[name]
    data = toy_data(n=n, features=math.prod(shape), test=test)
    if name == "linear_lq":
        target = torch.randn(12, 5, generator=torch.Generator().manual_seed(1))
        data = replace(
            data, train_y=data.train_x @ target, test_y=data.test_x @ target, loss=SQUARED_ERROR
        )
    return replace(data, train_x=data.train_x.view(-1, *shape), test_x=data.test_x.view(-1, *shape))


def setting(name: str, method: str = "dfa", **params):
    """(method, net, x, y): the method set up on the architecture, and one training batch."""
    data = data_for(name)
    made, net = ready(rule(method, **params), build(name), data)
    if reason := made.unsupported(net):
        pytest.skip(reason)
    return made, net, data.train_x[:16], data.train_y[:16]


# -------------------------------------------------------------------------- laws of all networks


@every_arch
def test_bp_through_the_local_path_is_loss_backward(name):
    """c_l = g_{l+1}, no normalisation, no clipping: the gradients are those of loss.backward()
    to 1e-6, in training mode."""
    data = data_for(name)
    method, net = ready(Exact(Exact.Params(normalize="none")), build(name), data)
    x, y = data.train_x[:16], data.train_y[:16]
    local = gradients(method, net, x, y)
    net.zero_grad()
    net.loss(net.states(x, statistics=False).logits, y).backward()
    trained = {key: p.grad for key, p in net.named_parameters() if p.grad is not None}
    assert local.keys() == trained.keys()
    assert len(trained) >= net.depth
    for key, gradient in trained.items():
        torch.testing.assert_close(local[key], gradient, rtol=1e-4, atol=1e-6)


@every_arch
@pytest.mark.parametrize("training", [True, False])
def test_resuming_from_any_state_is_the_rest_of_the_forward_pass(name, training):
    _, net, x, _ = setting(name)
    net.train(training)
    states = net.states(x)
    for layer, h in enumerate(states.h):
        assert torch.equal(net.resume(h, layer), states.logits)


@every_arch
def test_the_top_of_the_exact_gradients_is_the_gradient_through_the_readout(name):
    _, net, x, y = setting(name)
    h = net.states(x).h
    torch.testing.assert_close(exact_gradients(net, h[0], y)[-1], top_gradient(net, h[-1], y))


@pytest.mark.parametrize(("method", "name"), pairs(METHODS, TINY, "small_resnet", FEW))
def test_credits_fit_their_states_every_group_learns_and_a_checkpoint_keeps_it(name, method):
    """Two steps: all credits finite and shaped like the states at `sites`, and every group of
    parameters has moved. A fresh method that loads the state answers bit for bit the same."""
    made, net, x, y = setting(name, method)
    states = net.states(x).detach(y)
    credits = made.credit(states, y, 3)
    assert [a.shape for a in credits.audited] == [states.h[site].shape for site in net.sites]
    assert [c.shape for c in credits.for_blocks] == [f.shape for f in states.f]
    assert credits.for_embed.shape == states.h[0].shape
    assert all(bool(a.isfinite().all()) for a in credits.audited)
    before = copy.deepcopy(net.state_dict())
    for _ in range(2):
        assert bool(made.step(x, y, 3).isfinite())
    parameters = dict(net.named_parameters())
    for group in made.tools.updater.groups.values():
        keys = [key for key, p in parameters.items() if any(p is q for q in group)]
        assert any(not torch.equal(parameters[key], before[key]) for key in keys), keys

    fresh, again = ready(rule(method), build(name, seed=9), data_for(name), seed=99)
    again.load_state_dict(net.state_dict())
    fresh.load_state_dict({key: value.clone() for key, value in made.state_dict().items()})
    net.eval()
    again.eval()
    one = made.credit(net.states(x).detach(y), y, 3)
    other = fresh.credit(again.states(x).detach(y), y, 3)
    assert all(torch.equal(a, b) for a, b in zip(one.audited, other.audited, strict=True))


@pytest.mark.parametrize(("method", "name"), pairs(LOCAL, TINY, "vit_mini", FEW))
def test_local_updates_stay_local(name, method):
    """With the credits held fixed, the gradients of the embedding and of block 0 do not depend
    on any later parameter."""
    made, net, x, y = setting(name, method)
    fixed = made.credit(net.states(x).detach(y), y, 3)
    made.credit = lambda states, y, epoch: fixed
    made.learn = lambda states, y, epoch: None
    torch.manual_seed(1)  # linear_lq draws its noise from here
    twin_made, twin = copy.deepcopy((made, net))
    with torch.no_grad():
        for module in (*twin.blocks[1:], twin.readout):
            for parameter in module.parameters():
                parameter.copy_(torch.randn(parameter.shape))
    torch.manual_seed(2)
    one = gradients(made, net, x, y)
    torch.manual_seed(2)
    other = gradients(twin_made, twin, x, y)
    checked = [key for key in one if key.startswith(("embed", "blocks.0."))]
    assert checked
    assert all(torch.equal(one[key], other[key]) for key in checked)
    # it saw other states
    assert any(not torch.equal(one[key], other[key]) for key in one if key.startswith("blocks.2."))


@every_arch
def test_dfa_does_not_depend_on_the_weights_above(name):
    made, net, x, y = setting(name)
    states = net.states(x).detach(y)
    before = [a.clone() for a in made.credit(states, y, 0).audited]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(-3)
    assert all(
        torch.equal(a, b) for a, b in zip(before, made.credit(states, y, 0).audited, strict=True)
    )


@pytest.mark.parametrize("name", some(TINY, {"vit_mini", "relu_mlp"}))
def test_ep_prediction_error_tends_to_the_gradient(name):
    """β → 0, T → ∞, in float64: the residual read-out is g_l at every site, direction and length.

    The relaxation is stable only where steps are small beside 1/‖∂h_{l+1}/∂h_l‖²: LayerNorm
    amplifies the token stream of vit_mini by the inverse of its size, which is 0.02 at init, so
    that the test starts from a larger one.
    """
    data = data_for(name)
    data = replace(data, train_x=data.train_x.double(), test_x=data.test_x.double())
    data = replace(data, train_y=data.train_y.double()) if not data.loss.classes else data
    net = build(name).double().eval()
    if name == "vit_mini":
        with torch.no_grad():
            net.embed.cls.mul_(50)
            net.embed.position.mul_(50)
    step, steps = {"small_resnet": (0.1, 450), "vit_mini": (0.2, 300)}.get(name, (0.35, 170))
    made, net = ready(rule("ep", beta=1e-6, steps=steps, step_size=step), net, data)
    x, y = data.train_x[:4], data.train_y[:4]
    states = net.states(x).detach(y)
    g = exact_gradients(net, states.h[0], y)
    for a, site in zip(made.credit(states, y, 0).audited, net.sites, strict=True):
        miss = (a - g[site]).flatten(1).norm(dim=1) / g[site].flatten(1).norm(dim=1)
        assert float(miss.max()) < 0.02, site


@every_arch
def test_random_init_fires_neither_a_nor_b(name):
    """(c needs the real data and widths: tests/test_data.py.)"""
    from bench_plugins.diagnostics.reference_floor import ReferenceFloor
    from bench_plugins.diagnostics.scale_growth import ScaleGrowth

    data = data_for(name)
    _, net = ready(rule("bp"), build(name), data)
    audit = Audit(net, None, data, 0, 0)
    assert ScaleGrowth(ScaleGrowth.Params()).measure(audit).value < 50
    assert ReferenceFloor(ReferenceFloor.Params()).measure(audit).value > 1e-2


@every_arch
def test_a_state_that_is_not_a_number_is_measured_without_a_crash(name):
    """Every diagnostic says something about a network whose states are NaN: a value that fires,
    or that it is not diagnostic."""
    from importlib import import_module

    from bench_plugins.diagnostics import bench_diagnostics

    from bench_core.execution.worker.cell import measure
    from bench_core.results.record import fires

    made, net, _, _ = setting(name)
    with torch.no_grad():
        next(net.blocks[0].parameters()).fill_(float("nan"))
    audit = Audit(net, made, data_for(name), 0, 0)
    for component in bench_diagnostics():
        module, _, attribute = component.target.partition(":")
        kind = getattr(import_module(module), attribute)
        found = measure(kind(kind.Params()), audit)
        if found.letter in ("a", "b"):
            assert fires(found), component.name
        elif component.name not in ("depth_utility", "state_distance", "step_cost"):
            # the first two compare runs, the third counts operations
            assert found.not_diagnostic is not None, component.name
            assert found.value is None or math.isnan(found.value), component.name


@pytest.mark.parametrize(
    ("name", "floats", "features", "samples"),
    [
        ("vit_mini", 11 * 16 * 128, 16, 128),
        ("small_cnn", 3 * (3 * (256 + 128 + 256) + 2 * 512), 512, 3),
    ],
)
def test_the_probe_file_holds_what_norms_see_of_the_first_samples_that_fit(
    tmp_path, monkeypatch, name, floats, features, samples
):
    """The CLS token of token streams; large maps are cut to the first samples, so that a run
    folder stays small."""
    from safetensors.torch import load_file

    from bench_core.execution.worker import tensors

    made, net, _, _ = setting(name, "fa")
    audit = Audit(net, made, data_for(name), 0, 0)
    monkeypatch.setattr(tensors, "PROBE_BYTES", 4 * floats)
    tensors.save_tensors(tmp_path, net, made, audit)
    found = load_file(tmp_path / "probe.safetensors")
    assert set(found) == {f"{kind}_{i}" for kind in "hg" for i in range(4)} | {
        f"a_{site}" for site in net.sites
    }
    assert found["h_0"].shape == (samples, features)
    assert torch.equal(found["h_1"], net.flat(audit.batches[0].states.h[1])[:samples])
    torch.testing.assert_close(
        found[f"a_{net.sites[-1]}"], net.flat(128 * audit.batches[0].credits.audited[-1])[:samples]
    )


@pytest.mark.parametrize("method", ["dfa", "node_perturbation", "state_bridge"])
def test_a_late_audit_knows_the_credits_of_its_run(tmp_path, method):
    """Those of the same rule pass, those of a rule that forgot something do not; what the
    streams draw is not compared."""
    from bench_core.errors import BenchError
    from bench_core.execution import remeasure
    from bench_core.execution.worker.tensors import save_tensors

    made, net, x, y = setting("relu_mlp", method)
    for _ in range(2):
        made.step(x, y, 0)
    save_tensors(tmp_path, net, made, Audit(net, made, data_for("relu_mlp"), 0, 0))
    remeasure.check_credits(tmp_path, Audit(net, made, data_for("relu_mlp"), 0, 0))
    credit = made.credit
    made.credit = lambda *given: replace(
        credit(*given), audited=[-a for a in credit(*given).audited]
    )
    with pytest.raises(
        BenchError, match="gives another credit a_1 on the probe than the run stored"
    ):
        remeasure.check_credits(tmp_path, Audit(net, made, data_for("relu_mlp"), 0, 0))

    def noisy(*given):
        draw = torch.randn((), generator=made.tools.generator)
        return replace(credit(*given), audited=[draw * a for a in credit(*given).audited])

    made.credit = noisy
    remeasure.check_credits(tmp_path, Audit(net, made, data_for("relu_mlp"), 0, 0))


@pytest.mark.parametrize(
    ("credit", "reason"),
    [
        (lambda h: [h[0]], "credits.audited has 1 entries, and there are 3 states to credit"),
        (
            lambda h: [each[:1] for each in h[:3]],
            r"credits.audited\[0\] has shape \(1, .*\), and its state h_1 has \(128, .*\)",
        ),
        (
            lambda h: [each.long() for each in h[1:]],
            r"credits.audited\[0\] is torch.int64, and its state h_1 is torch.float32: a credit "
            "has the type of its state",
        ),
        (
            lambda h: [each.double() for each in h[1:]],
            r"credits.audited\[0\] is torch.float64, and its state h_1 is torch.float32",
        ),
    ],
)
def test_an_audit_refuses_credits_that_fit_no_state(credit, reason):
    """Of a rule with full control of its step too: they would be measured against other layers,
    or broadcast."""
    from bench_core.errors import CreditError

    made, net, _, _ = setting("relu_mlp", "bp")
    made.credit = lambda states, y, epoch: credit(states.h)
    line = inspect.getsourcelines(made.credit)[1]
    with pytest.raises(CreditError, match=reason) as refused:
        Audit(net, made, data_for("relu_mlp"), 0, 0).batches  # noqa: B018
    assert located(refused.value) == f"{refused.value} (at test_archs.py:{line})"  # of the credit


# ------------------------------------------------------------------------------------- BatchNorm


def statistics(net: Net) -> dict[str, torch.Tensor]:
    return {
        key: value.clone()
        for key, value in net.state_dict().items()
        if "running" in key or "num_batches" in key
    }


@pytest.mark.parametrize(("method", "name"), pairs(METHODS, BATCH_NORM, "small_resnet", FEW))
def test_running_statistics_move_once_per_training_step(name, method):
    """Relaxations, credits, auxiliary networks and audits between the epochs leave them alone."""
    data = data_for(name, test=16)
    made, net = ready(rule(method), build(name), data)
    training = {**TRAINING, "epochs": 1}
    train(made, net, data, training, 0, lambda row: Audit(net, made, data, 0, 0).batches and None)
    counts = [value for key, value in net.state_dict().items() if "num_batches" in key]
    assert counts
    assert all(int(count) == 64 // 32 for count in counts)


@pytest.mark.long
@pytest.mark.parametrize("name", BATCH_NORM)
def test_running_statistics_are_those_of_the_forward_pass_alone(name):
    """After a step of any rule they are what the forward pass of bp leaves, ep's twenty
    relaxation steps or not."""

    def after(method):
        made, net, x, y = setting(name, method)
        made.step(x, y, 3)
        return statistics(net)

    plain = after("bp")
    for method in METHODS:
        if rule(method).unsupported(build(name)):
            continue
        assert all(torch.equal(value, plain[key]) for key, value in after(method).items()), method


@pytest.mark.parametrize("name", BATCH_NORM)
def test_gradients_and_resumed_passes_leave_the_running_statistics(name):
    _, net, x, y = setting(name)
    net.train()
    states = net.states(x).detach(y)
    before = statistics(net)
    exact_gradients(net, states.h[0], y)
    top_gradient(net, states.h[-1], y)
    net.resume(states.h[0], 0)
    net.states(x, statistics=False)
    assert all(torch.equal(value, before[key]) for key, value in statistics(net).items())
    net.states(x)
    assert not all(torch.equal(value, before[key]) for key, value in statistics(net).items())


@pytest.mark.parametrize("name", BATCH_NORM)
def test_an_audit_normalises_by_the_running_statistics(name):
    """Eval mode: the state of a sample does not depend on the other samples of its batch."""
    _, net, x, _ = setting(name)
    net.states(x)
    net.eval()
    torch.testing.assert_close(net.states(x).h[-1][:3], net.states(x[:3]).h[-1])


# ---------------------------------------------------------------------------------------- tokens


def test_dfa_gives_every_token_the_same_credit():
    made, net, x, y = setting("vit_mini")
    audited = made.credit(net.states(x).detach(y), y, 0).audited
    assert len(audited) == net.depth
    for a in audited:
        assert a.shape == (16, 5, 16)
        assert torch.equal(a, a[:, :1].expand_as(a))


def test_fa_has_no_credit_off_the_cls_token_and_leaves_the_patches_untrained():
    made, net, x, y = setting("vit_mini", "fa")
    credits = made.credit(net.states(x).detach(y), y, 0)
    assert len(credits.audited) == net.depth
    for a in (*credits.audited, credits.for_embed):
        assert bool(a[:, 0].any())
        assert not bool(a[:, 1:].any())
    found = gradients(made, net, x, y)
    assert not bool(found["embed.patch.weight"].any())
    assert bool(found["embed.cls"].any())


def test_normalised_credits_have_unit_mean_square_per_token():
    from bench_core.training.credit import rms

    made, net, x, y = setting("vit_mini", "state_bridge")
    a = made.credit(net.states(x).detach(y), y, 0).for_blocks[0]
    assert bool(a[:, 1:].any())  # the bridge sees, and credits, every token
    torch.testing.assert_close(
        rms(1e6 * a, tokens=True).square().mean(2), torch.ones(16, 5), rtol=1e-2, atol=0
    )


def test_what_is_measured_of_a_token_stream_is_the_cls_token():
    _, net, x, y = setting("vit_mini")
    states = net.states(x)
    assert torch.equal(net.flat(states.h[1]), states.h[1][:, 0])
    assert not bool(exact_gradients(net, states.h[0], y)[-1][:, 1:].any())


# --------------------------------------------------------------------------------- unequal sizes


class LinearMaps(Net):
    """Two linear convolutional blocks and their feedback twins: h_{l+1} = pool(conv(h_l))."""

    residual = False

    def __init__(self) -> None:
        super().__init__(ParamsModel(), IMAGE, 5)
        self.embed = nn.Conv2d(3, 4, 1, bias=False)
        self.blocks = nn.ModuleList(self.kind(*pair) for pair in ((4, 6), (6, 8)))
        self.readout = nn.Sequential(nn.Flatten(), nn.Linear(8, 5, bias=False))

    @staticmethod
    def kind(below: int, above: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(below, above, 3, padding=1, bias=False), nn.AvgPool2d(2))

    def feedback(self, block: int) -> nn.Module:
        return self.kind(*((4, 6), (6, 8))[block])


def test_fa_with_the_forward_kernels_is_bp_on_linear_convolutions():
    data = data_for("small_cnn")
    torch.default_generator.manual_seed(0)
    made, net = ready(rule("fa"), LinearMaps(), data)
    for twin, block in zip(made.kept.values(), net.blocks, strict=True):
        assert not torch.equal(twin[0].weight, block[0].weight)
        twin.load_state_dict(block.state_dict())
    x, y = data.train_x[:16], data.train_y[:16]
    states = net.states(x).detach(y)
    credits = made.credit(states, y, 0)
    g = exact_gradients(net, states.h[0], y, "mean")
    for a, exact in zip((credits.for_embed, *credits.audited), g, strict=True):
        torch.testing.assert_close(a, exact)


@pytest.mark.parametrize("name", UNEQUAL)
def test_fa_leads_credit_down_by_convolutions_with_fixed_random_kernels(name):
    """Convolutional between maps: credit at one pixel reaches its neighbourhood only; it is
    linear; the kernels stay."""
    made, net, x, y = setting(name, "fa")
    states = net.states(x).detach(y)
    B = made.kept["B_0"]
    assert isinstance(B, nn.Module)
    credit = torch.zeros_like(states.h[1])
    credit[:, :, 0, 0] = 1.0
    below = made.down(credit, B, states.h[0])
    assert below.shape == states.h[0].shape
    assert bool(below[:, :, 0, 0].any())
    assert not bool(below[:, :, -1, -1].any())
    torch.testing.assert_close(made.down(-2 * credit, B, states.h[0]), -2 * below)
    before = {key: value.clone() for key, value in made.state_dict().items()}
    made.step(x, y, 0)
    assert all(torch.equal(value, before[key]) for key, value in made.state_dict().items())


def test_fa_is_dense_between_fully_connected_states():
    made, _, _, _ = setting("small_cnn", "fa")
    assert [isinstance(B, torch.Tensor) for B in made.kept.values()] == [False, False, True]
    assert made.kept["B_2"].shape == (256, 128)


@pytest.mark.parametrize("groups", [1, 4, 32])
def test_feedback_kernels_keep_the_size_of_a_credit(groups):
    """Variance 1/(out·k·k): without pooling, a credit of unit mean square goes down as one of
    about unit mean square."""
    from bench_plugins.methods.fa import redrawn

    # of a transposed convolution the weights are (in, out / groups, …)
    up = nn.ConvTranspose2d(96, 64, 3, padding=1, bias=False, groups=groups)
    turned = redrawn(up, torch.Generator().manual_seed(0)).weight
    assert float(turned.var() * 64 * 9 / groups) == pytest.approx(1.0, rel=0.1)
    made = nn.Conv2d(64, 96, 3, padding=1, bias=False, groups=groups)
    kind = redrawn(made, torch.Generator().manual_seed(0))
    credit = torch.randn(4, 96, 16, 16)
    below = nn.functional.conv_transpose2d(credit, kind.weight, padding=1, groups=groups)
    assert float(below[..., 1:-1, 1:-1].square().mean()) == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("name", UNEQUAL)
@pytest.mark.parametrize("method", ["state_bridge", "credit_bridge"])
def test_bridges_see_states_of_unequal_size_through_fixed_projections(name, method):
    """One P per size, which no step changes; the credit lies in the span of Pᵀ and is the slope
    along the projection."""
    made, net, x, y = setting(name, method)
    assert made.lens.width == 256
    sizes = {made.task.features(layer) for layer in range(net.depth + 1)}
    assert {tuple(P.shape) for P in made.lens.buffers()} == {(size, 256) for size in sizes}
    before = [P.clone() for P in made.lens.buffers()]
    made.step(x, y, 0)
    assert all(torch.equal(a, b) for a, b in zip(made.lens.buffers(), before, strict=True))


def test_state_bridge_credit_is_the_slope_of_the_loss_also_through_a_projection():
    data = data_for("small_cnn")
    data = replace(data, train_x=data.train_x.double(), test_x=data.test_x.double())
    made, net = ready(rule("state_bridge"), build("small_cnn").double(), data)
    made.bridge.double()
    made.lens.double()
    x, y = data.train_x[:4], data.train_y[:4]
    states = net.states(x).detach(y)
    for a, site in zip(made.credit(states, y, 0).audited[:-1], net.sites[:-1], strict=True):
        t = torch.full((4,), site / net.depth, dtype=torch.float64)
        h, v = states.h[site], 1e-5 * torch.randn_like(states.h[site])

        def loss(h, t=t):
            predicted = made.bridge(made.lens(h), t, states.output_error)
            return float(net.loss(net.readout(predicted), y, "sum").detach())

        assert (loss(h + v) - loss(h - v)) / 2 == pytest.approx(
            float((a * v).sum()), rel=1e-3, abs=1e-13
        )


def test_states_of_one_size_are_seen_as_they_are():
    """resmlp and the token stream: no projection, and no draw that would shift the published
    figures' streams."""
    for name in ("student_net", "vit_mini"):
        made, net, x, _ = setting(name, "state_bridge")
        assert not list(made.lens.buffers())
        h = net.states(x).h[0]
        assert torch.equal(made.lens(h), h.flatten(1))


# ------------------------------------------------------------------------------------- linear_lq


def test_the_closed_form_costate_is_the_exact_gradient():
    """λ_L = Wᵀ·e, λ_l = A_lᵀ·λ_{l+1}, at the realised noise, in training and in eval mode."""
    _, net, x, y = setting("linear_lq")
    for training in (True, False):
        net.train(training)
        states = net.states(x).detach(y)
        for exact, g in zip(
            net.costate(states, y), exact_gradients(net, states.h[0], y), strict=True
        ):
            torch.testing.assert_close(exact, g, rtol=1e-4, atol=1e-6)


def test_a_forward_pass_has_one_realisation_of_the_noise():
    """Drawn anew by every training pass, met again by whatever re-runs blocks; fixed in eval
    mode, for stacked batches too."""
    _, net, x, _ = setting("linear_lq")
    net.train()
    one, other = net.states(x), net.states(x)
    assert not torch.equal(one.h[1], other.h[1])
    assert torch.equal(net.resume(other.h[1], 1), other.logits)
    assert torch.equal(net.states(x, statistics=False).logits, other.logits)
    net.eval()
    batch = torch.randn(128, 12)
    assert torch.equal(net.states(batch).logits, net.states(batch).logits)
    torch.testing.assert_close(
        net.states(batch.repeat(3, 1)).logits, net.states(batch).logits.repeat(3, 1)
    )
    quiet = arch("linear_lq", FLAT, width=12, depth=3, noise=0.0)
    assert float(
        (net.states(batch).h[1] - net.blocks[0].linear(batch)).detach().std()
    ) == pytest.approx(0.03, rel=0.1)
    assert torch.equal(quiet.states(batch).h[1], quiet.blocks[0].linear(batch))


def test_linear_layers_are_near_orthogonal_and_not_quite():
    net = arch("linear_lq", (64,))
    assert net.depth == 12
    for block in net.blocks:
        values = torch.linalg.svdvals(block.linear.weight.detach())
        assert 0.75 < float(values.min()) < 0.99
        assert 1.01 < float(values.max()) < 1.25


@pytest.mark.parametrize("method", METHODS)
def test_with_frozen_blocks_only_the_credit_networks_of_linear_lq_learn(method):
    made, net, x, y = setting("linear_lq", method, freeze="blocks")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    own = {key: value.clone() for key, value in made.state_dict().items()}
    made.step(x, y, 9)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    # no counter of a null
    after = {key: value for key, value in made.state_dict().items() if value.is_floating_point()}
    learned = any(not torch.equal(value, own[key]) for key, value in after.items())
    # the updates of weights, of which there are none here
    copies = method in ("kolen_pollack", "product_feedback")
    assert learned == (made.passport.learned_feedback and not copies)


@pytest.mark.long
def test_costate_alignment_scores_every_rule_against_the_truth_and_no_other_network():
    """bp's credit is the costate; dfa's has nothing to do with it; state_bridge learns towards
    it on frozen blocks."""
    from bench_plugins.diagnostics.costate_alignment import CostateAlignment

    diagnostic = CostateAlignment(CostateAlignment.Params())

    def score(method, steps=0):
        made, net, x, y = setting("linear_lq", method, freeze="blocks")
        for _ in range(steps):
            made.step(x, y, 3)
        return diagnostic.measure(Audit(net, made, data_for("linear_lq"), 0, 3))

    assert score("bp").value == pytest.approx(1.0, abs=1e-6)
    assert score("bp").details["ratio"] == pytest.approx([1.0] * 3, abs=1e-5)
    assert abs(score("dfa").value) < 0.3
    assert score("state_bridge", steps=300).value > score("state_bridge").value + 0.2
    made, net, _, _ = setting("relu_mlp")
    found = diagnostic.measure(Audit(net, made, data_for("relu_mlp"), 0, 0))
    assert found.value is None
    assert found.not_diagnostic == "the network has no costate in closed form"
