"""node_perturbation: noise on every state times the change of the loss."""

from __future__ import annotations

import torch
from bench_plugins.methods.redrawn import Redrawn
from bench_plugins.methods.unnormalised import Unnormalised
from pydantic import Field
from torch import Tensor

from bench_core.api import Credits, LocalMethod, Net, Passport, States, Task, Tools


class NodePerturbation(LocalMethod):
    """Noise on all states of a pass, times the change of the loss, is the credit.

    ξ_l ~ N(0, I), fresh per sample and step, is added to all states at once, h_0 + σ·ξ_0 first,
    and

        a_l = mean_k δ_k·ξ_l^k,   δ = (loss with the noise − loss without) / σ,

    per sample, k = 1 … K = `samples`.

    To first order δ = Σ_l ⟨g_l, ξ_l⟩, so E[a_l] = g_l, and over all D features of the states
    together

        E‖a − g‖² = (D + 1)/K·‖g‖²,   expected cosine about sqrt(K/(K + D)), sqrt(2/(π·D)) at K = 1:

    unbiased, and noisier in larger networks. It is a calibrator: every credit has to beat it at
    its cost, and a calibrated measure sees its mean tend to the gradient as K grows. σ is
    absolute; in float32 δ carries an error of about 1e-7·loss/σ. In training mode BatchNorm
    normalises by the noisy batch, and δ is the change of the sample's own loss alone. Not
    normalised by default: that would undo the size of δ.

    Ours: noise on the states h_l, the outputs of whole blocks.
    Source: Werfel, Xie, Seung 2005, doi:10.1162/089976605774320539; Williams 1992,
    doi:10.1007/BF00992696.
    Verified: mean and variance are those above; noise is fresh in every step and the same for
    an audit between steps.
    """

    class Params(Unnormalised):
        """Options of node_perturbation."""

        samples: int = Field(1, ge=1, le=100_000, description="K, noisy passes per step, averaged")
        sigma: float = Field(0.01, gt=0.0, le=10.0, description="σ, deviation of the noise")

    passport = Passport(extra_forward_passes=True, non_local_state=True)

    @property
    def forward_passes(self) -> int:
        """The training's pass and the noisy ones."""
        return 1 + int(self.params.samples)

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        self.noise = self.kept["noise"] = Redrawn(tools.aux_generator, task.device)

    def learn(self, states: States, y: Tensor, epoch: int) -> None:
        self.noise.next()

    @torch.no_grad()
    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        draws = self.noise.generator()
        a = [torch.zeros_like(h) for h in states.h]
        for _ in range(self.params.samples):
            noise = [torch.randn(h.shape, generator=draws).to(h) for h in states.h]
            change = self.change(states, y, noise) / self.params.samples
            for total, xi in zip(a, noise, strict=True):
                total.addcmul_(change.view(-1, *[1] * (xi.dim() - 1)), xi)
        return Credits(audited=[a[site] for site in self.net.sites], blocks=a[1:], embed=a[0])

    def change(self, states: States, y: Tensor, noise: list[Tensor]) -> Tensor:
        """δ, (N,)."""
        without = self.net.loss(states.logits, y, "none")
        return (
            self.loss(states, y, [self.params.sigma * xi for xi in noise]) - without
        ) / self.params.sigma

    def loss(self, states: States, y: Tensor, added: list[Tensor]) -> Tensor:
        """Loss of every sample, (N,), with `added` on every state on the way up."""
        h = states.h[0] + added[0]
        for layer, shift in enumerate(added[1:]):
            h = self.net.advance(h, layer)[0] + shift
        return self.net.loss(self.net.readout(h), y, "none")
