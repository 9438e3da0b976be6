"""Define `bench why`."""

from __future__ import annotations

from pathlib import Path

import click

from bench_core.commands.options import PATH


@click.command()
@click.argument("run")
@click.option(
    "--results",
    multiple=True,
    type=PATH,
    help="Where to look for the run and its neighbours [results].",
)
def why(run: str, results: tuple[Path, ...]) -> None:
    """Say why a run was run or reused, and how its nearest neighbour differs.

    RUN is an identity, its first letters, or a folder.
    """
    from bench_core.analysis.why import explain, find_run
    from bench_core.report.escape import visible
    from bench_core.results.scan import scan

    folder = Path(run)
    roots = list(results) or (
        [folder.absolute().parent] if run and folder.is_dir() else [Path("results")]
    )
    for line in explain(find_run(run, roots), scan(roots).runs):
        click.echo(visible(line))
