"""Read the energy that a machine has used, where its hardware counts it.

RAPL counts the joules of the processor packages (Linux; the counters are readable for root alone on
most systems), NVML those of a CUDA device (`pip install 'bench-core[energy]'`). Both count the work
of all processes: the figure of a cell is its own only if no other cell runs beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Counter = Callable[[], float]  # joules since some moment
RAPL = Path("/sys/class/powercap")


class Meter:
    """The joules between moments of a training.

    joules   of all intervals so far; None: no counter can be read, or one failed later
    """

    def __init__(self, device: str) -> None:
        self.counters = [*packages(), *cuda(device)]
        self.joules: float | None = 0.0 if self.counters else None
        self.since: list[float] | None = None

    def start(self) -> None:
        """Begin an interval."""
        self.since = self._read()

    def stop(self) -> None:
        """End the interval, if one has begun, and add its joules."""
        before, now = self.since, self._read()
        self.since = None
        if before is not None and now is not None and self.joules is not None:
            self.joules += sum(b - a for a, b in zip(before, now, strict=True))

    def _read(self) -> list[float] | None:
        """Read the counters; if one fails, the training has no figure and goes on."""
        try:
            return [counter() for counter in self.counters]
        except Exception:
            self.joules, self.counters = None, []
            return None


def packages(root: Path = RAPL) -> list[Counter]:
    """Return a counter for each processor package that RAPL lets this process read."""
    counters = []
    for zone in sorted(root.glob("intel-rapl:*")):
        if zone.name.count(":") != 1:  # a part of a package
            continue
        try:
            _number(zone / "energy_uj")
            wraps = _number(zone / "max_energy_range_uj")
        except (OSError, ValueError):
            continue
        counters.append(_unwrapped(zone / "energy_uj", wraps))
    return counters


def _number(file: Path) -> int:
    return int(file.read_text())


def _unwrapped(file: Path, wraps: int) -> Counter:
    """Count on when the hardware's counter begins again at 0, as it does within an hour."""
    last, turns = _number(file), 0

    def joules() -> float:
        nonlocal last, turns
        now = _number(file)
        turns += now < last
        last = now
        return (now + turns * wraps) / 1e6

    return joules


def cuda(device: str) -> list[Counter]:
    """Return the counter of a CUDA device, if NVML is installed and the device counts energy."""
    if not device.startswith("cuda"):
        return []
    try:
        import pynvml
        import torch

        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # absent, of another version, or refused: energy is a further figure
        return []
    return [lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3]
