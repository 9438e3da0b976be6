"""Compare a rule with random blocks of another scale (docs/protocol.md, section 6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass

from bench_core.analysis.verdicts.judge import Floor
from bench_core.analysis.verdicts.verdict import Margin, outdone, points_of

LARGER = 10.0  # times the rule's own scale, from which random blocks count as tried


@dataclass(frozen=True)
class Rescaled:
    """A rule over its floors with random blocks of another scale.

    floor, over  the best of those that it does not beat, else the best of all, and the margin
    outdone      it is not shown to beat each of them
    tried        one of them has blocks `LARGER` times as large or more, lies above chance, and has
                 an interval
    lost         a run of one of them is not finished, of a seed of the rule
    """

    floor: Floor | None = None
    over: Margin | None = None
    outdone: bool = False
    tried: bool = False
    lost: bool = False


def compare(
    floors: Sequence[tuple[float, Floor]],
    margin: Callable[[Floor], Margin | None],
    at_chance: Callable[[Floor], bool],
    seeds: Set[int],
    limit: float,
) -> Rescaled:
    """Compare a rule with floors, each with its scale in multiples of the rule's own.

    seeds  of the rule's finished runs
    limit  points by which it must beat them
    """
    run = [(scale, floor, margin(floor)) for scale, floor in floors if floor.mean is not None]
    unbeaten = [each for each in run if outdone(points_of(each[2]), limit)]

    def best(among: Iterable[tuple[float, Floor, Margin | None]]) -> tuple[Floor, Margin | None]:
        _, floor, over = max(among, key=lambda each: each[1].mean or 0.0)
        return floor, over

    tried = any(
        scale >= LARGER and not at_chance(floor) and over and over.estimate.half_width is not None
        for scale, floor, over in run
    )
    lost = any(floor.lost & seeds for _, floor in floors)
    if not run:
        return Rescaled(lost=lost)
    return Rescaled(*best(unbeaten or run), outdone=bool(unbeaten), tried=tried, lost=lost)
