"""Plan a suite: its cells with floors and ceiling, their identities, which results are reused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from bench_core.execution.components import Components, Trio, code_of, numerics_of
from bench_core.execution.fingerprint import cell_identity
from bench_core.execution.job import make_job
from bench_core.execution.references import resolved_cells
from bench_core.execution.reuse import StoredRuns
from bench_core.registry.registry import Registry
from bench_core.results import store
from bench_core.results.record import Cell
from bench_core.suite.model import Suite


@dataclass(frozen=True)
class PlannedCell:
    """A cell with its identity and the decision to run it or to reuse a stored run.

    stamp     of the run that the plan found in the folder; another runner's run has another stamp
    numerics  of the training and of every component; shipped results are matched by them
    defaults  of the rule's own parameters
    """

    cell: Cell
    identity: str
    folder: Path
    device: str
    code: dict[str, Any]
    data_checksum: str
    passport: dict[str, bool]
    action: Literal["run", "reuse"]
    why: str
    stamp: tuple[int, int] | None = None
    numerics: Mapping[str, int] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """All cells of a suite: its own in the suite's order, then the floors and the ceiling.

    troubles  a line for each stored run that cannot be read
    absent    devices of the cells that are not on this machine → why
    defaults  a rule's full name, `arch NAME`, `dataset NAME` or `diagnostic NAME` → the defaults
              of its parameters
    """

    suite: Suite
    folder: Path
    cells: tuple[PlannedCell, ...]
    diagnostics: tuple[dict[str, Any], ...]
    data_dir: Path | None
    troubles: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def job(self, cell: PlannedCell) -> dict[str, Any]:
        """Return what the worker of a cell must know."""
        suite, budget = self.suite, self.suite.budget.of_cell()
        names = ("evaluate_every", "diagnose_every", "checkpoint_every")
        every = {name: getattr(suite, name) for name in names}
        return make_job(cell, suite.name, self.diagnostics, self.data_dir, budget, every)

    @property
    def to_run(self) -> list[PlannedCell]:
        return [cell for cell in self.cells if cell.action == "run"]

    @property
    def counts(self) -> str:
        """`30 cells, 10 reused, 20 to run`."""
        total, to_run = len(self.cells), len(self.to_run)
        return f"{total} cell{'s' * (total != 1)}, {total - to_run} reused, {to_run} to run"


def make_plan(
    suite: Suite,
    registry: Registry,
    results: Path,
    data_dir: Path | None = None,
    retry_failed: bool = False,
) -> Plan:
    """Resolve a suite without writing. Raises SuiteError and UsageError with all faults."""
    components = Components(suite, registry)
    components.examine(data_dir)
    diagnostics = components.parts(components.diagnostics)
    folder = results / suite.name
    stored = StoredRuns(folder, suite, retry_failed)

    @cache
    def code_at(trio: Trio) -> dict[str, Any]:
        return code_of(components.parts(trio), diagnostics, components.stop_when())

    planned, troubles = [], []
    for cell, trio, device in resolved_cells(components):
        parts, code = components.parts(trio), code_at(trio)
        method, _, dataset = parts
        digests = {name: entry["digest"] for name, entry in code.items()}
        identity = cell_identity(cell.model_dump(mode="json"), digests, dataset["checksum"])
        stamp = store.stamp(folder / identity)  # before the decision, which reads the run
        decision = stored.decide(cell, identity, code, dataset["checksum"])
        if decision.warning is not None:
            troubles.append(decision.warning)
        planned.append(
            PlannedCell(
                cell=cell,
                identity=identity,
                folder=folder / identity,
                device=device,
                code=code,
                data_checksum=dataset["checksum"],
                passport=method["passport"],
                action=decision.action,
                why=decision.why,
                stamp=stamp,
                numerics=numerics_of(parts, diagnostics),
                defaults=method["defaults"],
            )
        )
    return Plan(
        suite=suite,
        folder=folder,
        cells=tuple(planned),
        diagnostics=tuple({"name": d["name"], "params": d["params"]} for d in diagnostics),
        data_dir=data_dir,
        troubles=tuple(troubles),
        absent=components.absent,
        defaults=components.defaults(),
    )
