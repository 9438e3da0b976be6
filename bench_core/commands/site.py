"""`bench site`: a leaderboard site from several people's results."""

from __future__ import annotations

from pathlib import Path

import click

from bench_core.commands.options import PATH, gathered, results_argument


@click.command()
@results_argument
@click.option(
    "-o", "--output", default="site", show_default=True, type=PATH, help="The folder to write."
)
def site(results: tuple[Path, ...], output: Path) -> None:
    """Build static pages from several people's results. One per suite, one per method; no server is needed."""
    from bench_core.registry import plugins
    from bench_core.report.site import build

    suites, troubles = gathered(results)
    known = {
        item.full_name: (item.component.summary, item.component.cite)
        for item in plugins.load().of_kind("method")
    }
    written = build(suites, known, output, troubles)
    click.echo(f"{output / 'index.html'}  ({len(written)} page{'s' * (len(written) != 1)})")
