"""vec: vector credit, a network fitted to measured changes of the loss."""

from __future__ import annotations

from bench_plugins.methods.dfa import DirectFeedbackAlignment
from bench_plugins.methods.fitted import FitParams, FittedMethod
from bench_plugins.methods.loss_change import LossChangeFit
from pydantic import Field
from torch import Tensor

from bench_core.api import Credits, Net, States, Task, Tools


class Vec(FittedMethod):
    """The credit is a trained network a_l = a(h_l, t_l, s) ∈ R^d, t_l = l/L, s = e, per sample.

    The network is the bridges' trunk with a vector as output. In every step it is fitted so that
    ⟨a_l, v⟩ equals the measured change of the loss along M = 4 fresh random directions v per
    sample and state, by central differences. `LossChangeFit` has the equations and defines the
    step ε.

    Variants of the source are options: `directions` 8 and 16, `differences: forward`, `terminal`
    (the weight of the terminal term, tw in its tables) and `warmup` (wr: the share of the epochs
    that is trained with the credits of dfa while the network learns).
    The audited credit is always the network's, marked as not in use during the warm-up. By
    default `terminal` and `warmup` are 0, as in the definition.

    Ours: the size of a step and the scale of the fitted changes, which the source does not
    give; both are relative to ‖h_l‖.
    Source: Hao, Wan, Zhai 2026, arXiv:2606.21126.
    Verified: measured changes are the exact directional derivatives to second order in ε; on a
    frozen network the credit becomes the gradient.
    """

    class Params(FitParams):
        """Options of vec."""

        warmup: float = Field(
            0.0, ge=0.0, le=1.0, description="share of the epochs trained with the credits of dfa"
        )

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        self.dfa = DirectFeedbackAlignment(self.params)
        self.dfa.setup(net, task, tools)
        self.fit = LossChangeFit(net, task, tools, self.params)
        self.kept |= {**self.fit.parts, "dfa": self.dfa}

    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        a = self.fit.credit(states)
        own = Credits(audited=[a[site] for site in self.net.sites], embed=a[0])
        if epoch / self.task.epochs >= self.params.warmup:  # a product may round up
            return own
        warm = self.dfa.credit(states, y, epoch)
        return Credits(
            audited=own.audited, blocks=warm.for_blocks, embed=warm.for_embed, in_use=False
        )
