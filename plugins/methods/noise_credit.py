"""noise_credit: a null method, Gaussian noise with the norms of dfa's credit."""

from __future__ import annotations

import torch
from bench_plugins.methods.dfa import DirectFeedbackAlignment
from bench_plugins.methods.redrawn import Redrawn
from torch import Tensor

from bench_core.api import Credits, LocalMethod, Net, Passport, States, Task, Tools


class NoiseCredit(LocalMethod):
    """a_l = z_l·‖d_l‖/‖z_l‖ per sample, z_l ~ N(0, I) fresh every step, d_l = e·B_l dfa's
    credit.

    It has the norms of dfa's credit without its direction. Norms are over the flattened state,
    or over a token if states are tokens.
    Ours: none.
    Source: null method of this suite.
    Verified: norms are those of dfa's credit; the mean cosine with it is 0.
    """

    passport = Passport()

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        self.dfa = DirectFeedbackAlignment(self.params)
        self.dfa.setup(net, task, tools)
        self.noise = Redrawn(tools.aux_generator, task.device)
        self.kept |= {"noise": self.noise, "dfa": self.dfa}

    def learn(self, states: States, y: Tensor, epoch: int) -> None:
        self.noise.next()

    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        draws = self.noise.generator()
        own = self.dfa.credit(states, y, epoch)

        def like(credit: Tensor) -> Tensor:
            noise = torch.randn(credit.shape, generator=draws).to(credit)
            over = tuple(range(2 if self.net.tokens else 1, credit.dim()))
            size = [t.square().sum(over, keepdim=True).sqrt() for t in (credit, noise)]
            return noise * (size[0] / size[1])

        embed = like(own.for_embed)
        sites = dict(zip(self.net.sites, own.audited, strict=True))
        return Credits(
            audited=[embed if site == 0 else like(a) for site, a in sites.items()], embed=embed
        )
