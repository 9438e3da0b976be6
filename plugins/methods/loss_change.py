"""The network of vec, perlayer_vector and blend: its credit is fitted to changes of the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from bench_plugins.methods.bridge import BridgeNet, Lens
from torch import Tensor, nn

from bench_core.api import Net, States, Task, Tools
from bench_core.training.credit import rms
from bench_core.training.net import top_gradient
from bench_core.training.rng import draws_from

Inputs = tuple[Tensor, Tensor, Tensor]


class LossChangeFit:
    """A network α(h_l, t_l, s) ∈ R^d whose credit a_l = α/r_l is fitted to changes of the loss.

    s = e, t_l = l/L, r_l = rms over the features of the sample's h_l (`scale: fixed`: r_l = 1).
    Perturbations are relative to the state, so that float32 suffices and the fit works where
    states explode behind a terminal LayerNorm. For each of M `directions` and every state that
    gets credit:

        v = r_l·u,  u ~ N(0, I) fresh per sample,  δ = (loss(h_l + ε·v) − loss(h_l − ε·v)) / 2ε

    (one-sided: (loss(h_l + ε·v) − loss(h_l)) / ε), the rest of the network run from there, and
    one AdamW step (1e-3, no weight decay, clipped) down the mean of (⟨a_l, v⟩ − δ)² over
    samples, states and directions, plus terminal·mean ‖rms(a_L) − rms(∂loss/∂h_L)‖². δ estimates
    ⟨g_l, v⟩, so the minimiser is E[g_l | h_l, l, e]. States of unequal size are seen through the
    lens, and u lives in what is seen. In training mode BatchNorm normalises by all perturbed copies
    that have come up to it, of this state and of those below, together; so δ depends on their
    directions too. A sample's δ is the change of its own loss alone.

    sees     edits (h, t, s) before the network sees them
    target   edits the measured δ, (layers, N), given the stream for its draws; None: nothing is
             measured, and δ = 0
    """

    def __init__(
        self,
        net: Net,
        task: Task,
        tools: Tools,
        params: Any,
        network: Callable[[int], nn.Module] | None = None,
    ) -> None:
        self.net, self.params, self.draws = net, params, tools.aux_generator
        self.layers = sorted({0, *net.sites})
        self.lens = Lens(task, tools.aux_generator).to(task.device)
        with draws_from(tools.aux_generator):
            width = self.lens.width
            own = network(width) if network else BridgeNet(width, task.classes, width)
        self.network = own.to(task.device)
        self.parts = {"vector": self.network, "lens": self.lens}
        self.optimiser = tools.auxiliary({"vector": list(self.network.parameters())})
        self.sees: Callable[[Tensor, Tensor, Tensor], Inputs] = lambda h, t, s: (h, t, s)
        self.target: Callable[[Tensor, torch.Generator], Tensor] | None = lambda changes, _: changes

    def answer(self, states: States, layers: list[int]) -> list[Tensor]:
        """α of several layers, led back from what is seen to the shapes of the states: r_l·a_l."""
        hs = [states.h[layer] for layer in layers]
        seen = self.sees(*self.lens.stacked(hs, layers, self.net.depth, states.output_error))
        out = self.network(*seen).chunk(len(layers))
        return [self.lens.back(alpha, h) for alpha, h in zip(out, hs, strict=True)]

    @torch.no_grad()
    def relative_credit(self, states: States) -> dict[int, Tensor]:
        """r_l·a_l by layer: the loss per relative step.

        It is of order 1 where states explode and a_l sinks below any eps.
        """
        return dict(zip(self.layers, self.answer(states, self.layers), strict=True))

    def credit(self, states: States) -> dict[int, Tensor]:
        """a_l by layer, per sample."""
        return {
            layer: a / self.unit(states.h[layer])
            for layer, a in self.relative_credit(states).items()
        }

    def unit(self, h: Tensor) -> Tensor:
        """r_l, shaped to multiply h."""
        size = h.flatten(1).square().mean(1).sqrt().clamp_min(1e-12).view(-1, *[1] * (h.dim() - 1))
        return size if self.params.scale == "state" else torch.ones_like(size)

    def directions(self, h: Tensor) -> Tensor:
        """u, shaped like h."""
        return self.lens.back(torch.randn(len(h), self.lens.width, generator=self.draws).to(h), h)

    @torch.no_grad()
    def changes(self, states: States, y: Tensor, directions: list[Tensor]) -> Tensor:
        """Measure δ, (layers, N).

        Perturbed copies of h_l join those of the layers below on their way up, so each block
        runs once.
        """
        n, step, central = len(y), self.params.step, self.params.differences == "central"
        shifts = [step, -step] if central else [step]
        waiting = dict(zip(self.layers, directions, strict=True))
        copies: list[Tensor] = []
        for layer in range(self.net.depth + 1):
            if layer in waiting:
                h = states.h[layer]
                v = self.unit(h) * waiting[layer]
                copies = [torch.cat([*copies, *(torch.add(h, v, alpha=shift) for shift in shifts)])]
            if layer < self.net.depth:
                copies = [self.net.advance(copies[0], layer)[0]]
        logits = self.net.readout(copies[0])
        losses = self.net.loss(logits, torch.cat([y] * (len(logits) // n)), "none").view(
            -1, len(shifts), n
        )
        if central:
            return (losses[:, 0] - losses[:, 1]) / (2 * step)
        return (losses[:, 0] - self.net.loss(states.logits, y, "none")) / step

    def learn(self, states: States, y: Tensor) -> None:
        answers = self.answer(states, self.layers)
        loss = torch.zeros((), device=y.device)
        for _ in range(self.params.directions):
            u = [self.directions(states.h[layer]) for layer in self.layers]
            predicted = torch.stack(
                [(a * b).flatten(1).sum(1) for a, b in zip(answers, u, strict=True)]
            )
            wanted: Tensor | float = 0.0
            if self.target is not None:
                wanted = self.target(self.changes(states, y, u), self.draws)
            loss = loss + (predicted - wanted).square().mean() / self.params.directions
        if self.params.terminal:
            (top,) = self.answer(states, [self.net.depth])
            exact = top_gradient(self.net, states.h[-1], y)
            miss = (rms(top.flatten(1)) - rms(exact.flatten(1))).square().mean()
            loss = loss + self.params.terminal * miss
        self.optimiser.descend(loss)

    @property
    def begun(self) -> bool:
        """True once the network has learned: its optimiser then has a state, also after a
        resume.
        """
        return bool(self.optimiser.optimiser.state)

    @property
    def forward_passes(self) -> int:
        """Batches that the measurements of a step run through the last block, the busiest."""
        below = sum(layer < self.net.depth for layer in self.layers)
        sides = 2 if self.params.differences == "central" else 1
        return 0 if self.target is None else self.params.directions * sides * below
