"""bp_local_heads: backpropagation with the local heads of the local-loss rules, their ceiling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from bench_plugins.methods.bp import Backprop
from bench_plugins.methods.local_loss import LocalHeads
from pydantic import Field
from torch import Tensor

from bench_core.api import Credits, Laws, Passport, States


class BackpropLocalHeads(LocalHeads, Backprop):
    """Deep supervision: the output's loss and those of all local heads, end to end.

    Every state has a decoder G_l = M_l·pool(h_l), (N, C), as in mono_forward: the same layers,
    initial weights and updates (AdamW 1e-3, no decay, one step on the batch before the network's).
    The network minimises

        total = CE(logits, y) + weight·Σ_{l=0}^{L} CE(G_l, y),   batch means,

    by the gradient through all blocks; in mono_forward each of these terms trains one block alone.
    So the difference to mono_forward is what the gradient between blocks is worth, and the
    difference to bp what the heads are worth. Heads are auxiliary: predictions are the readout's.

    Credit: a_l = ∂total/∂h_l per sample, (N, …) like the states, sum reduction, c_l = a_{l+1}. It
    is not g_l = ∂CE(logits, y)/∂h_l unless weight is 0, where the rule is bp. The penalty is bp's.

    Source: Lee et al. 2014, Deeply-Supervised Nets, arXiv:1409.5185.
    Ours: a linear decoder on every state, with a constant weight; the source has classifiers on
    chosen layers, whose weights vanish over the epochs.
    Verified: the gradients are those of total as it is written; weight 0 gives bp's parameters,
    bit by bit; the decoders start as those of mono_forward.
    """

    class Params(Backprop.Params):
        """Options of bp_local_heads."""

        weight: float = Field(1.0, ge=0.0, le=1e3, description="of the sum of the heads' losses")

    passport = Passport(
        exact_hidden_gradients=True,
        weight_transport=True,
        labels_below_head=True,
        learned_feedback=True,
        non_local_state=True,
        exact_top_credit=True,
        local_heads=True,
    )
    laws = Laws(exact_with={"weight": 0.0})

    def auxiliary(self, states: States, y: Tensor) -> Tensor:
        self.learn(states.detach(), y, 0)
        return self.params.weight * self.heads_loss(states.h, y)

    def heads_loss(self, h: Sequence[Tensor], y: Tensor) -> Tensor:
        """Return Σ_l CE(G_l, y), the mean over the batch."""
        losses = [self.loss(layer, state, y) for layer, state in enumerate(h)]
        return torch.stack(losses).sum() / len(y)

    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        with torch.enable_grad():
            h = [states.h[0].detach().requires_grad_()]
            for block in range(self.net.depth):
                h.append(self.net.advance(h[-1], block)[0])
            heads = self.params.weight * len(y) * self.heads_loss(h, y)
            total = self.net.loss(self.net.readout(h[-1]), y, "sum") + heads
            a = torch.autograd.grad(total, h)
        return Credits(audited=[a[site] for site in self.net.sites], blocks=a[1:], embed=a[0])
