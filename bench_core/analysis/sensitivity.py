"""How much the verdicts depend on the thresholds: pure functions of judged runs.

For each diagnostic three answers.

* The *band*: the thresholds around the one in force over which no run changes its verdict, letters included. A run leaves a
  verdict only where the threshold passes its value; so with direction "above" the band is [lower, upper) and with "below"
  (lower, upper], between the values that lie nearest on either side.  `outcome_band`: over which no run changes between walked
  back and not, whatever its letters.
* The *gap* between the healthiest degenerate and the most degenerate healthy run. Degenerate is a run in which some diagnostic
  of the network itself (all but d, which compares accuracies) fires at the threshold in force. **This is circular**: the labels
  come from thresholds that were chosen on such runs, so a gap says that the two groups are far apart, not that they are right.
* The *grid*: thresholds tried, with the number of runs whose verdict changes, and of those that change between walked back and not.

A verdict knows a second use of the threshold: what already fires on the untrained network is not diagnostic. So a run fires at a
threshold θ ("above") when initial ≤ θ < final, and ("below") when final < θ ≤ initial; all here follows from those intervals.
Runs that are not done, floors and runs without a value, or with one that is not diagnostic, have no part.
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
FACTORS = (
    0.1,
    0.2,
    0.4,
    1.0,
    2.0,
    10.0,
    20.0,
    100.0,
)  # of the threshold; for a: the published 5, 10, 20, 50, 100, 500, …
GRIDS = {
    "c": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "d": (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0),
}

Direction = Literal["above", "below"]


@dataclass(frozen=True)
class Point:
    """A run with its value of one diagnostic, and where it fires: at the thresholds in `fires`, by the direction's rule."""

    run: Run
    value: float
    fires: tuple[float, float]
    others: bool  # whether another diagnostic walks the run back

    @property
    def degenerate(self) -> bool:
        """Whether a diagnostic of the network itself fires at the thresholds in force."""
        across = {
            letter
            for letter, (_, item) in judged(self.run.record.measurements).items()
            if item.across == "floor"
        }
        return bool(set(self.run.judgement.fired) - across)


@dataclass(frozen=True)
class Gap:
    """The two runs between which a threshold has to lie to tell the labels apart.

    ratio       degenerate/healthy for "above", healthy/degenerate for "below"; None where one is not positive
    difference  the same as a difference; both are > 1 and > 0 exactly where the labels are separated
    """

    healthy: Point
    degenerate: Point
    ratio: float | None
    difference: float

    @property
    def separated(self) -> bool:
        return self.difference > 0


@dataclass(frozen=True)
class Tried:
    """One threshold of the grid: how many runs change their verdict, and how many between walked back and not."""

    threshold: float
    verdicts: int
    outcomes: int


@dataclass(frozen=True)
class Sensitivity:
    """What one diagnostic's threshold does to the verdicts of `n` runs; an end of a band that nothing limits is infinite."""

    letter: str
    name: str
    direction: Direction
    threshold: float
    n: int
    band: tuple[float, float]
    outcome_band: tuple[float, float]
    gap: Gap | None
    grid: tuple[Tried, ...]
    points: tuple[Point, ...] = ()
    circular: str = CIRCULAR


def sensitivities(groups: Sequence[Group], settings: Settings) -> list[Sensitivity]:
    """One entry for each diagnostic and threshold in force that some run was judged by, in the order of the letters.

    groups  the runs of a suite as `judge_all` judged them under `settings`; all recipes together, as a threshold serves all
    """
    found: dict[tuple[str, str, Direction, float], list[Point]] = {}
    for run, initials in _judged_runs(groups):
        for letter, (name, item) in judged(run.record.measurements).items():
            limit, direction = threshold_of(name, item, settings.thresholds), item.direction
            value = run.judgement.margin if item.across == "floor" else item.value
            if (
                limit is None
                or direction is None
                or value is None
                or item.not_diagnostic is not None
            ):
                continue
            initial = None if item.across == "floor" else initials.get(name)
            others = bool(set(run.judgement.fired) - {letter})
            point = Point(run, value, _fires(value, initial, direction), others)
            found.setdefault((letter, name, direction, limit), []).append(point)
    ordered = sorted(found.items(), key=lambda pair: (letter_order(pair[0][0]), pair[0]))
    return [_sensitivity(*key, points) for key, points in ordered]


def _judged_runs(groups: Iterable[Group]) -> Iterator[tuple[Run, Mapping[str, Measurement]]]:
    """The runs that have a verdict, each with the untrained networks of its recipe."""
    for group in groups:
        initials = untrained(group.records)
        for row in group.rows:
            for run in row.runs:
                if run.record.status == "done" and run.judgement.role != "floor":
                    yield run, initials


def _fires(value: float, initial: Measurement | None, direction: Direction) -> tuple[float, float]:
    """The ends of the interval of thresholds at which a run fires: [low, high) for "above", (low, high] for "below"."""
    start = initial.value if initial is not None and initial.not_diagnostic is None else None
    if direction == "above":
        return (-math.inf if start is None else _unbounded(start, 1)), _unbounded(value, 1)
    return _unbounded(value, -1), (math.inf if start is None else _unbounded(start, -1))


def _unbounded(value: float, sign: int) -> float:
    """A value that is not finite fires at every threshold."""
    return value if math.isfinite(value) else sign * math.inf


def fired(point: Point, direction: Direction, threshold: float) -> bool:
    """Whether the run fires at this threshold."""
    low, high = point.fires
    return low <= threshold < high if direction == "above" else low < threshold <= high


def _sensitivity(
    letter: str, name: str, direction: Direction, threshold: float, points: list[Point]
) -> Sensitivity:
    tried = sorted({*GRIDS.get(letter, (factor * threshold for factor in FACTORS)), threshold})
    free = [point for point in points if not point.others]
    return Sensitivity(
        letter, name, direction, threshold, len(points),
        band=_band(points, direction, threshold),
        outcome_band=_band(free, direction, threshold),
        gap=_gap(points, direction),
        grid=tuple(
            Tried(limit, _changed(points, direction, threshold, limit), _changed(free, direction, threshold, limit))
            for limit in tried
        ),
        points=tuple(points),
    )  # fmt: skip


def _changed(points: Sequence[Point], direction: Direction, threshold: float, limit: float) -> int:
    return sum(
        fired(point, direction, limit) != fired(point, direction, threshold) for point in points
    )


def _band(points: Sequence[Point], direction: Direction, threshold: float) -> tuple[float, float]:
    """The ends of the intervals that lie nearest to the threshold on either side; on an end counts to the closed one."""
    ends = [end for point in points for end in point.fires if point.fires[0] < point.fires[1]]
    if direction == "above":
        below, above = [e for e in ends if e <= threshold], [e for e in ends if e > threshold]
    else:
        below, above = [e for e in ends if e < threshold], [e for e in ends if e >= threshold]
    return max(below, default=-math.inf), min(above, default=math.inf)


def _gap(points: Sequence[Point], direction: Direction) -> Gap | None:
    """None where there are not both kinds."""
    sign = 1 if direction == "above" else -1

    def badness(point: Point) -> float:
        return sign * _unbounded(point.value, sign)

    degenerate = min((p for p in points if p.degenerate), key=badness, default=None)
    healthy = max((p for p in points if not p.degenerate), key=badness, default=None)
    if degenerate is None or healthy is None:
        return None
    large, small = (degenerate, healthy) if sign > 0 else (healthy, degenerate)
    ratio = large.value / small.value if large.value > 0 and small.value > 0 else None
    return Gap(healthy, degenerate, ratio, badness(degenerate) - badness(healthy))
