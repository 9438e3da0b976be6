"""random_credit: a null method whose credit is a fixed random function of the state."""

from __future__ import annotations

import torch
from bench_plugins.methods.bridge import BridgeNet, Lens
from torch import Tensor

from bench_core.api import Credits, LocalMethod, Net, Passport, States, Task, Tools
from bench_core.training.rng import draws_from


class RandomCredit(LocalMethod):
    """a_l = R(h_l, t_l), R an untrained network of the bridges' shape (default init).

    R sees state and depth, but neither error nor label. The credit differs between samples, is
    smooth in the state and is independent of the task: a rule that gains nothing over it gains
    from the mere presence of a credit. Its size is arbitrary (the option `normalize` sets it).
    States of unequal size are seen through fixed random projections (`Lens`).
    Ours: none.
    Source: null method of this suite.
    Verified: other errors and labels give the same credit, and training does not change it.
    """

    passport = Passport()

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        self.lens = Lens(task, tools.aux_generator).to(task.device)
        with draws_from(tools.aux_generator):
            self.network = BridgeNet(self.lens.width, task.classes, self.lens.width).to(task.device)
        self.kept |= {"network": self.network, "lens": self.lens}

    @torch.no_grad()
    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        sites = self.net.sites
        layers = sorted({0, *sites})
        hs = [states.h[layer] for layer in layers]
        h, t, s = self.lens.stacked(hs, layers, self.net.depth, torch.zeros_like(states.logits))
        out = self.network(h, t, s).chunk(len(layers))
        a = {
            layer: self.lens.back(r, state) for layer, r, state in zip(layers, out, hs, strict=True)
        }
        return Credits(audited=[a[site] for site in sites], embed=a[0])
