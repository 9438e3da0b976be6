"""Select the one row that a claim is about: its recipe, method, limits and options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench_core.analysis.claims.recipe import (
    Difference,
    Recipe,
    as_list,
    changed,
    compare,
    differing,
    recipes,
)
from bench_core.analysis.claims.values import NotRun
from bench_core.analysis.verdicts.judge import deciding
from bench_core.analysis.verdicts.rows import Group, Row
from bench_core.analysis.verdicts.settings import Defaults, Settings
from bench_core.names import bare_name, with_options
from bench_core.results.hashing import plain_text
from bench_core.results.record import RunRecord, default_key
from bench_core.suite.cells import hashable, same_name
from bench_core.suite.claim import LETTERED, ClaimedMethod, Expectation

# only the first epochs of such a run are those of the whole schedule
ENDED_EARLY = ("training.stop_after", "training.stop_when")


def method_text(method: ClaimedMethod) -> str:
    """Write a claimed method as tables do: `dfa[penalty=0.01]`, `dfa[frozen]`."""
    options = {key: plain_text(value) for key, value in _options(method).items()}
    return with_options(method.name, options)


def _options(method: ClaimedMethod) -> dict[str, Any]:
    return {key: value for key, value in method.as_dict().items() if key != "name"}


def select(
    claim: Expectation,
    groups: Sequence[Group],
    claimed_for: Mapping[str, Any] | None,
    settings: Settings,
) -> tuple[Group, Row, list[str]]:
    """Return the one row that the claim is about, and notes on its recipe. Raises `NotRun`."""
    listed, free = recipes(claim.cell, claimed_for)
    defaults = settings.meant
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
    if claim.seed is not None:  # a run of that seed, perhaps of its first epochs alone
        own = [item for item in candidates if claim.seed in _seeds(item[1])]
        candidates = own or candidates
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
    others = [other.runs[0].record for _, other, _ in rows if other is not row]
    notes += _left_out(claim, row.runs[0].record, others, settings)
    if claimed_for is None:
        notes.append("the recipe of the suite's file is not known, so it was not compared")
    return group, row, notes


def _left_out(
    claim: Expectation, record: RunRecord, others: Sequence[RunRecord], settings: Settings
) -> Iterator[str]:
    """Say that runs of the rule are not the claim's, as they have another default of an option that
    it leaves out.

    others  the first run of each other row of the rule
    """
    stated = {f"method.{key}" for key in _options(claim.method)} if claim.method else set[str]()
    for kind, ref in record.cell.refs.items():
        for key in sorted(settings.disputed.get(default_key(kind, ref.name), {})):
            own, *theirs = (run.cell.refs[kind].params.get(key) for run in (record, *others))
            unlike = any(hashable(value) != hashable(own) for value in theirs)
            if unlike and f"{kind}.{key}" not in {*stated, *claim.cell}:
                default = f"{kind}.{key} than {plain_text(own)}"
                yield f"runs with another default of {default} are not this claim's"


def _seeds(row: Row) -> set[int]:
    return {run.record.cell.seed for run in row.runs}


def _decisive(claim: Expectation, row: Row) -> set[str]:
    """Return the diagnostics, by short name, on whose options and limits the figure depends."""
    kind, name = claim.parsed.kind, claim.parsed.name.partition("@")[0]
    letters: dict[str, str] = {}
    for run in row.runs:
        letters |= {key: item[0] for key, item in deciding(run.record.measurements).items()}
    if kind == "verdict":
        names = set(letters.values())
    else:
        names = {letters.get(name, name)} if kind in (*LETTERED, "diagnostic") else set()
    return {bare_name(name) for name in names}


def require_limits(
    claim: Expectation, row: Row, settings: Settings, file: Mapping[str, Any]
) -> None:
    """Raise `NotRun` if other limits than those of the file decide the figure of the claim."""
    decisive, floor = _decisive(claim, row), settings.depth_utility.model_dump()
    changes: list[str] = []
    if claim.parsed.kind != "diagnostic" and "thresholds" in file:
        own, wanted = (
            {name: limits[name] for name in limits if bare_name(name) in decisive}
            for limits in (settings.thresholds, file["thresholds"])
        )
        changes += changed("threshold", own, wanted)
    if claim.parsed.name == "margin" or "depth_utility" in decisive:
        changes += changed("depth_utility", floor, file.get("depth_utility", floor))
    if changes:
        raise NotRun(f"only with {', '.join(changes)}")


def require_options(
    claim: Expectation,
    row: Row,
    settings: Settings,
    file: Mapping[str, Any],
    diagnostics: Mapping[str, Mapping[str, Any]],
) -> None:
    """Raise `NotRun` if a diagnostic of the claim was measured with options unlike the file's."""
    decisive = _decisive(claim, row)
    for full, own in diagnostics.items():
        short, default = bare_name(full), settings.defaults.get(f"diagnostic {full}")
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


def row_of(method: ClaimedMethod, group: Group, defaults: Defaults) -> Row:
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
