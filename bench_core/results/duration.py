"""Estimate the cost of a plan from cells that ran before.

A cell takes `START` + epochs · (time of an epoch's training) + (epochs + 1) · (time of a
measurement, which epoch 0 has too), as the finished runs most like it:

    1. same method, architecture, data set, data options, batch size, threads and device;
    2. the same with any other parameters of the method, blocks frozen or not alike;
    3. the same method, blocks frozen or not alike, on a network and data of the same size: their
       options that are whole numbers or lists are equal, others, such as a norm, may differ;
    4. the same architecture and data set under any method.

Of the runs of one method with the same parameters the newest counts. Of the reference's the fastest
does, because some of them shared their core. Of several methods or parameters the median counts. A
run of the reference, on its machine, stands for a cell if it is more like it than every run here.
Without a run like it there is no estimate. Nothing is extrapolated over widths and depths.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from bench_core.results.hashing import canonical
from bench_core.results.record import Cell, ComponentRef, RunRecord

# seconds that a worker takes once, however short the cell: imports, network, first use of torch;
# CPU time of bp and fa in `bench run rules --workers 1`, .97 to 1.07 in four cells
START = 1.0
FEW = 3  # epochs of a run


@dataclass(frozen=True)
class Duration:
    """Seconds of one cell from `runs` earlier ones, by the rule `likeness` (1 to 4) above.

    foreign  whether these runs are the reference's, so of another machine
    short    whether these runs had so few epochs that the time is too long: work that is done once
             counts in each of them
    """

    seconds: float
    runs: int
    likeness: int
    foreign: bool = False
    short: bool = False


class Times(NamedTuple):
    """Seconds of the start, of a measurement and of an epoch's training in a run of `epochs`."""

    start: float
    measuring: float
    training: float
    epochs: int


def keys(cell: Cell, device: str) -> list[Hashable]:
    """Return the values that must be equal under each of the four rules."""
    options = [cell.training.get(k) for k in ("batch_size", "threads", "compile", "precision")]
    same = [cell.data, options, device.partition(":")[0]]
    common = canonical([*same, cell.arch.model_dump(), cell.dataset.model_dump()])
    size = canonical([*same, _size(cell.arch), _size(cell.dataset)])
    name, params = cell.method.name, cell.method.params
    alike = name, params.get("freeze")
    return [(common, name, canonical(params)), (common, *alike), (size, *alike), common]


def _size(part: ComponentRef) -> list[Any]:
    """Return the name of a network or a data set, and its options that may be sizes."""
    return [part.name, {key: v for key, v in part.params.items() if type(v) in (int, list)}]


class Past:
    """Seconds of the start, of a measurement and of an epoch's training in the finished runs.

    They are kept by the keys of the four rules, and there by the method with its parameters.

    foreign  whether the runs are the reference's
    """

    def __init__(self, records: Sequence[RunRecord], foreign: bool = False) -> None:
        self.foreign = foreign
        self.by_key: list[dict[Hashable, dict[str, Times]]] = [{}, {}, {}, {}]
        for record in sorted(records, key=lambda record: record.finished or ""):
            if record.status != "done" or not record.seconds_per_epoch or not record.epochs:
                continue
            outside = max(0.0, record.seconds - record.epochs * record.seconds_per_epoch)
            training = (record.seconds - outside) / record.epochs
            start = min(START, outside)
            measuring = (outside - start) / (record.epochs + 1)
            times = Times(start, measuring, training, record.epochs)
            method = canonical(record.cell.method.model_dump())
            for runs, key in zip(self.by_key, keys(record.cell, record.device), strict=True):
                others = runs.setdefault(key, {})
                known = others.get(method, times) if foreign else times
                others[method] = min(times, known, key=lambda own: sum(own[:3]))

    def estimate(self, cell: Cell, device: str, begun: int = 0) -> Duration | None:
        """Return the estimate of a cell by the first rule that any run meets, or None.

        begun  the epochs after which it continues
        """
        for likeness, key in enumerate(keys(cell, device), 1):
            if runs := self.by_key[likeness - 1].get(key):
                start, measuring, training, epochs = map(median, zip(*runs.values(), strict=True))
                left = cell.last_epoch - begun
                seconds = start + (left + (begun == 0)) * measuring + left * training
                short = epochs <= FEW and cell.last_epoch > 2 * epochs
                return Duration(seconds, len(runs), likeness, self.foreign, short)
        return None


def nearest(pasts: Iterable[Past], cell: Cell, device: str, begun: int = 0) -> Duration | None:
    """Return the estimate from the runs most like a cell; of equals that of the first past."""
    estimates = [past.estimate(cell, device, begun) for past in pasts]
    return min(filter(None, estimates), key=lambda one: one.likeness, default=None)


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
