"""Find and delete what no table counts: superseded runs and folders in quarantine.

A run is superseded when other code has run its cell since. Only `bench clean --yes` deletes. Failed
runs, replicates, marks and the saved states of trainings that can be resumed are never spare.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_core.analysis.gather import current
from bench_core.results import store
from bench_core.results.files import remove as delete
from bench_core.results.files import writing
from bench_core.results.scan import Stored, is_run_folder, scan


@dataclass(frozen=True)
class Spare:
    """A folder or file that may be deleted."""

    path: Path
    why: str
    size: int  # bytes


def spare(roots: Sequence[Path]) -> Iterator[Spare]:
    """Yield all spare folders and files of results or suite folders.

    Raises UsageError for a missing folder.
    """
    by_folder: dict[Path, list[Stored]] = defaultdict(list)
    for run in scan(roots).runs:
        by_folder[run.folder.parent].append(run)
    for folder, runs in sorted(by_folder.items()):
        cells = (store.read_suite(folder) or {}).get("cells")
        counted, _ = current([run.record for run in runs], cells if isinstance(cells, dict) else {})
        kept = {record.identity for record in counted}
        for run in sorted(runs, key=lambda run: run.folder):
            if run.record.identity not in kept:
                why = "its cell has been run by other code since"
                yield Spare(run.folder, why, _size(run.folder))
    for home in (home for root in roots for home in _quarantines(root)):
        for path in sorted(home.iterdir()):
            folder = path.with_name(path.name.removesuffix(store.REASON))
            if folder == path or not os.path.lexists(folder):  # deleted with its folder
                yield Spare(path, "in quarantine", _size(path))


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
    with writing(path):
        delete(path)
        delete(path.with_name(f"{path.name}{store.REASON}"))
    return True


def _size(path: Path) -> int:
    paths = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in paths if not file.is_dir())
