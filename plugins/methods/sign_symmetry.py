"""sign_symmetry: feedback that knows the signs of the forward weights, not their magnitudes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from bench_plugins.methods.substitute import SubstituteFeedback, default_std, matrices
from pydantic import Field
from torch import Tensor

from bench_core.api import Laws, Net, Passport, States, Task, Tools


class SignSymmetry(SubstituteFeedback):
    """Backpropagation with B = |M| ∘ sign(W) in place of every matrix W of the blocks in the backward pass (`SubstituteFeedback`):

        usf     |M| = s                                        uniform
        frsf    |M| fixed, M ~ N(0, s²) drawn once             fixed random magnitudes
        brsf    |M| drawn anew for every minibatch             batchwise random magnitudes

    s = deviation of W at setup, i.e. of its initial draw (1/sqrt(3·fan_in) where that is zero); sign(0) = 0. The signs are those
    of the current weights. W, B, M: (out, in) or (out, in, k, k). One bit per weight is transported: passport weight_transport.
    Sources: Liao, Leibo, Poggio 2016, arXiv:1510.05067; Xiao, Chen, Liao, Poggio 2019, arXiv:1811.03567; names and the three
    variants as in Sanfiz, Akrout 2021, arXiv:2108.13446.
    """

    class Params(SubstituteFeedback.Params):
        """Options of sign_symmetry."""

        magnitude: Literal["usf", "frsf", "brsf"] = Field(
            "usf",
            description="of the feedback: one number per matrix, fixed random, or random anew for every minibatch",
        )

    passport = Passport(weight_transport=True, extra_forward_passes=True, non_local_state=True, exact_top_credit=True)
    laws = Laws(linear_in_error=True, exact_top=True, permutation=False)  # magnitudes belong to units, but for usf

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        self.layers = matrices(net)
        with torch.no_grad():
            stds = {name: float(module.weight.square().mean().sqrt()) for name, module in self.layers.items()}
        self.std = {name: std or default_std(self.layers[name]) for name, std in stds.items()}
        if self.params.magnitude == "usf":
            self.kept = {f"M_{name}": torch.tensor(std, device=task.device) for name, std in self.std.items()}
        else:
            self.redraw(tools.generator)

    def redraw(self, generator: torch.Generator) -> None:
        for name, module in self.layers.items():
            M = self.std[name] * torch.randn(module.weight.shape, generator=generator)
            self.kept[f"M_{name}"] = M.abs().to(module.weight)

    def learn(self, states: States, y: Tensor, epoch: int) -> None:
        if self.params.magnitude == "brsf":
            self.redraw(self.tools.generator)

    def feedback(self) -> Mapping[str, Tensor]:
        return {name: self.kept[f"M_{name}"] * module.weight.sign() for name, module in self.layers.items()}
