"""Diagnostics of updates, gates, inference and blocks against naive computations."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from bench_plugins.archs.resmlp import ResMLP
from bench_plugins.diagnostics import bench_diagnostics, participation
from bench_plugins.diagnostics.block_utility import BlockUtility
from bench_plugins.diagnostics.common_mode import CommonMode, share
from bench_plugins.diagnostics.one_update import one_update
from bench_plugins.diagnostics.participation import (
    Participation,
    effective_rank,
    participation_ratio,
)
from bench_plugins.diagnostics.projected_step import ProjectedStep, read
from bench_plugins.diagnostics.settledness import Settledness
from bench_plugins.diagnostics.step_cost import StepCost
from bench_plugins.diagnostics.target_alignment import TargetAlignment
from bench_plugins.methods.blend import Blend
from bench_plugins.methods.dfa import DirectFeedbackAlignment
from nets import METHODS, TRAINING, ready, resmlp, rule, toy_data
from test_diagnostics import diagnostic
from test_resume import assert_same_bits, state
from torch import Tensor, nn
from torch.nn import functional as F

from bench_core.api import Measured, Method, Net
from bench_core.errors import BenchError
from bench_core.execution.worker.cell import attempt
from bench_core.execution.worker.untouched import Untouched, check_credit
from bench_core.results.record import Measurement
from bench_core.training.audit import Audit
from bench_core.training.net import States
from bench_core.training.saved_state import TrainingState

RULES = [name for name in METHODS if name != "forward_gradient"]  # its jvp imports a compiler


def trained(name: str, steps: int = 2, **params: object) -> tuple[Method, Net, Audit]:
    """A rule after a few steps, with an audit of it."""
    data = toy_data(n=256, test=256)
    method, net = ready(rule(name, **params), resmlp(seed=3), data, seed=5, **TRAINING)
    draws = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    for _, (x, y) in zip(range(steps), data.epoch(32, *draws), strict=False):
        method.step(x, y, 3)
    initial = {k: v + 0.1 for k, v in net.state_dict().items()}
    return method, net, Audit(net, method, data, 5, 3, initial=initial)


BRANCHES = get_args(Blend.Params.model_fields["branch"].annotation)
OPTIONS = [
    *((name, {}) for name in RULES),
    *(("blend", {"branch": branch, "start": 0, "prefit": 1}) for branch in BRANCHES),
]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(
            name,
            options,
            marks=() if name in ("bp", "fa", "ep") else pytest.mark.long,
            id=f"{name} {options.get('branch', '')}",
        )
        for name, options in OPTIONS
    ],
)
def test_diagnostics_of_an_update_leave_the_training_as_it_was(
    name: str, options: dict[str, object]
) -> None:
    method, net, audit = trained(name, **options)
    before = {key: value.clone() for key, value in state(method, net).items()}
    values = {}
    for kind in (
        ProjectedStep,
        TargetAlignment,
        CommonMode,
        Participation,
        Settledness,
        BlockUtility,
        StepCost,
    ):
        values[kind] = kind(kind.Params()).measure(audit)
    assert_same_bits(before, state(method, net))
    step, target = values[ProjectedStep], values[TargetAlignment]
    assert step.value is not None, step.not_diagnostic
    assert abs(step.value) <= 1 + 1e-9
    assert step.details["adamw_cosine"].keys() == {
        "embed",
        "block_0",
        "block_1",
        "block_2",
        "readout",
    }
    assert target.value is not None, target.not_diagnostic
    assert abs(target.details["null"]) < 0.6
    # every rule trains its readout by the exact gradient of the loss
    assert step.details["raw_cosine"]["readout"] == pytest.approx(1, abs=1e-3)


def test_the_cost_of_a_step_has_no_part_of_the_passes_before_it() -> None:
    """The copy on which a step is tried leaves out what only teaches, before it began and after."""
    for steps in (0, 2):
        costs = {
            prefit: StepCost(StepCost.Params()).measure(
                trained("blend", steps, branch="prefit_frozen", start=0, prefit=prefit)[2]
            )
            for prefit in (1, 3)
        }
        assert costs[1].value is not None
        assert costs[1].value == costs[3].value


class HoldsItsStream(DirectFeedbackAlignment):
    def setup(self, net, task, tools):  # type: ignore[no-untyped-def]
        super().setup(net, task, tools)
        self.noisy = lambda a: a + 1e-9 * torch.randn(a.shape, generator=tools.aux_generator)

    def learn(self, states, y, epoch):  # type: ignore[no-untyped-def]
        self.last = self.noisy(states.h[0])


def test_a_rule_whose_copy_draws_from_its_own_stream_is_not_diagnostic() -> None:
    """And its training goes on with the same draws."""
    data = toy_data(n=64, test=64)
    rule_of_it = HoldsItsStream(HoldsItsStream.Params())
    method, net = ready(rule_of_it, resmlp(seed=3), data, seed=5, **TRAINING)
    before = method.tools.aux_generator.get_state()
    for kind in (ProjectedStep, StepCost):
        found = kind(kind.Params()).measure(Audit(net, method, data, 5, 0))
        assert found.value is None
        assert "a step of a copy of the rule draws from a stream of the rule itself" in (
            found.not_diagnostic or ""
        )
        assert torch.equal(before, method.tools.aux_generator.get_state())


def test_bp_takes_the_gradient_itself() -> None:
    _, _, audit = trained("bp")
    found = ProjectedStep(ProjectedStep.Params()).measure(audit)
    assert list(found.details["raw_cosine"].values()) == pytest.approx([1.0] * 5, abs=1e-5)
    assert list(found.details["raw_gain"].values()) == pytest.approx([1.0] * 5, abs=1e-5)


@pytest.mark.parametrize("name", ["bp", "dfa", "state_bridge"])
def test_the_update_by_the_optimiser_is_that_of_a_training_step(name: str) -> None:
    method, net, audit = trained(name)
    if name == "state_bridge":  # its bridge learns before the credit, which the audit leaves out
        method.learn = lambda *_: None  # type: ignore[method-assign]
    batch = audit.batches[0]
    update = one_update(audit, batch)
    before = {key: p.detach().clone() for key, p in net.named_parameters()}
    method.step(batch.states.x, batch.y, 3)
    assert update.adamw is not None
    for key, p in net.named_parameters():
        assert torch.allclose(update.adamw[key], p.detach() - before[key], rtol=1e-4, atol=1e-7), (
            key
        )


def test_the_raw_update_is_the_gradient_of_the_rule_before_the_clip() -> None:
    method, net, audit = trained("dfa")
    batch = audit.batches[0]
    update = one_update(audit, batch)
    h = batch.states.h[1]
    credit = batch.states.output_error @ method.kept["B_1"]
    credit = credit / (credit.square().mean(1, keepdim=True).sqrt() + 1e-6)
    surrogate = (net.blocks[1](h) * credit).sum(1).mean()
    expected = torch.autograd.grad(surrogate, list(net.blocks[1].parameters()))
    names = [key for key, _ in net.named_parameters() if key.startswith("blocks.1.")]
    for key, gradient in zip(names, expected, strict=True):
        assert torch.allclose(update.raw[key], -gradient, rtol=1e-4, atol=1e-7), key


@pytest.mark.long
def test_target_alignment_is_the_directional_derivative() -> None:
    _, net, audit = trained("dfa")
    audit.data = toy_data(n=256, test=128)
    found = TargetAlignment(TargetAlignment.Params()).measure(audit)
    batch = audit.batches[0]
    raw = one_update(audit, batch).raw
    double = copy.deepcopy(net).double().eval()
    below = {k: v.double() for k, v in raw.items() if not k.startswith("readout.")}
    own = dict(double.named_parameters())

    def outputs(t: Tensor) -> Tensor:
        moved = {k: own[k] + t * below[k] if k in below else own[k] for k in own}
        h = F.linear(batch.states.x.double(), moved["embed.1.weight"], moved["embed.1.bias"])
        for i in range(net.depth):
            part = {
                k.removeprefix(f"blocks.{i}."): v for k, v in moved.items() if f"blocks.{i}." in k
            }
            h = h + torch.func.functional_call(double.blocks[i], part, (h,))
        return double.readout(h)

    change = torch.autograd.functional.jacobian(outputs, torch.zeros((), dtype=torch.float64))
    expected = F.cosine_similarity(change, -batch.states.output_error.double()).mean()
    assert found.details["blocks"] == pytest.approx(float(expected), abs=1e-6)


def test_the_common_mode_of_known_credits() -> None:
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    assert share(rows) == pytest.approx((0.5**2) / ((1 + 1 + 4 + 4) / 4))
    assert share(1e-30 * rows) == pytest.approx(share(rows))
    assert math.isnan(share(torch.zeros(3, 2)))
    _, _, audit = trained("dfa")
    found = CommonMode(CommonMode.Params()).measure(audit)
    naive = [
        float(b.audited[1].mean(0).square().sum() / b.audited[1].square().sum(1).mean())
        for b in audit.batches
    ]
    assert found.details["layers"][1] == pytest.approx(sum(naive) / len(naive), rel=1e-5)


@pytest.mark.parametrize("test", [128, 129, 130, 100])
def test_a_probe_batch_of_a_few_samples_is_no_batch_of_its_own(test: int) -> None:
    """The share of independent noise is 1/N of a full batch, whatever samples are left over."""
    data = toy_data(test=test)
    method, net = ready(rule("noise_credit"), resmlp(), data)
    audit = Audit(net, method, data, 0, 3)
    found = CommonMode(CommonMode.Params()).measure(audit)
    assert found.details["null"] == 1 / min(test, 128)
    assert 0 < found.value < 3 * found.details["null"]
    assert audit.large_batches == 1
    (update,) = [one_update(audit, audit.batches[0])]
    of_one = read(audit, [update])
    assert ProjectedStep(ProjectedStep.Params()).measure(audit).value == of_one.value


@pytest.mark.parametrize(("test", "large"), [(20, 1), (191, 1), (192, 2), (255, 2), (320, 3)])
def test_a_probe_batch_counts_as_large_from_half_a_batch_on(test: int, large: int) -> None:
    method, net = ready(rule("dfa"), resmlp(), data := toy_data(test=test))
    assert Audit(net, method, data, 0, 3).large_batches == large


class Moody(Net):
    """What its blocks compute depends on the mode: BatchNorm, dropout."""

    def __init__(self, dropout: float) -> None:
        super().__init__(ResMLP.Params(), (12,), 5)
        torch.manual_seed(4)
        self.embed = nn.Linear(12, 8)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.BatchNorm1d(8), nn.GELU(), nn.Dropout(dropout), nn.Linear(8, 8))
            for _ in range(3)
        )
        self.readout = nn.Linear(8, 5)


def moody(name: str, dropout: float = 0.0, test: int = 256, **params: object) -> Audit:
    data = toy_data(n=256, test=test)
    method, net = ready(rule(name, **params), Moody(dropout), data, seed=5, **TRAINING)
    draws = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    for _, (x, y) in zip(range(8), data.epoch(32, *draws), strict=False):
        method.step(x, y, 3)
    initial = {k: v + 0.1 for k, v in net.state_dict().items()}
    return Audit(net, method, data, 5, 3, initial=initial)


NAMES = [component.name for component in bench_diagnostics()]


@pytest.mark.long
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("name", ["sign_symmetry", "predictive_coding", "bp"])
def test_diagnostics_read_the_network_in_eval_mode_and_move_no_generator(
    name: str, dropout: float
) -> None:
    """The figures are the same whatever mode the training left the network in."""
    found: dict[bool, dict[str, Measurement]] = {}
    for training in (True, False):
        audit = moody(name, dropout)
        audit.net.train(training)
        keeper = TrainingState(audit.net, audit.method, {})  # type: ignore[arg-type]
        found[training] = {}
        for each in NAMES:
            untouched = Untouched(keeper)
            found[training][each] = attempt(each, diagnostic(each), audit)
            untouched.check(each, audit)
        assert audit.net.training is training
    assert found[True] == found[False]
    assert not [each for each, item in found[True].items() if item.raised]


def test_the_gates_of_a_network_with_batch_norm_are_those_of_its_running_statistics() -> None:
    audit = moody("bp")
    found = attempt("participation", Participation(Participation.Params()), audit)
    audit.net.eval()
    u = []
    for block in range(3):
        z = audit.net.blocks[block][0](torch.cat([b.states.h[block] for b in audit.batches]))
        z = z.detach().double().requires_grad_()
        (slope,) = torch.autograd.grad(F.gelu(z).sum(), z)
        u.append(slope.square().mean(0))
    naive = sum(float(v.sum() ** 2 / (8 * v.square().sum())) for v in u) / 3
    assert found.value == pytest.approx(naive, rel=1e-5)


@pytest.mark.parametrize("dropout", [0.4, 0.8])
def test_the_update_of_backpropagation_is_the_gradient_with_dropout_too(dropout: float) -> None:
    audit = moody("bp", dropout)
    assert attempt("step", ProjectedStep(ProjectedStep.Params()), audit).value == pytest.approx(1)


def test_ratios_and_ranks_of_known_numbers() -> None:
    assert participation_ratio(torch.tensor([3.0, 3.0, 0.0, 0.0])) == pytest.approx(0.5)
    orthogonal = torch.cat([torch.eye(4), -torch.eye(4)])
    assert effective_rank(orthogonal) == pytest.approx(4.0)
    line = torch.arange(5.0)[:, None] * torch.ones(1, 7)
    assert effective_rank(line) == pytest.approx(1.0)
    rows = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    rotated = rows @ torch.linalg.qr(torch.randn(20, 20))[0][:5]  # wide rows, the same spectrum
    assert effective_rank(rotated) == pytest.approx(effective_rank(rows), rel=1e-5)


def test_ranks_of_large_states_are_those_of_the_first_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, _, audit = trained("dfa")
    h = torch.cat([batch.states.h[1] for batch in audit.batches])
    for most, rows in ((150, 150), (10_000, len(h))):  # across two batches; all
        monkeypatch.setattr(participation, "NUMBERS", most * h.shape[1])
        found = Participation(Participation.Params()).measure(audit)
        assert found.details["rank"][1] == pytest.approx(effective_rank(h[:rows]), rel=1e-12)


class Relu(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.act, self.b = nn.Linear(width, 6), nn.ReLU(inplace=True), nn.Linear(6, width)

    def forward(self, h: Tensor) -> Tensor:
        return self.b(self.act(self.a(h)))


def test_gates_of_relu_are_its_open_units() -> None:
    _, net, audit = trained("dfa", steps=0)
    width = audit.batches[0].states.h[0].shape[1]
    net.blocks = nn.ModuleList([Relu(width)])
    audit = Audit(net, None, audit.data, 5, 3)
    found = Participation(Participation.Params()).measure(audit)
    h = torch.cat([batch.states.h[0] for batch in audit.batches])
    u = (net.blocks[0].a(h) > 0).double().mean(0)
    assert found.value == pytest.approx(float(u.sum() ** 2 / (6 * u.square().sum())))
    assert found.details["mean_slope"] == pytest.approx([float(u.mean())])
    net.blocks = nn.ModuleList([nn.Linear(width, width)])
    audit = Audit(net, None, audit.data, 5, 3)
    assert "no block calls" in str(
        Participation(Participation.Params()).measure(audit).not_diagnostic
    )


@pytest.mark.long
@pytest.mark.parametrize("name", ["ep", "predictive_coding"])
def test_an_inference_settles_with_more_steps(name: str) -> None:
    found = []
    for steps in (2, 20, 200):
        _, _, audit = trained(name, steps=0)
        audit.method = ready(
            rule(name, steps=steps, step_size=0.4), audit.net, audit.data, seed=5, **TRAINING
        )[0]
        found.append(Settledness(Settledness.Params()).measure(audit))
    residuals = [each.details["residual"] for each in found]
    values = [each.value for each in found]
    assert residuals[0] > residuals[1] > residuals[2]
    assert values[0] > values[1] > values[2]
    assert residuals[2] < 1e-2  # its slowest mode decays by e^-8 in 200 steps


def test_the_samples_whose_inference_diverges_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, audit = trained("ep", steps=0)
    assert audit.method is not None
    size, ends = len(audit.batches[0].y), [0.1, 1.0, 2.0, math.nan]

    def residuals(states: Any, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        end = torch.full((len(y),), 0.5)
        end[:4] = torch.tensor(ends)
        return torch.ones(len(y)), end

    monkeypatch.setattr(audit.method, "residuals", residuals)
    audit.batches = audit.batches[:1]
    found = Settledness(Settledness.Params()).measure(audit)
    assert found.details["unsettled"] == pytest.approx(3 / size)  # 1, 2 and NaN


def test_a_block_with_moved_statistics_has_no_initial_weights_to_fall_back_on() -> None:
    """Its weights have not moved, and with BatchNorm's initial statistics it seems to be needed."""
    data = toy_data()
    net: Net = ResMLP(ResMLP.Params(width=16, depth=2), (12,), 5)
    for i, block in enumerate(net.blocks):
        net.blocks[i] = nn.Sequential(block, nn.BatchNorm1d(16))
    initial = {name: value.clone() for name, value in net.state_dict().items()}
    for _ in range(20):
        net.train().states(data.train_x)
    audit = Audit(net, None, data, 0, 1, initial=initial)
    found = BlockUtility(BlockUtility.Params()).measure(audit)
    assert found.details["initial"] != [0.0, 0.0]
    told = "training has moved blocks.0.1.running_mean, which fits no initial weights"
    assert found.not_diagnostic == told
    untouched = Audit(net, None, data, 0, 1, initial=dict(net.state_dict()))
    assert BlockUtility(BlockUtility.Params()).measure(untouched) == Measured(
        0.0, {"initial": [0.0, 0.0], "skipped": found.details["skipped"], "n": found.details["n"]}
    )


