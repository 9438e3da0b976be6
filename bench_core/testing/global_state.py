"""State that all code of a process shares: read, compared and restored."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.backends import cudnn

from bench_core.training import audit, credit, local_update, loop, loss, net, optimizer

SHARED = (torch, torch.Tensor, nn.functional, nn.Module, torch.autograd, optimizer.AdamW)
CORE = (audit, credit, local_update, loop, loss, net, optimizer)
optimizer.Updater({}, 0.0, 0.0, None)  # torch replaces AdamW.step when the first is made
Access = tuple[Callable[[], Any], Callable[[Any], Any]]


def _set_environment(value: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(value)


TORCH_DRAWS = "torch's global generator"
# name → (how it is read, how it is put back)
STATE: dict[str, Access] = {
    TORCH_DRAWS: (
        lambda: torch.get_rng_state().tolist(),
        lambda value: torch.set_rng_state(torch.tensor(value, dtype=torch.uint8)),
    ),
    "numpy's global generator": (
        lambda: [
            getattr(part, "tolist", lambda part=part: part)() for part in np.random.get_state()
        ],
        lambda value: np.random.set_state(tuple(value)),
    ),
    "random's global generator": (random.getstate, random.setstate),
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "grad mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "deterministic algorithms": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    "number of threads": (torch.get_num_threads, torch.set_num_threads),
    "matmul precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "working folder": (os.getcwd, os.chdir),
    "environment": (lambda: dict(os.environ), _set_environment),
    **{
        f"cudnn.{name}": (partial(getattr, cudnn, name), partial(setattr, cudnn, name))
        for name in ("enabled", "benchmark", "deterministic", "allow_tf32")
    },
}


class Changes:
    """Differences between the call of `start` and the end of the context."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.start()

    def start(self) -> None:
        """Read the state that must be found at the end."""
        self.values = {name: read() for name, (read, _) in STATE.items()}
        self.attributes = [(owner, dict(vars(owner))) for owner in SHARED + CORE]

    def compare(self) -> None:
        """Note the state that has changed, and restore it."""
        for name, (read, write) in STATE.items():
            if read() != self.values[name]:
                self.names.append(name)
                write(self.values[name])
        for owner, before in self.attributes:
            after = vars(owner)
            if len(after) >= len(before) and all(map(is_, before.values(), after.values())):
                continue  # nothing was replaced, and what was added stands at the end
            for name, value in before.items():
                if callable(value) and after.get(name) is not value:
                    self.names.append(f"{owner.__name__}.{name}")
                    setattr(owner, name, value)


@contextmanager
def preserved() -> Iterator[Changes]:
    """Compare at the end of the context and restore every change, also after an exception."""
    changes = Changes()
    try:
        yield changes
    finally:
        changes.compare()
