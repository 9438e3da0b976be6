"""Plan a suite: its cells with floors and ceiling, their identities, which results are reused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from bench_core.execution.planning.components import (
    Components,
    Trio,
    code_of,
    numerics_of,
    own_files,
)
from bench_core.execution.planning.fingerprint import cell_identity
from bench_core.execution.planning.floors import resolved_cells
from bench_core.execution.planning.job import Job, Measuring, digested, make_job, measuring
from bench_core.execution.planning.remarks import remarks
from bench_core.execution.planning.reuse import Action, StoredRuns
from bench_core.execution.planning.shipped import Shipped, trained
from bench_core.registry.registry import Registry
from bench_core.results import store, suite_folder
from bench_core.results.record import Cell, cell_key
from bench_core.results.reference import Reference
from bench_core.results.scan import Stored
from bench_core.suite.model import Suite


@dataclass(frozen=True)
class PlannedCell:
    """A cell with its identity and the decision to run it, or to use a run that is there.

    stamp     of the run that the plan found in the folder; another runner's run has another stamp
    numerics  of the training and of every component; the reference is matched by them, and by code
    defaults  of the rule's own parameters
    shipped   the run of the reference that stands for it
    ended     the status of the run that is reused
    begun     the epochs after which the cell continues
    """

    cell: Cell
    identity: str
    folder: Path
    device: str
    code: dict[str, Any]
    data_checksum: str
    passport: dict[str, bool]
    action: Action
    why: str
    stamp: tuple[int, int] | None = None
    numerics: Mapping[str, int] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    shipped: Stored | None = None
    ended: str | None = None
    begun: int = 0


@dataclass(frozen=True)
class Plan:
    """All cells of a suite: its own in the suite's order, then the floors and the ceiling.

    troubles  warnings, a line each: stored runs that cannot be read, and what `remarks` yields
    absent    devices of the cells that are not on this machine → why
    defaults  a rule's full name, `arch NAME`, `dataset NAME` or `diagnostic NAME` → the defaults
              of its parameters
    beside    cells of the suite's other methods that the reference has, for the same table
    lacking   a line for each reason why the reference does not give a cell
    """

    suite: Suite
    folder: Path
    cells: tuple[PlannedCell, ...]
    diagnostics: tuple[Measuring, ...]
    data_dir: Path | None
    troubles: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    beside: tuple[PlannedCell, ...] = ()
    lacking: tuple[str, ...] = ()

    def job(self, cell: PlannedCell) -> Job:
        """Return what the worker of a cell must know."""
        suite, budget = self.suite, self.suite.budget.of_cell()
        kept = suite.checkpoint_every
        known = suite.name, self.diagnostics, self.data_dir, budget, suite.every(), kept
        return make_job(cell, *known)

    @property
    def to_run(self) -> list[PlannedCell]:
        return [cell for cell in self.cells if cell.action == "run"]

    @property
    def shipped(self) -> list[PlannedCell]:
        """Return the cells that come from the reference, those of other methods too."""
        return [cell for cell in (*self.cells, *self.beside) if cell.shipped is not None]

    @property
    def counts(self) -> str:
        """`30 cells, 10 reused (1 failed), 20 to run (2 continue)`, and from the reference."""
        total, to_run = len(self.cells), len(self.to_run)
        shipped = len(self.shipped) - len(self.beside)
        bad = Counter(cell.ended for cell in self.cells if cell.ended not in (None, "done"))
        how = f" ({', '.join(f'{n} {status}' for status, n in sorted(bad.items()))})" if bad else ""
        parts = [f"{total} cell{'s' * (total != 1)}", f"{total - to_run - shipped} reused{how}"]
        begun = sum(cell.begun > 0 for cell in self.to_run)
        goes_on = f" ({begun} continue{'s' * (begun == 1)})" * bool(begun)
        parts += [f"{shipped} from the reference"] * bool(self.shipped)
        parts += [f"{to_run} to run{goes_on}"]
        beside = len(self.beside)
        more = f"; {beside} of other methods beside them, from the reference" if beside else ""
        return ", ".join(parts) + more


def make_plan(
    suite: Suite,
    registry: Registry,
    results: Path,
    data_dir: Path | None = None,
    retry_failed: bool = False,
    reference: Reference | None = None,
) -> Plan:
    """Resolve a suite without writing. Raises SuiteError and UsageError with all faults.

    Raises StoreError if a newer bench wrote the suite folder.

    reference  its runs stand for cells that have no run in `results`; those of the suite's methods
               that options left out come beside
    """
    suite_folder.refuse_newer(results / suite.name)
    components = Components(suite, registry)
    components.examine(data_dir)
    diagnostics = tuple(map(measuring, components.parts(components.diagnostics)))
    folder = results / suite.name
    stored = StoredRuns(folder, suite, list(map(digested, diagnostics)), retry_failed)
    shipped = Shipped(reference, suite, diagnostics) if reference else None
    troubles: list[str] = []
    planned = list(_planned(components, stored, shipped, troubles))
    lacking = shipped.lines() if shipped else ()
    beside: list[PlannedCell] = []
    if suite.whole is not None and reference and reference.suite(suite.name):
        others = Components(suite.whole, registry)
        others.examine(data_dir)
        own = {cell_key(cell.cell) for cell in planned}
        every = _planned(others, stored, shipped, [], own | stored.trained(reference))
        beside = [cell for cell in every if cell.shipped]
    return Plan(
        suite=suite,
        folder=folder,
        cells=tuple(planned),
        diagnostics=diagnostics,
        data_dir=data_dir,
        troubles=(
            *remarks(components, planned, folder),
            *troubles,
            *(shipped.refused if shipped else ()),
        ),
        absent=components.absent,
        defaults=components.defaults(),
        beside=tuple(beside),
        lacking=lacking,
    )


def _planned(
    components: Components,
    stored: StoredRuns,
    shipped: Shipped | None,
    troubles: list[str],
    without: Collection[str] = (),
) -> Iterator[PlannedCell]:
    """Yield the cells of a suite, without those of some keys, with what is done about each."""
    diagnostics = components.parts(components.diagnostics)

    @cache
    def code_at(trio: Trio) -> dict[str, Any]:
        return code_of(components.parts(trio), diagnostics, components.stop_when())

    for cell, trio, device in resolved_cells(components):
        if without and cell_key(cell) in without:
            continue
        parts, code = components.parts(trio), code_at(trio)
        method, _, dataset = parts
        digests = {name: entry["digest"] for name, entry in code.items()}
        identity = cell_identity(cell.model_dump(mode="json"), digests, dataset["checksum"])
        numerics = numerics_of(parts, diagnostics)
        stamp = store.stamp(stored.folder / identity)  # before the decision, which reads the run
        choice = stored.decide(cell, identity, code, dataset["checksum"], device)
        action, why, warning, ended, begun = choice
        run = None
        if action == "run" and shipped is not None:
            files = own_files([*parts, *diagnostics])
            run, unfit = shipped.find(cell, numerics, dataset["checksum"], files)
            why += f"; not from the reference: {unfit}" * bool(unfit)
        if run is not None:
            identity, action, why = run.record.identity, "reference", trained(run.record)
        if warning is not None:
            troubles.append(warning)
        yield PlannedCell(
            cell=cell,
            identity=identity,
            folder=stored.folder / identity,
            device=device,
            code=code,
            data_checksum=dataset["checksum"],
            passport=method["passport"],
            action=action,
            why=why,
            stamp=stamp,
            numerics=numerics,
            defaults=method["defaults"],
            shipped=run,
            ended=ended,
            begun=begun,
        )
