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

from bench_core.analysis.accuracies import of_accuracies
from bench_core.analysis.claims.ranges import claimed_range, holds, possible
from bench_core.analysis.claims.recipe import (
    Difference,
    Recipe,
    as_list,
    changed,
    compare,
    differing,
    recipes,
)
from bench_core.analysis.claims.values import NotRun, is_margin, read
from bench_core.analysis.stats import Estimate, estimate
from bench_core.analysis.verdicts.floors import explained
from bench_core.analysis.verdicts.judge import Defaults, Settings, judged
from bench_core.analysis.verdicts.kinds import (
    FAILS,
    HOLDS,
    NOT_RUN,
    SINGLE_SEED,
    UNDETERMINED,
    WALKED_BACK,
    ClaimStatus,
)
from bench_core.analysis.verdicts.leaderboard import Group, Row, Run
from bench_core.results.epochs import ReadCurve
from bench_core.results.hashing import plain_text
from bench_core.results.migrate import described
from bench_core.results.record import RunRecord
from bench_core.results.reference import source
from bench_core.suite.cells import same_name
from bench_core.suite.claim import LETTERED, SHARES, ClaimedMethod, Expectation
from bench_core.suite.names import FROZEN

# only the first epochs of such a run are those of the whole schedule
ENDED_EARLY = ("training.stop_after", "training.stop_when")


@dataclass(frozen=True)
class Interval:
    """A measured mean over n seeds and its 95 % interval.

    Shares, infinite values and n = 1 have no interval.
    """

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class ClaimResult:
    """A claim, the label of its method, the outcome, and notes that must be printed with it.

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

    @property
    def told_apart(self) -> bool:
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
        try:
            group, row, notes = select(claim, groups, claimed_for, settings.defaults)
            label = row.label
            _require_limits(claim, row, settings, claimed_for or {})
            _require_options(claim, row, settings, claimed_for or {}, diagnostics)
            used: dict[str, bool] = {}
            values = _values(claim, group, row, settings, epochs, notes, used)
            values = [value / claim.divide_by for value in values]
            measured = _interval(claim, row, values, notes)
        except NotRun as reason:
            results.append(ClaimResult(claim, label, NOT_RUN, None, (str(reason),)))
        else:
            status: ClaimStatus = HOLDS if holds(claim, measured.value) else FAILS
            notes = list(dict.fromkeys(notes))
            silent = any(used.values())
            results.append(
                ClaimResult(claim, label, status, measured, tuple(notes), tuple(used), silent)
            )
    return results


# ---------------------------------------------------------------------------------- which runs


def method_text(method: ClaimedMethod) -> str:
    """Write a claimed method as tables do: `dfa[penalty=0.01]`, `dfa[frozen]`."""
    options = ", ".join(f"{key}={plain_text(value)}" for key, value in _options(method).items())
    options = options.replace("freeze=blocks", FROZEN)
    return f"{method.name}[{options}]" if options else method.name


def _options(method: ClaimedMethod) -> dict[str, Any]:
    return {key: value for key, value in method.as_dict().items() if key != "name"}


def select(
    claim: Expectation,
    groups: Sequence[Group],
    claimed_for: Mapping[str, Any] | None,
    defaults: Defaults,
) -> tuple[Group, Row, list[str]]:
    """Return the one row that the claim is about, and notes on its recipe. Raises `NotRun`."""
    listed, free = recipes(claim.cell, claimed_for)
    method: Recipe = {"method": {} if claim.method is None else claim.method.as_dict()}
    names = as_list(claim.cell["method"] if claim.method is None else claim.method.name)

    def refused(difference: Difference) -> list[str]:
        """List the changes that the claim does not allow."""
        return [text for key, text in difference.changes.items() if not _allows(claim, key)]

    def nearest(record: RunRecord) -> Difference:
        differences = [
            compare(record, {**method, **recipe}, claim.cell, defaults, free) for recipe in listed
        ]
        return min(differences, key=lambda one: (len(refused(one)), len(one.changes)))

    rows = [
        (group, row, nearest(row.runs[0].record))
        for group in groups
        for row in group.rows
        if any(same_name(row.method.name, name) for name in names)
    ]
    if not rows:
        raise NotRun("no run of this method")
    candidates = [item for item in rows if not refused(item[2])]
    if not candidates:
        changes = min((refused(item[2]) for item in rows), key=lambda one: (len(one), one))
        raise NotRun(f"only with {', '.join(changes)}")
    if len(candidates) > 1:  # the file's own recipe precedes others
        candidates = [item for item in candidates if not item[2].changes] or candidates
    if len(candidates) > 1:
        differ = differing([row.runs[0].record for _, row, _ in candidates])
        raise NotRun(
            f"{len(candidates)} rows could be meant: name one under cell (they differ in {differ})"
        )
    ((group, row, difference),) = candidates
    notes = []
    if difference.changes:
        notes.append(f"measured with {', '.join(difference.changes.values())}")
    if difference.unknown:
        options = ", ".join(difference.unknown)
        notes.append(f"not compared, as the results do not keep their defaults: {options}")
    if claimed_for is None:
        notes.append("the recipe of the suite's file is not known, so it was not compared")
    return group, row, notes


def _decisive(claim: Expectation, row: Row) -> set[str]:
    """Return the diagnostics, by short name, on whose options and limits the figure depends."""
    kind, name = claim.parsed.kind, claim.parsed.name.partition("@")[0]
    letters: dict[str, str] = {}
    for run in row.runs:
        letters |= {key: item[0] for key, item in judged(run.record.measurements).items()}
    if kind == "verdict":
        names = set(letters.values())
    else:
        names = {letters.get(name, name)} if kind in (*LETTERED, "diagnostic") else set()
    return {name.rpartition("/")[2] for name in names}


def _require_limits(
    claim: Expectation, row: Row, settings: Settings, file: Mapping[str, Any]
) -> None:
    """Raise `NotRun` if other limits than those of the file decide the figure of the claim."""
    decisive, floor = _decisive(claim, row), settings.depth_utility.model_dump()
    changes: list[str] = []
    if claim.parsed.kind != "diagnostic" and "thresholds" in file:
        own, wanted = (
            {name: limits[name] for name in limits if name.rpartition("/")[2] in decisive}
            for limits in (settings.thresholds, file["thresholds"])
        )
        changes += changed("threshold", own, wanted)
    if claim.parsed.name == "margin" or "depth_utility" in decisive:
        changes += changed("depth_utility", floor, file.get("depth_utility", floor))
    if changes:
        raise NotRun(f"only with {', '.join(changes)}")


def _require_options(
    claim: Expectation,
    row: Row,
    settings: Settings,
    file: Mapping[str, Any],
    diagnostics: Mapping[str, Mapping[str, Any]],
) -> None:
    """Raise `NotRun` if a diagnostic of the claim was measured with options unlike the file's."""
    decisive = _decisive(claim, row)
    for full, own in diagnostics.items():
        short, default = full.rpartition("/")[2], settings.defaults.get(f"diagnostic {full}")
        if default is None or short not in decisive:
            continue
        wanted = {**default, **file.get("measured", {}).get(short, {})}
        if changes := changed(short, {**default, **own}, wanted):
            raise NotRun(f"only with {', '.join(changes)}")


