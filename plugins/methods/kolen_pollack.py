"""kolen_pollack: feedback that gets the updates and the decay of the forward weights."""

from __future__ import annotations

from bench_plugins.methods.substitute import LearnedFeedback
from torch import Tensor

from bench_core.api import Laws


class KolenPollack(LearnedFeedback):
    """Substitute feedback B that gets the same update and the same decay as W:

        W ← (1 − λ)·W + ΔW,   B ← (1 − λ)·B + ΔW,   so   W − B ← (1 − λ)·(W − B),

    λ = learning rate · weight decay of the training, ΔW the optimiser's step for W beside the
    decay (AdamW's, which depends on the credit and the activity at W alone; with
    gradients instead of updates the two would drift apart). Weights that are frozen do not
    decay, nor does their B. They meet only if λ > 0: at weight decay 0 the initial
    difference remains. B at setup: N(0, 1/(3·fan_in)), independent of W. Shapes of B are those
    of W, (out, in) or (out, in, k, k).
    Ours: B copies AdamW's update of W; in the source both compute one update of their own.
    Source: Kolen, Pollack 1994, doi:10.1109/ICNN.1994.374486; Akrout, Wilson, Humphreys,
    Lillicrap, Tweed 2019, arXiv:1904.05391.
    Verified: ‖W − B‖ shrinks by (1 − λ)ⁿ in n steps; with B = W it is backpropagation on five
    kinds of networks.
    """

    laws = Laws(
        linear_in_error=True,
        exact_top=True,
        feedback="B_{layer}_0",
        kolen_pollack=True,
        permutation=False,
    )

    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        layers = self.layers.items()
        trained = {name: module.weight for name, module in layers if module.weight.requires_grad}
        before = {name: W.detach().clone() for name, W in trained.items()}
        group = self.tools.updater.optimiser.param_groups[0]
        shrink = 1 - group["lr"] * group["weight_decay"]
        loss = super().step(x, y, epoch)
        for name, W in trained.items():
            self.follow(name, W.detach(), before[name], shrink)
        return loss

    def follow(self, name: str, W: Tensor, before: Tensor, shrink: float) -> None:
        """Update the feedback of a layer after the update of W, with 1 − λ = `shrink`."""
        self.kept[f"B_{name}"] = W + shrink * (self.kept[f"B_{name}"] - before)
