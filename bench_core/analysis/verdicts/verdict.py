"""Judge a rule over its seeds: pure functions of the flags of its runs and of its margins.

docs/protocol.md, section 6, has the rules and their reasons. In the order in which they decide:

1. A floor is `floor`; a rule without a finished run has its statuses; one with a single finished
   seed is `single seed`, with that run's flags.
2. `walked back` if a diagnostic of the network itself is flagged in a run, if the interval of
   the margin over the floor lies below the threshold, if that over bp with frozen blocks lies
   below 0 (`bp floor`), if no weight of its blocks changes in any run, or if the accuracy of a
   run is not finite.
3. `undetermined` if a run did not finish, a diagnostic was not measured or d cannot be judged; if
   the margin that d reads has no interval (its floor has one seed, or two margins are equal), or
   that over bp's floor has none and the rule lies `ONE_SEED` points below it; if the floor that d
   reads lost a run of the rule's seeds; or if bp's floor has no finished run.
4. `trustworthy` if the margin reaches the threshold and its interval lies above 0, and the blocks
   are not shown to need no training (`needless`), nor `outdone` by random blocks of another scale.
   Where their credit has no direction of the gradient, or bp reaches as much with random blocks of
   another scale, the rule's own of such a scale must have been tried: else it is `undetermined`.
5. `not separated from its floor` otherwise.

If the floor's interval is not above chance, and the interval of the margin over it does not lie
below 0, the margin over bp's floor is read in its place, unless that floor lies at chance as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal

from bench_core.analysis.accuracies import UNKNOWN, Scored, of_accuracies, with_rounding
from bench_core.analysis.stats import Estimate, estimate, welch_difference
from bench_core.analysis.verdicts.judge import Floor, Judgement, in_order
from bench_core.analysis.verdicts.kinds import (
    FLAGGED,
    FLOOR,
    NO_FLAG,
    NOT_SEPARATED,
    SINGLE_SEED,
    TRUSTWORTHY,
    UNDETERMINED,
    WALKED_BACK,
)
from bench_core.results.status import STATUSES
from bench_core.suite.protocol import STANDARD

Reading = Literal["passes", "fires", "open", "none"]

CANNOT_JUDGE = "this recipe cannot judge d"
AT_CHANCE = "the interval of its floor reaches chance"
BEATS = STANDARD["d"].threshold
STILL = "blocks unchanged"
BELOW_BP = "bp floor"
ONE_SEED_OF_FLOOR = "its floor has one seed"
LOST_OF_FLOOR, LOST_OF_BP = "its floor lost runs", "bp's floor lost runs"
ONE_SEED_OF_BP, NONE_OF_BP = "bp's floor has one seed", "bp's floor has no finished run"
EQUAL = "its margin is the same in both seeds"
EQUAL_OF_BP = "its margin over bp's floor is the same in both seeds"
UNTRIED = "random blocks of another scale not tried"
UNTRIED_BELOW = "its random blocks of another scale not tried, and bp's not beaten"
ONE_SEED = 2.0  # points by which a single seed, which has no interval, must differ


@dataclass(frozen=True)
class Margin:
    """Percentage points over a floor.

    how   paired: by seed; unpaired: Welch's, as a seed has no twin; mean: the same without interval
    tied  it is equal in all seeds: its interval is that of the accuracies' rounding, of two seeds
          there is none
    """

    estimate: Estimate
    how: Literal["paired", "unpaired", "mean"] = "paired"
    seeds: tuple[int, ...] = ()
    floor_seeds: tuple[int, ...] = ()
    tied: bool = False


@dataclass(frozen=True)
class Verdict:
    """The verdict of a row: its kind, its text, and the form of `Standard.three`.

    kind      a key of `VERDICTS`, `FLOOR`, or the most frequent status if no run is done
    letters   of the diagnostics for which it is walked back, or flagged by a single seed
    below_bp  it is walked back, or flagged by a single seed, because it lies below bp with frozen
              blocks
    still     its blocks keep their initial weights in every run
    unread    letters of the margins that could not be judged
    unsure    what a margin lacks, if that leaves it undetermined
    """

    kind: str
    text: str
    three: str
    letters: tuple[str, ...] = ()
    below_bp: bool = False
    unread: tuple[str, ...] = ()
    unsure: str = ""
    still: bool = False


def margin(
    by_seed: Mapping[int, float],
    floor: Floor,
    scored: Scored = UNKNOWN,
    counts: bool = True,
) -> Margin | None:
    """Estimate the margin of accuracies by seed over a floor; None where one of them is missing.

    Equal margins have the interval of their rounding, of two seeds none
    (`bench_core.analysis.accuracies`).

    scored  the samples on which they were measured
    counts  whether accuracies are shares of a number of samples
    """
    if not by_seed or floor.mean is None:
        return None
    seeds, floor_seeds = tuple(sorted(by_seed)), tuple(sorted(floor.accuracies))
    how: Literal["paired", "unpaired", "mean"] = "paired"
    if not floor_seeds:
        sides = [[value - floor.mean for value in by_seed.values()]]
        over, roundings = estimate(sides[0]), 1 / len(seeds)
    elif by_seed.keys() <= floor.accuracies.keys():
        sides = [[by_seed[seed] - floor.accuracies[seed] for seed in seeds]]
        over, floor_seeds, roundings = estimate(sides[0]), seeds, 2 / len(seeds)
    else:
        sides = [[*by_seed.values()], [*floor.accuracies.values()]]
        over, how = welch_difference(*sides), "unpaired"
        roundings = 1 / len(seeds) + 1 / len(floor_seeds)
    step = scored.step([*by_seed.values(), *floor.accuracies.values()])
    over, tied = with_rounding(over, sides, roundings, step, True) if counts else (over, False)
    if how == "unpaired":
        over = replace(over, std=None)
        how = "mean" if over.half_width is None else how
    return Margin(over.scaled(100.0), how, seeds, floor_seeds, tied)


def points_of(over: Margin | None) -> Estimate | None:
    """Return the estimate of a margin, if there is one."""
    return None if over is None else over.estimate


def ends(mean: Estimate) -> tuple[float, float]:
    """Return the ends of the interval; without one, the mean twice."""
    half = mean.half_width or 0.0
    return mean.mean - half, mean.mean + half


def reading(points: Estimate | None, threshold: float, direction: str | None = "below") -> Reading:
    """Read a margin: a mean at the threshold or above with an interval above 0 passes.

    direction  of the threshold; above: a mean at the threshold or below it passes
    """
    if points is None or points.half_width is None:
        return "open"
    low, high = ends(points)
    if direction == "above":
        return "fires" if low > threshold else "passes" if points.mean <= threshold else "open"
    if round(points.mean, 9) >= threshold and low > 0:
        return "passes"
    return "fires" if round(high, 9) < threshold else "open"


def needless(lost: Estimate | None) -> bool:
    """Decide whether blocks need no training: with their initial weights the same embedding and
    readout are as accurate, within the points by which a rule must beat its floor.

    lost  points of accuracy that are lost with the initial weights; a single seed, or two with
          equal losses, have no interval and show what holds of these networks
    """
    if lost is None or lost.half_width is None:
        return lost is not None and round(lost.mean, 9) < BEATS
    return reading(lost, BEATS) == "fires"


def outdone(over: Estimate | None, limit: float) -> bool:
    """Decide whether blocks are not shown to beat random ones of another scale.

    over   the margin over these, which must pass as that over the floor must; without an interval
           it shows what holds of these networks
    """
    if over is None or over.half_width is None:
        return over is not None and round(over.mean, 9) < limit
    return reading(over, limit) != "passes"


def below_zero(points: Estimate | None) -> bool:
    """Decide whether the whole interval lies below 0."""
    return points is not None and points.half_width is not None and ends(points)[1] < 0


def beats(points: Estimate | None) -> bool:
    """Decide whether blocks are shown to beat random ones, by the points that the protocol asks."""
    return reading(points, BEATS) == "passes"


def worse(points: Estimate | None) -> bool:
    """Decide whether a margin is shown to be negative; a single seed needs `ONE_SEED` points."""
    alone = points is not None and points.half_width is None and round(points.mean, 9) <= -ONE_SEED
    return alone or below_zero(points)


def better(points: Estimate) -> bool:
    """Decide whether a margin is shown to be positive; a single seed needs `ONE_SEED` points."""
    if points.half_width is None:
        return round(points.mean, 9) >= ONE_SEED
    return round(ends(points)[0], 9) > 0


def at_chance(accuracies: Iterable[float], chance: float | None, scored: Scored = UNKNOWN) -> bool:
    """Decide whether chance lies in the interval of these accuracies, or above it.

    scored  the samples on which they were measured
    """
    values = list(accuracies)
    if chance is None or not values:
        return False
    return ends(of_accuracies(values, scored))[0] <= chance


def verdict(
    judgements: Sequence[Judgement],
    margins: Mapping[str, Reading],
    bp: Estimate | None,
    not_finite: int = 0,
    unsure: str = "",
    still: bool = False,
) -> Verdict:
    """Judge a row.

    margins     letter → reading of each diagnostic that compares the row with its floor
    bp          margin over bp with frozen blocks
    not_finite  number of done runs whose accuracy is not finite
    unsure      what a floor lacks: its seeds or its runs are too few for a verdict
    still       no block that may train has changed in any run
    """
    done = [item for item in judgements if item.status == "done"]
    lost = Counter(item.status for item in judgements if item.status != "done")
    total = len(judgements)
    parts = [f"{name} {lost[name]}/{total}" for name in STATUSES if lost[name]]
    if done and done[0].kind == FLOOR:
        return Verdict(FLOOR, ", ".join([FLOOR, *parts]), FLOOR.upper())
    if not done:
        kind = max(lost, key=lambda name: lost[name])
        return Verdict(kind, ", ".join(parts), kind.upper())
    missing = {letter for item in done for letter in item.missing}
    unread = in_order({letter for letter, read in margins.items() if read == "none"} - missing)
    unjudged = [f"{'+'.join(unread)} not judged"] * bool(unread)
    if len(done) == 1:
        flags = [done[0].text] * (done[0].kind != NO_FLAG)
        flags += [BELOW_BP] * worse(bp) + [STILL] * still
        text = ", ".join([SINGLE_SEED, *flags, *unjudged, *parts])
        fired = in_order(done[0].fired)
        three = _three(FLAGGED.upper(), fired) or SINGLE_SEED.upper()
        return Verdict(SINGLE_SEED, text, three, fired, worse(bp), unread, still=still)
    letters, reasons = _against(done, total, margins, missing)
    reasons += [BELOW_BP] * below_zero(bp) + [STILL] * still
    reasons += [f"accuracy not finite {not_finite}/{total}"] * bool(not_finite)
    unclear = [f"{'+'.join(in_order(missing))} not measured"] * bool(missing)
    unclear += unjudged + [unsure] * bool(unsure)
    if reasons:
        kind = WALKED_BACK
        unsure *= unsure not in (UNTRIED, UNTRIED_BELOW)  # which only `trustworthy` needs
    elif lost or unclear:
        kind, reasons = UNDETERMINED, unclear
    else:
        passed = all(read == "passes" for read in margins.values())
        kind = TRUSTWORTHY if passed else NOT_SEPARATED
    doubtful = missing | {letter for letter, read in margins.items() if read != "passes"}
    three = _three("FAIL", letters) or "FAIL" * (still or bool(not_finite))
    three = three or _three(UNDETERMINED.upper(), doubtful)
    three = three or (UNDETERMINED.upper() if lost or unsure else "PASS")
    text = ", ".join([f"{kind} ({', '.join(reasons)})" if reasons else kind, *parts])
    lacks = unsure if kind == UNDETERMINED else ""
    return Verdict(kind, text, three, letters, below_zero(bp), unread, lacks, still)


def _against(
    done: Sequence[Judgement], total: int, margins: Mapping[str, Reading], missing: Set[str]
) -> tuple[tuple[str, ...], list[str]]:
    """Return the letters that walk a rule back, and each with its share of the runs.

    A diagnostic that compares with a floor counts by the margin over all seeds, unless a run did
    not measure it or calls it not diagnostic; the others count in every run that fires.
    """
    counts = Counter(letter for item in done for letter in item.fired if letter not in margins)
    muted = {letter for item in done for letter, _ in item.not_diagnostic}
    below = {letter for letter, read in margins.items() if read == "fires"} - missing - muted
    letters = in_order(counts.keys() | below)
    return letters, [
        letter if counts[letter] in (0, len(done)) else f"{letter} {counts[letter]}/{total}"
        for letter in letters
    ]


def _three(word: str, letters: Iterable[str]) -> str:
    among = set(letters)
    names = [item.three for letter, item in STANDARD.items() if item.three and letter in among]
    return f"{word}({'+'.join(names)})" if names else ""
