"""blend: dfa's credit mixed with an auxiliary credit or one of its nulls."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from bench_plugins.methods.branches import branch_fit
from bench_plugins.methods.dfa import DirectFeedbackAlignment
from bench_plugins.methods.fitted import FitParams, FittedMethod
from bench_plugins.methods.redrawn import Redrawn
from pydantic import Field
from torch import Tensor

from bench_core.api import Credits, Net, Passport, States, Task, Tools
from bench_core.training.credit import normalised

PREFIT = ("prefit_frozen", "prefit_trainable")
UNFITTED = ("continue_dfa", "gaussian_noise")


class Blend(FittedMethod):
    """c_l = a_l = α·rms(auxiliary) + (1 − α)·rms(dfa), not renormalised; rms(dfa) before `start`.

    rms is the option `normalize`, applied to each part. Normalised per sample, a fitted credit
    enters as r_l·a_l (`LossChangeFit`): its rms is that of a_l, but the eps of 1e-6 cannot silence
    it where states have exploded. The auxiliary credit by `branch`:

        random_trainable     vec's network, drawn at random, trained from epoch `start` on
        shuffled_trainable   its measured targets permuted over the batch, one permutation per
                             state and direction
        fresh_random_target  its targets are Gaussian noise, fresh every step, with the rms of the
                             measured ones per state
        zero_target          its targets are 0: the fit drives the credit to zero, and rms enlarges
                             the rest
        time_only            its network sees the depth alone
        constant_input       its network sees nothing
        prefit_frozen        fitted in `prefit` passes over the data at epoch `start`; then frozen
        prefit_trainable     fitted like prefit_frozen, and trained further
        perlayer_vector      one trainable vector per state, trained like vec's network
        gaussian_noise       fresh Gaussian noise every step
        dfa_norm_match       rms(dfa), scaled per sample to the norm of the blend that
                             random_trainable would give
        continue_dfa         no auxiliary credit: rms(dfa) throughout

    `freeze_after: k` ends the training of the auxiliary network k epochs after `start` (published:
    1, 5, 10). The credit's parts are audited as the read-outs `auxiliary` and `dfa`. Noise is drawn
    once per step, so that audits see the noise in use.

    Ours: the scale of random targets and initial vectors, which the source does not give.
    Source: Hao, Wan, Zhai 2026, arXiv:2606.21126 (α = .75, start 5, prefit 60).
    Verified: without its auxiliary part it is dfa bit for bit; the parts mix as written;
    shuffled targets are the measured ones in another order; zero_target drives its credit to
    0; only true targets teach the gradient.
    """

    class Params(FitParams):
        """Options of blend."""

        branch: Literal[
            "random_trainable", "shuffled_trainable", "fresh_random_target", "zero_target",
            "time_only", "constant_input", "perlayer_vector", "prefit_frozen", "prefit_trainable",
            "gaussian_noise", "dfa_norm_match", "continue_dfa",
        ] = Field("random_trainable", description="source of the auxiliary credit")  # fmt: skip
        alpha: float = Field(
            0.75, ge=0.0, le=1.0, description="α, the share of the auxiliary credit"
        )
        start: int = Field(
            5, ge=0, le=1_000_000, description="epochs of dfa before the branch point"
        )
        prefit: int = Field(
            60, ge=0, le=1_000_000, description="passes over the data, for the prefit branches"
        )
        freeze_after: int | None = Field(
            None, ge=0, le=1_000_000, description="epochs after which the fit ends"
        )

    @property
    def passport(self) -> Passport:
        if self.params.branch in UNFITTED:
            return Passport()
        measures = self.params.branch != "zero_target"
        return replace(super().passport, extra_forward_passes=measures)

    @property
    def forward_passes(self) -> int:
        return 1 + (0 if self.params.branch in UNFITTED else self.fit.forward_passes)

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        self.dfa = DirectFeedbackAlignment(self.params)
        self.dfa.setup(net, task, tools)
        self.fit = branch_fit(self.params.branch, net, task, tools, self.params)
        self.noise = Redrawn(tools.aux_generator, task.device)
        self.kept |= {**self.fit.parts, "dfa": self.dfa, "noise": self.noise}

    def learn(self, states: States, y: Tensor, epoch: int) -> None:
        since = epoch - self.params.start
        if since < 0 or self.params.alpha == 0:
            return
        if self.params.branch == "gaussian_noise":
            self.noise.next()
        if self.params.branch in PREFIT and not self.fit.begun and not self.fit.optimiser.trial:
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
        """The auxiliary credit by layer, before normalisation."""
        if self.params.branch == "gaussian_noise":
            draws, h = self.noise.generator(), states.h
            layers = self.fit.layers
            return {n: torch.randn(h[n].shape, generator=draws).to(h[n]) for n in layers}
        if self.params.normalize == "sample":
            return self.fit.relative_credit(states)
        return self.fit.credit(states)

    def rms(self, credits: dict[int, Tensor]) -> dict[int, Tensor]:
        """Normalise the credits by the option `normalize`."""
        return {n: normalised(a, self.params, self.net.tokens) for n, a in credits.items()}

    def mixed(self, aux: Tensor, dfa: Tensor) -> Tensor:
        blend = self.params.alpha * aux + (1 - self.params.alpha) * dfa
        if self.params.branch != "dfa_norm_match":
            return blend
        norms = [t.flatten(1).norm(dim=1) for t in (blend, dfa)]
        return dfa * (norms[0] / norms[1].clamp_min(1e-30)).view(-1, *[1] * (dfa.dim() - 1))

    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        sites, options = self.net.sites, self.params
        own = self.dfa.credit(states, y, epoch)
        dfa = self.rms({0: own.for_embed, **dict(zip(sites, own.audited, strict=True))})
        if epoch < options.start or options.alpha == 0 or options.branch == "continue_dfa":
            return Credits(audited=[dfa[site] for site in sites], embed=dfa[0], normalized=True)
        aux = self.rms(self.auxiliary(states))
        a = {layer: self.mixed(aux[layer], dfa[layer]) for layer in dfa}
        parts = {"auxiliary": [aux[site] for site in sites], "dfa": [dfa[site] for site in sites]}
        return Credits(
            audited=[a[site] for site in sites], embed=a[0], normalized=True, readouts=parts
        )
