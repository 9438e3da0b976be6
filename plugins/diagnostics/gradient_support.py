"""Gradient support: how many samples still have a gradient?"""

from __future__ import annotations

import math

import torch
from bench_plugins.diagnostics.expect import unchanged, value_is
from pydantic import Field
from torch import Tensor

from bench_core.api import Control, Diagnostic, Measured, ParamsModel
from bench_core.training.audit import Audit
from bench_core.training.diagnostic_tools import because
from bench_core.training.probe import BATCH, ProbeBatch


class GradientSupport(Diagnostic):
    """s_l(τ) = share of the probe samples whose ‖g_l‖ exceeds τ = 1e-6, as the batch-mean CE at
    N = 128 gives it.

    value = the mean over the states 0 … L−1; `layers` has all of 0 … L. Not diagnostic where a
    gradient is not finite.
    Source: arXiv:2606.21126.
    """

    class Params(ParamsModel):
        """Parameters of the gradient support."""

        tau: float = Field(
            1e-6, gt=0.0, le=1e3, description="τ, of the batch-mean gradient at N = 128"
        )

    def per_batch(self, audit: Audit, batch: ProbeBatch) -> list[Tensor]:
        return [audit.sample_norms(g) for g in batch.g]

    def measure(self, audit: Audit) -> Measured:
        layers, broken = [], {}
        for site, parts in enumerate(zip(*audit.figures(self), strict=True)):
            norms = torch.cat(parts) / BATCH
            layers.append(float((norms > self.params.tau).double().mean()))
            if not bool(norms.isfinite().all()):
                broken[site] = "the gradient is not finite"
        value = math.nan if broken else sum(layers[:-1]) / (len(layers) - 1)
        details = {"layers": layers, "tau": self.params.tau}
        return Measured(value, details, because(broken))

    def controls(self) -> list[Control]:
        def flat_head(audit: Audit) -> None:
            """A head without weights: no gradient passes it."""
            with torch.no_grad():
                for parameter in audit.net.readout.parameters():
                    parameter.zero_()

        return [
            Control("random init", unchanged, value_is(lambda v: v > 0.95)),
            Control("a head of zeros", flat_head, value_is(lambda v: v == 0)),
        ]
