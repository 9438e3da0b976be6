"""Update all blocks, the embedding and the readout of a local rule in one backward pass.

Block l sees sg(h_l) and minimises

    mean_batch ⟨f_l(sg(h_l)), sg(rms(c_l))⟩ + λ·mean_batch ‖f_l(sg(h_l))‖²,

the embedding mean_batch ⟨embed(x), sg(rms(a_0))⟩, the readout CE on sg(h_L). The graphs are
disjoint, and the gradient of the surrogate with respect to f_l is known: (rms(c_l) + 2λ·f_l)/N. One
backward pass seeded with these gradients updates all groups, without hooks and without a pass per
layer. The gradient of each group is clipped on its own (docs/protocol.md, section 4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from bench_core.training.credit import normalised
from bench_core.training.method import Credits
from bench_core.training.net import States

if TYPE_CHECKING:
    from bench_core.training.local_method import LocalMethod


def local_update(method: LocalMethod, states: States, loss: Tensor, credits: Credits) -> None:
    """Update the surrogate's groups and the readout: one backward; clip; AdamW.

    states   h_0 with a graph to the embedding, f_l with a graph to block l alone
             (`Net.states(x, local=True)`); of other samples than the loss if the rule trains its
             blocks on a second pass
    loss     the readout's loss, with a graph to the readout alone
    credits  of these states
    """
    net, options = method.net, method.params
    n = len(states.h[0])

    def scaled(credit: Tensor) -> Tensor:
        return credit if credits.normalized else normalised(credit, options, net.tokens)

    tensors: list[Tensor] = []
    seeds: list[Tensor | None] = []
    if loss.requires_grad:  # not where the readout is fixed
        tensors.append(loss)
        seeds.append(None)
    if states.h[0].requires_grad:
        tensors.append(states.h[0])
        seeds.append(scaled(credits.for_embed) / n)
    penalised = method.penalised(states) if options.penalty else states.f
    for f, c, large in zip(states.f, credits.for_blocks, penalised, strict=True):
        if f.requires_grad:  # not where the block is frozen
            seed = scaled(c)
            if options.penalty and large is f:
                seed = seed.add(f.detach(), alpha=2 * options.penalty)
            elif options.penalty:
                tensors.append(large)
                seeds.append(large.detach() * (2 * options.penalty / n))
            tensors.append(f)
            seeds.append(seed / n)
    method.tools.updater.descend(tensors, seeds)
