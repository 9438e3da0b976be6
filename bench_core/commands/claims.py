"""`bench claims`: published figures held against results."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

from bench_core.commands.options import PATH, gathered, results_argument, terminal_width
from bench_core.errors import Exit


@click.command()
@results_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "json"]),
    default="table",
    show_default=True,
)
@click.option(
    "--suite",
    metavar="NAME",
    help="The claims of this suite, instead of those kept with the results.",
)
@click.option("-o", "--output", type=PATH, help="Write to a file instead.")
@click.option("--strict", is_flag=True, help="Exit 1 where a claim fails or was not run.")
def claims(
    results: tuple[Path, ...], form: str, suite: str | None, output: Path | None, strict: bool
) -> None:
    """Hold results against published figures. Suites state these under `expect:`.

    A claim made for another recipe than the one that was run is not run, and says so.
    """
    from bench_core.analysis.gather import claims_of
    from bench_core.report.claimed import claims_text
    from bench_core.report.terminal import say
    from bench_core.results.files import replace_file
    from bench_core.suite.load import load_suite

    judged = []
    others = None if suite is None else load_suite(suite)
    for found in gathered(results)[0]:
        if others is not None:
            found = replace(found, expect=tuple(others.expect), claimed_for=others.recipe())
        outcomes, troubles = claims_of(found)
        for line in troubles:
            click.echo(f"warning: {line}", err=True)
        judged.append((found.name, outcomes))
    width = terminal_width() if form == "table" and output is None else None
    text = claims_text(judged, form, width)  # type: ignore[arg-type]
    if output is not None:
        replace_file(output, text)
        click.echo(output)
    elif form == "table":
        say(text)
    else:
        click.echo(text, nl=False)
    if strict and any(item.status != "holds" for _, outcomes in judged for item in outcomes):
        sys.exit(Exit.SOME_FAILED)
