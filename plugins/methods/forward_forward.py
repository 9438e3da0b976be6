"""forward_forward: every layer separates inputs with right and wrong labels by its goodness."""

from __future__ import annotations

import math

import torch
from bench_plugins.methods.unnormalised import Unnormalised
from pydantic import Field
from torch import Tensor, nn

from bench_core.api import Credits, LocalMethod, Net, Passport, States, Task, Tools
from bench_core.training.credit import rms
from bench_core.training.local_update import local_update

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def sees_length(net: Net) -> str | None:
    """Name the first block that does not remove the length of its input."""
    for number, block in enumerate(net.blocks):
        if not any(isinstance(module, NORMS) for module in block.modules()):
            norms = "no LayerNorm, GroupNorm or RMSNorm"
            return f"block {number} has {norms}: it sees the length of its input"
    return None


class ForwardForward(LocalMethod):
    """Every layer classifies its input by its goodness G_l = Σ_j u_{lj}² per sample.

    With θ = n_l, its number of units, it minimises on its own

        softplus(θ − G_l(x⁺)) + softplus(G_l(x⁻) − θ),   mean over the 2N inputs,
        x⁺ = x + P_y,   x⁻ = x + P_ỹ,

    ỹ a uniformly drawn wrong label, P (C, n_in) fixed patterns, entries N(0, `label_scale`²).
    The layers are the embedding, u = h_0, and the blocks: u = f_l(h_l), with residual u =
    h_l/(rms(h_l) + 1e-6) + f_l(h_l), so that a layer is not credited with the length that the
    stream brings. Credit at the layer's output: (σ(G − θ) − t)·2u, t = 1 for x⁺, 0 for x⁻;
    (2N, …), sum reduction, not normalised by default. The blocks must remove the length of their
    input (LayerNorm, GroupNorm or RMSNorm inside), or a layer could read the goodness of the one
    below; others are refused. A penalty is on the f_l of all 2N inputs.

    Ours: Hinton writes the label over the first pixels; a pattern that is added works for every
    input, and the neutral label is none, P = 0: the plain forward pass, on whose sg(h_L) the
    readout minimises the loss as under every rule. The accuracy is that of this head, not of the
    goodnesses of all labels. Audited is a_l = the credit of x⁺ plus that of x⁻, which follows no
    global loss: its cosine with the gradient of the head's loss is expected to be low. An audit
    takes ỹ = y + 1 (mod C).
    Source: Hinton 2022, arXiv:2212.13345.
    Verified: the credit is the gradient of the loss on goodness; goodness rises for right
    labels and falls for wrong ones; a wrong label is never the right one; blocks do not read
    each other.
    """

    class Params(Unnormalised):
        """Options of forward_forward."""

        label_scale: float = Field(
            1.0, gt=0.0, le=1e3, description="deviation of the patterns that stand for labels"
        )

    passport = Passport(labels_below_head=True, extra_forward_passes=True)
    forward_passes = 3

    def unsupported(self, net: Net) -> str | None:
        if not net.loss.classes:
            return "it needs wrong labels, and a regression has none"
        return sees_length(net)

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        self.kept["P"] = self.draw(
            task.classes, math.prod(task.input_shape), std=self.params.label_scale
        )

    def inputs(self, x: Tensor, y: Tensor, drawn: bool) -> Tensor:
        """x⁺ over x⁻, (2N, …), for wrong labels that are drawn or, in an audit, y + 1 (mod C)."""
        C, draws = self.task.classes, self.tools.aux_generator
        shift = torch.randint(1, C, y.shape, generator=draws).to(y.device) if drawn else 1
        return self.pair(x, y, (y + shift) % C)

    def pair(self, x: Tensor, y: Tensor, wrong: Tensor) -> Tensor:
        """x⁺ over x⁻, (2N, …)."""
        patterns = self.kept["P"].to(x)
        return torch.cat([x + patterns[label].view_as(x) for label in (y, wrong)])

    def units(self, states: States) -> list[Tensor]:
        """u of the embedding and of every block, detached."""
        h, f = states.h, states.f
        own = [
            rms(h[layer]) + f[layer] if self.net.residual else f[layer]
            for layer in range(self.net.depth)
        ]
        return [u.detach() for u in (h[0], *own)]

    def goodness(self, states: States) -> list[Tensor]:
        """G_l − θ of the embedding and of every block, (samples,)."""
        return [(u.square() - 1).flatten(1).sum(1) for u in self.units(states)]

    def credits(self, states: States) -> list[Tensor]:
        """The credit of every layer for states of a pair, (2N, …)."""
        n = len(states.x) // 2
        t = torch.cat([torch.ones(n), torch.zeros(n)]).to(states.h[0])
        weights = [2 * (torch.sigmoid(G) - t) for G in self.goodness(states)]
        return [
            w.view(-1, *[1] * (u.dim() - 1)) * u
            for w, u in zip(weights, self.units(states), strict=True)
        ]

    @torch.no_grad()
    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        pair = self.inputs(states.x, y, drawn=False)
        a = [sum(c.chunk(2)) for c in self.credits(self.net.states(pair, statistics=False))]
        return Credits(audited=[a[site] for site in self.net.sites], blocks=a[1:], embed=a[0])

    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        with torch.no_grad():
            h = self.net.states(x).h[-1]
        loss = self.net.loss(self.net.readout(h), y)
        states = self.net.states(self.inputs(x, y, drawn=True), local=True, statistics=False)
        c = self.credits(states)
        local_update(self, states, loss, Credits(audited=c[1:], embed=c[0]))
        return loss.detach()
