"""shuffled_credit: a null method that gives true credit to the wrong samples."""

from __future__ import annotations

from typing import Literal

import torch
from bench_plugins.methods.dfa import DirectFeedbackAlignment
from bench_plugins.methods.redrawn import Redrawn
from pydantic import Field
from torch import Tensor

from bench_core.api import Credits, LocalMethod, Net, Passport, States, Task, Tools
from bench_core.training.net import exact_gradients


class ShuffledCredit(LocalMethod):
    """a_l of a sample is the credit of another sample of the batch, of `bp` or of `dfa`.

    For bp c_l = g_{l+1}, audited g_l, embedding g_0, per sample. One permutation per step, the
    same for all layers, drawn as a random cycle through the batch, so that no sample keeps its
    own credit. The batch mean of the credit, the part that all samples share, is unchanged: the
    null does not remove it.
    Ours: none.
    Source: null method of this suite.
    Verified: every sample gets the credit of another one; the batch mean stays.
    """

    class Params(LocalMethod.Params):
        """Options of shuffled_credit."""

        of: Literal["bp", "dfa"] = Field("bp", description="whose credit is shuffled")

    @property
    def passport(self) -> Passport:
        exact = self.params.of == "bp"
        return Passport(
            exact_hidden_gradients=exact,
            weight_transport=exact,
            non_local_state=exact,
            exact_top_credit=exact,
            extra_forward_passes=exact,
        )

    @property
    def forward_passes(self) -> int:
        """The exact gradients run the blocks once more."""
        return 2 if self.params.of == "bp" else 1

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        self.dfa = DirectFeedbackAlignment(self.params)
        self.dfa.setup(net, task, tools)
        self.order = Redrawn(tools.aux_generator, task.device)
        self.kept |= {"order": self.order, "dfa": self.dfa}

    def learn(self, states: States, y: Tensor, epoch: int) -> None:
        self.order.next()

    def others(self, n: int) -> Tensor:
        """(n,): the index of the sample whose credit each one gets."""
        order = torch.randperm(n, generator=self.order.generator())
        return torch.empty_like(order).scatter_(0, order, order.roll(1))

    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        others = self.others(len(y)).to(y.device)
        if self.params.of == "bp":
            g = [gradient[others] for gradient in exact_gradients(self.net, states.h[0], y)]
            return Credits(audited=[g[site] for site in self.net.sites], blocks=g[1:], embed=g[0])
        own = self.dfa.credit(states, y, epoch)
        return Credits(audited=[a[others] for a in own.audited], embed=own.for_embed[others])
