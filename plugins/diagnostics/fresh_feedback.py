"""Credits of a rule with fresh feedback, on the states of the trained network."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bench_core.api import Credits, Method, Net
from bench_core.training.audit import Audit
from bench_core.training.net import copied


def fresh_credits(audit: Audit, method: Method, draws: torch.Generator) -> list[list[Tensor]]:
    """Credits of a fresh copy of the rule on the same states.

    The optimisers and streams of the training stay as they are.
    """
    tools = method.tools
    lent, before = len(tools.updaters), tools.aux_generator.get_state()
    # a stream of its own for every purpose and draw: a rule may take a stream's seed instead of
    # its numbers
    own = [
        torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=draws)))
        for _ in range(3)
    ]
    fresh = type(method)(method.params)
    try:
        fresh.setup(
            permuted(audit.net, own[0]),
            method.task,
            replace(tools, generator=own[1], aux_generator=own[2]),
        )
        fresh.net = audit.net
        found = []
        for batch in audit.batches:
            credits = fresh.credit(batch.states, batch.y, audit.epoch)
            assert credits is not None
            found.append(
                [a.detach() for a in (credits.audited if isinstance(credits, Credits) else credits)]
            )
    finally:
        del tools.updaters[lent:]
        tools.aux_generator.set_state(before)
    return found


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
