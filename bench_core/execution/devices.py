"""Accelerators of this machine, leased to cells: how many there are, and which of them a worker may see."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from functools import cache


@cache
def visible() -> tuple[str, ...]:
    """The CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES names them; asked without loading torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(part.strip() for part in named.split(",") if part.strip() not in ("", "-1"))
    try:
        command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        told = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(told.split())


@dataclass
class Leases:
    """Slots on accelerators, `per_gpu` on each.

    A cell on `cuda` gets a slot on the device with the most free ones, a cell on `cuda:1` one on the second. A worker sees the
    device that it leased, and no other, as its only one. Where no device can be found none is leased, and the worker itself
    says what is wrong.
    """

    per_gpu: int = 1
    devices: tuple[str, ...] = field(default_factory=visible)
    used: Counter[str] = field(default_factory=Counter)

    def take(self, device: str) -> str | None:
        """A leased device's name, "" where none is needed, None where all slots are taken."""
        kind, _, index = device.partition(":")
        if kind != "cuda" or not self.devices:
            return ""
        if index:
            wanted = self.devices[int(index) : int(index) + 1]
            if not wanted:
                return ""
        else:
            wanted = self.devices
        best = min(wanted, key=lambda name: (self.used[name], self.devices.index(name)))
        if self.used[best] >= self.per_gpu:
            return None
        self.used[best] += 1
        return best

    def give(self, name: str) -> None:
        """A leased device back."""
        if name:
            self.used[name] -= 1


def environment(name: str) -> dict[str, str]:
    """What a worker's environment needs so that it sees the leased device alone."""
    return {"CUDA_VISIBLE_DEVICES": name} if name else {}


def absent(device: str) -> str | None:
    """Why nothing can be computed on a device here; None: it can."""
    if device == "cpu":
        return None
    import torch

    try:
        torch.empty(1, device=device)
    except (
        RuntimeError,
        AssertionError,
        NotImplementedError,
    ) as error:  # a torch that was not built for it asserts
        return f"no device {device} here: {' '.join(str(error).split())[:120]}"
    return None
