"""The judgement of one run, and what makes runs comparable: pure functions of records (docs/protocol.md, section 6).

A measurement carries its letter, direction and threshold, so judging imports no plugin and an old result can be judged
with new thresholds. Only d, depth utility, needs other runs: the accuracy of a floor under the same recipe.

The rules, in the order in which they decide about one run:

1. A run that is not done has its status for a verdict.
2. A floor (`freeze: blocks`) shows `floor`; it is what others are compared with.
3. A diagnostic fires strictly beyond its threshold; a value that is not finite fires. One that already fires on the
   untrained network of any run of the recipe (chance lies on both sides of the threshold then), or that says so itself, is
   *not diagnostic*: neither fired nor missing.
4. Something fired: `walked back (a+b+d)`. Nothing fired, but not all was measured: `undetermined (d not measured)`.
   a, b, c and d are always asked for, and so is every other diagnostic that some run of the recipe has. Otherwise
   `trustworthy`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from bench_core.results.hashing import canonical, digest_bytes, line_text
from bench_core.results.migrate import described
from bench_core.results.record import ComponentRef, Measurement, RunRecord, fires

Role = Literal["method", "floor", "ceiling"]
Thresholds = Mapping[str, float]

BP = "bench-core/bp"
D_DEFAULT = described(
    "depth_utility",
    Measurement(letter="d", direction="below", threshold=2.0, unit="pp", across="floor"),
)
AT_FLOOR = "reference at the floor"
NOT_IN_USE = "not the credit in use: blocks learn from another one until warm-up ends"
UNTRAINED = "already fires on the untrained network"
THREE = {"a": "D1", "b": "D2", "d": "D3"}
CORE_DEFAULTS: dict[str, Any] = {
    "freeze": None,
    "train_last": None,
    "penalty": 0.0,
    "random_targets": False,
    "normalize": "sample",
    "normalize_eps": 1e-6,
}
_EVERY_RULE = (
    "freeze",
    "train_last",
    "penalty",
    "random_targets",
)  # options of every rule; the other two belong to the local ones


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
    """How records are judged. `thresholds` maps a diagnostic's name to a threshold that replaces the stored one; `trust` the
    checksum of a run.json to how far it can be relied on, where that is more than *posted* (`bench_core.results.marks`); `defaults` a
    rule's full name to its own defaults."""

    thresholds: Thresholds = field(default_factory=dict)
    depth_utility: DepthUtility = DepthUtility()
    title: str = ""
    trust: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


# ---------------------------------------------------------------------------------------------------- identity of rows


def recipe(record: RunRecord) -> str:
    """Everything but method and seed, as canonical text. Runs of different recipes are never averaged or compared."""
    cell = record.cell
    return canonical([cell.arch.model_dump(), cell.dataset.model_dump(), cell.data, cell.training])


def recipe_key(record: RunRecord) -> str:
    """Compute 16 hex digits that name the recipe of a run."""
    return digest_bytes(recipe(record).encode(), 8)


def ref_key(ref: ComponentRef, **changes: Any) -> str:
    return canonical(
        [ref.name, {name: CORE_DEFAULTS[name] for name in _EVERY_RULE} | ref.params | changes]
    )


def method_key(record: RunRecord) -> str:
    """Name and parameters of the method, as canonical text: what makes a row of the leaderboard."""
    return ref_key(record.cell.method)


def option(ref: ComponentRef, name: str) -> Any:
    return ref.params.get(name, CORE_DEFAULTS[name])


def is_floor(record: RunRecord) -> bool:
    """A run whose blocks kept their initial weights."""
    return bool(option(record.cell.method, "freeze") == "blocks")


def is_ceiling(record: RunRecord) -> bool:
    """Plain backpropagation: bp without freeze, penalty or random targets."""
    ref = record.cell.method
    return ref.name == BP and all(option(ref, name) == CORE_DEFAULTS[name] for name in _EVERY_RULE)


def role(record: RunRecord) -> Role:
    return "floor" if is_floor(record) else "ceiling" if is_ceiling(record) else "method"


def _show(value: Any) -> str:
    return value if isinstance(value, str) else line_text(value)


