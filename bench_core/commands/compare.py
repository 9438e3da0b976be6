"""`bench compare`: two methods, or two sets of results."""

from __future__ import annotations

from pathlib import Path

import click

from bench_core.commands.options import gathered, results_argument, terminal_width
from bench_core.errors import UsageError


@click.command()
@click.argument("a")
@click.argument("b")
@results_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Write in this format.",
)
def compare(a: str, b: str, results: tuple[Path, ...], form: str) -> None:
    """Compare two methods or two results folders, paired by seed.

    A and B are methods of RESULTS  [default: results], or two results folders.

    \b
    bench compare dfa fa results/audit6
    bench compare results/audit5 others/audit5
    """
    from bench_core.report import comparison
    from bench_core.report.comparison import as_json, as_table

    if not results and Path(a).is_dir() and Path(b).is_dir():
        sides = [gathered((Path(side),))[0] for side in (a, b)]
        pairs, alone = comparison.sets(*sides)
        if not pairs and not alone:
            raise UsageError(f"{a} and {b}: no runs to compare")
    else:
        pairs, alone = comparison.methods(gathered(results)[0], a, b), []
    text = as_json(pairs, alone) if form == "json" else as_table(pairs, alone, terminal_width())
    click.echo(text, nl=False)
