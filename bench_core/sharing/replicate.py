"""Somebody else's runs made again: a random sample of them, trained here by the code that is installed here.

The sample is drawn from the runs that are done, each equally likely, from a seed that is said, so that the draw can be checked
too. The new runs are kept in a results folder of their own; what each comparison found is a `trust.Replica` in the mark of the
posted run.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_core.errors import StoreError, UsageError
from bench_core.execution import validate
from bench_core.execution.components import PARTS, code_of, numerics_of
from bench_core.execution.executors import Event, Execute, Job, Options
from bench_core.execution.fingerprint import cell_identity
from bench_core.execution.plan import PlannedCell
from bench_core.registry.registry import Registry
from bench_core.results import marks, store
from bench_core.results.record import RunRecord
from bench_core.results.scan import Stored
from bench_core.results.status import FINAL, STATUSES
from bench_core.sharing.agreement import compare


@dataclass(frozen=True)
class Again:
    """A posted run and the cell that makes it again."""

    posted: Stored
    cell: PlannedCell
    diagnostics: tuple[dict[str, Any], ...]


def share(text: str) -> float | int:
    """`10%` → 0.1, `3` → 3 runs. Raises UsageError."""
    number = text.removesuffix("%")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if text.endswith("%") and 0 < value <= 100:
        return value / 100
    if not text.endswith("%") and value >= 1 and value.is_integer():
        return int(value)
    raise UsageError(f"--sample {text}: must be a share such as 10% or a number of runs")


def sample(runs: Sequence[Stored], size: float | int, seed: int) -> list[Stored]:
    """A random sample, without replacement, of at least one of the runs that are done. Raises UsageError where there is none."""
    done = sorted(
        (run for run in runs if run.record.status == "done"),
        key=lambda run: (run.record.identity, str(run.folder)),
    )
    if not done:
        raise UsageError("there is no run that is done, so there is nothing to run again")
    count = math.ceil(size * len(done)) if isinstance(size, float) else size
    return random.Random(seed).sample(done, min(count, len(done)))


def plan_again(
    runs: Sequence[Stored], registry: Registry, into: Path, data_dir: Path | None, device: str
) -> tuple[list[Again], list[str]]:
    """Cells for the runs, and a line for each that cannot be made again here, because a component is not installed, say."""
    planned, troubles = [], []
    for run in runs:
        record = run.record
        try:
            parts = [
                (
                    kind,
                    registry.find(kind, getattr(record.cell, kind).name).full_name,
                    getattr(record.cell, kind).params,
                )
                for kind in PARTS
            ]
            wanted: list[tuple[Any, str, dict[str, Any]]] = []
            for name in record.measurements:
                if any(item.component.name == name for item in registry.of_kind("diagnostic")):
                    wanted.append(("diagnostic", registry.find("diagnostic", name).full_name, {}))
            request = {
                "components": parts + wanted,
                "trios": [(0, 1, 2)],
                "data_dir": str(data_dir) if data_dir else None,
            }
            answer = validate.ask(request)
            told = answer["components"]
            wrong = [each for each in told if "error" in each or "invalid" in each]
            if wrong or answer["trios"][0]:
                why = (
                    answer["trios"][0]
                    or wrong[0].get("error")
                    or "its parameters are not known to the installed version"
                )
                raise UsageError(why)
        except UsageError as error:
            troubles.append(f"{run.folder}: cannot be run again here: {error}")
            continue
        code, checksum = code_of(told[:3]), told[2]["checksum"]
        digests = {name: entry["digest"] for name, entry in code.items()}
        identity = cell_identity(record.cell.model_dump(mode="json"), digests, checksum)
        folder = into / run.folder.parent.name / identity
        cell = PlannedCell(
            record.cell, identity, folder, device, code, checksum, told[0]["passport"], "run",
            f"replicates {record.identity}", store.stamp(folder), numerics_of(told[:3], told[3:]),
        )  # fmt: skip
        diagnostics = tuple({"name": each["name"], "params": each["params"]} for each in told[3:])
        planned.append(Again(run, cell, diagnostics))
    return planned, troubles


def carry_out(
    planned: Sequence[Again],
    execute: Execute,
    job_of: Callable[[Again], Job],
    options: Options,
    on_event: Event = lambda cell, event: None,
) -> tuple[list[tuple[Stored, marks.Replica]], list[str]]:
    """Run the cells that are not there yet, compare, and write the marks; a line for each that could not be run to its end here, or
    whose mark cannot be written. Raises StoreError where the new runs cannot be kept."""
    by_folder = {again.cell.folder: again for again in planned}
    for again in planned:
        store.open_suite_folder(again.cell.folder.parent.parent, again.cell.folder.parent.name)
    to_run = [again.cell for again in planned if _finished(again.cell.folder) is None]
    for suite in sorted({cell.folder.parent for cell in to_run}):
        own = [cell for cell in to_run if cell.folder.parent == suite]
        execute(own, lambda cell: job_of(by_folder[cell.folder]), on_event, options)
    found, troubles = [], []
    for again in planned:
        record = store.read(again.cell.folder, sums=True)
        # of this machine or its budget, and no word on the posted run
        if record.status not in FINAL:
            troubles.append(
                f"{again.posted.folder}: could not be run here: {record.status}: {record.reason}"
            )
            continue
        replica = compare(again.posted.record, record)
        suite = again.posted.folder.parent
        mark = marks.read(suite, again.posted.record)
        others = [each for each in mark.replicas if each != replica]
        found.append((again.posted, replica))
        try:
            marks.write(suite, mark.model_copy(update={"replicas": [*others, replica]}))
        except StoreError as error:
            troubles.append(f"{again.posted.folder}: what was found cannot be kept there: {error}")
    return found, troubles


def _finished(folder: Path) -> RunRecord | None:
    try:
        record = store.read(folder, sums=True)
    except store.Unreadable:
        return None
    return None if STATUSES[record.status].failure else record
