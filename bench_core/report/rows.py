"""Figures of a leaderboard row, and the words for what they mean: values, units and notes, before any format.

Measurements that the verdict compares are shown as medians over the finished runs, because after a run-away a mean is
the largest seed; Γ, a cosine, as a mean with its interval. A value that is not finite is never printed as such: the
figure is None with a note that says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import median

from bench_core.analysis.judge import AT_FLOOR, Settings, alignment, judged, threshold_of
from bench_core.analysis.leaderboard import Group, Row, Run
from bench_core.analysis.stats import Estimate, estimate
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
}
OTHER = ("X", "something else that its plugin names")
NOT_FINITE = "not finite"


@dataclass(frozen=True)
class Figure:
    """A number over the runs of a row; None with a note where there is none that may be printed."""

    value: float | None
    note: str | None = None


def over_runs(values: Iterable[float | None]) -> Figure:
    """The median; NaN counts as infinitely large, so that it cannot hide among healthy seeds."""
    found = [math.inf if math.isnan(value) else value for value in values if value is not None]
    if not found:
        return Figure(None)
    middle = median(found)
    return Figure(middle) if math.isfinite(middle) else Figure(None, NOT_FINITE)


def _values(runs: Iterable[Run], letter: str) -> list[float | None]:
    found = (judged(run.record.measurements).get(letter) for run in runs)
    return [entry[1].value for entry in found if entry is not None]


def growth(row: Row) -> Figure:
    """The value of diagnostic a."""
    return over_runs(_values(row.finished, "a"))


def reference(row: Row) -> Figure:
    """‖g_L‖ under a batch mean of N samples: the value of diagnostic b, which is per sample, divided by N."""
    figure = over_runs(_values(row.finished, "b"))
    return figure if figure.value is None else Figure(figure.value / N)


@dataclass(frozen=True)
class Gamma:
    """Γ deep over the finished runs; with `not_diagnostic` it must be shown struck through, with the reason, and with a mark
    where it is of a credit that is not `in_use` yet."""

    estimate: Estimate | None
    not_diagnostic: str | None
    in_use: bool = True


def gamma(row: Row) -> Gamma:
    """One run whose reference lies at the floor strikes the mean: part of it would be rounding."""
    found = [
        item for run in row.finished if (item := alignment(run.record, run.judgement)) is not None
    ]
    values = [item.deep for item in found if item.deep is not None]
    reasons = [item.not_diagnostic for item in found if item.not_diagnostic is not None]
    reason = None
    if reasons:
        first = AT_FLOOR if AT_FLOOR in reasons else min(reasons)
        reason = (
            first
            if len(reasons) == len(found)
            else f"{first} in {len(reasons)} of {len(found)} runs"
        )
    return Gamma(estimate(values) if values else None, reason, all(item.in_use for item in found))


def passport(row: Row) -> str:
    """Codes of the information that the rule uses; `local` when it declares none, empty when no run told."""
    declared = [run.record.passport for run in row.runs if run.record.passport]
    if not declared:
        return ""
    used = {name for flags in declared for name, flag in flags.items() if flag}
    codes = [code for name, (code, _) in PASSPORT.items() if name in used]
    return " ".join(codes + ([OTHER[0]] if used - PASSPORT.keys() else [])) or "local"


def by_passport(group: Group) -> Group:
    """The same rows with equal passports together, those that use least first; ranks stay those of the whole recipe."""

    def key(row: Row) -> tuple[int, str]:
        codes = passport(row)
        return (
            0 if codes == "local" else len(codes.split()) if codes else len(PASSPORT) + 1
        ), codes

    return replace(group, rows=tuple(sorted(group.rows, key=key)))


def trust(run: Run, settings: Settings) -> str:
    """posted, checked, replicated or disputed (`bench_core.results.marks`)."""
    return settings.trust.get(run.record.checksum or "", "posted")


def seconds(row: Row) -> Figure:
    return over_runs(run.record.seconds for run in row.finished)


def memory(row: Row) -> Figure:
    return over_runs(run.record.peak_memory_bytes for run in row.finished)


def passes(row: Row) -> Figure:
    return over_runs(run.record.forward_passes for run in row.finished)


# ------------------------------------------------------------------------------------------------------------ in words


def fraction(value: float) -> str:
    """`.306`, `1.000`, `-.004`."""
    text = f"{value:.3f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def signed(value: float, digits: int = 1) -> str:
    """`+4.3`, `-4.3`, and never `-0.0`."""
    text = f"{value:+.{digits}f}"
    return text if float(text) != 0 else text.replace("-", "+")


def _apart(value: float, limit: float, shown: list[str]) -> str:
    """The shortest of the given spellings that does not look equal to the limit."""
    return next((text for text in shown if float(text) != limit), shown[-1])


def compact(value: float) -> str:
    """Three figures: `694`, `8.84`, `4.2e+08`."""
    return f"{value:.3g}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.1e}"


def _beyond(value: float, limit: float) -> str:
    return _apart(value, limit, [compact(value), f"{value:.6g}", repr(value)])


def _why(
    row: Row, letter: str, name: str, item: Measurement, value: float | None, limit: float
) -> str:
    """One fired diagnostic in words; value None stands for a measurement that was not finite."""
    small = (
        _apart(value / N, limit / N, [f"{value / N:.1e}", f"{value / N:.4e}", repr(value / N)])
        if value
        else "0"
    )
    if item.across:
        floor = {"matched": "their frozen twins"}.get(row.floor.kind, row.floor.name)
        if row.floor.kind == "literal" and row.floor.mean is not None:
            floor = f"the given floor of {fraction(row.floor.mean)}"
        points = "by a margin that is not finite" if value is None else ""
        if value is not None:
            points = (
                f"{_apart(value, limit, [signed(value), signed(value, 2), signed(value, 6)])} pp"
            )
        return f"blocks help {points} over {floor} (needs {limit})"
    if letter == "a":
        stream = (
            "residual stream"
            if row.runs[0].record.cell.arch.params.get("residual") is True
            else "hidden state"
        )
        times = "without bound" if value is None else f"{_beyond(value, limit)}x"
        return f"{stream} grows {times} in one block (limit {limit:g}x)"
    if letter == "b":
        if value is None:
            return "reference gradient is not finite"
        return f"reference gradient at the floor ({small} < {limit / N:.3g} at N={N})"
    shown = NOT_FINITE if value is None else _beyond(value, limit)
    if letter == "c":
        return f"gradient direction repeats across batches (cosine {shown}, limit {limit:g})"
    unit = f" {item.unit}" if item.unit else ""
    return f"{name} {shown}{unit} ({'limit' if item.direction == 'above' else 'needs'} {limit:g})"


def why(row: Row, settings: Settings) -> list[str]:
    """Each fired diagnostic of a row in words, with the median over the runs in which it fired; d with its mean, as the
    margin column has it."""
    fired: dict[str, list[Run]] = {}
    for run in row.runs:
        for letter in run.judgement.fired:
            fired.setdefault(letter, []).append(run)
    lines = []
    for letter in sorted(fired, key=lambda text: (len(text) > 1, text)):
        runs = fired[letter]
        name, item = judged(runs[0].record.measurements)[letter]
        if item.across:
            margins = [
                m for run in runs if (m := run.judgement.margin) is not None and math.isfinite(m)
            ]
            value = sum(margins) / len(margins) if margins else None
        else:
            value = over_runs(_values(runs, letter)).value
        limit = threshold_of(name, item, settings.thresholds)
        text = _why(row, letter, name, item, value, 0.0 if limit is None else limit)
        lines.append(
            text if len(runs) == len(row.runs) else f"{text} in {len(runs)} of {len(row.runs)} runs"
        )
    return lines
