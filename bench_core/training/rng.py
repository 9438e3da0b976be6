"""Derive named random streams from a run's seed; drawing more from one never shifts another.

    init                 torch's global CPU generator, seeded with the seed itself
    feedback, auxiliary  a method's feedback matrices; its auxiliary networks with the noise and the
                         further passes of their training
    order, augmentation  the order of the training images; crops and flips
    random_targets       the control with random labels
    watched              the steps at which the loop looks for writes beside the optimiser
    probe, nulls         draws of diagnostics; controls: the draws of their controls
    data                 a generated data set (`Dataset.generator`), whose seed is not the run's
    validation           the samples held out of a training set, always with seed 0: the same for
                         every rule and every run

All draws are made on the CPU and then moved, so a cell draws the same numbers on every device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, Literal

import torch
from torch import Tensor

Name = Literal[
    "feedback",
    "auxiliary",
    "order",
    "augmentation",
    "random_targets",
    "probe",
    "nulls",
    "controls",
    "data",
    "validation",
    "watched",
]


def stream(seed: int, name: Name) -> torch.Generator:
    """Make the CPU generator of the stream `name` of a run with this seed."""
    digest = blake2b(f"{name}:{seed}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


@contextmanager
def draws_from(generator: torch.Generator) -> Iterator[None]:
    """Seed torch's global generator, from which modules draw, by `generator`; restore it after."""
    if not isinstance(generator, torch.Generator):
        kind = type(generator).__name__
        raise TypeError(f"draws_from() takes a generator, such as tools.aux_generator, no {kind}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(0, 2**62, (), generator=generator)))
        yield


def generators_of(holder: Any) -> dict[str, torch.Generator]:
    """Return the generators of torch that an object holds, by name: `gen`, `noise[0]`.

    They are its attributes, or lie in lists, tuples and mappings that are.
    """
    found: dict[str, torch.Generator] = {}
    waiting: list[tuple[str, Any]] = list(vars(holder).items())
    seen: set[int] = set()
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, torch.Generator):
            found[name] = value
        elif isinstance(value, list | tuple | Mapping) and id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            waiting += ((f"{name}[{key!r}]", item) for key, item in items)
    return dict(sorted(found.items()))


def generators(*holders: Any) -> list[torch.Generator]:
    """Return torch's global generator and those that these objects hold."""
    own = [each for holder in holders for each in generators_of(holder).values()]
    return [torch.default_generator, *own]


@contextmanager
def set_to(own: Sequence[torch.Generator], states: Sequence[Tensor]) -> Iterator[None]:
    """Set generators to these states inside; restore their own after."""
    before = [generator.get_state() for generator in own]
    try:
        for generator, state in zip(own, states, strict=True):
            generator.set_state(state)
        yield
    finally:
        for generator, state in zip(own, before, strict=True):
            generator.set_state(state)
