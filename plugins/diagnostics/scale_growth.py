"""a, scale growth: does the residual stream explode?"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from bench_plugins.diagnostics.expect import unchanged, value_is
from torch import Tensor

from bench_core.api import Control, Diagnostic, Measured
from bench_core.training.audit import Audit
from bench_core.training.diagnostic_tools import median
from bench_core.training.probe import ProbeBatch


class ScaleGrowth(Diagnostic):
    """H_l = median over the probe samples of ‖h_l‖; value = max_l H_{l+1} / max(H_l, 1e-30).
    Fires above 50.

    Source: arXiv:2606.21126, calibrated there: largest healthy growth 11.0, smallest degenerate
    694.
    """

    letter, direction, threshold, unit = "a", "above", 50.0, "x"
    when = "epochs"
    title, heading, axis = "largest growth of ‖h‖ in one block", "growth", "log"
    sentence = "{state} grows {value}x in one block (limit {limit}x)"

    def per_batch(self, audit: Audit, batch: ProbeBatch) -> list[Tensor]:
        return [audit.sample_norms(h) for h in batch.states.h]

    def measure(self, audit: Audit) -> Measured:
        h = [median(torch.cat(norms)) for norms in zip(*audit.figures(self), strict=True)]
        growth = [above / max(below, 1e-30) for below, above in pairwise(h)]
        # max() would pass over a NaN that does not come first
        worst = max(growth) if all(math.isfinite(g) for g in growth) else float("nan")
        return Measured(worst, {"h": h, "growth": growth})

    def controls(self) -> list[Control]:
        def explode(audit: Audit) -> None:
            """The last weight matrix of every block times 1e4."""
            with torch.no_grad():
                for block in audit.net.blocks:
                    matrices = [p for p in block.parameters() if p.dim() > 1]
                    matrices[-1].mul_(1e4)

        return [
            Control(
                "last weights of every block × 1e4", explode, value_is(lambda v: v > self.threshold)
            ),
            Control("random init", unchanged, value_is(lambda v: v <= self.threshold)),
        ]
