"""From stored measurements to verdicts: pure functions of run records (docs/protocol.md, section 6).

A measurement carries its letter, direction and threshold, so judging imports no plugin and an old result can be judged
with new thresholds. Only d, depth utility, needs other runs: the accuracy of a floor under the same recipe.

The rules, in the order in which they decide about one run:

1. A run that is not done has its status for a verdict. Failed runs stay in every denominator and never enter a mean.
2. A floor (`freeze: blocks`) shows `floor`; it is what others are compared with.
3. A diagnostic fires strictly beyond its threshold; a value that is not finite fires. One that already fires on the untrained
   network, or that says so itself, is *not diagnostic*: neither fired nor missing.
4. Something fired: `walked back (a+b+d)`. Nothing fired but something was not measured: `undetermined (d not measured)`.
   a, b, c and d are always asked for, and every other diagnostic that some run of the same recipe has. Else `trustworthy`.

Runs are compared and averaged within a recipe (arch, dataset, data, training) only. A seed counts once: of several records of
one cell (replicates, another version of the code) a done one goes before others and then the one finished last; the rest are
counted as set aside, never averaged in, because n is the number of seeds.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bench_core.record import ComponentRef, Measurement, RunRecord, jsonable
from bench_core.stats import Estimate, estimate, paired_difference, tie_ranks

Role = Literal["method", "floor", "ceiling"]
Thresholds = Mapping[str, float]

BP = "bench-core/bp"
D_DEFAULT = Measurement(letter="d", direction="below", threshold=2.0, unit="pp", across="floor")
AT_FLOOR = "reference at the floor"
UNTRAINED = "already fires on the untrained network"
THREE = {"a": "D1", "b": "D2", "d": "D3"}
CORE_DEFAULTS: dict[str, Any] = {
    "freeze": None,
    "penalty": 0.0,
    "random_targets": False,
    "normalize": "sample",
    "normalize_eps": 1e-6,
}
_EVERY_RULE = ("freeze", "penalty", "random_targets")  # options of every rule; the other two belong to the local ones


@dataclass(frozen=True)
class DepthUtility:
    """What d is read against.

    floor        "matched" (the same method with frozen blocks), "bp", or a method's name: its run with frozen blocks
    floor_value  a literal accuracy, as published; replaces `floor`
    """

    floor: str = "matched"
    floor_value: float | None = None


@dataclass(frozen=True)
class Settings:
    """How records are judged. `thresholds` maps a diagnostic's name to a threshold that replaces the stored one."""

    thresholds: Thresholds = field(default_factory=dict)
    depth_utility: DepthUtility = DepthUtility()
    title: str = ""


# ---------------------------------------------------------------------------------------------------- identity of rows


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 0 and 0.0 are one value
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    return [_canonical(item) for item in value] if isinstance(value, (list, tuple)) else value


def _key(value: Any) -> str:
    return json.dumps(_canonical(jsonable(value)), sort_keys=True, default=str)


def recipe(record: RunRecord) -> str:
    """Everything but method and seed, as canonical text. Runs of different recipes are never averaged or compared."""
    cell = record.cell
    return _key([cell.arch.model_dump(), cell.dataset.model_dump(), cell.data, cell.training])


def _ref_key(ref: ComponentRef, **changes: Any) -> str:
    return _key([ref.name, {name: CORE_DEFAULTS[name] for name in _EVERY_RULE} | ref.params | changes])


def method_key(record: RunRecord) -> str:
    """Name and parameters of the method, as canonical text: what makes a row of the leaderboard."""
    return _ref_key(record.cell.method)


def _option(ref: ComponentRef, name: str) -> Any:
    return ref.params.get(name, CORE_DEFAULTS[name])


def is_floor(record: RunRecord) -> bool:
    """A run whose blocks kept their initial weights."""
    return bool(_option(record.cell.method, "freeze") == "blocks")


def is_ceiling(record: RunRecord) -> bool:
    """Plain backpropagation: bp without freeze, penalty or random targets."""
    ref = record.cell.method
    return ref.name == BP and all(_option(ref, name) == CORE_DEFAULTS[name] for name in _EVERY_RULE)


