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
    optimiser (AdamW, its schedule, each B_l clipped on its own), so that B and weights see the same
    transform. e = ∂loss/∂logits is the error of the network's one readout, not of a readout by
    B_l. B_l at setup: N(0, 1/C). If states are tokens, the correlation is summed over tokens.
    Without residual there is a matrix for h_L; it follows the update of a readout without terminal
    norm. Not normalised by default, since the rule does not.
    Ours: opt is AdamW with clipping.
    Source: Webster, Choi, Ahn 2020, "Learning the connections in direct feedback alignment".
    Verified: ‖W_readout − B_L‖ shrinks by the decay in every step, if both share the optimiser.
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
