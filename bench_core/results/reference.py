"""Read the reference: results of the shipped suites, in compact form, that ship with bench.

    cells.json           version, checksums of suite.json; of each run suite, cell and checksum
    code.json            module of bench-core → digest of the code that gives the numbers of these
                         runs, as the maintainers of the reference state
    <suite>/suite.json   as in a results folder; `cells` may name runs of other suites
    <suite>/<identity>/  a compact run (`bench_core.results.compact`)

The folder is that of the package `bench_reference`; the variable BENCH_REFERENCE names another one,
and none if it is empty. A run counts only with the checksum that cells.json states.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench_core.errors import by_reason
from bench_core.results import files, locks, store, suite_folder
from bench_core.results.hashing import digest, file_text, line_text
from bench_core.results.record import RunRecord, cell_key
from bench_core.results.scan import Stored
from bench_core.results.suite_json import SuiteJson

PACKAGE = "bench_reference"
VARIABLE = "BENCH_REFERENCE"
CELLS = "cells.json"
CODE = "code.json"
SCHEMA = 1


class Entry(BaseModel):
    """A run of the reference: its suite, the key of its cell, the checksum of its run.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    suite: str = Field(pattern="^[a-z0-9][a-z0-9_.-]*$")  # the name of a folder
    cell: str
    checksum: str


class Cells(BaseModel):
    """The content of cells.json.

    suites  name → checksum of its suite.json
    cells   identity → entry
    """

    version: str = Field(max_length=40)
    suites: dict[str, str] = {}
    cells: dict[str, Entry] = {}


