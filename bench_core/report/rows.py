"""Compute the figures of a leaderboard row: medians, Γ, passport, trust, and reasons.

Measurements are medians over the finished runs, because one run-away run would determine a mean. Γ,
a cosine, is a mean with its interval. A value that is not finite becomes None, with a note.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import fmean, median

from bench_core.analysis.judge import (
    AT_FLOOR,
    Alignment,
    Settings,
    alignment,
    letter_order,
    threshold_of,
)
from bench_core.analysis.leaderboard import Group, Row, Run
from bench_core.analysis.stats import Estimate, estimate
from bench_core.report.criteria import Criterion
from bench_core.report.numbers import NOT_FINITE, fraction

N = 128  # the batch that a printed ‖g‖ belongs to; the store keeps per-sample values
PASSPORT = {
    "exact_hidden_gradients": ("G", "exact hidden gradients"),
    "weight_transport": ("W", "weight transport"),
    "labels_below_head": ("Y", "labels below the head"),
    "extra_forward_passes": ("F", "extra forward passes"),
    "learned_feedback": ("L", "learned feedback"),
    "non_local_state": ("S", "non-local state"),
    "exact_top_credit": ("T", "exact top credit"),
}
OTHER = ("X", "something else that its plugin names")


@dataclass(frozen=True)
class Median:
    """A median over the runs of a row; None with a note if the value is not finite."""

    value: float | None
    note: str | None = None


def median_of(values: Iterable[float | None]) -> Median:
    """Return the median. NaN counts as infinitely large, so that healthy seeds do not hide it."""
    known = [math.inf if math.isnan(value) else value for value in values if value is not None]
    if not known:
        return Median(None)
    middle = median(known)
    return Median(middle) if math.isfinite(middle) else Median(None, NOT_FINITE)


def _values(runs: Iterable[Run], letter: str) -> list[float | None]:
    """Return the stored values of a diagnostic."""
    measured = (run.judged.get(letter) for run in runs)
    return [entry[1].value for entry in measured if entry is not None]


def value_of(row: Row, letter: str) -> Median:
    """Return the median value of a diagnostic, divided by N where it is per sample.

    That of b is ‖g_L‖ of a batch mean of N = 128 samples.
    """
    stored = median_of(_values(row.finished, letter))
    if stored.value is None:
        return stored
    named = next(run.judged[letter] for run in row.finished if letter in run.judged)
    return Median(Criterion(letter, *named).shown(stored.value))


@dataclass(frozen=True)
class Gamma:
    """Γ deep over the finished runs.

    not_diagnostic  why the value means nothing; it must be struck through, with this reason
    in_use          False: no block learns from this credit yet; the value has a mark
    """

    estimate: Estimate | None
    not_diagnostic: str | None
    in_use: bool = True


def alignments(row: Row) -> list[Alignment]:
    """Return the alignment of each finished run that has one."""
    read = (alignment(run.record, run.judgement) for run in row.finished)
    return [item for item in read if item is not None]


def gamma(row: Row) -> Gamma:
    """Return the mean of Γ deep.

    It is not diagnostic if it is not in one run, because part of the mean is then rounding.
    """
    read = alignments(row)
    values = [item.deep for item in read if item.deep is not None]
    reasons = [item.not_diagnostic for item in read if item.not_diagnostic is not None]
    reason = None
    if reasons:
        reason = AT_FLOOR if AT_FLOOR in reasons else min(reasons)
        if len(reasons) < len(read):
            reason += f" in {len(reasons)} of {len(read)} runs"
    in_use = all(item.in_use for item in read)
    return Gamma(estimate(values) if values else None, reason, in_use)


def passport(row: Row) -> str:
    """Return the codes of the information that the rule uses.

    `local` if it declares none; empty if no run has a passport.
    """
    declared = [run.record.passport for run in row.runs if run.record.passport]
    if not declared:
        return ""
    used = {name for flags in declared for name, flag in flags.items() if flag}
    codes = [code for name, (code, _) in PASSPORT.items() if name in used]
    return " ".join(codes + ([OTHER[0]] if used - PASSPORT.keys() else [])) or "local"


def by_passport(group: Group) -> Group:
    """Put rows with equal passports together, the shortest first; ranks stay the recipe's."""

    def key(row: Row) -> tuple[int, str]:
        codes = passport(row)
        if codes == "local":
            return 0, codes
        return len(codes.split()) or len(PASSPORT) + 1, codes

    return replace(group, rows=tuple(sorted(group.rows, key=key)))


def trust(run: Run, settings: Settings) -> str:
    """Return the trust in a run: posted, checked, replicated or disputed (`results.marks`)."""
    return settings.trust.get(run.record.checksum or "", "posted")


def why(row: Row, settings: Settings) -> list[str]:
    """Write why a row is walked back, one sentence for each diagnostic that fired.

    A sentence has the median over the runs in which the diagnostic fired, or for d the mean, like
    the column of the margin.
    """
    fired: dict[str, list[Run]] = {}
    for run in row.runs:
        for letter in run.judgement.fired:
            fired.setdefault(letter, []).append(run)
    floor = {"matched": "their frozen twins"}.get(row.floor.kind, row.floor.name)
    if row.floor.kind == "literal" and row.floor.mean is not None:
        floor = f"the given floor of {fraction(row.floor.mean)}"
    residual = row.runs[0].record.cell.arch.params.get("residual") is True
    words = {"floor": floor, "state": "residual stream" if residual else "hidden state"}
    lines = []
    for letter in sorted(fired, key=letter_order):
        runs = fired[letter]
        criterion = Criterion(letter, *runs[0].judged[letter])
        if criterion.margin:
            margins = [run.judgement.margin for run in runs]
            finite = [m for m in margins if m is not None and math.isfinite(m)]
            value = fmean(finite) if finite else None
        else:
            value = median_of(_values(runs, letter)).value
        limit = threshold_of(criterion.name, criterion.item, settings.thresholds) or 0.0
        text = criterion.sentence(value, limit, **words)
        lines.append(
            text if len(runs) == len(row.runs) else f"{text} in {len(runs)} of {len(row.runs)} runs"
        )
    return lines
