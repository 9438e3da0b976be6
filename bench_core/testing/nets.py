"""Probe networks: small, and built to reveal how a rule uses their weights.

A *masked* weight matrix holds noise in its parameter, while the forward pass (forward-mode
derivatives included) uses the true values; reading the parameter or back-propagating sees the
noise. Every block counts the rows that it runs on, and notes a gradient that leaves it downwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench_core.training.net import Net
from bench_core.training.params import ParamsModel


class _Masked(torch.autograd.Function):
    """x·Wᵀ forward; backward as if the matrix were `shown`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, true: Tensor, shown: Tensor) -> Tensor:
        return F.linear(x, true)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        x, _, shown = ctx.saved_tensors
        return gradient @ shown, None, gradient.flatten(0, -2).mT @ x.flatten(0, -2)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        x_tangent, _, shown_tangent = tangents
        x, true, _ = ctx.saved_tensors
        out = torch.zeros_like(F.linear(x, true))
        if x_tangent is not None:
            out = out + F.linear(x_tangent, true)
        return out if shown_tangent is None else out + F.linear(x, shown_tangent)


class Dense(nn.Linear):
    """A linear layer whose weight can be masked.

    A later change of the parameter is added to the true weight too.
    """

    true: Tensor | None = None
    shown: Tensor

    @torch.no_grad()
    def mask(self, seed: int = 0) -> None:
        """Replace the weight by noise of the same deviation, everywhere but in the forward pass."""
        self.true = self.weight.detach().clone()
        draws = torch.Generator().manual_seed(seed)
        noise = torch.randn(self.weight.shape, generator=draws).to(self.weight)
        self.weight.copy_(noise * self.weight.std())
        self.shown = self.weight.detach().clone()

    def forward(self, x: Tensor) -> Tensor:
        if self.true is None:
            return super().forward(x)
        with torch.no_grad():
            if not torch.equal(self.weight, self.shown):
                self.true = self.true + (self.weight - self.shown)
                self.shown = self.weight.detach().clone()
        out: Tensor = _Masked.apply(x, self.true, self.weight)
        return out if self.bias is None else out + self.bias


@dataclass
class Log:
    """Observations of the blocks.

    rows   rows that each block was run on
    leaks  blocks out of which a gradient went down into the block below
    """

    rows: list[int]
    leaks: set[int] = field(default_factory=set)


class Block(nn.Module):
    """f(h) = W2·GELU(W1·LN(h)), d → 2d → d; or f(h) = W·h."""

    def __init__(self, width: int, number: int, log: Log, linear: bool) -> None:
        super().__init__()
        self.number, self.log = number, log
        self.norm = nn.Identity() if linear else nn.LayerNorm(width)
        widths = (width, width) if linear else (width, 2 * width, width)
        self.layers = nn.ModuleList(Dense(*pair, bias=not linear) for pair in pairwise(widths))

    def forward(self, h: Tensor) -> Tensor:
        self.log.rows[self.number] += len(h)
        if self.number > 0 and h.requires_grad and h.grad_fn is not None:
            h = h.view_as(h)
            h.register_hook(lambda gradient: self.log.leaks.add(self.number))  # type: ignore[no-untyped-call]
        first, *second = self.layers
        out: Tensor = first(self.norm(h))
        for layer in second:
            out = layer(F.gelu(out))
        return out


class ProbeNet(Net):
    """Flatten, Dense embedding; `depth` blocks; readout LN and Dense, or Dense alone where
    `linear`."""

    blocks: nn.ModuleList
    readout: nn.Sequential

    class Params(ParamsModel):
        """Parameters of the probe network."""

        width: int = 8
        depth: int = 3
        residual: bool = True
        linear: bool = False

    def __init__(self, params: Params, shape: tuple[int, ...], classes: int) -> None:
        super().__init__(params, shape, classes)
        width, bias = params.width, not params.linear
        self.residual = params.residual
        self.log = Log([0] * params.depth)
        self.embed = nn.Sequential(nn.Flatten(), Dense(torch.Size(shape).numel(), width, bias=bias))
        self.blocks = nn.ModuleList(
            Block(width, number, self.log, params.linear) for number in range(params.depth)
        )
        norm = [] if params.linear else [nn.LayerNorm(width)]
        self.readout = nn.Sequential(*norm, Dense(width, classes, bias=bias))

    def mask_blocks(self, first: int) -> None:
        """Mask every weight of the blocks `first` … L−1."""
        for number in range(first, self.depth):
            mask(self.blocks[number], seed=100 * number)

    def mask_readout(self) -> None:
        """Mask the head's weight."""
        mask(self.readout, seed=1_000)


def mask(part: nn.Module, seed: int) -> None:
    """Mask every weight of a part, each with noise of its own."""
    for index, layer in enumerate(part.modules()):
        if isinstance(layer, Dense):
            layer.mask(seed + index)
