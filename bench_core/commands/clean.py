"""bench clean."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench_core.commands.options import PATH
from bench_core.errors import Exit


@click.command()
@click.argument("results", nargs=-1, type=PATH)
@click.option("--yes", is_flag=True, help="Remove them; without it they are only listed.")
def clean(results: tuple[Path, ...], yes: bool) -> None:
    """List, or remove, what no table counts. Default: results.

    That is runs of cells that other code has run since, and what was set in quarantine.
    """
    from bench_core.analysis.prune import remove, spare
    from bench_core.report.escape import visible

    found = list(spare(list(results) or [Path("results")]))
    kept = 0
    for each in found:
        gone = yes and remove(each)
        kept += yes and not gone
        word = "removed" if gone else "in use" if yes else "spare"
        click.echo(f"{word}  {visible(str(each.path))}  {each.size / 1e6:.1f} MB  ({each.why})")
    total = sum(each.size for each in found) / 1e6
    told = f"{len(found)} spare, {total:.1f} MB"
    click.echo(
        told
        + (
            f"; {kept} in use and left"
            if kept
            else ""
            if yes or not found
            else "; --yes removes them"
        )
    )
    sys.exit(Exit.SOME_FAILED if kept else Exit.DONE)