def label(
    method: ComponentRef,
    peers: Iterable[ComponentRef],
    defaults: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> str:
    """`dfa`, `dfa[penalty=0.01]`, `bp[freeze=blocks] (frozen)`: the short name and what sets it apart.

    A parameter is shown when it differs from the rule's default, or when same-named methods among `peers` differ in it. Where the
    rule's defaults are not known, an option of the core is held against the core's. Not escaped: each output format does that.
    """
    known = defaults.get(method.name, {})
    own = {**CORE_DEFAULTS, **known}
    rivals = [peer for peer in peers if peer.name == method.name]
    shown = []
    core = [name for name in CORE_DEFAULTS if name in method.params]
    for name in core + sorted(method.params.keys() - CORE_DEFAULTS.keys()):
        value = method.params[name]
        differs = (
            canonical(value) != canonical(own[name]) if name in own else bool(known)
        )  # not in own: without default
        if name not in CORE_DEFAULTS:
            differs |= any(
                name not in peer.params or canonical(peer.params[name]) != canonical(value)
                for peer in rivals
            )
        if differs:
            shown.append(f"{name}={_show(value)}")
    text = f"{method.short}[{', '.join(shown)}]" if shown else method.short
    return f"{text} (frozen)" if method.name == BP and shown == ["freeze=blocks"] else text


# -------------------------------------------------------------------------------------------------------- one run


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
        item = described(name, measurements[name])
        if item.direction is not None and item.threshold is not None:
            found[item.letter if item.letter and item.letter not in found else name] = (name, item)
    if not any(item.across == "floor" for _, item in found.values()):
        found["d"] = (
            "depth_utility",
            D_DEFAULT,
        )  # it costs no measurement, so every run is asked for it
    return found


@dataclass(frozen=True)
class Floor:
    """Accuracies of a floor by seed, or a literal mean. `mean` None: there is no such floor, `reason` says why."""

    name: str
    kind: Literal["matched", "named", "literal"] = "named"
    accuracies: Mapping[int, float] = field(default_factory=dict)
    mean: float | None = None
    reason: str = ""

    def margin(self, accuracy: float | None) -> float | None:
        """100 · (accuracy - mean) in percentage points; .36 over .34 is 2, not the 1.9999999999999962 of binary fractions."""
        return (
            None
            if accuracy is None or self.mean is None
            else round(100.0 * (accuracy - self.mean), 9)
        )


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
        return (
            f"undetermined ({'+'.join(self.missing)} not measured)"
            if self.kind == "undetermined"
            else self.kind
        )

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


def untrained(records: Iterable[RunRecord]) -> dict[str, Measurement]:
    """Of every diagnostic the most degenerate measurement among the untrained networks of these runs."""
    found: dict[str, Measurement] = {}
    for record in records:
        for name, item in record.initial.items():
            if item.value is None or item.not_diagnostic is not None:
                continue
            if name not in found or fires(item, found[name].value):
                found[name] = item
    return found


def judge(
    record: RunRecord,
    floor: Floor,
    matched: Floor,
    bp: Floor,
    settings: Settings,
    expected: Iterable[str] = (),
    initial: Mapping[str, Measurement] | None = None,
) -> Judgement:
    """The judgement of one run against its floors.

    expected  letters that other runs of the recipe have
    initial   the untrained networks of the recipe (`untrained`); by default the run's own
    """
    if record.status != "done":
        return Judgement(record.status, role(record))
    accuracy = record.accuracy
    margin, over_matched, over_bp = (
        floor.margin(accuracy),
        matched.margin(accuracy),
        bp.margin(accuracy),
    )
    if is_floor(record):
        return Judgement(
            record.status, "floor", margin=margin, margin_matched=over_matched, margin_bp=over_bp
        )
    fired: set[str] = set()
    silent: dict[str, str] = {}
    found = judged(record.measurements)
    missing = {"a", "b", "c", *expected} - found.keys()
    start = record.initial if initial is None else initial
    for letter, (name, item) in found.items():
        limit = threshold_of(name, item, settings.thresholds)
        measured = item.model_copy(update={"value": margin}) if item.across == "floor" else item
        at_start = None if item.across == "floor" else start.get(name)
        if item.not_diagnostic is not None:
            silent[letter] = item.not_diagnostic
        elif at_start is not None and fires(at_start, limit):
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
        margin,
        over_matched,
        over_bp,
    )


@dataclass(frozen=True)
class Alignment:
    """Γ of one run: unclamped per layer, mean over all and over deep layers, ‖a‖/‖g‖ per layer; `library` is Γ per layer with
    each norm clamped at 1e-8.

    With `not_diagnostic` it means nothing: print it struck through with that reason, never alone. Not `in_use`: it is of a
    credit that nothing was trained with yet, which must be said beside it. `readouts` are the deep means of the rule's
    further read-outs by name (ep: displacement).
    """

    deep: float | None
    mean: float | None
    layers: tuple[float | None, ...]
    ratio: tuple[float | None, ...]
    not_diagnostic: str | None
    library: tuple[float | None, ...] = ()
    in_use: bool = True
    readouts: Mapping[str, float | None] = field(default_factory=dict)


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
        tuple(_number(value) for value in details.get("library", ())),
        details.get("in_use") is not False,
        {
            key.removesuffix("_unclamped"): _number(
                details.get(f"{key.removesuffix('_unclamped')}_deep")
            )
            for key in sorted(details)
            if key.endswith("_unclamped")
        },
    )
