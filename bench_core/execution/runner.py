"""Run a plan: hand its cells to an executor, tell observers and display, return the records."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bench_core.errors import StoreError, UsageError
from bench_core.execution.events import Event
from bench_core.execution.executors import Execute, Options
from bench_core.execution.forecast import rule_of
from bench_core.execution.listeners import Listener
from bench_core.execution.planning.cell_names import names_of
from bench_core.execution.planning.job import checkout
from bench_core.execution.planning.plan import Plan, PlannedCell
from bench_core.registry.registry import Registry, resolve
from bench_core.results import reference as references
from bench_core.results import store, suite_folder
from bench_core.results.hashing import digest
from bench_core.results.record import RunRecord, cell_key, now
from bench_core.results.suite_json import SavedDecision, SuiteFile, SuiteJson


def default_data_dir() -> Path | None:
    """Return BENCH_DATA_DIR; without it None, and data sets look in `data`."""
    folder = os.environ.get("BENCH_DATA_DIR")
    return Path(folder).expanduser() if folder else None


def executor_named(name: str, registry: Registry) -> Execute:
    """Return an executor; `local` always exists. Raises UsageError, PluginError."""
    if name == "local":
        from bench_core.execution.executors.local import execute

        return execute
    executor: Execute = resolve(registry.find("executor", name))
    return executor


def run_plan(
    plan: Plan,
    registry: Registry,
    executor: str = "local",
    options: Options | None = None,
    progress: Callable[[Sequence[PlannedCell]], Any] | None = None,
    warn: Callable[[str], None] = lambda line: None,
) -> list[RunRecord]:
    """Run the cells that a plan says to run; return the records of all its cells, in its order.

    progress  makes a context manager whose `event(cell, event)` gets every event of the executor
    warn      gets a line for each observer hook that raises, and for a commit that git withholds

    The observers and the display are called in threads of their own.
    """
    execute, options = executor_named(executor, registry), options or Options()
    check_settings(executor, options.settings)
    if executor == "local":
        _check_devices(plan)
    options = replace(options, sweep_seconds=plan.suite.budget.sweep_seconds)
    store.tidy(suite_folder.create(plan.folder.parent, plan.folder.name))
    plan = _absolute(plan)
    with suite_folder.locked(plan.folder):
        for cell in plan.shipped:
            if cell.shipped is not None and not _is_there(cell):
                references.copy(cell.shipped, cell.folder)
        earlier = suite_folder.text(plan.folder)
        suite_folder.write(plan.folder, described(plan))
        written = suite_folder.text(plan.folder)
    to_run = plan.to_run
    if to_run and (fault := checkout()[1]):
        warn(f"the runs do not name the commit of this code: {fault}")
    with Listener(lambda: registry.calling, warn) as observers:
        notify = _notifier(registry, observers, warn)
        notify("bench_suite_start", plan=plan)
        unkept: dict[str, RunRecord] = {}
        if to_run:
            refused = partial(suite_folder.put_back, plan.folder, written, earlier)
            unkept = _carry_out(plan, execute, options, notify, progress, warn, refused)
        try:
            records = [unkept.get(c.identity) or store.read(c.folder) for c in plan.cells]
        except store.Unreadable as reason:
            text = f"{plan.folder}: a run folder was changed meanwhile: {reason}; "
            text += "repeat the command: it trains what is missing"
            raise StoreError(text) from None
        notify("bench_suite_end", plan=plan, records=records)
    return records


def _is_there(cell: PlannedCell) -> bool:
    """Decide whether the folder of a cell has its run of the reference already."""
    try:
        own = store.read(cell.folder, sums=True)
    except store.Unreadable:
        return False
    return cell.shipped is not None and own.checksum == cell.shipped.record.checksum


def _absolute(plan: Plan) -> Plan:
    """Return the plan with absolute paths: an observer may change the folder of this process."""
    cells, beside = (
        tuple(replace(cell, folder=cell.folder.absolute()) for cell in own)
        for own in (plan.cells, plan.beside)
    )
    data, folder = plan.data_dir and plan.data_dir.absolute(), plan.folder.absolute()
    return replace(plan, folder=folder, cells=cells, beside=beside, data_dir=data)


def _notifier(
    registry: Registry, observers: Listener, warn: Callable[[str], None]
) -> Callable[..., None]:
    """Return a function that calls a hook of all observers, in their thread."""
    warned: set[str] = set()

    def call(hook: str, arguments: dict[str, Any]) -> None:
        for line in map(str, registry.notify(hook, **arguments)):
            if line not in warned:  # not again after every epoch
                warned.add(line)
                warn(line)

    def notify(hook: str, **arguments: Any) -> None:
        if any(observer.hook == hook for observer in registry.observers):
            observers.call(partial(call, hook, arguments), hook == "bench_epoch_end")

    return notify


def _carry_out(
    plan: Plan,
    execute: Execute,
    options: Options,
    notify: Callable[..., None],
    progress: Callable[[Sequence[PlannedCell]], Any] | None,
    warn: Callable[[str], None],
    refused: Callable[[], None],
) -> dict[str, RunRecord]:
    """Run the cells, and tell the observers and the display of every event.

    refused  is called if the executor refuses before the first event

    Returns identity → record of the cells whose attempt was not kept.
    """
    begun, unkept = False, {}
    names = dict(zip((c.identity for c in plan.to_run), names_of(plan.to_run), strict=True))
    display = progress(plan.to_run) if progress is not None else None
    with display or nullcontext(), Listener(lambda: "the progress", warn, math.inf) as screen:

        def on_event(cell: PlannedCell, event: Event) -> None:
            nonlocal begun
            begun = True
            if event["event"] == "anew":
                name = names[cell.identity]
                screen.call(partial(warn, f"{name}: training begins anew: {event['reason']}"))
                return
            if display is not None:
                screen.call(partial(display.event, cell, event), event["event"] == "epoch")
            if event["event"] == "start":
                notify("bench_cell_start", identity=cell.identity, cell=cell.cell)
            elif event["event"] == "epoch":
                notify("bench_epoch_end", identity=cell.identity, cell=cell.cell, row=event["row"])
            elif event["event"] == "end":
                record = event["record"]
                if record.checksum is None:  # the store did not seal it
                    unkept[cell.identity] = record
                notify("bench_cell_end", identity=cell.identity, record=record)

        try:
            execute(plan.to_run, plan.job, on_event, options)
        except UsageError:
            if not begun:
                refused()
            raise
    return unkept


def check_settings(executor: str, settings: Mapping[str, str]) -> None:
    """Raise UsageError if the local executor got settings."""
    if executor == "local" and settings:
        hint = "the local executor has no settings; add --executor slurm or ray"
        raise UsageError(f"--executor-set {next(iter(settings))}: {hint}")


def _check_devices(plan: Plan) -> None:
    """Raise UsageError if this machine lacks the device of a cell."""
    for cell in plan.to_run:
        if cell.device in plan.absent:
            hint = "--device cpu runs here, --executor ray or slurm elsewhere"
            raise UsageError(f"{plan.absent[cell.device]}; {hint}")


def described(plan: Plan) -> dict[str, Any]:
    """Return the content of suite.json: how the suite is judged, and what the plan decided.

    Its parts are those of `SuiteJson`; `file` has cells if a plan has listed them.
    """
    suite, at, before = plan.suite, now(), suite_folder.saved(plan.folder)
    cells = {cell_key(c.cell): c.identity for c in plan.cells}
    beside = {cell_key(c.cell): c.identity for c in plan.beside}
    decisions = {c.identity: SavedDecision(action=c.action, why=c.why, at=at) for c in plan.cells}
    for cell, name in zip(plan.to_run, names_of(plan.to_run), strict=True):
        decision = decisions[cell.identity]
        decision.cell, decision.rule = name, rule_of(cell.cell)
        decision.epochs = cell.cell.last_epoch
    content = SuiteJson(
        name=suite.name,
        description=suite.description,
        **suite.judging(),
        diagnostics={entry["name"]: entry["params"] for entry in plan.diagnostics},
        file=_file(plan, sorted(cells), before.file),
        cells=before.cells | beside | cells,
        defaults=before.defaults | {name: dict(own) for name, own in plan.defaults.items()},
        decisions=decisions,
        used=before.used | dict.fromkeys(decisions, at),
    )
    return {"schema": suite_folder.SCHEMA, **content.model_dump()}


def _seeds_alone_differ(one: dict[str, Any], other: dict[str, Any]) -> bool:
    included = any("seeds" in entry for entry in other["include"])
    return not included and one | {"seeds": 0} == other | {"seeds": 0}


def _listed(file: SuiteFile | None, name: str) -> list[str] | None:
    """Return the cells that were listed before for the file of this digest."""
    return file.cells if file and file.digest == name else None


def _file(plan: Plan, cells: list[str], before: SuiteFile | None) -> SuiteFile:
    """Describe the file of a suite; its cells are known if options chose no more than seeds."""
    suite, stated = plan.suite, plan.suite.stated or plan.suite
    name, own, whole = digest(stated.content()), suite.content(), stated.content()
    listed: list[str] | None = None
    if suite.stated is not None and own == whole:
        listed = cells
    elif suite.stated is not None and _seeds_alone_differ(own, whole):
        seeded = (c.cell.model_copy(update={"seed": s}) for c in plan.cells for s in stated.seeds)
        listed = sorted({*map(cell_key, seeded)})
    else:
        listed = _listed(before, name)
        shipped = references.installed()
        place = shipped.suite(suite.name) if shipped and not shipped.trouble else None
        if listed is None and place is not None:
            listed = _listed(suite_folder.saved(place).file, name)
    return SuiteFile(
        digest=name,
        title=stated.title,
        description=stated.description,
        cells=listed,
        seeds=list(stated.seeds),
    )
