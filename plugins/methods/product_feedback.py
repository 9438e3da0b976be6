"""product_feedback: substitute feedback through a population, wide (PFA) or narrow (LDFA)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from bench_plugins.methods.kolen_pollack import KolenPollack
from bench_plugins.methods.substitute import SubstituteFeedback, default_std
from pydantic import Field
from torch import Tensor

from bench_core.api import Laws, Net, Task, Tools


class ProductFeedback(KolenPollack):
    """Substitute feedback B = P·Q, from the errors of a layer to a population of m units and on.

        δ_x = (δ_y·P)·Q,   Q ← (1 − λ)·Q + Pᵀ·ΔW,   P (out, m),   Q (m, in) or (m, in·k·k),

    ΔW and λ as in kolen_pollack: Q needs the population's activity δ_y·P and the layer's input
    alone, and Q − Pᵀ·W shrinks by 1 − λ in every step. So B tends to P·Pᵀ·W: to W for m ≥ out,
    where P has orthonormal rows; for m < out to W projected on the span of P's orthonormal columns,
    and the errors that pass a layer have rank m (those on the skip path of a residual block have
    not). `size` is m; by default 4·out.

    first: fixed  P stays as drawn (PFA; with m < out the control of LDFA).
    first: oja    (LDFA) P learns the leading directions of the errors by Oja's rule,
                  P ← P + η·(SᵀS·P − P·PᵀSᵀS·P), S = δ_y/‖δ_y‖ over batch and positions, η = `rate`;
                  Q steps first, by the P before.

    Ours: P orthonormal (PFA's code: Xavier uniform; orthogonal where m = out; LDFA's: Kaiming
    uniform); S in place of δ_y, so that η has no unit; Q follows AdamW's update of W.
    Source: Li, Benna 2024, arXiv:2405.20594 (PFA); Hanut, Kadmon 2025, arXiv:2502.20580 (LDFA).
    Verified: the path is the product of its matrices, by an own computation; for m ≥ out it meets
    W as kolen_pollack does, and with Q = Pᵀ·W it is backpropagation; below, the errors have rank
    m; Oja's rule comes to the leading directions of fixed errors.
    """

    class Params(KolenPollack.Params):
        """Options of product_feedback."""

        size: int | None = Field(
            None, ge=1, le=1 << 20, description="m, units of the population; default: 4·out"
        )
        first: Literal["fixed", "oja"] = Field(
            "fixed", description="P: as drawn, or learning the leading directions of the errors"
        )
        rate: float = Field(0.1, gt=0.0, le=1.0, description="η of Oja's rule")

    laws = Laws(linear_in_error=True, exact_top=True, permutation=False)

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        SubstituteFeedback.setup(self, net, task, tools)
        self.errors = {} if self.params.first == "oja" else None
        for name, module in self.layers.items():
            out, size = len(module.weight), self.params.size or 4 * len(module.weight)
            drawn = self.draw(max(out, size), min(out, size)).cpu()
            P = torch.linalg.qr(drawn)[0].to(module.weight)
            # as a checkpoint stores it: other products come of another layout
            self.kept[f"P_{name}"] = (P if size < out else P.T).contiguous()
            below = module.weight[0].numel()
            Q = self.draw(size, below, std=default_std(module))
            self.kept[f"Q_{name}"] = Q.to(module.weight)

    def feedback(self) -> Mapping[str, Tensor]:
        return {
            name: (self.kept[f"P_{name}"] @ self.kept[f"Q_{name}"]).view_as(module.weight)
            for name, module in self.layers.items()
        }

    def follow(self, name: str, W: Tensor, before: Tensor, shrink: float) -> None:
        P, Q = self.kept[f"P_{name}"], self.kept[f"Q_{name}"]
        self.kept[f"Q_{name}"] = shrink * Q + P.T @ (W - shrink * before).flatten(1)
        if self.errors and (own := self.errors.get(name)):  # the block may not call the layer
            errors = torch.cat([rows_of(error, len(P)) for error, _ in own])
            self.kept[f"P_{name}"] = oja(P, errors, self.params.rate)


def rows_of(errors: Tensor, out: int) -> Tensor:
    """(rows, out) of errors (N, out), (N, tokens, out) or (N, out, …) of maps."""
    return (errors.movedim(1, -1) if errors.dim() == 4 else errors).reshape(-1, out)


def oja(P: Tensor, S: Tensor, rate: float) -> Tensor:
    """P after a step of Oja's rule on errors (rows, out)."""
    S = S / S.norm().clamp_min(torch.finfo(S.dtype).tiny)
    projected = S @ P
    return P + rate * (S.T @ projected - P @ (projected.T @ projected))
