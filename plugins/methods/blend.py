"""blend: an auxiliary credit mixed into that of dfa, with the branches that take the auxiliary credit apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from bench_plugins.methods.dfa import DirectFeedbackAlignment
from bench_plugins.methods.loss_change import FitParams, LossChangeFit, fitted_passport
from bench_plugins.methods.perlayer_vector import LayerVectors
from bench_plugins.methods.redrawn import Redrawn
from pydantic import Field
from torch import Tensor

from bench_core.api import Credits, LocalMethod, Net, Passport, States, Task, Tools
from bench_core.training.credit import normalised

PREFIT = ("prefit_frozen", "prefit_trainable")
UNFITTED = ("continue_dfa", "gaussian_noise")


class Blend(LocalMethod):
    """c_l = a_l = α·rms(auxiliary) + (1 − α)·rms(dfa), not renormalised after mixing; for the first `start` epochs rms(dfa) alone.
    rms is the option `normalize` of each part. Normalised per sample a fitted credit enters as r_l·a_l (`LossChangeFit`), which
    has the same rms(a_l) but for the 1e-6, or that would silence it where states have exploded. The auxiliary credit, by `branch`:

        random_trainable     vec's network, drawn at random, trained online from the branch point (epoch `start`) on
        shuffled_trainable   its measured targets permuted over the batch, one permutation per state and direction
        fresh_random_target  its targets Gaussian noise, fresh every step, with the rms of the measured ones per state
        zero_target          its targets 0: the fit drives the credit to zero, and rms blows up what is left
        time_only            it sees the depth alone
        constant_input       it sees nothing
        prefit_frozen        fitted for `prefit` passes over the data at the branch point, while the network waits; then frozen
        prefit_trainable     the same, trained on
        perlayer_vector      one trainable vector per state, trained as vec's network
        gaussian_noise       fresh Gaussian noise every step
        dfa_norm_match       rms(dfa), every sample's scaled to the norm of what random_trainable would blend
        continue_dfa         rms(dfa) goes on alone

    `freeze_after: k` ends the training of the auxiliary network k epochs after the branch point (published: 1, 5, 10).
    Read-outs beside the credit: `auxiliary` and `dfa`. Noise is drawn once per step, so that audits meet the noise in use.
    Source: arXiv:2606.21126 (α = .75, start 5, prefit 60). It is silent about the scale of random targets and initial vectors.
    """

    class Params(FitParams):
        """Options of blend."""

        branch: Literal[
            "random_trainable", "shuffled_trainable", "fresh_random_target", "zero_target", "time_only", "constant_input",
            "perlayer_vector", "prefit_frozen", "prefit_trainable", "gaussian_noise", "dfa_norm_match", "continue_dfa",
        ] = Field("random_trainable", description="where the auxiliary credit comes from")  # fmt: skip
        alpha: float = Field(
            0.75, ge=0.0, le=1.0, description="α, the share of the auxiliary credit"
        )
        start: int = Field(
            5, ge=0, le=1_000_000, description="epochs of dfa before the branch point"
        )
        prefit: int = Field(
            60,
            ge=0,
            le=1_000_000,
            description="passes of the fit at the branch point, where there is one",
        )
        freeze_after: int | None = Field(
            None, ge=0, le=1_000_000, description="epochs after which the fit ends"
        )

    @property
    def passport(self) -> Passport:
        if self.params.branch in UNFITTED:
            return Passport()
        used = fitted_passport(self.params)
        return (
            replace(used, extra_forward_passes=False)
            if self.params.branch == "zero_target"
            else used
        )

    @property
    def forward_passes(self) -> int:
        return 1 + (0 if self.params.branch in UNFITTED else self.fit.forward_passes)

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        self.dfa = DirectFeedbackAlignment(self.params)
        self.dfa.setup(net, task, tools)
        branch = self.params.branch
        vectors = (
            (lambda width: LayerVectors(net.depth, width)) if branch == "perlayer_vector" else None
        )
        self.fit = LossChangeFit(net, task, tools, self.params, vectors)
        blind, zero = branch == "constant_input", torch.zeros_like
        if blind or branch == "time_only":
            self.fit.sees = lambda h, t, s: (zero(h), zero(t) if blind else t, zero(s))
        targets = {
            "shuffled_trainable": self.shuffled,
            "fresh_random_target": self.fresh,
            "zero_target": None,
        }
        self.fit.target = targets.get(branch, self.fit.target)
        self.noise = Redrawn(tools.aux_generator, task.device)
        self.kept |= {**self.fit.parts, "dfa": self.dfa, "noise": self.noise}

    def shuffled(self, changes: Tensor) -> Tensor:
        return torch.stack(
            [
                row[torch.randperm(len(row), generator=self.fit.draws).to(row.device)]
                for row in changes
            ]
        )

    def fresh(self, changes: Tensor) -> Tensor:
        noise = torch.randn(changes.shape, generator=self.fit.draws).to(changes)
        return noise * changes.square().mean(1, keepdim=True).sqrt()

    def learn(self, states: States, y: Tensor, epoch: int) -> None:
        since = epoch - self.params.start
        if since < 0 or self.params.alpha == 0:
            return
        if self.params.branch == "gaussian_noise":
            self.noise.next()
        if self.params.branch in PREFIT and not self.fit.begun:
            self.prefit()
        ends = 0 if self.params.branch in ("prefit_frozen", *UNFITTED) else self.params.freeze_after
        if ends is None or since < ends:
            self.fit.learn(states, y)

    def prefit(self) -> None:
        for _ in range(self.params.prefit):
            for x, y in self.tools.batches():
                with torch.no_grad():
                    states = self.net.states(x, statistics=False).detach(y)
                self.fit.learn(states, y)

    def auxiliary(self, states: States) -> dict[int, Tensor]:
        if self.params.branch != "gaussian_noise":
            return (
                self.fit.relative_credit(states)
                if self.params.normalize == "sample"
                else self.fit.credit(states)
            )
        draws = self.noise.generator()

        def like(h: Tensor) -> Tensor:
            return torch.randn(h.shape, generator=draws).to(h)

        return {layer: like(states.h[layer]) for layer in self.fit.layers}

    def mixed(self, aux: Tensor, dfa: Tensor) -> Tensor:
        blend = self.params.alpha * aux + (1 - self.params.alpha) * dfa
        if self.params.branch != "dfa_norm_match":
            return blend
        norms = [t.flatten(1).norm(dim=1) for t in (blend, dfa)]
        return dfa * (norms[0] / norms[1].clamp_min(1e-30)).view(-1, *[1] * (dfa.dim() - 1))

    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        sites = self.net.sites
        found = self.dfa.credit(states, y, epoch)
        raw = {0: found.for_embed, **dict(zip(sites, found.audited, strict=True))}
        dfa = {layer: normalised(a, self.params, self.net.tokens) for layer, a in raw.items()}
        if (
            epoch < self.params.start
            or self.params.alpha == 0
            or self.params.branch == "continue_dfa"
        ):
            return Credits(audited=[dfa[site] for site in sites], embed=dfa[0], normalized=True)
        aux = {
            layer: normalised(a, self.params, self.net.tokens)
            for layer, a in self.auxiliary(states).items()
        }
        a = {layer: self.mixed(aux[layer], dfa[layer]) for layer in dfa}
        parts = {"auxiliary": [aux[site] for site in sites], "dfa": [dfa[site] for site in sites]}
        return Credits(
            audited=[a[site] for site in sites], embed=a[0], normalized=True, readouts=parts
        )
