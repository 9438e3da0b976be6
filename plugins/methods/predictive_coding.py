"""predictive_coding: errors of a relaxed energy, by states, errors, multipliers or fixed means."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, Self

import torch
from bench_plugins.methods.inference import (
    Inferred,
    by_errors,
    by_multipliers,
    with_fixed_predictions,
)
from bench_plugins.methods.relaxation import errors, relaxed, sizes, slope
from bench_plugins.methods.unnormalised import Unnormalised
from pydantic import Field, model_validator
from torch import Tensor

from bench_core.api import LATER, Credits, Laws, LocalMethod, Net, Passport, States
from bench_core.training.local_update import local_update
from bench_core.training.net import top_gradient


class PredictiveCoding(LocalMethod):
    """Energy per sample E(z) = ½ Σ_l ‖ε_l‖² + loss(readout(z_L), y) over the values z_0 … z_L of
    the states h_0 … h_L, with

        ε_0 = z_0 − embed(x),   ε_{l+1} = z_{l+1} − (z_l + f_l(z_l)),

    where z_l + is dropped without residual.

    Inference: from the forward pass (where every ε is exactly 0) `steps` synchronous steps of
    size γ = `step_size`,

        z_l ← z_l − γ(ε_l − J_lᵀ ε_{l+1}),   z_L ← z_L − γ(ε_L + ∂loss/∂z_L),
        J_l = ∂(z_l + f_l)/∂z_l.

    standard          J_l, predictions and the top gradient are those of the moving z. Credit a_l
                      = −ε_l; blocks learn by the VJP of f_l at z_l. a_l tends to g_l where the
                      output error is small; it is EP's at β = 1, with other defaults.
    fixed_prediction  they are those of the forward pass, and so is the VJP. Credit as above,
                      with limit g_l. At γ = 1 the credit of h_l is g_l, to rounding, after L + 1
                      − l steps: the blocks' after L, the embedding's after L + 1.

    Credits (N, …) like their states, sum reduction, c_l = a_{l+1}; not normalised by default,
    since the rule does not. The top energy is the task's loss, so that a regression is clamped
    by its squared error. The readout minimises the loss on sg(h_L) of the forward pass, and the
    accuracy is that of the forward pass.

    inference: errors  (ePC) ε_0 … ε_L move instead of z, ε_l ← ε_l − γ(ε_l + ∂loss/∂ε_l), where
                      z_0 = embed(x) + ε_0, z_{l+1} = z_l + f_l(z_l) + ε_{l+1}, by reverse mode
                      through all blocks. The equilibrium is that of standard; nothing decays with
                      depth. After one step of γ = 1 a_l = g_l, but the blocks learn at the moved z:
                      on digits few small steps do better (below). The source's 5 steps of .001
                      (CIFAR-10 with cross-entropy) leave a_l = .005·g_l, and z near h.
    dual_step: α      (PC-ALM) multipliers λ_l, 0 at first: a step descends E + Σ_l ⟨λ_l, ε_l⟩, then
                      λ_l ← λ_l + α·ε_l. Credit a_l = −(λ_l + ε_l), with the λ_l of the last
                      descent. At rest ε = 0, z is the forward pass and a_l = g_l; a linear network
                      comes to it, others need not. α = 0 is standard.

    Digits, resmlp of width 64 and depth 4, 4 epochs, seed 42: standard .978, Γ deep .97; errors
    with 5 steps .972 and 1.00, with one of γ = 1 .561 and 1.00; α = 1 .972 and .95.

    γ must be small beside 1/‖J_l‖² for the standard
    inference (see ep), and in float32 ε under 1e-7·‖z_l‖ is rounding; the fixed one carries ε
    itself and has neither limit.
    Ours: a penalty is on the f_l at the relaxed values (ep: at the free ones); the top energy is
    the task's loss (PC-ALM: a squared error); the readout learns on the
    forward pass (the codes of ePC and PC-ALM: at z_L). ePC's code divides the blocks' gradients by
    min(1, T·γ), which AdamW takes no notice of. PC-ALM's weight ρ of ½‖ε‖² is 1, as in its code,
    whose T is 64 and γ .25.
    Source: Whittington, Bogacz 2017, doi:10.1162/NECO_a_00949; fixed: Millidge, Tschantz,
    Buckley 2020, arXiv:2006.04182; ePC: Goemaere et al. 2025, arXiv:2505.20137; PC-ALM:
    Seely, Gould 2026, arXiv:2605.31022.
    Verified: with fixed predictions and γ = 1 it is backpropagation; standard inference and
    errors find the equilibrium of a linear network; blocks descend E at the relaxed values; ε
    tends to −g_l for a small output error; one step of errors gives −g_l; the credit of the
    multipliers comes to g_l on a linear network, and is that of the source's shifted energy.
    Selected on: no images; the codes of ePC and PC-ALM report the last epoch. Others: not known.
    """

    numerics = 2  # PC-ALM's credit takes the multipliers before their last step

    class Params(Unnormalised):
        """Options of predictive_coding."""

        steps: int = Field(
            20, ge=1, le=100_000, description="T, steps of the inference; more than the depth"
        )
        step_size: float = Field(
            0.1, gt=0.0, le=10.0, description="γ, size of a step; 1 is exact where fixed"
        )
        fixed_prediction: bool = Field(
            False, description="predictions and Jacobians stay those of the forward pass"
        )
        inference: Annotated[Literal["states", "errors"], LATER] = Field(
            "states", description="errors: ε moves instead of z (ePC)"
        )
        dual_step: Annotated[float, LATER] = Field(
            0.0, ge=0.0, le=10.0, description="α, step of the multipliers (PC-ALM); 0: none"
        )

        @model_validator(mode="after")
        def _one_inference(self) -> Self:
            chosen = [self.fixed_prediction, self.inference == "errors", self.dual_step > 0]
            if sum(chosen) > 1:
                options = "fixed_prediction: true, inference: errors and dual_step"
                raise ValueError(f"{options} exclude each other; give one of them")
            return self

    @property
    def passport(self) -> Passport:
        """With fixed predictions, and by errors, a chain of Jacobians leads down from the top."""
        return Passport(
            exact_hidden_gradients=self.params.fixed_prediction or self.by_errors,
            weight_transport=True,
            extra_forward_passes=True,
            non_local_state=True,
            exact_top_credit=True,
        )

    laws = Laws(
        exact_with={
            "fixed_prediction": True,
            "step_size": 1.0,
            "inference": "states",
            "dual_step": 0.0,
        }
    )

    @property
    def forward_passes(self) -> int:
        """The forward pass, the passes of the inference and one at the relaxed values; with fixed
        predictions two; with carried errors one more."""
        return 2 if self.params.fixed_prediction else 2 + int(self.params.steps) + self.carries

    @property
    def by_errors(self) -> bool:
        return bool(self.params.inference == "errors")

    def unsupported(self, net: Net) -> str | None:
        if self.params.steps > net.depth or self.by_errors:
            return None
        return (
            f"its {self.params.steps} steps bring no credit to h_0 through {net.depth} blocks: "
            "steps must exceed the depth"
        )

    def credits(self, e: list[Tensor]) -> Credits:
        a = [-error.detach() for error in e]
        return Credits(audited=[a[site] for site in self.net.sites], blocks=a[1:], embed=a[0])

    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        if self.params.fixed_prediction:
            return self.credits(self.fixed(states, y, self.params.steps))
        with torch.no_grad():
            z, carried = self.inferred(states, y)
            return self.credits(carried or errors(self.net, z, states.h[0]))

    def residuals(self, states: States, y: Tensor) -> tuple[Tensor, Tensor]:
        if self.carries:
            start, end = (sizes(self.carried(states, y, n)[2]) for n in (0, self.params.steps))
            return start, end
        if not self.params.fixed_prediction:
            start, end = (
                sizes(slope(self.net, z, states, y, 1.0))
                for z in (states.h, self.values(states, y))
            )
            return start, end
        # a step moves ε by γ times the residual, and the first one moves ε_L alone, from 0
        now, later = (self.fixed(states, y, self.params.steps + further) for further in (0, 1))
        gamma = self.params.step_size
        end = sizes([(b - a) / gamma for a, b in zip(now, later, strict=True)])
        return sizes([top_gradient(self.net, states.h[-1], y)]), end

    def fixed(self, states: States, y: Tensor, steps: int) -> list[Tensor]:
        return with_fixed_predictions(self.net, states, y, steps, self.params.step_size)

    @property
    def carries(self) -> bool:
        """Whether the inference carries more than the values."""
        return self.by_errors or self.params.dual_step > 0

    def carried(self, states: States, y: Tensor, steps: int) -> Inferred:
        options = (self.net, states, y, steps, self.params.step_size)
        if self.by_errors:
            return by_errors(*options)
        return by_multipliers(*options, self.params.dual_step)

    def inferred(self, states: States, y: Tensor) -> tuple[list[Tensor], list[Tensor] | None]:
        """z_0 … z_L after inference, and the negative credits; None: they are the errors at z."""
        if self.carries:
            return self.carried(states, y, self.params.steps)[:2]
        return self.values(states, y), None

    def values(self, states: States, y: Tensor) -> list[Tensor]:
        """z_0 … z_L after standard inference."""
        return relaxed(self.net, states, y, 1.0, self.params.steps, self.params.step_size)

    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        if self.params.fixed_prediction:
            return super().step(x, y, epoch)
        net = self.net
        states = net.states(x, local=True)
        loss = net.loss(states.logits, y)
        z, carried = self.inferred(states.detach(y), y)
        predicted, f = zip(
            *(net.advance(z[layer], layer) for layer in range(net.depth)), strict=True
        )
        e = [value - mean for value, mean in zip(z, [states.h[0], *predicted], strict=True)]
        local_update(self, replace(states, f=f), loss, self.credits(carried or e))
        return loss.detach()
