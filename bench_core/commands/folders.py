"""`bench merge`, `bench verify`, `bench replicate`, `bench clean`: whole results folders."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from bench_core.commands.options import (
    PATH,
    WORKERS,
    data_dir_option,
    option,
    results_argument,
    warn,
)
from bench_core.errors import Exit, StoreError, UsageError


@click.command()
@click.argument("sources", nargs=-1, required=True, type=PATH)
@option("--into PATH", "The target results folder.", default="results")
def merge(sources: tuple[Path, ...], into: Path) -> None:
    """Copy the runs of other results folders into one.

    Different numbers for the same identity from the same environment are a conflict: then nothing
    is written. Numbers from another environment are a replicate and kept beside.
    """
    from bench_core.sharing.merge import WORDS
    from bench_core.sharing.merge import merge as merge_folders

    result = merge_folders(sources, into)
    warn(result.troubles)
    for line in result.conflicts:
        click.echo(f"conflict: {line}", err=True)
    if result.conflicts:
        count = len(result.conflicts)
        click.echo(f"error: {count} conflicts; nothing was written to {into}", err=True)
        sys.exit(Exit.SOME_FAILED)
    counts = [f"{result.count(fate)} {word}" for fate, word in WORDS.items() if result.count(fate)]
    click.echo(f"{into}: {len(result.fates)} runs: {', '.join(counts) or 'nothing to copy'}")
    sys.exit(Exit.SOME_FAILED if result.troubles else Exit.DONE)


@click.command()
@results_argument
@option("--quarantine", "Move unreadable run folders to the quarantine.")
def verify(results: tuple[Path, ...], quarantine: bool) -> None:
    """Check runs: checksums, schema, identity, plausibility. Default: results.

    A run without a fault is marked as checked, which the leaderboard shows.
    """
    from datetime import UTC, datetime

    from bench_core.results import marks
    from bench_core.results.scan import scan
    from bench_core.sharing.verify import between, faults, set_aside, unreadable

    roots = list(results) or [Path("results")]
    stored = scan(roots)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    faulty = len(stored.troubles)
    unmarked: dict[Path, str] = {}
    for run in stored.runs:
        lines = faults(run)
        faulty += bool(lines)
        for line in lines:
            click.echo(f"{run.folder}: {line}", err=True)
        suite = run.folder.parent
        mark = marks.read(suite, run.record)
        if lines and not mark.checked:
            continue
        try:  # a new fault removes the mark of an earlier check
            marks.write(suite, mark.model_copy(update={"checked": None if lines else now}))
        except StoreError as error:
            unmarked[suite] = str(error)
    among = list(between(stored.runs))
    for line in [*stored.troubles, *among]:
        click.echo(line, err=True)
    for folder in unreadable(roots) if quarantine else ():
        place = set_aside(folder)
        stays = "left where it is: a newer bench wrote it, or one is at work on it"
        click.echo(f"{folder}: {f'set aside as {place}' if place else stays}", err=True)
    warn(f"{folder}: its marks cannot be written: {why}" for folder, why in unmarked.items())
    total = len(stored.runs) + len(stored.troubles)
    more = f"; {len(among)} faults among them" if among else ""
    click.echo(f"{total} runs: {total - faulty} without fault, {faulty} with{more}")
    sys.exit(Exit.SOME_FAILED if faulty or among else Exit.DONE)


@click.command()
@click.argument("results", type=PATH)
@option("--sample SHARE", "A share such as 10%, or a number of runs.", default="10%")
@option("--seed N", "Seed of the draw [random].", type=click.IntRange(0))
@option("--into PATH", "Folder of the new runs [RESULTS-replicas].")
@data_dir_option
@option("--device TEXT", "cpu, cuda, cuda:1, …", default="cpu")
@option("--workers N", "Cells at once.", type=WORKERS)
@option("--executor NAME", "local, ray, slurm, or a plugin's.", default="local")
def replicate(
    results: Path,
    sample: str,
    seed: int | None,
    into: Path | None,
    data_dir: Path | None,
    device: str,
    workers: int | None,
    executor: str,
) -> None:
    """Run a sample of runs again and record whether they agree.

    In the same environment and with the same code runs must be equal bit by bit. Elsewhere their
    accuracies must lie within 2 points and the same diagnostics must fire. The leaderboard of
    RESULTS shows the outcome.
    """
    from bench_core.execution.executors import Job, Options
    from bench_core.execution.job import make_job
    from bench_core.execution.runner import executor_named
    from bench_core.registry import plugins
    from bench_core.results.scan import scan
    from bench_core.sharing import replicate as again

    size = again.share(sample)
    registry = plugins.load()
    execute = executor_named(executor, registry)
    seed = int.from_bytes(os.urandom(4)) if seed is None else seed
    into = results.with_name(f"{results.resolve().name}-replicas") if into is None else into
    if into.resolve() == results.resolve():
        raise UsageError(f"--into {into}: must be another folder than RESULTS")
    drawn = again.sample(scan([results]).runs, size, seed)
    click.echo(f"{len(drawn)} run{'s' * (len(drawn) != 1)} drawn with --seed {seed} · {into}")
    planned, troubles = again.plan_again(drawn, registry, into, data_dir, device)
    warn(troubles)

    def job_of(cell: again.Again) -> Job:
        suite = cell.posted.record.suite
        return make_job(cell.cell, suite, cell.diagnostics, data_dir, {}, None)

    replicas, problems = again.carry_out(planned, execute, job_of, Options(workers))
    for posted, replica in replicas:
        record, cell = posted.record, posted.record.cell
        name = f"{record.identity[:12]}  {cell.method.short} · seed {cell.seed}"
        click.echo(f"{name}: {'agrees' if replica.agrees else 'DISAGREES'}: {replica.said}")
    warn(problems)
    agreed, missing = sum(replica.agrees for _, replica in replicas), len(drawn) - len(replicas)
    more = f", {missing} could not be run" if missing else ""
    click.echo(f"{agreed} of {len(drawn)} agree{more}")
    sys.exit(Exit.DONE if agreed == len(drawn) and not problems else Exit.SOME_FAILED)


@click.command()
@results_argument
@option("--yes", "Remove the items; without it they are only listed.")
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
