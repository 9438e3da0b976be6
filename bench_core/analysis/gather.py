"""Gather the runs of results folders by suite, with the settings by which they are judged.

`bench run` writes suite.json into a suite folder. If the folder holds runs of one cell under
several identities (the code has changed), the run that suite.json names counts; the others are
superseded.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from bench_core.analysis import distance
from bench_core.analysis.claims import ClaimResult, judge_claims
from bench_core.analysis.judge import Settings
from bench_core.analysis.leaderboard import judge_all
from bench_core.errors import by_reason
from bench_core.results import epochs, ledger, marks, reference, remeasured, store
from bench_core.results.agreement import disagreement
from bench_core.results.epochs import Epoch
from bench_core.results.ledger import Ledger, Tuned
from bench_core.results.record import RunRecord, cell_key, recorded_defaults
from bench_core.results.scan import Stored, scan
from bench_core.results.status import FINAL
from bench_core.suite.claim import Expectation
from bench_core.suite.model import DepthUtility

MOST_PARTS = 4  # of a disagreement are named
CURVES = 16 << 20  # bytes of epochs.jsonl whose rows are kept while claims are judged


class SuiteFile(BaseModel):
    """The part of suite.json about the suite's file without options.

    cells  keys of its cells; None: every `bench run` here had options that changed them
    """

    title: str = ""
    description: str = ""
    cells: list[str] | None = None


@dataclass(frozen=True)
class SuiteResults:
    """The runs of one suite folder and the settings by which they are judged.

    further      suite folders of other people that are taken together with this one
    claimed_for  `Suite.recipe` of the file that contains the claims
    diagnostics  full name → parameters
    file         None in older results
    """

    name: str
    settings: Settings
    records: tuple[RunRecord, ...]
    superseded: int
    folder: Path = Path()
    description: str = ""
    further: tuple[Path, ...] = ()
    expect: tuple[Expectation, ...] = ()
    claimed_for: Mapping[str, Any] | None = None
    diagnostics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    file: SuiteFile | None = None

    @cached_property
    def is_suite(self) -> bool:
        """Decide whether every cell of the suite's file has a run here."""
        if self.file is None or self.file.cells is None:
            return self.file is None
        return len(self.own_cells) == len(self.file.cells)

    @cached_property
    def own_cells(self) -> frozenset[str]:
        """Return the keys of the cells of the suite's file that have a run here."""
        stated = frozenset(self.file.cells or ()) if self.file else frozenset[str]()
        return stated & {cell_key(record.cell) for record in self.records}

    def run_folder(self, record: RunRecord) -> Path:
        """Return the folder of a run of this suite."""
        folders = [folder / record.identity for folder in (self.folder, *self.further)]
        return next((folder for folder in folders if folder.is_dir()), folders[0])


class _Part(BaseModel):
    """A part of a recipe: a component with its options, or settings."""

    model_config = ConfigDict(extra="allow")
    name: str | None = None
    stop_when: dict[str, float | None] = {}


class _Recipe(BaseModel):
    arch: _Part = _Part()
    dataset: _Part = _Part()
    training: _Part = _Part()
    data: dict[str, Any] = {}


class _ClaimedFor(_Recipe):
    """The form of `Suite.recipe`."""

    stop_when: list[str] | dict[str, float | None] = []
    axes: list[str] = []
    recipes: list[_Recipe] = []
    included: list[_Recipe] = []
    thresholds: dict[str, float] = {}
    depth_utility: dict[str, Any] = {}
    measured: dict[str, dict[str, Any]] = {}


def _claimable(value: dict[str, Any]) -> dict[str, Any]:
    _ClaimedFor.model_validate(value)
    return value


class _Described(BaseModel):
    """The part of suite.json that decides how runs are judged."""

    name: str = ""
    title: str = ""
    description: str = ""
    thresholds: dict[str, float] = {}
    depth_utility: DepthUtility = DepthUtility()
    cells: dict[str, str] = {}
    defaults: dict[str, dict[str, Any]] = {}
    expect: list[Any] = []
    claimed_for: Annotated[dict[str, Any], AfterValidator(_claimable)] | None = None
    diagnostics: dict[str, dict[str, Any]] = {}
    file: SuiteFile | None = None


