"""ρ, perturbation correlation: does the credit predict small changes of the loss?"""

from __future__ import annotations

import torch
from bench_plugins.diagnostics.expect import not_diagnostic, value_is
from pydantic import Field
from torch import Tensor

from bench_core.api import Control, Diagnostic, Measured, ParamsModel
from bench_core.training.audit import Audit
from bench_core.training.diagnostic_tools import by_parts, credits_become, layered, read_part
from bench_core.training.probe import BATCH
from bench_core.training.rng import stream

ULPS = 10


class PerturbationCorrelation(Diagnostic):
    """ρ_l = correlation between predicted and measured loss changes under small perturbations.

    Predicted: ⟨a_l, εv⟩; measured: CE(h_l + εv) − CE(h_l), per sample; v one random unit
    direction per sample. ρ_l is the mean over M draws of v of Pearson's correlation over the
    first `samples` probe samples.

    In float64 (copies of the network and the states): in float32 the change of CE is mostly
    rounding where states are large. Not diagnostic at a layer where the mean |ΔCE| is under 10
    units of the last place of CE, or the credit does not vary. value = the mean over 1 ≤ l ≤
    L−1. Directions span the part of a state that `Net.flat` reads: all channels, of vit_mini
    the CLS token's.
    Source: arXiv:2606.21126 (ε = 1e-3, M = 32, n = 1,024; published values are float32).
    """

    class Params(ParamsModel):
        """Parameters of ρ."""

        draws: int = Field(32, ge=1, le=10_000, description="M, random directions per sample")
        epsilon: float = Field(1e-3, gt=0.0, le=1.0, description="ε, length of the perturbation")
        samples: int = Field(
            1024, ge=2, le=1_000_000, description="n, probe samples used; whole batches of 128"
        )

    @torch.no_grad()
    def measure(self, audit: Audit) -> Measured:
        if not audit.has_credit:
            return Measured(None, not_diagnostic="the method has no credit to audit")
        rho, sizes, reasons = [], [], {}
        batches = audit.batches[: -(-self.params.samples // BATCH)]
        draws = stream(audit.seed, "probe")
        for index, site in enumerate(audit.net.sites):
            rows = [
                self.changes(
                    audit, batch.states.h[site], batch.audited[index], batch.y, site, draws
                )
                for batch in batches
            ]
            predicted, measured, loss = (torch.cat(part, 1) for part in zip(*rows, strict=True))
            rho.append(float(pearson(predicted, measured).mean()))
            sizes.append(float(measured.abs().mean()))
            if not all(bool(t.isfinite().all()) for t in (predicted, measured)):
                reasons[site] = "states, credits or losses are not finite"
            elif sizes[-1] < ULPS * torch.finfo(torch.float64).eps * float(loss.mean()):
                reasons[site] = f"the mean |ΔCE| is under {ULPS} units of the last place"
            elif rho[-1] != rho[-1]:
                reasons[site] = "the credit or the loss does not vary"
        return layered(
            audit, rho, reasons, mean_change=sizes, n=predicted.shape[1], draws=self.params.draws
        )

    def changes(
        self, audit: Audit, h: Tensor, a: Tensor, y: Tensor, site: int, draws: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predicted and measured changes (M, N), and CE (1, N)."""
        net, h, a = audit.double, h.double(), a.double()
        part = read_part(net, h)

        def loss(h: Tensor, y: Tensor) -> Tensor:
            return net.loss(net.resume(h, site), y, "none")

        base = by_parts(loss, h, y)
        predicted, measured = [], []
        for _ in range(self.params.draws):
            v = torch.randn(h.shape, generator=draws, dtype=torch.float32).to(h) * part
            v = v / v.flatten(1).norm(dim=1).view(-1, *[1] * (v.dim() - 1))
            predicted.append(self.params.epsilon * (a * v).flatten(1).sum(1))
            measured.append(by_parts(loss, h + self.params.epsilon * v, y) - base)
        return torch.stack(predicted), torch.stack(measured), base.unsqueeze(0)

    def controls(self) -> list[Control]:
        return [
            Control("the exact gradient", credits_become("exact"), value_is(lambda v: v > 0.95)),
            Control("Gaussian noise", credits_become("noise"), value_is(lambda v: abs(v) < 0.05)),
            Control("no credit", credits_become("zero"), not_diagnostic),
        ]


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of each row; NaN where a row does not vary."""
    a, b = (t - t.mean(1, keepdim=True) for t in (a, b))
    # each row is divided by its own norm first: the product of two small norms would underflow
    return ((a / a.norm(dim=1, keepdim=True)) * (b / b.norm(dim=1, keepdim=True))).sum(1)
