"""What a results folder keeps and no table counts: runs of code that has been replaced since, and what was set in quarantine.

Nothing here goes unless `bench clean --yes` asks for it. Rows that failed, replicates, marks and the saved states of trainings that
can go on are not spare.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_core.analysis.gather import current
from bench_core.results import store
from bench_core.results.files import writing
from bench_core.results.scan import Stored, is_run_folder, scan

REASON = ".reason.txt"


@dataclass(frozen=True)
class Spare:
    """A folder or file that may go."""

    path: Path
    why: str
    size: int  # bytes


def spare(roots: Sequence[Path]) -> Iterator[Spare]:
    """Everything under the given results or suite folders that no table counts. Raises UsageError where there is no such folder."""
    by_folder: dict[Path, list[Stored]] = defaultdict(list)
    for run in scan(roots).runs:
        by_folder[run.folder.parent].append(run)
    for folder, runs in sorted(by_folder.items()):
        cells = (store.read_suite(folder) or {}).get("cells")
        counted, _ = current([run.record for run in runs], cells if isinstance(cells, dict) else {})
        kept = {record.identity for record in counted}
        for run in sorted(runs, key=lambda run: run.folder):
            if run.record.identity not in kept:
                yield Spare(
                    run.folder, "its cell has been run by other code since", _size(run.folder)
                )
    for root in roots:
        for home in sorted({*root.glob(store.QUARANTINE), *root.glob(f"*/{store.QUARANTINE}")}):
            for path in sorted(home.iterdir()) if home.is_dir() and not home.is_symlink() else ():
                of = path.with_name(
                    path.name.removesuffix(REASON)
                )  # what a reason belongs to goes with it
                if of == path or not of.exists():
                    yield Spare(path, "in quarantine", _size(path))


def remove(found: Spare) -> bool:
    """Whether it is gone: not where another bench is at work on it. Raises StoreError."""
    if is_run_folder(found.path):
        return store.remove(found.path)
    with writing(found.path):
        if found.path.is_dir() and not found.path.is_symlink():
            shutil.rmtree(found.path)
        else:
            found.path.unlink()
        found.path.with_name(f"{found.path.name}{REASON}").unlink(missing_ok=True)
    return True


def _size(path: Path) -> int:
    paths = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    return sum(each.lstat().st_size for each in paths if not each.is_dir())
