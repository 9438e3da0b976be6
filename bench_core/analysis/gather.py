"""Gather the runs of results folders by suite, with the settings by which they are judged.

`bench run` writes suite.json into a suite folder. If the folder holds runs of one cell under
several identities (the code has changed), the run that suite.json names counts; the others are
superseded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from bench_core.analysis.suite_file import claims, described
from bench_core.analysis.verdicts.labels import method_key
from bench_core.analysis.verdicts.older_code import edited, overtaken
from bench_core.analysis.verdicts.settings import Settings
from bench_core.analysis.verdicts.standing import Standing
from bench_core.names import OURS, distribution_of
from bench_core.printable import few
from bench_core.results import ledger, marks, reference, remeasured, store
from bench_core.results.agreement import POINTS, disagreement, told_apart
from bench_core.results.ledger import TRIALS, Ledger, Tuned
from bench_core.results.record import RunRecord, cell_key
from bench_core.results.scan import Stored, scan
from bench_core.results.status import FINAL
from bench_core.results.suite_json import SuiteFile
from bench_core.suite.claim import Expectation

MOST_PARTS = 4  # of a disagreement are named


@dataclass(frozen=True)
class SuiteResults:
    """The runs of one suite folder and the settings by which they are judged.

    superseded   runs by older code, which do not count
    replaced     those of them whose own cell was run by other code since
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
    replaced: int = 0

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


def _ledger(folder: Path, troubles: list[str]) -> Ledger:
    """Read tuning.json: an empty ledger if it is missing, and with a warning if it is unreadable
    or has left its trials."""
    path = folder / ledger.LEDGER
    if ledger.is_lost(folder):
        lost = f"{path}: is missing beside {TRIALS}: winners of the search are shown as plain rows"
        troubles.append(f"{lost}; copy it too, or `bench tune` writes it anew")
    try:
        return ledger.read(folder)
    except store.Unreadable as error:
        consequence = "its rows do not show their trials"
        troubles.append(store.unread(path, error, consequence))
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


def _older_trials(folder: Path, records: Sequence[RunRecord], searches: Ledger) -> Iterator[str]:
    """Name the rules whose trials ran with other code than the runs that they chose."""
    by_key = {cell_key(record.cell): record for record in records} if searches.rules else {}
    for name, tuned in searches.rules.items():
        runs = [by_key[key] for key in tuned.cells if key in by_key]
        if tuned.best is None or not runs:
            continue
        places = (folder / TRIALS).glob(f"*/{tuned.results[tuned.best].identity}")
        try:
            trial = store.read(next(places), sums=False)
        except (StopIteration, store.Unreadable):
            continue  # a submission has no trials
        package = distribution_of(trial.cell.method.name)
        before = trial.code.get(package, {}).get("files")
        changed = [run for run in runs if run.code.get(package, {}).get("files") != before]
        if changed and package != OURS:
            count = f"{len(changed)} of the runs that they chose"
            remedy = "`bench tune` searches again with today's"
            yield f"{folder}: the trials of {name} ran with other code than {count}; {remedy}"


@dataclass
class _Found:
    """The runs of a suite folder, and what is known of them beside their records, by checksum.

    place    the place of the folder among those that were read
    further  folders of the reference whose runs are taken together with its own
    """

    place: int
    records: list[RunRecord] = field(default_factory=list)
    late: dict[str, tuple[remeasured.Remark, ...]] = field(default_factory=dict)
    marks: Mapping[str, marks.TrustMark] = field(default_factory=dict)
    further: tuple[Path, ...] = ()

    def standings(
        self, clashes: Mapping[str, str], tuned: Mapping[str, Tuned]
    ) -> dict[str, Standing]:
        """Map the checksum of each run to what is known of it beside its record."""
        checksums = {*self.marks, *(record.checksum or "" for record in self.records)}
        return {checksum: self._standing(checksum, clashes, tuned) for checksum in checksums}

    def _standing(
        self, checksum: str, clashes: Mapping[str, str], tuned: Mapping[str, Tuned]
    ) -> Standing:
        late = self.late.get(checksum, ())
        trust, said = _trust(self.marks.get(checksum), late)
        search = tuned.get(checksum)
        return Standing(trust, said, late, clashes.get(checksum, ""), search, self.place)


