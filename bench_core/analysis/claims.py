"""Compare published figures with stored runs: the `expect:` entries of a suite.

A claim is judged on the finished runs with the training and data of the suite's file, as written
without command-line options, and with the parameters of arch and dataset that the file sets. `cell`
of the claim overrides the file, an axis of the matrix is free, and `recipe: any` leaves training
and data free. So a claim made for 100 epochs is *not run* if only a shortened recipe was run. A
figure after an epoch, or a first firing, may be read from a run of the same schedule that was ended
later (`stop_after`, `stop_when`): its first epochs are the same.

The mean over seeds is compared; with `factor` the geometric mean, for figures that spread over
decades. The claim holds if that mean lies in the claimed range, whatever the width of its 95 %
interval, which is printed beside it with n. A share of runs (fires, walked_back) has no interval. A
difference (`minus`) is paired by seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bench_core.analysis.claim_values import Epochs, NotRun, read
from bench_core.analysis.judge import CORE_DEFAULTS, Settings
from bench_core.analysis.leaderboard import Group, Row
from bench_core.analysis.stats import Estimate, estimate
from bench_core.results.record import ComponentRef
from bench_core.suite.cells import CellSpec, frozen, matches, same_name
from bench_core.suite.claim import SHARES, ClaimedMethod, Expectation

# the settings that decide numbers; threads, device and determinism are how they were computed
RECIPE = (
    "training.epochs",
    "training.stop_after",
    "training.batch_size",
    "training.learning_rate",
    "training.weight_decay",
    "training.clip_norm",
    "training.schedule",
    "training.autocast",
    "data.limit",
)
Status = Literal["holds", "fails", "not run"]


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
    """A claim, the label of its method, the outcome, and notes that must be printed with it."""

    claim: Expectation
    label: str
    status: Status
    measured: Interval | None
    notes: tuple[str, ...]


def judge_claims(
    claims: Sequence[Expectation],
    groups: Sequence[Group],
    settings: Settings,
    claimed_for: Mapping[str, Any] | None,
    epochs: Epochs,
) -> list[ClaimResult]:
    """Judge every claim, in order.

    groups       the runs of the suite as `judge_all` judged them under `settings`
    claimed_for  `Suite.recipe` of the file; None if unknown: then only `cell` restricts the runs
    epochs       reads the rows of epochs.jsonl of a run, if a claim needs them
    """
    results = []
    for claim in claims:
        label = method_text(claim.method) if claim.method else str(claim.cell["method"])
        try:
            group, row, notes = select(claim, groups, claimed_for)
            label = row.label
            values = _values(claim, group, row, settings, epochs, notes)
            measured = _interval(claim, [value / claim.divide_by for value in values], notes)
        except NotRun as reason:
            results.append(ClaimResult(claim, label, "not run", None, (str(reason),)))
        else:
            status: Status = "holds" if holds(claim, measured.value) else "fails"
            notes = list(dict.fromkeys(notes))
            results.append(ClaimResult(claim, label, status, measured, tuple(notes)))
    return results


def holds(claim: Expectation, value: float) -> bool:
    """Decide whether a mean lies in the claimed range, ends included; NaN lies in none."""
    # .306 + .008 is not .314 in binary
    slack = 1e-12 * max(1.0, abs(value)) if math.isfinite(value) else 0.0
    if claim.value is None:
        low = -math.inf if claim.at_least is None else claim.at_least
        high = math.inf if claim.at_most is None else claim.at_most
        return low - slack <= value <= high + slack
    if claim.factor is not None:
        ratio = value / claim.value
        return (1 - 1e-12) / claim.factor <= ratio <= claim.factor * (1 + 1e-12)
    assert claim.tolerance is not None
    return abs(value - claim.value) <= claim.tolerance + slack


# ---------------------------------------------------------------------------------- which runs


def method_text(method: ClaimedMethod) -> str:
    """Write a claimed method as `dfa[penalty=0.01]`."""
    options = ", ".join(f"{key}={value}" for key, value in _options(method).items())
    return f"{method.name}[{options}]" if options else method.name


def _options(method: ClaimedMethod) -> dict[str, Any]:
    return {key: value for key, value in method.as_dict().items() if key != "name"}


def _is(claimed: ClaimedMethod | None, ref: ComponentRef, named: Mapping[str, Any]) -> bool:
    """Decide whether a method is the claimed one; core options not named have their defaults."""
    if claimed is not None and not same_name(ref.short, claimed.name):
        return False
    free = {key.removeprefix("method.") for key in named}
    wanted = {k: v for k, v in CORE_DEFAULTS.items() if k in ref.params and k not in free}
    wanted |= {} if claimed is None else _options(claimed)
    return all(frozen(ref.params.get(key)) == frozen(value) for key, value in wanted.items())


def _cell(row: Row) -> CellSpec:
    """Return the cell of a row, with some seed, in the form that `matches` takes."""
    cell = row.runs[0].record.cell
    refs = {"method": cell.method, "arch": cell.arch, "dataset": cell.dataset}
    parts = {kind: {"name": ref.name, **ref.params} for kind, ref in refs.items()}
    return CellSpec(**parts, training=cell.training, data=cell.data, seed=cell.seed)


def required(
    claim: Expectation, claimed_for: Mapping[str, Any] | None, *, strictly: bool = False
) -> dict[str, Any]:
    """Map dotted key → value (a list: any of them) that a cell of the claim must have.

    strictly  the recipe of the file to the letter, whatever the claim allows

    The method is left out.
    """
    wanted: dict[str, Any] = {}
    file = claimed_for or {}
    axes = set(file.get("axes", ()))
    for kind in ("arch", "dataset"):
        written = dict(file.get(kind, {}))
        other = claim.cell.get(kind)
        if kind in axes or not written:
            continue
        if other is not None and not same_name(other, written["name"]):
            continue
        wanted |= {f"{kind}.{key}".removesuffix(".name"): value for key, value in written.items()}
    if (strictly or claim.recipe == "suite") and file:
        wanted |= {key: file[key.split(".")[0]].get(key.split(".")[1]) for key in RECIPE}
        if not file.get("stop_when"):
            wanted["training.stop_when"] = [None, {}]  # no diagnostic ended these trainings
        early = claim.epoch is not None or claim.parsed.kind in ("ever_fires", "first_epoch")
        if early and not strictly:
            del wanted["training.stop_after"]
            wanted.pop("training.stop_when", None)
    wanted = {key: value for key, value in wanted.items() if key not in axes}
    return wanted | {key: value for key, value in claim.cell.items() if key != "method"}


def select(
    claim: Expectation, groups: Sequence[Group], claimed_for: Mapping[str, Any] | None
) -> tuple[Group, Row, list[str]]:
    """Return the one row that the claim is about, and notes on its recipe. Raises `NotRun`."""
    options = {key: value for key, value in claim.cell.items() if key.startswith("method.")}
    method = options | {key: value for key, value in claim.cell.items() if key == "method"}
    wanted, exact = (
        {key: value for key, value in recipe.items() if key not in options}
        for recipe in (required(claim, claimed_for), required(claim, claimed_for, strictly=True))
    )
    rows = [
        (group, row)
        for group in groups
        for row in group.rows
        if _is(claim.method, row.method, options) and matches(_cell(row), method)
    ]
    if not rows:
        raise NotRun("no run of this method")
    candidates = [(group, row) for group, row in rows if matches(_cell(row), wanted)]
    if not candidates:
        changes = (_changed(row, wanted) for _, row in rows)  # the nearest recipe
        nearest = min(changes, key=lambda text: (text.count("(claimed "), text))
        raise NotRun(f"only with {nearest}")
    if len(candidates) > 1:  # the file's own recipe precedes others
        candidates = [pair for pair in candidates if matches(_cell(pair[1]), exact)] or candidates
    if len(candidates) > 1:
        differences = _differences([_cell(row) for _, row in candidates])
        raise NotRun(f"{len(candidates)} rows could be meant: name one under cell ({differences})")
    (group, row), notes = candidates[0], []
    if changed := _changed(row, exact):
        notes.append(f"measured with {changed}")
    if claimed_for is None:
        notes.append("the recipe of the suite's file is not known, so it was not compared")
    return group, row, notes


def _changed(row: Row, wanted: Mapping[str, Any]) -> str:
    """Write `training.epochs=5 (claimed for 100)` for every key in which a row differs."""
    changed, cell = [], _cell(row)
    for key, value in wanted.items():
        if not matches(cell, {key: value}):
            shown = " or ".join(map(str, value)) if isinstance(value, list) else value
            without = value is None or key == "training.stop_when"
            claimed = "without" if without else f"for {shown}"
            own = cell.value(f"{key}.name" if key in ("arch", "dataset") else key)
            changed.append(f"{key}={own} (claimed {claimed})")
    return ", ".join(changed)


def _differences(cells: Sequence[CellSpec]) -> str:
    keys = []
    for kind in ("arch", "dataset", "training", "data", "method"):
        parts = [cell.value(kind) for cell in cells]
        for key in sorted({key for part in parts for key in part}):
            if len({frozen(part.get(key)) for part in parts}) > 1:
                keys.append(f"{kind}.{key}")
    return "they differ in " + ", ".join(keys)


# ---------------------------------------------------------------------------------- figures


def _values(
    claim: Expectation,
    group: Group,
    row: Row,
    settings: Settings,
    epochs: Epochs,
    notes: list[str],
) -> list[float]:
    """List the figures of a row by seed, less those of the claim's other method."""

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
                value, note = read(claim.parsed, claim.epoch, run, settings, epochs)
                values[run.record.cell.seed] = value
                notes.extend([f"{row.label}: not diagnostic: {note}"] if note else [])
            except NotRun as reason:
                lacking.append(f"seed {run.record.cell.seed}: {reason}")
        if not values:
            raise NotRun(f"{row.label}: {lacking[0].partition(': ')[2]}")
        if lacking:
            count = f"{len(lacking)} of {len(runs)} runs not counted"
            notes.append(f"{row.label}: {count} ({'; '.join(lacking)})")
        return values

    values = by_seed(row)
    if claim.minus is None:
        return list(values.values())
    others = [other for other in group.rows if _is(claim.minus, other.method, {})]
    if len(others) != 1:
        count = len(others) or "no"
        raise NotRun(f"{count} rows of {method_text(claim.minus)} under this recipe")
    less = by_seed(others[0])
    seeds = sorted(values.keys() & less.keys())
    if not seeds:
        raise NotRun(f"{row.label} and {others[0].label} share no finished seed")
    return [values[seed] - less[seed] for seed in seeds]


