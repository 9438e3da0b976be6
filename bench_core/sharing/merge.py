"""Results of several people in one folder.

The same identity from the same environment must have the same numbers: where it has not, somebody's numbers are wrong, the merge is
refused with all such conflicts, and nothing is written. From another environment, or where the recipe is not deterministic, it
is a *replicate*: kept under `<suite>/replicates/<environment>/<identity>`, not counted. A run that ended takes the place of one
that did not (crashed, timeout, …); otherwise what is there stays. Folders are copied as they are, checksums and all, and what is
known about a run (`bench_core.results.marks`) goes with it; a run in which `bench verify` finds a
fault is left out and said.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

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


@dataclass
class Merge:
    """What a merge would do, and did."""

    fates: dict[Path, Fate] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def count(self, fate: Fate) -> int:
        return sum(each == fate for each in self.fates.values())


def fate(new: RunRecord, there: RunRecord) -> Fate:
    """What becomes of a run whose identity is in the target already."""
    if new.status not in FINAL:
        return "stays"
    if there.status not in FINAL:
        return "replace"
    deterministic = bool(new.cell.training.get("deterministic", True))
    if not differing(new, there):
        return "same"
    return (
        "conflict"
        if deterministic and environment_key(new) == environment_key(there)
        else "replicate"
    )


def merge(sources: Sequence[Path], target: Path) -> Merge:
    """Copy the runs of `sources` into `target`. Raises UsageError, StoreError; with conflicts nothing is written."""
    if any(source.resolve() == target.resolve() for source in sources):
        raise UsageError(
            f"{target}: is merged into itself; name the folders to take from, and --into another"
        )
    done = Merge()
    plans: dict[Path, tuple[Stored, Fate]] = {}
    marked: list[tuple[Stored, Fate]] = []
    for run in _readable(sources, done):
        final = target / run.folder.parent.name / run.record.identity
        planned = plans.get(final)
        there = planned[0].record if planned is not None else _there(final, done)
        what: Fate = "copy" if there is None else fate(run.record, there)
        if what == "conflict":
            where = planned[0].folder if planned is not None else final
            told = "; ".join(differing(run.record, there))  # type: ignore[arg-type]
            done.conflicts.append(f"{run.folder} and {where}: {told}")
        if what == "replicate":
            final = final.parent / REPLICATES / environment_key(run.record) / run.record.identity
        done.fates[run.folder] = what
        marked.append((run, what))
        if (what in ("copy", "replace", "replicate") and final not in plans) or what in (
            "replace",
            "replicate",
        ):
            plans[final] = (run, what)
    if not done.conflicts:
        for final, (run, _) in plans.items():
            install(run.folder, final)
        for folder in {run.folder.parent for run, _ in plans.values()}:
            _merge_suite(folder, target / folder.name, done)
        for run, what in marked:
            if what in ("copy", "replace", "same"):
                marks.add(run.record, run.folder.parent, target / run.folder.parent.name)
    return done


def _readable(sources: Sequence[Path], done: Merge) -> list[Stored]:
    """The runs of the sources that `bench verify` finds no fault with."""
    found = scan(sources)
    done.troubles += [line.replace("not counted", "left out") for line in found.troubles]
    good = []
    for run in found.runs:
        told = faults(run)
        done.troubles += [f"{run.folder}: left out: {'; '.join(told)}"] if told else []
        good += [] if told else [run]
    return good


def _there(final: Path, done: Merge) -> RunRecord | None:
    try:
        return store.read(final, sums=True)
    except store.Newer as reason:
        raise StoreError(f"{final}: written by a newer bench: {reason}") from None
    except store.Unreadable as reason:
        if final.exists():
            done.troubles.append(f"{final}: unreadable, to be replaced: {reason}")
        return None


def install(source: Path, final: Path) -> None:
    """Copy a run folder to its place, complete or not at all. Raises StoreError, also where a runner is at work on it."""
    with writing(final):
        final.parent.mkdir(parents=True, exist_ok=True)
    lock = store.lock(final)
    if lock is None:
        raise StoreError(
            f"{final}: another bench is at work on this run; try again when it is done"
        )
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
        store.unlock(final, lock)


def _merge_suite(source: Path, target: Path, done: Merge) -> None:
    """suite.json: the target's word on how to judge stays; cells that only the source knows are added."""
    theirs, ours = store.read_suite(source), store.read_suite(target)
    if theirs is None:
        return
    if ours is None:
        store.write_suite(target, theirs)
        return
    differ = [key for key in ("thresholds", "depth_utility") if theirs.get(key) != ours.get(key)]
    if differ:
        done.troubles.append(
            f"{source}: its suite is judged by other {' and '.join(differ)}; those of {target} stay"
        )
    known = {
        key: {**_dict(theirs.get(key)), **_dict(ours.get(key))} for key in ("cells", "defaults")
    }
    if new := {key: value for key, value in known.items() if value != _dict(ours.get(key))}:
        store.write_suite(target, {**ours, **new})


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
