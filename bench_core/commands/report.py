"""`bench report`, `bench figure` and `bench site`: results as pages, and as figures for a paper."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from bench_core.commands.options import (
    NOTHING,
    Choice,
    form_of,
    format_option,
    gathered,
    option,
    refuse_empty,
    results_argument,
    shown_folders,
    warn,
)
from bench_core.errors import UsageError
from bench_core.names import FILE, distribution_of
from bench_core.report.figures import NAMES
from bench_core.report.text.escape import visible
from bench_core.report.text.terminal import echo

if TYPE_CHECKING:
    from bench_core.analysis.gather import SuiteResults
    from bench_core.registry.card import Card


@click.command()
@results_argument
@option("-o --output FILE", "Write to this file.", default="report.html")
def report(results: tuple[Path, ...], output: Path) -> None:
    """Write one self-contained HTML page.

    It has verdicts, figures, tables and provenance, and needs no network. RESULTS are results
    folders or suite folders  [default: results].
    """
    from bench_core.report.pages import cache

    if output.suffix.lower() not in ("", ".html", ".htm"):
        raise UsageError(f"-o {output}: must end in .html")
    if cache.is_foreign(output):
        raise UsageError(f"-o {output}: is there already and no page of bench; name another file")
    if not write_page(results, output):
        raise UsageError(NOTHING)


def write_page(results: tuple[Path, ...], output: Path, word: str = "") -> bool:
    """Write the report of these results, unless it shows them already; print its path.

    Returns False, and writes nothing, if there is no run.
    """
    from bench_core.report.pages import cache

    mark = cache.mark(shown_folders(results))
    if mark and mark == cache.marked(output):
        echo(f"{word}{visible(str(output))} (shows these results already)")
        return True
    from bench_core.report.pages.page import page
    from bench_core.results.files import replace_file

    suites, troubles = gathered(results)
    if not troubles and not any(suite.records for suite in suites):
        return False
    replace_file(output, page(suites, troubles, mark, _cards(suites)), output=True)
    echo(f"{word}{visible(str(output))}")
    return True


def _cards(suites: Iterable[SuiteResults]) -> dict[str, Card]:
    """Return the cards of the rules, and warn of rule files that are not found."""
    from bench_core.registry.plugins import cards

    rules = {record.cell.method.name for suite in suites for record in suite.records}
    found = cards(rules)
    lost = sorted({distribution_of(name) for name in rules - found.keys()})
    warn(
        f"{visible(file)}: not on PYTHONPATH, or it does not load: the page lacks the card of its "
        "rule; set PYTHONPATH to the folder that holds the file"
        for file in lost
        if file.endswith(FILE)
    )
    return found


@click.command(
    help=f"""Write a figure of the report for a paper.

    NAME is one of {", ".join(NAMES)}. The caption is printed. If RESULTS  [default: results]
    have several suites or recipes, each gets a file of its own, numbered from the second on.
    """
)
@click.argument("name", type=click.Choice(NAMES), metavar="NAME")
@results_argument
@format_option(Choice("bench_core.report.figures.paper:Format"), "svg")
@option("--suite NAME", "Draw only this suite.")
@option("-o --output FILE", "Write to this file.  [default: NAME.FORMAT]")
def figure(
    name: str, results: tuple[Path, ...], form: str | None, suite: str | None, output: Path | None
) -> None:
    from bench_core.report.figures import drawn
    from bench_core.report.figures.paper import Format, paper, render
    from bench_core.report.view import view
    from bench_core.results.files import replace_file

    suites, _ = gathered(results)
    known = sorted({item.name for item in suites})
    if suite is not None and suite not in known:
        raise UsageError(
            f"{suite}: no such suite in these results; they have {', '.join(known) or 'none'}"
        )
    form = form_of(form, output, get_args(Format), "svg")
    target = output or Path(f"{name}.{form}")
    views = [view(item) for item in suites if suite in (None, item.name)]
    items = [(shown, item) for shown in views for item in drawn(shown, [name])]
    for count, (shown, item) in enumerate(items, 1):
        path = target if count == 1 else target.with_stem(f"{target.stem}-{count}")
        drawing = render(paper(item.figure), form)  # type: ignore[arg-type]
        replace_file(path, drawing, output=True)
        recipe = "" if item.recipe is None else f": {shown.headers[item.recipe]}"
        echo(f"{visible(str(path))}  ({shown.name}{recipe})\n  {item.figure.caption}")
    if not items:
        raise UsageError(
            f"figure {name}: these results have no finished run to draw, or no suite with its axis"
        )


@click.command()
@results_argument
@option("--board", "Build the site of the shipped reference, with the claims of all suites.")
@option("-o --output FOLDER", "Write to this folder.", default="site")
def site(results: tuple[Path, ...], board: bool, output: Path) -> None:
    """Build static pages from the results of several people.

    There is one page per suite and one per method. They need no server. RESULTS are results
    folders or suite folders  [default: results].
    """
    from bench_core.analysis.claims.board import board as reference_board
    from bench_core.report.pages.site import build
    from bench_core.report.text.numbers import plural

    if board and results:
        raise UsageError("--board: takes no RESULTS")
    known = reference_board() if board else None
    if known is not None:
        results = (known.shipped.folder,)
    suites, troubles = gathered(results)
    if not suites:
        refuse_empty(shown_folders(results), "to show")
    claims = list(known.suites()) if known else []
    written = build(suites, _cards(suites), output, troubles, claims)
    echo(f"{output / 'index.html'}  ({plural(len(written), 'page')})")
