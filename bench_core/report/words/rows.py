"""Compute the figures of a leaderboard row: medians, Γ, passport, and its floor.

Measurements are medians over the finished runs, because one run-away run would determine a mean. Γ,
a cosine, is a mean with its interval. A value that is not finite becomes None, with a note.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from bench_core.analysis.stats import Estimate, estimate, median_of
from bench_core.analysis.verdicts.alignment import NO_CREDIT, NO_DIRECTION, Alignment, alignment
from bench_core.analysis.verdicts.floors import explained
from bench_core.analysis.verdicts.judge import Floor
from bench_core.analysis.verdicts.labels import method_key
from bench_core.analysis.verdicts.roles import matched_floor, unscaled
from bench_core.analysis.verdicts.rows import Group, Row, Run
from bench_core.analysis.verdicts.settings import Settings
from bench_core.analysis.verdicts.verdict import BEATS, ends, points_of
from bench_core.names import CEILINGS_FLOOR, bare_name
from bench_core.report.text.escape import visible
from bench_core.report.text.numbers import (
    apart,
    cosine,
    decimals,
    fraction,
    unsigned,
    with_interval,
)
from bench_core.report.words.criteria import Criterion
from bench_core.results.record import ComponentRef, Measurement
from bench_core.results.reference import source
from bench_core.suite.cells import built_in
from bench_core.suite.protocol import AT_FLOOR

N = 128  # the batch that a printed ‖g‖ belongs to; the store keeps per-sample values
NOT_FINITE = "it is not finite"
BP_FLOOR = "bp with random blocks"
PASSPORT = {
    "exact_hidden_gradients": ("G", "gradients by backpropagation inside the blocks"),
    "weight_transport": ("W", "transposed weights of later blocks"),
    "labels_below_head": ("Y", "labels below the readout"),
    "extra_forward_passes": ("F", "extra forward passes"),
    "learned_feedback": (
        "L",
        "parts of its own that change in training: feedback that learns, or a memory",
    ),
    "non_local_state": ("S", "outputs of other blocks"),
    "exact_top_credit": ("T", "the gradient of the loss at the last block's output"),
    "local_heads": ("H", "readouts of its own at the blocks"),
}
LOCAL = "a block's own activity and the output error alone"
OTHER = ("X", "something else that its plugin names")


def value_of(row: Row, letter: str) -> float | None:
    """Return the median value of a diagnostic, divided by N where it is per sample (‖g_L‖).

    letter  by which it judges, or the name of one that judges nothing
    """
    found = _found(row, letter)
    stored = median_of(item.value for _, item in found)
    return None if stored is None else Criterion(letter, *found[0]).shown(stored)


def seeds_of(row: Row, letter: str) -> int:
    """Count the finished runs over which `value_of` takes the median."""
    return sum(item.value is not None for _, item in _found(row, letter))


def _found(row: Row, letter: str) -> list[tuple[str, Measurement]]:
    """Return name and measurement of a diagnostic in each finished run that has it."""
    named = [run.deciding[letter] for run in row.finished if letter in run.deciding]
    if named:
        return named
    known = ((letter, run.record.measurements.get(letter)) for run in row.finished)
    return [(name, item) for name, item in known if item and _counts(item)]


def _counts(item: Measurement) -> bool:
    """Decide whether a value enters a median: NaN does, whatever the run says of its meaning."""
    return item.not_diagnostic is None or (item.value is not None and math.isnan(item.value))


@dataclass(frozen=True)
class Gamma:
    """Γ deep over the finished runs.

    not_diagnostic  why the value means nothing; it must be struck through, with this reason
    in_use          False: no block learns from this credit yet; the value has a mark
    blocks          Γ deep of the credit from which the blocks learn; None: it is this one
    """

    estimate: Estimate | None
    not_diagnostic: str | None
    in_use: bool = True
    blocks: Estimate | None = None


def alignments(row: Row) -> list[Alignment]:
    """Return the alignment of each finished run that has one."""
    read = (alignment(run.record, run.judgement) for run in row.finished)
    return [item for item in read if item is not None]


def gamma(row: Row) -> Gamma:
    """Return the mean of Γ deep; part of it is rounding if Γ means nothing in one run."""
    read = alignments(row)
    values = [item.deep for item in read if item.deep is not None]
    counts = Counter(item.not_diagnostic for item in read if item.not_diagnostic is not None)
    counts[NOT_FINITE] = sum(
        item.deep is None and item.has_deep and not item.not_diagnostic for item in read
    )
    counts = +counts
    reasons = [
        reason if count == len(read) else f"{reason} in {count} of {len(read)} runs"
        for reason, count in sorted(counts.items(), key=lambda one: (one[0] != AT_FLOOR, one))
    ]
    reason = " and ".join(reasons) or None
    in_use = all(item.in_use for item in read)
    blocks = [item.blocks_deep for item in read if item.blocks_deep is not None]
    deep, own = (estimate(each) if each else None for each in (values, blocks))
    return Gamma(deep, reason, in_use, own)


def gamma_by_state(row: Row) -> dict[int, list[float]]:
    """Map l → Γ_l of the finished runs; empty if Γ means nothing in one of them, or is not in use.

    States are left out at which a run has none, such as h_L of a residual network.
    """
    read = alignments(row)
    if not all(item.in_use and item.not_diagnostic is None for item in read):
        return {}
    stored = [run.record.measurements.get("alignment") for run in row.finished]
    sites = [item.details.get("sites") for item in stored if item is not None]
    every = [
        dict(
            zip(
                own if isinstance(own, list) else range(len(item.layers)), item.layers, strict=False
            )
        )
        for own, item in zip(sites, read, strict=True)
    ]
    values = {
        layer: [of_run.get(layer) for of_run in every] for layer in (every[0] if every else ())
    }
    return {
        layer: [value for value in own if value is not None]
        for layer, own in values.items()
        if isinstance(layer, int) and None not in own
    }


def compared(distance: Measurement) -> str:
    """Write the number of samples behind d_BP: `119 of 1,280`, or `1,280` if it is the probe's."""
    samples, probe = (distance.details.get(key) for key in ("samples", "probe"))
    return f"{samples:,}" + (f" of {probe:,}" if probe not in (None, samples) else "")