def test_a_block_is_worth_what_the_accuracy_loses_without_it() -> None:
    _, net, audit = trained("bp", steps=8)
    found = BlockUtility(BlockUtility.Params()).measure(audit)
    x = torch.cat([batch.states.x for batch in audit.batches])
    y = torch.cat([batch.y for batch in audit.batches])
    assert audit.initial is not None
    for block in range(net.depth):
        for kind in ("initial", "skipped"):
            other = copy.deepcopy(net).eval()
            if kind == "initial":
                part = {
                    k.removeprefix(f"blocks.{block}."): v
                    for k, v in audit.initial.items()
                    if k.startswith(f"blocks.{block}.")
                }
                other.blocks[block].load_state_dict(part)
            else:
                for parameter in other.blocks[block].w2.parameters():
                    parameter.data.zero_()
            lost = 100 * (audit.accuracy - net.loss.score(other.states(x).logits, y))
            assert found.details[kind][block] == pytest.approx(lost, abs=1e-9)


class Counting(DirectFeedbackAlignment):
    """Its credit grows whenever it is asked for."""

    calls = 0

    def credit(self, states, y, epoch):  # type: ignore[no-untyped-def]
        self.calls += 1
        own = super().credit(states, y, epoch)
        return replace(own, audited=[self.calls * a for a in own.audited])


