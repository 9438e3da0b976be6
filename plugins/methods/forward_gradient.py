"""forward_gradient: noise on every state times the derivative of the loss along it."""

from __future__ import annotations

from bench_plugins.methods.node_perturbation import NodePerturbation
from torch import Tensor
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench_core.api import States


class ForwardGradient(NodePerturbation):
    """Node perturbation for σ → 0: a_l = mean_k δ_k·ξ_l^k with δ = Σ_l ⟨g_l, ξ_l⟩ exactly.

    δ is the tangent of the loss in one pass of forward-mode differentiation with tangents ξ_l at
    all states. E[a_l] = g_l and E‖a − g‖² = (D + 1)/K·‖g‖². The noise is on the states (Ren et
    al.), not on the weights (Baydin et al.): D is smaller, and there is a credit to audit.
    `sigma` has no effect.
    Ours: one loss for all states (second source: a loss per patch and group as well).
    Source: Baydin et al. 2022, arXiv:2202.08587; Ren, Kornblith, Liao, Hinton 2023,
    arXiv:2210.03310.
    Verified: mean and variance are those above; it is the limit of node_perturbation for σ → 0.
    """

    def change(self, states: States, y: Tensor, noise: list[Tensor]) -> Tensor:
        still = [xi.new_zeros(xi.shape) for xi in noise]
        with sdpa_kernel(SDPBackend.MATH):  # the fused attentions have no forward-mode derivative
            _, tangent = jvp(
                lambda *added: self.loss(states, y, list(added)), tuple(still), tuple(noise)
            )
        found: Tensor = tangent
        return found
