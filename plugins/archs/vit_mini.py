"""vit_mini: a small pre-norm vision transformer with a CLS token."""

from __future__ import annotations

from collections import OrderedDict

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from bench_core.api import Net, ParamsModel

POSITION_STD = 0.02


class Embed(nn.Module):
    """Patches (p×p pixels, linear) behind a CLS token, plus learned positions: (N, c, H, W) →
    (N, 1 + patches, d)."""

    def __init__(self, shape: tuple[int, ...], patch: int, width: int) -> None:
        super().__init__()
        patches = (shape[1] // patch) * (shape[2] // patch)
        self.patch = nn.Conv2d(shape[0], width, patch, patch)
        self.cls = nn.Parameter(POSITION_STD * torch.randn(1, 1, width))
        self.position = nn.Parameter(POSITION_STD * torch.randn(1, 1 + patches, width))

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch(x).flatten(2).transpose(1, 2)
        return torch.cat([self.cls.expand(len(x), -1, -1), patches], 1) + self.position


class Block(nn.Module):
    """f(h) = u + MLP(LN(h + u)), u = attention(LN(h)): the branch of a pre-norm block."""

    def __init__(self, width: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width)
        )

    def attend(self, h: Tensor) -> Tensor:
        n, tokens, width = h.shape
        q, k, v = (
            self.qkv(h).view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        )
        mixed: Tensor = self.out(
            F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, width)
        )
        return mixed

    def forward(self, h: Tensor) -> Tensor:
        u = self.attend(self.norm1(h))
        out: Tensor = u + self.mlp(self.norm2(h + u))
        return out


class Cls(nn.Module):
    """The CLS token of the stream."""

    def forward(self, h: Tensor) -> Tensor:
        return h[:, 0]


class ViTMini(Net):
    """h_0 = [CLS, patches·W_p + b_p] + positions, h_{l+1} = h_l + f_l(h_l), logits =
    W_h·LN(h_L[CLS]) + b_h; every h_l (N, 1 + patches, width), for images (N, c, H, W).

    f(h) = u + MLP(LN(h + u)), u = attention(LN(h)), MLP of `mlp_ratio`·width hidden GELUs,
    scaled dot-product attention with `heads` heads. CLS token and positions ~ N(0, 0.02²), so
    ‖h_0[CLS]‖ ≈ 0.32 at init (published .3–1.5); all else PyTorch's default init.

    Tokens: the credit covers every token in training, normalised per token; per-sample norms,
    cosines and the diagnostics made of them read the CLS token's stream (`flat`). The exact
    gradient at h_L is zero off the CLS token, because the readout sees nothing else. What that
    means per rule: `dfa` gives every token of a sample the same feedback; `fa` leads the exact
    top credit down token by token, so its credit is zero off the CLS token in every layer, and
    patches and their embedding are left untrained but for weight decay; the bridges see all
    tokens as one flattened state. Untrained, it prefers a class whatever the image, since
    attention averages the image away: c fires at random init on CIFAR-10 (.82 / .65 / .41 for
    seeds 42 / 123 / 456, measured) and is not diagnostic there.
    Source: arXiv:2606.21126 (four blocks, d = 128, patch 4, 4 heads); Dosovitskiy et al. 2020,
    arXiv:2010.11929. The MLP ratio is our choice.
    """

    class Params(ParamsModel):
        """Parameters of vit_mini."""

        width: int = Field(128, ge=1, le=65536, description="d, the width of a token's stream")
        depth: int = Field(4, ge=1, le=1024, description="L, the number of blocks")
        patch: int = Field(4, ge=1, le=1024, description="side of a patch in pixels")
        heads: int = Field(4, ge=1, le=1024, description="attention heads; must divide width")
        mlp_ratio: int = Field(
            2, ge=1, le=64, description="hidden units of the MLP per unit of width"
        )

        @model_validator(mode="after")
        def _heads_divide_width(self) -> ViTMini.Params:
            if self.width % self.heads:
                raise ValueError(f"heads: {self.heads} does not divide width {self.width}")
            return self

    tokens = True

    def __init__(self, params: Params, shape: tuple[int, ...], classes: int) -> None:
        super().__init__(params, shape, classes)
        if len(shape) != 3 or shape[1] % params.patch or shape[2] % params.patch:
            raise ValueError(
                "vit_mini needs images (channels, height, width) whose sides are multiples of its "
                f"patch ({params.patch}), not inputs of shape {shape}"
            )
        d = params.width
        self.embed = Embed(shape, params.patch, d)
        self.blocks = nn.ModuleList(
            Block(d, params.heads, params.mlp_ratio) for _ in range(params.depth)
        )
        self.readout = nn.Sequential(
            OrderedDict(
                [("cls", Cls()), ("out_norm", nn.LayerNorm(d)), ("head", nn.Linear(d, classes))]
            )
        )

    def flat(self, h: Tensor) -> Tensor:
        return h[:, 0]
