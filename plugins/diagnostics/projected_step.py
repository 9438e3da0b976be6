"""Projected step: does the update of a group go down the gradient, and how far?"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

import torch
from bench_plugins.diagnostics.expect import value_is
from bench_plugins.diagnostics.one_update import (
    BATCHES,
    Update,
    by_group,
    one_update,
    steps_become,
)
from torch import Tensor

from bench_core.api import Control, Diagnostic, Measured
from bench_core.suite.protocol import AT_FLOOR
from bench_core.training.audit import Audit
from bench_core.training.copies import CannotCopy


class ProjectedStep(Diagnostic):
    """The update of one step against the backprop gradient, per group of parameters θ:

        cosine  ⟨Δθ, −∇θ⟩ / (‖Δθ‖·‖∇θ‖)          gain  ⟨Δθ, −∇θ⟩ / ‖∇θ‖²

    with ∇θ = ∂(batch-mean loss)/∂θ, both on the same probe batch, averaged over the first 4
    of 128, without a last one of fewer than 64. `raw`: Δθ = −(the rule's gradient), before
    clipping: 1 and 1 for backpropagation without a penalty, of which ∇θ knows nothing. Both get the
    same draws (masks of dropout).
    `adamw`: the change that AdamW makes of it with the moments of the training, weight decay
    included; its gain is proportional to the learning rate at that epoch. A cosine of credits (Γ)
    looks at one state; this looks at the weights, through the block's own Jacobian. value = mean
    raw cosine over the blocks that learn. A random update has cosine 0 ± 1/√(size of the group).
    Not diagnostic for a rule without blocks that learn, and with the reference at the floor (b).
    Source: the projected step of Reddy, Safaai, Sabatini 2026 (code: KempnerInstitute/DFA-Stall),
    there per layer and for the raw update.
    """

    needs_reference = True
    title, heading = "cosine of the update to the gradient", "step"

    def measure(self, audit: Audit) -> Measured:
        if audit.method is None:
            return Measured(None, not_diagnostic="there is no rule to take a step")
        try:
            updates = [
                one_update(audit, batch) for batch in audit.batches[: audit.large_batches][:BATCHES]
            ]
        except CannotCopy as error:
            return Measured(None, not_diagnostic=str(error))
        return read(audit, updates)

    def controls(self) -> list[Control]:
        return [
            Control("backpropagation", steps_become(1.0), value_is(lambda v: abs(v - 1) < 1e-4)),
            Control("its opposite", steps_become(-1.0), value_is(lambda v: abs(v + 1) < 1e-4)),
        ]


def read(audit: Audit, updates: list[Update]) -> Measured:
    """Average cosine and gain of every group over the updates."""
    details: dict[str, Mapping[str, float] | None] = {}
    for kind in ("raw", "adamw"):
        changes = [getattr(update, kind) for update in updates]
        if None in changes:
            details[f"{kind}_cosine"] = details[f"{kind}_gain"] = None
            continue
        pairs = [
            (by_group(audit.net, change), by_group(audit.net, update.gradient))
            for change, update in zip(changes, updates, strict=True)
        ]
        names = list(pairs[0][0])
        details[f"{kind}_cosine"] = {n: fmean(cosine(c[n], -g[n]) for c, g in pairs) for n in names}
        details[f"{kind}_gain"] = {n: fmean(gain(c[n], g[n]) for c, g in pairs) for n in names}
    raw = details["raw_cosine"] or {}
    blocks = [value for name, value in raw.items() if name.startswith("block_")]
    if not blocks:
        return Measured(None, details, "no block learns")
    value = fmean(blocks)
    broken = None if value == value else "an update or a gradient is zero or not finite"
    return Measured(value, details, broken or (AT_FLOOR if audit.at_floor else None))


def cosine(a: Tensor, b: Tensor) -> float:
    """⟨a, b⟩/(‖a‖‖b‖); NaN if one is zero."""
    return float(torch.dot(a / a.norm(), b / b.norm()))


def gain(change: Tensor, gradient: Tensor) -> float:
    """⟨Δθ, −∇θ⟩/‖∇θ‖²."""
    size = gradient.norm()
    return float(-torch.dot(change / size, gradient / size))
