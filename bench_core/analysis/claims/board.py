"""Hold the claims of every installed suite against the reference, with the cost of what is missing.

A claim is judged on the runs of all suites, because suites share cells. Of two runs of one cell the
one that has not lapsed counts, then that of the claim's own suite. Neither torch nor any plugin is
imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import yaml

from bench_core.analysis.claims.hold import ClaimResult
from bench_core.analysis.claims.outcomes import claims_of
from bench_core.analysis.claims.trainings import Trainings
from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.verdicts.kinds import NOT_RUN
from bench_core.analysis.verdicts.settings import Settings
from bench_core.errors import UsageError
from bench_core.results import files, reference, store, suite_folder
from bench_core.results.record import cell_key
from bench_core.results.scan import Stored
from bench_core.suite.cells import same_name
from bench_core.suite.load import installed_suites, load_suite
from bench_core.suite.model import Suite

FINDINGS = "findings.yaml"  # of the reference
CAUSES = ("ours", "theirs", "chance")


@dataclass(frozen=True)
class Finding:
    """Why a claim fails."""

    cause: str
    text: str


@dataclass(frozen=True)
class SuiteClaims:
    """The claims of a suite.

    seconds   of the trainings that each claim lacks, by cell; of a claim that was not run, None:
              unknown
    findings  claim as it is printed → why it fails
    """

    suite: Suite
    outcomes: Sequence[ClaimResult]
    seconds: Sequence[Mapping[Any, float] | None]
    findings: Mapping[str, Finding]

    @property
    def missing(self) -> Mapping[Any, float]:
        """Return the seconds of each training of the claims that were not run, by cell."""
        cells: dict[Any, float] = {}
        for own in self.seconds:
            for cell, seconds in (own or {}).items():
                cells[cell] = max(seconds, cells.get(cell, 0.0))
        return cells


@dataclass(frozen=True)
class Board:
    """All runs of the reference, and a line for each file of it that cannot be read."""

    shipped: reference.Reference
    runs: Sequence[Stored]
    troubles: list[str]

    def suites(self) -> Iterator[SuiteClaims]:
        """Judge the claims of every installed suite that has some."""
        for name in installed_suites():
            suite = load_suite(name)
            if suite.expect:
                outcomes, troubles = claims_of(self.results(suite))
                self.troubles.extend(troubles)
                seconds = [
                    self.trainings.cost(suite, outcome.claim) if outcome.status == NOT_RUN else {}
                    for outcome in outcomes
                ]
                yield SuiteClaims(suite, outcomes, seconds, self.findings.get(suite.name, {}))

    def results(self, suite: Suite) -> SuiteResults:
        """Return the runs on which the claims of a suite are judged, as results of the suite.

        They have a seed of the suite: n does not grow with the runs of other suites.
        """
        cells = suite.cells()
        names = {(cell.arch["name"], cell.dataset["name"]) for cell in cells}
        seeds = {cell.seed for cell in cells}
        by_cell: dict[str, Stored] = {}
        for run in sorted(self.runs, key=partial(_place, suite.name)):
            cell = run.record.cell
            pairs = (
                same_name(cell.arch.name, a) and same_name(cell.dataset.name, d) for a, d in names
            )
            if cell.seed in seeds and any(pairs):
                by_cell.setdefault(cell_key(cell), run)
        records = tuple(run.record for run in by_cell.values())
        settings = Settings(
            thresholds=suite.thresholds,
            depth_utility=suite.depth_utility,
            defaults=self._joined("defaults", suite.name),
        )
        return SuiteResults(
            suite.name,
            settings.over(records),
            records,
            0,
            further=tuple(sorted({run.folder.parent for run in by_cell.values()})),
            expect=tuple(suite.expect),
            claimed_for=suite.recipe(),
            diagnostics=self._joined("diagnostics", suite.name),
        )

    def _joined(self, key: str, name: str) -> dict[str, Any]:
        """Join a mapping of the suite.json of all suites; that of the named suite wins."""
        joined: dict[str, Any] = {}
        folders = {run.folder.parent for run in self.runs}
        for folder in sorted(folders, key=lambda folder: (folder.name == name, folder)):
            joined |= getattr(suite_folder.saved(folder), key)
        return joined

    @cached_property
    def findings(self) -> Mapping[str, Mapping[str, Finding]]:
        """The findings by suite; a file that cannot be read is a further trouble."""
        return _findings(self.shipped.folder / FINDINGS, self.troubles)

    @cached_property
    def trainings(self) -> Trainings:
        return Trainings([run.record for run in self.runs], self._joined("defaults", ""))


def _place(suite: str, run: Stored) -> tuple[bool, bool, str]:
    """Order the runs of a cell: a lapsed one last, one of the suite itself before others."""
    return bool(run.record.environment.get("lapsed")), run.suite != suite, str(run.folder)


def board() -> Board:
    """Read every run of the reference.

    Raises UsageError if there is no reference, or none that can be used.
    """
    shipped = reference.installed()
    if shipped is None:
        why = f"{reference.VARIABLE} is empty, or {reference.PACKAGE} is not installed"
        raise UsageError(f"there is no reference: {why}")
    if shipped.trouble:
        raise UsageError(shipped.trouble)
    runs, troubles = shipped.runs()
    return Board(shipped, runs, troubles)


def of_reference(results: SuiteResults) -> SuiteResults:
    """Return results on which claims are judged: of a suite of the reference with all its runs.

    Runs of a submission, which stand beside the reference's, stay.
    """
    shipped = reference.installed()
    home = shipped.folder.resolve() if shipped else None
    if results.folder.resolve().parent != home or results.name not in installed_suites():
        return results
    whole = board().results(load_suite(results.name))
    if not (posted := [record for record in results.records if not record.shipped]):
        return whole
    records = (*whole.records, *posted)
    settings = replace(results.settings, defaults=whole.settings.meant).over(records)
    further = (*whole.further, *results.further)
    return replace(whole, settings=settings, records=records, further=further)


def without_runs(names: Iterable[str]) -> list[SuiteResults]:
    """Return the installed suites among names that have claims, but no run here or shipped.

    Their claims are judged on the runs that the reference has under other suites.
    """
    shipped, known = reference.installed(), installed_suites()
    if shipped is None or shipped.trouble:
        return []
    wanted = [
        load_suite(name)
        for name in names
        if name in known
        and shipped.suite(name) is None
        and not any(
            any(Path(*place).glob(f"*/{store.RUN}")) for place in ((name,), ("results", name))
        )
    ]
    whole = board() if wanted else None
    return [whole.results(suite) for suite in wanted if whole and suite.expect]


def _findings(path: Path, troubles: list[str]) -> dict[str, dict[str, Finding]]:
    """Read findings.yaml, a list of mappings; a text copied from Markdown may have backslashes."""
    if not path.exists():
        return {}
    try:
        entries = yaml.safe_load(files.read(path, "suite", parts=1)) or []
        wrong = [entry for entry in entries if not _is_finding(entry)]
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        troubles.append(f"{path}: cannot be read: {files.reason(error)}")
        return {}
    need = f"an entry needs suite, claim, finding and cause ({', '.join(CAUSES)})"
    troubles += [f"{path}: {need}: {str(entry)[:100]}" for entry in wrong]
    findings: dict[str, dict[str, Finding]] = {}
    for entry in entries:
        if entry not in wrong:
            own = findings.setdefault(entry["suite"], {})
            own[entry["claim"].replace("\\", "")] = Finding(
                entry["cause"], entry["finding"].strip()
            )
    return findings


def _is_finding(entry: Any) -> bool:
    keys = {"suite", "claim", "cause", "finding"}
    texts = isinstance(entry, dict) and all(isinstance(text, str) for text in entry.values())
    return texts and set(entry) == keys and entry["cause"] in CAUSES
