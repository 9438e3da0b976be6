"""Reproduce a random sample of other people's runs with the installed code.

Each done run that a table counts is equally likely; a printed seed lets everybody check the draw.
A small draw seldom meets one forged rule among many, so a draw can be told to meet every row of the
tables. The new runs are kept in a results folder of their own. Each comparison is a `Replica` in
the mark of the posted run. A run in that folder is reused only if this user trained it, which its
signed mark says: everything else there, a saved state too, may come from the author of the posted
runs.

A posted cell is not trusted either: its training has a budget, which follows from the cost that
the posted run names.
"""

from __future__ import annotations

import contextlib
import math
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_core.analysis import suite_file
from bench_core.analysis.gather import gather
from bench_core.errors import StoreError, UsageError, by_reason
from bench_core.execution.events import Event, ended
from bench_core.execution.executors import Execute, Options
from bench_core.execution.limits import allowance
from bench_core.execution.planning import validate
from bench_core.execution.planning.components import code_of, numerics_of
from bench_core.execution.planning.examination import Examined, Request, option_faults
from bench_core.execution.planning.fingerprint import cell_identity
from bench_core.execution.planning.job import Job, Measuring, make_job, measuring
from bench_core.execution.planning.plan import PlannedCell
from bench_core.names import OURS, bare_name
from bench_core.registry.registry import Registry
from bench_core.results import marks, store, suite_folder
from bench_core.results.agreement import compare
from bench_core.results.hashing import canonical
from bench_core.results.record import EVERY, RunRecord
from bench_core.results.scan import Stored, scan
from bench_core.results.status import FINAL, STATUSES
from bench_core.sharing.verify import untrainable

VERSION = r"[0-9A-Za-z.+!_-]{1,80}"  # of a distribution, as a command line takes it


@dataclass(frozen=True)
class Again:
    """A posted run and the cell that reproduces it."""

    posted: Stored
    cell: PlannedCell
    diagnostics: tuple[Measuring, ...]
    budget: dict[str, float | int]

    def job(self, data_dir: Path | None) -> Job:
        """Return what the worker of the cell must know; it measures in the epochs of the run."""
        record = self.posted.record
        every = {name: getattr(record, name) for name in EVERY}
        return make_job(self.cell, record.suite, self.diagnostics, data_dir, self.budget, every)


def share(text: str) -> float | int:
    """Parse `10%` as 0.1 and `3` as 3 runs. Raises UsageError."""
    with contextlib.suppress(ValueError):
        value = float(text.removesuffix("%"))
        if text.endswith("%") and 0 < value <= 100:
            return value / 100
        if not text.endswith("%") and value >= 1 and value.is_integer():
            return int(value)
    raise UsageError(f"--sample {text}: must be a share such as 10% or a number of runs")


def sample(
    runs: Sequence[Stored], size: float | int, seed: int, each_row: bool = False
) -> list[Stored]:
    """Draw at least one of the done runs, without replacement. Raises UsageError without any.

    each_row  draw further runs, one of each row of a table that the first ones miss: a rule or a
              floor with its options and recipe, over its seeds
    """
    done = [run for run in runs if run.record.status == "done"]
    done.sort(key=lambda run: (run.record.identity, str(run.folder)))
    if not done:
        raise UsageError("there is no run that is done, so there is nothing to run again")
    count = math.ceil(size * len(done)) if isinstance(size, float) else size
    order = random.Random(seed)
    drawn = order.sample(done, min(count, len(done)))
    if each_row:
        met = set(map(_row, drawn))
        for run in order.sample(done, len(done)):
            if (row := _row(run)) not in met:
                met.add(row)
                drawn.append(run)
    return drawn


def _row(run: Stored) -> str:
    return canonical([run.suite, run.record.cell.model_dump(exclude={"seed"})])


def counted(results: Path) -> list[Stored]:
    """Read the runs of a results folder that its tables count.

    A folder may hold any number of runs that a table leaves out. They would hide the others from a
    draw.
    """
    shown = {
        (suite.folder, record.identity)
        for suite in gather([results])[0]
        for record in suite.records
    }
    runs = scan([results]).runs
    return [run for run in runs if (run.folder.parent, run.record.identity) in shown]


