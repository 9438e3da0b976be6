"""Costate alignment: the cosine between a method's credit and the costate in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from bench_plugins.diagnostics.alignment import cosine
from bench_plugins.diagnostics.expect import not_diagnostic, unchanged, value_is
from torch import Tensor

from bench_core.api import Control, Diagnostic, Measured
from bench_core.training.audit import Audit
from bench_core.training.diagnostic_tools import credits_become, layered, median
from bench_core.training.net import exact_gradients
from bench_core.training.probe import ProbeBatch


class CostateAlignment(Diagnostic):
    """Mean over the probe samples of cos(a_l, λ_l), at the sites of the credits.

    λ_l is the exact costate ∂loss/∂h_l that the network knows in closed form (`Net.costate`:
    linear_lq, at the realised noise). Not diagnostic on other networks.

    value = the mean over 1 ≤ l ≤ L−1; `mean` over all sites; `ratio` = median ‖a_l‖/‖λ_l‖ per
    sample. Unlike Γ it needs no backward pass through the network: the truth does not come from
    the machinery that is being audited.
    Source: arXiv:2606.21126 (the toy problem; published, 8,000 steps: state_bridge .945,
    credit_bridge .944, dfa .001).
    """

    def per_batch(self, audit: Audit, batch: ProbeBatch) -> list[tuple[Tensor, Tensor]] | None:
        """Cosine and ratio of norms per sample, at every site; None without a costate."""
        truth = audit.net.costate(batch.states, batch.y)
        if truth is None:
            return None
        pairs = [
            (audit.net.flat(a).double(), audit.net.flat(truth[site]).double())
            for site, a in zip(audit.net.sites, batch.audited, strict=False)
        ]
        return [
            (cosine(a, exact, 1e-30), a.norm(dim=1) / exact.norm(dim=1).clamp_min(1e-300))
            for a, exact in pairs
        ]

    def measure(self, audit: Audit) -> Measured:
        if not audit.has_credit:
            return Measured(None, not_diagnostic="the method has no credit to audit")
        figures = audit.figures(self)
        if figures[0] is None:
            return Measured(None, not_diagnostic="the network has no costate in closed form")
        values, ratios, reasons = [], [], {}
        for site, parts in zip(audit.net.sites, zip(*figures, strict=True), strict=True):
            cosines, sizes = (torch.cat(part) for part in zip(*parts, strict=True))
            values.append(float(cosines.mean()))
            ratios.append(median(sizes))
            if not math.isfinite(values[-1]):
                reasons[site] = "states, credits or errors are not finite"
            elif ratios[-1] == 0:
                reasons[site] = "the credit is zero"
        return layered(audit, values, reasons, ratio=ratios)

    def controls(self) -> list[Control]:
        def with_costate(credits: Literal["exact", "noise", "zero"]) -> Callable[[Audit], None]:
            """A network that knows its costate, and credits that are it, or noise, or nothing."""

            def change(audit: Audit) -> None:
                net = audit.net
                net.costate = lambda states, y: exact_gradients(net, states.h[0], y)  # type: ignore[method-assign]
                credits_become(credits)(audit)

            return change

        return [
            Control("the costate itself", with_costate("exact"), value_is(lambda v: v > 1 - 1e-6)),
            Control("Gaussian noise", with_costate("noise"), value_is(lambda v: abs(v) < 0.05)),
            Control("no credit", with_costate("zero"), not_diagnostic),
            Control("a network without a costate", unchanged, lambda found: found.value is None),
        ]
