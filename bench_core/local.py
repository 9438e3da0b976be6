"""The block-local update shared by every local rule, and the optimiser that all methods use.

Block l sees sg(h_l) and minimises

    mean_batch ⟨f_l(sg(h_l)), sg(rms(c_l))⟩ + λ·mean_batch ‖f_l(sg(h_l))‖²,

the embedding mean_batch ⟨embed(x), sg(rms(a_0))⟩, the readout CE on sg(h_L). The graphs are disjoint, and the gradient of the
surrogate with respect to f_l is known, (rms(c_l) + 2λ·f_l)/N; so one backward pass seeded with these gradients updates all
groups at once, without hooks and without a pass per layer. The gradient of each group is clipped on its own
(docs/protocol.md, section 4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bench_core.api import Credits, LocalMethod, PerN
from bench_core.net import Net, States


class Updater:
    """AdamW over named groups of parameters, each group's gradient clipped to its own norm before the step.

    groups      every block, the embedding, the readout; or one auxiliary network
    clip_norm   largest L2 norm of a group's gradient; None: no clipping
    """

    def __init__(
        self, groups: Mapping[str, Sequence[nn.Parameter]], lr: float, weight_decay: float, clip_norm: float | None
    ) -> None:
        self.groups = {name: list(parameters) for name, parameters in groups.items()}
        self.clip_norm = clip_norm
        everything = [p for parameters in self.groups.values() for p in parameters]
        self.optimiser = torch.optim.AdamW(
            everything or [torch.zeros(())], lr=lr, weight_decay=weight_decay, fused=True
        )

    def set_lr(self, lr: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = lr

    def descend(self, tensors: Tensor | Sequence[Tensor], gradients: Sequence[Tensor | None] | None = None) -> None:
        """One step down the gradient of `tensors` (a loss, or several tensors with the gradients that seed them); nothing
        where there is no parameter to train."""
        if not self.groups:
            return
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(tensors, gradients)
        if self.clip_norm is not None:
            for parameters in self.groups.values():
                nn.utils.clip_grad_norm_(parameters, self.clip_norm, foreach=True)
        self.optimiser.step()


def cosine(lr: float, epoch: int, epochs: int) -> float:
    """lr·½(1 + cos(π·epoch/epochs)): the learning rate of the epoch counted from 0."""
    return lr * 0.5 * (1 + math.cos(math.pi * epoch / epochs))


def rms(credit: Tensor, eps: float = 1e-6, mode: str = "sample", tokens: bool = False) -> Tensor:
    """a / (sqrt(mean(a²)) + eps); the mean over the features of each sample, over batch and features, or no scaling.

    tokens  states are (N, tokens, features): a "sample" is then a token
    """
    if mode == "none":
        return credit
    dims = tuple(range(0 if mode == "batch" else 2 if tokens else 1, credit.dim()))
    return credit / (credit.square().mean(dims, keepdim=True).sqrt() + eps)


def normalised(credit: Tensor, options: LocalMethod.Params, tokens: bool = False) -> Tensor:
    """rms of a credit as the options `normalize` and `normalize_eps` say."""
    eps = options.normalize_eps
    return rms(credit, eps.per_n / len(credit) if isinstance(eps, PerN) else eps, options.normalize, tokens)


def as_credits(
    credits: Credits | Sequence[Tensor] | None, net: Net, h: Sequence[Tensor], trains: bool = True
) -> Credits:
    """A rule's answer in full form, of the states h_0 … h_L. Raises TypeError or ValueError with what does not fit.

    trains  whether blocks and embedding learn from it, or it is only audited
    """
    if credits is None:
        raise TypeError("credit() returned None: a block-local rule must return one credit per block")
    found = credits if isinstance(credits, Credits) else Credits(audited=credits)
    if found.reduction not in ("sum", "mean"):
        raise ValueError(f"credits.reduction is {found.reduction!r}: it is sum or mean")
    _fit("audited", found.audited, [(site, h[site]) for site in net.sites])
    if found.blocks is not None:
        _fit("blocks", found.blocks, list(enumerate(h[1:], start=1)))
    if found.embed is not None:
        _fit("embed", [found.embed], [(0, h[0])])
    elif trains and net.sites[0] != 0:
        raise ValueError(
            "credits.embed is missing: without residual connections audited[0] is the credit of h_1, and the embedding learns from "
            "that of h_0"
        )
    for name, readout in found.readouts.items() if not trains else ():  # they teach nothing
        _fit(f"readouts[{name!r}]", readout, [(site, h[site]) for site in net.sites])
    return found


def _fit(name: str, credits: Sequence[Tensor], states: Sequence[tuple[int, Tensor]]) -> None:
    if not isinstance(credits, Sequence) or isinstance(credits, str):
        raise TypeError(f"credits.{name} is a {type(credits).__name__}, not a list of tensors")
    if len(credits) != len(states):
        raise ValueError(f"credits.{name} has {len(credits)} entries, and there are {len(states)} states to credit")
    for index, (credit, (layer, h)) in enumerate(zip(credits, states, strict=True)):
        one = "credits.embed" if name == "embed" else f"credits.{name}[{index}]"
        if not isinstance(credit, Tensor):
            raise TypeError(f"{one} is a {type(credit).__name__}, not a tensor")
        if credit.shape != h.shape:
            raise ValueError(f"{one} has shape {tuple(credit.shape)}, and its state h_{layer} has {tuple(h.shape)}")


def local_step(method: LocalMethod, x: Tensor, y: Tensor, epoch: int) -> Tensor:
    """One training step of a block-local rule; returns the CE of the forward pass without reading it.

    Order: forward; auxiliary networks learn on this batch; credits from the updated networks; one backward; clip; AdamW.
    """
    net = method.net
    states = net.states(x, local=True)
    loss = net.loss(states.logits, y)
    seen = states.detach(y)
    method.learn(seen, y, epoch)
    local_update(method, states, loss, as_credits(method.credit(seen, y, epoch), net, seen.h))
    method.after_update(epoch)
    return loss.detach()


def local_update(method: LocalMethod, states: States, loss: Tensor, credits: Credits) -> None:
    """The update of the surrogate and the readout: one backward; clip; AdamW.

    states   h_0 with a graph to the embedding, f_l with a graph to block l alone (`Net.states(x, local=True)`); the samples
             may be others than those of the loss, where a rule trains its blocks on states of a second pass
    loss     what the readout minimises, with a graph to the readout alone
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
    for f, c in zip(states.f, credits.for_blocks, strict=True):
        if not f.requires_grad:  # frozen
            continue
        seed = scaled(c)
        tensors.append(f)
        seeds.append((seed.add(f.detach(), alpha=2 * options.penalty) if options.penalty else seed) / n)
    method.tools.updater.descend(tensors, seeds)
