"""`bench compare`: two methods, or two sets of results."""

from __future__ import annotations

from pathlib import Path

import click

from bench_core.commands.options import PATH, gathered, terminal_width
from bench_core.errors import UsageError


@click.command()
@click.argument("a")
@click.argument("b")
@click.argument("results", nargs=-1, type=PATH)
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
def compare(a: str, b: str, results: tuple[Path, ...], form: str) -> None:
    """Compare two methods or results folders, paired by seed. A and B are methods of RESULTS, or two results folders.

    \b
    bench compare dfa fa results/audit6
    bench compare results/audit5 others/audit5
    """
    from bench_core.report import comparison
    from bench_core.report.compared import as_json, as_table

    if not results and Path(a).is_dir() and Path(b).is_dir():
        sides = [gathered((Path(side),))[0] for side in (a, b)]
        found, alone = comparison.sets(*sides)
        if not found and not alone:
            raise UsageError(f"{a} and {b}: no runs to compare")
    else:
        found, alone = comparison.methods(gathered(results)[0], a, b), []
    click.echo(
        as_json(found, alone) if form == "json" else as_table(found, alone, terminal_width()),
        nl=False,
    )
