"""bp: backpropagation, the ceiling of every comparison."""

from __future__ import annotations

from torch import Tensor

from bench_core.api import Credits, Laws, Method, Passport, States
from bench_core.training.net import exact_gradients


class Backprop(Method):
    """Backpropagation: CE is minimised end to end.

    With a penalty, λ·Σ_l mean_batch ‖f_l‖² is added (without stop-gradient). Credit: a_l = g_l =
    ∂CE/∂h_l per sample, c_l = g_{l+1}, embedding g_0.

    Ours: none.
    Source: Rumelhart, Hinton, Williams 1986, doi:10.1038/323533a0.
    Verified: Γ is 1 in every layer; `bench check` compares the update with loss.backward().
    """

    passport = Passport(
        exact_hidden_gradients=True,
        weight_transport=True,
        non_local_state=True,
        exact_top_credit=True,
    )
    laws = Laws(linear_in_error=True, exact_top=True, exact_with={})

    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        states = self.net.states(x)
        loss = self.net.loss(states.logits, y)
        total = loss
        if self.params.penalty:
            total = loss + self.params.penalty / len(x) * sum(f.square().sum() for f in states.f)
        self.tools.updater.descend(total + self.auxiliary(states, y))
        return loss.detach()

    def auxiliary(self, states: States, y: Tensor) -> Tensor | float:
        """Return further terms that are minimised, for rules that derive from bp."""
        return 0.0

    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        g = exact_gradients(self.net, states.h[0], y)
        return Credits(audited=[g[site] for site in self.net.sites], blocks=g[1:], embed=g[0])
