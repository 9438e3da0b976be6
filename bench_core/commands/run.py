"""`bench run`: run a suite, then print its leaderboard and write its page."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from bench_core.commands.options import WORKERS, planned, repeatable, suite_options, warn
from bench_core.commands.report import write_page
from bench_core.commands.tables import print_leaderboards
from bench_core.errors import BenchError, Exit

if TYPE_CHECKING:
    from bench_core.execution.plan import Plan
    from bench_core.results.record import RunRecord


@click.command()
@suite_options
@click.option(
    "--workers",
    type=WORKERS,
    metavar="N",
    help="Run N cells at once.  [default: one per core or GPU slot]",
)
@click.option(
    "--per-gpu",
    type=click.IntRange(1, 64),
    default=1,
    metavar="N",
    help="Run N cells at once on each GPU.",
)
@click.option(
    "--executor",
    default="local",
    metavar="NAME",
    help="Run the cells with local, ray, slurm, or the executor of a plugin.",
)
@repeatable(
    "--executor-set",
    "settings",
    "KEY=VALUE",
    "Set an option of the executor, such as partition=gpu",
)
@click.option(
    "--report/--no-report",
    "wants_report",
    default=True,
    show_default=False,
    envvar="BENCH_REPORT",
    help="Write the page of the suite at the end, or not.",
)
def run(
    suite: str,
    workers: int | None,
    per_gpu: int,
    executor: str,
    settings: tuple[str, ...],
    wants_report: bool,
    **options: Any,
) -> None:
    """Run a suite: a YAML file, or the name of an installed one.

    Finished cells are reused, so the same command continues a sweep that was stopped.
    """
    from bench_core.commands.progress import choose
    from bench_core.execution.executors import Options
    from bench_core.execution.runner import executor_named, run_plan

    if wrong := [text for text in settings if "=" not in text]:
        raise click.UsageError(f"--executor-set {wrong[0]}: must be KEY=VALUE")
    how = Options(workers, per_gpu, settings=dict(text.split("=", 1) for text in settings))
    plan, registry = planned(suite, options)
    executor_named(executor, registry)  # an unknown name is an error before anything is written
    click.echo(f"{plan.suite.name}: {plan.counts} · {plan.folder}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, signal.default_int_handler)
    try:
        records = run_plan(plan, registry, executor, how, choose, lambda line: warn([line]))
    except KeyboardInterrupt:
        click.echo(
            "\ninterrupted: finished cells are kept; the same command runs the rest", err=True
        )
        sys.exit(Exit.INTERRUPTED)
    print_leaderboards((plan.folder,), "table")
    if wants_report:
        try:
            write_page((plan.folder,), plan.folder / "report.html", "report: ")
        except BenchError as error:  # the runs are finished all the same
            warn([f"no report: {error}"])
    sys.exit(_say_failures(plan, records))


def _say_failures(plan: Plan, records: list[RunRecord]) -> Exit:
    """Print the log of every run that is not done, and return the exit code."""
    from bench_core.results.status import STATUSES

    failed = [record for record in records if record.status != "done"]
    for record in failed:
        click.echo(f"{record.status}: {plan.folder / record.identity / 'log.txt'}", err=True)
    reused = {cell.identity for cell in plan.cells if cell.action == "reuse"}
    again = sum(STATUSES[run.status].failure and run.identity in reused for run in failed)
    if again:
        click.echo(
            f"{again} of them from an earlier sweep; --retry-failed runs them again", err=True
        )
    return Exit.SOME_FAILED if failed else Exit.DONE
