"""All runs under given folders. Reading only: nothing is moved.

All records are kept in memory. Those beyond `files.MEMORY` are left out and named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench_core.errors import UsageError
from bench_core.results import files
from bench_core.results.record import RunRecord
from bench_core.results.store import RUN, Unreadable, read
from bench_core.results.suite_folder import SUITE


@dataclass(frozen=True)
class Stored:
    """A run and its folder.

    states  whether its tensors must be there, as in `store.read`
    """

    record: RunRecord
    folder: Path
    states: bool = True

    @property
    def suite(self) -> str:
        """The name of the suite folder, also where the path is relative to it."""
        return self.folder.parent.resolve().name


@dataclass
class Scan:
    """The runs that were found, and a line for each folder that could not be read."""

    runs: list[Stored] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


def must_be_folder(root: Path) -> None:
    """Raise UsageError for a root that is no folder, such as a suite file."""
    if root.is_file():
        rest, here = "name the folder", Path("results") / root.stem
        if root.suffix == ".yaml":
            rest = f"`bench run {root}` writes one"
            rest = f"are its results in {here}?" if (here / SUITE).is_file() else rest
        raise UsageError(f"{root}: is a file and no results folder; {rest}")
    if not root.is_dir():
        raise UsageError(f"{root}: no such results folder; `bench run SUITE` writes one")


def scan(roots: Sequence[Path], states: bool = True) -> Scan:
    """Read all runs under results folders, suite folders or run folders, each run folder once.

    states  as in `store.read`
    """
    files.check_memory()
    result = Scan()
    visited: set[tuple[int, int]] = set()
    left_out: list[Path] = []
    memory = 0
    for root in roots:
        must_be_folder(root)
        try:
            folders = sorted(run_folders(root))
        except OSError as error:
            where = error.filename or root
            raise UsageError(f"{where}: cannot be read: {error.strerror}") from None
        for folder in folders:
            try:
                status = folder.stat()
                if (status.st_dev, status.st_ino) not in visited:
                    visited.add((status.st_dev, status.st_ino))
                    weight = _weight(folder)
                    if memory + weight > files.MEMORY:
                        left_out.append(folder)
                    else:
                        result.runs.append(Stored(read(folder, states=states), folder, states))
                        memory += weight
            except (OSError, Unreadable) as error:
                reason = getattr(error, "strerror", None) or error
                result.troubles.append(f"{folder}: not counted: {reason}")
    if left_out:
        more = f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""
        most = f"the runs of one command may take {files.MEMORY // 1_000_000} MB of memory"
        remedy = "name fewer folders, or set BENCH_MEMORY to more MB"
        result.troubles.append(f"{left_out[0]}{more}: not counted: {most}; {remedy}")
    return result


def _weight(folder: Path) -> int:
    """Estimate the bytes of memory that a record takes; 0 if it cannot be read."""
    try:
        content = files.read(folder / RUN, "run")
    except OSError:
        return 0
    return len(content) + files.BYTES_OF_VALUE * files.values(content)


def run_folders(root: Path) -> Iterator[Path]:
    """Yield the run folders in a results folder or a suite folder, or the run folder itself."""
    if is_run_folder(root):
        yield root
        return
    for child in root.iterdir():
        if is_run_folder(child):
            yield child
        elif child.is_dir() and not child.is_symlink() and not child.name.startswith("."):
            yield from filter(is_run_folder, child.iterdir())


def is_run_folder(path: Path) -> bool:
    """Decide by its name whether a path is a run folder: 32 hex digits."""
    return re.fullmatch("[0-9a-f]{32}", path.name) is not None
