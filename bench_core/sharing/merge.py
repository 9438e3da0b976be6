"""Merge results folders of several people: copy folders unchanged, together with their marks.

Runs of one identity and one environment must have the same numbers; otherwise the merge lists the
conflicts and writes nothing. A run from another environment, or of a recipe that is not
deterministic, is a *replicate*: kept under `<suite>/replicates/<environment>/<identity>` and not
counted. A run with a final status replaces a run without. A run with a fault is left out.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bench_core.errors import StoreError, UsageError
from bench_core.results import marks, store
from bench_core.results.files import fsync, writing
from bench_core.results.record import RunRecord, environment_key
from bench_core.results.scan import Stored, scan
from bench_core.results.status import FINAL
from bench_core.sharing.agreement import differing
from bench_core.sharing.verify import faults

REPLICATES = "replicates"
Fate = Literal["copy", "same", "replace", "stays", "replicate", "conflict"]
WORDS: dict[Fate, str] = {
    "copy": "copied",
    "replace": "replaced what had not ended",
    "same": "there already",
    "stays": "not better than what is there",
    "replicate": "kept as replicates",
}


@dataclass
class Merge:
    """The fate of every run folder of the sources, and what the user must know."""

    fates: dict[Path, Fate] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
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
    result = Merge()
    plans: dict[Path, Stored] = {}
    runs = _sound(sources, result)
    for run in runs:
        final = target / run.folder.parent.name / run.record.identity
        old = plans[final] if final in plans else _old(final, result)
        decision = result.fates[run.folder] = fate(run.record, old.record if old else None)
        if decision == "conflict" and old is not None:
            parts = "; ".join(differing(run.record, old.record))
            result.conflicts.append(f"{run.folder} and {old.folder}: {parts}")
        if decision == "replicate":
            final = final.parent / REPLICATES / environment_key(run.record) / run.record.identity
        if decision in ("copy", "replace", "replicate"):
            plans[final] = run
    if result.conflicts:
        return result
    for final, run in plans.items():
        install(run.folder, final)
    for folder in {run.folder.parent for run in plans.values()}:
        _merge_suite(folder, target / folder.name, result)
    for run in runs:
        if result.fates[run.folder] in ("copy", "replace", "same"):
            marks.add(run.record, run.folder.parent, target / run.folder.parent.name)
    return result


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
        raise StoreError(f"{final}: written by a newer bench: {reason}") from None
    except store.Unreadable as reason:
        if final.exists():
            result.troubles.append(f"{final}: unreadable, to be replaced: {reason}")
        return None


def install(source: Path, final: Path) -> None:
    """Copy a run folder, complete or not at all. StoreError, also if its lock is held."""
    with writing(final):
        final.parent.mkdir(parents=True, exist_ok=True)
    with store.locked(final) as lock:
        if lock is None:
            held = "another bench is at work on this run; try again when it is done"
            raise StoreError(f"{final}: {held}")
        try:
            store.remove_temporary(final)
            with writing(final):
                shutil.copytree(source, store.temporary(final), symlinks=True)
                for path in store.temporary(final).iterdir():
                    fsync(path)
            store.put(final)
            store.remove_resume(final)
        finally:
            store.remove_temporary(final)


def _merge_suite(source: Path, target: Path, result: Merge) -> None:
    """Merge suite.json: the target's settings stay, cells that only the source has are added."""
    theirs, ours = store.read_suite(source), store.read_suite(target)
    if theirs is None:
        return
    if ours is None:
        store.write_suite(target, theirs)
        return
    differ = [key for key in ("thresholds", "depth_utility") if theirs.get(key) != ours.get(key)]
    if differ:
        line = f"{source}: its suite is judged by other {' and '.join(differ)}"
        result.troubles.append(f"{line}; those of {target} stay")
    joined = dict(ours)
    for key in ("cells", "defaults"):
        items = [suite.get(key) for suite in (theirs, ours)]
        their, our = (item if isinstance(item, dict) else {} for item in items)
        if their.keys() - our.keys():
            joined[key] = {**their, **our}
    if joined != ours:
        store.write_suite(target, joined)
