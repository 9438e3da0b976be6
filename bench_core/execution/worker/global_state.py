"""Random generators and settings of torch that all code of a process shares."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.backends import cudnn

Access = tuple[Callable[[], Any], Callable[[Any], Any]]
DETERMINISM = ("default", "warn", "error")  # torch's names of 0, 1, 2


def _matmul_precision() -> str:
    """Return torch's word for all backends; "mixed" where they differ, which torch refuses."""
    with suppress(RuntimeError):
        return torch.get_float32_matmul_precision()
    return "mixed"


def _autocast() -> str:
    """Name the kinds of devices on which torch casts products by itself; "off" for none."""
    return " ".join(kind for kind in AUTOCAST if torch.is_autocast_enabled(kind)) or "off"


def _set_autocast(kinds: str) -> None:
    for kind in AUTOCAST:
        torch.set_autocast_enabled(kind, kind in kinds.split())


def _flushes() -> bool:
    """Test whether this thread computes zero in place of a number too small for a full mantissa."""
    return bool((torch.full((1,), 1e-39, device="cpu", dtype=torch.float32) * 1).item() == 0)


AUTOCAST = ("cpu", "cuda", "mps", "xpu")
TORCH_DRAWS = "torch's global generator"
# name → (how it is read, how it is put back)
GENERATORS: dict[str, Access] = {
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
}
# what numbers depend on beside the code and the draws
ARITHMETIC: dict[str, Access] = {
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "grad mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "deterministic algorithms": (
        lambda: DETERMINISM[torch.get_deterministic_debug_mode()],
        torch.set_deterministic_debug_mode,
    ),
    "number of threads": (torch.get_num_threads, torch.set_num_threads),
    "autocast": (_autocast, _set_autocast),
    "flush of denormal numbers": (_flushes, torch.set_flush_denormal),
    "mkldnn.enabled": (
        partial(getattr, torch.backends.mkldnn, "enabled"),
        partial(setattr, torch.backends.mkldnn, "enabled"),
    ),
    "matmul precision": (_matmul_precision, torch.set_float32_matmul_precision),
    **{
        f"cudnn.{name}": (partial(getattr, cudnn, name), partial(setattr, cudnn, name))
        for name in ("enabled", "benchmark", "deterministic", "allow_tf32")
    },
}


def read(state: Mapping[str, Access]) -> dict[str, Any]:
    """Read each part of a state."""
    return {name: get() for name, (get, _) in state.items()}


def of_recipe(before: Mapping[str, Any], training: Mapping[str, Any]) -> dict[str, Any]:
    """Return ARITHMETIC of a training, as `bench_core.training.build` makes them.

    before  the settings of the process before any plugin was imported
    """
    return {
        **before,
        "deterministic algorithms": "error" if training["deterministic"] else "default",
        "number of threads": training["threads"],
        "cudnn.allow_tf32": False,
    }


def unlike(expected: Mapping[str, Any]) -> str:
    """Name the settings of ARITHMETIC that are not as expected; empty if all are."""
    now = read(ARITHMETIC)
    parts = [f"{name} is {now[name]}, not {e}" for name, e in expected.items() if now[name] != e]
    return "; ".join(parts)
