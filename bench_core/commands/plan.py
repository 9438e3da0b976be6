"""`bench plan`: what `bench run` would do, why, and what it would cost."""

from __future__ import annotations

from typing import Any

import click

from bench_core.commands.options import planned, suite_options


@click.command()
@suite_options
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def plan(suite: str, as_json: bool, **options: Any) -> None:
    """Say what `bench run` would do, why, and at what cost.

    The cost is read off finished cells of the same results folder that are like those to run.
    """
    import json
    from dataclasses import asdict

    from bench_core.analysis.judge import label
    from bench_core.execution.cost import Past, spoken
    from bench_core.results.scan import scan

    made, _ = planned(suite, options)
    root = made.folder.parent
    past = Past([run.record for run in scan([root]).runs] if made.to_run and root.is_dir() else [])
    costs = {cell.identity: past.estimate(cell.cell, cell.device) for cell in made.to_run}
    known = [cost.seconds for cost in costs.values() if cost is not None]
    if as_json:
        cells = []
        for cell in made.cells:
            cost = costs.get(cell.identity)
            told: dict[str, Any] = {
                "identity": cell.identity,
                "action": cell.action,
                "why": cell.why,
            }
            told |= {
                "cell": cell.cell.model_dump(mode="json"),
                "estimate": asdict(cost) if cost else None,
            }
            cells.append(told)
        whole = {"seconds": sum(known), "cells_estimated": len(known), "cells_to_run": len(costs)}
        click.echo(
            json.dumps(
                {
                    "suite": made.suite.name,
                    "folder": str(made.folder),
                    "cells": cells,
                    "estimate": whole,
                },
                indent=1,
            )
        )
        return
    methods = {cell.cell.method.model_dump_json(): cell.cell.method for cell in made.cells}
    defaults = {cell.cell.method.name: cell.defaults for cell in made.cells}
    names = {text: label(method, methods.values(), defaults) for text, method in methods.items()}
    for cell in made.cells:
        cost = costs.get(cell.identity)
        about = f", about {spoken(cost.seconds)}" if cost else ""
        name = names[cell.cell.method.model_dump_json()]
        click.echo(
            f"{cell.action:5}  {cell.identity[:12]}  {name} · seed {cell.cell.seed}  ({cell.why}{about})"
        )
    click.echo(f"{made.suite.name}: {made.counts}")
    if costs:
        unlike = (
            f"; {len(costs) - len(known)} of them are like none that ran here"
            if len(known) < len(costs)
            else ""
        )
        click.echo(
            f"cost: {f'about {spoken(sum(known))} of one worker' if known else 'unknown'}{unlike}"
        )