def gather(roots: Sequence[Path]) -> tuple[list[SuiteResults], list[str]]:
    """Gather the results under folders by suite, and a line for each unreadable folder."""
    stored = scan(roots)
    troubles = stored.troubles
    shipped = reference.installed()
    if shipped and shipped.trouble:
        troubles.append(shipped.trouble)
    linked = shipped.of_suites(roots, troubles) if shipped else {}
    runs = list(reference.vouched(stored.runs, shipped, troubles))
    found = _by_folder(runs, linked, troubles)
    known = {folder: own.marks for folder, own in found.items()}
    clashes = _disputes(known) | _conflicts([*runs, *_replicates(found, troubles)], known)
    suites = [_suite(folder, found[folder], clashes, shipped, troubles) for folder in sorted(found)]
    return suites, troubles


def _by_folder(
    runs: Iterable[Stored], linked: Mapping[Path, Sequence[Stored]], troubles: list[str]
) -> dict[Path, _Found]:
    """Group runs by their suite folder, with their late measurements and marks of trust.

    linked  suite folder → runs of the reference that its suite.json names
    """
    found: dict[Path, _Found] = {}
    for run in runs:
        own = found.setdefault(run.folder.parent, _Found(len(found)))
        record, remarks, problems = remeasured.attach(run.record, run.folder)
        troubles += problems
        own.records.append(record)
        if remarks:
            own.late[record.checksum or ""] = remarks
    for folder, others in linked.items():
        own = found.setdefault(folder, _Found(len(found)))
        own.records += [run.record for run in others]
        own.further = tuple(sorted({run.folder.parent for run in others}))
    for folder, own in found.items():
        own.marks = marks.every(folder, own.records)
    return found


def _suite(
    folder: Path,
    found: _Found,
    clashes: Mapping[str, str],
    shipped: reference.Reference | None,
    troubles: list[str],
) -> SuiteResults:
    """Return the runs of a suite folder that count, and how they are judged.

    clashes  checksum of a run → its disagreement with another result of its identity
    """
    about, searches = described(folder, troubles, shipped), _ledger(folder, troubles)
    records, tuned = _searched(found.records, searches)
    counted, superseded = current(records, about.cells)
    troubles += _older_trials(folder, counted, searches)
    settings = Settings(
        about.thresholds,
        about.depth_utility,
        about.title,
        defaults=about.defaults,
        used=about.used,
    )
    replaced = len(superseded)
    command = "bench tune" if searches.rules else "bench run"
    counted, behind, lines = left_behind(counted, settings, folder, command)
    troubles += lines
    superseded += behind
    standings = found.standings(clashes, tuned)
    settings = replace(settings, older=superseded, standings=standings)
    return SuiteResults(
        about.name,
        settings.over(counted),
        counted,
        len(superseded),
        folder,
        about.description,
        found.further,
        expect=claims(folder, about.expect, troubles),
        claimed_for=about.claimed_for,
        diagnostics=about.diagnostics,
        file=about.file,
        replaced=replaced,
    )


def left_behind(
    records: Sequence[RunRecord], settings: Settings, where: object, command: str = "bench run"
) -> tuple[tuple[RunRecord, ...], tuple[RunRecord, ...], list[str]]:
    """Return the runs that count, those that `overtaken` and then `edited` find, and lines on them.

    where    the folder or the suite that the lines name
    command  trains them again
    """
    defaults, old = settings.over(records).recorded, overtaken(records, settings.used)
    rest = [run for run in records if run.identity not in old]
    own = edited(rest, lambda run: method_key(run.cell.method, defaults), settings.used)
    rules = sorted({run.cell.method.short for run in rest if run.identity in own})
    remedy = f"`{command}` without --method trains all of them again"
    lines = _not_comparable(where, old, "the data set or the network", remedy)
    remedy = f"`{command}` with all seeds trains them again"
    lines += _not_comparable(where, own, ", ".join(rules), remedy)
    counted = tuple(run for run in rest if run.identity not in own)
    return counted, tuple(run for run in records if run.identity in old | own), lines


