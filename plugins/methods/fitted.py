"""Base of the rules that fit their credit to measured changes of the loss."""

from __future__ import annotations

from typing import Literal

from bench_plugins.methods.loss_change import LossChangeFit
from pydantic import Field
from torch import Tensor

from bench_core.api import LocalMethod, Passport, States


class FitParams(LocalMethod.Params):
    """Options of a rule whose credit is fitted to measured changes of the loss."""

    directions: int = Field(
        4, ge=1, le=4096, description="M, fresh random directions per state and step"
    )
    step: float = Field(0.01, gt=0.0, le=10.0, description="ε, size of a perturbation per feature")
    scale: Literal["state", "fixed"] = Field(
        "state", description="unit of ε: r_l, the rms of the state, or 1"
    )
    differences: Literal["central", "forward"] = Field(
        "central", description="two-sided or one-sided differences"
    )
    terminal: float = Field(
        0.0, ge=0.0, le=1e6, description="weight of the match with ∂loss/∂h_L at the last state"
    )


class FittedMethod(LocalMethod):
    """A rule with a `LossChangeFit`, which `setup` makes and every step trains."""

    Params = FitParams
    fit: LossChangeFit

    @property
    def passport(self) -> Passport:
        """It uses losses of perturbed passes, and with a terminal term ∂loss/∂h_L."""
        return Passport(
            extra_forward_passes=True,
            learned_feedback=True,
            non_local_state=True,
            exact_top_credit=self.params.terminal > 0,
        )

    @property
    def forward_passes(self) -> int:
        """The training's pass and those of the measurements."""
        return 1 + self.fit.forward_passes

    def learn(self, states: States, y: Tensor, epoch: int) -> None:
        self.fit.learn(states, y)
