"""Read and write the trust marks of runs.

*posted* (stored), *checked* (`bench verify` found no fault), *replicated* (another run of the cell
agreed), *disputed* (another run did not agree; `bench_core.results.agreement`). Marks lie in
`<suite>/agreement/<identity>.json`. A mark names the checksum of its run.json and does not count
for another run.json of this identity.

Only marks that this user made decide the state (`bench_core.results.author`). What others say is
shown with their name. A check by others is worth nothing: it can be repeated here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from bench_core.results import files
from bench_core.results.author import Sealed, by
from bench_core.results.files import writing
from bench_core.results.hashing import file_text
from bench_core.results.record import Frozen, RunRecord

FOLDER = "agreement"
MOST = 100  # replicas of one run
Trust = Literal["posted", "checked", "replicated", "disputed"]
ORDER: tuple[Trust, ...] = ("disputed", "replicated", "checked", "posted")


class Replica(Sealed):
    """One attempt to reproduce a run."""

    agrees: bool
    how: Literal["bits", "figures"]
    said: str  # the result of the comparison in words
    identity: str  # of the new run; different code gives another one
    accuracy: float | None
    environment: dict[str, Any]
    finished: str


class Signed(Sealed):
    """The time at which a user did something with a run."""

    when: str


def _signed(value: Any) -> Any:
    return {"when": value} if isinstance(value, str) else value  # of schema 1


class TrustMark(Frozen):
    """When a run was checked, its replicas, and when this user trained it as a replica."""

    schema_version: int = 2
    identity: str
    run: str  # checksum of the run.json
    checked: Annotated[Signed | None, BeforeValidator(_signed)] = None
    trained: Signed | None = None
    replicas: list[Replica] = Field(default_factory=list, max_length=MOST)

    @property
    def about(self) -> tuple[str, str]:
        return self.identity, self.run

    @property
    def own(self) -> list[Replica]:
        """The replicas of this user."""
        return [replica for replica in self.replicas if replica.is_mine(*self.about)]

    @property
    def dispute(self) -> str:
        """What a replica of this user says that does not agree; empty if none does so."""
        return next((replica.said for replica in self.own if not replica.agrees), "")

    @property
    def state(self) -> Trust:
        """The trust that follows from the replicas and the check of this user."""
        own = self.own
        if any(not replica.agrees for replica in own):
            return "disputed"
        checked = self.checked is not None and self.checked.is_mine(*self.about, "checked")
        return "replicated" if own else "checked" if checked else "posted"

    @property
    def said(self) -> tuple[str, ...]:
        """What other users say; a replica that names this user and has no valid seal is forged."""
        others = (each for each in self.replicas if not each.claims_me())
        words = ("disputed", "replicated")
        return tuple(sorted({f"{words[each.agrees]} by {by(each.maker)}" for each in others}))

    def trained_at(self) -> str:
        """Return when this user trained the run; empty if another user did."""
        own = self.trained is not None and self.trained.is_mine(*self.about, "trained")
        return self.trained.when if own and self.trained is not None else ""

    def signed(self, what: Literal["checked", "trained"], when: str | None) -> TrustMark:
        """Return the mark with a time signed by this user, or without it. Raises StoreError."""
        entry = when and Signed(when=when).sealed(*self.about, what)
        return self.model_copy(update={what: entry})

    def replicated(self, replica: Replica) -> TrustMark:
        """Return the mark with a replica of this user, in place of an equal one."""
        own = replica.sealed(*self.about)
        kept = [each for each in self.replicas if each != own][-(MOST - 1) :]
        return self.model_copy(update={"replicas": [*kept, own]})


def read(folder: Path, record: RunRecord) -> TrustMark:
    """Read the mark of a run in a suite folder; an empty mark if none belongs to this run.json."""
    empty = TrustMark(identity=record.identity, run=record.checksum or "")
    try:
        raw = files.read_json(folder / FOLDER / f"{record.identity}.json", "agreement")
        mark = TrustMark.model_validate(raw)
    except (OSError, ValueError):  # also pydantic's
        return empty
    return mark if mark.about == empty.about else empty


def write(folder: Path, mark: TrustMark) -> None:
    """Store a mark in a suite folder. Raises StoreError."""
    home = folder / FOLDER
    with writing(home):
        files.make_folder(home)
    text = file_text(mark.model_dump(mode="json"))
    files.replace_file(home / f"{mark.identity}.json", text, parts=2)


def every(folder: Path, records: Sequence[RunRecord]) -> dict[str, TrustMark]:
    """Map the checksum of run.json to its mark, for the runs that have one."""
    if not (folder / FOLDER).is_dir():
        return {}
    return {record.checksum: read(folder, record) for record in records if record.checksum}


def add(record: RunRecord, source: Path, target: Path) -> None:
    """Add the mark of a run in one suite folder to its mark in another. Raises StoreError.

    A check by another user is left out.
    """
    theirs, ours = read(source, record), read(target, record)
    new = [replica for replica in theirs.replicas if replica not in ours.replicas]
    update: dict[str, Any] = {"replicas": (ours.replicas + new)[:MOST]}
    for what in ("checked", "trained"):
        entry = getattr(theirs, what)
        if getattr(ours, what) is None and entry and entry.is_mine(*theirs.about, what):
            update[what] = entry
    if (both := ours.model_copy(update=update)) != ours:
        write(target, both)
