"""Decide whether a rule that was restored from a saved state goes on as the one that was saved.

Both answer for a few test samples: by the credit, and by the credit after a step of a copy on these
samples. The first answer alone may differ where a rule computes anew in each step what its credit
needs. If both differ, its `state_dict` lacks something, and the training would end with another
number.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import numpy as np
import torch
from torch import Tensor

from bench_core.training.audit import Audit
from bench_core.training.copies import copies
from bench_core.training.data import Data
from bench_core.training.method import Method
from bench_core.training.net import Net
from bench_core.training.rng import set_to

SAMPLES = 16
# distance of two credits of a sample, in units of their norm, that rounding explains
HERE = 1e-3  # on the same machine, with the same versions
ELSEWHERE = 5e-2  # rounding grows where an inference has many steps: 3e-4 after 5 epochs of ep
STEP = "step."


def answers(net: Net, method: Method, data: Data, seed: int, epoch: int) -> dict[str, Tensor]:
    """Return the credit a_l of each sample after `epoch` epochs by state, `0` …, (N, features).

    `step.0` … are those after a step. Empty for a rule without a credit, or whose credit raises;
    the step is left out where no copy can take it. The training and its generators stay.
    """
    x, y = next(data.test_batches(SAMPLES, SAMPLES))

    def credit(net: Net, method: Method) -> dict[str, Tensor]:
        audit = Audit(net, method, data, seed, epoch - 1)
        own = audit.generators
        with set_to(own, [each.get_state() for each in own]):
            credits = audit.batch(x, y).credits
        pairs = zip(net.sites, credits.audited, strict=True) if credits else ()
        return {str(site): net.flat(a).detach() for site, a in pairs}

    found: dict[str, Tensor] = {}
    with _same_draws():
        with suppress(Exception):
            found |= credit(net, method)
        with suppress(Exception), torch.enable_grad():
            own, copy = copies(method)
            own.step(x.clone(), y.clone(), epoch)
            found |= {f"{STEP}{site}": a for site, a in credit(copy, own).items()}
    return found


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


def lost(now: Mapping[str, Tensor], before: Mapping[str, Tensor], here: bool) -> str | None:
    """Name a state whose credit is another one, now and after a step; None if the rule goes on.

    here  whether both were computed in one environment
    """
    limit = HERE if here else ELSEWHERE
    other = [name for name in before if not _alike(now.get(name), before[name], limit)]
    after = [name for name in before if name.startswith(STEP)]
    if after and not any(name in other for name in after):
        return None
    return next((name for name in other if not name.startswith(STEP)), None)


def _alike(now: Tensor | None, before: Tensor, limit: float) -> bool:
    """Decide whether credits agree, but for an eighth of the samples: some diverge by rounding."""
    if now is None or now.shape != before.shape:
        return False
    now, before = now.cpu().double(), before.cpu().double()
    both = now.isfinite() & before.isfinite()
    apart = torch.where(both, now - before, 0.0).norm(dim=1)
    apart /= torch.where(both, before, 0.0).norm(dim=1).clamp(min=1e-30)
    apart[(now.isfinite() != before.isfinite()).any(dim=1)] = torch.inf
    return bool(apart.sort().values[-1 - len(apart) // 8] <= limit)
