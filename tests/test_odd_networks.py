"""Networks and rules that torch allows and that a deep copy, a file or the meta device does not."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from bench_plugins.datasets.teacher import Teacher
from nets import TRAINING, resmlp, rule, rule_class, toy_data
from test_diagnostics import diagnostic
from torch import nn

from bench_core.errors import BenchError
from bench_core.execution.planning import fit
from bench_core.testing import checks
from bench_core.testing.kit import run
from bench_core.training.audit import Audit
from bench_core.training.loop import train
from bench_core.training.loss import SQUARED_ERROR
from bench_core.training.net import Net, copied
from bench_core.training.setup import set_up

FEATURES, WIDTH, CLASSES = 12, 8, 5


class Plain(Net):
    """Two linear blocks; `block` makes one."""

    def __init__(self, params: Any, shape: tuple[int, ...], classes: int) -> None:
        super().__init__(params, shape, classes)
        self.embed = nn.Sequential(nn.Flatten(), nn.LazyLinear(WIDTH))
        self.embed(torch.zeros(1, *shape))
        self.blocks = nn.ModuleList(self.block() for _ in range(2))
        self.readout = nn.Linear(WIDTH, classes)

    def block(self) -> nn.Module:
        return nn.Linear(WIDTH, WIDTH)


class Caching(Plain):
    class Block(nn.Linear):
        def forward(self, h: torch.Tensor) -> torch.Tensor:
            self.last = super().forward(h)
            return self.last

    def block(self) -> nn.Module:
        return self.Block(WIDTH, WIDTH)


class OldWeightNorm(Plain):
    def block(self) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return nn.utils.weight_norm(super().block())


class Idle(Plain):
    def block(self) -> nn.Module:
        return nn.ReLU()


class Half(Idle):
    """A block without parameters beside one that trains."""

    def __init__(self, params: Any, shape: tuple[int, ...], classes: int) -> None:
        super().__init__(params, shape, classes)
        self.blocks.append(nn.Linear(WIDTH, WIDTH))


class TooWide(Plain):
    def __init__(self, params: Any, shape: tuple[int, ...], classes: int) -> None:
        super().__init__(params, shape, classes + 1)


class Pooling(Plain):
    """Its second block halves the state, and it forgot `residual = False`."""

    def __init__(self, params: Any, shape: tuple[int, ...], classes: int) -> None:
        super().__init__(params, shape, classes)
        self.blocks[1] = nn.Linear(WIDTH, WIDTH // 2)
        self.readout = nn.Linear(WIDTH // 2, classes)


class Broadcasting(Plain):
    """Its blocks return one column, which would be added to all."""

    def block(self) -> nn.Module:
        return nn.Linear(WIDTH, 1)


class PoolingOn(Pooling):
    residual = False


class DropPath(Plain):
    def block(self) -> nn.Module:
        self.rate = torch.linspace(0, 0.1, 2)[1].item()  # no value on the meta device
        return super().block()


class Refusing(DropPath):
    def block(self) -> nn.Module:
        super().block()
        raise ValueError("it takes no such inputs")


class Tied(Plain):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.blocks[1].weight = self.blocks[0].weight


class ExtraState(Plain):
    def get_extra_state(self) -> Any:
        return {"a": 1}


class Growing(Plain):
    class Block(nn.Linear):
        def forward(self, h: torch.Tensor) -> torch.Tensor:
            self.register_buffer("last", h.detach())
            return super().forward(h)

    def block(self) -> nn.Module:
        return self.Block(WIDTH, WIDTH)


def net_of(kind: type[Net]) -> Net:
    torch.manual_seed(0)
    return kind(kind.Params(), (FEATURES,), CLASSES)


def refusal(kind: type[Net]) -> Any:
    bp = rule_class("bp")
    arch, data = (kind, kind.Params()), (Teacher, Teacher.Params())
    return fit.refusal((bp, bp.Params()), arch, data)


# ------------------------------------------------------------------------------- the meta device


def test_a_residual_stream_that_changes_its_shape_is_named_with_its_block() -> None:
    said = refusal(Pooling)
    assert said["at"] == "arch"
    assert said["why"].startswith(f"block 1 makes ({WIDTH // 2},) of a state of shape ({WIDTH},)")
    assert "set `residual = False` on the network" in said["why"]
    [check] = checks(Pooling, only="takes_a_built_in_data_set")
    assert "block 1 makes" in run(check).reason
    assert refusal(Broadcasting)["why"].startswith("block 0 makes (1,) of a state of shape")
    assert refusal(PoolingOn) is None
    assert refusal(Plain) is None


def test_a_network_that_only_the_meta_device_refuses_is_accepted() -> None:
    assert refusal(DropPath) is None
    [check] = checks(DropPath, only="takes_a_built_in_data_set")
    assert run(check).status == "passed"


def test_a_refusal_gives_the_reason_of_the_real_network() -> None:
    assert refusal(Refusing) == {"at": "arch", "why": "it takes no such inputs"}


# -------------------------------------------------------------------------------- the state dict


def test_a_parameter_of_two_blocks_is_refused_before_training() -> None:
    assert "blocks.0.weight belongs to two" in refusal(Tied)["why"]
    with pytest.raises(BenchError, match=r"blocks\.0\.weight belongs to two"):
        set_up(rule("bp"), net_of(Tied), toy_data(), TRAINING, 0)


def test_blocks_without_parameters_are_refused() -> None:
    assert "its blocks have no parameters" in refusal(Idle)["why"]
    assert refusal(Half) is None


def test_a_readout_of_other_classes_is_refused_before_the_first_step() -> None:
    told = r"gives outputs of shape \(6,\) for each input, and the data set has 5 classes"
    with pytest.raises(BenchError, match=told):
        set_up(rule("dfa"), net_of(TooWide), toy_data(), TRAINING, 0)


def test_a_regression_asks_for_no_number_of_classes() -> None:
    data = toy_data()
    data = replace(data, train_y=torch.zeros(len(data.train_y), 6), loss=SQUARED_ERROR)
    method = rule("dfa")
    set_up(method, net_of(TooWide), data, TRAINING, 0)
    assert method.task.steps_per_epoch > 0


def trained(net: Net, **kept: Any) -> list[int]:
    """Train by dfa, whose steps put `kept` into its state; return the measured epochs."""
    method, data, epochs = rule("dfa"), toy_data(), []
    set_up(method, net, data, TRAINING, 0)
    step = method.step

    def stepping(x: Any, y: Any, epoch: int) -> Any:
        method.kept |= kept
        return step(x, y, epoch)

    method.step = stepping  # type: ignore[method-assign]
    training = TRAINING | {"stop_after": 2}

    def observe(row: Any) -> bool:
        epochs.append(row.epoch)
        return False

    try:
        train(method, net, data, training, 0, observe)
    except BenchError as error:
        assert epochs in ([], [0])  # not after a training of hours
        raise error from None
    return epochs


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (3, "of type int: only tensors can be kept"),
        (torch.eye(2).to_sparse(), "of layout torch.sparse_coo"),
        (torch.zeros(2, dtype=torch.complex128), "of type torch.complex128"),
        (torch.zeros(2, device="meta"), "a tensor without values"),
    ],
)
def test_a_state_that_cannot_be_saved_ends_the_training_at_its_first_step(
    value: Any, reason: str
) -> None:
    with pytest.raises(BenchError, match=f"of the rule holds 'late', {reason}"):
        trained(resmlp(), late=value)


def test_what_can_be_saved_trains_to_the_end() -> None:
    views = torch.zeros(4, 4)
    assert trained(resmlp(), late=views[:, :2], other=views[1], half=views.half()) == [0, 1, 2]
    assert trained(net_of(Caching)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (ExtraState, "of the network holds '_extra_state', of type dict"),
        (Growing, r"blocks.0.last in .* from shape \[1, 8\] to \[32, 8\].*persistent=False"),
    ],
)
def test_a_network_whose_checkpoint_nothing_can_load_is_refused(kind: Any, reason: str) -> None:
    with pytest.raises(BenchError, match=reason):
        trained(net_of(kind))


# ------------------------------------------------------------------------------------ deep copies


@pytest.mark.parametrize("kind", [Caching, OldWeightNorm])
def test_a_network_that_cannot_be_deep_copied_loses_no_diagnostic(kind: Any) -> None:
    measured = []
    for name in (kind, Plain):
        method, data, net = rule("dfa"), toy_data(test=256), net_of(name)
        set_up(method, net, data, TRAINING, 0)
        for _ in range(2):
            method.step(data.train_x[:32], data.train_y[:32], 3)
        before = torch.get_rng_state()
        audit = Audit(net, method, data, 0, 3)
        names = ("nudging", "perturbation_correlation", "null_calibration")
        measured.append([diagnostic(each).measure(audit).details["layers"] for each in names])
        assert torch.equal(before, torch.get_rng_state())
    if kind is Caching:  # the same network but for the cache
        assert measured[0] == measured[1]


def test_a_copy_built_anew_is_the_network_itself() -> None:
    net = net_of(Caching).double()
    net.freeze_blocks(1)
    net.eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2)
    x = torch.randn(3, FEATURES, dtype=torch.float64)
    logits = net.states(x).logits
    other = copied(net, 0)
    assert not other.training
    assert torch.equal(other.states(x).logits, logits)
    grad = [p.requires_grad for p in net.parameters()]
    assert [p.requires_grad for p in other.parameters()] == grad
    assert other.embed is not net.embed
