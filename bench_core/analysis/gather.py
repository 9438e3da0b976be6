"""What results folders hold, suite by suite, ready to be judged.

A suite folder has a suite.json, written by `bench run`: title, thresholds, what d is read against, and which identity stands for
which cell under the code that ran last. Where a folder holds runs of one cell under several identities (the code changed in
between), the one that suite.json names counts; the others are kept and counted as superseded.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from bench_core.analysis import distance
from bench_core.analysis.claims import Outcome, judge_claims
from bench_core.analysis.judge import DepthUtility, Settings
from bench_core.analysis.leaderboard import judge_all
from bench_core.results import epochs, marks, remeasured, store
from bench_core.results.epochs import Epoch
from bench_core.results.record import RunRecord, cell_key
from bench_core.results.scan import scan
from bench_core.suite.claim import Expectation


@dataclass(frozen=True)
class SuiteResults:
    """The runs of one suite folder and how they are to be judged."""

    name: str
    settings: Settings
    records: tuple[RunRecord, ...]
    superseded: int
    folder: Path = Path()
    description: str = ""
    further: tuple[
        Path, ...
    ] = ()  # suite folders of other people that are taken together with this one
    expect: tuple[Expectation, ...] = ()
    claimed_for: Mapping[str, Any] | None = (
        None  # `Suite.recipe` of the file that the claims were written in
    )

    def run_folder(self, record: RunRecord) -> Path:
        """Where a run of this suite lies."""
        folders = (self.folder, *self.further)
        return next(
            (f / record.identity for f in folders if (f / record.identity).is_dir()),
            self.folder / record.identity,
        )


class _Described(BaseModel):
    """What is read of suite.json."""

    name: str = ""
    title: str = ""
    description: str = ""
    thresholds: dict[str, float] = {}
    depth_utility: DepthUtility = DepthUtility()
    cells: dict[str, str] = {}
    defaults: dict[str, dict[str, Any]] = {}
    expect: list[Any] = []
    claimed_for: dict[str, Any] | None = None


def _described(folder: Path) -> tuple[_Described, str | None]:
    """suite.json of a suite folder, and what is wrong with it; the defaults where it is missing or cannot be read."""
    path = folder / store.SUITE
    if not os.path.lexists(path):
        return _Described(name=folder.name), None
    try:
        return _Described.model_validate(
            {"name": folder.name, **(store.read_suite(folder) or {"title": None})}
        ), None
    except ValidationError:
        line = f"{path}: cannot be read: default thresholds are used; `bench run` writes it anew"
        return _Described(name=folder.name), line


def _claims(folder: Path, entries: Sequence[Any]) -> tuple[tuple[Expectation, ...], list[str]]:
    """The claims of suite.json, and a line where some cannot be read."""
    claims = []
    for entry in entries:
        with contextlib.suppress(ValidationError):
            claims.append(Expectation.model_validate(entry))
    lost = len(entries) - len(claims)
    line = f"{folder / store.SUITE}: {lost} claims cannot be read; `bench run` writes them anew"
    return tuple(claims), [line] if lost else []


def gather(roots: Sequence[Path]) -> tuple[list[SuiteResults], list[str]]:
    """The results under the given folders, by suite, and a line for each folder that could not be read."""
    found = scan(roots)
    by_folder: dict[Path, list[RunRecord]] = defaultdict(list)
    for run in found.runs:
        record, troubles = remeasured.attach(run.record, run.folder)
        found.troubles += troubles
        by_folder[run.folder.parent].append(record)
    results = []
    for folder in sorted(by_folder):
        described, trouble = _described(folder)
        found.troubles += [trouble] if trouble else []
        counted, superseded = current(by_folder[folder], described.cells)
        known = marks.states(folder, counted)
        settings = Settings(
            described.thresholds,
            described.depth_utility,
            described.title,
            known,
            described.defaults,
        )
        claims, wrong = _claims(folder, described.expect)
        found.troubles += wrong
        results.append(
            SuiteResults(
                described.name, settings, counted, superseded, folder, described.description,
                expect=claims, claimed_for=described.claimed_for,
            )
        )  # fmt: skip
    return results, found.troubles


def together(suites: Sequence[SuiteResults]) -> list[SuiteResults]:
    """Suites of one name, from several people's folders, as one: judged as the first of them says, equal records once."""
    by_name: dict[str, list[SuiteResults]] = defaultdict(list)
    for found in suites:
        by_name[found.name].append(found)
    merged = []
    for same in by_name.values():
        records = {
            (r.identity, r.checksum or r.to_json()): r for found in same for r in found.records
        }
        ordered = sorted(records.items(), key=lambda pair: pair[0])
        known = {
            checksum: state
            for found in reversed(same)
            for checksum, state in found.settings.trust.items()
        }
        merged.append(
            replace(
                same[0],
                settings=replace(same[0].settings, trust=known),
                records=tuple(record for _, record in ordered),
                superseded=sum(found.superseded for found in same),
                further=tuple(found.folder for found in same[1:]),
            )
        )
    return merged


def epochs_of(results: SuiteResults) -> tuple[dict[str, tuple[Epoch, ...]], list[str]]:
    """Identity → rows of epochs.jsonl, of the runs that count, and a line for each file that could not be read."""
    found: dict[str, tuple[Epoch, ...]] = {}
    troubles = []
    for record in results.records:
        folder = results.run_folder(record)
        try:
            found[record.identity] = epochs.read(folder)
        except store.Unreadable as reason:
            troubles.append(f"{folder}: the epochs are not counted: {reason}")
    return found, troubles


def claims_of(results: SuiteResults) -> tuple[list[Outcome], list[str]]:
    """What became of every claim of a suite, and a line for each run whose epochs a claim needs and nobody can read."""
    troubles: list[str] = []
    read: dict[str, tuple[Epoch, ...]] = {}

    def rows(record: RunRecord) -> tuple[Epoch, ...]:
        if record.identity not in read:
            folder = results.run_folder(record)
            try:
                read[record.identity] = epochs.read(folder)
            except store.Unreadable as reason:
                read[record.identity] = ()
                troubles.append(f"{folder}: the epochs are not counted: {reason}")
        return read[record.identity]

    if any(claim.parsed.name == distance.NAME for claim in results.expect):
        results = distance.attach(results)
    groups = judge_all(results.records, results.settings)
    return judge_claims(
        results.expect, groups, results.settings, results.claimed_for, rows
    ), troubles


def current(
    records: Sequence[RunRecord], cells: dict[str, str]
) -> tuple[tuple[RunRecord, ...], int]:
    """The runs that count: of several runs of one cell, the one that `cells` names, if it is there."""
    by_cell: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_cell[cell_key(record.cell)].append(record)
    counted: list[RunRecord] = []
    for key, runs in by_cell.items():
        named = [run for run in runs if run.identity == cells.get(key)]
        counted += named or runs
    counted.sort(key=lambda record: record.identity)
    return tuple(counted), len(records) - len(counted)
