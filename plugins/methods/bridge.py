"""The credit networks: a network of state, depth and output error, and its view of the states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench_core.api import Task

FEATURES = 32
HIDDEN = 256
SEEN = 256


def depth_features(t: Tensor) -> Tensor:
    """Sinusoidal features (N, 32) of t = l/L in 0 … 1, (N,).

    They are sin and cos of t·10000^(−k/16), k = 0 … 15. The source says only "sinusoidal
    features (32)". The choice shows early (state_bridge with penalty 1e-2 on CIFAR-10: CE of the
    first epoch 1.99, and 1.96 with frequencies up to 1000, which separate the layers better) and
    not at the end.
    """
    steps = torch.arange(FEATURES // 2, device=t.device) / (FEATURES // 2)
    angles = t.unsqueeze(1) * torch.exp(-math.log(10000.0) * steps)
    return torch.cat([angles.sin(), angles.cos()], 1)


class BridgeNet(nn.Module):
    """MLP on [LN(h) without affine, depth features of t (32), s] → three hidden layers of 256
    with GELU → out.

    No skip from h: with one it is another method, whose cosines lie near 0.8 (measured).
    """

    def __init__(self, width: int, classes: int, out: int) -> None:
        super().__init__()
        sizes = [width + FEATURES + classes, HIDDEN, HIDDEN, HIDDEN]
        layers: list[nn.Module] = []
        for below, above in pairwise(sizes):
            layers += [nn.Linear(below, above), nn.GELU()]
        self.trunk = nn.Sequential(*layers, nn.Linear(HIDDEN, out))

    def forward(self, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """h (N, d), t (N,), s (N, C) → (N, out)."""
        out: Tensor = self.trunk(torch.cat([F.layer_norm(h, h.shape[1:]), depth_features(t), s], 1))
        return out


class Lens(nn.Module):
    """The flattened states, or z_l = h_l·P if the states have several sizes.

    P (features, 256) is fixed and random, entries N(0, 1/256), so that norms are kept on
    average. States of one size share one P. A gradient at z_l goes back to the state by Pᵀ:
    ∂/∂h_l = (∂/∂z_l)·Pᵀ.
    """

    def __init__(self, task: Task, generator: torch.Generator) -> None:
        super().__init__()
        sizes = sorted({task.features(layer) for layer in range(len(task.shapes))})
        self.width = sizes[0] if len(sizes) == 1 else SEEN
        for size in sizes if len(sizes) > 1 else ():
            self.register_buffer(
                f"P_{size}", SEEN**-0.5 * torch.randn(size, SEEN, generator=generator)
            )

    def forward(self, h: Tensor) -> Tensor:
        """(N, …) → (N, width)."""
        flat = h.flatten(1)
        P = self._buffers.get(f"P_{flat.shape[1]}")
        return flat if P is None else flat @ P

    def back(self, gradient: Tensor, h: Tensor) -> Tensor:
        """Lead a gradient (N, width) at the view back to the state, shaped like h."""
        P = self._buffers.get(f"P_{h[0].numel()}")
        return (gradient if P is None else gradient @ P.T).view_as(h)

    def stacked(
        self, hs: Sequence[Tensor], layers: list[int], depth: int, s: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Views of several layers as one batch (layers·N, width), with t = l/L and s repeated."""
        t = torch.tensor([layer / depth for layer in layers], device=s.device).repeat_interleave(
            len(s)
        )
        return torch.cat([self(h) for h in hs]), t, s.repeat(len(layers), 1)
