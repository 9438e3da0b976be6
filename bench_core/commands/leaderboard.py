"""`bench leaderboard`: the methods of results folders, ranked."""

from __future__ import annotations

from pathlib import Path

import click

from bench_core.commands.options import (
    Choice,
    deliver,
    gathered,
    output_option,
    results_argument,
    terminal_width,
)


@click.command()
@results_argument
@click.option(
    "--format",
    "form",
    type=Choice("bench_core.report.tables:Format"),
    default="table",
    show_default=True,
    help="Write in this format.",
)
@output_option()
@click.option(
    "--by-passport", is_flag=True, help="List rules that use the same information together."
)
def leaderboard(
    results: tuple[Path, ...], form: str, output: Path | None, by_passport: bool
) -> None:
    """Rank the methods of results folders, with verdicts.

    RESULTS are results folders or suite folders  [default: results].
    """
    print_leaderboards(results, form, output, by_passport)


def print_leaderboards(
    roots: tuple[Path, ...], form: str, output: Path | None = None, by_passport: bool = False
) -> None:
    """Print, or write to a file, the leaderboards of all suites under the given folders."""
    from bench_core.analysis.distance import attach
    from bench_core.report.tables import leaderboards

    suites, _ = gathered(roots)
    for results in suites:
        if results.superseded:
            note = (
                f"{results.superseded} older runs of the same cells by other code are not counted"
            )
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
