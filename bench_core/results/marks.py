"""Marks of trust: how far a run can be relied on.

*posted* (stored), *checked* (`bench verify` found no fault), *replicated* (another run of the cell
agreed), *disputed* (another run did not agree; `bench_core.sharing.agreement`). Marks lie in
`<suite>/agreement/<identity>.json`. A mark names the checksum of its run.json and does not count
for another run.json of this identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from bench_core.results import files
from bench_core.results.files import writing
from bench_core.results.hashing import file_text
from bench_core.results.record import Frozen, RunRecord

FOLDER = "agreement"
Trust = Literal["posted", "checked", "replicated", "disputed"]
ORDER: tuple[Trust, ...] = ("disputed", "replicated", "checked", "posted")


class Replica(Frozen):
    """One attempt to reproduce a run."""

    agrees: bool
    how: Literal["bits", "figures"]
    said: str  # the result of the comparison in words
    identity: str  # of the new run; different code gives another one
    accuracy: float | None
    environment: dict[str, Any]
    finished: str


class TrustMark(Frozen):
    """When a run was checked, and its replicas."""

    schema_version: int = 1
    identity: str
    run: str  # checksum of the run.json
    checked: str | None = None  # when
    replicas: list[Replica] = Field(default_factory=list)

    @property
    def state(self) -> Trust:
        """The trust that follows from the replicas and the check."""
        if any(not replica.agrees for replica in self.replicas):
            return "disputed"
        return "replicated" if self.replicas else "checked" if self.checked else "posted"


def read(folder: Path, record: RunRecord) -> TrustMark:
    """Read the mark of a run in a suite folder; an empty mark if none belongs to this run.json."""
    empty = TrustMark(identity=record.identity, run=record.checksum or "")
    try:
        raw = files.read_json(folder / FOLDER / f"{record.identity}.json", "agreement")
        mark = TrustMark.model_validate(raw)
    except (OSError, ValueError):  # also pydantic's
        return empty
    return mark if (mark.identity, mark.run) == (empty.identity, empty.run) else empty


def write(folder: Path, mark: TrustMark) -> None:
    """Store a mark in a suite folder. Raises StoreError."""
    home = folder / FOLDER
    with writing(home):
        files.make_folder(home)
    text = file_text(mark.model_dump(mode="json"))
    files.replace_file(home / f"{mark.identity}.json", text, parts=2)


def states(folder: Path, records: Sequence[RunRecord]) -> dict[str, Trust]:
    """Map the checksum of run.json to its trust, for the runs that are more than posted."""
    if not (folder / FOLDER).is_dir():
        return {}
    trust = {record.checksum: read(folder, record).state for record in records if record.checksum}
    return {checksum: state for checksum, state in trust.items() if state != "posted"}


def add(record: RunRecord, source: Path, target: Path) -> None:
    """Add the mark of a run in one suite folder to its mark in another. Raises StoreError."""
    theirs, ours = read(source, record), read(target, record)
    new = [replica for replica in theirs.replicas if replica not in ours.replicas]
    update = {"checked": ours.checked or theirs.checked, "replicas": ours.replicas + new}
    if (both := ours.model_copy(update=update)) != ours:
        write(target, both)