def _described(
    folder: Path, troubles: list[str], shipped: reference.Reference | None
) -> _Described:
    """Read suite.json: the defaults if it is missing, and with a warning if it is unreadable."""
    path, name = folder / store.SUITE, folder.resolve().name
    if not os.path.lexists(path):
        return _Described(name=name)
    try:
        content = shipped.described(folder) if shipped else store.suite_json(folder)
        return _Described.model_validate({"name": name, **content})
    except store.Unreadable as error:
        reason = str(error)
    except ValidationError as error:
        reason = f"does not follow its schema: {store.first_fault(error)}"
    remedy = "default thresholds are used; `bench run` writes it anew"
    troubles.append(f"{path}: cannot be read: it {reason}; {remedy}")
    return _Described(name=name)


def _ledger(folder: Path, troubles: list[str]) -> Ledger:
    """Read tuning.json: an empty ledger if it is missing, and with a warning if unreadable."""
    try:
        return ledger.read(folder)
    except store.Unreadable as error:
        path = folder / ledger.LEDGER
        troubles.append(f"{path}: cannot be read: it {error}; its rows do not show their trials")
        return Ledger()


def _searched(
    records: Sequence[RunRecord], searches: Ledger
) -> tuple[list[RunRecord], dict[str, Tuned]]:
    """Return the runs without those of earlier winners, and the searches that chose their values.

    The searches are by checksum of run.json: a ledger speaks of the runs beside it alone, and not
    of rows of the reference, of which `bench tune` takes none.
    """
    own, replaced = searches.of_cells(), searches.replaced()
    kept: list[RunRecord] = []
    tuned: dict[str, Tuned] = {}
    for record in records:
        key = cell_key(record.cell) if searches.rules and not record.shipped else ""
        if key not in replaced:
            kept.append(record)
        if key in own:
            tuned[record.checksum or ""] = own[key]
    return kept, tuned


def _claims(folder: Path, entries: Sequence[Any], troubles: list[str]) -> tuple[Expectation, ...]:
    """Parse the claims of suite.json, with a warning if some cannot be read."""
    claims = []
    for entry in entries:
        with contextlib.suppress(ValidationError):
            claims.append(Expectation.model_validate(entry))
    if lost := len(entries) - len(claims):
        path = folder / store.SUITE
        troubles.append(f"{path}: {lost} claims cannot be read; `bench run` writes them anew")
    return tuple(claims)


def gather(roots: Sequence[Path]) -> tuple[list[SuiteResults], list[str]]:
    """Gather the results under folders by suite, and a line for each unreadable folder."""
    stored = scan(roots)
    troubles = stored.troubles
    shipped = reference.installed()
    if shipped and shipped.trouble:
        troubles.append(shipped.trouble)
    linked = shipped.of_suites(roots, troubles) if shipped else {}
    by_folder: dict[Path, list[RunRecord]] = defaultdict(list)
    late_of: dict[Path, dict[str, tuple[remeasured.Remark, ...]]] = defaultdict(dict)
    counting = []
    unknown: list[tuple[Path, str]] = []
    for run in stored.runs:
        if (own := reference.vouched(run, shipped, troubles, unknown)) is None:
            continue
        counting.append(Stored(own, run.folder))
        record, remarks, problems = remeasured.attach(own, run.folder)
        troubles += problems
        by_folder[run.folder.parent].append(record)
        if remarks:
            late_of[run.folder.parent][record.checksum or ""] = remarks
    troubles += by_reason(unknown)
    for folder, runs in linked.items():
        by_folder[folder] += [run.record for run in runs]
    known = {folder: marks.every(folder, records) for folder, records in by_folder.items()}
    clashes = _conflicts([*counting, *_replicates(by_folder, troubles)], known)
    results = []
    for folder in sorted(by_folder):
        described, late = _described(folder, troubles, shipped), late_of[folder]
        records, tuned = _searched(by_folder[folder], _ledger(folder, troubles))
        counted, superseded = current(records, described.cells)
        trust, said = _trust(known[folder], late)
        defaults, unrecorded = recorded_defaults(counted, described.defaults)
        settings = Settings(
            described.thresholds,
            described.depth_utility,
            described.title,
            trust,
            defaults,
            superseded,
            said,
            late,
            clashes,
            tuned,
            unrecorded,
        )
        claims = _claims(folder, described.expect, troubles)
        results.append(
            SuiteResults(
                described.name,
                settings,
                counted,
                len(superseded),
                folder,
                described.description,
                tuple(sorted({run.folder.parent for run in linked.get(folder, ())})),
                expect=claims,
                claimed_for=described.claimed_for,
                diagnostics=described.diagnostics,
                file=described.file,
            )
        )
    return results, troubles


