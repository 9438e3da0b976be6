"""`bench submit`: make a submission for a board of several people's results."""

from __future__ import annotations

from pathlib import Path

import click

from bench_core.commands.options import PATH, option, shown_folders, warn
from bench_core.report.text.terminal import echo


@click.command()
@click.argument("results", type=PATH)
@option("-o --output FOLDER", "Write to this new folder.", default="submission")
def submit(results: Path, output: Path) -> None:
    """Make a submission of your own runs.

    It has the runs in compact form, the requirements of your plugins, their passports and the
    environments. Paths and your name are taken out of its texts as far as they can be told: read it
    before you publish it. Others judge it with `bench verify` and `bench replicate`. RESULTS is a
    results folder, a suite folder or a suite.
    """
    from bench_core.sharing.submission import submit as write

    submission = write(shown_folders((results,))[0], output)
    warn(submission.troubles)
    needs = ", ".join(submission.requirements) or "bench-core alone"
    echo(f"{output}: {len(submission.runs)} runs; needs {needs}")
