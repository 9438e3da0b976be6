"""Follow cells that run elsewhere by the files of their run folders."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bench_core.execution.executors import OnEvent, supervise
from bench_core.execution.planning.job import Job
from bench_core.execution.planning.plan import PlannedCell
from bench_core.execution.resumption import saved_state
from bench_core.results import files as disk
from bench_core.results import store
from bench_core.results.epochs import is_row
from bench_core.results.record import RunRecord
from bench_core.results.status import Status


class Watch:
    """Report the start and the epochs of cells that run elsewhere, if the folder is shared.

    epochs  identity → lines of epochs.jsonl reported so far, for each cell that has started
    last    identity → the last epoch reported
    began   identity → the time when the start was seen, less the seconds of earlier attempts
    open    identity → cell, for each cell that has not ended
    """

    def __init__(self, cells: Sequence[PlannedCell], on_event: OnEvent) -> None:
        self.on_event = on_event
        self.epochs: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self.began: dict[str, float] = {}
        self.open = {cell.identity: cell for cell in cells}

    def look(self) -> None:
        """Report what the temporary folders show."""
        for cell in self.open.values():
            self.look_at(cell)

    def look_at(self, cell: PlannedCell) -> None:
        self._rows(cell, store.temporary(cell.folder))

    def end(self, cell: PlannedCell, record: RunRecord | None, ran: bool = True) -> None:
        """Report the last rows and the end; nothing if the cell is another runner's."""
        if self.open.pop(cell.identity, None) is None or record is None:
            return
        kept = record.checksum is not None  # else the folder has the rows of another training
        if ran and kept:
            self._started(cell)
            self._rows(cell, cell.folder)
        own = (ran and cell.identity in self.epochs) or not kept
        self.on_event(cell, {"event": "end" if own else "reused", "record": record})

    def anew(self, cell: PlannedCell, reason: str) -> None:
        """Report that the training did not use its saved state."""
        self._started(cell)
        self.last.pop(cell.identity, None)
        self.on_event(cell, {"event": "anew", "reason": reason})

    def reached(self, cell: PlannedCell) -> int:
        return self.last.get(cell.identity, 0)

    def leave_row(self, cell: PlannedCell, job: Job, status: Status, reason: str) -> RunRecord:
        """Keep a run for a cell whose job has ended, with its epochs and its log if they are here;
        the lock is held."""
        try:
            began = self.began.get(cell.identity)
            seconds = 0.0 if began is None else time.monotonic() - began
            return supervise.leave_row(job, status, reason, self.reached(cell), seconds)
        finally:
            store.remove_temporary(cell.folder)

    def _started(self, cell: PlannedCell) -> None:
        if cell.identity not in self.epochs:
            self.epochs[cell.identity] = 0
            spent = (saved_state(cell.folder) or {}).get("seconds", 0.0)
            self.began[cell.identity] = time.monotonic() - spent
            self.on_event(cell, {"event": "start"})

    def _rows(self, cell: PlannedCell, folder: Path) -> None:
        with suppress(OSError):
            lines = disk.read(folder / store.EPOCHS, "epochs").split(b"\n")[:-1]
            self._started(cell)
            for line in lines[self.epochs[cell.identity] :]:
                self.epochs[cell.identity] += 1
                with suppress(ValueError):
                    if is_row(row := disk.parsed(line, "row")):
                        self.last[cell.identity] = row["epoch"]
                        self.on_event(cell, {"event": "epoch", "row": row})
