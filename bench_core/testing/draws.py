"""Note the generators that a rule draws from beside the two of its tools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

from bench_core.training.method import Method


@contextmanager
def numpy_seeds() -> Iterator[dict[int, None]]:
    """Note the numbers by which generators of numpy are seeded that have drawn at the end."""
    begun: list[tuple[int, np.random.Generator]] = []
    seeds: dict[int, None] = {}  # in the order of their use
    make = np.random.default_rng

    def noted(seed: Any = None) -> np.random.Generator:
        generator = make(seed)
        if isinstance(seed, int | np.integer):
            begun.append((int(seed), generator))
        return generator

    with patch.object(np.random, "default_rng", noted):
        yield seeds
    for seed, generator in begun:
        if generator.bit_generator.state != make(seed).bit_generator.state:
            seeds[seed] = None


@dataclass
class Drawn:
    """What a function of torch drew from a generator that is none of the tools'."""

    generator: Generator
    seed: int
    numbers: Tensor


class Draws(TorchFunctionMode):
    """Note what is drawn from other generators than `own`, the global one included."""

    def __init__(self, own: Sequence[Generator] = ()) -> None:
        super().__init__()
        self.own, self.noted = list(own), list[Drawn]()

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given = (*args, *(kwargs or {}).values())
        one = next((each for each in given if isinstance(each, Generator)), torch.default_generator)
        before = one.get_state()
        answer = function(*args, **(kwargs or {}))
        other = isinstance(answer, Tensor) and not any(one is each for each in self.own)
        if other and not torch.equal(before, one.get_state()):
            self.noted.append(Drawn(one, one.initial_seed(), answer.detach().clone()))
        return answer


def name_of(generator: Generator, method: Method) -> str:
    """Return the attribute of the rule that is this generator, else what else it is."""
    if generator is torch.default_generator:
        return "torch's global generator"
    names = [name for name, value in vars(method).items() if value is generator]
    return f"the generator {names[0]} of the rule" if names else "a generator of the rule"
