"""Null calibration: how large is Γ with feedback that the network was not trained with?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, stdev
from typing import Any

import torch
from bench_plugins.diagnostics.expect import unchanged, value_is
from bench_plugins.diagnostics.fresh_feedback import credits_of, fresh_rule
from pydantic import Field
from torch import Tensor

from bench_core.api import Control, Diagnostic, Measured, Method, ParamsModel
from bench_core.suite.protocol import AT_FLOOR
from bench_core.training.audit import LARGE, Audit
from bench_core.training.diagnostic_tools import credits_become, deep_mean
from bench_core.training.probe import ProbeBatch
from bench_core.training.rng import stream

ROUNDING = 1e-6  # of a cosine's mean over the probe, in float32


class NullCalibration(Diagnostic):
    """Mean and deviation of Γ_l over fresh feedback (and auxiliary networks), trained network.

    A cosine counts as alignment only outside this null: `flagged` lists the sites whose trained
    Γ_l lies within 2 deviations. A site whose Γ is the same in all draws (fa's exact top) has no
    null: it is `without_null`, and is neither flagged nor in the deep means. value = (Γ_deep −
    mean)/deviation of the null's deep means: the distance of the trained feedback from the null
    in deviations.

    The rule is set up on a copy of the network with permuted parameters, and then gives the
    credits of the network itself: feedback that `setup` derives from forward weights
    (sign_symmetry, weight_mirror) would otherwise be no null. Not diagnostic for a rule without
    feedback (nothing in its `state_dict`), for a credit that is the same in all draws, and with
    the reference at the floor (diagnostic b).
    Source: arXiv:2606.21126.
    """

    needs_reference = True

    class Params(ParamsModel):
        """Parameters of the null."""

        draws: int = Field(20, ge=2, le=10_000, description="fresh draws of the feedback")

    def per_batch(self, audit: Audit, batch: ProbeBatch) -> list[Tensor]:
        return gammas(audit, batch, batch.audited)

    def measure(self, audit: Audit) -> Measured:
        method, sites, depth = audit.method, audit.net.sites, audit.net.depth
        if method is None or not method.state_dict() or not audit.has_credit:
            return Measured(None, not_diagnostic="the method has no feedback to draw anew")
        trained = means_of(audit.figures(self))
        null = list(self.null(audit, method))
        if not all(math.isfinite(g) for row in (trained, *null) for g in row):
            return Measured(None, {"layers": trained}, "credit or reference is not finite")
        means = [fmean(column) for column in zip(*null, strict=True)]
        stds = [stdev(column) for column in zip(*null, strict=True)]
        varies = [index for index, s in enumerate(stds) if s > ROUNDING]
        details: dict[str, Any] = {
            "sites": list(sites), "layers": trained, "null_mean": means, "null_std": stds,
            "draws": self.params.draws,
            "flagged": [sites[i] for i in varies if abs(trained[i] - means[i]) <= 2 * stds[i]],
            "without_null": [site for index, site in enumerate(sites) if index not in varies],
        }  # fmt: skip
        own, *deeps = (
            (over_deep(sites, row, varies, depth) for row in (trained, *null))
            if varies
            else (None,)
        )
        if own is None:
            drawn = "Γ of this credit does not depend on what is drawn in setup"
            zero = "a credit is zero by fresh feedback"
            why = drawn if any(map(any, null)) else zero
            return Measured(None, details, f"the null does not vary: {why}")
        center, spread = fmean(deeps), stdev(deeps)
        details |= {"deep": own, "null_deep_mean": center, "null_deep_std": spread}
        return Measured((own - center) / spread, details, AT_FLOOR if audit.at_floor else None)

    def null(self, audit: Audit, method: Method) -> Iterator[list[float]]:
        """Yield Γ_l of every fresh draw.

        As many fresh rules share a pass over the probe as are small together.
        """
        held = sum(tensor.nbytes for tensor in method.state_dict().values())
        together = max(1, LARGE // max(1, held))
        draws, left = stream(audit.seed, "nulls"), self.params.draws
        while left > 0:
            rules = [fresh_rule(audit, method, draws) for _ in range(min(together, left))]
            left -= len(rules)
            figures: list[list[list[Tensor]]] = [[] for _ in rules]
            for batch in audit.batches:
                for rule, own in zip(rules, figures, strict=True):
                    own.append(gammas(audit, batch, credits_of(rule, audit, batch)))
            yield from map(means_of, figures)

    def controls(self) -> list[Control]:
        def untrained(found: Measured) -> bool:
            return found.value is not None and abs(found.value) < 5

        return [
            Control(
                "the exact gradient stands out", credits_become("exact"), value_is(lambda v: v > 5)
            ),
            Control("feedback that nothing was trained with", unchanged, untrained),
        ]


def over_deep(sites: Sequence[int], row: Sequence[float], kept: Sequence[int], depth: int) -> float:
    """Mean of these Γ over the deep sites among `kept`, or over all of `kept` if none is deep."""
    deep = deep_mean([sites[i] for i in kept], [row[i] for i in kept], depth)
    return fmean(row[i] for i in kept) if deep is None else deep


def gammas(audit: Audit, batch: ProbeBatch, credits: Sequence[Tensor]) -> list[Tensor]:
    """Γ_l per sample at the sites, unclamped."""
    rows = []
    for site, a in zip(audit.net.sites, credits, strict=False):
        pair = [audit.net.flat(t).double() for t in (a, batch.g[site])]
        units = (t / t.norm(dim=1, keepdim=True).clamp_min(1e-30) for t in pair)
        rows.append(torch.linalg.vecdot(*units))
    return rows


def means_of(figures: list[list[Tensor]]) -> list[float]:
    """Γ_l at the sites, from those of each batch."""
    return [float(torch.cat(rows).mean()) for rows in zip(*figures, strict=True)]
