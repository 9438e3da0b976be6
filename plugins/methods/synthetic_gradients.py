"""synthetic_gradients: each state predicts its own gradient, fitted one block at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from bench_plugins.methods.unnormalised import Unnormalised
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from bench_core.api import Credits, Laws, LocalMethod, Net, Passport, States, Task, Tools
from bench_core.training.net import exact_gradients, top_gradient
from bench_core.training.rng import draws_from

HIDDEN = 256


class SyntheticGradients(LocalMethod):
    """Every state but the last predicts its own gradient: a_l = M_l([LN(h_l), y]) per sample.

    a_L = ∂loss/∂h_L itself. M_l descends

        mean_batch ‖a_l − t_l‖²,   t_l = (∂h_{l+1}/∂h_l)ᵀ·a_{l+1},

    so that a step needs the derivative of one block at a time. `target: exact` fits t_l = g_l by
    backpropagation: the upper bound of the bootstrapped predictors. `condition: label` shows M_l
    the one-hot label (the targets of a regression), `none` the state alone. M_l: LayerNorm without
    affine, `hidden_layers` layers of 256 with ReLU, and a linear layer that starts at 0, so that
    all credit below the top is 0 at first; AdamW 1e-3 without decay, clipped, before the credit is
    read; the targets of a step are read before all M_l move. States are flattened, maps and tokens
    too; a linear predictor then has the square of their features in weights.

    Credits (N, …) like their states, sum reduction, c_l = a_{l+1}; not normalised by default,
    since the rule does not.

    Ours: LayerNorm in place of BatchNorm, which would couple samples.
    Sources: Jaderberg et al. 2017, arXiv:1608.05343; Czarnecki et al. 2017, arXiv:1703.00522.
    Verified: the target below an exact credit is the exact gradient; predictors come to the
    gradient from the top down; without `condition` no label is seen.
    """

    class Params(Unnormalised):
        """Options of synthetic_gradients."""

        condition: Literal["label", "none"] = Field(
            "label", description="second input of a predictor, beside the state"
        )
        target: Literal["bootstrapped", "exact"] = Field(
            "bootstrapped", description="exact: g_l itself"
        )
        hidden_layers: int = Field(1, ge=0, le=2, description="of a predictor; 0 is a linear one")

    laws = Laws(exact_top=True)

    @property
    def passport(self) -> Passport:
        return Passport(
            exact_hidden_gradients=self.params.target == "exact",
            weight_transport=True,
            labels_below_head=self.params.condition == "label",
            learned_feedback=True,
            extra_forward_passes=True,
            non_local_state=True,  # M_l learns from the state above its own
            exact_top_credit=True,
        )

    @property
    def forward_passes(self) -> int:
        """The forward pass, and another for the derivatives of the blocks."""
        return 2

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        seen = task.classes if self.params.condition == "label" else 0
        with draws_from(tools.aux_generator):
            made = [self.predictor(task.features(layer), seen) for layer in range(net.depth)]
        self.predictors = nn.ModuleList(made).to(task.device, next(net.parameters()).dtype)
        self.kept["M"] = self.predictors
        groups = {f"M_{layer}": list(M.parameters()) for layer, M in enumerate(self.predictors)}
        self.optimiser = tools.auxiliary(groups)

    def predictor(self, features: int, seen: int) -> nn.Sequential:
        sizes = [features + seen, *[HIDDEN] * self.params.hidden_layers]
        hidden = [
            part
            for below, above in pairwise(sizes)
            for part in (nn.Linear(below, above), nn.ReLU())
        ]
        last = nn.Linear(sizes[-1], features)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        return nn.Sequential(*hidden, last)

    def predicted(self, states: States, y: Tensor) -> list[Tensor]:
        """a_0 … a_{L-1}."""
        label = [F.one_hot(y, self.task.classes) if self.net.loss.classes else y]
        found = []
        for h, predictor in zip(states.h, self.predictors, strict=False):  # there is none for h_L
            flat = h.flatten(1)
            parts = [
                F.layer_norm(flat, flat.shape[1:]),
                *(label if self.params.condition == "label" else []),
            ]
            found.append(predictor(torch.cat([part.to(h) for part in parts], 1)).view_as(h))
        return found

    def targets(self, states: States, y: Tensor, above: Sequence[Tensor]) -> Sequence[Tensor]:
        """t_0 … t_{L-1} from the credits a_1 … a_L."""
        if self.params.target == "exact":
            return exact_gradients(self.net, states.h[0], y)[:-1]
        found = []
        with torch.enable_grad():
            for layer, a in enumerate(above):
                h = states.h[layer].detach().requires_grad_()
                found += torch.autograd.grad(self.net.advance(h, layer)[0], h, a)
        return found

    def learn(self, states: States, y: Tensor, epoch: int) -> None:
        a = self.predicted(states, y)
        above = [each.detach() for each in a[1:]] + [top_gradient(self.net, states.h[-1], y)]
        misses = zip(a, self.targets(states, y, above), strict=True)
        self.optimiser.descend(
            torch.stack([(one - t).square().sum() / len(y) for one, t in misses]).sum()
        )

    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        with torch.no_grad():
            a = self.predicted(states, y)
        a.append(top_gradient(self.net, states.h[-1], y))
        return Credits(audited=[a[site] for site in self.net.sites], blocks=a[1:], embed=a[0])
