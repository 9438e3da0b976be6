"""student_net: a residual network with a dial for its non-linearity and no norm before the head."""

from __future__ import annotations

import math

from pydantic import Field
from torch import Tensor, nn

from bench_core.api import Net, ParamsModel

W_STD = 0.01


class Block(nn.Module):
    """f(h) = W·φ_α(LN(h)), φ_α(z) = (1−α)·z + α·tanh(z); LN with weights of its own, W (d, d)
    without bias."""

    def __init__(self, width: int, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.norm = nn.LayerNorm(width)
        self.w = nn.Linear(width, width, bias=False)
        nn.init.normal_(self.w.weight, std=W_STD)

    def forward(self, h: Tensor) -> Tensor:
        z = self.norm(h)
        out: Tensor = self.w((1 - self.alpha) * z + self.alpha * z.tanh())
        return out


class StudentNet(Net):
    """h_0 = x, h_{l+1} = h_l + W_l·φ_α(LN(h_l)), logits = W_h·h_L + b_h; every h_l (N, width).

    W_l ~ N(0, 0.01²); the head has PyTorch's default init. Inputs that have `width` features are
    the first state themselves, as in the teacher. Others (images) are projected, h_0 = W_e·x +
    b_e, default init, and this projection is not trained. The source does not say so, its
    figures do: on CIFAR-10 under dfa a fires at epochs 18 / 11 / 15 and the accuracy ends at
    .331 / .326 / .335 (published 18 / 14 / 25 and .332 / .314 / .336), where a trained
    projection outgrows the blocks and a stays at 1.1 (measured).

    There is no norm before the head, so that the reference gradient g_L = W_hᵀ·e does not shrink
    when ‖h_L‖ grows: b cannot fire through a terminal norm. Made for the data set `teacher`,
    whose labels come from a network of this form with the same α.
    Source: arXiv:2606.21126.
    """

    class Params(ParamsModel):
        """Parameters of student_net."""

        width: int = Field(128, ge=1, le=65536, description="d, the width of the stream")
        depth: int = Field(4, ge=1, le=1024, description="L, the number of blocks")
        alpha: float = Field(1.0, ge=0.0, le=1.0, description="α: 0 linear, 1 tanh")

    def __init__(self, params: Params, shape: tuple[int, ...], classes: int) -> None:
        super().__init__(params, shape, classes)
        d = params.width
        features = math.prod(shape)
        self.embed = (
            nn.Flatten() if features == d else nn.Sequential(nn.Flatten(), nn.Linear(features, d))
        )
        self.embed.requires_grad_(False)
        self.blocks = nn.ModuleList(Block(d, params.alpha) for _ in range(params.depth))
        self.readout = nn.Linear(d, classes)
