"""Compare tensors, and say that global state changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bench_core.execution.worker.global_state import TORCH_DRAWS
from bench_core.printable import few
from bench_core.testing.global_state import Changes
from bench_core.testing.kit import Failed

# the remedy for a rule whose draws are not the cell's
DRAW = (
    "torch's global generator draws the weights of nn.Linear and other modules: make them in "
    "`with draws_from(tools.aux_generator):` (bench_core.api); draw other numbers by self.draw(…) "
    "or with generator=tools.generator"
)


def copies(values: Mapping[str, Any]) -> dict[str, Tensor]:
    """Copy the tensors among these values. A check of its own names what no checkpoint can hold."""
    found = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def differs(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that differs in a bit (or is missing), or None."""
    for name in sorted(one.keys() | other.keys()):
        if name not in one or name not in other or not _same(one[name], other[name]):
            return name
    return None


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())


def must_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor], failure: str) -> None:
    """Raise Failed if a tensor differs; `{}` in its text stands for the name of the tensor."""
    if name := differs(one, other):
        raise Failed(failure.format(name))


def must_preserve(changes: Changes, action: str, *, but: str = "", remedy: str = DRAW) -> None:
    """Raise Failed if the action changed global state, other than the state `but`.

    remedy  for draws from torch's global generator
    """
    names = [name for name in changes.names if name != but]
    hint = f"; {remedy}" if TORCH_DRAWS in names else ""
    if names:
        raise Failed(f"{action} changes global state: {few(names)}{hint}")


def distance(tensor: Tensor, expected: Tensor) -> float:
    """‖tensor − expected‖ / ‖expected‖, float64; ‖tensor‖ if expected is zero."""
    tensor, expected = tensor.detach().double(), expected.detach().double()
    norm = float(expected.norm())
    return float((tensor - expected).norm()) / norm if norm > 0 else float(tensor.norm())
