"""dfa: direct feedback alignment."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bench_core.api import Credits, LocalMethod, Net, Passport, States, Task, Tools


class DirectFeedbackAlignment(LocalMethod):
    """a_l = e·B_l with a fixed random B_l per block, (C, features of the state), entries N(0, 1/C); per sample.

    e = softmax(logits) − onehot(y). With residual blocks a_l lives at the block's input state; without, at its output state,
    and the embedding has a matrix of its own, drawn last.
    Source: Nøkland 2016, arXiv:1609.01596.
    """

    passport = Passport()

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        layers = [*net.sites, *({0} - set(net.sites))]
        scale = task.classes**-0.5
        draws = {layer: torch.randn(task.classes, task.features(layer), generator=tools.generator) for layer in layers}
        self.feedback = {layer: (scale * draw).to(task.device) for layer, draw in draws.items()}

    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        e = states.output_error
        a = {layer: (e @ B).view_as(states.h[layer]) for layer, B in self.feedback.items()}
        return Credits(audited=[a[site] for site in self.net.sites], embed=a[0])

    def state_dict(self) -> dict[str, Tensor]:
        return {f"B_{layer}": B for layer, B in self.feedback.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.feedback = {layer: state[f"B_{layer}"] for layer in self.feedback}