def _interval(claim: Expectation, values: Sequence[float], notes: list[str]) -> Interval:
    """Compute the mean and its interval: Student's t, on logarithms if the claim has a factor."""
    if not all(math.isfinite(value) for value in values):
        count = sum(not math.isfinite(value) for value in values)
        word = "it never fires" if claim.parsed.kind == "first_epoch" else "it is not finite"
        notes.append(f"{word} in {count} of {len(values)} runs")
        return Interval(sum(values) / len(values), None, None, len(values))
    if claim.factor is not None and claim.value is not None:
        ratios = [value / claim.value for value in values]
        if all(ratio > 0 for ratio in ratios):
            logs = estimate(math.log(ratio) for ratio in ratios)
            ends = [None if end is None else claim.value * math.exp(end) for end in _ends(logs)]
            low, high = ends if claim.value > 0 else ends[::-1]
            return Interval(claim.value * math.exp(logs.mean), low, high, logs.n)
        notes.append("a value has not the sign of the claim")
    mean = estimate(values)
    low, high = (None, None) if claim.parsed.kind in SHARES else _ends(mean)
    return Interval(mean.mean, low, high, mean.n)


def _ends(item: Estimate) -> tuple[float | None, float | None]:
    half = item.half_width
    return (None, None) if half is None else (item.mean - half, item.mean + half)
