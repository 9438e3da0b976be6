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
from dataclasses import dataclass, field
from typing import Literal

from bench_core.analysis.verdicts.kinds import FLAGGED, FLOOR, INCOMPLETE, NO_FLAG
from bench_core.analysis.verdicts.roles import Role, is_floor, role
from bench_core.analysis.verdicts.settings import Settings, Thresholds
from bench_core.analysis.verdicts.untrained import Agreed, at_start
from bench_core.names import OURS, without_ours
from bench_core.results.migrate import described
from bench_core.results.record import Measurement, RunRecord, fires
from bench_core.suite.protocol import STANDARD, may_have

_D = STANDARD["d"]
D_DEFAULT = described(
    _D.name,
    Measurement(letter="d", direction="below", threshold=_D.threshold, unit="pp", across="floor"),
)
UNTRAINED = "already fires on the untrained network"


def threshold_of(name: str, measurement: Measurement, thresholds: Thresholds) -> float | None:
    """Return the threshold of a diagnostic, named with or without the distribution bench-core."""
    short = without_ours(name)
    for spelling in (name, short, f"{OURS}/{short}"):
        if spelling in thresholds:
            return thresholds[spelling]
    return measurement.threshold


def letter_order(letter: str) -> tuple[bool, str]:
    """Return a sort key: letters first, then the names of diagnostics without a letter."""
    return len(letter) > 1, letter


def in_order(letters: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(letters, key=letter_order))


def deciding(measurements: Mapping[str, Measurement]) -> dict[str, tuple[str, Measurement]]:
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
    by_letter = deciding(record.measurements)
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
