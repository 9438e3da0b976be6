"""Say in plain words which rules train their blocks, and which only seem to.

The words are for readers who do not know the diagnostics yet. A single seed carries no verdict: it
is sorted by the flags of its run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench_core.analysis.stats import Estimate
from bench_core.analysis.verdicts.kinds import (
    FLAGGED,
    NO_FLAG,
    SINGLE_SEED,
    TRUSTWORTHY,
    WALKED_BACK,
)
from bench_core.analysis.verdicts.rows import Group, Row
from bench_core.analysis.verdicts.verdict import BEATS, beats, ends, points_of, reading
from bench_core.report.text.layout import joined, listed
from bench_core.report.text.numbers import plural, share, unsigned, with_interval
from bench_core.report.words.rows import (
    BP_FLOOR,
    bare_labels,
    cost_of_reset,
    over_rescaled,
    read_floor,
)
from bench_core.report.words.summary import fires, inflected, letters, rules

TRAIN = "Blocks that train"
FIRES = "Blocks that train, but a diagnostic fires"
LOOK = "Blocks that do not train, or only seem to"
OPEN = "Not decided"


@dataclass(frozen=True)
class Line:
    """A rule, and what its numbers say of its blocks."""

    label: str
    row: Row
    text: str


def sorted_rules(group: Group) -> dict[str, list[Line]]:
    """Map each heading to the rules below it, the most accurate first; empty headings stay out."""
    labels = dict(zip(map(id, group.rows), bare_labels(group.rows), strict=True))
    lines = [(_heading(row), Line(labels[id(row)], row, _text(row))) for row in rules(group.rows)]
    by_heading = {
        head: [line for own, line in lines if own == head] for head in (TRAIN, FIRES, LOOK, OPEN)
    }
    return {head: own for head, own in by_heading.items() if own}


def caution(group: Group) -> str:
    """Say that a rule with one finished seed has no verdict; empty if every rule has more."""
    single = [row for row in rules(group.rows) if row.verdict.kind == SINGLE_SEED]
    if not single:
        return ""
    if len(single) < len(rules(group.rows)):
        return "A rule with n = 1 has no verdict yet: another seed may move it to another list."
    seeds = {run.record.cell.seed for row in single for run in row.finished}
    which = f" ({listed(map(str, sorted(seeds)))})" if len(seeds) == 1 else ""
    return (
        f"Each rule has one finished seed{which}. One seed carries no verdict: another one may "
        "move a rule to another list."
    )


def is_decided(row: Row) -> bool:
    """Decide whether the verdict of a rule, over more than one seed, says if its blocks train."""
    return row.verdict.kind != SINGLE_SEED and _heading(row) != OPEN


def _heading(row: Row) -> str:
    kind = row.verdict.kind
    if kind == SINGLE_SEED:
        kind = next(run.judgement.kind for run in row.runs if run.record.status == "done")
    bad, judged, over = kind in (WALKED_BACK, FLAGGED), row.verdict, row.read
    random = "d" in judged.letters or not judged.letters
    needless = row.dispensable and over is not None and over.mean >= BEATS
    scaled = points_of(row.rescaled.over)
    clear = scaled is not None and (scaled.half_width is None or reading(scaled, BEATS) == "fires")
    outdone = row.rescaled.outdone and clear and over is not None and over.mean >= BEATS
    if judged.still or judged.below_bp or needless or outdone or (bad and random):
        return LOOK
    if over is None or "d" in row.verdict.unread or not (bad or kind in (TRUSTWORTHY, NO_FLAG)):
        return OPEN
    shown = beats(over) or (over.half_width is None and over.mean >= BEATS)
    if not bad:
        return TRAIN if shown or kind == TRUSTWORTHY else OPEN
    if over.half_width is not None:
        return FIRES if shown else LOOK if reading(over, BEATS) == "fires" else OPEN
    return FIRES if shown else OPEN if over.mean > 0 else LOOK


def _text(row: Row) -> str:
    """Write `accuracy .299 (n = 1), 5.3 points lower than with random blocks; it lets …`."""
    if row.accuracy is None:
        return "no finished run"
    text = f"accuracy {share(row.accuracy.mean, row.accuracy.half_width)} (n = {row.accuracy.n})"
    text += ", " + joined(_margins(row))
    if row.over_read is not None and row.over_read.how == "unpaired":
        text += f" (unpaired: the floor has {plural(len(row.over_read.floor_seeds), 'seed')})"
    if row.reset is not None and row.dispensable:
        text += f"; {cost_of_reset(row.reset)}"
    if row.rescaled.outdone:
        text += f"; {over_rescaled(row)}"
    phrases = [inflected(fires(row, item), one=True) for item in letters(row) if not item.margin]
    return text + (f"; it {joined(phrases)}" if phrases else "")


def _margins(row: Row) -> Iterator[str]:
    over, floor, bp = row.read, read_floor(row), row.margin_bp
    if over is None:
        yield "no floor of its own to compare with yet"
    else:
        yield _compared(over, floor, "than" if floor == BP_FLOOR else "than with")
    if bp is not None and bp.mean < 0 and floor != BP_FLOOR:
        yield _compared(bp, BP_FLOOR, "than")


def _compared(points: Estimate, floor: str, than: str) -> str:
    """Write `5.0 ± 0.6 points lower than FLOOR`; whether it is lower stays open around 0."""
    low, high = ends(points)
    if low <= 0 <= high:
        return f"not told apart from {floor} ({with_interval(points)} points)"
    return f"{unsigned(points)} points {'lower' if high < 0 else 'higher'} {than} {floor}"
