"""The hooks of bench. This file is the plugin manual: each hook, its call and its parameters.

A plugin is an installed distribution with an entry point

    [project.entry-points."bench_core.plugins"]
    my-rule = "bench_my_rule"

whose module implements any of these hooks:

    from bench_core.api import Component, hookimpl

    @hookimpl
    def bench_methods():
        return [Component("my_rule", "bench_my_rule.rule:MyRule", "what it does in one line")]

Many `bench` commands import the module, so it must not import torch or do work. The targets are
imported only where a suite uses them. Installing a plugin is running its code: install only what
you trust.

The module may name the version of the interface that it was written for,
`BENCH_API = (major, minor)`, as in `bench_core.api.API_VERSION`. A bench with another major
version, or with an older minor version, refuses the plugin and names the upgrade.

An implementation may leave out parameters of its hook. It is a plain function: no `async def`, no
generator, no wrapper, no argument with a default. No hook runs inside a training step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from bench_core.execution.planning.plan import Plan
    from bench_core.results.record import Cell, RunRecord

API_VERSION = (1, 1)
hookimpl = pluggy.HookimplMarker("bench_core")
hookspec = pluggy.HookspecMarker("bench_core")


@dataclass(frozen=True)
class Component:
    """A component of a distribution: strings only, so that listing it imports none of its code.

    name     snake_case, unique in its kind and distribution; the full name is `distribution/name`
    target   "package.module:Class"
    summary  one line for `bench list`
    cite     the source of the definition (free text, DOI or arXiv number); default: the section
             `Source:` of the target's docstring, which is the component's card (`registry.card`)
    """

    name: str
    target: str
    summary: str = ""
    cite: str = ""


# Components: called once per command, each returns a list of components. The targets are
# subclasses of a class of `bench_core.api`.


@hookspec
def bench_methods() -> list[Component]:  # type: ignore[empty-body]
    """Return learning rules; their targets are subclasses of `Method` or `LocalMethod`."""


@hookspec
def bench_archs() -> list[Component]:  # type: ignore[empty-body]
    """Return architectures; their targets are subclasses of `Net`."""


@hookspec
def bench_datasets() -> list[Component]:  # type: ignore[empty-body]
    """Return data sets; their targets are subclasses of `Dataset`."""


@hookspec
def bench_diagnostics() -> list[Component]:  # type: ignore[empty-body]
    """Return diagnostics; their targets are subclasses of `Diagnostic`.

    A component with the name of a built-in diagnostic is refused.
    """


@hookspec
def bench_executors() -> list[Component]:  # type: ignore[empty-body]
    """Return executors; targets are callables as `bench_core.execution.executors` describes."""


# Observers: called in the process of `bench run`, never in a worker, by one thread in the order of
# the events; no cell waits for it. An observer that raises is a warning; the other observers are
# still called. Their parameters:
#
# plan      all cells of the suite; each says whether it runs or is reused, and why
# identity  the cell's digest, which names its run folder
# cell      method, architecture, data set, training and seed
# row       the line of the cell's epochs.jsonl: epoch, losses, accuracy, measurements
# record    the cell's run.json
# records   the record of each cell, as in its run.json; a run that was not kept has no run.json


@hookspec
def bench_suite_start(plan: Plan) -> None:
    """Observe the start of a suite, after planning and before the first cell."""


@hookspec
def bench_cell_start(identity: str, cell: Cell) -> None:
    """Observe the start of a cell's worker."""


@hookspec
def bench_epoch_end(identity: str, cell: Cell, row: dict[str, Any]) -> None:
    """Observe the end of an epoch, and the untrained network as epoch 0."""


@hookspec
def bench_cell_end(identity: str, record: RunRecord) -> None:
    """Observe the end of a cell, with any status."""


@hookspec
def bench_suite_end(plan: Plan, records: list[RunRecord]) -> None:
    """Observe the end of a suite."""