class CountingForBlocks(Counting):
    """The same of the credit of its blocks, which is not audited."""

    def credit(self, states, y, epoch):  # type: ignore[no-untyped-def]
        self.calls += 1
        own = DirectFeedbackAlignment.credit(self, states, y, epoch)
        return replace(own, blocks=[self.calls * a for a in own.audited])


class NotFiniteForBlocks(DirectFeedbackAlignment):
    def credit(self, states, y, epoch):  # type: ignore[no-untyped-def]
        own = super().credit(states, y, epoch)
        return replace(own, blocks=[own.audited[0], *(a / 0 for a in own.audited[1:])])


class NotFinite(DirectFeedbackAlignment):
    def credit(self, states, y, epoch):  # type: ignore[no-untyped-def]
        own = super().credit(states, y, epoch)
        return replace(own, audited=[a / 0 for a in own.audited])


def test_a_credit_that_writes_into_what_it_is_given_is_refused() -> None:
    """Diagnostics read the same tensors: growth would be that of states which the rule has scaled,
    and accuracy on the probe that of its labels. Writes by `.data` and numpy are not counted by
    torch.
    """
    writes: dict[str, Callable[[States, Tensor], object]] = {
        "y": lambda states, y: y.zero_(),
        "states.x": lambda states, y: states.x.mul_(2),
        "states.h[1]": lambda states, y: states.h[1].mul_(2),
        "states.f[0]": lambda states, y: states.f[0].mul_(2),
        "states.output_error": lambda states, y: states.output_error.mul_(2),
        "states.logits": lambda states, y: states.logits.data.zero_(),
        "states.h[2]": lambda states, y: np.copyto(states.h[2].numpy(), 0.0),
    }
    for name, write in writes.items():
        uncounted = name in ("states.logits", "states.h[2]")

        class Writes(DirectFeedbackAlignment):
            def credit(self, states, y, epoch, write=write):  # type: ignore[no-untyped-def]
                write(states, y)
                return super().credit(states, y, epoch)

        data = toy_data(n=64, test=64)
        method, net = ready(Writes(Writes.Params()), resmlp(seed=3), data, seed=5, **TRAINING)
        audit = Audit(net, method, data, 5, 0)
        told = f"^Writes.credit changes {re.escape(name)} in place, and the audit reads it too"
        torch.use_deterministic_algorithms(True)
        try:
            with pytest.raises(BenchError, match=told):
                check_credit(audit, TrainingState(net, method, {}))
        finally:
            torch.use_deterministic_algorithms(False)
        if not uncounted:
            with pytest.raises(BenchError, match=told):
                audit.batch(*next(data.test_batches(16)))