@dataclass(frozen=True)
class Reference:
    """The reference in a folder.

    suites   name → checksum of its suite.json
    trouble  why it cannot be used; then it has no runs
    """

    folder: Path
    version: str = ""
    entries: Mapping[str, Entry] = field(default_factory=dict)
    trouble: str = ""
    suites: Mapping[str, str] = field(default_factory=dict)

    def place(self, identity: str) -> Path:
        """Return the run folder of an identity of the reference."""
        return self.folder / self.entries[identity].suite / identity

    def read(self, identity: str) -> Stored:
        """Read a run, with all checksums. Raises `store.Unreadable`, which names the folder."""
        folder, entry = self.place(identity), self.entries[identity]
        try:
            record = store.read(folder, sums=True)
            if not self.vouches(record) or not record.shipped:
                raise store.Unreadable(f"{CELLS} states {entry.checksum[:32]}")
            if cell_key(record.cell) != entry.cell:
                raise store.Unreadable(f"{CELLS} states another cell")
            if record.files.keys() != {store.PACKED}:
                raise store.Unreadable(f"{store.RUN} names other files than {store.PACKED}")
        except store.Unreadable as reason:
            raise type(reason)(f"{folder}: refused: {reason}") from None
        return Stored(record, folder)

    @cached_property
    def code(self) -> Mapping[str, str]:
        """Return module → digest of code.json, empty without one. Raises `Unreadable`."""
        path = self.folder / CODE
        if not os.path.lexists(path):
            return {}
        try:
            content = files.read_json(path, "suite", parts=1)
        except (OSError, ValueError) as error:
            raise store.Unreadable(f"{path}: refused: it {files.reason(error)}") from None
        if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
            raise store.Unreadable(f"{path}: refused: it is no mapping from modules to digests")
        return content

    def runs(self) -> tuple[list[Stored], list[str]]:
        """Read all runs; also a line for each that is refused, and for each such suite.json."""
        runs, troubles = [], [self.trouble] if self.trouble else []
        for name in sorted(self.suites):
            try:
                self.content(self.folder / name)
            except store.Unreadable as reason:
                troubles.append(f"{self.folder / name / suite_folder.SUITE}: refused: {reason}")
        for identity in sorted(self.entries):
            try:
                runs.append(self.read(identity))
            except store.Unreadable as reason:
                troubles.append(str(reason))
        return runs, troubles

    def count(self, name: str) -> int:
        """Count the runs of a suite's cells; 0 if its suite.json cannot be used."""
        with suppress(store.Unreadable):
            cells = self.saved(self.folder / name).cells
            return sum(identity in self.entries for identity in cells.values())
        return 0

    def vouches(self, record: RunRecord) -> bool:
        """Decide whether a record is a run of this reference."""
        entry = self.entries.get(record.identity)
        return entry is not None and entry.checksum == record.checksum

    def of_cell(self, key: str) -> list[str]:
        """Return the identities of the runs of a cell, by its key."""
        return self._by_cell.get(key, [])

    @cached_property
    def _by_cell(self) -> dict[str, list[str]]:
        by_cell: dict[str, list[str]] = defaultdict(list)
        for identity, entry in self.entries.items():
            by_cell[entry.cell].append(identity)
        return by_cell

    def suite(self, name: str) -> Path | None:
        """Return the folder of a suite, if the reference has it."""
        folder = self.folder / name
        known = (
            not self.trouble and Path(name).name == name and (folder / suite_folder.SUITE).is_file()
        )
        return folder if known else None

    def saved(self, folder: Path) -> SuiteJson:
        """Read suite.json of a suite folder as far as it has its form. Raises `Unreadable`."""
        return SuiteJson.readable(self.content(folder))

    def content(self, folder: Path) -> dict[str, Any]:
        """Read suite.json of a suite folder, of the reference or another. Raises `Unreadable`."""
        content, suite = suite_folder.content(folder), folder.resolve()
        stated = self.suites.get(suite.name) if suite.parent == self.folder.resolve() else None
        if stated is not None and stated != digest(content):
            raise store.Unreadable("was changed: its checksum differs")
        return content

    def of_suites(self, roots: Iterable[Path], troubles: list[str]) -> dict[Path, list[Stored]]:
        """Map the suite folders among or in `roots` to the runs of other suites that they name."""
        home = self.folder.resolve()
        folders = [root for root in roots if root.resolve().parent == home]
        for root in (root for root in roots if root.resolve() == home):
            folders += [path.parent for path in root.glob(f"*/{suite_folder.SUITE}")]
        linked: dict[Path, list[Stored]] = defaultdict(list)
        for folder in folders:
            for identity in self._linked(folder, troubles):
                try:
                    linked[folder].append(self.read(identity))
                except store.Unreadable as reason:
                    troubles.append(str(reason))
        return linked

    def _linked(self, folder: Path, troubles: list[str]) -> list[str]:
        suite = folder.resolve().name
        try:
            cells = self.saved(folder).cells
        except store.Unreadable as reason:
            if all(entry.suite != suite for entry in self.entries.values()):  # else it is described
                troubles.append(store.unread(folder / suite_folder.SUITE, reason))
            return []
        known = (name for name in cells.values() if name in self.entries)
        return sorted(name for name in known if self.entries[name].suite != suite)


def vouched(
    runs: Iterable[Stored], shipped: Reference | None, troubles: list[str]
) -> Iterator[Stored]:
    """Return the runs that count; none is a row of the reference unless the installed one has it.

    A run in the folder of the reference that does not fit its checksums is refused with a line in
    `troubles`; without one if no run of the reference can be used.
    """
    home = shipped.folder.resolve() if shipped else None
    unknown = []
    for record, folder in ((run.record, run.folder) for run in runs):
        if shipped and folder.resolve().parent.parent == home:
            try:
                if record.identity in shipped.entries:
                    yield Stored(shipped.read(record.identity).record, folder)
                elif not shipped.trouble:
                    troubles.append(f"{folder}: refused: {CELLS} does not name it")
            except store.Unreadable as reason:
                troubles.append(str(reason))
            continue
        if record.shipped and not (shipped and shipped.vouches(record)):
            what = "marked as a row of the reference, but the installed reference has no such row"
            unknown.append((folder, what))
            about = {key: value for key, value in record.environment.items() if key != "reference"}
            record = record.model_copy(update={"environment": about})
        yield Stored(record, folder)
    troubles += by_reason(unknown)


