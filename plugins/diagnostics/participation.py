"""Participation: how many units still pass a gradient, and how many directions the states use."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from bench_plugins.diagnostics.expect import unchanged
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from bench_core.api import Control, Diagnostic, Measured
from bench_core.training.audit import Audit
from bench_core.training.diagnostic_tools import because

SAMPLES, NUMBERS = 1024, 2**23  # of a state for its rank: at most so many rows, and numbers

ACTIVATIONS = {
    F.relu, torch.relu, Tensor.relu, F.gelu, F.silu, torch.tanh, Tensor.tanh, F.tanh,
    torch.sigmoid, Tensor.sigmoid, F.leaky_relu, F.elu, F.softplus, F.mish, F.hardtanh,
}  # fmt: skip


class _Gates(TorchFunctionMode):
    """Keep φ′(z) of every activation function φ that is called inside, (N, units) each."""

    def __init__(self) -> None:
        super().__init__()
        self.slopes: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        options: Mapping[str, Any] = kwargs or {}
        if func in ACTIVATIONS:
            with torch.enable_grad():
                z = args[0].detach().requires_grad_()
                plain = {key: value for key, value in options.items() if key != "inplace"}
                (slope,) = torch.autograd.grad(func(z, *args[1:], **plain).sum(), z)
            self.slopes.append(slope.flatten(1))
        return func(*args, **options)


def participation_ratio(u: Tensor) -> float:
    """Compute (Σ u)² / (d·Σ u²) of d numbers u ≥ 0: k equal ones and d − k zeros give k/d."""
    return float(u.sum().square() / (len(u) * u.square().sum()))


def effective_rank(states: Tensor) -> float:
    """Compute exp(−Σ p·log p), p the shares of variance: the normalised squared singular values
    of the centred rows, which are the eigenvalues of their covariance.

    NaN for rows that are equal or not finite.
    """
    rows = states.double() - states.double().mean(0)
    if not bool(rows.isfinite().all()):
        return math.nan
    wide = rows.shape[1] > len(rows)  # the squares are then the eigenvalues of rows·rowsᵀ
    p = torch.linalg.eigvalsh(rows @ rows.T) if wide else torch.linalg.svdvals(rows).square()
    p = p.clamp(min=0.0) / p.sum()
    return float(torch.exp(-torch.special.xlogy(p, p).sum()))


class Participation(Diagnostic):
    """Participation ratio of the gates of each block, and effective rank of each state.

    A gate is φ′(z_i) of unit i of an activation function inside block l. With u_i = mean over the
    probe of φ′(z_i)²,

        P_l = (Σ_i u_i)² / (d·Σ_i u_i²),   1/d ≤ P_l ≤ 1,

    averaged over the activation functions of the block; `mean_slope` is mean_i u_i. `rank` = exp of
    the entropy of the shares of variance of h_l (`flat`) along its principal directions, p_i =
    σ_i²/Σσ² with the singular values σ of the centred samples. It goes from 1 to the width or one
    less than the number of samples: the first 1,024, but at most 8 Mi numbers per state. value =
    the mean of P_l over the blocks. An untrained network gives the null: the measurement before
    training. Not diagnostic where no block calls a known activation function, no gate is open, or a
    state is not finite.
    Source: Reddy, Safaai, Sabatini 2026 (code: KempnerInstitute/DFA-Stall); the entropy rank: Roy,
    Vetterli 2007, "The effective rank", here of the covariance matrix. With σ_i/Σσ, the rank of
    the matrix of samples itself, it would be about twice as large.
    """

    title, heading = "participation ratio of the gates", "gates"

    @torch.no_grad()
    def measure(self, audit: Audit) -> Measured:
        net, total = audit.net, 0
        broken: dict[int, str] = {}
        sums: list[list[Tensor]] = [[] for _ in range(net.depth)]
        states: list[list[Tensor]] = [[] for _ in range(net.depth + 1)]
        for batch in audit.batches:
            for layer, h in enumerate(batch.states.h):
                rows = net.flat(h)
                if not bool(rows.isfinite().all()):
                    broken[layer] = "the states are not finite"
                few = min(SAMPLES, max(2, NUMBERS // rows.shape[1]))
                states[layer].append(rows[: max(0, few - total)].clone())
            total += len(batch.y)
            for block in range(net.depth):
                with _Gates() as gates:
                    net.advance(batch.states.h[block], block)
                squares = [_sum_of_squares(slope) for slope in gates.slopes]
                sums[block] = (
                    [old + new for old, new in zip(sums[block], squares, strict=True)]
                    if sums[block]
                    else squares
                )
        ratios = [_mean([participation_ratio(u) for u in own]) for own in sums]
        slopes = [_mean([float(u.mean()) / total for u in own]) for own in sums]
        details = {
            "layers": ratios,
            "mean_slope": slopes,
            "rank": [effective_rank(torch.cat(rows)) for rows in states if rows],
        }
        if broken:  # torch calls the slope of ReLU at NaN 1
            return Measured(math.nan, details, because(broken))
        known = [ratio for ratio in ratios if ratio is not None]
        value = _mean(known)
        if value is None:
            return Measured(None, details, "no block calls a known activation function")
        return Measured(value, details, None if value == value else "no gate of a block is open")

    def controls(self) -> list[Control]:
        def one_unit(audit: Audit) -> None:
            """Biases that close the gates of all units but one."""
            with torch.no_grad():
                for block in audit.net.blocks:
                    first = next(m for m in block.modules() if isinstance(m, nn.Linear))
                    first.bias[1:] -= 1e3

        def few(found: Measured) -> bool:
            return found.value is not None and found.value < 0.1

        def many(found: Measured) -> bool:
            return found.value is not None and found.value > 0.5

        return [
            Control("one open gate in each block", one_unit, few),
            Control("random init", unchanged, many),
        ]


def _sum_of_squares(rows: Tensor) -> Tensor:
    """Add up the squares over the rows in float64, a few rows at a time."""
    return sum(part.double().square().sum(0) for part in rows.split(16))


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
