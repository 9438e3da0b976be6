"""resmlp: the residual MLP that the protocol audits."""

from __future__ import annotations

import math
from collections import OrderedDict

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from bench_core.api import Net, ParamsModel


class Block(nn.Module):
    """f(h) = W2·GELU(W1·LN(h)), both d→d."""

    def __init__(self, width: int, w2_std: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.w1 = nn.Linear(width, width)
        self.w2 = nn.Linear(width, width)
        nn.init.normal_(self.w2.weight, std=w2_std)
        nn.init.zeros_(self.w2.bias)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.w2(F.gelu(self.w1(self.norm(h))))
        return out


class ResMLP(Net):
    """h_0 = W_e·x, h_{l+1} = h_l + W2·GELU(W1·LN(h_l)), logits = W_h·LN(h_L).

    W_e and W1 have PyTorch's default init, W2 ~ N(0, 0.01²) with zero bias. At init (d=256,
    CIFAR-10) ‖h_l‖ ≈ 8.7–8.9 at every l and ‖f_l‖/‖h_l‖ ≈ 0.10. Without the residual connection
    W2 ~ N(0, 0.5²), or the signal would die.
    Source: arXiv:2606.21126.
    """

    class Params(ParamsModel):
        """Parameters of resmlp."""

        width: int = Field(256, ge=1, le=65536, description="d, the width of the stream")
        depth: int = Field(4, ge=1, le=1024, description="L, the number of blocks")
        terminal_norm: bool = Field(
            True, description="LayerNorm between the last state and the head"
        )
        residual: bool = Field(True, description="h + f(h) instead of f(h)")
        w2_std: float | None = Field(
            None,
            ge=0.0,
            le=1e3,
            description="deviation of W2 at init; default 0.01, or 0.5 without residual",
        )

    def __init__(self, params: Params, shape: tuple[int, ...], classes: int) -> None:
        super().__init__(params, shape, classes)
        d = params.width
        std = params.w2_std if params.w2_std is not None else (0.01 if params.residual else 0.5)
        self.residual = params.residual
        self.embed = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), d))
        self.blocks = nn.ModuleList(Block(d, std) for _ in range(params.depth))
        norm = [("out_norm", nn.LayerNorm(d))] if params.terminal_norm else []
        self.readout = nn.Sequential(OrderedDict([*norm, ("head", nn.Linear(d, classes))]))
