"""Published figures held against results: the `expect:` entries of a suite, judged on stored runs.

A claim is about one method under one recipe. It is judged on the finished runs whose training and data are those of the suite's
file, as it was written without command-line options, and whose arch and dataset have the parameters that the file writes;
`cell` of the claim wins over the file, an axis of the matrix is free, and `recipe: any` leaves training and data free. So a claim
made for 100 epochs is *not run* where only a shortened recipe was run, and says so. A figure after an epoch, and what fires first,
may be read from a run of the same schedule that was ended later on (`stop_after`, `stop_when`): its first epochs are the same.

What is compared is the mean over seeds; with `factor` the geometric mean, for figures that spread over decades. The claim holds
where that mean lies inside the claimed range, whatever the width of its 95 % interval, which is printed beside it with n. A share
of runs (fires, walked_back) has no interval. A difference (`minus`) is paired by seed.

`not run` has a reason, always: no run of the method, another recipe, several recipes that it could mean, nothing measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bench_core.analysis.claim_values import Epochs, NotRun, read
from bench_core.analysis.judge import CORE_DEFAULTS, Settings
from bench_core.analysis.leaderboard import Group, Row
from bench_core.analysis.stats import Estimate, estimate
from bench_core.results.record import ComponentRef, RunRecord
from bench_core.suite.cells import CellSpec, frozen, matches, same_name
from bench_core.suite.claim import SHARES, ClaimedMethod, Expectation

Status = Literal["holds", "fails", "not run"]

# what decides about numbers; threads, device and determinism are how they were computed
RECIPE = (
    *(
        "training.epochs",
        "training.stop_after",
        "training.batch_size",
        "training.learning_rate",
        "training.weight_decay",
    ),
    *("training.clip_norm", "training.schedule", "training.autocast", "data.limit"),
)


@dataclass(frozen=True)
class Interval:
    """What was measured: the mean over n seeds and its 95 % interval; no interval at n = 1, of shares, of infinite values."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Outcome:
    """A claim and what became of it. `label` names the method as the leaderboard does; `notes` are to be printed with it."""

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
) -> list[Outcome]:
    """What became of every claim, in their order.

    groups       the runs of the suite as `judge_all` judged them under `settings`
    claimed_for  `Suite.recipe` of the file; None where it is not known: then only what `cell` says is asked for
    epochs       the rows of epochs.jsonl of a run; asked only where a claim needs them
    """
    return [_judge(claim, groups, settings, claimed_for, epochs) for claim in claims]


def _judge(
    claim: Expectation,
    groups: Sequence[Group],
    settings: Settings,
    claimed_for: Mapping[str, Any] | None,
    epochs: Epochs,
) -> Outcome:
    label = method_text(claim.method) if claim.method else str(claim.cell["method"])
    try:
        group, row, notes = select(claim, groups, claimed_for)
        label = row.label
        values = _values(claim, row, settings, epochs, notes)
        if claim.minus is not None:
            other = [found for found in group.rows if _is(claim.minus, found.method, {})]
            if len(other) != 1:
                raise NotRun(
                    f"{len(other) or 'no'} rows of {method_text(claim.minus)} under this recipe"
                )
            less = _values(claim, other[0], settings, epochs, notes)
            if not values.keys() & less.keys():
                raise NotRun(f"{row.label} and {other[0].label} share no finished seed")
            values = {
                seed: values[seed] - less[seed] for seed in sorted(values.keys() & less.keys())
            }
        measured = _interval(claim, [value / claim.divide_by for value in values.values()], notes)
    except NotRun as reason:
        return Outcome(claim, label, "not run", None, (str(reason),))
    return Outcome(
        claim,
        label,
        "holds" if holds(claim, measured.value) else "fails",
        measured,
        tuple(dict.fromkeys(notes)),
    )


def holds(claim: Expectation, value: float) -> bool:
    """Whether a measured mean lies in the claimed range, its ends included; NaN lies in none."""
    if claim.value is None:
        low, high = claim.at_least, claim.at_most
        return (
            not math.isnan(value)
            and (low is None or low - _slack(low, value) <= value)
            and (high is None or value <= high + _slack(high, value))
        )
    if claim.factor is not None:
        ratio = value / claim.value
        return (1 - 1e-12) / claim.factor <= ratio <= claim.factor * (1 + 1e-12)
    assert claim.tolerance is not None
    return abs(value - claim.value) <= claim.tolerance + _slack(claim.value, value)


