"""dendritic_learning: substitute feedback that follows the errors which it sends (DLL)."""

from __future__ import annotations

import torch
from bench_plugins.methods.substitute import Errors, LearnedFeedback, Matrix, at_layer
from pydantic import Field
from torch import Tensor, nn

from bench_core.api import Laws, Net, Passport, Task, Tools


class DendriticLearning(LearnedFeedback):
    """Substitute feedback Θ that grows along the errors on either side of it:

        δ_x = δ_y·Θ,   Θ ← Θ + `rate`·η·opt(mean_batch δ_yᵀ·δ_x),   Θ of W's shape,

    δ_y the error at the output of a layer, derivative of its unit included; opt and η AdamW with
    clipping, of each Θ on its own, and the learning rate of the network, no decay. As δ_x is Θ's
    own, this ascends mean ½‖δ_x‖²: Θ enlarges what it sends along the leading errors, and nothing
    draws it to W or bounds it. `learn: false` keeps Θ as drawn: feedback alignment in the same
    network, the null of this rule. In the CIFAR-10 audit Θ drowns the exact credit of the skip
    path: ‖Θ‖₂ grows from 1.1 to 24 within three epochs (accuracy .408, the null .446, seed 42). At
    `rate` 0.01 the rule equals its null after two epochs (.429).

    The source has three programs. That for convolutional networks ascends, as here. That for MLPs
    computes `learn: false`: it updates Θ only in classes with another word in their name. That for
    recurrent networks descends; with its sign the accuracy above is .437.

    Ours: Θ ~ N(0, 1/(3·fan_in)) (source: N(0, 1) in dense and N(0, 0.05²) in convolutional and
    recurrent layers), so a step of the same rate turns Θ about 28 and 550 times as far; a Θ for
    each layer of a block; no clamps on errors, which the source's code for convolutional networks
    has.
    Source: Lv et al. 2025, arXiv:2501.09976, in the form of its code.
    Verified: the update is the gradient of ½‖δ_x‖², by an own computation; `learn: false` does not
    move Θ; with Θ = W it is backpropagation.
    Selected on: the test set; both released scripts keep the best epoch there.
    """

    class Params(LearnedFeedback.Params):
        """Options of dendritic_learning."""

        learn: bool = Field(True, description="false: Θ stays as drawn")
        rate: float = Field(
            0.1, gt=0.0, le=10.0, description="learning rate of Θ beside the network's"
        )

    laws = Laws(linear_in_error=True, exact_top=True, feedback="B_{layer}_0", permutation=False)

    @property
    def passport(self) -> Passport:  # type: ignore[override]
        return Passport(
            learned_feedback=self.params.learn,
            extra_forward_passes=True,
            non_local_state=True,
            exact_top_credit=True,
        )

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        if self.params.learn:
            self.errors: Errors = {}
            self.kept = {name: nn.Parameter(B) for name, B in self.kept.items()}
            self.optimiser = tools.auxiliary({name: [B] for name, B in self.kept.items()})

    def after_update(self, epoch: int) -> None:
        if not self.errors:
            return
        own, network = (
            updater.optimiser.param_groups[0] for updater in (self.optimiser, self.tools.updater)
        )
        own["lr"] = self.params.rate * network["lr"]
        calls = [(name, *call) for name, own in self.errors.items() for call in own]
        self.optimiser.descend(
            [self.kept[f"B_{name}"] for name, *_ in calls],
            [-growth(self.layers[name], self.kept[f"B_{name}"], *call) for name, *call in calls],
        )


def growth(module: Matrix, B: Tensor, error: Tensor, below: torch.Size) -> Tensor:
    """mean_batch δ_yᵀ·δ_x: the gradient of mean ½‖δ_x‖², δ_x = (∂layer/∂x)ᵀ·δ_y with weights B."""
    with torch.enable_grad():
        B = B.detach().requires_grad_()
        x = torch.zeros(below, dtype=B.dtype, device=B.device, requires_grad=True)
        (sent,) = torch.autograd.grad(at_layer(module, x, B), x, error, create_graph=True)
        return torch.autograd.grad(0.5 * sent.square().sum() / len(error), B)[0]