def role(record: RunRecord) -> Role:
    return "floor" if is_floor(record) else "ceiling" if is_ceiling(record) else "method"


def _show(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(jsonable(value), sort_keys=True, default=str)


def label(method: ComponentRef, peers: Iterable[ComponentRef]) -> str:
    """`dfa`, `dfa[penalty=0.01]`, `bp[freeze=blocks] (frozen)`: the short name and what sets it apart.

    An option of the core is shown when it differs from its default; a parameter of the rule itself, whose default is unknown
    here, when same-named methods among `peers` differ in it. Not escaped: that is the business of each output format.
    """
    rivals = [peer for peer in peers if peer.name == method.name]
    shown = []
    core = [name for name in CORE_DEFAULTS if name in method.params]
    for name in core + sorted(method.params.keys() - CORE_DEFAULTS.keys()):
        value = method.params[name]
        if name in CORE_DEFAULTS:
            differs = _key(value) != _key(CORE_DEFAULTS[name])
        else:
            differs = any(name not in peer.params or _key(peer.params[name]) != _key(value) for peer in rivals)
        if differs:
            shown.append(f"{name}={_show(value)}")
    text = f"{method.short}[{', '.join(shown)}]" if shown else method.short
    return f"{text} (frozen)" if method.name == BP and shown == ["freeze=blocks"] else text


# -------------------------------------------------------------------------------------------------------- one run


def fires(measurement: Measurement, threshold: float | None = None) -> bool:
    """True when the value lies strictly beyond the threshold (the measurement's own by default), or is not finite.

    Without a value, a direction or a threshold nothing fires, nor does what the diagnostic called not diagnostic.
    """
    value, limit = measurement.value, measurement.threshold if threshold is None else threshold
    if value is None or measurement.not_diagnostic is not None or measurement.direction is None or limit is None:
        return False
    if not math.isfinite(value):
        return True
    return value > limit if measurement.direction == "above" else value < limit


def threshold_of(name: str, measurement: Measurement, thresholds: Thresholds) -> float | None:
    """The threshold in force for a diagnostic, which may be named with or without our distribution."""
    short = name.removeprefix("bench-core/")
    for known in (name, short, f"bench-core/{short}"):
        if known in thresholds:
            return thresholds[known]
    return measurement.threshold


def letter_order(letter: str) -> tuple[bool, str]:
    return len(letter) > 1, letter


def judged(measurements: Mapping[str, Measurement]) -> dict[str, tuple[str, Measurement]]:
    """Letter → (diagnostic's name, measurement) for all that take part in verdicts; no letter: the name stands for it.

    Where two claim one letter the diagnostic of ours (without a distribution in its name) keeps it.
    """
    found: dict[str, tuple[str, Measurement]] = {}
    order = sorted(measurements, key=lambda name: ("/" in name.removeprefix("bench-core/"), name))
    for name in order:
        item = measurements[name]
        if item.direction is not None and item.threshold is not None:
            found[item.letter if item.letter and item.letter not in found else name] = (name, item)
    if not any(item.across for _, item in found.values()):
        found["d"] = ("depth_utility", D_DEFAULT)  # it costs no measurement, so every run is asked for it
    return found


@dataclass(frozen=True)
class Floor:
    """Accuracies of a floor by seed, or a literal mean. `mean` None: there is no such floor, `reason` says why."""

    name: str
    accuracies: Mapping[int, float] = field(default_factory=dict)
    mean: float | None = None
    reason: str = ""

    def margin(self, accuracy: float | None) -> float | None:
        """100 · (accuracy - mean) in percentage points."""
        return None if accuracy is None or self.mean is None else 100.0 * (accuracy - self.mean)


@dataclass(frozen=True)
class Judgement:
    """The verdict of one run. `not_diagnostic` pairs letters with reasons; margins are percentage points.

    `margin` is over the floor that the settings name, the one d is judged by; the other two are always given.
    """

    status: str
    role: Role
    fired: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    not_diagnostic: tuple[tuple[str, str], ...] = ()
    margin: float | None = None
    margin_matched: float | None = None
    margin_bp: float | None = None

    @property
    def kind(self) -> str:
        """walked back · trustworthy · undetermined · floor · or the status of a run that is not done."""
        if self.status != "done":
            return self.status
        if self.role == "floor":
            return "floor"
        return "walked back" if self.fired else "undetermined" if self.missing else "trustworthy"

    @property
    def text(self) -> str:
        """`trustworthy`, `walked back (a+b+d)`, `undetermined (d not measured)`, `diverged`, `floor`, …"""
        if self.kind == "walked back":
            return f"walked back ({'+'.join(self.fired)})"
        return f"undetermined ({'+'.join(self.missing)} not measured)" if self.kind == "undetermined" else self.kind

    @property
    def three(self) -> str:
        """The three-diagnostic form D1 = a, D2 = b, D3 = d: `PASS`, `FAIL(D1+D2)`, `UNDETERMINED(D3)`."""
        if self.status != "done" or self.role == "floor":
            return self.kind.upper()
        for word, letters in (("FAIL", self.fired), ("UNDETERMINED", self.missing)):
            names = [name for letter, name in THREE.items() if letter in letters]
            if names:
                return f"{word}({'+'.join(names)})"
        return "PASS"


def judge(
    record: RunRecord, floor: Floor, matched: Floor, bp: Floor, settings: Settings, expected: Iterable[str] = ()
) -> Judgement:
    """The judgement of one run against its floors; `expected` are letters that other runs of the recipe have."""
    accuracy = record.accuracy
    margins = {
        "margin": floor.margin(accuracy),
        "margin_matched": matched.margin(accuracy),
        "margin_bp": bp.margin(accuracy),
    }
    if record.status != "done" or is_floor(record):
        return Judgement(record.status, role(record), **(margins if record.status == "done" else {}))
    fired: set[str] = set()
    silent: dict[str, str] = {}
    found = judged(record.measurements)
    missing = {"a", "b", "c", *expected} - found.keys()
    for letter, (name, item) in found.items():
        limit = threshold_of(name, item, settings.thresholds)
        measured = item.model_copy(update={"value": margins["margin"]}) if item.across else item
        initial = None if item.across else record.initial.get(name)
        if item.not_diagnostic is not None:
            silent[letter] = item.not_diagnostic
        elif initial is not None and fires(initial, limit):
            silent[letter] = UNTRAINED
        elif measured.value is None:
            missing.add(letter)
        elif fires(measured, limit):
            fired.add(letter)
    return Judgement(
        record.status,
        role(record),
        tuple(sorted(fired, key=letter_order)),
        tuple(sorted(missing, key=letter_order)),
        tuple(sorted(silent.items(), key=lambda pair: letter_order(pair[0]))),
        **margins,
    )


@dataclass(frozen=True)
class Alignment:
    """Γ of one run: unclamped per layer, mean over all and deep layers, ‖a‖/‖g‖. With `not_diagnostic` it means nothing:
    print it struck through with that reason, never alone."""

    deep: float | None
    mean: float | None
    layers: tuple[float | None, ...]
    ratio: tuple[float | None, ...]
    not_diagnostic: str | None


def _number(value: Any) -> float | None:
    """A finite number or None; details may hold the words that stand for non-finite ones."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def alignment(record: RunRecord, judgement: Judgement) -> Alignment | None:
    """The stored alignment, marked where b fires: there the reference direction is rounding."""
    item = record.measurements.get("alignment")
    if item is None:
        return None
    details = item.details
    return Alignment(
        _number(details.get("deep")),
        _number(details.get("mean")),
        tuple(_number(value) for value in details.get("unclamped", ())),
        tuple(_number(value) for value in details.get("ratio", ())),
        AT_FLOOR if "b" in judgement.fired else item.not_diagnostic,
    )


# ------------------------------------------------------------------------------------------------------- many runs


@dataclass(frozen=True)
class Run:
    """A record and its judgement."""

    record: RunRecord
    judgement: Judgement


@dataclass(frozen=True)
class Row:
    """A method over its seeds. `accuracy` covers finished runs only; `verdict` counts all. Margins are percentage points."""

    label: str
    role: Role
    runs: tuple[Run, ...]
    accuracy: Estimate | None
    margin: Estimate | None
    margin_matched: Estimate | None
    margin_bp: Estimate | None
    floor: Floor
    verdict: str
    three: str
    rank: int | None = None
    tied: bool = False

    @property
    def method(self) -> ComponentRef:
        return self.runs[0].record.cell.method

    @property
    def finished(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if is_finished(run.record))


@dataclass(frozen=True)
class Group:
    """The rows of one recipe, best mean accuracy first; rows without a finished run come last."""

    rows: tuple[Row, ...]
    set_aside: int

    @property
    def records(self) -> tuple[RunRecord, ...]:
        return tuple(run.record for row in self.rows for run in row.runs)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({record.cell.seed for record in self.records}))


def is_finished(record: RunRecord) -> bool:
    """Done, with an accuracy that can enter a mean."""
    return record.status == "done" and record.accuracy is not None and math.isfinite(record.accuracy)


def accuracies(records: Iterable[RunRecord]) -> dict[int, float]:
    """Accuracy by seed of the finished runs."""
    return {item.cell.seed: item.accuracy for item in records if is_finished(item) and item.accuracy is not None}


def aggregate(judgements: Sequence[Judgement]) -> str:
    """`walked back 3/3 (a 3, b 3, c 1, d 3)`, `trustworthy 3/3`, `walked back 2/3 (d 2), diverged 1/3`, `floor`.

    Every run is in the denominator. Beside a walked-back count the rest, where not named, is trustworthy.
    """
    total, kinds = len(judgements), Counter(item.kind for item in judgements)
    if kinds["floor"] == total:
        return "floor"
    parts = []
    for kind in ("floor", "walked back", "trustworthy", "undetermined", "diverged", "failed", "crashed", "interrupted"):
        if not kinds[kind] or (kind == "trustworthy" and kinds["walked back"]):
            continue
        part = f"{kind} {kinds[kind]}/{total}"
        same = [item for item in judgements if item.kind == kind]
        if kind == "walked back":
            fired = Counter(letter for item in same for letter in item.fired)
            part += f" ({', '.join(f'{letter} {fired[letter]}' for letter in sorted(fired, key=letter_order))})"
        elif kind == "undetermined":
            missing = sorted({letter for item in same for letter in item.missing}, key=letter_order)
            part += f" ({'+'.join(missing)} not measured)"
        parts.append(part)
    return ", ".join(parts)


def aggregate_three(judgements: Sequence[Judgement]) -> str:
    """The three-diagnostic form of a row: one text where all runs agree, counts where they do not."""
    texts = Counter(item.three for item in judgements)
    if len(texts) == 1:
        return next(iter(texts))
    ordered = sorted(texts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{text} {count}/{len(judgements)}" for text, count in ordered)


class _Floors:
    """The floors among the runs of one recipe."""

    def __init__(self, rows: Mapping[str, Sequence[RunRecord]], settings: Settings) -> None:
        self.depth = settings.depth_utility
        self.frozen = {key: runs for key, runs in rows.items() if is_floor(runs[0])}

    def _of(self, name: str, keys: Sequence[str]) -> Floor:
        if len(keys) > 1:
            return Floor(name, reason=f"{len(keys)} different rows could be {name}")
        found = accuracies(self.frozen[keys[0]]) if keys else {}
        if not found:
            return Floor(name, reason=f"no finished run of {name} with this recipe")
        return Floor(name, found, math.fsum(found.values()) / len(found))

    def matched(self, ref: ComponentRef) -> Floor:
        key = _ref_key(ref, freeze="blocks", penalty=CORE_DEFAULTS["penalty"])  # floors never carry a penalty
        return self._of(f"{ref.short}[freeze=blocks]", [key] if key in self.frozen else [])

    def bp(self) -> Floor:
        return self.named(BP)

    def named(self, name: str) -> Floor:
        """The frozen runs of a method with otherwise the core's defaults; a full name goes before a short one."""
        plain = {
            key: runs[0].cell.method
            for key, runs in self.frozen.items()
            if all(
                _key(_option(runs[0].cell.method, option)) == _key(default)
                for option, default in CORE_DEFAULTS.items()
                if option != "freeze"
            )
        }
        for spelling in (lambda ref: ref.name, lambda ref: ref.short, lambda ref: ref.name.rpartition("/")[2]):
            keys = [key for key, ref in plain.items() if spelling(ref) == name]
            if keys:
                return self._of(f"{name.removeprefix('bench-core/')}[freeze=blocks]", keys)
        return self._of(f"{name.removeprefix('bench-core/')}[freeze=blocks]", [])

    def chosen(self, ref: ComponentRef) -> Floor:
        if self.depth.floor_value is not None:
            return Floor("the given floor", mean=self.depth.floor_value)
        if self.depth.floor == "matched":
            return self.matched(ref)
        return self.bp() if self.depth.floor == "bp" else self.named(self.depth.floor)


def _margin(found: Mapping[int, float], floor: Floor) -> Estimate | None:
    """Mean margin in points. Its interval is of the differences paired by seed, where the floor has just the same seeds."""
    if not found or floor.mean is None:
        return None
    if not floor.accuracies:
        shifted = estimate(found.values()).scaled(100.0)
        return Estimate(
            100.0 * (estimate(found.values()).mean - floor.mean), shifted.half_width, shifted.std, shifted.n
        )
    paired = paired_difference(found, floor.accuracies)
    if paired is not None and found.keys() == floor.accuracies.keys():
        return paired.scaled(100.0)
    mean = math.fsum(found.values()) / len(found)
    return Estimate(100.0 * (mean - floor.mean), None, None, len(found))


def _representative(records: Iterable[RunRecord]) -> RunRecord:
    return max(records, key=lambda item: (item.status == "done", item.finished, item.identity, item.to_json()))


def _group(records: Sequence[RunRecord], peers: Sequence[ComponentRef], settings: Settings) -> Group:
    cells: dict[str, dict[int, list[RunRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        cells[method_key(record)][record.cell.seed].append(record)
    by_row = {
        key: [_representative(seeds[seed]) if len(seeds[seed]) > 1 else seeds[seed][0] for seed in sorted(seeds)]
        for key, seeds in sorted(cells.items())
    }
    floors = _Floors(by_row, settings)
    bp = floors.bp()
    expected = {
        letter
        for runs in by_row.values()
        for run in runs
        if run.status == "done" and not is_floor(run)
        for letter in judged(run.measurements)
    }
    rows = []
    for runs in by_row.values():
        ref, found = runs[0].cell.method, accuracies(runs)
        chosen, matched = floors.chosen(ref), floors.matched(ref)
        judgements = [judge(run, chosen, matched, bp, settings, expected) for run in runs]
        rows.append(
            Row(
                label=label(ref, peers),
                role=role(runs[0]),
                runs=tuple(Run(run, judgement) for run, judgement in zip(runs, judgements, strict=True)),
                accuracy=estimate(found.values()) if found else None,
                margin=_margin(found, chosen),
                margin_matched=_margin(found, matched),
                margin_bp=_margin(found, bp),
                floor=chosen,
                verdict=aggregate(judgements),
                three=aggregate_three(judgements),
            )
        )
    rows.sort(key=lambda row: (-(row.accuracy.mean if row.accuracy else -math.inf), row.label, _ref_key(row.method)))
    return Group(tuple(_ranked(rows)), len(records) - sum(len(runs) for runs in by_row.values()))


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """Ranks among the rows that compete: floors are what others are measured by."""
    from dataclasses import replace

    competing = [row for row in rows if row.role != "floor"]
    ranks = tie_ranks([accuracies(run.record for run in row.runs) for row in competing])
    shared = Counter(ranks)
    ranked = iter(
        replace(row, rank=rank, tied=rank is not None and shared[rank] > 1)
        for row, rank in zip(competing, ranks, strict=True)
    )
    return [row if row.role == "floor" else next(ranked) for row in rows]


def judge_all(records: Sequence[RunRecord], settings: Settings = Settings()) -> list[Group]:
    """All records, grouped by recipe and judged: a deterministic function of the set of records, whatever their order."""
    by_recipe: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_recipe[recipe(record)].append(record)
    peers = list({_ref_key(record.cell.method): record.cell.method for record in records}.values())
    return [_group(group, peers, settings) for _, group in sorted(by_recipe.items())]