def _slack(claimed: float, value: float) -> float:
    """.306 + .008 is not .314 in binary, nor .36 − .34 .02."""
    return 1e-12 * max(1.0, abs(claimed), abs(value)) if math.isfinite(value) else 0.0


# ----------------------------------------------------------------------------------------------------------- which runs


def method_text(method: ClaimedMethod) -> str:
    """`dfa[penalty=0.01]`, as one writes it."""
    options = ", ".join(
        f"{key}={value}" for key, value in method.as_dict().items() if key != "name"
    )
    return f"{method.name}[{options}]" if options else method.name


def _is(claimed: ClaimedMethod | None, ref: ComponentRef, named: Mapping[str, Any]) -> bool:
    """Whether a row's method is the claimed one: options of every rule that nobody names have their defaults."""
    given = (
        {}
        if claimed is None
        else {key: value for key, value in claimed.as_dict().items() if key != "name"}
    )
    if claimed is not None and not same_name(ref.name.removeprefix("bench-core/"), claimed.name):
        return False
    free = {key.removeprefix("method.") for key in named}
    wanted = {
        key: value for key, value in CORE_DEFAULTS.items() if key in ref.params and key not in free
    } | given
    return all(frozen(ref.params.get(key)) == frozen(value) for key, value in wanted.items())


def spec(record: RunRecord) -> CellSpec:
    """The cell of a record in the form that rules such as those of `exclude` are matched with."""
    cell = record.cell
    parts = {kind: {"name": ref.name, **ref.params} for kind, ref in
             (("method", cell.method), ("arch", cell.arch), ("dataset", cell.dataset))}  # fmt: skip
    return CellSpec(**parts, training=cell.training, data=cell.data, seed=cell.seed)


def required(
    claim: Expectation, claimed_for: Mapping[str, Any] | None, *, strictly: bool = False
) -> dict[str, Any]:
    """Dotted key → value (a list: any of them) that a cell must have for the claim to be about it, its method apart.

    strictly  the recipe of the file to the letter, whatever the claim allows
    """
    wanted: dict[str, Any] = {}
    known = claimed_for or {}
    axes = set(known.get("axes", ()))
    for kind in ("arch", "dataset"):
        written = dict(known.get(kind, {}))
        other = claim.cell.get(kind)
        if (
            kind in axes
            or not written
            or (other is not None and not same_name(other, written["name"]))
        ):
            continue
        wanted |= {
            kind if key == "name" else f"{kind}.{key}": value for key, value in written.items()
        }
    if (strictly or claim.recipe == "suite") and known:
        wanted |= {key: known[key.split(".")[0]].get(key.split(".")[1]) for key in RECIPE}
        if not known.get("stop_when"):
            wanted["training.stop_when"] = [None, {}]  # nothing ended these trainings early
        if not strictly and (
            claim.epoch is not None or claim.parsed.kind in ("ever_fires", "first_epoch")
        ):
            del wanted["training.stop_after"]
            wanted.pop("training.stop_when", None)
    wanted = {key: value for key, value in wanted.items() if key not in axes}
    return wanted | {key: value for key, value in claim.cell.items() if key != "method"}


def select(
    claim: Expectation, groups: Sequence[Group], claimed_for: Mapping[str, Any] | None
) -> tuple[Group, Row, list[str]]:
    """The one row that the claim is about, and what must be said of its recipe. Raises `NotRun`."""
    options = {key: value for key, value in claim.cell.items() if key.startswith("method.")}
    names = claim.cell.get("method")
    rows = [
        (group, row)
        for group in groups
        for row in group.rows
        if _is(claim.method, row.method, options)
        and matches(
            spec(row.runs[0].record), {**options, **({} if names is None else {"method": names})}
        )
    ]
    if not rows:
        raise NotRun("no run of this method")
    wanted = {
        key: value for key, value in required(claim, claimed_for).items() if key not in options
    }
    found = [(group, row) for group, row in rows if matches(spec(row.runs[0].record), wanted)]
    if not found:
        raise NotRun(_other_recipe(rows, wanted))
    exact = {
        key: value
        for key, value in required(claim, claimed_for, strictly=True).items()
        if key not in options
    }
    if len(found) > 1:  # the file's own recipe goes before others
        found = [pair for pair in found if matches(spec(pair[1].runs[0].record), exact)] or found
    if len(found) > 1:
        raise NotRun(
            f"{len(found)} rows could be meant: name one under cell ({_differences(row for _, row in found)})"
        )
    (group, row), notes = found[0], []
    if changed := _changed(row, exact):
        notes.append(f"measured with {changed}")
    if claimed_for is None:
        notes.append("the recipe of the suite's file is not known, so it was not compared")
    return group, row, notes


