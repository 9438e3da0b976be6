"""`bench run`, `bench plan`: the cells of a suite, run with a leaderboard and a page, or listed."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import click

from bench_core.commands.options import (
    WORKERS,
    data_dir_option,
    interruptible,
    option,
    spared,
    terminal_width,
    warn,
)
from bench_core.commands.report import write_page
from bench_core.commands.results import print_leaderboards
from bench_core.commands.suggestions import Seed, SuiteCommand
from bench_core.errors import Exit, UsageError
from bench_core.report.text.layout import paragraph, tabulated
from bench_core.report.text.terminal import echo

if TYPE_CHECKING:
    from bench_core.execution.plan import Plan, PlannedCell
    from bench_core.registry.registry import Registry
    from bench_core.results.duration import Duration
    from bench_core.results.record import RunRecord
    from bench_core.results.scan import Stored
    from bench_core.suite.model import Suite

Costs = dict[str, "Duration | None"]
SEEDS = option("--seed N", "Run only this seed; repeatable.", "seeds", multiple=True, type=Seed())
NO_REFERENCE = option(
    "--no-reference", "Train every cell here, also those that the shipped reference has."
)
SUITE_OPTIONS = (
    click.argument("suite"),
    option(
        "--set KEY=VALUE",
        "Set a key of the suite, such as training.epochs=5; repeatable. The last one "
        "wins, also over other options.",
        "overrides",
        multiple=True,
    ),
    option(
        "--method NAME",
        "Run only this method: NAME, NAME[option=value], or a file ./my_rule.py; repeatable.",
        "methods",
        multiple=True,
    ),
    option("--dataset NAME", "Use this data set."),
    option("--arch NAME", "Use this architecture."),
    SEEDS,
    option("--epochs N", "Train for N epochs."),
    option("--device NAME", "Train on cpu, cuda, cuda:1, …"),
    option("-o --results FOLDER", "Keep the run folders in this folder.", default="results"),
    data_dir_option,
    option("--strict-plugins", "Stop if any plugin is broken, used or not."),
    option("--retry-failed", "Run the cells again that failed."),
    NO_REFERENCE,
)


def decorated(decorators: Iterable[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Give a command these arguments and options, in this order."""

    def decorate(command: Any) -> Any:
        for decorator in reversed(tuple(decorators)):
            command = decorator(command)
        return command

    return decorate


def loaded(suite: str, options: dict[str, Any]) -> tuple[Suite, Registry]:
    """Load the suite, the plugins and the rule files."""
    from bench_core.registry import rule_files

    keys = ("overrides", "methods", "seeds", "dataset", "arch", "epochs", "device")
    given = {key: options[key] for key in keys if key in options}
    content, registry = rule_files.with_suite(suite, **given)
    if options["strict_plugins"] and registry.troubles:
        raise UsageError(f"--strict-plugins: {'; '.join(broken(registry))}")
    return content, registry


def broken(registry: Registry) -> list[str]:
    """Return a line for each broken plugin: a warning once it is known that no cell needs it."""
    return [f"plugin {trouble}" for trouble in registry.troubles]


def planned(suite: str, options: dict[str, Any]) -> tuple[Plan, Registry]:
    """Load the suite and the plugins, make the plan, and print its warnings."""
    from bench_core.execution.plan import make_plan
    from bench_core.results import reference

    content, registry = loaded(suite, options)
    shipped = None if options["no_reference"] else reference.installed()
    plan = make_plan(
        content,
        registry,
        options["results"],
        options["data_dir"],
        options["retry_failed"],
        shipped,
    )
    warn([*broken(registry), *plan.troubles])
    for line in plan.lacking:
        echo(f"note: {line}", err=True)
    return plan, registry


EXECUTOR_OPTIONS = (
    option(
        "--workers N", "Run N cells at once.  [default: one per core or GPU slot]", type=WORKERS
    ),
    option(
        "--per-gpu N", "Run N cells at once on each GPU.", type=click.IntRange(1, 64), default=1
    ),
    option(
        "--executor NAME",
        "Run the cells with local, ray, slurm, or the executor of a plugin.",
        default="local",
    ),
    option(
        "--executor-set KEY=VALUE",
        "Set an option of the executor, such as partition=gpu; repeatable.",
        "settings",
        multiple=True,
    ),
    option(
        "--report/--no-report",
        "Write the page of the suite at the end, or not.",
        "wants_report",
        default=True,
        show_default=False,
        envvar="BENCH_REPORT",
    ),
)


