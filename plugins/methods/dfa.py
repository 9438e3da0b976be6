"""dfa: direct feedback alignment."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bench_core.api import Credits, Laws, LocalMethod, Net, Passport, States, Task, Tools


class DirectFeedbackAlignment(LocalMethod):
    """a_l = e·B_l with a fixed random B_l per block, (C, features of the flattened state), entries N(0, 1/C); per sample.

    e = softmax(logits) − onehot(y). With residual blocks a_l lives at the block's input state; without, at its output state,
    and the embedding has a matrix of its own, drawn last. Where states are tokens, B_l is (C, features of a token) and all
    tokens of a sample get the same credit.
    Source: Nøkland 2016, arXiv:1609.01596.
    """

    passport = Passport()
    laws = Laws(linear_in_error=True)

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        layers = [*net.sites, *({0} - set(net.sites))]
        scale = task.classes**-0.5
        draws = {
            layer: torch.randn(task.classes, task.width(layer), generator=tools.generator)
            for layer in layers
        }
        self.feedback = {layer: (scale * draw).to(task.device) for layer, draw in draws.items()}

    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        e = states.output_error
        a = {layer: self.shaped(e @ B, states.h[layer]) for layer, B in self.feedback.items()}
        return Credits(audited=[a[site] for site in self.net.sites], embed=a[0])

    def shaped(self, credit: Tensor, h: Tensor) -> Tensor:
        return credit.unsqueeze(1).expand_as(h) if self.net.tokens else credit.view_as(h)

    def state_dict(self) -> dict[str, Tensor]:
        return {f"B_{layer}": B for layer, B in self.feedback.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.feedback = {layer: state[f"B_{layer}"] for layer in self.feedback}
