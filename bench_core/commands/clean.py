"""Define `bench clean`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench_core.commands.options import results_argument
from bench_core.errors import Exit


@click.command()
@results_argument
@click.option("--yes", is_flag=True, help="Remove the items; without it they are only listed.")
def clean(results: tuple[Path, ...], yes: bool) -> None:
    """List or remove runs that no table counts. Default: results.

    No table counts runs of cells that other code has run since, and folders in quarantine.
    """
    from bench_core.analysis.prune import remove, spare
    from bench_core.report.escape import visible

    items = list(spare(list(results) or [Path("results")]))
    kept = 0
    for item in items:
        removed = yes and remove(item)
        kept += yes and not removed
        word = "removed" if removed else "in use" if yes else "spare"
        click.echo(f"{word}  {visible(str(item.path))}  {item.size / 1e6:.1f} MB  ({item.why})")
    total = sum(item.size for item in items) / 1e6
    hint = "; --yes removes them" if items and not yes else ""
    more = f"; {kept} in use and left" if kept else hint
    click.echo(f"{len(items)} spare, {total:.1f} MB{more}")
    sys.exit(Exit.SOME_FAILED if kept else Exit.DONE)
