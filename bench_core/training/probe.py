"""A batch of the probe, on which every diagnostic of a network is measured.

The probe is the first 1,280 test samples in file order, as 10 batches of 128, with the model in
eval mode; a smaller test set gives fewer.

The reference gradients g_l are per sample (sum-reduced CE). A ‖g‖ under the batch-mean CE, as
publications print it, is this divided by N. Credits that carry 1/N (`reduction: mean`) are
multiplied by N for the comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from torch import Tensor

from bench_core.training.method import Credits
from bench_core.training.net import States

PROBE = 1280
BATCH = 128


@dataclass(frozen=True)
class ProbeBatch:
    """A probe batch of N samples (128; the last one may be smaller). All tensors are detached.

    y        labels, (N,)
    states   states.h[l], (N, *shape of h_l), for l = 0 … L; states.f, the outputs of the blocks;
             states.logits and states.output_error, (N, classes)
    g        g[l] = ∂CE/∂h_l per sample, of the shape of states.h[l], for l = 0 … L
    credits  the method's `Credits` as it gave them; None without a method
    audited  credits a_l at the sites, audited[k] of the shape of states.h[net.sites[k]]
    """

    y: Tensor
    states: States
    g: tuple[Tensor, ...]
    credits: Credits | None

    @property
    def audited(self) -> list[Tensor]:
        """The credits a_l at the sites, in the units of g; empty where the method has no credit."""
        return [] if self.credits is None else [self.per_sample(a) for a in self.credits.audited]

    def per_sample(self, credit: Tensor) -> Tensor:
        """Convert a credit into the units of g."""
        mean = self.credits is not None and self.credits.reduction == "mean"
        return credit * len(self.y) if mean else credit

    def marks(self) -> dict[str, tuple[int, int, bool]]:
        """Map each tensor to its identity, the number of writes into it that torch counted, and
        whether it has a gradient."""
        states, credits = self.states, self.credits
        named = {"x": states.x, "y": self.y, "the logits": states.logits}
        named |= {} if states.error is None else {"the output error": states.error}
        lists: dict[str, Sequence[Tensor]] = {"h": states.h, "f": states.f, "g": self.g}
        if credits is not None:
            lists |= {"a": credits.audited, "the credit of block": credits.blocks or ()}
            lists |= {f"the read-out {name}": own for name, own in credits.readouts.items()}
        for word, tensors in lists.items():
            named |= {f"{word}_{number}": tensor for number, tensor in enumerate(tensors)}
        return {
            name: (id(each), 0 if each.is_inference() else each._version, each.requires_grad)
            for name, each in named.items()
        }

    @property
    def nbytes(self) -> int:
        """The bytes of all tensors, each counted once."""
        tensors = [*self.states.h, *self.states.f, *self.g]
        if self.credits is not None:
            credits = self.credits
            further = [credits.blocks or (), *credits.readouts.values()]
            tensors += [*credits.audited, *chain.from_iterable(further)]
        return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())


@dataclass(frozen=True)
class Summary:
    """Small figures of a probe batch: labels, logits, ‖g_L‖ per sample, and about its credits.

    has_credit, in_use  whether there are audited credits, and whether they train the blocks
    """

    y: Tensor
    logits: Tensor
    top: Tensor
    has_credit: bool
    in_use: bool


def copied_credits(credits: Credits) -> Credits:
    """Copy the credits, each tensor once: a rule may write its next ones into the same memory."""
    copies: dict[tuple[Any, ...], Tensor] = {}

    def copy(tensor: Tensor) -> Tensor:
        place = tensor.data_ptr(), tensor.shape, tensor.stride()
        if place not in copies:
            copies[place] = tensor.detach().clone()
        return copies[place]

    return replace(
        credits,
        audited=[copy(each) for each in credits.audited],
        blocks=None if credits.blocks is None else [copy(each) for each in credits.blocks],
        readouts={name: [copy(each) for each in own] for name, own in credits.readouts.items()},
    )
