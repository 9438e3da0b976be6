"""Drift: how far have the weights moved from where they were drawn?"""

from __future__ import annotations

import torch
from bench_plugins.diagnostics.expect import value_is

from bench_core.api import Control, Diagnostic, Measured
from bench_core.training.audit import Audit


class Drift(Diagnostic):
    """‖W − W_init‖ / ‖W_init‖ (Frobenius) of every weight of at least two dimensions.

    `w2` = mean over the blocks of each block's last matrix, `embed` = the embedding's last;
    value = `w2`; `matrices` has all. A matrix that was drawn as zeros is left out.
    Source: arXiv:2606.21126.
    """

    def measure(self, audit: Audit) -> Measured:
        if audit.initial is None:
            return Measured(None, not_diagnostic="the weights before training are not known")
        matrices = {}
        for name, value in audit.net.named_parameters():
            start = audit.initial.get(name)
            if value.dim() < 2 or start is None or not bool(start.any()):
                continue
            now, then = value.detach().double(), start.double()
            matrices[name] = float((now - then).norm() / then.norm())
        blocks = [
            [d for name, d in matrices.items() if name.startswith(f"blocks.{i}.")]
            for i in range(audit.net.depth)
        ]
        last = [found[-1] for found in blocks if found]
        embed = [d for name, d in matrices.items() if name.startswith("embed.")]
        w2 = sum(last) / len(last) if last else None
        details = {"w2": w2, "embed": embed[-1] if embed else None, "matrices": matrices}
        return Measured(w2, details, None if last else "no block has a weight matrix")

    def controls(self) -> list[Control]:
        def remember(audit: Audit) -> None:
            audit.initial = {
                name: value.detach().clone() for name, value in audit.net.state_dict().items()
            }

        def treble(audit: Audit) -> None:
            remember(audit)
            with torch.no_grad():
                for parameter in audit.net.parameters():
                    parameter.mul_(3)

        return [
            Control("nothing moved", remember, value_is(lambda v: v == 0)),
            Control("all weights × 3", treble, value_is(lambda v: abs(v - 2) < 1e-6)),
        ]
