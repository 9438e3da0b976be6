"""The command `bench`. Every command imports what it needs when it is called: `bench --help` loads click and little else.

Exit codes: 0 all cells done · 1 some cells failed · 2 usage · 3 our bug · 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from bench_core import __version__
from bench_core.commands.audit import audit
from bench_core.commands.claims import claims
from bench_core.commands.clean import clean
from bench_core.commands.compare import compare
from bench_core.commands.options import PATH, gathered, planned, suite_options, terminal_width
from bench_core.commands.plan import plan
from bench_core.commands.plugins import check, new, plugins
from bench_core.commands.report import figure, report, write_page
from bench_core.commands.runs import cite, export
from bench_core.commands.runs import show as show_run
from bench_core.commands.share import merge, replicate, verify
from bench_core.commands.site import site
from bench_core.commands.why import why
from bench_core.errors import BenchError, Exit
from bench_core.results.status import STATUSES

KINDS = ["methods", "archs", "datasets", "diagnostics", "executors", "suites"]
FORMATS = ["table", "markdown", "latex", "csv", "json"]


UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # the user's disk, not our bug


ORDER = ("run", "plan", "leaderboard", "report", "figure", "compare", "show", "why", "claims", "audit", "site", "export",
         "cite", "merge", "verify", "replicate", "clean", "list", "plugins", "check", "new", "schema")  # fmt: skip


class Grouped(click.Group):
    """Lists commands in the order in which a newcomer meets them; one without a place there comes last."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in ORDER if name in self.commands] + [
            name for name in self.commands if name not in ORDER
        ]


@click.group(
    cls=Grouped, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="bench")
def bench() -> None:
    """Audit learning rules that replace or approximate backpropagation.

    Start with: bench run quickstart
    """


@bench.command()
@suite_options
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Cells at once; default: one per core or GPU slot.",
)
@click.option(
    "--per-gpu",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Cells at once on one GPU.",
)
@click.option(
    "--executor",
    default="local",
    show_default=True,
    metavar="NAME",
    help="local, ray, slurm, or a plugin's.",
)
@click.option(
    "--executor-set",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the executor, such as partition=gpu.",
)
@click.option(
    "--report/--no-report",
    "wants_report",
    default=True,
    envvar="BENCH_REPORT",
    help="Write the suite's page at the end.",
)
def run(
    suite: str,
    workers: int | None,
    per_gpu: int,
    executor: str,
    executor_set: tuple[str, ...],
    wants_report: bool,
    **options: Any,
) -> None:
    """Run a suite: a YAML file, or the name of an installed one.

    Cells that are finished are reused, so the same command goes on where it was stopped.
    """
    from functools import partial

    from bench_core.commands import progress
    from bench_core.execution.executors import Options
    from bench_core.execution.runner import executor_named, run_plan

    if wrong := [text for text in executor_set if "=" not in text]:
        raise click.UsageError(f"--executor-set {wrong[0]}: must be KEY=VALUE")
    how = Options(workers, per_gpu, settings=dict(text.split("=", 1) for text in executor_set))
    plan, registry = planned(suite, options)
    executor_named(executor, registry)  # said before anything is written
    click.echo(f"{plan.suite.name}: {plan.counts} · {plan.folder}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, signal.default_int_handler)
    terminal = sys.stdout is not None and sys.stdout.isatty()
    try:
        records = run_plan(
            plan, registry, executor, how, partial(progress.choose, terminal=terminal),
            lambda line: click.echo(f"warning: {line}", err=True),
        )  # fmt: skip
    except KeyboardInterrupt:
        click.echo(
            "\ninterrupted: finished cells are kept; the same command goes on from there", err=True
        )
        sys.exit(Exit.INTERRUPTED)
    show([plan.folder], "table")
    if wants_report:
        try:
            write_page((plan.folder,), plan.folder / "report.html", "report: ")
        except BenchError as error:  # the runs are finished all the same
            click.echo(f"warning: no report: {error}", err=True)
    failed = [record for record in records if record.status != "done"]
    for record in failed:
        click.echo(f"{record.status}: {plan.folder / record.identity / 'log.txt'}", err=True)
    reused_cells = {cell.identity for cell in plan.cells if cell.action == "reuse"}
    if again := sum(
        STATUSES[record.status].failure and record.identity in reused_cells for record in failed
    ):
        click.echo(
            f"{again} of them from an earlier sweep; --retry-failed runs them again", err=True
        )
    sys.exit(Exit.SOME_FAILED if failed else Exit.DONE)


@bench.command()
@click.argument("results", nargs=-1, type=PATH)
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to a file instead.",
)
@click.option(
    "--by-passport",
    "passports",
    is_flag=True,
    help="Rules that use the same information stand together.",
)
def leaderboard(results: tuple[Path, ...], form: str, output: Path | None, passports: bool) -> None:
    """Rank the methods of results folders, with verdicts. Default: results."""
    show(list(results) or [Path("results")], form, output, passports)


