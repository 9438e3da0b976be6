"""direct_kolen_pollack: direct feedback whose matrices learn as if they were readouts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from bench_plugins.methods.dfa import DirectFeedbackAlignment
from pydantic import Field
from torch import Tensor, nn

from bench_core.api import Credits, Laws, Net, Passport, States, Task, Tools


class DirectKolenPollack(DirectFeedbackAlignment):
    """a_l = e·B_l as in dfa, per sample, with matrices B_l (C, features of h_l) that learn as a readout from h_l would:

        B_l ← (1 − λ)·B_l − η·opt(mean_batch eᵀ·h_l),

    opt, η and λ = η·weight decay those of the network's own optimiser (AdamW, its schedule, each B_l clipped on its own), so that
    B and weights see the same transform. e = ∂loss/∂logits is the error of the network's one readout, not of a readout by B_l.
    B_l at setup: N(0, 1/C). Where states are tokens the correlation is summed over tokens. The matrix for h_L, where there is one
    (no residual), follows the update of a readout without terminal norm. Not normalised by default, since the rule does not.
    Source: Webster, Choi, Ahn 2020, "Learning the connections in direct feedback alignment".
    """

    class Params(DirectFeedbackAlignment.Params):
        """Options of direct_kolen_pollack."""

        normalize: Literal["sample", "batch", "none"] = Field(
            "none", description="of the credit; not part of the rule"
        )

    passport = Passport(learned_feedback=True)
    laws = Laws(linear_in_error=True)

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        self.feedback: dict[int, Tensor] = {
            layer: nn.Parameter(B) for layer, B in self.feedback.items()
        }
        self.optimiser = tools.auxiliary({f"B_{layer}": [B] for layer, B in self.feedback.items()})

    @torch.no_grad()
    def learn(self, states: States, y: Tensor, epoch: int) -> None:
        own, network = (
            updater.optimiser.param_groups[0] for updater in (self.optimiser, self.tools.updater)
        )
        own.update(lr=network["lr"], weight_decay=network["weight_decay"])
        e, n = states.output_error, len(y)
        correlations = [
            e.T @ (h.sum(1) if self.net.tokens else h.flatten(1)) / n
            for h in (states.h[layer] for layer in self.feedback)
        ]
        self.optimiser.descend(list(self.feedback.values()), correlations)

    @torch.no_grad()
    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        return super().credit(states, y, epoch)

    def state_dict(self) -> dict[str, Tensor]:
        return {name: B.detach() for name, B in super().state_dict().items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for layer, B in self.feedback.items():
            B.copy_(state[f"B_{layer}"])