def test_a_credit_that_writes_into_an_earlier_batch_is_refused() -> None:
    class WritesLater(DirectFeedbackAlignment):
        before: Tensor | None = None

        def credit(self, states, y, epoch):  # type: ignore[no-untyped-def]
            if self.before is not None:
                self.before.zero_()
            self.before = states.h[1]
            return super().credit(states, y, epoch)

    data = toy_data(n=64, test=300)
    method, net = ready(WritesLater(WritesLater.Params()), resmlp(seed=3), data, seed=5, **TRAINING)
    with pytest.raises(BenchError, match=r"^WritesLater.credit changes h_1 of an earlier batch in"):
        _ = Audit(net, method, data, 5, 0).batches


@pytest.mark.parametrize("norms", [True, False])
def test_a_credit_may_log_numbers_and_keep_no_batch(norms: bool) -> None:
    """The first audit comes before the first step: a memory of batches would hold test samples."""

    class Remembers(DirectFeedbackAlignment):
        def setup(self, net, task, tools):  # type: ignore[no-untyped-def]
            super().setup(net, task, tools)
            self.memory = []

        def credit(self, states, y, epoch):  # type: ignore[no-untyped-def]
            if len(self.memory) < 24:
                self.memory.append(states.x.norm() if norms else (states.x, y))
            return super().credit(states, y, epoch)

    data = toy_data(n=64, test=64)
    method, net = ready(Remembers(Remembers.Params()), resmlp(seed=3), data, seed=5, **TRAINING)
    told = r"^computing the credit of Remembers in an audit changes rule.memory\[1\]\[0\]"
    with nullcontext() if norms else pytest.raises(BenchError, match=told):
        check_credit(Audit(net, method, data, 5, 0), TrainingState(net, method, {}))


