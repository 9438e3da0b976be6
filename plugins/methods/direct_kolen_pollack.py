"""direct_kolen_pollack: direct feedback whose matrices learn as readouts would."""

from __future__ import annotations

import torch
from bench_plugins.methods.dfa import DirectFeedbackAlignment
from bench_plugins.methods.unnormalised import Unnormalised
from torch import Tensor, nn

from bench_core.api import Credits, Laws, Net, Passport, States, Task, Tools


class DirectKolenPollack(DirectFeedbackAlignment):
    """a_l = e·B_l as in dfa, per sample, with matrices B_l (C, features of h_l) that learn:

        B_l ← (1 − λ)·B_l − η·opt(mean_batch eᵀ·h_l),

    the update of a readout from h_l. opt, η and λ = η·weight decay are those of the network's own
    optimiser (AdamW, its schedule, each B_l clipped on its own). e = ∂loss/∂logits is the error of
    the network's one readout, not of a readout by B_l. If states are tokens, the correlation is
    summed over tokens. Not normalised by default, since the rule does not.

    B_l sees the update of the weights only where the readout reads h_L itself. A readout behind a
    terminal norm learns from the normalised state, and B_l does not. Then h_l may grow along B_l
    without a smaller error: with B_l = 0 at setup, three epochs of the CIFAR-10 audit (seed 42)
    leave a B_l of nearly one direction (0.86 of its energy), ‖h_L‖ of 6,000 and accuracy .278;
    from N(0, 1/C), ‖h_L‖ is 1,030 and accuracy .364.

    Ours: opt is AdamW with clipping; B_l ~ N(0, 1/C) at setup. Released code draws it as a layer's
    weights and gives it a smaller learning rate than they have.
    Source: Webster, Choi, Ahn 2020, "Learning the connections in direct feedback alignment".
    Verified: without residual, terminal norm and clipping ‖W_readout − B_L‖ shrinks by the decay in
    every step, if both share the optimiser.
    """

    class Params(Unnormalised):
        """Options of direct_kolen_pollack."""

    passport = Passport(learned_feedback=True)
    laws = Laws(linear_in_error=True)

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        self.kept = {name: nn.Parameter(B) for name, B in self.kept.items()}
        self.optimiser = tools.auxiliary({name: [B] for name, B in self.kept.items()})

    @torch.no_grad()
    def learn(self, states: States, y: Tensor, epoch: int) -> None:
        own, network = (
            updater.optimiser.param_groups[0] for updater in (self.optimiser, self.tools.updater)
        )
        own.update(lr=network["lr"], weight_decay=network["weight_decay"])
        correlations = [
            states.output_error.T @ (h.sum(1) if self.net.tokens else h.flatten(1)) / len(y)
            for h in (states.h[layer] for layer in self.layers)
        ]
        self.optimiser.descend(list(self.kept.values()), correlations)

    @torch.no_grad()
    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        return super().credit(states, y, epoch)
