"""Target alignment: does one update move the outputs against the output error?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean

import torch
from bench_plugins.diagnostics.expect import value_is
from bench_plugins.diagnostics.one_update import BATCHES, one_update, steps_become
from torch import Tensor

from bench_core.api import Control, Diagnostic, Measured, Net
from bench_core.training.audit import Audit
from bench_core.training.copies import CannotCopy
from bench_core.training.diagnostic_tools import by_parts
from bench_core.training.probe import ProbeBatch
from bench_core.training.rng import stream

SMALL = 1e-6  # step length, in units of ‖θ‖


class TargetAlignment(Diagnostic):
    """Mean over samples of cos(Δz_n, −e_n): the change of the outputs z (logits) by one update,
    against the output error e = ∂loss/∂z, on the probe batch of the update.

    Δz is that of a small step along the rule's raw update, z(θ + εΔθ) − z(θ − εΔθ) in float64, in
    eval mode. `blocks`: embedding and blocks move and the readout stays; `readout`: the reverse;
    `all`: both. It needs no hidden gradient, so it is defined for forward-only rules, for which Γ
    is not. value = `blocks`, since every rule trains its readout by the exact gradient. `null` is
    the same of a Gaussian update with the norm of each tensor's. e has the precision of
    the training: in float32 that of a sure output is rounded. Mean of the first 4 probe
    batches, without a last one of fewer than 64 samples, `null` of the first. Not diagnostic where
    nothing below the readout moves.
    Source: the quantity is that of arXiv:2605.11911; step, groups and null are ours.
    """

    title, heading = "cosine of the outputs' change to −e", "target"

    @torch.no_grad()
    def measure(self, audit: Audit) -> Measured:
        if audit.method is None:
            return Measured(None, not_diagnostic="there is no rule to take a step")
        draws, found = stream(audit.seed, "nulls"), []
        for batch in audit.batches[: audit.large_batches][:BATCHES]:
            try:
                raw = one_update(audit, batch).raw
            except CannotCopy as error:
                return Measured(None, not_diagnostic=str(error))
            readout = {name: d for name, d in raw.items() if name.startswith("readout.")}
            below = {name: d for name, d in raw.items() if name not in readout}
            blocks, head = (slope(audit, batch, d) for d in (below, readout))
            changes = {"blocks": blocks, "readout": head, "all": blocks + head}
            if not found:
                null = {name: noise(d, draws) for name, d in below.items()}
                changes["null"] = slope(audit, batch, null)
            error = batch.states.output_error.double()
            found.append({kind: aligned(change, -error) for kind, change in changes.items()})
        details: dict[str, float | None] = {
            kind: fmean(each[kind] for each in found if kind in each) for kind in found[0]
        }
        for kind, value in details.items():
            details[kind] = value if value == value else None
        still = None if details["blocks"] is not None else "nothing below the readout moves"
        return Measured(details["blocks"], details, still)

    def controls(self) -> list[Control]:
        return [
            Control("backpropagation", steps_become(1.0), value_is(lambda v: v > 0.1)),
            Control("its opposite", steps_become(-1.0), value_is(lambda v: v < -0.1)),
        ]


def noise(like: Tensor, draws: torch.Generator) -> Tensor:
    """Draw a Gaussian tensor with the norm of `like`."""
    drawn = torch.randn(like.shape, generator=draws).to(like)
    return drawn * (like.norm() / drawn.norm())


def aligned(change: Tensor, target: Tensor) -> float:
    """Mean over samples of the cosine of two (N, C); NaN if nothing changes."""
    if not bool(change.any()):
        return math.nan
    norms = change.norm(dim=1) * target.norm(dim=1)
    return float(((change * target).sum(1) / norms.clamp_min(1e-300)).mean())


def slope(audit: Audit, batch: ProbeBatch, direction: Mapping[str, Tensor]) -> Tensor:
    """Derivative of the logits, (N, C), along a direction of the parameters; 0 without one."""
    net = audit.double
    own = dict(net.named_parameters())
    size = sum(float(d.double().square().sum()) for d in direction.values()) ** 0.5
    if not size > 0.0:
        return torch.zeros_like(batch.states.logits, dtype=torch.float64)
    length = SMALL * sum(float(p.square().sum()) for p in own.values()) ** 0.5 / size
    x, ends = batch.states.x.double(), []
    for sign in (1.0, -1.0):
        moved = {n: own[n] + sign * length * d.double() for n, d in direction.items()}
        ends.append(logits(net, {**own, **moved}, x))
    return (ends[0] - ends[1]) / (2 * length)


class _Outputs(torch.nn.Module):
    """The logits of a network, as a module that can be called."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net.states(x).logits


def logits(net: Net, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Compute the logits with other parameters."""
    named, outputs = {f"net.{name}": p for name, p in parameters.items()}, _Outputs(net)
    return by_parts(lambda x: torch.func.functional_call(outputs, named, (x,)), x)
