"""`bench leaderboard`, `bench compare`, `bench claims`: methods ranked, paired, and held against
published figures."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

from bench_core.commands.options import (
    Choice,
    Paths,
    deliver,
    format_option,
    gathered,
    option,
    results_argument,
    terminal_width,
    warn,
)
from bench_core.errors import Exit, UsageError


@click.command()
@results_argument
@format_option(Choice("bench_core.report.tables:Format"))
@option("-o --output PATH", "Write to this file.")
@option("--by-passport", "List rules that use the same information together.")
def leaderboard(results: Paths, form: str, output: Path | None, by_passport: bool) -> None:
    """Rank the methods of results folders, with verdicts.

    RESULTS are results folders or suite folders  [default: results].
    """
    print_leaderboards(results, form, output, by_passport)


def print_leaderboards(
    roots: Paths, form: str, output: Path | None = None, by_passport: bool = False
) -> None:
    """Print, or write to a file, the leaderboards of all suites under the given folders."""
    from bench_core.analysis.distance import attach
    from bench_core.report.tables import leaderboards

    suites, _ = gathered(roots)
    for results in suites:
        if count := results.superseded:
            note = f"{count} older runs of the same cells by other code are not counted"
            click.echo(f"note: {results.name}: {note}", err=True)
    if form == "json":
        suites = [attach(results) for results in suites]
    if not suites and form not in ("csv", "json"):
        text = "no runs yet: `bench run SUITE` makes some\n"
    elif form == "table":
        width = terminal_width() if output is None else None
        text = "\n\n".join(
            f"{item.name}: {leaderboards([item], width=width, passports=by_passport)}"
            for item in suites
        )
    else:
        text = leaderboards(suites, form, passports=by_passport)  # type: ignore[arg-type]
    deliver(text, output, coloured=form == "table")


@click.command()
@click.argument("a")
@click.argument("b")
@results_argument
@format_option(click.Choice(["table", "json"]))
def compare(a: str, b: str, results: Paths, form: str) -> None:
    """Compare two methods or two results folders, paired by seed.

    A and B are methods of RESULTS  [default: results], or two results folders.

    \b
    bench compare dfa fa results/audit6
    bench compare results/audit5 others/audit5
    """
    from bench_core.report import comparison

    if not results and Path(a).is_dir() and Path(b).is_dir():
        pairs, alone = comparison.sets(*(gathered((Path(side),))[0] for side in (a, b)))
        if not pairs and not alone:
            raise UsageError(f"{a} and {b}: no runs to compare")
    else:
        pairs, alone = comparison.methods(gathered(results)[0], a, b), []
    if form == "json":
        text = comparison.as_json(pairs, alone)
    else:
        text = comparison.as_table(pairs, alone, terminal_width())
    click.echo(text, nl=False)


@click.command()
@results_argument
@format_option(Choice("bench_core.report.claimed:Format"))
@option("--suite NAME", "Take the claims of this suite, not those kept with the results.")
@option("-o --output PATH", "Write to this file.")
@option("--strict", "Exit with 1 if a claim fails or was not run.")
def claims(results: Paths, form: str, suite: str | None, output: Path | None, strict: bool) -> None:
    """Hold results against published figures.

    Suites state these as claims under `expect:`. A claim for another recipe than the one of the
    runs counts as not run. RESULTS are results folders or suite folders  [default: results].
    """
    from bench_core.analysis.gather import claims_of
    from bench_core.report.claimed import claims_text
    from bench_core.suite.load import load_suite

    stated = None if suite is None else load_suite(suite)
    judged = []
    for item in gathered(results)[0]:
        if stated is not None:
            item = replace(item, expect=tuple(stated.expect), claimed_for=stated.recipe())
        outcomes, troubles = claims_of(item)
        warn(troubles)
        judged.append((item.name, outcomes))
    width = terminal_width() if form == "table" and output is None else None
    text = claims_text(judged, form, width)  # type: ignore[arg-type]
    deliver(text, output, coloured=form == "table")
    if strict and any(outcome.status != "holds" for _, own in judged for outcome in own):
        sys.exit(Exit.SOME_FAILED)
