"""Print results: `bench leaderboard`, `compare`, `cost`, `claims`, `export`, `cite`."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from bench_core.commands.options import (
    NOTHING,
    Choice,
    Paths,
    deliver,
    form_of,
    format_option,
    gathered,
    option,
    results_argument,
    shown_folder,
    terminal_width,
    warn,
)
from bench_core.errors import Exit, UsageError
from bench_core.report.text.terminal import echo

if TYPE_CHECKING:
    from bench_core.report.tables.formats import Wanted


@click.command()
@results_argument
@format_option(Choice("bench_core.report.tables.formats:Format"))
@option("-o --output FILE", "Write to this file.")
@option("--by-passport", "List rules that use the same information together.")
@option("--floors", "Show the floors, each below its rule.")
@option(
    "--column NAME",
    "Show a further column: a diagnostic, growth, memory, …; `all`: every one.",
    "columns",
    multiple=True,
)
def leaderboard(
    results: Paths,
    form: str | None,
    output: Path | None,
    by_passport: bool,
    floors: bool,
    columns: tuple[str, ...],
) -> None:
    """Print verdicts, and the figures behind them.

    RESULTS are results folders or suite folders  [default: results].
    """
    from bench_core.report.tables.formats import Format, Wanted

    wanted = Wanted(None, by_passport, floors, columns)
    form = form_of(form, output, get_args(Format), "table")
    print_leaderboards(results, form, output, wanted)


def print_leaderboards(
    roots: Paths, form: str, output: Path | None = None, wanted: Wanted | None = None
) -> None:
    """Print, or write to a file, the leaderboards of all suites under the given folders."""
    from bench_core.analysis.distance import NAME, attach
    from bench_core.report.tables.columns import ALL
    from bench_core.report.tables.formats import Wanted, leaderboards, texts
    from bench_core.report.text.escape import visible
    from bench_core.report.text.numbers import plural

    suites, _ = gathered(roots)
    for results in suites:
        if count := results.replaced:
            note = f"{plural(count, 'older run')} not counted: other code has run the cells since"
            echo(f"note: {results.name}: {note}", err=True)
    wanted = wanted or Wanted(None)
    if form in ("json", "csv") or not {NAME, ALL}.isdisjoint(wanted.columns):
        suites = [attach(results) for results in suites]
    if not suites and form not in ("csv", "json"):
        text = "no finished runs: `bench run SUITE` makes some, `bench status` shows those begun\n"
        text = "% " * (form == "latex") + text
    elif form == "table":
        width = terminal_width() if output is None else None
        wanted = replace(wanted, width=width)
        same = Counter(item.name for item in suites)
        heads = [
            f"{item.name} ({visible(str(item.folder))})" if same[item.name] > 1 else item.name
            for item in suites
        ]
        tables = [
            table if not item.settings.title and table.startswith(head) else f"{head}: {table}"
            for item, head, table in zip(suites, heads, texts(suites, "table", wanted), strict=True)
        ]
        text = "\n\n".join(tables)
    else:
        text = leaderboards(suites, form, wanted)  # type: ignore[arg-type]
    deliver(text, output, coloured=form == "table")


@click.command()
@click.argument("a")
@click.argument("b")
@results_argument
@format_option(Choice("bench_core.report.comparison:Format"))
@option("-o --output FILE", "Write to this file.")
def compare(a: str, b: str, results: Paths, form: str | None, output: Path | None) -> None:
    """Compare two methods or two results folders, paired by seed.

    A and B are methods of RESULTS  [default: results], or two results folders; the name of a suite
    stands for its results here, else for the reference.

    \b
    bench compare dfa bp audit6
    bench compare audit5 others/audit5
    """
    from bench_core.report import comparison

    form = form_of(form, output, get_args(comparison.Format), "table")
    if not results and all(shown_folder(Path(side)).is_dir() for side in (a, b)):
        sides = [gathered((Path(side),))[0] for side in (a, b)]
        warn(comparison.unlike(*sides))
        pairs, alone = comparison.sets(*sides)
        if not pairs and not alone:
            raise UsageError(f"{a} and {b}: no runs to compare")
    else:
        if not results and shown_folder(Path(b)).is_dir():
            two = f"name a second method, as in `bench compare {a} bp {b}`, or a second folder"
            raise UsageError(f"{b} is a suite or a results folder: {two}")
        try:
            pairs, alone = comparison.methods(gathered(results)[0], a, b), []
        except UsageError:
            if results or not shown_folder(Path(a)).is_dir():
                raise
            raise UsageError(f"{b}: no such results folder to compare with {a}") from None
    if form == "json":
        text = comparison.as_json(pairs, alone)
    else:
        width = terminal_width() if form == "table" and output is None else None
        text = comparison.as_text(pairs, alone, form, width)  # type: ignore[arg-type]
    deliver(text, output, coloured=False)


@click.command()
@results_argument
@format_option(Choice("bench_core.report.costs:Format"))
@option("--target ACCURACY", "Accuracy to reach, 0 … 1.  [default: 0.9 of bp's]", type=float)
@option("-o --output FILE", "Write to this file.")
def cost(results: Paths, form: str | None, target: float | None, output: Path | None) -> None:
    """Compare operations, memory and time of methods.

    The time is that of a run, and that to a target accuracy.

    RESULTS are results folders or suite folders  [default: results].
    """
    from bench_core.report.costs import Format, costs_text

    form = form_of(form, output, get_args(Format), "table")
    suites, _ = gathered(results)
    width = terminal_width() if form == "table" and output is None else None
    text = costs_text(suites, form, target, width)  # type: ignore[arg-type]
    deliver(text, output, coloured=False)


def _rule_of(file: Path, wanted: str | None) -> list[str]:
    """Name the rule of a file without its code, which claims do not need."""
    return [f"{file.name}/{wanted or file.stem}"]


@click.command()
@results_argument
@format_option(Choice("bench_core.report.claims_table:Format"))
@option("--suite NAME", "Take the claims of this suite, not those kept with the results.")
@option(
    "--all",
    "Hold the claims of all installed suites against the reference; writes Markdown.",
    "every",
)
@option("-o --output FILE", "Write to this file.")
@option("--strict", "Exit with 1 if a claim fails or was not run.")
def claims(
    results: Paths,
    form: str | None,
    suite: str | None,
    every: bool,
    output: Path | None,
    strict: bool,
) -> None:
    """Hold results against published figures.

    Suites state these as claims under `expect:`. A claim for another recipe than the one of the
    runs counts as not run. RESULTS are results folders or suite folders  [default: results].
    """
    from bench_core.analysis.claims.board import of_reference, without_runs
    from bench_core.analysis.claims.outcomes import claims_of
    from bench_core.analysis.verdicts.kinds import HOLDS
    from bench_core.report.all_claims import all_claims
    from bench_core.report.claims_table import Format, claims_text
    from bench_core.suite.load import load_suite

    form = form_of(form, output, get_args(Format), "table")
    if every:
        if results or suite or strict or form not in ("table", "markdown"):
            taken = "it takes -o FILE.md alone"
            raise UsageError(f"--all: reads the reference, and writes Markdown; {taken}")
        text, troubles = all_claims()
        warn(troubles)
        deliver(text, output, coloured=False)
        return
    stated = None if suite is None else load_suite(suite, rules_of=_rule_of)
    shared = [] if suite else without_runs(map(str, results))
    own = tuple(path for path in results if str(path) not in {item.name for item in shared})
    judged = []
    for item in [*(gathered(own)[0] if own or not shared else []), *shared]:
        if stated is None:
            item = of_reference(item)
        else:
            item = replace(item, expect=tuple(stated.expect), claimed_for=stated.recipe())
        outcomes, troubles = claims_of(item)
        warn(troubles)
        judged.append((item.name, outcomes))
    width = terminal_width() if form == "table" and output is None else None
    text = claims_text(judged, form, width)  # type: ignore[arg-type]
    deliver(text, output, coloured=form == "table")
    if strict and any(outcome.status != HOLDS for _, own in judged for outcome in own):
        sys.exit(Exit.SOME_FAILED)


@click.command()
@results_argument
@format_option(Choice("bench_core.report.export:FORMATS"), "csv")
@option(
    "--table",
    "Write a row per run, per epoch of a run, or per measurement of a run.",
    type=Choice("bench_core.report.export:TABLES"),
    default="runs",
)
@option(
    "-o --output FILE", "Write to this file.  [default: print CSV, write Parquet to TABLE.parquet]"
)
def export(results: Paths, form: str | None, table: str, output: Path | None) -> None:
    """Write runs, epochs or measurements as a table.

    The runs are those that count. RESULTS are results folders or suite folders
    [default: results].
    """
    from bench_core.report.export import FORMATS, TABLES
    from bench_core.report.view import view
    from bench_core.results.files import replace_file

    form = form_of(form, output, FORMATS, "csv")
    suites, _ = gathered(results)
    lines = list(TABLES[table]([view(suite) for suite in suites]))
    if not lines:
        raise UsageError(NOTHING)
    content = FORMATS[form](lines)
    if output is None and isinstance(content, str):
        echo(content, nl=False)
        return
    output = output or Path(f"{table}.{form}")
    replace_file(output, content, output=True)
    echo(output)


@click.command()
@results_argument
def cite(results: Paths) -> None:
    """Print BibTeX of what results used.

    That is the protocol, the rules, the data and the software. RESULTS are results folders or suite
    folders  [default: results].
    """
    from bench_core.registry import plugins, rule_files
    from bench_core.registry.card import Card, card
    from bench_core.report.words.cite import bibtex

    suites, _ = gathered(results)
    records = [record for suite in suites for record in suite.records]
    registry = plugins.load()
    rule_files.add(registry, {record.cell.method.name for record in records})
    cards: dict[tuple[str, str], Card] = {
        (item.kind, item.full_name): card(item.component) for item in registry.components
    }
    echo(bibtex(records, cards), nl=False)
