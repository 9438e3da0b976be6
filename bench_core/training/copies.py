"""Copy a rule with its network, so that a step of it can be tried."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from bench_core.training.method import Method
from bench_core.training.net import Net
from bench_core.training.optimizer import Updater
from bench_core.training.rng import generators


class CannotCopy(Exception):  # noqa: N818
    """A rule of which no copy can be made; the text says why."""


class Idle(Updater):
    """An updater that keeps the gradients of its parameters and takes no step."""

    trial = True

    def descend(
        self, tensors: Tensor | Sequence[Tensor], gradients: Sequence[Tensor | None] | None = None
    ) -> None:
        for parameters in self.groups.values():
            for parameter in parameters:
                parameter.grad = None
        if self.groups:
            torch.autograd.backward(tensors, gradients)


@contextmanager
def copies(method: Method) -> Iterator[tuple[Method, Net]]:
    """Copy a rule with its network, in train mode, and its streams; its updaters take no step.

    Raises CannotCopy, also at the end if the copy has drawn from a stream of the rule itself, as a
    function does that was made in `setup` and holds it. The streams are put back.
    """
    own = _copy(method)
    streams = generators(method, method.tools)
    before = [each.get_state() for each in streams]
    try:
        yield own, own.net
    finally:
        after = [each.get_state() for each in streams]
        for each, state in zip(streams, before, strict=True):
            each.set_state(state)
    if not all(map(torch.equal, before, after)):
        raise CannotCopy(
            "a step of a copy of the rule draws from a stream of the rule itself: a function that "
            "setup() made holds it; pass the stream as an argument, or use a method of the rule"
        )


def _copy(method: Method) -> Method:
    tools = method.tools
    streams = {id(g): _copied(g) for g in (tools.generator, tools.aux_generator)}
    lent = {id(updater): Idle({}, 0.0, 0.0, None) for updater in tools.updaters}
    memo: dict[int, object] = {**streams, **lent}
    memo[id(tools)] = replace(
        tools,
        updater=lent[id(tools.updater)],
        generator=streams[id(tools.generator)],
        aux_generator=streams[id(tools.aux_generator)],
        updaters=list(lent.values()),
    )
    try:
        own = copy.deepcopy(method, memo)
    except Exception as error:
        raise CannotCopy(f"the rule or its network cannot be copied: {error}") from error
    for updater in tools.updaters:
        kept = lent[id(updater)]
        kept.groups = {
            name: [_same(p, memo) for p in parameters]
            for name, parameters in updater.groups.items()
        }
    own.net.train()
    return own


def _same(parameter: Tensor, memo: Mapping[int, object]) -> torch.nn.Parameter:
    found = memo.get(id(parameter))
    if not isinstance(found, torch.nn.Parameter):
        raise CannotCopy("an updater of the rule trains a parameter that the rule does not hold")
    return found


def _copied(generator: torch.Generator) -> torch.Generator:
    other = torch.Generator(generator.device)
    other.set_state(generator.get_state())
    return other
