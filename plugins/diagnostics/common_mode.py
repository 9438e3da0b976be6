"""Common mode: how much of the credit is the same for all samples of a batch?"""

from __future__ import annotations

from dataclasses import replace

import torch
from bench_plugins.diagnostics.expect import value_is
from torch import Tensor

from bench_core.api import Control, Credits, Diagnostic, Measured
from bench_core.training.audit import Audit
from bench_core.training.diagnostic_tools import credits_become, deep_mean
from bench_core.training.probe import ProbeBatch


def share(rows: Tensor) -> float:
    """Compute ‖mean_n r_n‖² / mean_n ‖r_n‖² of rows (N, features), in float64; NaN if all are 0."""
    rows = rows.double()
    rows = rows / rows.norm(dim=1).max()  # squares of small numbers would underflow
    return float(rows.mean(0).square().sum() / rows.square().sum(1).mean())


class CommonMode(Diagnostic):
    """Share of the credits' squared norm that lies in their batch mean:

        m_l = ‖mean_n a_{l,n}‖² / mean_n ‖a_{l,n}‖²,   0 ≤ m_l ≤ 1,

    over a probe batch of N = 128, averaged over the batches; `error` is the same of the output
    error e. Independent credits of mean zero give the mean of 1/N (`null`); credits that are equal
    for all samples give 1, and then every unit of a block is driven alike. A last batch of fewer
    than 64 samples is left out.
    value = the mean over 1 ≤ l ≤ L−1. Not diagnostic for a rule without credit, or if a credit is
    zero or not finite.
    Source: Reddy, Safaai, Sabatini 2026, "Common-Mode Collapse and Recovery in Direct Feedback
    Alignment" (code: KempnerInstitute/DFA-Stall), which splits e into its mean and the rest; the
    share is our figure of it.
    """

    when = "epochs"
    title, heading = "share of the credit in its batch mean", "common"

    def per_batch(self, audit: Audit, batch: ProbeBatch) -> list[float]:
        """1/N, and the shares of the output error and of the credit at every site."""
        credits = [audit.net.flat(credit) for credit in batch.audited]
        error = batch.states.output_error.flatten(1)
        return [1 / len(error), *map(share, (error, *credits))]

    def measure(self, audit: Audit) -> Measured:
        if not audit.has_credit:
            return Measured(None, not_diagnostic="the method has no credit to audit")
        rows = audit.figures(self)[: audit.large_batches]
        null, error, *layers = (sum(column) / len(column) for column in zip(*rows, strict=True))
        sites, depth = audit.net.sites, audit.net.depth
        deep, mean = deep_mean(sites, layers, depth), sum(layers) / len(layers)
        value = mean if deep is None else deep
        details = {"sites": list(sites), "layers": layers, "mean": mean, "deep": deep}
        broken = None if value == value else "a credit is zero or not finite"
        return Measured(value, details | {"error": error, "null": null}, broken)

    def controls(self) -> list[Control]:
        def alike(audit: Audit) -> None:
            def edited(credits: Credits, g: tuple[Tensor, ...]) -> Credits:
                return replace(credits, audited=[torch.ones_like(a) for a in credits.audited])

            audit.edit_credits = edited

        return [
            Control("one credit for all samples", alike, value_is(lambda v: abs(v - 1) < 1e-6)),
            Control("Gaussian noise", credits_become("noise"), value_is(lambda v: v < 0.02)),
        ]
