"""`bench claims`: published figures held against results."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

from bench_core.commands.options import (
    Choice,
    deliver,
    gathered,
    output_option,
    results_argument,
    terminal_width,
    warn,
)
from bench_core.errors import Exit


@click.command()
@results_argument
@click.option(
    "--format",
    "form",
    type=Choice("bench_core.report.claimed:Format"),
    default="table",
    show_default=True,
    help="Write in this format.",
)
@click.option(
    "--suite",
    metavar="NAME",
    help="Take the claims of this suite, not those kept with the results.",
)
@output_option()
@click.option("--strict", is_flag=True, help="Exit with 1 if a claim fails or was not run.")
def claims(
    results: tuple[Path, ...], form: str, suite: str | None, output: Path | None, strict: bool
) -> None:
    """Hold results against published figures.

    Suites state these as claims under `expect:`. A claim for another recipe than the one of the
    runs counts as not run. RESULTS are results folders or suite folders  [default: results].
    """
    from bench_core.analysis.gather import claims_of
    from bench_core.report.claimed import claims_text
    from bench_core.suite.load import load_suite

    stated = None if suite is None else load_suite(suite)
    judged = []
    for found in gathered(results)[0]:
        if stated is not None:
            found = replace(found, expect=tuple(stated.expect), claimed_for=stated.recipe())
        outcomes, troubles = claims_of(found)
        warn(troubles)
        judged.append((found.name, outcomes))
    width = terminal_width() if form == "table" and output is None else None
    text = claims_text(judged, form, width)  # type: ignore[arg-type]
    deliver(text, output, coloured=form == "table")
    if strict and any(item.status != "holds" for _, outcomes in judged for item in outcomes):
        sys.exit(Exit.SOME_FAILED)
