"""Read from results folders how far their sweeps are: what has ended, runs and waits.

The last `bench run` of a suite left its decisions in suite.json: each cell that it was to run, with
its name and its epochs. Without them every run folder is a cell. A cell that runs has a temporary
folder with epochs.jsonl, and a lock file since its start. The system's table of locks names the
process that holds it. A cell has stopped if nothing holds its lock, and the process of this machine
that took it has ended. On a system without such a table, and for a cell on another machine, only
the time of the last epoch is known.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bench_core.execution.forecast import Progress, rule_of, seconds_left
from bench_core.execution.resumption import attempts, saved_state
from bench_core.results import epochs, ledger, locks, store, suite_folder
from bench_core.results.record import RunRecord
from bench_core.results.scan import is_run_folder, must_be_folder
from bench_core.results.suite_json import SavedDecision

LOCKS = Path("/proc/locks")
RUNNING, AWAY, STOPPED = "running", "elsewhere or stopped", "stopped"
WAITING = "waiting"
NOWHERE = Progress("", 0)
SILENT = 3600.0  # seconds without an epoch after which a cell elsewhere counts as stopped
# of cells without a run; others have the status of their run
STATES = (RUNNING, AWAY, STOPPED, WAITING)


@dataclass(frozen=True)
class CellState:
    """The state of a cell: its epochs, its accuracy and its process.

    state    one of `STATES`, or the status of its run
    seconds  since its start; of one that has stopped, until its last epoch
    silent   seconds since its last epoch, or since its start
    pid      the process that holds its lock
    """

    identity: str
    name: str
    state: str
    epoch: int = 0
    epochs: int = 0
    accuracy: float | None = None
    seconds: float = 0.0
    silent: float = 0.0
    pid: int | None = None
    progress: Progress = NOWHERE


@dataclass(frozen=True)
class SweepState:
    """The cells of the last `bench run` of a suite; `planned`: whether its decisions are known."""

    name: str
    folder: Path
    cells: tuple[CellState, ...]
    planned: bool = True

    @cached_property
    def counts(self) -> dict[str, int]:
        """Count the cells by state; those that run come first."""
        counts = Counter(cell.state for cell in self.cells)
        order = [*STATES, *sorted(counts.keys() - set(STATES))]
        return {state: counts[state] for state in order if counts[state]}

    @property
    def seconds_left(self) -> float | None:
        """Estimate the seconds until all cells have ended; None if it is not known, or stopped."""
        limits = {RUNNING: math.inf, AWAY: SILENT}
        if not any(cell.silent < limits.get(cell.state, 0.0) for cell in self.cells):
            return None
        return seconds_left(cell.progress for cell in self.cells)


def sweeps(roots: Sequence[Path]) -> list[SweepState]:
    """Return the state of every suite under results folders or suite folders. Reading only.

    Raises UsageError for a folder that is not there.
    """
    holders = _holders()
    states = [_sweep(folder, holders) for root in roots for folder in _suite_folders(root)]
    return [sweep for sweep in states if sweep.cells]


def _suite_folders(root: Path) -> Iterator[Path]:
    """Yield suite folders: the root, those in it, and the trials of a search."""
    must_be_folder(root)
    folders = set[Path]()
    for pattern in (".", "*", f"{ledger.TRIALS}/*", f"*/{ledger.TRIALS}/*"):
        for name in (suite_folder.SUITE, "[0-9a-f]" * 32):
            folders |= {path.parent for path in root.glob(f"{pattern}/{name}")}
    aside = (store.QUARANTINE, store.REPLICATES)
    yield from (f for f in sorted(folders) if f.name not in aside and not f.is_symlink())


def _sweep(folder: Path, holders: Mapping[int, int]) -> SweepState:
    planned = suite_folder.saved(folder).decisions
    begun = store.begun(folder)
    ended = [] if planned else sorted(path.name for path in folder.iterdir())
    places = {identity: folder / identity for identity in (*planned, *begun, *ended)}
    cells = [
        _state(place, planned.get(identity, SavedDecision()), holders)
        for identity, place in places.items()
        if is_run_folder(Path(identity))
    ]
    own = {*planned, *begun}
    cells = [cell for cell in cells if cell.state != WAITING or cell.identity in own]
    return SweepState(folder.resolve().name, folder, tuple(cells), bool(planned))


def _state(final: Path, decision: SavedDecision, holders: Mapping[int, int]) -> CellState:
    """Return the state of a cell. A run from before the decision to run it anew does not count."""
    name, rule = decision.cell or final.name[:12], decision.rule or ""
    last = decision.epochs or 0
    if store.temporary(final).is_dir():
        return _begun(final, name, rule, last, holders)
    with contextlib.suppress(store.Unreadable):
        record = store.read(final)
        if decision.action != "run" or record.finished >= decision.at:
            return _ended(record, name)
    return _waiting(final, name, rule, last)


def _waiting(final: Path, name: str, rule: str, last: int) -> CellState:
    """Return the state of a cell that has not begun, or goes on from its saved state."""
    saved = saved_state(final, sealed=False)
    epoch = min(int(saved["epoch"]), last) if saved else 0
    progress = Progress(rule, last - epoch)
    return CellState(final.name, name, WAITING, epoch, last, progress=progress)


def _ended(record: RunRecord, name: str) -> CellState:
    seconds = record.seconds / record.epochs if record.epochs else None
    name = name if " · " in name else f"{record.cell.method.short} · seed {record.cell.seed}"
    progress = Progress(rule_of(record.cell), 0, seconds)
    last = record.cell.last_epoch
    own = (record.epochs, last, record.accuracy, record.seconds)
    return CellState(record.identity, name, record.status, *own, progress=progress)


def _begun(final: Path, name: str, rule: str, last: int, holders: Mapping[int, int]) -> CellState:
    """Return the state of a cell with a temporary folder."""
    folder, lock = store.temporary(final), locks.beside(final, "lock")
    row: Mapping[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):  # its last line may be half written
        for line in epochs.lines(folder):
            if not epochs.is_row(line):
                break
            row = line
    now = time.time()
    started, latest = _changed(lock, now), _changed(folder / store.EPOCHS, now)
    latest = max(latest if row else started, started)
    epoch = int(row.get("epoch", 0))
    first = (attempts(final, epoch, started, sealed=False) or [0])[-1]
    seconds = (latest - started) / (epoch - first) if epoch > first else None
    with contextlib.suppress(OSError):
        pid = holders.get(lock.stat().st_ino)
        state = AWAY if pid is None else RUNNING
        if pid is None and locks.is_left(lock):
            state = STOPPED
        alive = state != STOPPED
        progress = Progress(rule, max(last - epoch, 0), seconds, alive)
        until = now if alive else latest
        own = (epoch, last, row.get("accuracy"), until - started, now - latest, pid)
        return CellState(final.name, name, state, *own, progress)
    return _waiting(final, name, rule, last)


def _changed(path: Path, default: float) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return default


def _holders() -> dict[int, int]:
    """Return inode → process of every lock on this machine; empty where no table shows them."""
    holders: dict[int, int] = {}
    with contextlib.suppress(OSError):
        for line in LOCKS.read_text().splitlines():
            words = line.split()  # 1: FLOCK ADVISORY WRITE 4242 08:01:131 0 EOF
            if len(words) > 5 and words[1] == "FLOCK":
                holders[int(words[5].rpartition(":")[2])] = int(words[4])
    return holders
