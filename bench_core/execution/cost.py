"""What a plan will cost, read off cells that ran before.

A cell is expected to take (time outside its epochs) + epochs · (time per epoch), medians over the finished runs most like it:

    1. same method, architecture, data set, data options, batch size, threads and device;
    2. the same with any other parameters of the method, blocks frozen or not alike;
    3. the same architecture and data set under any method.

No run like it: no estimate. Nothing is extrapolated over widths, depths or machines.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench_core.results.hashing import canonical
from bench_core.results.record import Cell, RunRecord


@dataclass(frozen=True)
class Estimate:
    """Seconds of one cell, from `runs` earlier ones; `likeness` is the rule above that found them."""

    seconds: float
    runs: int
    likeness: int


def keys(cell: Cell, device: str) -> list[Hashable]:
    """What must be equal, from the most like to the least."""
    training: dict[str, Any] = cell.training
    common: tuple[Hashable, ...] = (
        cell.dataset.name,
        canonical(cell.dataset.params),
        canonical(cell.data),
        training.get("batch_size"),
    )
    common += (
        training.get("threads"),
        training.get("compile"),
        training.get("autocast"),
        device.partition(":")[0],
    )
    common += (canonical(cell.arch.model_dump()),)
    name, params = cell.method.name, cell.method.params
    return [(*common, name, canonical(params)), (*common, name, params.get("freeze")), common]


class Past:
    """Finished runs by what they are like."""

    def __init__(self, records: Sequence[RunRecord]) -> None:
        self.by_key: list[dict[Hashable, list[tuple[float, float]]]] = [{}, {}, {}]
        for record in records:
            if record.status != "done" or not record.seconds_per_epoch or not record.epochs:
                continue
            outside = max(0.0, record.seconds - record.epochs * record.seconds_per_epoch)
            per_epoch = (record.seconds - outside) / record.epochs
            device = str(record.environment.get("device", "cpu"))
            for found, key in zip(self.by_key, keys(record.cell, device), strict=True):
                found.setdefault(key, []).append((outside, per_epoch))

    def estimate(self, cell: Cell, device: str) -> Estimate | None:
        """What a cell will take, or None where nothing like it was run."""
        for likeness, (found, key) in enumerate(
            zip(self.by_key, keys(cell, device), strict=True), 1
        ):
            if runs := found.get(key):
                outside, per_epoch = (median(values) for values in zip(*runs, strict=True))
                return Estimate(outside + cell.last_epoch * per_epoch, len(runs), likeness)
        return None


def spoken(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`, `2.5 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes / 60 / 24:.1f} days"
