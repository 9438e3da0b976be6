"""The hooks of bench. This file is the plugin manual: every hook, when it is called, and what it gets.

A plugin is an installed distribution with an entry point

    [project.entry-points."bench_core.plugins"]
    my-rule = "bench_my_rule"

whose module implements any of these hooks:

    from bench_core.api import Component, hookimpl

    @hookimpl
    def bench_methods():
        return [Component("my_rule", "bench_my_rule.rule:MyRule", "what it does in one line")]

The module is imported by every `bench` command that needs to know what is installed: keep it free of torch and of work; the
targets are imported only where a suite uses them. Installing a plugin is running its code: install only what you trust.
The module may say which interface it was made for, `BENCH_API = (major, minor)` as in `bench_core.api.API_VERSION`: a bench of
another major version, or of an older minor one, refuses it and says what to upgrade.
There is no hook inside the training step; a method has that to itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

from bench_core.registry.component import Component

if TYPE_CHECKING:
    from bench_core.execution.plan import Plan
    from bench_core.results.record import Cell, RunRecord

hookspec = pluggy.HookspecMarker("bench_core")


# ----------------------------------------------------------------------------------------- components: asked for once


@hookspec
def bench_methods() -> list[Component]:  # type: ignore[empty-body]
    """Learning rules: targets are subclasses of `bench_core.api.Method` or `LocalMethod`."""


@hookspec
def bench_archs() -> list[Component]:  # type: ignore[empty-body]
    """Architectures: targets are subclasses of `bench_core.api.Net`."""


@hookspec
def bench_datasets() -> list[Component]:  # type: ignore[empty-body]
    """Data sets: targets are subclasses of `bench_core.api.Dataset`."""


@hookspec
def bench_diagnostics() -> list[Component]:  # type: ignore[empty-body]
    """Diagnostics: targets are subclasses of `bench_core.api.Diagnostic`."""


@hookspec
def bench_executors() -> list[Component]:  # type: ignore[empty-body]
    """Executors: targets are callables as `bench_core.execution.executors` describes them."""


# ------------------------------------------------- observers: called in the process of `bench run`, never in a worker


@hookspec
def bench_suite_start(plan: Plan) -> None:
    """A suite is about to run. `plan` says which cells run and which are reused."""


@hookspec
def bench_cell_start(identity: str, cell: Cell) -> None:
    """A worker was started for a cell."""


@hookspec
def bench_epoch_end(identity: str, cell: Cell, row: dict[str, Any]) -> None:
    """A cell finished an epoch; `row` is the line of its epochs.jsonl (epoch 0: the untrained network)."""


@hookspec
def bench_cell_end(identity: str, record: RunRecord) -> None:
    """A cell ended, in whatever status; `record` is its run.json."""


@hookspec
def bench_suite_end(plan: Plan, records: list[RunRecord]) -> None:
    """The suite ended; `records` are those of its cells that have a run folder."""