def _not_comparable(
    where: object, changed: Mapping[str, list[str]], whose: str, remedy: str
) -> list[str]:
    """Say how many runs newer code has left behind, and how to train them again; none: no line.

    changed  identity → modules
    """
    if not changed:
        return []
    names = few(sorted({name for own in changed.values() for name in own}))
    count = "1 run is" if len(changed) == 1 else f"{len(changed)} runs are"
    why = f"the code of {whose} has changed since ({names})"
    return [f"{where}: {count} not counted: {why}; {remedy}"]


def _replicates(folders: Iterable[Path], troubles: list[str]) -> list[Stored]:
    """Read the runs of other environments that `bench merge` kept beside those that count."""
    homes = [folder / store.REPLICATES for folder in folders]
    stored = scan([home for home in homes if home.is_dir() and not home.is_symlink()])
    troubles += stored.troubles
    return stored.runs


def _trust(
    mark: marks.TrustMark | None, late: Sequence[remeasured.Remark]
) -> tuple[marks.Trust, tuple[str, ...]]:
    """Return the trust in a run, and what other users say of it.

    A run whose verdict may rest on a measurement by another user is not checked or replicated.
    """
    if mark is None:
        return "posted", ()
    foreign = any(item.judges and item.maker for item in late)
    state = mark.state
    return "posted" if foreign and state != "disputed" else state, mark.said


def _disputes(known: Mapping[Path, Mapping[str, marks.TrustMark]]) -> dict[str, str]:
    """Map the checksum of each run that this user disputes to the reason."""
    return {
        checksum: f"your replica does not agree: {mark.dispute}"
        for own in known.values()
        for checksum, mark in own.items()
        if mark.state == "disputed"
    }


def _conflicts(
    runs: Iterable[Stored], known: Mapping[Path, Mapping[str, marks.TrustMark]]
) -> dict[str, str]:
    """Map the checksum of each run to its disagreement with another result of its identity.

    A result that this user has replicated counts, and a row of the reference, unless the other one
    is such a result too. A replica that agrees within the tolerance between environments counts
    only if it does not agree with the other result as well.
    """
    by_identity: dict[str, dict[str, Stored]] = defaultdict(dict)
    for run in runs:
        if run.record.status in FINAL and run.record.checksum:
            by_identity[run.record.identity].setdefault(run.record.checksum, run)
    clashes: dict[str, str] = {}
    for same in by_identity.values():
        ordered = sorted(same.items(), key=lambda item: (repr(item[1].record.accuracy), item[0]))
        for (first, one), (second, other) in combinations(ordered, 2):
            if parts := disagreement(one.record, other.record):
                more = "; …" if len(parts) > MOST_PARTS else ""
                text = f"two results of one identity: {'; '.join(parts[:MOST_PARTS])}{more}"
                pairs = ((first, one, other), (second, other, one))
                lost = {name for name, own, against in pairs if not _holds(own, against, known)}
                clashes |= dict.fromkeys(lost or {first, second}, text)
    return clashes


def _holds(run: Stored, other: Stored, known: Mapping[Path, Mapping[str, marks.TrustMark]]) -> bool:
    """Decide whether a result counts against another one of its identity."""
    mark = known.get(run.folder.parent, {}).get(run.record.checksum or "")
    if run.record.shipped or mark is None or mark.state != "replicated":
        return run.record.shipped
    if told_apart(run.record, other.record):  # the replica agrees with this run in these
        return True
    theirs = other.record.accuracy

    def chooses(replica: marks.Replica) -> bool:
        own = replica.accuracy
        near = own is not None and theirs is not None and abs(own - theirs) <= POINTS
        return replica.how == "bits" or not near

    return any(map(chooses, mark.own))


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
