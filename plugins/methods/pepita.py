"""pepita: a second pass on an input that the output error modulates."""

from __future__ import annotations

import math

import torch
from bench_plugins.methods.unnormalised import Unnormalised
from pydantic import Field
from torch import Tensor, nn

from bench_core.api import Credits, LocalMethod, Net, Passport, States, Task, Tools
from bench_core.training.local_update import local_update


class Pepita(LocalMethod):
    """Two forward passes, the second on an input that the output error of the first modulates:

        x' = x + e·Fᵀ,   a_l = h_l(x) − h_l(x'),   per sample,

    F (n_in, C) fixed, entries U(−k, k), k = `scale`·√(6/n_in), n_in the features of the
    flattened input; e (N, C). Block l and the embedding learn by their VJP at the states of the
    second pass (where the presynaptic activity is h(x')): block l with c_l = a_{l+1}, the
    embedding with a_0; credits (N, …) like their states, sum reduction, not normalised by
    default.

    Ours: a layer of the source is W and ReLU, updated without ReLU's derivative; a block here
    may have several weights, so the credit at its output reaches them by the VJP inside the
    block, derivatives included. In residual networks a_l is of the stream, skip included. The
    readout minimises the loss on sg(h_L(x)) as under every rule (source: e·h_L(x')ᵀ), and the
    accuracy is that of the first pass. The passes share everything but the input; networks that
    draw dropout masks are refused. BatchNorm normalises each pass by its own batch in training. A
    penalty is on the f_l of the second pass, where the blocks learn.

    Nothing makes a_l a descent direction at the start, and depth hurts. Digits, 30 epochs, batch
    32, AdamW 1e-3, seeds 0 and 42, in brackets with frozen blocks: relu_mlp of width 256 and
    depth 2 .842 and .528 (.931, .944), of depth 1 .983 for seed 42 (.972); resmlp of width 64
    and depth 4 .914 and .747 (.953, .953).
    Source: Dellaferrera, Kreiman 2022, arXiv:2201.11665.
    Verified: on linear layers it is the published rule; the passes share everything but the
    input.
    """

    class Params(Unnormalised):
        """Options of pepita."""

        scale: float = Field(0.05, gt=0.0, le=1e3, description="of F, beside √(6/n_in)")

    passport = Passport(extra_forward_passes=True)
    forward_passes = 2

    def unsupported(self, net: Net) -> str | None:
        drops = any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in net.modules())
        return (
            "its dropout draws another mask in every pass, and the two passes must share theirs"
            if drops
            else None
        )

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        n_in = math.prod(task.input_shape)
        bound = self.params.scale * math.sqrt(6 / n_in)
        self.kept["F"] = (
            (2 * torch.rand(n_in, task.classes, generator=tools.generator) - 1) * bound
        ).to(task.device)

    def modulated(self, states: States) -> Tensor:
        """x' of the detached states of a first pass."""
        return states.x + (states.output_error @ self.kept["F"].to(states.x).mT).view_as(states.x)

    def credits(self, first: States, second: States) -> Credits:
        a = [one - other.detach() for one, other in zip(first.h, second.h, strict=True)]
        return Credits(audited=[a[site] for site in self.net.sites], blocks=a[1:], embed=a[0])

    @torch.no_grad()
    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        return self.credits(states, self.net.states(self.modulated(states), statistics=False))

    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        states = self.net.states(x, local=True)
        loss = self.net.loss(states.logits, y)
        first = states.detach(y)
        second = self.net.states(self.modulated(first), local=True, statistics=False)
        local_update(self, second, loss, self.credits(first, second))
        return loss.detach()
