"""`bench plan`: the cells of a suite, what `bench run` would do with each, and the cost."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from bench_core.commands.options import option, terminal_width
from bench_core.commands.run import SUITE_OPTIONS, decorated, planned
from bench_core.commands.suggestions import SuiteCommand
from bench_core.errors import UsageError
from bench_core.report.text.layout import paragraph, tabulated
from bench_core.report.text.terminal import echo

if TYPE_CHECKING:
    from bench_core.execution.planning.plan import Plan, PlannedCell
    from bench_core.results.duration import Duration
    from bench_core.results.record import RunRecord
    from bench_core.results.scan import Stored

Costs = dict[str, "Duration | None"]


@click.command(cls=SuiteCommand)
@decorated(SUITE_OPTIONS)
@option("--json", "Print JSON.", "as_json")
def plan(suite: str, as_json: bool, **options: Any) -> None:
    """Say what `bench run` would do, why, and the cost.

    The cost is estimated from the finished cells most like those to run: of the same rule before
    other rules, and in the same results folder before the reference. Of equals the newest counts,
    of the reference the fastest.
    """
    from bench_core.results import suite_folder
    from bench_core.results.scan import scan

    sweep, _ = planned(suite, options)
    if what := suite_folder.obstacle(sweep.folder):
        raise UsageError(f"{sweep.folder}: `bench run` cannot write there: {what}")
    root = sweep.folder.parent
    costs = _costs(sweep, scan([root]).runs if sweep.to_run and root.is_dir() else [])
    echo(_as_json(sweep, costs) if as_json else _as_text(sweep, costs))


def _costs(plan: Plan, here: list[Stored]) -> Costs:
    """Estimate the cells to run from the runs most like them, here or of the reference."""
    from bench_core.results.duration import Past, nearest
    from bench_core.results.reference import installed

    pasts = [Past([run.record for run in here if not run.record.original])]
    own = [pasts[0].estimate(cell.cell, cell.device) for cell in plan.to_run]
    unlike = any(cost is None or cost.likeness > 1 for cost in own)
    if unlike and (shipped := installed()) is not None:
        pasts.append(Past([run.record for run in shipped.runs()[0]], foreign=True))
    return {
        cell.identity: nearest(pasts, cell.cell, cell.device, cell.begun) for cell in plan.to_run
    }


def _as_json(plan: Plan, costs: Costs) -> str:
    cells = []
    for cell in (*plan.cells, *plan.beside):
        cost = costs.get(cell.identity)
        about = {"identity": cell.identity, "action": cell.action, "why": cell.why}
        content = cell.cell.model_dump(mode="json")
        cells.append(about | {"cell": content, "estimate": asdict(cost) if cost else None})
    known = [cost.seconds for cost in costs.values() if cost is not None]
    total = {"seconds": sum(known), "cells_estimated": len(known), "cells_to_run": len(costs)}
    document = {"suite": plan.suite.name, "folder": str(plan.folder)}
    return json.dumps(document | {"cells": cells, "estimate": total}, indent=1)


def precision(plan: Plan) -> list[str]:
    """Say which differences the seeds of a plan will resolve among all rules that get a rank.

    Those are the rules of the plan, and those that have finished runs of its recipes in its folder.
    """
    from bench_core.analysis.verdicts.labels import method_key
    from bench_core.analysis.verdicts.ranks import resolved
    from bench_core.analysis.verdicts.recipes import recipe_of

    recipes = {recipe_of(cell.cell) for cell in plan.cells}
    records = [record for record in _finished(plan) if recipe_of(record.cell) in recipes]
    cells = [each.cell for each in (*plan.cells, *plan.beside)]
    cells += [record.cell for record in records]
    seeds: dict[str, set[int]] = defaultdict(set)
    for cell in cells:
        if not cell.method.frozen:
            seeds[method_key(cell.method)].add(cell.seed)
    planned = {cell.cell.seed for cell in plan.cells}
    if len(seeds) < 2:
        return []
    ranked = [len(own) for own in seeds.values() if len(own) > 1]
    if len(planned) < 2 or len(ranked) < 2:
        return ["precision: one seed separates no rules"]
    return [f"precision: {resolved(len(ranked), min(ranked), *_scatter(records))}"]


def _finished(plan: Plan) -> list[RunRecord]:
    """Return the finished runs in the folder of a plan, and those of the reference beside them."""
    from bench_core.results.scan import scan

    runs = scan([plan.folder], states=False).runs if plan.folder.is_dir() else []
    stored = {run.record.identity: run.record for run in runs}
    stored |= {cell.identity: cell.shipped.record for cell in plan.shipped if cell.shipped}
    return [record for record in stored.values() if record.status == "done"]


def _scatter(records: Sequence[RunRecord]) -> tuple[float, str]:
    """Return the typical deviation of a paired difference, and whose runs have it.

    That is of the recipe with the most of the finished runs; without two rules among them that of
    the published CIFAR-10 audit.
    """
    from bench_core.analysis.verdicts.leaderboard import judge_all
    from bench_core.analysis.verdicts.ranks import PUBLISHED

    known = [group for group in judge_all(records) if group.ranking.deviation]
    if not known:
        return PUBLISHED, "the published CIFAR-10 audit, and another task may differ"
    most = max(known, key=lambda group: len(group.records))
    return most.ranking.deviation, "the runs that are here"


def _as_text(plan: Plan, costs: Costs) -> str:
    """Write the totals, then the cells below the reason for which they are run or reused."""
    lines = [f"{plan.suite.name}: {plan.counts}", *precision(plan)]
    if costs:
        lines.append(f"cost: {_estimate_text(costs)}")
    return "\n\n".join([paragraph(lines, terminal_width()), *_reasons(plan, costs)])


def _reasons(plan: Plan, costs: Costs) -> Iterator[str]:
    """Yield a table for each reason: a line per rule, with its seeds and their identities."""
    from bench_core.execution.planning.cell_names import names_of
    from bench_core.results.duration import spoken

    every = sorted((*plan.cells, *plan.beside), key=lambda cell: cell.action != "run")
    reasons: dict[str, dict[str, list[PlannedCell]]] = defaultdict(lambda: defaultdict(list))
    for cell, name in zip(every, names_of(every, seeds=False), strict=True):
        reasons[f"{cell.action}: {cell.why}"][name].append(cell)
    for reason, rules in reasons.items():
        rows = []
        for name, cells in rules.items():
            seeds = ", ".join(f"{cell.cell.seed} ({cell.identity[:12]})" for cell in cells)
            known = [cost.seconds for cell in cells if (cost := costs.get(cell.identity))]
            rows.append([name, f"about {spoken(sum(known))}" if known else "", seeds])
        if not any(cost for _, cost, _ in rows):
            rows = [[name, seeds] for name, _, seeds in rows]
        heads = ["rule", "time", "seed (run)"] if len(rows[0]) > 2 else ["rule", "seed (run)"]
        narrow = [(len(heads) - 1, 20), (0, 20)]
        table = tabulated(rows, heads, width=terminal_width(), narrow=narrow)
        yield "\n".join([paragraph([reason], terminal_width()), *table.splitlines()])


SOURCES = {
    1: "the rule itself",
    2: "the rule with other options",
    3: "the rule on another network or data of the same size",
    4: "other rules",
}


def _estimate_text(costs: Costs) -> str:
    """Write the time of the cells to run, and from which runs it is estimated."""
    from bench_core.report.text.layout import joined
    from bench_core.report.text.numbers import plural
    from bench_core.results.duration import spoken

    unlike = sum(cost is None for cost in costs.values())
    unknown = f"unknown for {plural(unlike, 'cell')}: nothing comparable was run here"
    estimates = [cost for cost in costs.values() if cost is not None]
    if not estimates:
        return unknown
    like = Counter(cost.likeness for cost in estimates)
    several = len(like) > 1
    sources = [SOURCES[k] + f" ({plural(like[k], 'cell')})" * several for k in sorted(like)]
    foreign = sum(cost.foreign for cost in estimates)
    some = f"for {plural(foreign, 'cell')} " * (foreign < len(estimates))
    text = f"about {spoken(sum(cost.seconds for cost in estimates))} of one worker, estimated from"
    text += f" runs of {joined(sources)}"
    text += f", {some}the fastest on machines of the reference" * bool(foreign)
    text += "; a busy core takes longer" * bool(foreign)
    short = any(cost.short for cost in estimates)
    text += "; rather less, as these had few epochs, and work done once counts in each" * short
    return text + f"; {unknown}" * bool(unlike)
