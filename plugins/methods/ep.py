"""ep: equilibrium propagation, the nudged relaxation of a feed-forward energy."""

from __future__ import annotations

from typing import Literal

import torch
from bench_plugins.methods.relaxation import errors, relaxed, sizes, slope
from pydantic import Field
from torch import Tensor

from bench_core.api import Credits, Laws, Method, Passport, States


class EquilibriumPropagation(Method):
    """Energy per sample E(h) = ½ Σ_l ‖ε_{l+1}‖² + ½ ‖ε_0‖², ε_{l+1} = h_{l+1} − (h_l +
    f_l(h_l)), ε_0 = h_0 − embed(x).

    Free phase: the forward pass, where every ε is exactly 0. Nudged phase: `steps` synchronous
    steps of size `step_size` down E + β·CE from there (so credit reaches h_l only once steps > L
    − l). Without residual the h_l term is dropped. Blocks minimise (1/2β)·mean_batch ‖h^n_{l+1}
    − h^n_l − f_l(h^n_l)‖² at the detached nudged states h^n, the embedding (1/2β)·mean_batch
    ‖h^n_0 − embed(x)‖², the readout CE on the free h_L. The option `penalty` adds λ·‖f_l(h_l)‖² at
    the free states.

    Read-outs of the credit, per sample:
      prediction_error  a_l = −ε_l/β: what trains; tends to g_l as β → 0 and steps → ∞
      displacement      a_l = −(h^n_l − h_l)/β: that times a positive matrix
    A step of the relaxation is stable only while it is small beside 1/‖∂h_{l+1}/∂h_l‖² of every
    block. On an untrained vit_mini, where LayerNorm amplifies a CLS token of norm 0.3 over
    thirty times, the default is not: Γ_l −.06, .08, .27, .77 (measured, 16 CIFAR-10 images). On
    resmlp after eight epochs of CIFAR-10 it is not for one sample of 128, whose ‖h_0‖ is small:
    its error then rules the batch, the states jump, and in float32 the credit ends as rounding. On
    small_resnet's nine blocks twenty steps hardly reach the lower ones (‖a_0‖/‖g_0‖ < 1e-3). In
    training mode BatchNorm normalises the nudged states by their own batch, so that samples are
    coupled. Differences under about 1e-7·‖h‖/β are rounding: read ‖a_l‖/‖g_l‖ beside Γ_l. c_l =
    a_{l+1}.
    Ours: the energy of a feed-forward network (first source: a Hopfield network, which relaxes
    in its free phase too).
    Source: Scellier, Bengio 2017, arXiv:1602.05179; this energy: arXiv:2606.21126.
    Verified: −ε_l/β tends to g_l for β → 0; credits that the nudge has not reached are 0; the
    free state has E = 0 exactly.
    """

    class Params(Method.Params):
        """Options of ep."""

        steps: int = Field(20, ge=1, le=100_000, description="T, steps of the nudged phase")
        step_size: float = Field(0.1, gt=0.0, le=10.0, description="size of a step")
        beta: float = Field(0.5, gt=0.0, le=1e3, description="β, the nudging strength")
        readout: Literal["prediction_error", "displacement"] = Field(
            "prediction_error", description="audited credit"
        )

    passport = Passport(
        weight_transport=True,
        extra_forward_passes=True,
        non_local_state=True,
        exact_top_credit=True,
    )
    # the displacement tends to the gradient times a positive matrix
    laws = Laws(
        exact_with={
            "beta": 1e-5,
            "steps": 500,
            "step_size": 0.2,
            "readout": "prediction_error",
        }
    )

    @property
    def forward_passes(self) -> int:
        """Forward passes per step: the free one, one per relaxation step, one for the blocks'
        losses."""
        return 2 + int(self.params.steps)

    def nudged(self, states: States, y: Tensor) -> list[Tensor]:
        """h^n_0 … h^n_L, detached."""
        return relaxed(
            self.net, states, y, self.params.beta, self.params.steps, self.params.step_size
        )

    def residuals(self, states: States, y: Tensor) -> tuple[Tensor, Tensor]:
        start, end = (
            sizes(slope(self.net, h, states, y, self.params.beta))
            for h in (states.h, self.nudged(states, y))
        )
        return start, end

    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        states = self.net.states(x, local=True)
        loss = self.net.loss(states.logits, y)
        h = self.nudged(states.detach(), y)
        misses = errors(self.net, h, states.h[0])
        total = loss + sum(e.square().sum() for e in misses) / (2 * self.params.beta * len(x))
        if self.params.penalty:
            total = total + self.params.penalty / len(x) * sum(f.square().sum() for f in states.f)
        self.tools.updater.descend(total)
        return loss.detach()

    @torch.no_grad()
    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        beta, sites = self.params.beta, self.net.sites
        h = self.nudged(states, y)
        readouts = {
            "prediction_error": [-e / beta for e in errors(self.net, h, states.h[0])],
            "displacement": [
                -(nudged - free) / beta for nudged, free in zip(h, states.h, strict=True)
            ],
        }
        a = readouts[self.params.readout]
        return Credits(
            audited=[a[site] for site in sites],
            blocks=a[1:],
            embed=a[0],
            readouts={name: [values[site] for site in sites] for name, values in readouts.items()},
        )
