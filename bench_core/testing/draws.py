"""Note the generators that a rule draws from beside the two of its tools."""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

from bench_core.training.method import Method
from bench_core.training.rng import generators_of

MAKERS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (random, ("Random",)),
    (np.random, ("default_rng", "RandomState", "PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")),
)
GLOBALS = ((random, random._inst), (np.random, np.random.mtrand._rand))


def _state(generator: Any) -> bytes:
    """Return the state of a generator of Python or numpy, or of a bit generator, as bytes."""
    if isinstance(generator, np.random.Generator):
        return pickle.dumps(generator.bit_generator.state)
    if isinstance(generator, np.random.BitGenerator):
        return pickle.dumps(generator.state)
    python = hasattr(generator, "getstate")
    return pickle.dumps(generator.getstate() if python else generator.get_state(legacy=False))


class _Maker(type):
    """Stand for a class or a function that makes generators, and note what it makes."""

    real: Any
    note: Callable[[Any], None]

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = cls.real(*args, **kwargs)
        cls.note(made)
        return made

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(cls.real, type) and isinstance(instance, cls.real)


@contextmanager
def begun(modules: Iterable[str] = ()) -> Iterator[list[tuple[str, bytes]]]:
    """Note the generators of Python and numpy that are made or seeded and have drawn at the end.

    Each is noted by its name and the state in which it began. A generator that was made before is
    not seen.

    modules  names of modules that may have imported a function or class of `MAKERS` by its name
    """
    started: list[tuple[str, Any, bytes]] = []
    drawn: list[tuple[str, bytes]] = []

    def noting(name: str) -> Callable[[Any], None]:
        return lambda generator: started.append((name, generator, _state(generator)))

    def stand_in(name: str, real: Any) -> Any:
        return _Maker(name, (), {"real": staticmethod(real), "note": staticmethod(noting(name))})

    def seeding(name: str, real: Any, generator: Any) -> Any:
        def seed(*args: Any, **kwargs: Any) -> None:
            real(*args, **kwargs)
            noting(name)(generator)

        return seed

    places = [sys.modules[name] for name in modules if name in sys.modules]
    with ExitStack() as stack:
        for home, names in MAKERS:
            for name in names:
                real = getattr(home, name)
                made = stand_in(f"{home.__name__}.{name}", real)
                imported = [
                    (place, key)
                    for place in places
                    for key, value in vars(place).items()
                    if value is real
                ]
                for place, key in [(home, name), *imported]:
                    stack.enter_context(patch.object(place, key, made))
        for home, generator in GLOBALS:
            made = seeding(f"{home.__name__}.seed", home.seed, generator)
            stack.enter_context(patch.object(home, "seed", made))
        yield drawn
    for name, generator, state in started:
        if _state(generator) != state:
            drawn.append((name, state))


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
    """Return the name by which the rule holds this generator, else what else it is."""
    if generator is torch.default_generator:
        return "torch's global generator"
    names = [name for name, value in generators_of(method).items() if value is generator]
    return f"the generator {names[0]} of the rule" if names else "a generator of the rule"


def seed_globally(seed: int) -> None:
    """Seed the global generators: only the check of global state shall report their use."""
    seed_torch(seed)
    random.seed(seed)
    np.random.seed(seed)


def seed_torch(seed: int) -> None:
    """Seed torch's generator of the CPU, which draws every probe network.

    `torch.manual_seed` would also keep a call with its stack for every kind of accelerator.
    """
    torch.default_generator.manual_seed(seed)
