"""`bench run`: the cells of a suite, run with a leaderboard and a page."""

from __future__ import annotations

import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click

from bench_core.commands.options import (
    WORKERS,
    data_dir_option,
    interruptible,
    option,
    spared,
    warn,
)
from bench_core.commands.report import write_page
from bench_core.commands.results import print_leaderboards
from bench_core.commands.suggestions import Seed, SuiteCommand
from bench_core.errors import Exit, UsageError
from bench_core.names import bare_name, distribution_of
from bench_core.report.text.escape import visible
from bench_core.report.text.terminal import echo

if TYPE_CHECKING:
    from bench_core.execution.executors import Options
    from bench_core.execution.planning.plan import Plan, PlannedCell
    from bench_core.registry.registry import Registry
    from bench_core.results.record import RunRecord
    from bench_core.suite.model import Suite

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
    from bench_core.execution.planning.plan import make_plan
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


PLACE_OPTIONS = (
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
)  # where cells run, and how many at once
EXECUTOR_OPTIONS = (
    *PLACE_OPTIONS,
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
        from bench_core.execution.runner import check_settings, executor_named

        if wrong := [text for text in self.settings if "=" not in text]:
            raise click.UsageError(f"--executor-set {wrong[0]}: must be KEY=VALUE")
        executor_named(self.executor, registry)
        check_settings(self.executor, self.options.settings)

    @property
    def options(self) -> Options:
        """The options of the executor."""
        from bench_core.execution.executors import Options

        settings = dict(text.split("=", 1) for text in self.settings)
        return Options(self.workers, self.per_gpu, settings=settings)

    def run(
        self, plan: Plan, registry: Registry, display: Callable[[Sequence[PlannedCell]], Any]
    ) -> list[RunRecord]:
        """Run a plan; return the records of its cells. An interrupt ends the command."""
        from bench_core.execution.runner import run_plan

        with spared("progress"):
            echo(f"{plan.suite.name}: {plan.counts} · {visible(str(plan.folder))}")
        with interruptible("finished cells are kept; the same command runs the rest"):
            return run_plan(
                plan, registry, self.executor, self.options, display, lambda line: warn([line])
            )


@click.command(cls=SuiteCommand)
@decorated(SUITE_OPTIONS + EXECUTOR_OPTIONS)
def run(suite: str, wants_report: bool, **options: Any) -> None:
    """Run a suite: a YAML file, or the name of an installed one.

    Finished cells are reused, so the same command continues a sweep that was stopped.
    """
    from bench_core.commands.progress import choose

    how = how_of(options)
    with interruptible("nothing had begun"):
        plan, registry = planned(suite, options)
    how.check(registry)
    show(plan, how.run(plan, registry, choose), wants_report)


def how_of(options: dict[str, Any]) -> How:
    """Take the options of the executor out of a command's options."""
    return How(**{field.name: options.pop(field.name) for field in fields(How)})


def show(plan: Plan, records: list[RunRecord], wants_report: bool, failed: bool = False) -> None:
    """Print the leaderboard and the failures, write the page, and end the command.

    failed  whether something failed beside these records
    """
    from bench_core.report.tables.formats import Wanted

    with spared("table"):
        planned = {cell.identity for cell in plan.cells}
        print_leaderboards((plan.folder,), "table", wanted=Wanted(planned=planned))
    with spared("report"):
        if wants_report:
            write_page((plan.folder,), plan.folder / "report.html", "report: ")
    lost = [record for record in records if record.status != "done"]
    with spared("list of failures"):
        _say_failures(plan, lost)
    warn(unmeasured(plan, records))
    if not lost:
        _say_package_step(plan)
    sys.exit(Exit.SOME_FAILED if lost or failed else Exit.DONE)


def unmeasured(plan: Plan, records: Sequence[RunRecord]) -> list[str]:
    """Name the diagnostics of the suite that another runner, which had other ones, left out."""
    to_run = {cell.identity for cell in plan.to_run}
    asked = {f"diagnostic {each['name']}" for each in plan.diagnostics}
    lacking = Counter(
        bare_name(name)
        for record in records
        if record.identity in to_run and record.status == "done"
        for name in asked - record.numerics.keys()
    )
    return [
        f"{count} of the runs of another runner did not measure {name}; "
        f"`bench audit {plan.folder} --diagnostic {name}` measures it"
        for name, count in sorted(lacking.items())
    ]


def _say_package_step(plan: Plan) -> None:
    """Say how the rules that were taken from a file become packages."""
    from bench_core.names import FILE
    from bench_core.registry.modules import place

    rules: dict[str, list[str]] = defaultdict(list)
    for name in sorted({cell.cell.method.name for cell in plan.cells}):
        rules[distribution_of(name)].append(bare_name(name))
    for file in (file for file in rules if file.endswith(FILE)):
        path = os.path.relpath(place(file.removesuffix(FILE)) or file)
        if len(rules[file]) == 1:
            package = f"`bench new method {rules[file][0]} --from {path}` makes its package"
            line = f"a rule from a file; `bench check {path}` tests it, {package}"
        else:
            package = "`bench new method NAME --from FILE` makes a package of a file with one rule"
            line = f"rules from a file; `bench check {path}` tests them; {package}"
        echo(f"{file}: {line}", err=True)


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
        which = "1 failed run is" if again == 1 else f"{again} failed runs are"
        remedy = "without a change of its code only --retry-failed runs it again"
        echo(f"{which} of an earlier sweep; {remedy}", err=True)