def _replicates(folders: Iterable[Path], troubles: list[str]) -> list[Stored]:
    """Read the runs of other environments that `bench merge` kept beside those that count."""
    homes = [folder / store.REPLICATES for folder in folders]
    found = scan([home for home in homes if home.is_dir() and not home.is_symlink()])
    troubles += found.troubles
    return found.runs


def _trust(
    known: Mapping[str, marks.TrustMark], late: Mapping[str, tuple[remeasured.Remark, ...]]
) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Return the trust in each run that is more than posted, and what other users say of it.

    A run whose verdict may rest on a measurement by another user is not checked or replicated.
    """
    trust, said = {}, {}
    for checksum, mark in known.items():
        foreign = any(item.judges and item.maker for item in late.get(checksum, ()))
        if (state := mark.state) != "posted" and not (foreign and state != "disputed"):
            trust[checksum] = str(state)
        if mark.said:
            said[checksum] = mark.said
    return trust, said


def _conflicts(
    runs: Iterable[Stored], known: Mapping[Path, Mapping[str, marks.TrustMark]]
) -> dict[str, str]:
    """Map the checksum of each run to its disagreement with another result of its identity.

    A result that this user has replicated counts, and a row of the reference, unless the other one
    is such a result too.
    """
    by_identity: dict[str, dict[str, Stored]] = defaultdict(dict)
    for run in runs:
        if run.record.status in FINAL and run.record.checksum:
            by_identity[run.record.identity].setdefault(run.record.checksum, run)
    clashes: dict[str, str] = {}
    for same in by_identity.values():
        replicated = {
            checksum
            for checksum, run in same.items()
            if run.record.shipped
            or (
                (mark := known.get(run.folder.parent, {}).get(checksum))
                and mark.state == "replicated"
            )
        }
        ordered = sorted(same.items(), key=lambda item: (repr(item[1].record.accuracy), item[0]))
        for (first, one), (second, other) in combinations(ordered, 2):
            if parts := disagreement(one.record, other.record):
                more = "; …" if len(parts) > MOST_PARTS else ""
                text = f"two results of one identity: {'; '.join(parts[:MOST_PARTS])}{more}"
                clashes |= dict.fromkeys({first, second} - replicated or {first, second}, text)
    return clashes


def claims_of(results: SuiteResults) -> tuple[list[ClaimResult], list[str]]:
    """Judge every claim of a suite; also a line for each run whose epochs are unreadable."""
    troubles: list[str] = []
    cache: dict[str, tuple[Epoch, ...]] = {}
    kept = 0

    def rows(record: RunRecord) -> tuple[Epoch, ...]:
        nonlocal kept
        if record.identity not in cache:
            entry = epochs.stated(record)
            size = entry.bytes if entry else 0
            if kept + size > CURVES:
                cache.clear()
                kept = 0
            kept += size
            folder = results.run_folder(record)
            try:
                cache[record.identity] = epochs.read(folder, entry)
            except store.Unreadable as reason:
                troubles.append(f"{folder}: the epochs are not counted: {reason}")
                cache[record.identity] = ()
        return cache[record.identity]

    if any(claim.parsed.name == distance.NAME for claim in results.expect):
        results = distance.attach(results)
    settings = results.settings
    groups = judge_all(results.records, settings)
    outcomes = judge_claims(
        results.expect, groups, settings, results.claimed_for, rows, results.diagnostics
    )
    return outcomes, troubles


def current(
    records: Sequence[RunRecord], cells: dict[str, str]
) -> tuple[tuple[RunRecord, ...], tuple[RunRecord, ...]]:
    """Return the runs that count, and the others.

    Of several runs of one cell the run that `cells` names counts; if it is missing, all count.
    """
    by_cell: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_cell[cell_key(record.cell)].append(record)
    counted: list[RunRecord] = []
    for key, runs in by_cell.items():
        named = [run for run in runs if run.identity == cells.get(key)]
        counted += named or runs
    counted.sort(key=lambda record: record.identity)
    identities = {record.identity for record in counted}
    return tuple(counted), tuple(r for r in records if r.identity not in identities)