def information(runs: Iterable[Run]) -> set[str] | None:
    """Return the names of the information that a rule uses; None if no run has a passport."""
    declared = [run.record.passport for run in runs if run.record.passport]
    used = {name for flags in declared for name, flag in flags.items() if flag}
    return used if declared else None


def other_information(used: set[str] | None) -> list[str]:
    """Return the names that no passport lists, escaped."""
    return sorted(visible(name) for name in (used or set()) - PASSPORT.keys())


def passport(row: Row) -> str:
    """Return the codes of the information used, `local` for none; empty if undeclared."""
    used = information(row.runs)
    if used is None:
        return ""
    codes = [code for name, (code, _) in PASSPORT.items() if name in used]
    return " ".join(codes + ([OTHER[0]] if used - PASSPORT.keys() else [])) or "local"


def by_passport(group: Group) -> Group:
    """Put rows with equal passports together, the shortest first; ranks stay the recipe's."""

    def key(row: Row) -> tuple[int, str]:
        codes = passport(row)
        used = 0 if codes == "local" else len(codes.split()) or len(PASSPORT) + 1
        return used, codes

    return replace(group, rows=tuple(sorted(group.rows, key=key)))


def random_blocks(row: Row) -> str:
    """Name the floor by which a row is judged: networks whose blocks stay random."""
    if row.floor.kind == "literal" and row.floor.mean is not None:
        return f"the given floor of {fraction(row.floor.mean)}"
    return "random blocks" if row.floor.kind == "matched" else row.floor.name


def read_floor(row: Row) -> str:
    """Name the floor of the margin by which d judges a row (`Row.read`)."""
    return BP_FLOOR if row.replaced else random_blocks(row)


def bare_labels(rows: Sequence[Row]) -> list[str]:
    """Return the labels without the distribution where no other rule of the rows has the name."""
    refs = {row.method.name: row.method.short for row in rows}
    bare = {name: bare_name(name) for name in refs}
    count = Counter(bare.values())
    labels = []
    for row in rows:
        name, short = row.method.name, row.method.short
        ours = short == bare[name] or bare[name] not in built_in()
        alone = bare[name] and count[bare[name]] == 1 and ours
        labels.append(bare[name] + row.label.removeprefix(short) if alone else row.label)
    return labels


def cost_of_reset(lost: Estimate) -> str:
    """Write what the initial weights cost, from the points that are lost with them."""
    verb = "gains" if lost.mean < 0 else "costs"
    interval = "" if lost.half_width is None else f" ± {decimals(lost.half_width, 1)}"
    points = apart(abs(lost.mean), BEATS, decimals, 1) + interval
    return f"putting all its blocks back to their initial weights {verb} {points} points"


