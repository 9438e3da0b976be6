"""`bench why`: why a run is there."""

from __future__ import annotations

from pathlib import Path

import click

from bench_core.commands.options import PATH


@click.command()
@click.argument("run")
@click.option(
    "--results", multiple=True, type=PATH, help="Where to look for it and its neighbours [results]."
)
def why(run: str, results: tuple[Path, ...]) -> None:
    """Say why a run ran or was reused. RUN is an identity, its first letters, or a folder. Also: what
    sets it apart from its nearest neighbour."""
    from bench_core.analysis.why import explain, find_run
    from bench_core.report.escape import visible
    from bench_core.results.scan import scan

    folder = Path(run)
    roots = list(results) or (
        [folder.absolute().parent] if run and folder.is_dir() else [Path("results")]
    )
    found = find_run(run, roots)
    for line in explain(found, scan(roots).runs):
        click.echo(visible(line))