def plan_again(
    runs: Sequence[Stored],
    registry: Registry,
    into: Path,
    data_dir: Path | None,
    device: str,
    threads: int | None = None,
) -> tuple[list[Again], list[str]]:
    """Plan cells that reproduce the runs; also a line for each reason why some cannot be, and for
    each plugin that is installed in another version.

    threads  of the new trainings, in place of those of the runs
    """
    planned, faults = [], []
    for run in runs:
        record = run.record
        try:
            budget = allowance(record)
            described = _describe(run, registry, data_dir, budget["memory_mb"])
        except UsageError as error:
            faults.append((run.folder, f"cannot be run again here: {error}"))
            continue
        parts, measured = described[:3], described[3:]
        checksum = parts[2]["checksum"]
        training = record.cell.training | ({"threads": threads} if threads else {})
        cell_again = record.cell.model_copy(update={"training": training})
        code = code_of(parts, measured, record.cell.training.get("stop_when", {}))
        faults += [(run.folder, text) for text in _other_versions(record.code, code)]
        digests = {name: entry["digest"] for name, entry in code.items()}
        identity = cell_identity(cell_again.model_dump(mode="json"), digests, checksum)
        folder = into / run.suite / identity
        cell = PlannedCell(
            cell_again,
            identity,
            folder,
            device,
            code,
            checksum,
            parts[0]["passport"],
            "run",
            f"replicates {record.identity}",
            store.stamp(folder),
            numerics_of(parts, measured),
            parts[0]["defaults"],
        )
        planned.append(Again(run, cell, tuple(map(measuring, measured)), budget))
    return planned, by_reason(faults)


