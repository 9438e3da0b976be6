"""Inferences of predictive_coding that carry errors or multipliers.

Those that also move the values return (z, m, force): the values z_0 … z_L, the m_l whose negative
is the credit of h_l, and the gradient that another step would descend; all are detached and have
the shapes of the states.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from bench_plugins.methods.relaxation import errors
from torch import Tensor

from bench_core.api import Net, States

Inferred = tuple[list[Tensor], list[Tensor], list[Tensor]]


def with_fixed_predictions(
    net: Net, states: States, y: Tensor, steps: int, step_size: float
) -> list[Tensor]:
    """ε_0 … ε_L after steps with the predictions and Jacobians of the forward pass."""
    with torch.enable_grad():
        h = [state.detach().requires_grad_() for state in states.h]
        above = [net.advance(h[layer], layer)[0] for layer in range(net.depth)]
        (top,) = torch.autograd.grad(net.loss(net.readout(h[-1]), y, "sum"), h[-1])
    e = [torch.zeros_like(state) for state in h]
    for _ in range(steps):
        below = [*torch.autograd.grad(above, h[:-1], e[1:], retain_graph=True), -top]
        e = [torch.lerp(old, new, step_size) for old, new in zip(e, below, strict=True)]
    return e


def by_errors(net: Net, states: States, y: Tensor, steps: int, step_size: float) -> Inferred:
    """Move the errors: ε_l ← ε_l − γ(ε_l + ∂loss/∂ε_l) from 0; m_l = ε_l.

    z_0 = h_0 + ε_0, z_{l+1} = F_l(z_l) + ε_{l+1}; the loss is summed over samples, and its slope is
    taken by reverse mode through all blocks.
    """
    e = [torch.zeros_like(h) for h in states.h]

    def slopes() -> tuple[list[Tensor], Sequence[Tensor]]:
        with torch.enable_grad():
            own = [error.detach().requires_grad_() for error in e]
            z = [states.h[0] + own[0]]
            for layer in range(net.depth):
                z.append(net.advance(z[-1], layer)[0] + own[layer + 1])
            return z, torch.autograd.grad(net.loss(net.readout(z[-1]), y, "sum"), own)

    for _ in range(steps):
        _, g = slopes()
        e = [torch.lerp(error, -slope, step_size) for error, slope in zip(e, g, strict=True)]
    z, g = slopes()
    force = [error + slope for error, slope in zip(e, g, strict=True)]
    return [value.detach() for value in z], e, force


def by_multipliers(
    net: Net, states: States, y: Tensor, steps: int, step_size: float, dual_step: float
) -> Inferred:
    """Descend E(z) + Σ_l ⟨λ_l, ε_l⟩ by γ, then λ_l ← λ_l + α·ε_l, from λ = 0; m_l = λ_l + ε_l.

    m_l takes the multipliers that the last descent used, before their own last step.
    """
    z, multipliers = list(states.h), [torch.zeros_like(h) for h in states.h]

    def slopes() -> tuple[list[Tensor], list[Tensor], Sequence[Tensor]]:
        """The multipliers after their step, ε + λ before it, and the next slopes."""
        with torch.enable_grad():
            own = [value.detach().requires_grad_() for value in z]
            e = errors(net, own, states.h[0])
            credits = [m + error.detach() for m, error in zip(multipliers, e, strict=True)]
            new = [m + dual_step * error.detach() for m, error in zip(multipliers, e, strict=True)]
            seeds = [m + error.detach() for m, error in zip(new, e, strict=True)]
            loss = net.loss(net.readout(own[-1]), y, "sum")
            force = torch.autograd.grad([*e, loss], own, [*seeds, torch.ones_like(loss)])
        return new, credits, force

    for _ in range(steps):
        multipliers, _, force = slopes()  # ε is 0 before the first step
        z = [value - step_size * f for value, f in zip(z, force, strict=True)]
    _, m, force = slopes()
    return [value.detach() for value in z], m, list(force)
