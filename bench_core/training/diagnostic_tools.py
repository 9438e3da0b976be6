"""Tools of diagnostics: parts of a state, means over layers and their reasons, and controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from bench_core.training.diagnostic import Measured
from bench_core.training.method import Credits
from bench_core.training.net import Net
from bench_core.training.rng import stream

if TYPE_CHECKING:
    from bench_core.training.audit import Audit

PART = 4 * 2**20  # bytes of the inputs of one part of `by_parts`


def by_parts(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Apply a function of single samples to a few samples at a time, and join the results.

    A float64 convolution unfolds its whole input, nine times the memory for a 3×3 kernel.
    """
    rows = max(1, PART * len(inputs[0]) // max(each.nbytes for each in inputs))
    parts = zip(*(torch.split(each, rows) for each in inputs), strict=True)
    return torch.cat([function(*part) for part in parts])


def read_part(net: Net, h: Tensor) -> Tensor:
    """Mark the part of a state that per-sample figures read by 1, the rest by 0; shape (1, …).

    `Net.flat` reads all of a state, or the CLS token of a token stream.
    """
    one = torch.ones_like(h[:1], requires_grad=True)
    with torch.enable_grad():
        (read,) = torch.autograd.grad(net.flat(one).sum(), one)
    return (read != 0).to(h)


def credits_become(what: Literal["exact", "opposite", "noise", "zero"]) -> Callable[[Audit], None]:
    """Make a control whose credits are the reference gradients, their opposites, noise or zeros."""

    def change(audit: Audit) -> None:
        draws = stream(0, "controls")

        def edited(credits: Credits, g: tuple[Tensor, ...]) -> Credits:
            exact = [g[site] for site in audit.net.sites]
            new = {
                "exact": exact,
                "opposite": [-a for a in exact],
                "noise": [torch.randn(a.shape, generator=draws).to(a) for a in exact],
                "zero": [torch.zeros_like(a) for a in exact],
            }
            return replace(credits, audited=new[what], reduction="sum")

        audit.edit_credits = edited

    return change


def deep_mean(sites: Sequence[int], values: Sequence[float], depth: int) -> float | None:
    """Average over the deep layers, the sites 1 ≤ l ≤ L−1; None if there are none."""
    deep = [value for site, value in zip(sites, values, strict=True) if 1 <= site <= depth - 1]
    return sum(deep) / len(deep) if deep else None


def layered(
    audit: Audit, values: Sequence[float], reasons: Mapping[int, str], **details: Any
) -> Measured:
    """Pack a figure per site; its value is the deep mean, or without deep layers the mean.

    reasons  site → why its figure means nothing; then a mean that contains it means nothing
    """
    sites, depth = audit.net.sites, audit.net.depth
    deep, mean = deep_mean(sites, values, depth), sum(values) / len(values)
    counted = [site for site in sites if deep is None or 1 <= site <= depth - 1]
    why = because({site: reasons[site] for site in counted if site in reasons})
    details |= {"sites": list(sites), "layers": list(values), "mean": mean, "deep": deep}
    details["not_diagnostic"] = {str(site): reason for site, reason in reasons.items()}
    return Measured(mean if deep is None else deep, details, why)


def because(reasons: Mapping[int, str]) -> str | None:
    """Join the distinct reasons, each with its layers; None if there are none."""
    layers: dict[str, list[str]] = {}
    for site, reason in reasons.items():
        layers.setdefault(reason, []).append(str(site))
    texts = [f"{reason} (l = {', '.join(sites)})" for reason, sites in layers.items()]
    return "; ".join(texts) or None


def median(values: Tensor) -> float:
    """Compute the median, for an even count the mean of the middle two; NaN if any value is NaN."""
    if bool(values.isnan().any()):
        return float("nan")
    return float(values.double().quantile(0.5))
