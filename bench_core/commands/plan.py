"""`bench plan`: the cells that `bench run` would run, the reasons, and the cost."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from bench_core.commands.options import planned, suite_options

if TYPE_CHECKING:
    from bench_core.execution.cost import Estimate
    from bench_core.execution.plan import Plan

Costs = dict[str, "Estimate | None"]


@click.command()
@suite_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(suite: str, as_json: bool, **options: Any) -> None:
    """Say what `bench run` would do, why, and at what cost.

    The cost is estimated from finished cells in the same results folder that are like those to run.
    """
    from bench_core.execution.cost import Past
    from bench_core.results.scan import scan

    made, _ = planned(suite, options)
    root = made.folder.parent
    known = scan([root]).runs if made.to_run and root.is_dir() else []
    past = Past([run.record for run in known])
    costs = {cell.identity: past.estimate(cell.cell, cell.device) for cell in made.to_run}
    click.echo(_as_json(made, costs) if as_json else _as_text(made, costs))


def _as_json(plan: Plan, costs: Costs) -> str:
    cells = []
    for cell in plan.cells:
        cost = costs.get(cell.identity)
        about = {"identity": cell.identity, "action": cell.action, "why": cell.why}
        content = cell.cell.model_dump(mode="json")
        cells.append(about | {"cell": content, "estimate": asdict(cost) if cost else None})
    known = [cost.seconds for cost in costs.values() if cost is not None]
    total = {"seconds": sum(known), "cells_estimated": len(known), "cells_to_run": len(costs)}
    document = {"suite": plan.suite.name, "folder": str(plan.folder)}
    return json.dumps(document | {"cells": cells, "estimate": total}, indent=1)


def _as_text(plan: Plan, costs: Costs) -> str:
    from bench_core.analysis.judge import label
    from bench_core.execution.cost import spoken

    methods = {cell.cell.method.model_dump_json(): cell.cell.method for cell in plan.cells}
    defaults = {cell.cell.method.name: cell.defaults for cell in plan.cells}
    labels = {key: label(method, methods.values(), defaults) for key, method in methods.items()}
    lines = []
    for cell in plan.cells:
        cost = costs.get(cell.identity)
        about = f", about {spoken(cost.seconds)}" if cost else ""
        name = f"{labels[cell.cell.method.model_dump_json()]} · seed {cell.cell.seed}"
        lines.append(f"{cell.action:5}  {cell.identity[:12]}  {name}  ({cell.why}{about})")
    lines.append(f"{plan.suite.name}: {plan.counts}")
    if costs:
        known = [cost.seconds for cost in costs.values() if cost is not None]
        total = f"about {spoken(sum(known))} of one worker" if known else "unknown"
        unlike = len(costs) - len(known)
        rest = f"; no finished cell here is like {unlike} of them" if unlike else ""
        lines.append(f"cost: {total}{rest}")
    return "\n".join(lines)
