"""stochastic_layerwise: layers agree with label and neighbour on fixed projections."""

from __future__ import annotations

import torch
from bench_plugins.methods.local_loss import pooled
from bench_plugins.methods.unnormalised import Unnormalised
from torch import Tensor
from torch.nn import functional as F

from bench_core.api import Credits, LocalMethod, Net, Passport, States, Task, Tools


class StochasticLayerwise(LocalMethod):
    """Every layer minimises its own cross-entropy and its distance to the layer below:

        loss_l = CE(p_l, y) − ln Σ_c √(p_lc·sg(p_{l−1,c})),   a_l = ∂loss_l/∂h_l,   per sample,

    p_l = softmax(R_l·pool(h_l)), the second term the Bhattacharyya distance, which l = 0 has not.
    R_l (C, features of pool(h_l)), entries N(0, 1/features), stays fixed; pool as in mono_forward.
    Block l descends loss_{l+1} by its VJP (c_l = a_{l+1}), the embedding loss_0; nothing passes
    between layers but p below. Credits (N, …) like their states, sum reduction; not normalised by
    default. The readout minimises the loss on sg(h_L) as under every rule.

    Ours: C projected features (source: C for transformers, 500 to 700 for MLPs); Gaussian R_l (the
    source's law of it could not be confirmed); none of its optional dropout; a layer is a block.
    Both terms have weight 1: public reviews of the source say that it has no weight between them.
    Source: Yin, Corradi 2025, arXiv:2505.05181.
    Verified: a_l by an own computation of both terms; equal neighbours are no distance apart, and
    the credit is then the error of the projection alone; updates do not depend on blocks above.
    """

    class Params(Unnormalised):
        """Options of stochastic_layerwise."""

    passport = Passport(labels_below_head=True)

    def unsupported(self, net: Net) -> str | None:
        return None if net.loss.classes else "it needs classes, and a regression has none"

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        for layer, shape in enumerate(task.shapes):
            size = pooled(torch.empty(1, *shape), task.tokens).shape[1]
            self.kept[f"R_{layer}"] = self.draw(task.classes, size, std=size**-0.5)

    def losses(self, h: list[Tensor], y: Tensor) -> Tensor:
        """Σ_l loss_l, summed over samples."""
        total, below = torch.zeros((), dtype=h[0].dtype, device=h[0].device), None
        for layer, state in enumerate(h):
            logits = pooled(state, self.net.tokens) @ self.kept[f"R_{layer}"].T
            total = total + self.net.loss(logits, y, "sum")
            log_p = F.log_softmax(logits, 1)
            if below is not None:
                total = total - torch.logsumexp(0.5 * (log_p + below), 1).sum()
            below = log_p.detach()
        return total

    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        with torch.enable_grad():
            h = [state.detach().requires_grad_() for state in states.h]
            a = torch.autograd.grad(self.losses(h, y), h)
        return Credits(audited=[a[site] for site in self.net.sites], blocks=a[1:], embed=a[0])
