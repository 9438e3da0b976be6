"""Decide whether a rule that was restored from a saved state goes on as the one that was saved.

Both answer for a few test samples by their credit. If it differs, the rule's `state_dict` lacks
something that the credit needs, and the training would end with another number. No step is tried: a
copy of a rule may hold functions that train the network itself.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import numpy as np
import torch
from torch import Tensor

from bench_core.training.audit import Audit
from bench_core.training.data import Data
from bench_core.training.method import Credits, Method
from bench_core.training.net import Net
from bench_core.training.rng import set_to

SAMPLES, FEWER = 64, 16  # FEWER where the credits of SAMPLES are larger than LARGE bytes
LARGE = 1 << 24
# distance of two credits of a sample, in units of their norm, that rounding explains
HERE = 1e-6  # on the same machine, with the same versions, where torch's results are deterministic
ELSEWHERE = 5e-2  # rounding grows where an inference has many steps: 3e-4 after 5 epochs of ep


def witness(
    net: Net, method: Method, data: Data, seed: int, epoch: int, samples: int = SAMPLES
) -> dict[str, Tensor]:
    """Return the credits of each sample after `epoch` epochs by name, (N, features).

    `0` … are the audited ones by their state; `blocks[0]` … and `embed` those that blocks and
    embedding learn from, where a rule gives them others. Empty for a rule without a credit, or
    whose credit raises. The training and its generators stay.
    """
    x, y = next(data.test_batches(samples, samples))
    audit = Audit(net, method, data, seed, epoch - 1)
    own, credits = audit.generators, None
    with _same_draws(), suppress(Exception), set_to(own, [each.get_state() for each in own]):
        credits = audit.batch(x, y).credits
    if credits is None:
        return {}
    named = {name: net.flat(a).detach().clone() for name, a in named_credits(credits, net.sites)}
    if samples > FEWER and sum(a.nbytes for a in named.values()) > LARGE:
        return witness(net, method, data, seed, epoch, FEWER)
    return named


def named_credits(credits: Credits, sites: Sequence[int]) -> Iterator[tuple[str, Tensor]]:
    """Yield the audited credits by their state, then those that a rule gives to its blocks and its
    embedding alone."""
    yield from zip(map(str, sites), credits.audited, strict=True)
    yield from ((f"blocks[{number}]", a) for number, a in enumerate(credits.blocks or ()))
    if credits.embed is not None:
        yield "embed", credits.embed


@contextmanager
def _same_draws() -> Iterator[None]:
    """Put the global generators back afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def changed_credit(
    now: Mapping[str, Tensor], before: Mapping[str, Tensor], here: bool
) -> str | None:
    """Name the first credit that is another one; None if the rule goes on.

    here  whether both were computed in one environment, whose results are deterministic; elsewhere
          an eighth of the samples may differ, because an inference may diverge by rounding
    """
    limits = (HERE, 0) if here else (ELSEWHERE, 8)
    return next((name for name in before if not _alike(now.get(name), before[name], *limits)), None)


def _alike(now: Tensor | None, before: Tensor, limit: float, share: int) -> bool:
    """Decide whether credits agree, but for one sample in `share`; 0: in every sample."""
    if now is None or now.shape != before.shape:
        return False
    now, before = now.cpu().double(), before.cpu().double()
    both = now.isfinite() & before.isfinite()
    apart = torch.where(both, now - before, 0.0).norm(dim=1)
    apart /= torch.where(both, before, 0.0).norm(dim=1).clamp(min=1e-30)
    apart[(now.isfinite() != before.isfinite()).any(dim=1)] = torch.inf
    left = len(apart) // share if share else 0
    return bool(apart.sort().values[-1 - left] <= limit)
