"""How far a run can be relied on: *posted* (it is there), *checked* (`bench verify` found no fault), *replicated* (somebody ran
it again and agreed), or *disputed* (somebody did and did not).

Marks lie in `<suite>/agreement/<identity>.json`, beside the runs and never in them, and each names the checksum of the run.json
that it is about: a mark on another run.json of this identity does not count.

Two runs agree when they are equal bit by bit, where their environments and code are; else when their accuracies lie within
2 points and the same diagnostics fire: training amplifies rounding, and more than that cannot be asked of another machine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bench_core.results import store
from bench_core.results.record import RunRecord

FOLDER = "agreement"
State = Literal["posted", "checked", "replicated", "disputed"]
ORDER: tuple[State, ...] = ("disputed", "replicated", "checked", "posted")


class Replica(BaseModel):
    """One attempt to get a run again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agrees: bool
    how: Literal["bits", "figures"]
    said: str  # in words, what was compared
    identity: str  # of the new run: another one where the code differs
    accuracy: float | None
    environment: dict[str, Any]
    finished: str


class Mark(BaseModel):
    """What is known about one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    identity: str
    run: str  # checksum of the run.json
    checked: str | None = None  # when
    replicas: list[Replica] = []

    @property
    def state(self) -> State:
        if any(not replica.agrees for replica in self.replicas):
            return "disputed"
        return "replicated" if self.replicas else "checked" if self.checked else "posted"


def read(folder: Path, record: RunRecord) -> Mark:
    """The mark of a run in a suite folder; an empty one where there is none that is about this run.json."""
    fresh = Mark(identity=record.identity, run=record.checksum or "")
    try:
        mark = Mark.model_validate(
            json.loads((folder / FOLDER / f"{record.identity}.json").read_text(encoding="utf-8"))
        )
    except (OSError, ValueError, RecursionError, ValidationError):
        return fresh
    return mark if (mark.identity, mark.run) == (fresh.identity, fresh.run) else fresh


def write(folder: Path, mark: Mark) -> None:
    """Raises StoreError."""
    home = folder / FOLDER
    with store.writing(home):
        home.mkdir(exist_ok=True)
    text = json.dumps(mark.model_dump(mode="json"), sort_keys=True, indent=1, allow_nan=False)
    store.replace_file(home / f"{mark.identity}.json", text + "\n")


def states(folder: Path, records: Sequence[RunRecord]) -> dict[str, State]:
    """The states of a suite folder's runs that are more than posted, by the checksum of their run.json."""
    if not (folder / FOLDER).is_dir():
        return {}
    found = {record.checksum: read(folder, record).state for record in records if record.checksum}
    return {checksum: state for checksum, state in found.items() if state != "posted"}


def carry(record: RunRecord, source: Path, target: Path) -> None:
    """What is known of a run in one suite folder, added to what is known of it in another. Raises StoreError."""
    theirs, ours = read(source, record), read(target, record)
    new = [replica for replica in theirs.replicas if replica not in ours.replicas]
    checked = ours.checked or theirs.checked
    if new or checked != ours.checked:
        write(
            target, ours.model_copy(update={"checked": checked, "replicas": [*ours.replicas, *new]})
        )
