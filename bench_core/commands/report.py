"""`bench report` and `bench figure`: results as a page, and as figures for a paper."""

from __future__ import annotations

from pathlib import Path

import click

from bench_core.commands.options import PATH, gathered, results_argument
from bench_core.errors import UsageError
from bench_core.report.figures import NAMES

FORMS = ("svg", "png", "pdf")


@click.command()
@results_argument
@click.option(
    "-o", "--output", default="report.html", show_default=True, type=PATH, help="The page to write."
)
def report(results: tuple[Path, ...], output: Path) -> None:
    """Write one self-contained HTML page. It has verdicts, figures, tables and provenance, and needs no network."""
    write_page(results, output)


def write_page(results: tuple[Path, ...], output: Path, word: str = "") -> None:
    """Write the report of these results and say where it lies."""
    from bench_core.report.page import page
    from bench_core.results.files import replace_file

    suites, troubles = gathered(results)
    replace_file(output, page(suites, troubles))
    click.echo(f"{word}{output}")


@click.command()
@click.argument("name", type=click.Choice(NAMES))
@results_argument
@click.option(
    "--format", "form", type=click.Choice(FORMS), help="Default: the ending of -o, or svg."
)
@click.option("--suite", metavar="NAME", help="Only of this suite.")
@click.option("-o", "--output", type=PATH, help="The file to write  [NAME.FORMAT]")
def figure(
    name: str, results: tuple[Path, ...], form: str | None, suite: str | None, output: Path | None
) -> None:
    """Write a figure of the report for a paper. Its caption is printed.

    Where the results have several suites or recipes, each gets a file of its own, numbered after the first.
    """
    from bench_core.report.figures import drawn
    from bench_core.report.figures.paper import render
    from bench_core.report.view import view
    from bench_core.results.files import replace_file

    suites, _ = gathered(results)
    if suite is not None and suite not in {found.name for found in suites}:
        known = ", ".join(sorted({found.name for found in suites})) or "none"
        raise UsageError(f"{suite}: no such suite in these results; there are: {known}")
    ending = output.suffix.removeprefix(".").lower() if output else ""
    if output and ending not in FORMS:
        raise UsageError(f"-o {output}: must end in {', '.join(f'.{each}' for each in FORMS)}")
    if form and ending not in ("", form):
        raise UsageError(f"-o {output}: ends in .{ending}, and --format is {form}")
    form = form or ending or "svg"
    target = output or Path(f"{name}.{form}")
    count = 0
    for found in suites:
        if suite not in (None, found.name):
            continue
        seen = view(found)
        for item in drawn(seen, [name]):
            count += 1
            path = target if count == 1 else target.with_stem(f"{target.stem}-{count}")
            replace_file(path, render(item.figure, form))  # type: ignore[arg-type]
            where = (
                seen.name if item.recipe is None else f"{seen.name}: {seen.headers[item.recipe]}"
            )
            click.echo(f"{path}  ({where})\n  {item.figure.caption}")
    if not count:
        raise UsageError(
            f"these results have nothing for the figure {name}: no finished run, or no suite with such an axis"
        )