def _allows(claim: Expectation, key: str) -> bool:
    """Decide whether the figure of a claim may come from a run with another value of a setting."""
    if key in claim.cell:
        return False
    early = claim.epoch is not None or claim.parsed.kind in ("ever_fires", "first_epoch")
    free = claim.recipe == "any" and key.split(".")[0] in ("training", "data")
    return free or (early and key in ENDED_EARLY)


# ---------------------------------------------------------------------------------- figures


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
    other = _row_of(claim.minus, group, settings.defaults)
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


def _require_twin(claim: Expectation, row: Row, run: Run) -> None:
    """Raise `NotRun` for a margin whose floor has no run of the seed: its mean is another's."""
    margins = {"margin.matched": row.over_matched, "margin.bp": row.over_bp}
    over = margins.get(claim.parsed.name, row.over_floor)
    if not is_margin(claim.parsed) or over is None or over.how == "paired":
        return
    if run.record.cell.seed not in over.floor_seeds:
        raise NotRun("its floor has no finished run of this seed")


def _verdict(row: Row, flagged: float) -> float:
    """Return 1 for a rule that is walked back, 0 for another verdict. Raises `NotRun`.

    flagged  the figure of the only finished run, which has no verdict
    """
    if row.judged.kind == UNDETERMINED:
        raise NotRun(row.verdict)
    if row.judged.kind == SINGLE_SEED:
        return flagged
    return float(row.judged.kind == WALKED_BACK)


def _row_of(method: ClaimedMethod, group: Group, defaults: Defaults) -> Row:
    """Return the row of a method in a group. Raises `NotRun`."""
    differences = [
        (row, compare(row.runs[0].record, {"method": method.as_dict()}, {}, defaults))
        for row in group.rows
        if same_name(row.method.name, method.name)
    ]
    rows = [row for row, difference in differences if not difference.changes]
    if len(rows) == 1:
        return rows[0]
    reason = f"{len(rows) or 'no'} rows of {method_text(method)} under this recipe"
    if differences and not rows:
        texts = [list(difference.changes.values()) for _, difference in differences]
        nearest = min(texts, key=lambda own: (len(own), own))
        reason += f", only with {', '.join(nearest)}"
    raise NotRun(reason)


def _spreads(claim: Expectation, row: Row) -> bool:
    """Decide whether a figure spreads over decades, so that its mean is geometric."""
    if claim.factor is not None:
        return True
    if claim.parsed.kind != "diagnostic" or claim.minus is not None:
        return False
    name = claim.parsed.name.rpartition("/")[2]
    items = (run.record.measurements.get(name) for run in row.runs)
    return any(item is not None and described(name, item).axis == "log" for item in items)


def _interval(claim: Expectation, row: Row, values: Sequence[float], notes: list[str]) -> Interval:
    """Compute the mean and its interval: Student's t, of a geometric mean on logarithms."""
    if not all(math.isfinite(value) for value in values):
        count = sum(not math.isfinite(value) for value in values)
        word = "it never fires" if claim.parsed.kind == "first_epoch" else "it is not finite"
        notes.append(f"{word} in {count} of {len(values)} runs")
        return Interval(sum(values) / len(values), None, None, len(values))
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
    is_accuracy = claim.figure == "accuracy" and claim.divide_by == 1
    if is_accuracy:
        counts = not explained(run.record for run in row.runs)
        item = of_accuracies(values, differences=claim.minus is not None, counts=counts)
    else:
        item = estimate(values)
    low, high = (None, None) if claim.parsed.kind in SHARES else _ends(item)
    return Interval(item.mean, *_within(low, high, claim), item.n)


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
