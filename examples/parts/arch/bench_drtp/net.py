"""drtp: a residual network with tanh blocks."""

import math

from pydantic import Field
from torch import nn

from bench_core.api import Net, ParamsModel


class TanhNet(Net):
    """h_0 = W_e·x, h_{l+1} = h_l + W_l·tanh(h_l), logits = W_h·LN(h_L). W_l ~ N(0, 0.1²/width)."""

    class Params(ParamsModel):
        """Parameters of drtp: part of a cell's identity, validated when the suite is read."""

        width: int = Field(64, ge=1, le=65536, description="d, the width of the stream")
        depth: int = Field(3, ge=1, le=1024, description="L, the number of blocks")

    def __init__(self, params, shape, classes):
        super().__init__(params, shape, classes)
        d = params.width
        self.embed = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), d))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Tanh(), nn.Linear(d, d)) for _ in range(params.depth)
        )
        for block in self.blocks:
            nn.init.normal_(block[1].weight, std=0.1 * d**-0.5)
        self.readout = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, classes))
