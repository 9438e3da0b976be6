"""Decide whether a cell is run or its stored run is reused, and say why."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bench_core.errors import UsageError
from bench_core.execution.planning.components import changed_modules
from bench_core.execution.planning.fingerprint import ALGORITHM
from bench_core.execution.planning.job import Listed
from bench_core.execution.resumption import reason_to_begin_anew, saved_state
from bench_core.printable import few
from bench_core.results import store, suite_folder
from bench_core.results.record import EVERY, Cell, RunRecord, cell_key
from bench_core.results.reference import Reference
from bench_core.results.status import STATUSES, is_reused
from bench_core.suite.model import Suite

Action = Literal["run", "reuse", "reference"]  # the last: a run that ships with bench


class Decision(NamedTuple):
    """What to do about a cell, why, and a warning about its folder or None.

    ended  the status of the run that is reused; None if none is
    begun  the epochs after which a cell that is run continues
    """

    action: Action
    why: str
    warning: str | None = None
    ended: str | None = None
    begun: int = 0


class StoredRuns:
    """The runs of a suite folder, as a plan finds them."""

    def __init__(
        self, folder: Path, suite: Suite, diagnostics: Sequence[Listed], retry_failed: bool
    ) -> None:
        self.folder, self.suite, self.retry_failed = folder, suite, retry_failed
        self.diagnostics = diagnostics
        self.budget = suite.budget.of_cell()
        self.earlier = suite_folder.saved(folder).cells

    def decide(
        self, cell: Cell, identity: str, code: Mapping[str, Any], data: str, device: str
    ) -> Decision:
        """Decide about a cell; `data` is the checksum of its data. Raises UsageError.

        device  that a new run would have; a run on another kind of device is reused, and says so
        """
        saved = saved_state(self.folder / identity)
        choice = self._decide(cell, identity, code, data, device)
        if saved is None or choice.action != "run":
            return choice
        epoch = int(saved["epoch"])
        if reason := reason_to_begin_anew(saved, self.suite.every(), self.diagnostics):
            unused = f"its state after epoch {epoch} cannot be used"
            return choice._replace(why=f"{choice.why}; begins anew, because {unused}: {reason}")
        return choice._replace(why=f"{choice.why}; continues after epoch {epoch}", begun=epoch)

    def _decide(
        self, cell: Cell, identity: str, code: Mapping[str, Any], data: str, device: str
    ) -> Decision:
        folder = self.folder / identity
        if not os.path.lexists(folder):
            other = self._other_run(cell, identity, code, data)
            return Decision("run", other or "no run of it here yet")
        try:
            record = store.read(folder, sums=True)
        except store.Newer as reason:
            raise UsageError(store.of_newer(folder, reason)) from None
        except store.Unreadable as reason:
            warning = f"{folder}: unreadable, to be set aside: {reason}"
            return Decision("run", f"its run folder is unreadable: {reason}", warning)
        if record.original:
            return Decision("run", "its run is compact: of the reference, or of a submission")
        status = STATUSES[record.status]
        ended = f"its run ended as {record.status}"
        if status.failure and self.retry_failed:
            return Decision("run", f"{ended} and --retry-failed was given")
        if not is_reused(record.status, record.budget, self.budget):
            return Decision("run", ended)
        if sparse := sparser(record, self.suite.every()):
            return Decision("run", f"{ended}, but {sparse}")
        stays = "; it stays so unless --retry-failed trains it again" * status.failure
        why = f"{ended}{stays}" if stays else f"its run is {record.status}"
        if status.limits:
            why = f"{ended}, and the budget is no larger now{stays}"
        return Decision("reuse", why + _elsewhere(record, device), ended=record.status)

    def trained(self, reference: Reference) -> set[str]:
        """Return the keys of the cells that have a run of this user here.

        Rows of the reference are none, nor are those of an earlier reference.
        """
        own = self.earlier.items()
        return {key for key, name in own if name not in reference.entries and self._is_own(name)}

    def _is_own(self, identity: Any) -> bool:
        try:
            return not store.read(self.folder / str(identity)).original
        except (store.Unreadable, OSError):
            return False

    def _other_run(self, cell: Cell, identity: str, code: Mapping[str, Any], data: str) -> str:
        """Say why the last run of the cell under another identity is not reused; "" if none is."""
        keys = _keys(cell) if self.earlier else ()  # they take a while
        earlier = next((own for key in keys if (own := self.earlier.get(key))), None)
        if not earlier:
            return ""
        try:
            record = store.read(self.folder / earlier)
        except (store.Unreadable, OSError):
            state = saved_state(self.folder / earlier)
            if state is None or saved_state(self.folder / identity) is not None:
                return ""
            saved = f"the training that was saved after epoch {state['epoch']} is of other code"
            return f"no run of it here yet; begins anew, because {saved} or data"
        if record.algorithm != ALGORITHM:
            cause = f"its identity was computed by algorithm {record.algorithm}, now {ALGORITHM}"
        elif record.data_checksum != data:
            cause = f"its data had the checksum {record.data_checksum}, now {data}"
        else:
            changed = changed_modules(record.code, code) or ["another version"]
            cause = f"the code has changed since: {few(changed)}"
        return f"an earlier run is kept but not reused: {cause}"


def _elsewhere(record: RunRecord, device: str) -> str:
    """Say on which device a reused run was trained, unless on the kind that is asked for."""
    if record.device.partition(":")[0] == device.partition(":")[0]:
        return ""
    remedy = f"-o FOLDER trains it on {device} beside it"
    return f", trained on {record.device}, which is no part of a run's identity; {remedy}"


def _keys(cell: Cell) -> Iterator[str]:
    """Yield the keys under which a suite.json of today, or of schema 3, names a cell."""
    yield cell_key(cell)
    training = {**cell.training, "autocast": "off"}
    if training.pop("precision", None) == "float32":
        yield cell_key(cell.model_copy(update={"training": training}))


def sparser(record: RunRecord, wanted: Mapping[str, Any]) -> str:
    """Say how the epochs of a record are sparser than `wanted`; "" if they serve it.

    wanted  the settings `EVERY` of a suite
    """
    for name in EVERY:
        has = getattr(record, name)
        if wanted[name] % has:
            return f"it was recorded with {name} {has}, and the suite asks for {wanted[name]}"
    return ""
