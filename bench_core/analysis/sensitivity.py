"""Measure how the flags of runs depend on the thresholds: pure functions of judged runs.

For each diagnostic:

* The *band*: the thresholds around the one in force for which no run changes its flags. A
  run changes its flags only where the threshold passes its value. So the band is
  [lower, upper) with direction "above" and (lower, upper] with "below", between the nearest values
  on either side.
* The *gap* between the healthiest degenerate run and the most degenerate healthy run. A run is
  degenerate if a diagnostic of the network itself (all but d, which compares accuracies) fires at
  the threshold in force. **This is circular**: the labels come from thresholds that were chosen on
  such runs. So a gap says that the two groups are far apart, not that the labels are right.

A flag uses the threshold twice: a diagnostic that already fires on the untrained network is not
diagnostic. So a run fires at a threshold θ when initial ≤ θ < final ("above"), or when
final < θ ≤ initial ("below"), that is −initial ≤ −θ < −final. Everything here follows from these
intervals. Left out are floors, runs that are not done, and runs whose value is missing or not
diagnostic. Whether a recipe can judge d is not asked again.
Source: arXiv:2606.21126, which gives (a) [12, 693], 63x, and (b) [4.2e-9, 1e-4], 24,338x.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from bench_core.analysis.verdicts.judge import letter_order, threshold_of
from bench_core.analysis.verdicts.rows import Group, Run
from bench_core.analysis.verdicts.settings import Settings
from bench_core.analysis.verdicts.untrained import Agreed, at_start, untrained

CIRCULAR = (
    "healthy and degenerate follow from the thresholds in force, which were chosen on such runs: a "
    "gap between the two proves nothing"
)

Direction = Literal["above", "below"]
SIGN = {"above": 1, "below": -1}  # times a value: then larger is worse


@dataclass(frozen=True)
class JudgedValue:
    """A run and its value of one diagnostic.

    fires  (low, high): the run fires at θ if low ≤ sign · θ < high
    """

    run: Run
    value: float
    fires: tuple[float, float]

    @property
    def degenerate(self) -> bool:
        """Whether a diagnostic of the network itself fires at the thresholds in force."""
        by_letter = self.run.deciding
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
class Sensitivity:
    """The influence of a threshold on `n` runs; a band that no run limits ends at infinity."""

    letter: str
    name: str
    direction: Direction
    threshold: float
    n: int
    band: tuple[float, float]
    gap: Gap | None
    points: tuple[JudgedValue, ...]


def sensitivities(groups: Sequence[Group], settings: Settings) -> list[Sensitivity]:
    """Compute the sensitivity to each threshold in force, in the order of the letters.

    groups  the runs of a suite as `judge_all` judged them under `settings`; all recipes together,
            because they share the thresholds
    """
    points: dict[tuple[str, str, Direction, float], list[JudgedValue]] = defaultdict(list)
    for group in groups:
        initials = untrained(group.records)
        for run in (run for row in group.competing for run in row.runs):
            if run.record.status == "done":
                for key, point in _points(run, initials, settings):
                    points[key].append(point)
    ordered = sorted(points, key=lambda key: (letter_order(key[0]), key))
    return [_sensitivity(*key, points[key]) for key in ordered]


def _points(
    run: Run, initials: Agreed, settings: Settings
) -> Iterator[tuple[tuple[str, str, Direction, float], JudgedValue]]:
    start_of = at_start(run.record, initials)
    for letter, (name, item) in run.deciding.items():
        limit, direction = threshold_of(name, item, settings.thresholds), item.direction
        value = run.judgement.margin if item.across == "floor" else item.value
        silent = item.not_diagnostic is not None
        if item.across == "floor":  # the floor is at chance, or the recipe cannot judge
            silent |= letter in dict(run.judgement.not_diagnostic)
        if limit is None or direction is None or value is None or silent:
            continue
        initial = None if item.across == "floor" else start_of.get(name)
        start = initial.value if initial is not None and initial.not_diagnostic is None else None
        low = -math.inf if start is None else _badness(start, direction)
        point = JudgedValue(run, value, (low, _badness(value, direction)))
        yield (letter, name, direction, limit), point


def _badness(value: float, direction: Direction) -> float:
    """Return sign · value; infinite if it is not finite, because that fires at every threshold."""
    return SIGN[direction] * value if math.isfinite(value) else math.inf


def _sensitivity(
    letter: str, name: str, direction: Direction, threshold: float, points: list[JudgedValue]
) -> Sensitivity:
    """Find the band: between the nearest ends of intervals on either side of the threshold."""
    sign = SIGN[direction]
    ends = [end for point in points for end in point.fires if point.fires[0] < point.fires[1]]
    low = max((end for end in ends if end <= sign * threshold), default=-math.inf)
    high = min((end for end in ends if end > sign * threshold), default=math.inf)
    band = (low, high) if sign > 0 else (-high, -low)
    gap = _gap(points, direction)
    return Sensitivity(letter, name, direction, threshold, len(points), band, gap, tuple(points))


def _gap(points: Sequence[JudgedValue], direction: Direction) -> Gap | None:
    """Compute the gap; None without a healthy or without a degenerate run."""

    def badness(point: JudgedValue) -> float:
        return _badness(point.value, direction)

    sick = [point for point in points if point.degenerate]
    well = [point for point in points if not point.degenerate]
    if not sick or not well:
        return None
    degenerate = min(sick, key=badness)
    healthy = max(well, key=badness)
    large, small = (degenerate, healthy) if direction == "above" else (healthy, degenerate)
    ratio = large.value / small.value if large.value > 0 and small.value > 0 else None
    return Gap(healthy, degenerate, ratio, badness(degenerate) - badness(healthy))
