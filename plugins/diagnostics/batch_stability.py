"""c, batch stability: does the gradient still depend on the batch?"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import torch
from bench_plugins.diagnostics.expect import value_is
from torch import Tensor

from bench_core.api import Control, Diagnostic, Measured
from bench_core.training.audit import Audit
from bench_core.training.probe import BATCH, PROBE, ProbeBatch


class BatchStability(Diagnostic):
    """Mean cosine between the mean gradients of the probe batches. Fires above 0.30.

    u_b = normalised mean over probe batch b of the raw per-sample g at layer L//2; value = mean
    of ⟨u_b, u_b'⟩ over the pairs of the 10 batches.

    With fewer than 10 full batches of 128 it is not diagnostic. At random init of resmlp on
    CIFAR-10 .177 / .080 / .160 for the seeds 42 / 123 / 456 (measured).
    Source: arXiv:2606.21126.
    """

    letter, direction, threshold = "c", "above", 0.30
    when = "epochs"
    title, heading = "cosine between the gradients of batches", "cosine"
    sentence = "gradient direction repeats across batches (cosine {value}, limit {limit})"

    def per_batch(self, audit: Audit, batch: ProbeBatch) -> Tensor | None:
        """The mean gradient of a full batch."""
        if len(batch.y) < BATCH:
            return None
        return audit.net.flat(batch.g[audit.net.depth // 2]).double().mean(0)

    def measure(self, audit: Audit) -> Measured:
        layer = audit.net.depth // 2
        means = [mean for mean in audit.figures(self) if mean is not None]
        if len(means) < 2:
            return Measured(
                None,
                {"batches": len(means)},
                f"fewer than two full probe batches of {BATCH}: no pair to compare",
            )
        directions = [mean / mean.norm().clamp_min(1e-300) for mean in means]
        products = [float(torch.dot(u, v)) for u, v in combinations(directions, 2)]
        value = sum(products) / len(products)
        few = f"{len(means)} full probe batches of {BATCH}; the protocol needs {PROBE // BATCH}"
        return Measured(
            value,
            {"batches": len(means), "layer": layer},
            few if len(means) < PROBE // BATCH else None,
        )

    def controls(self) -> list[Control]:
        def one_class(audit: Audit) -> None:
            """A head that is sure of class 0: all samples have nearly the same error and
            gradient.
            """
            with torch.no_grad():
                biases = [p for p in audit.net.readout.parameters() if p.dim() == 1]
                biases[-1][0] += 1e3

        def no_preference(audit: Audit) -> None:
            """A head without preference, balanced labels: the batches' mean errors are noise."""
            with torch.no_grad():
                for parameter in audit.net.readout.parameters():
                    parameter.mul_(1e-2)
            labels = (
                torch.arange(len(audit.data.test_y), device=audit.data.test_y.device)
                % audit.data.classes
            )
            audit.data = replace(audit.data, test_y=labels)

        return [
            Control("a head that is sure of one class", one_class, value_is(lambda v: v > 0.30)),
            Control(
                "a head without preference, balanced labels",
                no_preference,
                value_is(lambda v: v <= 0.30),
            ),
        ]
