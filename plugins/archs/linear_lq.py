"""linear_lq: a noisy linear system whose costate is known in closed form, so that credits can be
scored against the truth."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from bench_core.api import Net, ParamsModel, States

ROWS = 128  # of the noise in eval mode: one probe batch
DISTURBANCE = 0.1


class Step(nn.Module):
    """A·h + ω. In eval mode, row i of a batch gets row i (modulo 128) of a fixed ω.

    In training mode it gets the ω of the last `draw`.
    """

    def __init__(self, width: int, noise: float) -> None:
        super().__init__()
        self.noise = noise
        self.linear = nn.Linear(width, width, bias=False)
        nn.init.orthogonal_(self.linear.weight)
        with torch.no_grad():
            self.linear.weight.add_(DISTURBANCE * width**-0.5 * torch.randn(width, width))
        self.register_buffer("fixed", noise * torch.randn(ROWS, width))
        self.fresh = self.fixed

    def draw(self, rows: int) -> None:
        self.fresh = self.noise * torch.randn(rows, self.fixed.shape[1])

    def forward(self, h: Tensor) -> Tensor:
        realised = (self.fresh if self.training else self.fixed).to(h)
        if len(h) != len(realised):
            realised = realised[torch.arange(len(h), device=h.device) % len(realised)]
        out: Tensor = self.linear(h) + realised
        return out


class LinearLQ(Net):
    """h_0 = x, h_{l+1} = f_l(h_l) = A_l·h_l + ω_l, o = W·h_L; every h_l (N, width), o (N, outputs).

    A_l = Q_l + 0.1·G_l, Q_l a random orthogonal matrix, G_l ~ N(0, 1/width): near-orthogonal.
    ω_l ~ N(0, noise²). W ~ N(0, 1/width), fixed: it belongs to the problem. There is nothing to
    embed, so inputs must have `width` features.

    The costate of the realised noise, per sample, in closed form (`costate`):

        λ_L = Wᵀ·e,   λ_l = A_lᵀ·λ_{l+1},   e = ∂loss/∂o at the realised states.

    One realisation per forward pass: `states` draws a fresh ω in training mode, and code that
    re-runs blocks from a middle layer (`advance`, `resume`, relaxations, gradients) meets the
    same ω again. In eval mode ω is fixed, row i of a batch meeting row i modulo 128: every probe
    batch of 128 meets the same 128 rows, and M copies of such a batch, stacked, do too. With
    `freeze: blocks` no parameter of the network is left to train, and only the credit networks
    learn.
    Source: arXiv:2606.21126 (12 layers, d = 64, 10 outputs, noise 0.03); how near to orthogonal,
    and W, are our choice.
    """

    class Params(ParamsModel):
        """Parameters of linear_lq."""

        width: int = Field(64, ge=1, le=65536, description="d, the width of the state")
        depth: int = Field(12, ge=1, le=1024, description="L, the number of linear layers")
        noise: float = Field(
            0.03,
            ge=0.0,
            le=1e3,
            description="deviation of the process noise per coordinate and layer",
        )

    residual = False

    def __init__(self, params: Params, shape: tuple[int, ...], classes: int) -> None:
        super().__init__(params, shape, classes)
        d = params.width
        if math.prod(shape) != d:
            raise ValueError(
                f"linear_lq has no embedding: inputs must have width = {d} features, not shape "
                f"{shape}"
            )
        self.embed = nn.Flatten()
        self.blocks = nn.ModuleList(Step(d, params.noise) for _ in range(params.depth))
        self.readout = nn.Linear(d, classes, bias=False)
        nn.init.normal_(self.readout.weight, std=d**-0.5)
        self.readout.requires_grad_(False)

    def states(self, x: Tensor, local: bool = False, statistics: bool = True) -> States:
        if self.training and statistics:
            for block in self.blocks:
                block.draw(len(x))
        return super().states(x, local, statistics)

    def costate(self, states: States, y: Tensor) -> tuple[Tensor, ...]:
        costates = [self.loss.error(states.logits, y) @ self.readout.weight]
        for block in reversed(self.blocks):
            costates.insert(0, costates[0] @ block.linear.weight)
        return tuple(costate.detach() for costate in costates)
