"""Probe networks: small, and built to reveal how a rule uses their weights.

Every weight matrix can be *masked*: its parameter then holds noise, while the forward pass uses
the true values. Code that reads the parameter or back-propagates through the layer sees the
noise; code that only runs the layer forward (forward-mode derivatives included) sees no
difference. Every block counts the rows that it runs on, and notes a gradient that leaves it
downwards into another block.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
    """Observed runs and gradient leaks of the blocks."""

    rows: list[int] = field(default_factory=list)  # that each block was run on
    # blocks out of which a gradient went down into the block below
    leaks: set[int] = field(default_factory=set)


class _Watch(torch.autograd.Function):
    """The identity; notes when a gradient passes."""

    generate_vmap_rule = True

    @staticmethod
    def forward(h: Tensor, log: Log, block: int) -> Tensor:
        return h.view_as(h)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.log, ctx.block = inputs[1:]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        ctx.log.leaks.add(ctx.block)
        return gradients[0], None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return tangents[0].view_as(tangents[0])


class Block(nn.Module):
    """f(h) = W2·GELU(W1·LN(h)), d → 2d → d; or f(h) = W·h."""

    def __init__(self, width: int, number: int, log: Log, linear: bool) -> None:
        super().__init__()
        self.number, self.log = number, log
        self.norm = nn.Identity() if linear else nn.LayerNorm(width)
        self.layers = nn.ModuleList([Dense(width, width, bias=False)] if linear else
                                    [Dense(width, 2 * width), Dense(2 * width, width)])  # fmt: skip

    def forward(self, h: Tensor) -> Tensor:
        self.log.rows[self.number] += len(h)
        if self.number > 0 and h.requires_grad and h.grad_fn is not None:
            h = _Watch.apply(h, self.log, self.number)
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
        head = Dense(width, classes, bias=bias)
        self.readout = (
            nn.Sequential(head) if params.linear else nn.Sequential(nn.LayerNorm(width), head)
        )

    def mask_blocks(self, first: int) -> None:
        """Mask every weight of the blocks `first` … L−1."""
        for number, block in enumerate(self.blocks):
            for index, layer in enumerate(block.modules()):
                if number >= first and isinstance(layer, Dense):
                    layer.mask(seed=100 * number + index)

    def mask_readout(self) -> None:
        """Mask the head's weight."""
        for layer in self.readout.modules():
            if isinstance(layer, Dense):
                layer.mask(seed=1_000)
