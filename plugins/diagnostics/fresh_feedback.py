"""Copies of a rule with fresh feedback, and their credits on the trained network's states."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from bench_core.api import Credits, Method, Net, Tools
from bench_core.training.audit import Audit
from bench_core.training.net import copied
from bench_core.training.probe import ProbeBatch


@contextmanager
def unmoved(tools: Tools) -> Iterator[None]:
    """Leave the optimisers and streams of the training as they are."""
    lent, before = len(tools.updaters), tools.aux_generator.get_state()
    try:
        yield
    finally:
        del tools.updaters[lent:]
        tools.aux_generator.set_state(before)


def fresh_rule(audit: Audit, method: Method, draws: torch.Generator) -> Method:
    """Make a copy of the rule with fresh feedback, for the audited network."""
    # a stream of its own for every purpose and draw: a rule may take a stream's seed instead of
    # its numbers
    own = [
        torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=draws)))
        for _ in range(3)
    ]
    fresh = type(method)(method.params)
    with unmoved(method.tools):
        fresh.setup(
            permuted(audit.net, own[0]).train(),
            method.task,
            replace(method.tools, generator=own[1], aux_generator=own[2]),
        )
    fresh.net = audit.net
    return fresh


def credits_of(fresh: Method, audit: Audit, batch: ProbeBatch) -> list[Tensor]:
    """Return the credits of a fresh rule on a probe batch."""
    with unmoved(fresh.tools):
        credits = fresh.credit(batch.states, batch.y, audit.epoch)
    assert credits is not None
    return [a.detach() for a in (credits.audited if isinstance(credits, Credits) else credits)]


@torch.no_grad()
def permuted(net: Net, draws: torch.Generator) -> Net:
    """Copy the network and permute the entries of every parameter.

    Feedback that a rule derives from the copy is independent of `net`.
    """
    other = copied(net, draws.initial_seed())
    for parameter in other.parameters():
        order = torch.randperm(parameter.numel(), generator=draws).to(parameter.device)
        parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return other
