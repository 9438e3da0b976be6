"""Name cells, and their rules, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench_core.names import with_options
from bench_core.results.hashing import plain_text
from bench_core.results.record import ComponentRef
from bench_core.suite.cells import CORE_DEFAULTS

if TYPE_CHECKING:
    from bench_core.execution.planning.plan import PlannedCell


def rule_name(method: ComponentRef, defaults: Mapping[str, Any]) -> str:
    """Write a rule with the options that are not its defaults: `dfa[penalty=0.01]`."""
    order = [key for key in CORE_DEFAULTS if key in method.params]
    order += sorted(method.params.keys() - CORE_DEFAULTS.keys())
    own = {key: method.params[key] for key in order if method.params[key] != defaults.get(key)}
    return with_options(method.short, {key: plain_text(value) for key, value in own.items()})


def names_of(cells: Sequence[PlannedCell], seeds: bool = True) -> list[str]:
    """Name cells for people: `dfa[penalty=0.01] · seed 42 · arch.depth=8`.

    Settings are shown in which the cells differ, and options of a rule that are not its defaults,
    in the order of tables: those of every rule, then its own by name.

    seeds  False leaves the seeds out: the cells that differ in nothing else have one name
    """
    systems = [
        {"arch": c.cell.arch.short, "dataset": c.cell.dataset.short}
        | {f"arch.{key}": value for key, value in c.cell.arch.params.items()}
        | {f"dataset.{key}": value for key, value in c.cell.dataset.params.items()}
        | {f"data.{key}": value for key, value in c.cell.data.items()}
        | {f"training.{key}": value for key, value in c.cell.training.items()}
        for c in cells
    ]
    first = systems[0] if systems else {}
    differing = {key for system in systems for key in system if system[key] != first.get(key)}
    names = []
    for cell, system in zip(cells, systems, strict=True):
        rule = rule_name(cell.cell.method, cell.defaults)
        others = [f"{key}={plain_text(system[key])}" for key in sorted(differing & system.keys())]
        names.append(" · ".join([rule, *[f"seed {cell.cell.seed}"] * seeds, *others]))
    return names