@dataclass(frozen=True)
class How:
    """The user's wishes about the way in which plans are run."""

    workers: int | None
    per_gpu: int
    executor: str
    settings: tuple[str, ...]

    def check(self, registry: Registry) -> None:
        """Raise an error for a wrong setting or an unknown executor, before anything is written."""
        from bench_core.execution.runner import executor_named

        if wrong := [text for text in self.settings if "=" not in text]:
            raise click.UsageError(f"--executor-set {wrong[0]}: must be KEY=VALUE")
        executor_named(self.executor, registry)

    def run(
        self, plan: Plan, registry: Registry, display: Callable[[Sequence[PlannedCell]], Any]
    ) -> list[RunRecord]:
        """Run a plan; return the records of its cells. An interrupt ends the command."""
        from bench_core.execution.executors import Options
        from bench_core.execution.runner import run_plan

        settings = dict(text.split("=", 1) for text in self.settings)
        options = Options(self.workers, self.per_gpu, settings=settings)
        with spared("progress"):
            echo(f"{plan.suite.name}: {plan.counts} · {plan.folder}")
        with interruptible("finished cells are kept; the same command runs the rest"):
            return run_plan(
                plan, registry, self.executor, options, display, lambda line: warn([line])
            )


@click.command(cls=SuiteCommand)
@decorated(SUITE_OPTIONS + EXECUTOR_OPTIONS)
def run(suite: str, wants_report: bool, **options: Any) -> None:
    """Run a suite: a YAML file, or the name of an installed one.

    Finished cells are reused, so the same command continues a sweep that was stopped.
    """
    from bench_core.commands.progress import choose

    how = how_of(options)
    plan, registry = planned(suite, options)
    how.check(registry)
    show(plan, how.run(plan, registry, choose), wants_report)


def how_of(options: dict[str, Any]) -> How:
    """Take the options of the executor out of a command's options."""
    return How(**{field.name: options.pop(field.name) for field in fields(How)})


def show(plan: Plan, records: list[RunRecord], wants_report: bool) -> None:
    """Print the leaderboard and the failures, write the page, and end the command."""
    from bench_core.report.tables.formats import Wanted

    with spared("table"):
        planned = {cell.identity for cell in plan.cells}
        print_leaderboards((plan.folder,), "table", wanted=Wanted(planned=planned))
    with spared("report"):
        if wants_report:
            write_page((plan.folder,), plan.folder / "report.html", "report: ")
    failed = [record for record in records if record.status != "done"]
    with spared("list of failures"):
        _say_failures(plan, failed)
    if not failed:
        _say_package_step(plan)
    sys.exit(Exit.SOME_FAILED if failed else Exit.DONE)


def _say_package_step(plan: Plan) -> None:
    """Say how a rule that was taken from a file becomes a package."""
    from bench_core.registry.distributions import FILE
    from bench_core.registry.modules import place

    names = {cell.cell.method.name for cell in plan.cells}
    for file, _, rule in sorted(name.partition("/") for name in names):
        if file.endswith(FILE):
            path = os.path.relpath(place(file.removesuffix(FILE)) or file)
            package = f"`bench new method {rule} --from {path}` makes its package"
            echo(f"{file}: a rule from a file; `bench check {path}` tests it, {package}", err=True)


def _say_failures(plan: Plan, failed: list[RunRecord]) -> None:
    """Print the log of every run that is not done; not an empty log, nor that of a run not kept."""
    from bench_core.results.logs import LOG
    from bench_core.results.status import STATUSES

    for record in failed:
        log = plan.folder / record.identity / LOG
        if LOG in record.files and log.is_file() and log.stat().st_size:
            echo(f"{record.status}: {log}", err=True)
    reused = {cell.identity for cell in plan.cells if cell.action == "reuse"}
    again = sum(STATUSES[run.status].failure and run.identity in reused for run in failed)
    if again:
        echo(f"{again} of them from an earlier sweep; --retry-failed runs them again", err=True)


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
    return {cell.identity: nearest(pasts, cell.cell, cell.device) for cell in plan.to_run}


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


def _resolution(plan: Plan) -> list[str]:
    """Say which differences the seeds of a plan will resolve among all rules that get a rank.

    Those are the rules of the plan, and those that have finished runs of its recipes in its folder.
    """
    from bench_core.analysis.verdicts.judge import method_key, option
    from bench_core.analysis.verdicts.ranks import resolved
    from bench_core.analysis.verdicts.recipes import recipe_of

    recipes = {recipe_of(cell.cell) for cell in plan.cells}
    records = [record for record in _finished(plan) if recipe_of(record.cell) in recipes]
    cells = [each.cell for each in (*plan.cells, *plan.beside)]
    cells += [record.cell for record in records]
    seeds: dict[str, set[int]] = defaultdict(set)
    for cell in cells:
        if option(cell.method, "freeze") != "blocks":
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
    lines = [f"{plan.suite.name}: {plan.counts}", *_resolution(plan)]
    if costs:
        lines.append(f"cost: {_estimate_text(costs)}")
    return "\n\n".join([paragraph(lines, terminal_width()), *_reasons(plan, costs)])


def _reasons(plan: Plan, costs: Costs) -> Iterator[str]:
    """Yield a table for each reason: a line per rule, with its seeds and their identities."""
    from bench_core.execution.plan import names_of
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
    return text + f"; {unknown}" * bool(unlike)
