"""Γ, alignment: the cosine between a method's credit and the backprop gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from bench_plugins.diagnostics.expect import value_is
from torch import Tensor

from bench_core.api import Control, Diagnostic, Measured
from bench_core.suite.protocol import AT_FLOOR
from bench_core.training.audit import Audit
from bench_core.training.diagnostic_tools import because, credits_become, deep_mean, median
from bench_core.training.method import Credits
from bench_core.training.probe import BATCH, ProbeBatch

CLAMP = 1e-8  # of F.cosine_similarity


def cosine(a: Tensor, g: Tensor, clamp: float) -> Tensor:
    """⟨a, g⟩ / (max(‖a‖, clamp)·max(‖g‖, clamp)) per row, float64."""
    a, g = a.double(), g.double()
    # each vector is divided by its own norm first: the product of two small norms would underflow
    return (
        (a / a.norm(dim=1, keepdim=True).clamp_min(clamp))
        * (g / g.norm(dim=1, keepdim=True).clamp_min(clamp))
    ).sum(1)


def nothing_to_compare(a: Tensor, g: Tensor) -> str | None:
    """Return the reason why cosines of credits to references mean nothing, or None.

    `a` and `g` are their per-sample norms. A tool that zeroes every |g| ≤ 1e-8 and calls the
    cosine of an empty row 1 reports a perfect alignment here.
    """
    if not bool(a.isfinite().all() and g.isfinite().all()):
        return "credit or reference is not finite"
    if median(g) / BATCH <= CLAMP:
        return f"the reference is under the clamp of libraries, {CLAMP:g} (batch mean, N = {BATCH})"
    return "the credit has not arrived: it is zero" if median(a) == 0 else None


def parallel(c: Tensor, a: Tensor) -> bool:
    """Decide whether two credits have the same direction for every sample, or both none."""
    one, other = (credit.flatten(1).double() for credit in (c, a))
    one, other = (x / x.norm(dim=1, keepdim=True).clamp_min(1e-300) for x in (one, other))
    return bool(((one - other).norm(dim=1) < 1e-4).all())


class Compared(NamedTuple):
    """Cosines of credits to references per sample, unclamped and as libraries clamp; norms."""

    unclamped: Tensor
    library: Tensor
    a: Tensor
    g: Tensor


class OfBatch(NamedTuple):
    """What the credits of a probe batch give.

    readouts  the credit (by the name "") and its further read-outs: their `Compared` at the sites
    blocks    `Compared` of c_l, l = 0 … L−1, where a block learns from another credit than those
              that were audited; else empty
    """

    readouts: dict[str, list[Compared]]
    blocks: list[Compared]


class Alignment(Diagnostic):
    """Γ_l = mean over the probe samples of cos(a_l, g_l), at the sites of the credits.

    The sites are l = 0 … L−1, or 1 … L without residual.

    Per layer, twice: `unclamped` divides each vector by max(norm, 1e-30); `library` clamps each
    norm at 1e-8, as F.cosine_similarity does, applied to the gradient of the batch-mean CE (N =
    128) that such tools are fed with. value = `mean` = the unclamped mean over the sites; `deep`
    = the mean over 1 ≤ l ≤ L−1. `ratio` = median ‖a_l‖/‖g_l‖ per sample: a cosine near 1 with a
    ratio near 0 is credit that has hardly arrived. Further read-outs of a credit are reported by
    name. `blocks` = the mean of cos(c_l, g_{l+1}) for l = 0 … L−1, with g_{l+1} at the output of
    block l, and `blocks_deep` its mean without the last; only if a rule gives a block a credit c_l
    in another direction than the audited a_l and, but for the last block, a_{l+1}. Not
    diagnostic where the reference is under the clamp or at the floor (diagnostic b, at its default
    threshold), the credit is zero, or either is not finite.
    Source: arXiv:2606.21126.
    """

    when = "epochs"
    needs_reference = True

    def per_batch(self, audit: Audit, batch: ProbeBatch) -> OfBatch | None:
        """Compare the credits with the references; None: the method has no credit."""
        if batch.credits is None:
            return None
        named = {"": batch.credits.audited, **batch.credits.readouts}
        return OfBatch(
            {
                name: [
                    self.compare(audit, batch, a, batch.g[site])
                    for site, a in zip(audit.net.sites, credits, strict=True)
                ]
                for name, credits in named.items()
            },
            self.of_blocks(audit, batch, batch.credits),
        )

    def of_blocks(self, audit: Audit, batch: ProbeBatch, credits: Credits) -> list[Compared]:
        if credits.blocks is None or not credits.in_use:
            return []
        audited = dict(zip(audit.net.sites, credits.audited, strict=True))
        own = list(enumerate(credits.blocks, start=1))
        at_input = all(map(parallel, credits.blocks, credits.audited))
        if at_input or all(parallel(c, audited[layer]) for layer, c in own[:-1]):
            return []
        return [self.compare(audit, batch, c, batch.g[layer]) for layer, c in own]

    def compare(self, audit: Audit, batch: ProbeBatch, a: Tensor, g: Tensor) -> Compared:
        a, g = audit.net.flat(a), audit.net.flat(g)
        return Compared(
            cosine(a, g, 1e-30),
            cosine(a, g / len(g), CLAMP),
            batch.per_sample(a).double().norm(dim=1),
            g.double().norm(dim=1),
        )

    def measure(self, audit: Audit) -> Measured:
        figures = audit.figures(self)
        if not figures or figures[0] is None:
            return Measured(None, not_diagnostic="the method has no credit to audit")
        details = self.read(audit, [batch.readouts[""] for batch in figures])
        for name in filter(None, figures[0].readouts):
            further = self.read(audit, [batch.readouts[name] for batch in figures])
            details |= {f"{name}_{key}": further[key] for key in ("unclamped", "ratio", "deep")}
        if all(batch.blocks for batch in figures):
            layers = range(1, audit.net.depth + 1)
            by_layer = zip(*(batch.blocks for batch in figures), strict=True)
            cosines = [float(torch.cat([c.unclamped for c in each]).mean()) for each in by_layer]
            details["blocks"] = cosines
            details["blocks_deep"] = deep_mean(layers, cosines, audit.net.depth)
        details["in_use"] = audit.summaries[0].in_use
        silent = {int(site): reason for site, reason in details["not_diagnostic"].items()}
        return Measured(
            details["mean"], details, because(silent) or (AT_FLOOR if audit.at_floor else None)
        )

    def read(self, audit: Audit, batches: list[list[Compared]]) -> dict[str, Any]:
        """Average over the probe, site by site."""
        sites = audit.net.sites
        unclamped, library, ratio = [], [], []
        silent: dict[str, str] = {}
        for site, parts in zip(sites, zip(*batches, strict=True), strict=True):
            whole = Compared(*(torch.cat(part) for part in zip(*parts, strict=True)))
            unclamped.append(float(whole.unclamped.mean()))
            library.append(float(whole.library.mean()))
            ratio.append(median(whole.a / whole.g.clamp_min(1e-300)))
            if reason := nothing_to_compare(whole.a, whole.g):
                silent[str(site)] = reason
        return {
            "sites": list(sites),
            "not_diagnostic": silent,
            "unclamped": unclamped,
            "library": library,
            "ratio": ratio,
            "mean": sum(unclamped) / len(unclamped),
            "library_mean": sum(library) / len(library),
            "deep": deep_mean(sites, unclamped, audit.net.depth),
        }

    def controls(self) -> list[Control]:
        return [
            Control(
                "the exact gradient", credits_become("exact"), value_is(lambda v: abs(v - 1) < 1e-6)
            ),
            Control("Gaussian noise", credits_become("noise"), value_is(lambda v: abs(v) < 0.05)),
        ]
