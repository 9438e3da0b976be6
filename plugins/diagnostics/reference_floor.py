"""b, reference floor: is there still a gradient to compare with?"""

from __future__ import annotations

import torch
from bench_plugins.diagnostics.expect import unchanged, value_is
from torch import Tensor, nn

from bench_core.api import Control, Diagnostic, Measured
from bench_core.training.audit import FLOOR, Audit
from bench_core.training.diagnostic_tools import median
from bench_core.training.probe import BATCH, ProbeBatch


class Amplified(nn.Module):
    """A block with output 1e9·(h + f(h)): a terminal norm divides the gradient by as much."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = 1e9 * (h + self.block(h))
        return out


class ReferenceFloor(Diagnostic):
    """G_l = median over the probe samples of the per-sample ‖g_l‖; value = G_L. Fires below
    1e-7·128 = 1.28e-5.

    The published threshold 1e-7 is for the gradient of a batch-mean CE at N = 128. `mean_128`
    and `mean_1024` give G_L in that form, at the two batch sizes that the publication uses.
    Source: arXiv:2606.21126, calibrated there: smallest healthy ‖g_L‖ 1.0e-4, largest degenerate
    4.2e-9 (N = 128).
    """

    letter, direction, threshold, unit = "b", "below", FLOOR * BATCH, "per sample"
    when = "epochs"
    title, heading, axis, batch = "‖g_L‖, batch-mean CE", "‖g_L‖", "log", BATCH
    sentence = "reference gradient at the floor ({value} < {limit} at N={batch})"

    def per_batch(self, audit: Audit, batch: ProbeBatch) -> list[Tensor]:
        return [audit.sample_norms(g) for g in batch.g]

    def measure(self, audit: Audit) -> Measured:
        g = [median(torch.cat(norms)) for norms in zip(*audit.figures(self), strict=True)]
        return Measured(g[-1], {"g": g, "mean_128": g[-1] / 128, "mean_1024": g[-1] / 1024})

    def controls(self) -> list[Control]:
        def drown(audit: Audit) -> None:
            audit.net.blocks[-1] = Amplified(audit.net.blocks[-1])

        limit = FLOOR * BATCH
        return [
            Control("h_L × 1e9 before the terminal norm", drown, value_is(lambda v: v < limit)),
            Control("random init", unchanged, value_is(lambda v: v >= limit)),
        ]
