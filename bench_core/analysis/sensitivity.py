"""Measure how the verdicts depend on the thresholds: pure functions of judged runs.

For each diagnostic:

* The *band*: the thresholds around the one in force for which no run changes its verdict, letters
  included. A run changes its verdict only where the threshold passes its value. So the band is
  [lower, upper) with direction "above" and (lower, upper] with "below", between the nearest values
  on either side. In the `outcome_band` no run changes between walked back and not walked back.
* The *gap* between the healthiest degenerate run and the most degenerate healthy run. A run is
  degenerate if a diagnostic of the network itself (all but d, which compares accuracies) fires at
  the threshold in force. **This is circular**: the labels come from thresholds that were chosen on
  such runs. So a gap says that the two groups are far apart, not that the labels are right.
* The *grid*: thresholds, each with the number of runs that change their verdict, and the number
that
  change between walked back and not.

A verdict uses the threshold twice: a diagnostic that already fires on the untrained network is not
diagnostic. So a run fires at a threshold θ when initial ≤ θ < final ("above"), or when
final < θ ≤ initial ("below"). Everything here follows from these intervals.
Left out are floors, runs that are not done, and runs whose value is missing or not diagnostic.
Source: arXiv:2606.21126, which gives (a) [12, 693], 63x, and (b) [4.2e-9, 1e-4], 24,338x.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bench_core.analysis.judge import Settings, judged, letter_order, threshold_of, untrained
from bench_core.analysis.leaderboard import Group, Run
from bench_core.results.record import Measurement

CIRCULAR = (
    "labels come from the thresholds in force, which were chosen on such runs: the gap is circular"
)
# of the threshold; for a: the published 5, 10, 20, 50, 100, 500, …
FACTORS = (0.1, 0.2, 0.4, 1.0, 2.0, 10.0, 20.0, 100.0)
GRIDS = {
    "c": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "d": (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0),
}

Direction = Literal["above", "below"]


@dataclass(frozen=True)
class JudgedValue:
    """A run, its value of one diagnostic, and the interval of thresholds at which it fires.

    others  whether another diagnostic walks the run back
    """

    run: Run
    value: float
    fires: tuple[float, float]
    others: bool

    @property
    def degenerate(self) -> bool:
        """Whether a diagnostic of the network itself fires at the thresholds in force."""
        by_letter = judged(self.run.record.measurements)
        return any(by_letter[letter][1].across != "floor" for letter in self.run.judgement.fired)


@dataclass(frozen=True)
class Gap:
    """The two runs between which a threshold must lie to separate the labels.

    ratio       degenerate/healthy for "above", healthy/degenerate for "below"; None unless both
                are positive
    difference  the same as a difference; ratio > 1 and difference > 0 exactly if separated
    """

    healthy: JudgedValue
    degenerate: JudgedValue
    ratio: float | None
    difference: float

    @property
    def separated(self) -> bool:
        """Whether a threshold can separate the labels."""
        return self.difference > 0


@dataclass(frozen=True)
class Tried:
    """A threshold of the grid: runs that change their verdict, and between walked back and not."""

    threshold: float
    verdicts: int
    outcomes: int


@dataclass(frozen=True)
class Sensitivity:
    """The influence of a threshold on `n` runs; a band that no run limits ends at infinity."""

    letter: str
    name: str
    direction: Direction
    threshold: float
    n: int
    band: tuple[float, float]
    outcome_band: tuple[float, float]
    gap: Gap | None
    grid: tuple[Tried, ...]
    points: tuple[JudgedValue, ...] = ()
    circular: str = CIRCULAR


def sensitivities(groups: Sequence[Group], settings: Settings) -> list[Sensitivity]:
    """Compute the sensitivity to each threshold in force, in the order of the letters.

    groups  the runs of a suite as `judge_all` judged them under `settings`; all recipes together,
            because they share the thresholds
    """
    points: dict[tuple[str, str, Direction, float], list[JudgedValue]] = {}
    for run, initials in _judged_runs(groups):
        for letter, (name, item) in judged(run.record.measurements).items():
            limit, direction = threshold_of(name, item, settings.thresholds), item.direction
            value = run.judgement.margin if item.across == "floor" else item.value
            if limit is None or direction is None or value is None:
                continue
            if item.not_diagnostic is not None:
                continue
            initial = None if item.across == "floor" else initials.get(name)
            others = bool(set(run.judgement.fired) - {letter})
            point = JudgedValue(run, value, _fires(value, initial, direction), others)
            points.setdefault((letter, name, direction, limit), []).append(point)
    ordered = sorted(points, key=lambda key: (letter_order(key[0]), key))
    return [_sensitivity(*key, points[key]) for key in ordered]


def _judged_runs(groups: Iterable[Group]) -> Iterator[tuple[Run, Mapping[str, Measurement]]]:
    """Yield the runs that have a verdict, each with the untrained networks of its recipe."""
    for group in groups:
        initials = untrained(group.records)
        for row in group.rows:
            for run in row.runs:
                if run.record.status == "done" and run.judgement.role != "floor":
                    yield run, initials


def _fires(value: float, initial: Measurement | None, direction: Direction) -> tuple[float, float]:
    """Return the interval of thresholds at which a run fires: [low, high) or (low, high]."""
    start = initial.value if initial is not None and initial.not_diagnostic is None else None
    if direction == "above":
        return (-math.inf if start is None else _unbounded(start, 1)), _unbounded(value, 1)
    return _unbounded(value, -1), (math.inf if start is None else _unbounded(start, -1))


def _unbounded(value: float, sign: int) -> float:
    """Return ±∞ for a value that is not finite: it fires at every threshold."""
    return value if math.isfinite(value) else sign * math.inf


def fired(point: JudgedValue, direction: Direction, threshold: float) -> bool:
    """Decide whether the run fires at this threshold."""
    low, high = point.fires
    return low <= threshold < high if direction == "above" else low < threshold <= high


def _sensitivity(
    letter: str, name: str, direction: Direction, threshold: float, points: list[JudgedValue]
) -> Sensitivity:
    tried = sorted({*GRIDS.get(letter, (factor * threshold for factor in FACTORS)), threshold})
    free = [point for point in points if not point.others]

    def changed(among: Sequence[JudgedValue], limit: float) -> int:
        return sum(fired(p, direction, limit) != fired(p, direction, threshold) for p in among)

    return Sensitivity(
        letter,
        name,
        direction,
        threshold,
        len(points),
        band=_band(points, direction, threshold),
        outcome_band=_band(free, direction, threshold),
        gap=_gap(points, direction),
        grid=tuple(Tried(limit, changed(points, limit), changed(free, limit)) for limit in tried),
        points=tuple(points),
    )


def _band(
    points: Sequence[JudgedValue], direction: Direction, threshold: float
) -> tuple[float, float]:
    """Return the nearest ends of intervals on either side of the threshold."""
    ends = [end for point in points for end in point.fires if point.fires[0] < point.fires[1]]
    if direction == "above":
        below, above = [e for e in ends if e <= threshold], [e for e in ends if e > threshold]
    else:
        below, above = [e for e in ends if e < threshold], [e for e in ends if e >= threshold]
    return max(below, default=-math.inf), min(above, default=math.inf)


def _gap(points: Sequence[JudgedValue], direction: Direction) -> Gap | None:
    """Compute the gap; None without a healthy or without a degenerate run."""
    sign = 1 if direction == "above" else -1

    def badness(point: JudgedValue) -> float:
        return sign * _unbounded(point.value, sign)

    degenerate = min((p for p in points if p.degenerate), key=badness, default=None)
    healthy = max((p for p in points if not p.degenerate), key=badness, default=None)
    if degenerate is None or healthy is None:
        return None
    large, small = (degenerate, healthy) if sign > 0 else (healthy, degenerate)
    ratio = large.value / small.value if large.value > 0 and small.value > 0 else None
    return Gap(healthy, degenerate, ratio, badness(degenerate) - badness(healthy))
