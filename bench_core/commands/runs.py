"""`bench show`, `bench why`, `bench export`, `bench cite`: one run, all runs, their sources."""

from __future__ import annotations

from pathlib import Path

import click

from bench_core.commands.options import (
    Choice,
    Paths,
    format_option,
    gathered,
    option,
    results_argument,
    terminal_width,
)
from bench_core.errors import UsageError


@click.command()
@click.argument("run")
@results_argument
@option("--suite", "Print the suite file that makes this run again.", "as_suite")
def show(run: str, results: Paths, as_suite: bool) -> None:
    """Show one run.

    That is its measurements, its verdict and the reasons, and where its numbers come from. RUN is
    its folder, or the first letters of its identity in RESULTS  [default: results].
    """
    from bench_core.analysis.distance import attach
    from bench_core.report.provenance import suite_of
    from bench_core.report.single import text
    from bench_core.report.terminal import say
    from bench_core.report.view import view

    remedy = "give the folder of a run, or the first letters of its identity"
    if not run:
        raise UsageError(f"RUN is empty: {remedy}")
    folder = Path(run)
    roots, identity = results, run
    if folder.is_dir():
        if not (folder / "run.json").exists() and any(folder.glob("*/run.json")):
            raise UsageError(f"{run}: is the folder of a suite; {remedy}")
        roots, identity = results or (folder.parent,), folder.resolve().name
    matches = [
        (suite, row, item)
        for suite in map(view, map(attach, gathered(roots)[0]))
        for _, row, item in suite.runs
        if item.record.identity.startswith(identity)
    ]
    if not matches:
        raise UsageError(
            f"{run}: no such run that counts; `bench report` and `bench export` list the identities"
        )
    identities = {item.record.identity for _, _, item in matches}
    if len(identities) > 1:
        names = sorted({identity[:12] for identity in identities})
        raise UsageError(f"{run}: several runs begin like this: {', '.join(names[:6])}")
    suite, row, item = matches[0]
    if as_suite:
        click.echo(suite_of(item.record), nl=False)
    else:
        say(text(suite, row, item, suite.results.run_folder(item.record), terminal_width()))


@click.command()
@click.argument("run")
@option("--results PATH", "Where to look for the run and its neighbours [results].", multiple=True)
def why(run: str, results: Paths) -> None:
    """Say why a run was run or reused, and how its nearest neighbour differs.

    RUN is an identity, its first letters, or a folder.
    """
    from bench_core.analysis.why import explain, find_run
    from bench_core.report.escape import visible
    from bench_core.results.scan import scan

    folder = Path(run)
    home = folder.absolute().parent if run and folder.is_dir() else Path("results")
    roots = list(results) or [home]
    for line in explain(find_run(run, roots), scan(roots).runs):
        click.echo(visible(line))


@click.command()
@results_argument
@format_option(click.Choice(["csv", "parquet"]), "csv")
@option(
    "--table",
    "Write a row per run, or a row per epoch of a run.",
    type=Choice("bench_core.report.export:TABLES"),
    default="runs",
)
@option(
    "-o --output PATH", "Write to this file.  [default: print CSV, write Parquet to TABLE.parquet]"
)
def export(results: Paths, form: str, table: str, output: Path | None) -> None:
    """Write all runs, or all epochs of all runs, as one flat table.

    RESULTS are results folders or suite folders  [default: results].
    """
    from bench_core.report.export import TABLES, as_csv, write_parquet
    from bench_core.report.view import view
    from bench_core.results.files import replace_file

    suites, _ = gathered(results)
    lines = list(TABLES[table]([view(found) for found in suites]))
    if not lines:
        click.echo("no runs yet", err=True)
        return
    if form == "parquet":
        output = output or Path(f"{table}.parquet")
        write_parquet(lines, output)
    elif output is not None:
        replace_file(output, as_csv(lines))
    click.echo(output if output is not None else as_csv(lines), nl=output is not None)


@click.command()
@results_argument
def cite(results: Paths) -> None:
    """Print BibTeX of what results used.

    That is the protocol, the rules, the data and the software. RESULTS are results folders or suite
    folders  [default: results].
    """
    from bench_core.registry import plugins
    from bench_core.report.cite import bibtex

    suites, _ = gathered(results)
    known: dict[tuple[str, str], tuple[str, str]] = {
        (item.kind, item.full_name): (item.component.summary, item.component.cite)
        for item in plugins.load().components
    }
    click.echo(bibtex([record for found in suites for record in found.records], known), nl=False)