def _value(row: Row, key: str) -> Any:
    value: Any = vars(spec(row.runs[0].record))
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value["name"] if key in ("arch", "dataset") else value


def _changed(row: Row, wanted: Mapping[str, Any]) -> str:
    """`training.epochs=5 (claimed for 100)`, for every key in which a row differs from what is wanted."""
    changed = []
    for key, value in wanted.items():
        if not matches(spec(row.runs[0].record), {key: value}):
            shown = " or ".join(map(str, value)) if isinstance(value, list) else value
            without = value is None or key == "training.stop_when"
            changed.append(
                f"{key}={_value(row, key)} (claimed {'without' if without else f'for {shown}'})"
            )
    return ", ".join(changed)


def _other_recipe(rows: Sequence[tuple[Group, Row]], wanted: Mapping[str, Any]) -> str:
    """Which recipe there is instead: the nearest one."""
    told = sorted(
        (_changed(row, wanted) for _, row in rows), key=lambda text: (text.count("(claimed "), text)
    )
    return f"only with {told[0]}"


def _differences(rows: Iterable[Row]) -> str:
    specs = [spec(row.runs[0].record) for row in rows]
    keys = []
    for kind in ("arch", "dataset", "training", "data", "method"):
        parts = [vars(item)[kind] for item in specs]
        keys += [f"{kind}.{key}" for key in sorted({k for part in parts for k in part})
                 if len({frozen(part.get(key)) for part in parts}) > 1]  # fmt: skip
    return "they differ in " + ", ".join(keys)


# ------------------------------------------------------------------------------------------------------------- figures


def _values(
    claim: Expectation, row: Row, settings: Settings, epochs: Epochs, notes: list[str]
) -> dict[int, float]:
    """seed → the figure, of the finished runs that have it. Raises `NotRun` where none has."""
    runs = [run for run in row.runs if claim.seed in (None, run.record.cell.seed)]
    if not runs:
        raise NotRun(f"{row.label}: no run of seed {claim.seed}")
    found: dict[int, float] = {}
    lacking: list[str] = []
    for run in runs:
        try:
            if run.record.status != "done":
                raise NotRun(f"the run is {run.record.status}")
            value, note = read(claim.parsed, claim.epoch, run, settings, epochs)
            found[run.record.cell.seed] = value
            notes += [f"{row.label}: not diagnostic: {note}"] if note else []
        except NotRun as reason:
            lacking.append(f"seed {run.record.cell.seed}: {reason}")
    if not found:
        raise NotRun(f"{row.label}: {lacking[0].partition(': ')[2]}")
    if lacking:
        notes.append(
            f"{row.label}: {len(lacking)} of {len(runs)} runs not counted ({'; '.join(lacking)})"
        )
    return found


def _interval(claim: Expectation, values: Sequence[float], notes: list[str]) -> Interval:
    """The mean that is compared and its interval: Student's t, on logarithms where the claim has a factor."""
    if not all(math.isfinite(value) for value in values):
        count = sum(not math.isfinite(value) for value in values)
        word = "it never fires" if claim.parsed.kind == "first_epoch" else "it is not finite"
        notes.append(f"{word} in {count} of {len(values)} runs")
        return Interval(sum(values) / len(values), None, None, len(values))
    if claim.factor is not None and claim.value is not None:
        ratios = [value / claim.value for value in values]
        if all(ratio > 0 for ratio in ratios):
            logs = estimate(math.log(ratio) for ratio in ratios)
            low, high = _ends(logs)
            ends = [None if end is None else claim.value * math.exp(end) for end in (low, high)]
            ends = ends if claim.value > 0 else ends[::-1]
            return Interval(claim.value * math.exp(logs.mean), ends[0], ends[1], logs.n)
        notes.append("a value has not the sign of the claim")
    found = estimate(values)
    low, high = (None, None) if claim.parsed.kind in SHARES else _ends(found)
    return Interval(found.mean, low, high, found.n)


def _ends(found: Estimate) -> tuple[float | None, float | None]:
    half = found.half_width
    return (None, None) if half is None else (found.mean - half, found.mean + half)
