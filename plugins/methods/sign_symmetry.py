"""sign_symmetry: feedback that knows the signs of the forward weights, not their magnitudes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from bench_plugins.methods.redrawn import Redrawn
from bench_plugins.methods.substitute import SubstituteFeedback, default_std
from pydantic import Field
from torch import Tensor

from bench_core.api import Laws, Net, Passport, States, Task, Tools


class SignSymmetry(SubstituteFeedback):
    """Substitute feedback B = |M| ∘ sign(W): the signs of the weights without their magnitudes.

        usf     |M| = s                                        uniform
        frsf    |M| fixed, M ~ N(0, s²) drawn once             fixed random magnitudes
        brsf    |M| drawn anew for every minibatch             batchwise random magnitudes

    s = rms of W at setup, i.e. the deviation of its initial draw (1/sqrt(3·fan_in) where that is
    zero); sign(0) = 0. The signs are those of the current weights. W, B, M: (out, in) or
    (out, in, k, k). One bit per weight is transported: passport weight_transport.
    Ours: s is measured on W at setup, not taken from the formula of its initialisation.
    Source: Liao, Leibo, Poggio 2016, arXiv:1510.05067; Xiao, Chen, Liao, Poggio 2019,
    arXiv:1811.03567; names and the three variants as in Sanfiz, Akrout 2021, arXiv:2108.13446.
    Verified: with |M| = |W| it is backpropagation on five kinds of networks; cos(B, W) at the
    start is .80 (usf) and .64 (frsf, brsf) for Gaussian W.
    """

    class Params(SubstituteFeedback.Params):
        """Options of sign_symmetry."""

        magnitude: Literal["usf", "frsf", "brsf"] = Field(
            "usf",
            description="of the feedback: one per matrix, fixed random, random in every minibatch",
        )

    passport = Passport(
        weight_transport=True,
        extra_forward_passes=True,
        non_local_state=True,
        exact_top_credit=True,
    )
    # magnitudes belong to units, but for usf
    laws = Laws(linear_in_error=True, exact_top=True, permutation=False)

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        self.noise = Redrawn(tools.generator, task.device)
        with torch.no_grad():
            for name, module in self.layers.items():
                s = module.weight.square().mean().sqrt()
                s = s if s > 0 else torch.full_like(s, default_std(module))
                self.kept[f"s_{name}"] = s.to(module.weight)
        if self.params.magnitude == "frsf":
            self.kept = self.magnitudes(tools.generator)
        elif self.params.magnitude == "brsf":
            self.kept["noise"] = self.noise

    def magnitudes(self, draws: torch.Generator) -> dict[str, Tensor]:
        """|M| of every layer."""
        return {
            f"M_{name}": self.kept[f"s_{name}"]
            * torch.randn(module.weight.shape, generator=draws).abs().to(module.weight)
            for name, module in self.layers.items()
        }

    def learn(self, states: States, y: Tensor, epoch: int) -> None:
        self.noise.next()

    def feedback(self) -> Mapping[str, Tensor]:
        if self.params.magnitude == "usf":
            M = {f"M_{name}": self.kept[f"s_{name}"] for name in self.layers}
        else:
            M = (
                self.kept
                if self.params.magnitude == "frsf"
                else self.magnitudes(self.noise.generator())
            )
        return {name: M[f"M_{name}"] * module.weight.sign() for name, module in self.layers.items()}