def show(roots: list[Path], form: str, output: Path | None = None, passports: bool = False) -> None:
    """Print the leaderboards of all suites under the given folders."""
    from bench_core.analysis.distance import attach
    from bench_core.report.tables import leaderboards
    from bench_core.report.terminal import say
    from bench_core.results.files import replace_file

    suites, _ = gathered(tuple(roots))
    for found in suites:
        if found.superseded:
            note = f"{found.superseded} older runs of the same cells by other code are not counted"
            click.echo(f"note: {found.name}: {note}", err=True)
    if form == "json":
        suites = [attach(found) for found in suites]
    width = terminal_width() if form == "table" and output is None else None
    if not suites and form not in ("csv", "json"):
        body = "no runs yet: `bench run SUITE` makes some\n"
    elif form == "table":
        body = "\n\n".join(
            f"{found.name}: {leaderboards([found], width=width, passports=passports)}"
            for found in suites
        )
    else:
        body = leaderboards(suites, form, passports=passports)  # type: ignore[arg-type]
    if output is None:
        say(body) if form == "table" else click.echo(body, nl=False)
    else:
        replace_file(output, body)
        click.echo(output)


@bench.command("list")
@click.argument("kind", required=False, type=click.Choice(KINDS))
def list_(kind: str | None) -> None:
    """List installed components, each with its source, and suites."""
    from tabulate import tabulate

    from bench_core.registry import plugins
    from bench_core.registry.component import Component
    from bench_core.registry.registry import KINDS
    from bench_core.report.escape import visible
    from bench_core.suite.load import installed_suites, title_of

    registry = plugins.load()
    for trouble in registry.troubles:
        click.echo(f"warning: plugin {trouble}", err=True)

    def sourced(component: Component) -> str:
        return visible(component.summary + (f" ({component.cite})" if component.cite else ""))

    rows = [
        [item.kind, item.short_name, sourced(item.component), f"{item.distribution} {item.version}"]
        for each in KINDS
        for item in registry.of_kind(each)
        if kind in (None, f"{each}s")
    ]
    if kind in (None, "suites"):
        rows += [
            ["suite", name, visible(title_of(name)), "bench-core"] for name in installed_suites()
        ]
    heads = ["kind", "name", "what it is", "from"]
    others = (
        sum(max(len(heads[i]), *(len(row[i]) for row in rows)) + 2 for i in (0, 1, 3))
        if rows
        else 0
    )
    widths = [None, None, max(terminal_width() - others, 20), None]
    click.echo(tabulate(rows, headers=heads, disable_numparse=True, maxcolwidths=widths))


@bench.command()
def schema() -> None:
    """Print the JSON Schema of suite files, for editors."""
    import json

    from bench_core.suite.model import suite_schema

    click.echo(json.dumps(suite_schema(), indent=2))


REGISTERED: tuple[click.Command, ...] = (  # the commands of `bench_core.commands`
    audit,
    check,
    cite,
    claims,
    clean,
    compare,
    export,
    figure,
    merge,
    new,
    plan,
    plugins,
    replicate,
    report,
    show_run,
    site,
    verify,
    why,
)
for command in REGISTERED:
    bench.add_command(command)


def _open_standard_streams() -> None:
    """Where a standard stream is closed, the next file that is opened would take its place and receive what is printed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def main() -> None:
    """Entry point: errors for people are one line, ours are a traceback."""
    try:
        _open_standard_streams()
        bench.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(Exit.USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(Exit.INTERRUPTED)
    except BenchError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            click.echo(
                f"error: cannot write {error.filename or 'the output'}: {error.strerror}", err=True
            )
            os._exit(Exit.USAGE)  # without the flush that would fail again
        import traceback

        traceback.print_exc()
        click.echo("this is a bug of bench: please report it with the lines above", err=True)
        sys.exit(Exit.BUG)


if __name__ == "__main__":
    main()
