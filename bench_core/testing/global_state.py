"""State that all code of a process shares: read, compared and restored."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from bench_core.training import audit, credit, local_update, loop, loss, net, optimizer

SHARED = (
    torch,
    torch.Tensor,
    nn.functional,
    nn.Module,
    torch.autograd,
    torch.optim.AdamW,
    audit,
    credit,
    local_update,
    loop,
    loss,
    net,
    optimizer,
)


def _set_environment(value: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(value)


def _flag(name: str) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    cudnn = torch.backends.cudnn
    return lambda: getattr(cudnn, name), lambda value: setattr(cudnn, name, value)


def _generator(value: bytes) -> None:
    torch.set_rng_state(torch.frombuffer(bytearray(value), dtype=torch.uint8))


def _read_numpy() -> tuple[Any, ...]:
    name, key, *rest = np.random.get_state(legacy=True)
    return name, np.asarray(key).tobytes(), *rest


def _write_numpy(value: tuple[Any, ...]) -> None:
    name, key, *rest = value
    np.random.set_state((name, np.frombuffer(key, dtype=np.uint32), *rest))


# name → (how it is read, how it is put back)
STATE: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "torch's global generator": (lambda: torch.get_rng_state().numpy().tobytes(), _generator),
    "numpy's global generator": (_read_numpy, _write_numpy),
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
    **{f"cudnn.{name}": _flag(name) for name in ("enabled", "benchmark", "deterministic")},
}


@dataclass
class Changes:
    """Differences between the call of `start` and the end of the context."""

    names: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    functions: list[tuple[Any, str, Any]] = field(default_factory=list)

    def start(self) -> None:
        """Read the state that must be found at the end."""
        self.values = {name: read() for name, (read, _) in STATE.items()}
        self.functions = [
            (owner, n, v) for owner in SHARED for n, v in vars(owner).items() if callable(v)
        ]

    def compare(self) -> None:
        """Note the state that has changed, and restore it."""
        for name, (read, write) in STATE.items():
            if name in self.values and read() != self.values[name]:
                self.names.append(name)
                write(self.values[name])
        for owner, name, value in self.functions:
            if vars(owner).get(name) is not value:
                self.names.append(f"{owner.__name__}.{name}")
                setattr(owner, name, value)


@contextmanager
def preserved() -> Iterator[Changes]:
    """Compare at the end of the context and restore every change, also after an exception."""
    changes = Changes()
    changes.start()
    try:
        yield changes
    finally:
        changes.compare()
