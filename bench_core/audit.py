"""What the diagnostics of one network are measured on: probe batches, states, reference gradients and credits, each computed
once and shared by all diagnostics.

The probe is the first 1,280 test samples in file order as 10 batches of 128, the model in eval mode; a smaller test set gives
what it has. The reference gradients g_l are per sample (sum-reduced CE): where a publication speaks of ‖g‖ under the batch-mean
CE it is this divided by N. Credits that carry 1/N (`reduction: mean`) are multiplied by N before they are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bench_core.api import Credits, Diagnostic, Measured, Method
from bench_core.data import Data
from bench_core.net import Net, States, exact_gradients
from bench_core.record import Measurement

PROBE = 1280
BATCH = 128


@dataclass(frozen=True)
class ProbeBatch:
    """One probe batch: its labels, detached states with the output error, per-sample g_0 … g_L and the method's credits."""

    y: Tensor
    states: States
    g: tuple[Tensor, ...]
    credits: Credits | None

    def per_sample(self, credit: Tensor) -> Tensor:
        """A credit in the units of g."""
        return credit * len(self.y) if self.credits is not None and self.credits.reduction == "mean" else credit


class Audit:
    """The measurements of one network share this object.

    net, method   the network in eval mode and the method whose credits are audited (None: no credits)
    epoch         the epoch whose credits are asked for, counted from 0
    initial       the network's parameters and buffers before training, or None where they are not known
    history       the rows of epochs.jsonl so far, with this epoch's, whose measurements may not be complete
    edit_credits  a control's hand on the credits
    """

    def __init__(
        self,
        net: Net,
        method: Method | None,
        data: Data,
        seed: int,
        epoch: int,
        initial: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.net, self.method, self.data, self.seed, self.epoch = net, method, data, seed, epoch
        self.initial = initial
        self.history: Sequence[Mapping[str, Any]] = ()
        self.edit_credits: Callable[[Credits, tuple[Tensor, ...]], Credits] | None = None

    @cached_property
    def batches(self) -> list[ProbeBatch]:
        was_training = self.net.training
        self.net.eval()
        try:
            return [self._batch(x, y) for x, y in self.data.test_batches(BATCH, PROBE)]
        finally:
            self.net.train(was_training)

    def _batch(self, x: Tensor, y: Tensor) -> ProbeBatch:
        with torch.no_grad():
            states = self.net.states(x).detach(y)
        g = tuple(gradient.detach() for gradient in exact_gradients(self.net, states.h[0], y))
        credits = self.method.credit(states, y, self.epoch) if self.method is not None else None
        if credits is not None and not isinstance(credits, Credits):
            credits = Credits(audited=credits)
        if credits is not None:
            credits = replace(credits, audited=[a.detach() for a in credits.audited])
            if self.edit_credits is not None:
                credits = self.edit_credits(credits, g)
        return ProbeBatch(y, states, g, credits)

    @property
    def full_batches(self) -> list[ProbeBatch]:
        """The probe batches of 128; a test set that is no multiple of 128 leaves a shorter last one out."""
        return [batch for batch in self.batches if len(batch.y) == BATCH]

    def norms(self, tensors: Callable[[ProbeBatch], Tensor]) -> Tensor:
        """Per-sample L2 norms over all probe samples, float64 so that small gradients do not underflow when squared."""
        return torch.cat([self.net.flat(tensors(batch)).double().norm(dim=1) for batch in self.batches])

    @cached_property
    def accuracy(self) -> float:
        """Accuracy on the probe."""
        logits = torch.cat([batch.states.logits for batch in self.batches])
        return self.net.loss.score(logits, torch.cat([batch.y for batch in self.batches]))


def median(values: Tensor) -> float:
    """The median; the mean of the middle two for an even count. NaN where any value is NaN."""
    if bool(values.isnan().any()):
        return float("nan")
    return float(values.double().quantile(0.5))


def measure(diagnostic: Diagnostic, audit: Audit) -> Measurement:
    """Run one diagnostic and pack what it found with the rule by which it fires."""
    found: Measured = diagnostic.measure(audit)
    return Measurement(
        value=found.value,
        letter=diagnostic.letter,
        direction=diagnostic.direction,
        threshold=diagnostic.threshold,
        unit=diagnostic.unit,
        across=diagnostic.across,
        not_diagnostic=found.not_diagnostic,
        details=found.details,
    )
