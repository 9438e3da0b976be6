"""Compute the figures of a leaderboard row: medians, Γ, passport, trust, and reasons.

Measurements are medians over the finished runs, because one run-away run would determine a mean. Γ,
a cosine, is a mean with its interval. A value that is not finite becomes None, with a note.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import median

from bench_core.analysis import judge
from bench_core.analysis.judge import Alignment, Settings
from bench_core.analysis.leaderboard import Group, Row, Run
from bench_core.analysis.stats import Estimate, estimate
from bench_core.analysis.verdict import below_zero
from bench_core.report.criteria import Criterion
from bench_core.report.escape import visible
from bench_core.report.numbers import finite, fraction, with_interval
from bench_core.results.record import Measurement

N = 128  # the batch that a printed ‖g‖ belongs to; the store keeps per-sample values
PASSPORT = {
    "exact_hidden_gradients": ("G", "exact hidden gradients"),
    "weight_transport": ("W", "weight transport"),
    "labels_below_head": ("Y", "labels below the head"),
    "extra_forward_passes": ("F", "extra forward passes"),
    "learned_feedback": ("L", "learned feedback"),
    "non_local_state": ("S", "non-local state"),
    "exact_top_credit": ("T", "exact top credit"),
    "local_heads": ("H", "local heads"),
}
OTHER = ("X", "something else that its plugin names")


def median_of(values: Iterable[float | None]) -> float | None:
    """Return the median. NaN counts as infinitely large, so that healthy seeds do not hide it."""
    known = [math.inf if math.isnan(value) else value for value in values if value is not None]
    return median(known) if known else None


def value_of(row: Row, letter: str) -> float | None:
    """Return the median value of a diagnostic, divided by N where it is per sample (‖g_L‖)."""
    named = [run.judged[letter] for run in row.finished if letter in run.judged]
    stored = median_of(item.value for _, item in named)
    return None if stored is None else Criterion(letter, *named[0]).shown(stored)


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
    read = (judge.alignment(run.record, run.judgement) for run in row.finished)
    return [item for item in read if item is not None]


def gamma(row: Row) -> Gamma:
    """Return the mean of Γ deep; part of it is rounding if Γ means nothing in one run."""
    read = alignments(row)
    values = [item.deep for item in read if item.deep is not None]
    reasons = [item.not_diagnostic for item in read if item.not_diagnostic is not None]
    reason = None
    if reasons:
        reason = judge.AT_FLOOR if judge.AT_FLOOR in reasons else min(reasons)
        if len(reasons) < len(read):
            reason += f" in {len(reasons)} of {len(read)} runs"
    in_use = all(item.in_use for item in read)
    return Gamma(estimate(values) if values else None, reason, in_use)


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


def trust(run: Run, settings: Settings) -> str:
    """Return the trust in a run: posted, checked, replicated or disputed (`results.marks`)."""
    return settings.trust.get(run.record.checksum or "", "posted")


def floor_words(row: Row) -> str:
    """Name the floor by which a row is judged."""
    if row.floor.kind == "literal" and row.floor.mean is not None:
        return f"the given floor of {fraction(row.floor.mean)}"
    return "their frozen twins" if row.floor.kind == "matched" else row.floor.name


def why(row: Row, settings: Settings) -> list[str]:
    """Write why a row is walked back or flagged, a sentence for each reason.

    A sentence has the median over the runs in which the diagnostic fired, for d the margin.
    """
    residual = row.runs[0].record.cell.arch.params.get("residual") is True
    words = {
        "floor": floor_words(row),
        "state": "residual stream" if residual else "hidden state",
    }
    lines = []
    done = [run for run in row.runs if run.record.status == "done"]
    for letter in row.judged.letters:
        runs = [run for run in done if letter in run.judged]
        criterion = Criterion(letter, *runs[0].judged[letter])
        limit = criterion.limit(settings.thresholds) or 0.0
        if criterion.margin and row.margin is None:
            continue  # the accuracy is not finite, which stands below
        if criterion.margin and row.margin is not None:
            half = row.margin.half_width
            interval = "" if half is None else f" ± {half:.1f}"
            lines.append(criterion.sentence(row.margin.mean, limit, interval, **words))
            continue
        fired = [run for run in runs if letter in run.judgement.fired]
        value = finite(median_of(run.judged[letter][1].value for run in fired))
        part = "" if len(fired) == len(row.runs) else f" in {len(fired)} of {len(row.runs)} runs"
        lines.append(criterion.sentence(value, limit, **words) + part)
    if broken := len(done) - len(row.finished):
        lines.append(f"accuracy is not finite in {broken} of {len(row.runs)} runs")
    if row.judged.kind == "walked back" and below_zero(row.margin_bp):
        lines.append(f"worse than random blocks under bp ({with_interval(row.margin_bp)} pp)")
    return lines
