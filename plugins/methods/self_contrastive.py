"""self_contrastive: every layer tells an input paired with itself from one paired with another."""

from __future__ import annotations

import torch
from bench_plugins.methods.forward_forward import ForwardForward, sees_length
from bench_plugins.methods.unnormalised import Unnormalised
from torch import Tensor

from bench_core.api import LocalMethod, Net, Passport, Task, Tools


class SelfContrastive(ForwardForward):
    """forward_forward with other inputs, which need no label:

        x⁺_n = ½(x_n + x_n) = x_n,   x⁻_n = ½(x_n + x_m),   m = n + k (mod N),

    k ≥ 1 drawn per batch, 1 in an audit; a batch needs two samples. The blocks learn without
    labels; the readout minimises the loss on sg(h_L) of the plain forward pass, which is that of
    x⁺.

    Ours: the mean of the two inputs (source: both side by side, through the same first weights and
    added; that is this for a linear first layer, up to a factor 2); forward_forward's goodness and
    threshold. In the source's code for MNIST the loss is softplus too, with one negative per
    positive, of the mean of relu(u)² against two chosen thresholds per layer, plus λ times the
    goodness of x⁺; layers learn one after another, and the readout sees several layers.
    Source: arXiv:2409.11593 (2024), self-contrastive forward-forward.
    Verified: the pairs by an own computation; no label moves the blocks; the credit is
    forward_forward's for the same pair of inputs.
    """

    class Params(Unnormalised):
        """Options of self_contrastive."""

    passport = Passport(extra_forward_passes=True)

    def unsupported(self, net: Net) -> str | None:
        return sees_length(net)

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        LocalMethod.setup(self, net, task, tools)
        if task.batch_size < 2:
            raise ValueError("batch_size is 1: self_contrastive pairs each sample with another one")

    def inputs(self, x: Tensor, y: Tensor, drawn: bool) -> Tensor:
        """x⁺ over x⁻, (2N, …)."""
        n, draws = len(x), self.tools.aux_generator
        k = torch.randint(1, max(n, 2), (1,), generator=draws).to(x.device) if drawn else 1
        return torch.cat([x, 0.5 * (x + x[(torch.arange(n, device=x.device) + k) % n])])
