"""Relax the states of a feed-forward network down ½ Σ_l ‖ε_l‖² + β·loss: ep, predictive coding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bench_core.api import Net, States


def errors(net: Net, h: Sequence[Tensor], embedded: Tensor) -> list[Tensor]:
    """Return ε_0 … ε_L at the states h.

    ε_0 = h_0 − embed(x), ε_{l+1} = h_{l+1} − (h_l + f_l(h_l)), or − f_l(h_l) without residual.
    """
    above = [h[layer + 1] - net.advance(h[layer], layer)[0] for layer in range(net.depth)]
    return [h[0] - embedded, *above]


def relaxed(
    net: Net, states: States, y: Tensor, beta: float, steps: int, step_size: float
) -> list[Tensor]:
    """Return h_0 … h_L, detached, after relaxation from the forward pass.

    The steps are synchronous and descend ½ Σ_l ‖ε_l‖² + β·loss (summed over samples).
    """
    h = list(states.h)
    for _ in range(steps):
        forces = slope(net, h, states, y, beta)
        h = [
            torch.sub(state.detach(), f, alpha=step_size)
            for state, f in zip(h, forces, strict=True)
        ]
    return h


def slope(
    net: Net, h: Sequence[Tensor], states: States, y: Tensor, beta: float
) -> tuple[Tensor, ...]:
    """Return the gradient of ½ Σ_l ‖ε_l‖² + β·loss with respect to h_0 … h_L."""
    with torch.enable_grad():
        h = [state.detach().requires_grad_() for state in h]
        misses = errors(net, h, states.h[0])
        cost = net.loss(net.readout(h[-1]), y, "sum")
        seeds = [*(e.detach() for e in misses), torch.full_like(cost, beta)]  # ∂½‖ε‖²/∂ε = ε
        return torch.autograd.grad([*misses, cost], h, seeds)


def sizes(parts: Sequence[Tensor]) -> Tensor:
    """Return the norm per sample, (N,), of tensors (N, …) taken together, in float64."""
    return torch.stack([p.flatten(1).double().norm(dim=1) for p in parts]).norm(dim=0)
