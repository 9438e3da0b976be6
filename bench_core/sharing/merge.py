"""Merge results folders of several people: copy folders unchanged, together with their marks.

Runs of one identity and one environment must have the same numbers; otherwise the merge lists the
conflicts and writes nothing. Every decision is made again under the lock of the run: another bench
may have written it meanwhile. A run from another environment, or of a recipe that is not
deterministic, is a *replicate*: kept under `<suite>/replicates/<environment>/<identity>` and not
counted. A run with a final status replaces a run without. A run with a fault is left out. Late
measurements of a run that is there already are added to it.

A suite folder with a ledger of `bench tune` brings the ledger and the runs of its trials, so that a
search that was stopped continues in the target.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bench_core.errors import StoreError, UsageError
from bench_core.results import files, ledger, locks, marks, store, suite_folder
from bench_core.results.agreement import differing, disagreement
from bench_core.results.files import writing
from bench_core.results.record import RunRecord, environment_key
from bench_core.results.remeasured import checkpoint_sum, late_files
from bench_core.results.scan import Stored, scan
from bench_core.results.status import FINAL
from bench_core.results.suite_json import SuiteJson
from bench_core.sharing.verify import faults

Fate = Literal["copy", "same", "replace", "stays", "replicate", "conflict"]
WORDS: dict[Fate, str] = {
    "copy": "copied",
    "replace": "replaced what had not ended or was compact",
    "same": "there already",
    "stays": "not better than what is there",
    "replicate": "kept as replicates",
}


@dataclass
class Merge:
    """The fate of every run folder of the sources, and what the user must know.

    late      whether the conflicts arose while the merge was writing
    measured  late measurements that were copied to runs that are there already
    """

    fates: dict[Path, Fate] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    late: bool = False
    measured: int = 0
    troubles: list[str] = field(default_factory=list)

    def count(self, fate: Fate) -> int:
        return list(self.fates.values()).count(fate)


def fate(new: RunRecord, old: RunRecord | None) -> Fate:
    """Decide what becomes of a run; `old` is the run of its identity in the target."""
    if old is None:
        return "copy"
    if new.status not in FINAL:
        return "stays"
    if old.status not in FINAL:
        return "replace"
    if bool(new.original) != bool(old.original) and not disagreement(new, old):
        return "stays" if new.original else "replace"  # a compact run has rounded numbers
    if not differing(new, old):
        return "same"
    if not new.cell.training.get("deterministic", True):
        return "replicate"
    return "conflict" if environment_key(new) == environment_key(old) else "replicate"


def merge(sources: Sequence[Path], target: Path) -> Merge:
    """Copy the runs of `sources` unless they conflict. Raises UsageError, StoreError."""
    if any(source.resolve() == target.resolve() for source in sources):
        remedy = "name the folders to take from, and --into another"
        raise UsageError(f"{target}: is merged into itself; {remedy}")
    if os.path.lexists(target) and not target.is_dir():
        raise UsageError(f"--into {target}: is a file; name a folder")
    result = Merge()
    plans: dict[Path, Stored] = {}
    runs = _sound(sources, result)
    why = f"trials without {ledger.LEDGER}, which says of what search they are"
    for folder in filter(ledger.is_lost, _folders(sources)):
        result.troubles.append(f"{folder / ledger.TRIALS}: left out: {why}")
    homes = {run.folder: target for run in runs}
    tuned = _tuned(sources)
    for folder in tuned:
        trials = _sound([t for t in [folder / ledger.TRIALS] if t.is_dir()], result)
        homes |= {run.folder: target / folder.resolve().name / ledger.TRIALS for run in trials}
        runs += trials
    for run in runs:
        final = homes[run.folder] / run.suite / run.record.identity
        old = plans[final] if final in plans else _old(final, result)
        decision = result.fates[run.folder] = _decide(run, old, result)
        if decision == "replicate":
            final = _beside(final, run)
            old = plans[final] if final in plans else _old(final, result)
            decision = result.fates[run.folder] = _decide_beside(run, old, result)
        if decision in ("copy", "replace", "replicate"):
            plans[final] = run
    if result.conflicts:
        return result
    into = {homes[run.folder] / run.suite for run in runs}
    for home in into | {target / folder.resolve().name for folder in tuned}:
        suite_folder.refuse_newer(home)
    for final, run in plans.items():
        _install(run, final, target, result)
    for run in runs:
        if result.fates[run.folder] == "same":
            _measure(run, homes[run.folder] / run.suite / run.record.identity, result)
    result.late = bool(result.conflicts)
    there = [run for run in runs if result.fates[run.folder] not in ("stays", "conflict")]
    suites = {(run.folder.parent, homes[run.folder] / run.suite) for run in there}
    suites |= {(folder, target / folder.resolve().name) for folder in tuned}
    for folder, suite in sorted(suites):
        with writing(suite):
            target.mkdir(parents=True, exist_ok=True)
            files.make_folder(suite, len(suite.relative_to(target).parts))
        with suite_folder.locked(suite):
            _merge_suite(folder, suite, result)
            own = [run for run in there if run.folder.parent == folder]
            counting = [run.record for run in own if result.fates[run.folder] != "replicate"]
            _merge_ledger(folder, suite, counting, result)
    for run in there:
        if result.fates[run.folder] != "replicate":
            suite = homes[run.folder] / run.suite
            with suite_folder.locked(suite):
                marks.add(run.record, run.folder.parent, suite)
    return result


def _tuned(sources: Sequence[Path]) -> list[Path]:
    """Return the suite folders of the sources that have a ledger of `bench tune`."""
    return [each for each in _folders(sources) if os.path.lexists(each / ledger.LEDGER)]


def _folders(sources: Sequence[Path]) -> list[Path]:
    return [folder for source in sources for folder in (source, *sorted(source.iterdir()))]


def _decide(run: Stored, old: Stored | None, result: Merge) -> Fate:
    """Decide what becomes of a run, and keep the line of a conflict."""
    decision = fate(run.record, old.record if old else None)
    if decision == "conflict" and old is not None:
        parts = "; ".join(differing(run.record, old.record))
        result.conflicts.append(f"{run.folder} and {old.folder}: {parts}")
    return decision


def _decide_beside(run: Stored, old: Stored | None, result: Merge) -> Fate:
    """Decide what becomes of a replicate: the first of its environment stays.

    Two of one environment that must be equal bit by bit, and are not, are a conflict.
    """
    decision = "copy" if old is None else _decide(run, old, result)
    if decision in ("copy", "replace"):
        return "replicate"
    return "stays" if decision == "replicate" else decision


def _sound(sources: Sequence[Path], result: Merge) -> list[Stored]:
    stored = scan(sources)
    result.troubles += [line.replace("not counted", "left out") for line in stored.troubles]
    sound = []
    for run in stored.runs:
        if parts := faults(run):
            result.troubles.append(f"{run.folder}: left out: {'; '.join(parts)}")
        else:
            sound.append(run)
    return sound


def _old(final: Path, result: Merge) -> Stored | None:
    try:
        return Stored(store.read(final, sums=True), final)
    except store.Newer as reason:
        raise StoreError(store.of_newer(final, reason)) from None
    except store.Unreadable as reason:
        if os.path.lexists(final):
            result.troubles.append(f"{final}: unreadable, to be replaced: {reason}")
        return None


def _beside(final: Path, run: Stored) -> Path:
    """Name the place of a replicate of the run at `final`."""
    return final.parent / store.REPLICATES / environment_key(run.record) / run.record.identity


def _install(run: Stored, final: Path, target: Path, result: Merge) -> None:
    """Copy a run into the results folder `target`, complete or not at all.

    Its files are copied and its late measurements, nothing else that lies in its folder. A run that
    is there and must stay, stays. Raises StoreError, also if its lock is held.
    """
    with writing(final):
        target.mkdir(parents=True, exist_ok=True)
        files.make_folder(final.parent, len(final.parent.relative_to(target).parts))
    with locks.owned(final):
        old = _old(final, Merge())
        if final.parent.parent.name == store.REPLICATES:
            result.fates[run.folder] = now = _decide_beside(run, old, result)
            if now != "replicate":
                return
        elif (now := _decide(run, old, result)) not in ("copy", "replace"):
            result.fates[run.folder] = now
            if now == "replicate":
                _install(run, _beside(final, run), target, result)
            return
        with store.installed(final) as folder:
            for name in (*(Path(name).name for name in run.record.files), store.RUN):
                files.copy(run.folder / name, folder / name)
            for path in late_files(run.folder, result.troubles):
                try:
                    files.copy(path, folder / path.name)
                except files.Refused as reason:
                    result.troubles.append(f"{path}: left out: it {reason.strerror}")
        if run.record.status in FINAL:  # else the training that is saved here goes on
            store.remove_resume(final)


def _measure(run: Stored, final: Path, result: Merge) -> None:
    """Copy the late measurements that a run has and the same run in the target has not."""
    late = [p for p in late_files(run.folder, result.troubles) if not (final / p.name).exists()]
    if not late:
        return
    with locks.locked(final) as lock:
        old = _old(final, Merge())
        if lock is None or old is None:
            why = "it is in use" if lock is None else "it cannot be read"
            result.troubles.append(f"{final}: its late measurements are left out: {why}")
            return
        if checkpoint_sum(old.record) != checkpoint_sum(run.record):
            return  # a measurement belongs to its checkpoint
        for path in late:
            try:
                with writing(final):
                    files.copy(path, final / path.name)
                result.measured += 1
            except files.Refused as reason:
                result.troubles.append(f"{path}: left out: it {reason.strerror}")


def _merge_suite(source: Path, target: Path, result: Merge) -> None:
    """Merge suite.json: the target's settings stay, cells that only the source has are added."""
    ours = suite_folder.read(target)
    try:
        theirs = suite_folder.content(source)
    except store.Unreadable as reason:
        if os.path.lexists(source / suite_folder.SUITE):
            result.troubles.append(f"{source / suite_folder.SUITE}: left out: it {reason}")
        return
    if ours is None:
        suite_folder.write(target, theirs)
        return
    differ = [key for key in ("thresholds", "depth_utility") if theirs.get(key) != ours.get(key)]
    if differ:
        line = f"{source}: its suite is judged by other {' and '.join(differ)}"
        result.troubles.append(f"{line}; those of {target} stay")
    joined = dict(ours)
    for key in ("cells", "defaults"):
        their, our = (getattr(SuiteJson.readable(suite), key) for suite in (theirs, ours))
        if their.keys() - our.keys():
            joined[key] = {**their, **our}
    if joined != ours:
        suite_folder.write(target, joined)


def _merge_ledger(source: Path, target: Path, records: Sequence[RunRecord], result: Merge) -> None:
    """Merge tuning.json: the target's searches stay, those of other rules are added.

    records  runs of the source that count in the target: its ledger speaks of these alone
    """
    try:
        theirs, ours = ledger.read(source), ledger.read(target)
    except store.Unreadable as error:
        result.troubles.append(f"{source / ledger.LEDGER}: left out: one of the two {error}")
        return
    own, rules = ours.rules, theirs.among(records)
    both = [(key, rule, own[key]) for key, rule in rules.items() if key in own]
    if left := [key for key, one, other in both if one.search() != other.search()]:
        line = f"{source}: its search of {', '.join(left)} is left out"
        result.troubles.append(f"{line}; that of {target} stays")
    if rules.keys() - own.keys():
        ledger.write(target, theirs.suite, {**rules, **own})
