"""`bench clean`: remove what no table counts."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench_core.commands.options import (
    option,
    own_folders,
    results_argument,
)
from bench_core.errors import Exit
from bench_core.report.text.terminal import echo


@click.command()
@results_argument
@option("--older", "Also runs whose code is older than that of other runs of their recipe.")
@option(
    "--method NAME",
    "Only runs of this method or ./my_rule.py: all, or with --older the older ones; repeatable.",
    "methods",
    multiple=True,
)
@option("--yes", "Remove the items; without it they are only listed.")
def clean(results: tuple[Path, ...], older: bool, methods: tuple[str, ...], yes: bool) -> None:
    """List or remove runs that no table counts.

    Options name others. Default: results.

    No table counts runs of cells that other code has run since, and folders in quarantine. Seeds
    that an edit of their rule, data set or network has left behind need --older.
    """
    from bench_core.analysis.prune import remove, spare
    from bench_core.report.text.escape import visible

    folders = own_folders(results, "name a results folder of yours")
    items = list(spare(folders, older, methods))
    kept = 0
    for item in items:
        removed = yes and remove(item)
        kept += yes and not removed
        word = "removed" if removed else "in use" if yes else "spare"
        echo(f"{word}  {visible(str(item.path))}  {item.size / 1e6:.1f} MB  ({item.why})")
    total = sum(item.size for item in items) / 1e6
    hint = "; --yes removes them" if items and not yes else ""
    more = f"; {kept} in use and left" if kept else hint
    count = f"{len(items)} spare, {total:.1f} MB" if items else "nothing to remove"
    echo(f"{count}{more}")
    sys.exit(Exit.SOME_FAILED if kept else Exit.DONE)