def _other_versions(posted: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """Name the plugins whose installed version is not the one that trained a run."""
    for name in sorted(posted.keys() & here.keys() - {OURS}):
        both = [code[name] for code in (posted, here)]
        was, now = (own.get("version") if isinstance(own, Mapping) else None for own in both)
        if isinstance(was, str) and re.fullmatch(VERSION, was) and was != now:
            remedy = f"`pip install {name}=={was}` installs the code that trained it"
            yield f"was trained by {name} {was}; {now} is installed and runs it again; {remedy}"


def _describe(
    run: Stored, registry: Registry, data_dir: Path | None, memory_mb: float
) -> list[Examined]:
    """Describe the components as installed here. UsageError if one is missing or unfit.

    The diagnostics are the installed ones of the run, those that end it, and the built-in ones of
    its suite. They have the options that suite.json beside the run states.
    """
    record, stated = run.record, suite_folder.saved(run.folder.parent).diagnostics
    if faults := untrainable(record.cell):
        raise UsageError("; ".join(faults))
    refs = record.cell.refs.items()
    wanted: list[tuple[Any, str, dict[str, Any]]] = [(k, ref.name, ref.params) for k, ref in refs]
    options = {bare_name(name): params for name, params in stated.items()}
    installed = registry.of_kind("diagnostic")
    ours = {item.component.name for item in installed if item.distribution == OURS}
    known = {item.component.name for item in installed}
    measured = [name for name in record.listed() if name in known]
    stops = record.cell.training.get("stop_when", {})
    further = {registry.find("diagnostic", name).component.name for name in stops}
    measured += sorted((further | ours & options.keys()) - set(measured))
    wanted += [("diagnostic", name, options.get(name, {})) for name in measured]
    components = [(k, registry.find(k, name).full_name, params) for k, name, params in wanted]
    place = str(data_dir) if data_dir else None
    request: Request = {"components": components, "trios": [(0, 1, 2)], "data_dir": place}
    answer = validate.ask({**request, "memory_mb": memory_mb})
    for (_, name, _), item in zip(components, answer["components"], strict=True):
        if "error" in item:
            raise UsageError(item["error"])
        if faults := option_faults(item):
            raise UsageError(f"the installed {name} has other parameters: {', '.join(faults)}")
    if unfit := answer["trios"][0]:
        raise UsageError(unfit["why"])
    return answer["components"]


def carry_out(
    planned: Sequence[Again],
    execute: Execute,
    data_dir: Path | None,
    options: Options,
    progress: Callable[[Sequence[PlannedCell]], Any] | None = None,
) -> tuple[list[tuple[Stored, marks.Replica]], list[str]]:
    """Run the cells that have no finished run yet, compare, and write the marks.

    progress  makes a context manager whose `event(cell, event)` gets every event

    Returns the comparisons; a line for each run that did not end here or whose mark cannot be
    written. Raises StoreError if the new runs cannot be written.
    """
    by_folder = {again.cell.folder: again for again in planned}
    for suite in {again.cell.folder.parent for again in planned}:
        store.tidy(suite_folder.create(suite.parent, suite.name))
    to_run = [again.cell for again in planned if not trained_at(again.cell)]
    for cell in to_run:
        store.remove_resume(cell.folder)

    made: dict[Path, RunRecord] = {}
    for own in _distinct(to_run):
        display = progress(own) if progress is not None else None

        def watch(cell: PlannedCell, event: Event, display: Any = display) -> None:
            if end := ended(event):
                made[cell.folder] = record = end["record"]
                if end["event"] == "end" and record.checksum is not None:
                    _sign(cell.folder, record)
            if display is not None:
                display.event(cell, event)

        try:
            with display or contextlib.nullcontext():
                execute(own, lambda cell: by_folder[cell.folder].job(data_dir), watch, options)
        finally:
            # an interrupt may have come before the event of a run that ended
            _sign_all(cell for cell in own if cell.folder not in made)
    replicas, troubles = [], []
    for again in planned:
        record = made.get(again.cell.folder)
        if record is None or record.checksum is not None:  # else what lies there is no run of now
            record = store.read(again.cell.folder, sums=True)
        folder, suite = again.posted.folder, again.posted.folder.parent
        broke = record.status == "failed" and again.posted.record.status == "done"
        if record.status not in FINAL or broke:  # says nothing about the posted run
            troubles.append(f"{folder}: could not be run here: {record.status}: {record.reason}")
            continue
        stated = suite_file.described(suite, [], None).thresholds
        limits = {bare_name(name): limit for name, limit in stated.items()}
        replica = compare(again.posted.record, record, (folder, again.cell.folder), limits)
        replicas.append((again.posted, replica))
        try:
            marks.write(suite, marks.read(suite, again.posted.record).replicated(replica))
        except StoreError as error:
            troubles.append(f"{folder}: the result cannot be stored: {error}")
    return replicas, troubles


def _distinct(cells: Sequence[PlannedCell]) -> list[list[PlannedCell]]:
    """Split cells so that no part has an identity twice, as cells of two suites may."""
    parts: list[dict[str, PlannedCell]] = []
    for cell in cells:
        part = next((part for part in parts if cell.identity not in part), None)
        if part is None:
            parts.append(part := {})
        part[cell.identity] = cell
    return [list(part.values()) for part in parts]


def trained_at(cell: PlannedCell) -> str:
    """Return when this user trained the run of a cell; empty if it must be trained.

    A run from before a diagnostic of the cell was installed is trained again, to measure that too.
    """
    try:
        record = store.read(cell.folder, sums=True)
    except store.Unreadable:
        return ""
    if STATUSES[record.status].failure or cell.numerics.keys() - record.numerics.keys():
        return ""
    return marks.read(cell.folder.parent, record).trained_at()


def _sign_all(cells: Iterable[PlannedCell]) -> None:
    """Sign the runs that have ended since the plan, if they are not signed yet."""
    for cell in cells:
        if store.stamp(cell.folder) != cell.stamp and not trained_at(cell):
            with contextlib.suppress(store.Unreadable):
                record = store.read(cell.folder, sums=True)
                if record.status in FINAL:
                    _sign(cell.folder, record)


def _sign(folder: Path, record: RunRecord) -> None:
    """Sign a run that was trained here; without a signature it is trained again next time."""
    with contextlib.suppress(StoreError):
        mark = marks.read(folder.parent, record).signed("trained", record.finished)
        marks.write(folder.parent, mark)
