"""Compare published figures with stored runs: the `expect:` entries of a suite.

A claim is judged on the finished runs of its own recipe, in every setting (`claimed_recipe`). On
others it is *not run*, with the difference. `recipe: any` leaves training and data free. A figure
after an epoch, or a first firing, may be read from a run of the same schedule that was ended later
(`stop_after`, `stop_when`): its first epochs are the same.

The mean over seeds is compared: the geometric mean with `factor`, and of a diagnostic on a
logarithmic axis, because such figures spread over decades. The claim holds if that mean lies in the
claimed range, whatever the width of its 95 % interval, which is printed beside it with n. A share
of runs (fires, walked_back) has no interval. A difference (`minus`) is paired by seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from bench_core.analysis.accuracies import of_accuracies, with_rounding
from bench_core.analysis.claims.ranges import claimed_range, holds, possible
from bench_core.analysis.claims.selection import (
    method_text,
    require_limits,
    require_options,
    row_of,
    select,
)
from bench_core.analysis.claims.values import NotRun, is_margin, read
from bench_core.analysis.stats import Estimate, estimate
from bench_core.analysis.verdicts.floors import explained
from bench_core.analysis.verdicts.kinds import (
    FAILS,
    HOLDS,
    NOT_RUN,
    SINGLE_SEED,
    UNDETERMINED,
    WALKED_BACK,
    ClaimStatus,
)
from bench_core.analysis.verdicts.rows import Group, Row, Run
from bench_core.analysis.verdicts.settings import Settings
from bench_core.analysis.verdicts.verdict import Margin
from bench_core.names import bare_name
from bench_core.results.epochs import ReadCurve
from bench_core.results.migrate import described
from bench_core.results.reference import source
from bench_core.suite.claim import SHARES, Expectation


@dataclass(frozen=True)
class Interval:
    """A measured mean over n seeds and its 95 % interval.

    Shares, infinite values, n = 1 and two equal values have no interval; equal accuracies and equal
    counts of epochs have that of their rounding.
    """

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class ClaimResult:
    """A claim, the label of its method, the outcome, and notes that must be printed with it.

    other           the label of the claim's other method (`minus`), where it has a row
    runs            identities of the runs that were measured
    not_diagnostic  whether a run at least says of the figure that it means nothing
    """

    claim: Expectation
    label: str
    status: ClaimStatus
    measured: Interval | None
    notes: tuple[str, ...]
    runs: tuple[str, ...] = ()
    not_diagnostic: bool = False
    other: str = ""

    @property
    def excludes_published(self) -> bool:
        """Decide whether the claim holds although the measured interval excludes its value."""
        value, measured = self.claim.value, self.measured
        if self.status != HOLDS or value is None or measured is None:
            return False
        if measured.low is None or measured.high is None:
            return False
        return not measured.low <= value <= measured.high

    @property
    def settled(self) -> bool | None:
        """Whether the interval lies in the claimed range, or beside it; None without interval."""
        if self.measured is None or self.measured.low is None or self.measured.high is None:
            return None
        low, high = (holds(self.claim, end) for end in (self.measured.low, self.measured.high))
        if self.status == HOLDS:
            return low and high
        least, most = claimed_range(self.claim)
        return self.measured.high < least or self.measured.low > most


def judge_claims(
    claims: Sequence[Expectation],
    groups: Sequence[Group],
    settings: Settings,
    claimed_for: Mapping[str, Any] | None,
    epochs: ReadCurve,
    diagnostics: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> list[ClaimResult]:
    """Judge every claim, in order.

    groups       the runs of the suite as `judge_all` judged them under `settings`
    claimed_for  `Suite.recipe` of the file; None if unknown: then only `cell` restricts the runs
    epochs       reads the rows of epochs.jsonl of a run, if a claim needs them
    diagnostics  full name → parameters with which the runs were measured, if known
    """
    results = []
    for claim in claims:
        label = method_text(claim.method) if claim.method else str(claim.cell["method"])
        other = ""
        try:
            group, row, notes = select(claim, groups, claimed_for, settings)
            label = row.label
            if claim.minus is not None:
                other = row_of(claim.minus, group, settings.meant).label
            require_limits(claim, row, settings, claimed_for or {})
            require_options(claim, row, settings, claimed_for or {}, diagnostics)
            used: dict[str, bool] = {}
            values = _values(claim, group, row, settings, epochs, notes, used)
            values = [value / claim.divide_by for value in values]
            measured = _interval(claim, group, row, values, notes)
        except NotRun as reason:
            reasons = (str(reason),)
            results.append(ClaimResult(claim, label, NOT_RUN, None, reasons, other=other))
        else:
            status: ClaimStatus = HOLDS if holds(claim, measured.value) else FAILS
            notes = list(dict.fromkeys(notes))
            silent = any(used.values())
            results.append(
                ClaimResult(
                    claim, label, status, measured, tuple(notes), tuple(used), silent, other
                )
            )
    return results


def _values(
    claim: Expectation,
    group: Group,
    row: Row,
    settings: Settings,
    epochs: ReadCurve,
    notes: list[str],
    used: dict[str, bool],
) -> list[float]:
    """List the figures of a row by seed, less those of the claim's other method.

    used  gets the identities of the runs, and whether a run calls its figure not diagnostic
    """

    def by_seed(row: Row) -> dict[int, float]:
        runs = [run for run in row.runs if claim.seed in (None, run.record.cell.seed)]
        if not runs:
            raise NotRun(f"{row.label}: no run of seed {claim.seed}")
        values: dict[int, float] = {}
        lacking: list[str] = []
        for run in runs:
            try:
                if run.record.status != "done":
                    raise NotRun(f"the run is {run.record.status}")
                _require_twin(claim, row, run)
                value, note = read(claim.parsed, claim.epoch, run, settings, epochs)
                if claim.parsed.kind == "verdict" and claim.seed is None:
                    value = _verdict(row, value)
                values[run.record.cell.seed] = value
                used[run.record.identity] = bool(note)
                notes.extend([f"{row.label}: not diagnostic: {note}"] if note else [])
            except NotRun as reason:
                lacking.append(f"seed {run.record.cell.seed}: {reason}")
        if not values:
            raise NotRun(f"{row.label}: {lacking[0].partition(': ')[2]}")
        if text := source([run.record for run in runs]):
            notes.append(f"measured: {text}")
        if lacking:
            count = f"{len(lacking)} of {len(runs)} runs not counted"
            notes.append(f"{row.label}: {count} ({'; '.join(lacking)})")
        return values

    values = by_seed(row)
    if claim.minus is None:
        return list(values.values())
    other = row_of(claim.minus, group, settings.meant)
    less = by_seed(other)
    seeds = sorted(values.keys() & less.keys())
    if not seeds:
        raise NotRun(f"{row.label} and {other.label} share no finished seed")
    both = {seed for seed in seeds if values[seed] == less[seed] == math.inf}  # neither fires
    if both == {*seeds}:
        raise NotRun(f"neither {row.label} nor {other.label} ever fires: no difference")
    if both:
        notes.append(f"{len(both)} of {len(seeds)} seeds not counted: neither rule fires in them")
    return [values[seed] - less[seed] for seed in seeds if seed not in both]


def _margin(claim: Expectation, row: Row) -> Margin | None:
    """Return the margin of which a claim speaks."""
    if not is_margin(claim.parsed):
        return None
    margins = {"margin.matched": row.over_matched, "margin.bp": row.over_bp}
    return margins.get(claim.parsed.name, row.over_floor)


def _require_twin(claim: Expectation, row: Row, run: Run) -> None:
    """Raise `NotRun` for a margin whose floor has no run of the seed: its mean is another's."""
    over = _margin(claim, row)
    if over is None or over.how == "paired":
        return
    if run.record.cell.seed not in over.floor_seeds:
        raise NotRun("its floor has no finished run of this seed")


