"""Find the flags of one run: pure functions of records (docs/protocol.md, section 6).

A measurement carries its letter, direction and threshold. So judging imports no plugin, and an old
result can be judged by new thresholds. Only d, depth utility, needs other runs: the accuracy of a
floor under the same recipe.

A run has flags; a verdict needs seeds (`bench_core.analysis.verdicts.verdict`). The rules, in the
order in which they decide:

1. A run that is not done has its status.
2. A floor (`freeze: blocks`) has no flags; other runs are compared with it.
3. A diagnostic fires strictly beyond its threshold; a value that is not finite fires. A diagnostic
   is *not diagnostic*, neither fired nor missing, if it declares so itself, or if it already
   fires on the untrained network of a seed of the recipe, as bp or else most rules have it (then
   chance lies on both sides of the threshold), or on that of the run, unless other rules of the
   seed show that the rule changed the network before its training.
4. If a diagnostic fired: `flagged (a+b+d)`. If none fired but one was not measured: `incomplete (d
   not measured)`. Otherwise `no flag`. Required are a, b, c, d and every other diagnostic that the
   rule's own runs or two rules of the recipe have. d compares a run with its own twin, the floor's
   run of its seed; without a twin, with the floor's mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

from bench_core.analysis.verdicts.kinds import FLAGGED, FLOOR, INCOMPLETE, NO_FLAG
from bench_core.analysis.verdicts.standing import Standing
from bench_core.analysis.verdicts.untrained import Agreed, at_start
from bench_core.names import CEILING, FROZEN, LOCAL_CEILING, OURS, without_ours
from bench_core.results.details import finite
from bench_core.results.hashing import canonical, plain_text
from bench_core.results.migrate import described
from bench_core.results.record import (
    ComponentRef,
    Measurement,
    RunRecord,
    fires,
    recorded_defaults,
)
from bench_core.suite.cells import CORE_DEFAULTS, FLOOR_OPTIONS
from bench_core.suite.judging import DepthUtility
from bench_core.suite.protocol import AT_FLOOR, STANDARD, may_have

Role = Literal["method", "floor", "ceiling"]
Thresholds = Mapping[str, float]
Defaults = Mapping[str, Mapping[str, Any]]  # a rule's full name → the defaults of its options

BP, BP_HEADS = f"{OURS}/{CEILING}", f"{OURS}/{LOCAL_CEILING}"
CONTROLS = (f"{OURS}/noise_credit", f"{OURS}/random_credit", f"{OURS}/shuffled_credit")
_D = STANDARD["d"]
D_DEFAULT = described(
    _D.name,
    Measurement(letter="d", direction="below", threshold=_D.threshold, unit="pp", across="floor"),
)
UNSETTLED = "its inference ends further from its equilibrium than it began"
NOT_IN_USE = "not the credit in use: blocks learn from another one until warm-up ends"
UNTRAINED = "already fires on the untrained network"
_ABSENT = "\0"  # the value of an option that a method lacks and whose default is not known
# the options of every rule; the other two belong to local rules
_EVERY_RULE = ("freeze", "train_last", "penalty", "random_targets")


@dataclass(frozen=True)
class Settings:
    """How the records of a suite are judged.

    thresholds  diagnostic's name → the threshold that replaces the stored one
    defaults    a rule's full name → its own defaults
    unrecorded  rules, `arch NAME` and `dataset NAME` whose defaults no run records: what
                suite.json says of them is its author's word
    older       runs of the same cells by other code, which do not count
    standings   checksum of a run.json → what is known of the run beside its record
    """

    thresholds: Thresholds = field(default_factory=dict)
    depth_utility: DepthUtility = field(default_factory=DepthUtility)
    title: str = ""
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    older: tuple[RunRecord, ...] = ()
    standings: Mapping[str, Standing] = field(default_factory=dict)
    unrecorded: frozenset[str] = frozenset()

    @cached_property
    def recorded(self) -> dict[str, Mapping[str, Any]]:
        """Return the defaults that runs record, without what only suite.json says."""
        return {k: own for k, own in self.defaults.items() if k not in self.unrecorded}

    def standing(self, record: RunRecord) -> Standing:
        """Return what is known of a run beside its record."""
        return self.standings.get(record.checksum or "", Standing())

    def over(self, records: Iterable[RunRecord]) -> Settings:
        """Return these settings with the defaults that records state of their components."""
        defaults, unrecorded = recorded_defaults(records, self.defaults)
        return replace(self, defaults=defaults, unrecorded=unrecorded)


# --------------------------------------------------------------------------------- identity of rows


def method_key(ref: ComponentRef, defaults: Defaults = MappingProxyType({})) -> str:
    """Write name and parameters of a method as canonical text: the key of a leaderboard row.

    defaults  a rule's full name → its defaults: a run from before an option existed has its default
    """
    core = {name: CORE_DEFAULTS[name] for name in _EVERY_RULE}
    return canonical([ref.name, {**core, **defaults.get(ref.name, {}), **ref.params}])


def matched_floor(ref: ComponentRef) -> ComponentRef:
    """Return the matched floor of a method: its blocks frozen, and without a penalty."""
    return ref.model_copy(update={"params": {**ref.params, **FLOOR_OPTIONS}})


def option(ref: ComponentRef, name: str) -> Any:
    """Return an option of the core, or its default if the method does not set it."""
    return ref.params.get(name, CORE_DEFAULTS[name])


def is_floor(record: RunRecord) -> bool:
    """Decide whether the blocks of a run kept their initial weights."""
    return bool(option(record.cell.method, "freeze") == "blocks")


def is_ceiling(record: RunRecord) -> bool:
    """Decide whether a run is plain backpropagation, without freeze, penalty or random targets."""
    ref = record.cell.method
    return ref.name == BP and all(option(ref, name) == CORE_DEFAULTS[name] for name in _EVERY_RULE)


def is_local_ceiling(record: RunRecord) -> bool:
    """Decide whether a run is plain backpropagation with local heads."""
    params = record.cell.method.params
    options = (option(record.cell.method, name) == CORE_DEFAULTS[name] for name in _EVERY_RULE)
    return record.cell.method.name == BP_HEADS and params.get("weight", 1.0) == 1.0 and all(options)


def is_control(record: RunRecord) -> bool:
    """Decide whether a run must fail, as its credit or targets know nothing of the task."""
    ref = record.cell.method
    return ref.name in CONTROLS or bool(option(ref, "random_targets"))


def role(record: RunRecord) -> Role:
    """Return the part of a run in a comparison."""
    return "floor" if is_floor(record) else "ceiling" if is_ceiling(record) else "method"


def label(
    method: ComponentRef,
    peers: Iterable[ComponentRef],
    defaults: Defaults = MappingProxyType({}),
) -> str:
    """Name a method and its options: `dfa`, `dfa[penalty=0.01]`, `dfa[frozen]`.

    `frozen` is the option `freeze=blocks`. An option is shown if it differs from the rule's
    default, or if methods of this name among `peers` differ in it. Without the rule's defaults,
    options of the core are compared with the core's. The text is not escaped: each output format
    does that.
    """
    own = defaults.get(method.name)
    default = {**CORE_DEFAULTS, **(own or {})}
    rivals = [peer.params for peer in peers if peer.name == method.name]
    shown = []
    core = [name for name in CORE_DEFAULTS if name in method.params]
    for name in core + sorted(method.params.keys() - CORE_DEFAULTS.keys()):
        value = method.params[name]
        text = canonical(value)
        differs = text != canonical(default[name]) if name in default else own is not None
        if name not in CORE_DEFAULTS:
            others = [p[name] if name in p else default.get(name, _ABSENT) for p in rivals]
            differs |= any(canonical(other) != text for other in others)
        if differs:
            stated = f"{name}={plain_text(value)}"
            shown.append(FROZEN if stated == "freeze=blocks" else stated)
    return f"{method.short}[{', '.join(shown)}]" if shown else method.short


# ---------------------------------------------------------------------------------- one run


def threshold_of(name: str, measurement: Measurement, thresholds: Thresholds) -> float | None:
    """Return the threshold of a diagnostic, named with or without the distribution bench-core."""
    short = without_ours(name)
    for spelling in (name, short, f"bench-core/{short}"):
        if spelling in thresholds:
            return thresholds[spelling]
    return measurement.threshold


def letter_order(letter: str) -> tuple[bool, str]:
    """Return a sort key: letters first, then the names of diagnostics without a letter."""
    return len(letter) > 1, letter


def in_order(letters: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(letters, key=letter_order))


def judged(measurements: Mapping[str, Measurement]) -> dict[str, tuple[str, Measurement]]:
    """Map letter → (diagnostic's name, measurement) for all diagnostics that decide verdicts.

    The name stands for the letter of a diagnostic without one, or with one that it may not have or
    that another has before it. d needs no measurement, so it is always present. A diagnostic that
    is not `repeatable` decides nothing: no second run could confirm it.
    """
    by_letter: dict[str, tuple[str, Measurement]] = {}
    order = sorted(measurements, key=lambda name: ("/" in without_ours(name), name))
    for name in order:
        item = described(name, measurements[name])
        if item.direction is not None and item.threshold is not None and item.repeatable:
            free = item.letter and may_have(name, item.letter) and item.letter not in by_letter
            by_letter[item.letter if free else name] = (name, item)
    by_letter.setdefault("d", (_D.name, D_DEFAULT))
    return by_letter


@dataclass(frozen=True)
class Floor:
    """A floor: accuracies by seed, or a literal mean; without a mean, the reason why not.

    lost  seeds whose run is not finished
    """

    name: str
    kind: Literal["matched", "named", "literal"] = "named"
    accuracies: Mapping[int, float] = field(default_factory=dict)
    mean: float | None = None
    reason: str = ""
    lost: frozenset[int] = frozenset()

    def margin(self, record: RunRecord) -> float | None:
        """Compute 100 · (accuracy - floor) in percentage points, rounded: .36 over .34 is 2.

        The floor is the run of the same seed, else the mean.
        """
        floor = self.accuracies.get(record.cell.seed, self.mean)
        if record.accuracy is None or floor is None:
            return None
        return round(100.0 * (record.accuracy - floor), 9)


@dataclass(frozen=True)
class Judgement:
    """The flags of one run.

    not_diagnostic  pairs of letter and reason
    margin          percentage points over the floor of the settings, by which d is judged; the
                    margins over the matched floor and over that of bp are always given
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
        """A key of `FLAGS`, `FLOOR`, or the status of an unfinished run."""
        if self.status != "done":
            return self.status
        if self.role == "floor":
            return FLOOR
        return FLAGGED if self.fired else INCOMPLETE if self.missing else NO_FLAG

    @property
    def text(self) -> str:
        """`no flag`, `flagged (a+b+d)`, `incomplete (d not measured)`, `diverged`, …"""
        if self.kind == FLAGGED:
            return f"{FLAGGED} ({'+'.join(self.fired)})"
        if self.kind == INCOMPLETE:
            return f"{INCOMPLETE} ({'+'.join(self.missing)} not measured)"
        return self.kind


def judge(
    record: RunRecord,
    floor: Floor,
    matched: Floor,
    bp: Floor,
    settings: Settings,
    expected: Iterable[str] = (),
    initial: Agreed | None = None,
    no_margin: str = "",
) -> Judgement:
    """Judge one run against its floors.

    expected   letters that other runs of the recipe have
    initial    the untrained networks of the recipe (`untrained`), beside that of the run
    no_margin  why a margin over the floor says nothing here
    """
    if record.status != "done":
        return Judgement(record.status, role(record))
    margins = [one.margin(record) for one in (floor, matched, bp)]
    if is_floor(record):
        return Judgement(record.status, "floor", (), (), (), *margins)
    fired: set[str] = set()
    silent: dict[str, str] = {}
    by_letter = judged(record.measurements)
    missing = {*STANDARD, *expected} - by_letter.keys()
    start = at_start(record, initial or {})
    for letter, (name, item) in by_letter.items():
        limit = threshold_of(name, item, settings.thresholds)
        measured = item.model_copy(update={"value": margins[0]}) if item.across == "floor" else item
        before = None if item.across == "floor" else start.get(name)
        if item.across == "floor" and no_margin:
            silent[letter] = no_margin
        elif item.not_diagnostic is not None:
            silent[letter] = item.not_diagnostic
        elif before is not None and fires(before, limit):
            silent[letter] = UNTRAINED
        elif measured.value is None:
            missing.add(letter)
        elif fires(measured, limit):
            fired.add(letter)
    reasons = tuple((letter, silent[letter]) for letter in in_order(silent))
    return Judgement(
        record.status, role(record), in_order(fired), in_order(missing), reasons, *margins
    )


@dataclass(frozen=True)
class Alignment:
    """Γ of one run.

    deep            unclamped Γ, mean over deep layers; None: it is not finite, or no layer is deep
    has_deep        False: no state lies between two blocks
    layers          unclamped Γ per layer
    ratio           ‖a‖/‖g‖ per layer
    not_diagnostic  why Γ means nothing; then it is printed struck through with this reason
    library         Γ per layer with each norm clamped at 1e-8
    in_use          False: Γ is that of a credit with which no block was trained yet
    readouts        Γ per layer of the rule's further read-outs by name (ep: displacement)
    blocks          Γ of the credit c_l that trains block l, l = 1 … L; empty: the deep ones are a_l
    blocks_deep     its mean over deep layers; None: c_l is a_l, or it is not finite
    """

    deep: float | None
    has_deep: bool
    layers: tuple[float | None, ...]
    ratio: tuple[float | None, ...]
    not_diagnostic: str | None
    library: tuple[float | None, ...]
    in_use: bool
    readouts: Mapping[str, tuple[float | None, ...]]
    blocks: tuple[float | None, ...]
    blocks_deep: float | None


def unsettled(measurements: Mapping[str, Measurement]) -> str | None:
    """Return `UNSETTLED` if the inference of a rule has not come down (settledness), else None.

    Its slope at the end is no smaller than at its start: the credit is rounding, or its steps are
    too large.
    """
    item = measurements.get("settledness")
    slope = finite(item.details.get("residual")) if item else None
    return UNSETTLED if slope is not None and slope >= 1 else None


def alignment(record: RunRecord, judgement: Judgement) -> Alignment | None:
    """Read the stored alignment. It is not diagnostic if b fires: the reference is rounding."""
    item = record.measurements.get("alignment")
    if item is None:
        return None
    details = item.details

    def numbers(key: str) -> tuple[float | None, ...]:
        return tuple(finite(value) for value in details.get(key, ()))

    suffix = "_unclamped"
    further = [key.removesuffix(suffix) for key in sorted(details) if key.endswith(suffix)]
    return Alignment(
        finite(details.get("deep")),
        details.get("deep") is not None,
        numbers("unclamped"),
        numbers("ratio"),
        AT_FLOOR
        if "b" in judgement.fired
        else item.not_diagnostic or unsettled(record.measurements),
        numbers("library"),
        details.get("in_use") is not False,
        {name: numbers(f"{name}{suffix}") for name in further},
        numbers("blocks"),
        finite(details.get("blocks_deep")),
    )
