"""Small networks and cells for the tests of the science.

Built as the worker builds them, on the CPU, in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from bench_plugins.archs import bench_archs
from bench_plugins.archs.resmlp import ResMLP
from bench_plugins.methods import bench_methods
from torch import nn

from bench_core.api import Credits, LocalMethod, Method, Net, States
from bench_core.training.data import Data
from bench_core.training.net import exact_gradients
from bench_core.training.setup import set_up

TRAINING = {
    "epochs": 4, "stop_after": None, "batch_size": 32, "learning_rate": 1e-3, "weight_decay": 0.01,
    "clip_norm": 1.0, "schedule": "cosine", "device": "cpu", "precision": "float32",
}  # fmt: skip
METHODS = [component.name for component in bench_methods()]


def rule_class(name: str) -> type[Method]:
    """Return a built-in method's class by name."""
    target = next(component.target for component in bench_methods() if component.name == name)
    module, _, attribute = target.partition(":")
    found: type[Method] = getattr(import_module(module), attribute)
    return found


def rule(name: str, **params: Any) -> Method:
    """Build a built-in method by name, with validated parameters."""
    found = rule_class(name)
    return found(found.Params.model_validate(params))


# their blocks learn on the forward pass
LOCAL = [name for name in METHODS if rule_class(name).step is LocalMethod.step]


def toy_data(
    n: int = 256, features: int = 12, classes: int = 5, seed: int = 0, test: int = 1280
) -> Data:
    """Draw Gaussian inputs labelled by a random linear map."""
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(n + test, features, generator=draws)
    y = (x @ torch.randn(features, classes, generator=draws)).argmax(1)
    return Data(x[:n], y[:n], x[n:], y[n:], classes)


def resmlp(
    seed: int = 0, shape: tuple[int, ...] = (12,), classes: int = 5, **params: Any
) -> ResMLP:
    torch.default_generator.manual_seed(seed)  # without a stack kept per kind of accelerator
    return ResMLP(ResMLP.Params.model_validate({"width": 16, "depth": 3, **params}), shape, classes)


def arch(name: str, shape: tuple[int, ...], classes: int = 5, seed: int = 0, **params: Any) -> Net:
    """Build a built-in architecture by name, with validated parameters."""
    target = next(component.target for component in bench_archs() if component.name == name)
    module, _, attribute = target.partition(":")
    found = getattr(import_module(module), attribute)
    torch.default_generator.manual_seed(seed)  # without a stack kept per kind of accelerator
    return found(found.Params.model_validate(params), shape, classes)


class LinearNet(Net):
    """No residual, no norm, no non-linearity, no bias: h_{l+1} = W_l·h_l, logits = W_L·h_L."""

    residual = False

    def __init__(self, width: int, depth: int, features: int, classes: int) -> None:
        super().__init__(ResMLP.Params(), (features,), classes)
        self.embed = nn.Linear(features, width, bias=False)
        self.blocks = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        self.readout = nn.Linear(width, classes, bias=False)


class Exact(LocalMethod):
    """BP's gradients as credits of a local rule: c_l = g_{l+1}, embedding g_0."""

    def credit(self, states: States, y: torch.Tensor, epoch: int) -> Credits:
        g = exact_gradients(self.net, states.h[0], y)
        return Credits(audited=[g[site] for site in self.net.sites], blocks=g[1:], embed=g[0])


def ready(
    method: Method, net: Net, data: Data, seed: int = 0, **training: Any
) -> tuple[Method, Net]:
    """Set up the method on the net as a worker does."""
    set_up(method, net, data, {**TRAINING, **training}, seed)
    return method, net


def gradients(
    method: Method, net: Net, x: torch.Tensor, y: torch.Tensor, epoch: int = 0
) -> dict[str, torch.Tensor]:
    """Return the gradient of every parameter that one step of the method descends, before clipping.

    No parameter is updated.
    """
    updater = method.tools.updater
    updater.clip_norm, updater.optimiser.step = None, lambda: None  # type: ignore[method-assign]
    method.step(x, y, epoch)
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


class Written(Net):
    """A residual network whose blocks compute `form(layer a, layer b, z)`, z the normed state.

    readout  a function of the head's input; default: the head is linear
    """

    class Params(ResMLP.Params):
        """None of its own."""

    def __init__(
        self, form: Callable[..., torch.Tensor], readout: nn.Module | None = None, depth: int = 3
    ) -> None:
        super().__init__(self.Params(), (12,), 5)
        torch.default_generator.manual_seed(0)
        self.embed = nn.Linear(12, 16)
        self.blocks = nn.ModuleList(_Written(form) for _ in range(depth))
        self.readout = nn.Sequential(*([readout] if readout else []), nn.Linear(16, 5))


class _Written(nn.Module):
    def __init__(self, form: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.norm, self.a, self.b = nn.LayerNorm(16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.form = form

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.form(self.a, self.b, self.norm(h))
