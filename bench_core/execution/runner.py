"""A suite from its plan to its records: what `bench run` does, callable from Python.

from bench_core import run_suite
records = run_suite("quickstart", overrides=["training.epochs=5"])
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench_core.errors import StoreError, UsageError
from bench_core.execution.executors import Execute, Options
from bench_core.execution.plan import Plan, PlannedCell, make_plan
from bench_core.execution.reuse import saved_mapping
from bench_core.registry import plugins
from bench_core.registry.registry import Registry, resolve
from bench_core.results import store
from bench_core.results.record import RunRecord, cell_key
from bench_core.suite.model import Suite


def run_suite(
    source: str | Path,
    *,
    overrides: Sequence[str] = (),
    results: str | Path = "results",
    data_dir: str | Path | None = None,
    workers: int | None = None,
    executor: str = "local",
    settings: Mapping[str, str] | None = None,
    retry_failed: bool = False,
    **short: Any,
) -> list[RunRecord]:
    """Run a suite (a path or the name of an installed one) and return the records of all its cells.

    Cells that are finished already are reused. `short`: methods, seeds, dataset, arch, epochs, device, as on the command line;
    `executor` and its `settings` too.
    Raises SuiteError, UsageError, DataError, PluginError before any training, StoreError where results cannot be written.
    """
    from bench_core.suite.load import load_suite

    suite = load_suite(source, overrides, **short)
    registry = plugins.load()
    plan = make_plan(
        suite,
        registry,
        Path(results),
        Path(data_dir) if data_dir else default_data_dir(),
        retry_failed,
    )
    return run_plan(plan, registry, executor, Options(slots=workers, settings=settings or {}))


def default_data_dir() -> Path | None:
    """BENCH_DATA_DIR, or None: then data sets look in `data`."""
    return Path(os.environ["BENCH_DATA_DIR"]) if os.environ.get("BENCH_DATA_DIR") else None


def executor_named(name: str, registry: Registry) -> Execute:
    """An executor by name. `local` is always there. Raises UsageError, PluginError."""
    if name == "local":
        from bench_core.execution.executors.local import execute

        return execute
    found: Execute = resolve(registry.find("executor", name))
    return found


def run_plan(
    plan: Plan,
    registry: Registry,
    executor: str = "local",
    options: Options | None = None,
    progress: Callable[[Sequence[PlannedCell]], Any] | None = None,
    warn: Callable[[str], None] = lambda line: None,
) -> list[RunRecord]:
    """Run what the plan says is to be run; return the records of all its cells, in the plan's order."""
    execute = executor_named(executor, registry)
    if executor == "local" and options is not None and options.settings:
        raise UsageError(
            f"--executor-set {next(iter(options.settings))}: the local executor has no settings; say --executor slurm or ray"
        )
    if executor == "local" and (
        missing := [plan.absent[c.device] for c in plan.to_run if c.device in plan.absent]
    ):
        raise UsageError(f"{missing[0]}; --device cpu runs here, --executor ray or slurm elsewhere")
    options = replace(options or Options(), sweep_seconds=plan.suite.budget.sweep_seconds)
    store.tidy(store.open_suite_folder(plan.folder.parent, plan.folder.name))
    cells = {cell_key(c.cell): c.identity for c in plan.cells}
    defaults = {c.cell.method.name: c.defaults for c in plan.cells}
    described = describe(plan.suite, cells, plan.folder, defaults)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    decisions = {c.identity: {"action": c.action, "why": c.why, "at": now} for c in plan.cells}
    store.write_suite(plan.folder, described | {"decisions": decisions})

    warned: set[str] = set()

    def notify(hook: str, **arguments: Any) -> None:
        for line in map(str, registry.notify(hook, **arguments)):
            if line not in warned:  # not once more after every epoch
                warned.add(line)
                warn(line)

    to_run = plan.to_run
    with progress(to_run) if progress is not None and to_run else nullcontext() as shown:

        def on_event(cell: PlannedCell, event: dict[str, Any]) -> None:
            if shown is not None:
                shown.event(cell, event)
            if event["event"] == "start":
                notify("bench_cell_start", identity=cell.identity, cell=cell.cell)
            elif event["event"] == "epoch":
                notify("bench_epoch_end", identity=cell.identity, cell=cell.cell, row=event["row"])
            elif event["event"] == "end":
                notify("bench_cell_end", identity=cell.identity, record=event["record"])

        notify("bench_suite_start", plan=plan)
        if to_run:
            execute(to_run, plan.job, on_event, options)
    try:
        records = [store.read(cell.folder) for cell in plan.cells]
    except store.Unreadable as reason:
        raise StoreError(f"{plan.folder}: a run folder was changed meanwhile: {reason}") from None
    notify("bench_suite_end", plan=plan, records=records)
    return records


def describe(
    suite: Suite,
    cells: dict[str, str],
    folder: Path,
    defaults: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """suite.json: how the suite is judged, cell → identity, rule → its own defaults; cells and rules of earlier plans stay."""
    thresholds = {
        entry.name: entry.threshold for entry in suite.diagnostics if entry.threshold is not None
    }
    return {
        "schema": 1,
        "name": suite.name,
        "title": suite.title,
        "description": suite.description,
        "thresholds": thresholds,
        "depth_utility": suite.depth_utility.model_dump(),
        "expect": [claim.model_dump() for claim in suite.expect],
        "claimed_for": suite._claimed_for,
        "cells": saved_mapping(folder, "cells") | cells,
        "defaults": saved_mapping(folder, "defaults")
        | {name: dict(own) for name, own in defaults.items()},
    }