def test_a_network_of_other_bits_each_time_accuses_no_rule(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without deterministic algorithms the states of one pass may differ from those of the next."""
    data = toy_data(n=64, test=64)
    method, net = ready(
        DirectFeedbackAlignment(DirectFeedbackAlignment.Params()), resmlp(), data, **TRAINING
    )
    states, calls = net.states, []

    def rounding(*arguments: Any, **options: Any) -> States:
        calls.append(1)
        found = states(*arguments, **options)
        found.logits.data[0] *= 1 + 1e-6 * (len(calls) in (2, 3))  # those of the credits
        return found

    monkeypatch.setattr(net, "states", rounding)
    check_credit(Audit(net, method, data, 5, 0), TrainingState(net, method, {}))
    assert len(calls) == 4


def test_a_credit_that_counts_its_calls_or_is_not_finite_is_named_before_the_training() -> None:
    """And not the loss, or a place in a list that the reader does not know."""
    for kind, told in (
        (Counting, "of Counting returns another credit when it is asked for the same samples a"),
        (CountingForBlocks, "of CountingForBlocks returns another credit when it is asked for"),
        (NotFinite, r"of NotFinite is not finite on the untrained network \(state h_0\)"),
        (NotFiniteForBlocks, r"is not finite on the untrained network \(Credits.blocks\[1\]\)"),
    ):
        data = toy_data(n=64, test=64)
        method, net = ready(kind(kind.Params()), resmlp(seed=3), data, seed=5, **TRAINING)
        audit = Audit(net, method, data, 5, 0)
        audit.history = [{"epoch": 0}]
        torch.use_deterministic_algorithms(True)
        try:
            with pytest.raises(BenchError, match=told):
                check_credit(audit, TrainingState(net, method, {}))
        finally:
            torch.use_deterministic_algorithms(False)
