"""target_propagation: targets sent down by learned inverses or transposes of the blocks."""

from __future__ import annotations

from typing import Literal

import torch
from bench_plugins.methods.target_feedback import Feedback
from bench_plugins.methods.unnormalised import Unnormalised
from pydantic import Field
from torch import Tensor, nn

from bench_core.api import Credits, Laws, LocalMethod, Net, Passport, States, Task, Tools
from bench_core.training.net import top_gradient
from bench_core.training.rng import draws_from


class TargetPropagation(LocalMethod):
    """Difference target propagation: targets instead of gradients lead the blocks.

    Feedback G_l(y) = y + D_l(y) leads from h_{l+1} to h_l, D_l alone without residual:

        t_L = h_L − β·∂loss/∂h_L,   t_l = h_l + G_l(t_{l+1}) − G_l(h_{l+1}),
        a_l = (h_l − t_l)/β,   per sample.

    Block l descends ½‖h_{l+1} − t_{l+1}‖²/β, which is its VJP of c_l = a_{l+1}; the embedding
    a_0. To first order in β a_l = J_{G_l}·a_{l+1}, so the rule is backpropagation where J_G =
    J_Fᵀ. D_l takes `feedback_steps` AdamW steps (1e-3, no decay) per batch, on the batch mean
    divided by σ², with dx, dy ~ N(0, σ²I) fresh in each and f_l the branch of block l:

    l_drl     −2⟨dx, D_l(h_{l+1} + Δf) − D_l(h_{l+1})⟩ + ‖D_l(h_{l+1} + dy) − D_l(h_{l+1})‖²,  Δf
              = f_l(h_l + dx) − f_l(h_l): to first order σ²(−2 tr J_D·J_f + ‖J_D‖²), least at J_D
              = J_fᵀ. The source's loss, which without residual it is to the letter; with
              residual the identity in G and F is left out of it: the minimum is the same, with
              less noise.
    inverse   ‖G_l(h') − (h_l + dx)‖², h' = the block's output for h_l + dx: the inverse, as in
              difference target propagation before. With a saturated norm in a block it has no
              gradient to tend to.

    Dense D_l with a layer of `hidden` units and GELU on flattened states, convolutions on maps,
    where what ReLU and maxpool let through from sample to sample is lost in the feedback. Credits
    (N, …) like their states, sum reduction; not normalised by default.

    Ours: few feedback steps with little noise (source: 20 to 55 a batch, σ from 0.08 to 0.4);
    with residual the identity is left out of l_drl.
    Sources: Ernoult et al. 2022, arXiv:2201.13415 (l_drl); Lee, Zhang, Fischer, Bengio 2015,
    arXiv:1412.7525 (inverse).
    Verified: with J_G = J_Fᵀ targets are steps of backpropagation; on a linear layer l_drl is
    least at the transpose and inverse at the inverse; the credit turns to the gradient while
    the feedback learns.
    """

    class Params(Unnormalised):
        """Options of target_propagation."""

        feedback_loss: Literal["l_drl", "inverse"] = Field(
            "l_drl", description="loss of the feedback"
        )
        beta: float = Field(
            0.7, gt=0.0, le=100.0, description="β, step of the top target down the gradient"
        )
        noise: float = Field(
            0.1,
            gt=0.0,
            le=10.0,
            description="σ, deviation of the noise that the feedback learns from",
        )
        feedback_steps: int = Field(5, ge=0, le=1000, description="steps of the feedback per batch")
        hidden: int = Field(
            256, ge=0, le=65536, description="units of D_l (channels on maps); 0: linear"
        )

    passport = Passport(
        learned_feedback=True,
        extra_forward_passes=True,
        non_local_state=True,
        exact_top_credit=True,
    )
    laws = Laws(exact_top=True)

    @property
    def forward_passes(self) -> int:
        """The forward pass, and the noisy ones of the feedback's training."""
        return 1 + int(self.params.feedback_steps)

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        hidden = self.params.hidden
        with draws_from(tools.aux_generator):
            made = [
                Feedback(task.shapes[layer + 1], task.shapes[layer], hidden)
                for layer in range(net.depth)
            ]
        self.feedback = nn.ModuleList(made).to(task.device, next(net.parameters()).dtype)
        self.kept["D"] = self.feedback
        self.optimiser = tools.auxiliary(
            {f"D_{layer}": list(D.parameters()) for layer, D in enumerate(self.feedback)}
        )

    def down(self, layer: int, y: Tensor) -> Tensor:
        """G_l(y)."""
        out: Tensor = self.feedback[layer](y)
        return out + y if self.net.residual else out

    def loss(self, layer: int, states: States) -> Tensor:
        """Loss of D_l on the batch, summed over samples and divided by σ²."""
        sigma, D, h, above = (
            self.params.noise,
            self.feedback[layer],
            states.h[layer],
            states.h[layer + 1],
        )
        dx, dy = (
            sigma * torch.randn(t.shape, generator=self.tools.aux_generator).to(t)
            for t in (h, above)
        )
        with torch.no_grad():
            moved, f = self.net.advance(h + dx, layer)
        if self.params.feedback_loss == "inverse":
            return (self.down(layer, moved) - (h + dx)).square().sum() / sigma**2
        still = D(above)
        trace = (dx * (D(above + f - states.f[layer]) - still)).sum()
        return ((D(above + dy) - still).square().sum() - 2 * trace) / sigma**2

    def learn(self, states: States, y: Tensor, epoch: int) -> None:
        for _ in range(self.params.feedback_steps):
            losses = [self.loss(layer, states) for layer in range(self.net.depth)]
            self.optimiser.descend(torch.stack(losses).sum() / len(y))

    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        beta = self.params.beta
        a = [top_gradient(self.net, states.h[-1], y)]
        with torch.no_grad():
            for layer in reversed(range(self.net.depth)):
                h = states.h[layer + 1]
                a.insert(
                    0,
                    (self.down(layer, h) - self.down(layer, torch.sub(h, a[0], alpha=beta))) / beta,
                )
        return Credits(audited=[a[site] for site in self.net.sites], blocks=a[1:], embed=a[0])
