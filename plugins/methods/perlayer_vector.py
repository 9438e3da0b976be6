"""perlayer_vector: one trainable vector per state, the same for all samples."""

from __future__ import annotations

import torch
from bench_plugins.methods.fitted import FittedMethod
from bench_plugins.methods.loss_change import LossChangeFit
from torch import Tensor, nn

from bench_core.api import Credits, Net, States, Task, Tools


class LayerVectors(nn.Module):
    """(h_l, t_l, s) → w_l, for all h_l and s: L + 1 vectors, entries N(0, 1/d) at first."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(width**-0.5 * torch.randn(depth + 1, width))

    def forward(self, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """t (N,) = l/L → (N, width)."""
        return self.vectors[(t * (len(self.vectors) - 1)).round().long()]


class PerLayerVector(FittedMethod):
    """A null method: a_l = w_l/rms(h_l) with one trained vector w_l per state for all samples.

    The vectors are trained like vec's network (`LossChangeFit`): the best credit that depends on
    the depth and not on the sample. The direction is the same for all samples, so a block can
    only learn to push every sample the same way.
    Ours: a rule of its own; in the source it is a branch of `blend`.
    Source: Hao, Wan, Zhai 2026, arXiv:2606.21126.
    Verified: all samples get one direction, and it tends to the mean gradient.
    """

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        self.fit = LossChangeFit(
            net, task, tools, self.params, lambda width: LayerVectors(net.depth, width)
        )
        self.kept |= self.fit.parts

    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        a = self.fit.credit(states)
        return Credits(audited=[a[site] for site in self.net.sites], embed=a[0])
