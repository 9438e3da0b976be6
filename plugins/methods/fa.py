"""fa: feedback alignment."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bench_core.api import Credits, LocalMethod, Net, Passport, States, Task, Tools
from bench_core.net import top_gradient


class FeedbackAlignment(LocalMethod):
    """The exact gradient at the top, then fixed random matrices B_l (features, features) block by block, entries N(0, 1/features).

    Residual blocks: c_{L-1} = ∂CE/∂h_L, c_l = c_{l+1}·B_l, audited as a_l = c_l, embedding c_0.
    Without residual: the credit at h_L is ∂CE/∂h_L, the credit at h_l is that at h_{l+1} times B_l; block l is trained with
    the credit at h_{l+1}, the embedding with that at h_0.
    The cross-entropy is the batch mean, so every credit carries 1/N: with normalize_eps 1e-6 that decides the rule's fate at
    large ‖h_L‖ (docs/protocol.md, section 4).
    Source: Lillicrap, Cownden, Tweed, Akerman 2016, doi:10.1038/ncomms13276.
    """

    passport = Passport(exact_top_credit=True)

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        # B_l maps the credit of site l+1 to that of site l; without residual one more leads down to the embedding.
        self.feedback: list[Tensor] = []
        for layer in range(net.depth - 1 if net.residual else net.depth):
            above, below = task.features(layer + 1), task.features(layer)
            draw = torch.randn(above, below, generator=tools.generator)
            self.feedback.append((above**-0.5 * draw).to(task.device))

    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        chain = [top_gradient(self.net, states.h[-1], y, "mean")]
        for B in reversed(self.feedback):
            chain.insert(0, chain[0].flatten(1) @ B)
        shaped = [c.view_as(states.h[layer]) for layer, c in enumerate(chain)]
        return Credits(audited=shaped if self.net.residual else shaped[1:], embed=shaped[0], reduction="mean")

    def state_dict(self) -> dict[str, Tensor]:
        return {f"B_{layer}": B for layer, B in enumerate(self.feedback)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.feedback = [state[f"B_{layer}"] for layer in range(len(self.feedback))]
