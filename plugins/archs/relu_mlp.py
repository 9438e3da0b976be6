"""relu_mlp: a plain multilayer perceptron, without residual connections and without norms."""

from __future__ import annotations

import math

from pydantic import Field
from torch import nn

from bench_core.api import Net, ParamsModel


class ReluMLP(Net):
    """h_0 = ReLU(W_e·x + b_e), h_{l+1} = f_l(h_l) = ReLU(W_l·h_l + b_l), logits = W_h·h_L + b_h;
    every h_l (N, width).

    All weights and biases have PyTorch's default init, U(−1/√fan_in, 1/√fan_in). No residual
    connection and no norm: the credit of block l lives at its output h_{l+1}, behind the ReLU.
    Source: arXiv:2606.21126 (L = 4, d = 256); that the embedding has a ReLU too is our choice:
    without it W_0·W_e would be one linear map.
    """

    class Params(ParamsModel):
        """Parameters of relu_mlp."""

        width: int = Field(256, ge=1, le=65536, description="d, the width of every layer")
        depth: int = Field(4, ge=1, le=1024, description="L, the number of blocks")

    residual = False

    def __init__(self, params: Params, shape: tuple[int, ...], classes: int) -> None:
        super().__init__(params, shape, classes)
        d = params.width
        self.embed = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), d), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(d, d), nn.ReLU()) for _ in range(params.depth)
        )
        self.readout = nn.Linear(d, classes)
