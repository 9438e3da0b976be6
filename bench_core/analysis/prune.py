"""Find and delete superseded runs and saved states, folders in quarantine, and chosen runs.

A run is superseded when other code has run its cell since; a done run stays until that run is done
too. On request runs by older code, or all runs of a method, are deleted too. Only `bench clean
--yes` deletes. It keeps replicates, marks and the saved states of trainings that `bench run` would
resume.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_core.analysis.gather import current
from bench_core.analysis.verdicts.older_code import by_recipe, older
from bench_core.errors import UsageError
from bench_core.names import without_ours
from bench_core.printable import few
from bench_core.results import store, suite_folder
from bench_core.results.files import remove as delete
from bench_core.results.files import writing
from bench_core.results.record import cell_key
from bench_core.results.scan import Stored, is_run_folder, scan
from bench_core.suite.cells import same_name


@dataclass(frozen=True)
class Spare:
    """A folder or file that may be deleted."""

    path: Path
    why: str
    size: int  # bytes


def spare(
    roots: Sequence[Path], with_older: bool = False, methods: Sequence[str] = ()
) -> Iterator[Spare]:
    """Yield all spare folders and files of results or suite folders.

    with_older  also runs whose code is older than that of other runs of their recipe
    methods     only runs of these methods: with `with_older` these, without it all of them
    Raises UsageError for a missing folder, and for a method without a run.
    """
    by_folder: dict[Path, list[Stored]] = defaultdict(list)
    stored = scan(roots).runs
    chosen = _full_names(stored, methods)
    for run in stored:
        by_folder[run.folder.parent].append(run)
    for folder, runs in sorted(by_folder.items()):
        plan = suite_folder.saved(folder)
        cells = plan.cells
        counted, _ = current([run.record for run in runs], cells)
        kept = {record.identity for record in counted}
        for identity, path in sorted(store.resumable(folder).items()) if not methods else ():
            if cells and identity not in {*cells.values(), *kept}:
                yield Spare(path, "saved by a training of other code", _size(path))
        done = {cell_key(record.cell) for record in counted if record.status == "done"}
        groups = by_recipe(counted) if with_older else []
        changed = {name: own for group in groups for name, own in older(group, plan.used).items()}
        for run in sorted(runs, key=lambda run: run.folder):
            name, identity = run.record.cell.method.name, run.record.identity
            if methods and name not in chosen:
                continue
            if identity not in kept:
                asked = bool(methods) and not with_older
                last = run.record.status == "done" and cell_key(run.record.cell) not in done
                if last and not asked:
                    continue
                why = "its cell has been run by other code since"
            elif identity in changed:
                why = f"older code than other runs of its recipe: {few(changed[identity])}"
            elif methods and not with_older:
                why = f"a run of {without_ours(name)}"
            else:
                continue
            yield Spare(run.folder, why, _size(run.folder))
    if methods:
        return
    for home in (home for root in roots for home in _quarantines(root)):
        for path in sorted(home.iterdir()):
            folder = path.with_name(path.name.removesuffix(store.REASON))
            if folder == path or not os.path.lexists(folder):  # deleted with its folder
                yield Spare(path, "in quarantine", _size(path))


def _full_names(runs: Sequence[Stored], methods: Sequence[str]) -> set[str]:
    """Return the full names of methods. UsageError for a name of no run, or of several methods."""
    names = sorted({run.record.cell.method.name for run in runs})
    chosen = set()
    for wanted in methods:
        if "[" in wanted and not wanted.endswith(".py"):
            rule = wanted.partition("[")[0]
            remedy = f"--method {rule} names all of its runs"
            raise UsageError(f"--method {wanted}: takes a rule without options; {remedy}")
        home = f"{Path(wanted).name}/" if wanted.endswith(".py") else None
        meant = [n for n in names if (n.startswith(home) if home else same_name(n, wanted))]
        if not meant or (len(meant) > 1 and home is None):
            fault = "no run of this method" if not meant else "several methods have this name"
            there = ", ".join(meant or names) or "no runs"
            raise UsageError(f"--method {wanted}: {fault}; there are {there}")
        chosen |= {*meant}
    return chosen


def _quarantines(root: Path) -> Iterator[Path]:
    """Yield the quarantines of a results folder or a suite folder; no link is followed."""
    suites = [root, *sorted(path for path in root.iterdir() if not path.is_symlink())]
    homes = (suite / store.QUARANTINE for suite in suites)
    yield from (home for home in homes if home.is_dir() and not home.is_symlink())


def remove(item: Spare) -> bool:
    """Delete a spare item. Returns False if another bench is at work on it. Raises StoreError."""
    path = item.path
    if is_run_folder(path):
        return store.remove(path)
    for identity, state in store.resumable(path.parent).items():
        if state == path:
            return store.remove_state(path.parent / identity)
    with writing(path):
        delete(path)
        delete(path.with_name(f"{path.name}{store.REASON}"))
    return True


def _size(path: Path) -> int:
    paths = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in paths if not file.is_dir())
