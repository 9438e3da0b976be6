"""`bench merge`, `bench verify`, `bench replicate`: results of several people."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

import click

from bench_core.commands.options import PATH
from bench_core.errors import Exit, StoreError, UsageError


@click.command()
@click.argument("sources", nargs=-1, required=True, type=PATH)
@click.option(
    "--into",
    default="results",
    show_default=True,
    type=PATH,
    help="The results folder that they go to.",
)
def merge(sources: tuple[Path, ...], into: Path) -> None:
    """Copy the runs of other results folders into one.

    Different numbers for the same identity from the same environment are a conflict: then nothing is written. From another
    environment they are a replicate and kept beside.
    """
    from bench_core.sharing.merge import merge as do

    done = do(sources, into)
    for line in done.troubles:
        click.echo(f"warning: {line}", err=True)
    for line in done.conflicts:
        click.echo(f"conflict: {line}", err=True)
    if done.conflicts:
        click.echo(
            f"error: {len(done.conflicts)} conflicts; nothing was written to {into}", err=True
        )
        sys.exit(Exit.SOME_FAILED)
    counts = {word: done.count(fate) for word, fate in (  # type: ignore[arg-type]
        ("copied", "copy"), ("replaced what had not ended", "replace"), ("there already", "same"),
        ("not better than what is there", "stays"), ("kept as replicates", "replicate"))}  # fmt: skip
    told = (
        ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "nothing to copy"
    )
    click.echo(f"{into}: {len(done.fates)} runs: {told}")
    sys.exit(Exit.SOME_FAILED if done.troubles else Exit.DONE)


@click.command()
@click.argument("results", nargs=-1, type=PATH)
@click.option("--quarantine", is_flag=True, help="Set aside the runs whose folders cannot be read.")
def verify(results: tuple[Path, ...], quarantine: bool) -> None:
    """Check runs: sums, schema, identity, plausibility. Default: results.

    A run without a fault is marked as checked, which the leaderboard shows.
    """
    from datetime import UTC, datetime

    from bench_core.results import marks
    from bench_core.results.scan import scan
    from bench_core.sharing.verify import between, faults, set_aside, unreadable

    roots = list(results) or [Path("results")]
    found = scan(roots)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    wrong = 0
    unmarked: dict[Path, str] = {}
    for run in found.runs:
        told = faults(run)
        wrong += bool(told)
        for line in told:
            click.echo(f"{run.folder}: {line}", err=True)
        mark = marks.read(run.folder.parent, run.record)
        if told and not mark.checked:
            continue
        try:  # a mark of an earlier day does not stand for what was found today
            marks.write(
                run.folder.parent, mark.model_copy(update={"checked": None if told else now})
            )
        except StoreError as error:
            unmarked[run.folder.parent] = str(error)
    for line in found.troubles:
        click.echo(line, err=True)
    among = list(between(found.runs))
    for line in among:
        click.echo(line, err=True)
    if quarantine:
        for folder in unreadable(roots):
            place = set_aside(folder)
            stays = "left where it is: a newer bench wrote it, or one is at work on it"
            click.echo(f"{folder}: {f'set aside as {place}' if place else stays}", err=True)
    for folder, why in unmarked.items():
        click.echo(f"warning: {folder}: its marks cannot be written: {why}", err=True)
    total = len(found.runs) + len(found.troubles)
    click.echo(f"{total} runs: {len(found.runs) - wrong} without fault, {wrong + len(found.troubles)} with"
               + (f"; {len(among)} faults among them" if among else ""))  # fmt: skip
    sys.exit(Exit.SOME_FAILED if wrong or found.troubles or among else Exit.DONE)


@click.command()
@click.argument("results", type=PATH)
@click.option(
    "--sample",
    default="10%",
    show_default=True,
    metavar="SHARE",
    help="A share such as 10%, or a number of runs.",
)
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Of the draw [random, and said].")
@click.option("--into", type=PATH, help="Where the new runs are kept [RESULTS-replicas].")
@click.option(
    "--data-dir",
    envvar="BENCH_DATA_DIR",
    show_envvar=True,
    type=PATH,
    help="Where data files lie [data].",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, …")
@click.option("--workers", type=click.IntRange(1, 1024), metavar="N", help="Cells at once.")
@click.option(
    "--executor",
    default="local",
    show_default=True,
    metavar="NAME",
    help="local, ray, slurm, or a plugin's.",
)
def replicate(
    results: Path, sample: str, seed: int | None, into: Path | None, data_dir: Path | None, device: str,
    workers: int | None, executor: str,
) -> None:  # fmt: skip
    """Run a sample of somebody's runs again. Whether they agree is recorded.

    In the same environment and with the same code they must be equal bit by bit; elsewhere accuracies within 2 points and the same
    diagnostics. The leaderboard of RESULTS shows what came out.
    """
    from bench_core.execution.executors import Options
    from bench_core.execution.job import make_job
    from bench_core.execution.runner import executor_named
    from bench_core.registry import plugins
    from bench_core.results.scan import scan
    from bench_core.sharing.replicate import carry_out, plan_again, share
    from bench_core.sharing.replicate import sample as draw

    size = share(sample)
    registry = plugins.load()
    execute = executor_named(executor, registry)
    seed = secrets.randbelow(2**31) if seed is None else seed
    into = results.with_name(f"{results.resolve().name}-replicas") if into is None else into
    if into.resolve() == results.resolve():
        raise UsageError(f"--into {into}: must be another folder than RESULTS")
    drawn = draw(scan([results]).runs, size, seed)
    click.echo(f"{len(drawn)} run{'s' * (len(drawn) != 1)} drawn with --seed {seed} · {into}")
    planned, troubles = plan_again(drawn, registry, into, data_dir, device)
    for line in troubles:
        click.echo(f"warning: {line}", err=True)
    found, wrong = carry_out(
        planned, execute,
        lambda again: make_job(again.cell, again.posted.record.suite, again.diagnostics, data_dir, {}, None), Options(workers),
    )  # fmt: skip
    for posted, replica in found:
        cell = posted.record.cell
        word = "agrees" if replica.agrees else "DISAGREES"
        click.echo(
            f"{posted.record.identity[:12]}  {cell.method.short} · seed {cell.seed}: {word}: {replica.said}"
        )
    for line in wrong:
        click.echo(f"warning: {line}", err=True)
    agreed, missing = sum(replica.agrees for _, replica in found), len(drawn) - len(found)
    click.echo(
        f"{agreed} of {len(drawn)} agree" + (f", {missing} could not be run" if missing else "")
    )
    sys.exit(Exit.DONE if agreed == len(drawn) and not wrong else Exit.SOME_FAILED)