def _verdict(row: Row, flagged: float) -> float:
    """Return 1 for a rule that is walked back, 0 for another verdict. Raises `NotRun`.

    flagged  the figure of the only finished run, which has no verdict
    """
    if row.verdict.kind == UNDETERMINED:
        raise NotRun(row.verdict.text)
    if row.verdict.kind == SINGLE_SEED:
        return flagged
    return float(row.verdict.kind == WALKED_BACK)


def _spreads(claim: Expectation, row: Row) -> bool:
    """Decide whether a figure spreads over decades, so that its mean is geometric."""
    if claim.minus is not None:
        return False
    if claim.factor is not None:
        return True
    if claim.parsed.kind != "diagnostic":
        return False
    name = bare_name(claim.parsed.name)
    items = (run.record.measurements.get(name) for run in row.runs)
    return any(item is not None and described(name, item).axis == "log" for item in items)


def _interval(
    claim: Expectation, group: Group, row: Row, values: Sequence[float], notes: list[str]
) -> Interval:
    """Compute the mean and its interval: Student's t, of a geometric mean on logarithms."""
    if not all(math.isfinite(value) for value in values):
        count = sum(not math.isfinite(value) for value in values)
        word = "it never fires" if claim.parsed.kind == "first_epoch" else "it is not finite"
        notes.append(f"{word} in {count} of {len(values)} runs")
        return Interval(sum(values) / len(values), None, None, len(values))
    is_accuracy = claim.figure == "accuracy" and claim.divide_by == 1
    counts_epochs = claim.parsed.kind == "first_epoch" and claim.divide_by == 1
    rounded = (is_accuracy or counts_epochs) and claim.minus is None and not _spreads(claim, row)
    if len(values) == 2 and math.isclose(*values, rel_tol=1e-6) and not rounded:
        return Interval(sum(values) / 2, None, None, 2)
    if _spreads(claim, row):
        scale = claim.value if claim.factor is not None else abs(values[0])
        if scale and all(value / scale > 0 for value in values):
            logs = estimate(math.log(value / scale) for value in values)
            ends = [None if end is None else scale * math.exp(end) for end in _ends(logs)]
            low, high = ends if scale > 0 else ends[::-1]
            mean = scale * math.exp(logs.mean)
            return Interval(mean, *_within(low, high, claim), logs.n)
        whose = "the sign of the claim" if claim.factor is not None else "a logarithm"
        notes.append(f"a value has not {whose}, so the mean is arithmetic")
    terms, over = 1 if claim.minus is None else 2, _margin(claim, row)
    if is_accuracy:
        item = of_accuracies(values, group.scored, terms, _counts(row))
    elif over is not None:
        points = 100 / claim.divide_by
        sides = 2 if over.floor_seeds else 1  # a given floor is exact
        shares = [value / points for value in values]
        item = of_accuracies(shares, group.scored, sides * terms, _counts(row)).scaled(points)
    elif counts_epochs:  # they are whole numbers
        roundings = terms / len(values)
        item, _ = with_rounding(estimate(values), [values], roundings, 1.0, differences=False)
    else:
        item = estimate(values)
    low, high = (None, None) if claim.parsed.kind in SHARES else _ends(item)
    return Interval(item.mean, *_within(low, high, claim), item.n)


def _counts(row: Row) -> bool:
    """Decide whether the accuracies of a row are shares of a number of samples."""
    return not explained(run.record for run in row.runs)


def _within(
    low: float | None, high: float | None, claim: Expectation
) -> tuple[float | None, float | None]:
    """Cut an interval at the values that the figure can have."""
    least, most = possible(claim)
    if low is None or high is None:
        return low, high
    return max(low, least), min(high, most)


def _ends(item: Estimate) -> tuple[float | None, float | None]:
    half = item.half_width
    return (None, None) if half is None else (item.mean - half, item.mean + half)
