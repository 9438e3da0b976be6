"""Nudging: does a small step against the credit lower the loss?"""

from __future__ import annotations

import torch
from bench_plugins.diagnostics.expect import not_diagnostic, value_is
from pydantic import Field
from torch import Tensor

from bench_core.api import Control, Diagnostic, Measured, ParamsModel
from bench_core.training.audit import Audit
from bench_core.training.credit import rms
from bench_core.training.diagnostic_tools import credits_become, layered, read_part
from bench_core.training.probe import ProbeBatch


class Nudging(Diagnostic):
    """Change of the mean probe loss after h_l ← h_l − η·rms(a_l), per layer; negative where the
    credit helps.

    rms(a) = a / (sqrt(mean(a²)) + 1e-6) per sample. Only the part of a state is nudged that
    `Net.flat` reads, as every figure of a diagnostic is of it (of vit_mini the CLS token). a_l is
    as the rule gives it: fa's carries 1/N, and where it sinks under 1e-6 the step is a small one
    here as it is in training. In float64. Not diagnostic where the credit is zero or the change is
    not finite. value = the mean over 1 ≤ l ≤ L−1.
    Source: arXiv:2606.21126 (η = 0.01); that it is rms-normalised was measured.
    """

    class Params(ParamsModel):
        """Parameters of nudging."""

        eta: float = Field(
            0.01, gt=0.0, le=10.0, description="η, size of the step in units of the credit's rms"
        )

    @torch.no_grad()
    def per_batch(self, audit: Audit, batch: ProbeBatch) -> list[tuple[float, float, float]]:
        """The summed loss before and after the step, and the largest |a_l|, at every site."""
        net, figures = audit.double, []
        for index, site in enumerate(audit.net.sites if batch.audited else ()):
            h, a = batch.states.h[site].double(), given(batch, index).double()
            nudged = h - self.params.eta * rms(a, tokens=net.tokens) * read_part(net, h)
            before = float(net.loss(net.resume(h, site), batch.y, "sum"))
            after = float(net.loss(net.resume(nudged, site), batch.y, "sum"))
            figures.append((before, after, float(a.abs().max())))
        return figures

    def measure(self, audit: Audit) -> Measured:
        if not audit.has_credit:
            return Measured(None, not_diagnostic="the method has no credit to audit")
        changes, reasons = [], {}
        for site, parts in zip(
            audit.net.sites, zip(*audit.figures(self), strict=True), strict=True
        ):
            before, after, largest = zip(*parts, strict=True)
            changes.append((sum(after) - sum(before)) / audit.samples)
            if max(0.0, *largest) == 0:  # NaN is passed over
                reasons[site] = "the credit is zero"
            elif changes[-1] - changes[-1] != 0:
                reasons[site] = "states, credits or losses are not finite"
        return layered(audit, changes, reasons, eta=self.params.eta)

    def controls(self) -> list[Control]:
        return [
            Control("the exact gradient", credits_become("exact"), value_is(lambda v: v < 0)),
            Control("its opposite", credits_become("opposite"), value_is(lambda v: v > 0)),
            Control("no credit", credits_become("zero"), not_diagnostic),
        ]


def given(batch: ProbeBatch, index: int) -> Tensor:
    """a_l in the units of the rule."""
    assert batch.credits is not None
    return batch.credits.audited[index]