def source(records: Sequence[RunRecord]) -> str:
    """Say of which version of the reference runs are, their dates and machines; "" if none is."""
    runs = [record for record in records if record.shipped]
    if not runs:
        return ""
    counts = machines(runs)
    places = [f"{count} on {name}" for name, count in counts.items()]
    some = "" if len(runs) == len(records) else f" ({len(runs)} of {len(records)} runs)"
    return f"{edition(runs)}, {', '.join(places if len(places) > 1 else counts)}{some}"


def edition(runs: Sequence[RunRecord]) -> str:
    """Write the version of the reference, and the dates of its runs."""
    versions = sorted({str(run.environment.get("reference", "?")) for run in runs})
    days = sorted({run.finished[:10] for run in runs})
    dates = days[0] if len(days) == 1 else f"{days[0]} … {days[-1]}"
    return f"reference {', '.join(versions)}, {dates}"


def machines(runs: Sequence[RunRecord]) -> dict[str, int]:
    """Count runs of the reference by their machines, the most frequent first."""
    counts = Counter(map(machine, runs))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def machine(run: RunRecord) -> str:
    """Name the hardware of a run of the reference, and why the run has lapsed, if it has."""
    about = run.environment
    lapsed = f", lapsed ({about['lapsed']})" if about.get("lapsed") else ""
    return run.hardware + lapsed


def folder() -> Path | None:
    """Return the folder of the reference; None if there is none."""
    stated = os.environ.get(VARIABLE)
    if stated is not None:
        return Path(stated).expanduser() if stated else None
    spec = find_spec(PACKAGE)
    return Path(spec.origin).parent if spec and spec.origin else None


def installed(home: Path | None = None) -> Reference | None:
    """Read cells.json of the reference, or of another folder.

    None if there is none. If the variable BENCH_REFERENCE names no reference, this is a trouble.
    """
    stated = home is None and bool(os.environ.get(VARIABLE))
    home = home or folder()
    if home is None:
        return None
    if not os.path.lexists(home / CELLS):
        lacking = f"{VARIABLE}: the reference is not used: {home} has no {CELLS}"
        return Reference(home, trouble=lacking) if stated else None
    try:
        raw = files.read_json(home / CELLS, "suite", parts=1)
        if isinstance(raw, dict) and isinstance(raw.get("schema"), int) and raw["schema"] > SCHEMA:
            raise ValueError(files.newer(raw["schema"], SCHEMA))
        content = Cells.model_validate(raw)
    except ValidationError as error:
        reason = f"does not follow its schema: {store.first_fault(error)}"
    except (OSError, ValueError) as error:
        reason = files.reason(error)
    else:
        return Reference(home, content.version, content.cells, suites=content.suites)
    return Reference(home, trouble=f"{home / CELLS}: the reference is not used: it {reason}")


def write_cells(reference: Reference) -> None:
    """Write cells.json, a line for each run. Raises StoreError."""
    folders = sorted(path.parent for path in reference.folder.glob(f"*/{suite_folder.SUITE}"))
    suites = {folder.name: digest(suite_folder.content(folder)) for folder in folders}
    content: dict[str, Any] = {"schema": SCHEMA, "suites": suites, "version": reference.version}
    cells = {name: entry.model_dump() for name, entry in sorted(reference.entries.items())}
    head = file_text(content | {"cells": {}}).replace('"cells": {}', '"cells": {\n%s\n }')
    lines = (f'  "{name}": {line_text(entry)}' for name, entry in cells.items())
    files.replace_file(reference.folder / CELLS, head % ",\n".join(lines))


def write_code(reference: Reference, digests: Mapping[str, str]) -> None:
    """Write code.json. Raises StoreError."""
    files.replace_file(reference.folder / CODE, file_text(dict(sorted(digests.items()))))


def copy(run: Stored, final: Path) -> None:
    """Copy a run of the reference to its place in a results folder. Raises StoreError."""
    with locks.owned(final), store.installed(final) as folder:
        for name in (*run.record.files, store.RUN):
            files.copy(run.folder / name, folder / name)
