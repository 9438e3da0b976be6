"""Count the accelerators of this machine and lease them to cells."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from functools import cache


def cores() -> int:
    """Return the number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # a system may lack or refuse it
        return os.cpu_count() or 1


@cache
def visible() -> tuple[str, ...]:
    """Return the CUDA devices as CUDA_VISIBLE_DEVICES names them, without torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(part.strip() for part in named.split(",") if part.strip() not in ("", "-1"))
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        output = subprocess.check_output(command, stderr=subprocess.DEVNULL, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(output.decode().split())


@dataclass
class Leases:
    """Slots on accelerators, `per_gpu` on each; a worker sees the leased device alone.

    A cell on `cuda` gets a slot on the device with the most free ones, a cell on `cuda:1` one on
    the second. If this machine has no such device, none is leased: the worker reports that.
    """

    per_gpu: int = 1
    devices: tuple[str, ...] = field(default_factory=visible)
    used: Counter[str] = field(default_factory=Counter)

    def take(self, device: str) -> str | None:
        """Lease a device and return its name; "" if none is needed, None if all slots are taken."""
        kind, _, index = device.partition(":")
        choice = self.devices[int(index) : int(index) + 1] if index else self.devices
        if kind != "cuda" or not choice:
            return ""
        best = min(choice, key=lambda name: (self.used[name], self.devices.index(name)))
        if self.used[best] >= self.per_gpu:
            return None
        self.used[best] += 1
        return best

    def give(self, name: str) -> None:
        """Return a leased device."""
        self.used[name] -= 1


def environment(name: str) -> dict[str, str]:
    """Return the variables by which a worker sees the leased device alone."""
    return {"CUDA_VISIBLE_DEVICES": name} if name else {}


def absent(device: str) -> str | None:
    """Return why this machine cannot compute on a device; None if it can."""
    if device == "cpu":
        return None
    import torch

    try:
        torch.empty(1, device=device)
    # a torch that was not built for the device asserts
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = " ".join(str(error).split()).partition(". ")[0]  # then comes an address
        return f"no device {device} here: {first[:200]}"
    return None
