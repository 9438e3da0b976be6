"""State that all code of a process shares: read, compared and restored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from operator import is_
from pkgutil import iter_modules, resolve_name

import torch
from torch import nn

from bench_core import training
from bench_core.execution.worker.global_state import ARITHMETIC, GENERATORS, Access, read
from bench_core.training import optimizer

SHARED = (torch, torch.Tensor, nn.functional, nn.Module, torch.autograd, optimizer.AdamW)
CORE = tuple(
    resolve_name(f"{training.__name__}.{each.name}") for each in iter_modules(training.__path__)
)
optimizer.Updater({}, 0.0, 0.0, None)  # torch replaces AdamW.step when the first is made


def _set_environment(value: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(value)


# name → (how it is read, how it is put back)
STATE: dict[str, Access] = {
    **GENERATORS,
    "working folder": (os.getcwd, os.chdir),
    "environment": (lambda: dict(os.environ), _set_environment),
    **ARITHMETIC,
}


class Changes:
    """Differences between the call of `start` and the end of the context."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.start()

    def start(self) -> None:
        """Read the state that must be found at the end."""
        self.values = read(STATE)
        self.attributes = [(owner, dict(vars(owner))) for owner in SHARED + CORE]

    def compare(self) -> None:
        """Note the state that has changed, and restore it."""
        for name, (get, write) in STATE.items():
            if get() != self.values[name]:
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
