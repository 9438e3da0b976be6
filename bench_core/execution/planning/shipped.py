"""Find the cells of a plan among the reference (`bench_core.results.reference`).

A run of the reference stands for a cell if their keys agree (every setting), the `numerics` of
training, components and diagnostics, the options of the diagnostics, the checksum of the data, and
the code of bench-core with that in code.json of the reference. A refactoring that moves no number
keeps the runs valid once `python -m bench_reference.add --vouch` has stated that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from bench_core.execution.planning.cell_names import rule_name
from bench_core.execution.planning.reuse import sparser
from bench_core.names import bare_name
from bench_core.printable import few
from bench_core.results.hashing import canonical, plain_text
from bench_core.results.record import Cell, RunRecord, cell_key
from bench_core.results.reference import CODE, Reference
from bench_core.results.scan import Stored
from bench_core.results.store import Unreadable
from bench_core.results.suite_json import SuiteJson
from bench_core.suite.cells import CORE_DEFAULTS
from bench_core.suite.model import Suite

ABSENT = "it has no such cell"  # most cells of a plan, each of which has its own line there


class Shipped:
    """The reference, as a plan looks for its cells in it.

    diagnostics  `{"name": full name, "params": …}` of each diagnostic of the suite
    taken        number of cells that were found
    lacking      why cells were not found → these cells
    refused      a line for each run that cannot be read
    """

    def __init__(
        self, reference: Reference, suite: Suite, diagnostics: Sequence[Mapping[str, Any]]
    ) -> None:
        self.reference, self.suite = reference, suite
        self.diagnostics = {item["name"]: item["params"] for item in diagnostics}
        self.taken = 0
        self.lacking: dict[str, list[Cell]] = defaultdict(list)
        self.refused: list[str] = [reference.trouble] if reference.trouble else []
        self.code: Mapping[str, str] | None = None  # not readable
        try:
            self.code = reference.code
        except Unreadable as error:
            self.refused.append(str(error))

    def find(
        self, cell: Cell, numerics: Mapping[str, int], data: str, code: Mapping[str, str]
    ) -> tuple[Stored | None, str]:
        """Return the run of the reference that stands for a cell, and note why there is none.

        Also returns why a run of this very cell does not stand for it; empty without one.

        code  module of bench-core → digest, of all that trains and measures the cell
        """
        reasons = [ABSENT]
        for identity in self.reference.of_cell(cell_key(cell)):
            try:
                run = self.reference.read(identity)
            except Unreadable as error:
                self.refused.append(str(error))
                reasons.append("its run was refused")
                continue
            reason = self._unfit(run.record, numerics, data) or self._edited(code)
            if not reason:
                self.taken += 1
                return run, ""
            reasons.append(reason)
        self.lacking[reasons[-1]].append(cell)
        return None, reasons[-1] if len(reasons) > 1 else ""

    def _edited(self, code: Mapping[str, str]) -> str:
        """Say that code of a cell is not that for which the reference stands; empty if it is."""
        if self.code is None:
            return f"{CODE} of the reference, which names its code, cannot be read"
        changed = sorted(k for k, own in code.items() if self.code.get(k, own) != own)
        verb = "was" if len(changed) == 1 else "were"
        return f"{few(changed)} {verb} edited since, so it is trained here" if changed else ""

    def _unfit(self, record: RunRecord, numerics: Mapping[str, int], data: str) -> str:
        """Say why a run of the same cell does not stand for it; empty if it does."""
        if record.data_checksum != data:
            return f"its run read other data ({record.data_checksum[:12]}, here {data[:12]})"
        missing = [name for name in numerics if name not in record.numerics]
        if missing:
            return f"its run lacks {', '.join(map(bare_name, missing))}"
        changed = [
            f"{name} {record.numerics[name]}, now {now}"
            for name, now in numerics.items()
            if record.numerics[name] != now
        ]
        if changed:
            return f"the code gives other numbers since its run (numerics: {', '.join(changed)})"
        try:
            measured = self.reference.saved(self.reference.folder / record.suite).diagnostics
        except Unreadable as error:
            return f"the suite.json of its suite {error}"
        for name, params in self.diagnostics.items():
            if canonical(measured.get(name)) != canonical(params):
                return f"its run measured {bare_name(name)} with other options"
        return sparser(record, self.suite.every())

    @cached_property
    def _suite_json(self) -> SuiteJson:
        """The suite.json of the reference; empty without a readable one."""
        folder = self.reference.suite(self.suite.name)
        with suppress(Unreadable):
            return self.reference.saved(folder) if folder else SuiteJson()
        return SuiteJson()

    def _suite_cells(self) -> Iterator[Cell]:
        """Yield the cells of the suite that the reference has, in the order of their identities."""
        listed = set(self._suite_json.cells.values())
        for identity in sorted(listed & self.reference.entries.keys()):
            with suppress(Unreadable):  # `runs` names it
                yield self.reference.read(identity).record.cell

    def _differences(self, cells: Sequence[Cell]) -> str:
        """Write how the nearest runs of the reference, with the fewest differences, are set."""
        rows = [cell.settings() for cell in self._suite_cells()]
        theirs: dict[str, dict[str, None]] = defaultdict(dict)
        mine: dict[str, dict[str, None]] = defaultdict(dict)
        for own in (cell.settings() for cell in cells):
            peers = [(row, _unlike(own, row)) for row in rows if row["method"] == own["method"]]
            if not peers:
                continue
            _, keys = min(peers, key=lambda peer: len(peer[1]))
            for row in (row for row, others in peers if others == keys):
                for key in keys:
                    theirs[key][plain_text(_value(row, key))] = None
                    mine[key][plain_text(_value(own, key))] = None
        changed = [f"{key} {few([*theirs[key]])}, not {few([*mine[key]])}" for key in theirs]
        return f"; the nearest runs have {'; '.join(changed)}" if changed else ""

    def lines(self) -> tuple[str, ...]:
        """Write a line for each reason, with the cells by method that the reference does not give.

        Nothing is said of a rule that the suite of the reference does not have, because each of its
        cells has its own line in the plan. A reference without any run of these cells and of the
        suite says nothing.
        """
        unfit = self.lacking.keys() - {ABSENT}
        if not (self.taken or unfit or self.reference.suite(self.suite.name)):
            return ()
        known = self._suite_json.defaults  # by the full name of a rule
        absent = [cell for cell in self.lacking.pop(ABSENT, ()) if cell.method.name in known]
        some = f"{len(absent)}" if self.taken or self.lacking else "any"
        other = self._differences(absent)
        lacks = f"the reference has no run for {some} of these cells{other}"
        written = [lacks] * bool(absent)
        for reason, cells in self.lacking.items():
            seeds: dict[str, dict[str, None]] = defaultdict(dict)
            for cell in cells:
                defaults = known.get(cell.method.name)
                name = rule_name(
                    cell.method, defaults if isinstance(defaults, dict) else CORE_DEFAULTS
                )
                seeds[name][str(cell.seed)] = None
            names = "; ".join(f"{name} (seed {', '.join(own)})" for name, own in seeds.items())
            written.append(f"not from the reference: {names}: {reason}")
        return tuple(written)


def _value(settings: Mapping[str, Any], key: str) -> Any:
    """Return a setting of a cell; an option that it does not state has its default."""
    return settings.get(key, CORE_DEFAULTS.get(key.removeprefix("method.")))


def _unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the settings in which two cells differ; of another component only its name."""
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    whole = tuple(f"{key}." for key in keys)
    return tuple(key for key in keys if not key.startswith(whole))


def trained(record: RunRecord) -> str:
    """Say when and on what a run of the reference was trained."""
    return f"trained {record.finished[:10]} on {record.place}"