def aimless(row: Row) -> str:
    """Write why a row is not known to learn from the direction of the gradient."""
    deep = gamma(row)
    own = deep.blocks or deep.estimate
    if NO_CREDIT in (deep.not_diagnostic or ""):
        return "it shows no credit whose direction could be measured"
    if not deep.in_use:
        return "its blocks have not learnt from the credit that it shows"
    if deep.not_diagnostic or own is None:
        because = f" ({deep.not_diagnostic})" * bool(deep.not_diagnostic)
        return f"whether its credit has the direction of the gradient is not known{because}"
    if untried := next((item.untried for item in alignments(row) if item.untried), ""):
        return f"its step could not be compared with the gradient ({untried})"
    steps = [run.record.measurements.get("projected_step") for run in row.finished]
    judged = [item.value for item in steps if item and not item.not_diagnostic]
    known = [value for value in judged if value is not None]
    if known and fmean(known) < own.mean:
        values = f"(cosine {cosine(fmean(known))}; Γ deep of the credit that it shows "
        values += f"{cosine(own.mean)})"
        return f"its blocks do not step in the direction of the gradient {values}"
    if own.mean >= NO_DIRECTION:
        scatter = f"(Γ deep {with_interval(own, 3)})"
        return f"its credit shows no direction beyond its scatter over the seeds {scatter}"
    value = f"(Γ deep {cosine(own.mean)})"
    return f"its blocks learn from a credit without the direction of the gradient {value}"


def over_rescaled(row: Row) -> str:
    """Write the points of a row over random blocks of another scale."""
    over, floor = points_of(row.rescaled.over), row.rescaled.floor
    if over is None or floor is None:
        return ""
    way = "below" if over.mean < 0 else "over"
    points = unsigned(over) if over.mean < 0 else with_interval(over)
    return f"{points} points {way} random blocks of another scale ({floor.name})"


def bp_floor(rows: Iterable[Row]) -> float | None:
    """Return the mean accuracy of backpropagation with random blocks and no other option."""
    label = CEILINGS_FLOOR
    floor = next((row for row in rows if row.label == label), None)
    return floor.accuracy.mean if floor is not None and floor.accuracy is not None else None


def bp_rescaled(rows: Iterable[Row]) -> tuple[Floor, float] | None:
    """Return backpropagation's best floor of another scale and its mean, if that is above the
    drawn blocks."""
    every = list(rows)
    drawn = bp_floor(every)
    found = next((row.rescaled.floor for row in every if row.role == "ceiling"), None)
    if found is None or found.mean is None or drawn is None or found.mean <= drawn:
        return None
    return found, found.mean


def names_of(rows: Sequence[Row]) -> dict[str, str]:
    """Map the label of each row to its label without the distribution, as `bare_labels`."""
    return {row.label: name for row, name in zip(rows, bare_labels(rows), strict=True)}


def families(group: Group, settings: Settings) -> list[tuple[Row, list[Row]]]:
    """Return each rule with its own floors, in the order of the leaderboard.

    Rules that share floors have them below the first of them. A floor without a rule comes last.
    """

    def key(ref: ComponentRef) -> str:
        return method_key(unscaled(ref), defaults=settings.defaults)

    floors: dict[str, list[Row]] = defaultdict(list)
    for row in group.rows:
        if row.role == "floor":
            floors[key(row.method)].append(row)
    pairs = [(row, floors.pop(key(matched_floor(row.method)), [])) for row in group.competing]
    return pairs + [(row, list[Row]()) for own in floors.values() for row in own]


def shipped(row: Row) -> str:
    """Say of which version of the reference the runs of a row are, their dates and hardware."""
    return source([run.record for run in row.runs])


def chance_of(row: Row) -> float | None:
    """Return the accuracy of always naming the commonest class, if a run states it; 0 where it is
    explained variance, that of the mean."""
    known = (run.record.chance for run in row.runs)
    guess = 0.0 if explained(run.record for run in row.runs) else None
    return next((value for value in known if value is not None), guess)


def lacks_seeds(row: Row) -> bool:
    """Decide whether the floor of a row reaches chance by the width of its interval alone.

    Its mean lies 2 points or more above the share of the commonest class.
    """
    share = chance_of(row)
    return (
        share is not None
        and row.floor.mean is not None
        and (100 * (row.floor.mean - share) >= BEATS)
    )


def guesses(row: Row) -> bool:
    """Decide whether a rule is no more accurate than the commonest class.

    Its mean is less than 2 points higher, and its interval reaches the share of that class.
    """
    share = chance_of(row)
    if share is None or row.accuracy is None:
        return False
    return ends(row.accuracy)[0] <= share and 100 * (row.accuracy.mean - share) < BEATS


def chance(row: Row) -> str:
    """Write the accuracy of guessing: `chance (.689, the commonest class of the test set)`."""
    share = chance_of(row)
    if share is None:
        return "chance"
    if explained(run.record for run in row.runs):
        return "0 (no variance is explained)"
    return f"chance ({fraction(share)}, the commonest class of the test set)"
