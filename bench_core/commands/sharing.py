"""Results of several people: `bench merge`, `verify`, `replicate`, `submit`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench_core.commands.options import (
    PATH,
    THREADS,
    data_dir_option,
    interruptible,
    json_option,
    option,
    own_folders,
    print_json,
    refuse_empty,
    results_argument,
    shown_folders,
    warn,
)
from bench_core.commands.run import PLACE_OPTIONS, decorated, how_of
from bench_core.errors import Exit, StoreError, UsageError
from bench_core.printable import cut
from bench_core.report.text.terminal import echo

if TYPE_CHECKING:
    from bench_core.results.scan import Stored


@click.command()
@click.argument("sources", nargs=-1, required=True, type=PATH)
@option("--into FOLDER", "The target results folder.", default="results")
def merge(sources: tuple[Path, ...], into: Path) -> None:
    """Copy the runs of other results folders into one.

    Different numbers for the same identity from the same environment are a conflict: then nothing
    is written. Numbers from another environment are a replicate and kept beside.
    """
    from bench_core.report.text.numbers import plural
    from bench_core.sharing.merge import WORDS
    from bench_core.sharing.merge import merge as merge_folders

    result = merge_folders(sources, into)
    warn(result.troubles)
    for line in result.conflicts:
        echo(cut(f"conflict: {line}"), err=True)
    if result.conflicts:
        wrote = "these runs stay as another bench wrote them meanwhile; the others were merged"
        wrote = wrote if result.late else f"nothing was written to {into}"
        settle = "`bench replicate` says which run holds; remove the other one from its folder "
        settle += "(`bench clean FOLDER --method NAME`), or leave that folder out"
        conflicts = plural(len(result.conflicts), "conflict")
        echo(f"error: {conflicts}; {wrote}; {settle}", err=True)
        sys.exit(Exit.SOME_FAILED)
    counts = [f"{result.count(fate)} {word}" for fate, word in WORDS.items() if result.count(fate)]
    if result.measured:
        counts.append(f"{plural(result.measured, 'late measurement')} copied")
    echo(f"{into}: {plural(len(result.fates), 'run')}: {', '.join(counts) or 'nothing to copy'}")
    sys.exit(Exit.SOME_FAILED if result.troubles else Exit.DONE)


@click.command()
@results_argument
@option("--quarantine", "Move unreadable run folders to the quarantine.")
@json_option
def verify(results: tuple[Path, ...], quarantine: bool, as_json: bool) -> None:
    """Check runs: checksums, schema, identity, plausibility. Default: results.

    A run without a fault is marked as checked, which the leaderboard shows.
    """
    from bench_core.report.text.numbers import plural
    from bench_core.results.scan import scan
    from bench_core.sharing.submission import against_their_lists, unlike_their_suites
    from bench_core.sharing.verify import between, faults, searches, set_aside, unreadable

    roots = own_folders(results, "`python -m bench_reference.add --check` checks it")
    stored = scan(roots)
    if not stored.runs and not stored.troubles:
        refuse_empty(roots, "to check")
    faults_of = {run.folder: faults(run) for run in stored.runs}
    among = [*between(stored.runs), *searches(stored.runs)]
    among += against_their_lists(roots, stored.runs)
    differs = unlike_their_suites(roots, stored.runs)
    lines = [f"{folder}: {line}" for folder, own in faults_of.items() for line in own]
    moved = {}
    for folder in unreadable(roots) if quarantine else ():
        place = set_aside(folder)
        stays = "left where it is: a newer bench wrote it, or one is at work on it"
        moved[str(folder)] = f"set aside as {place}" if place else stays
    _mark_checked(stored.runs, faults_of)
    faulty = len(stored.troubles) + sum(map(bool, faults_of.values()))
    total = len(stored.runs) + len(stored.troubles)
    if as_json:
        runs = [{"folder": str(folder), "faults": own} for folder, own in faults_of.items()]
        counts = {"total": total, "without_fault": total - faulty, "faulty": faulty}
        rest = {"among": among, "unreadable": stored.troubles, "moved": moved}
        print_json({**counts, "runs": runs, **rest, "differs": differs})
    else:
        for line in [*lines, *stored.troubles, *among]:
            echo(cut(line), err=True)
        for folder_name, fate in moved.items():
            echo(f"{folder_name}: {fate}", err=True)
        warn(differs)
        more = f"; {plural(len(among), 'fault')} among them" if among else ""
        echo(f"{plural(total, 'run')}: {total - faulty} without fault, {faulty} with{more}")
    sys.exit(Exit.SOME_FAILED if faulty or among else Exit.DONE)


def _mark_checked(runs: Iterable[Stored], faults: Mapping[Path, Sequence[str]]) -> None:
    """Mark runs without a fault as checked; a new fault removes the mark of an earlier check."""
    from bench_core.results import marks
    from bench_core.results.record import now

    unmarked: dict[Path, str] = {}
    for run in runs:
        suite, lines = run.folder.parent, faults[run.folder]
        mark = marks.read(suite, run.record)
        if lines and not mark.checked:
            continue
        try:
            marks.write(suite, mark.signed("checked", None if lines else now()))
        except StoreError as error:
            unmarked[suite] = str(error)
    warn(f"{folder}: its marks cannot be written: {why}" for folder, why in unmarked.items())


@click.command()
@click.argument("results", type=PATH)
@option("--sample SHARE", "A share such as 10%, or a number of runs.", default="10%")
@option("--each-row", "Further runs, until each row of the table is met.")
@option("--seed N", "Seed of the draw [random].", type=click.IntRange(0))
@option("--into FOLDER", "Folder of the new runs [RESULTS-replicas].")
@data_dir_option
@option("--device NAME", "cpu, cuda, cuda:1, …", default="cpu")
@option("--threads N", "Train with N threads [those of each run].", type=THREADS)
@decorated(PLACE_OPTIONS)
def replicate(
    results: Path,
    sample: str,
    each_row: bool,
    seed: int | None,
    into: Path | None,
    data_dir: Path | None,
    device: str,
    threads: int | None,
    **place: Any,
) -> None:
    """Run a sample of runs again and record whether they agree.

    In the same environment and with the same code runs must be equal bit by bit. Elsewhere, and
    with another number of threads, their accuracies must lie within 2 points and the same
    diagnostics must fire. The leaderboard of RESULTS shows the outcome. A new run is trained here,
    unless you trained it before.
    """
    from bench_core.commands.progress import choose
    from bench_core.execution.planning.cell_names import names_of
    from bench_core.execution.runner import executor_named
    from bench_core.registry import plugins, rule_files
    from bench_core.report.text.numbers import plural
    from bench_core.sharing import replicate as again

    (results,) = own_folders(
        (results,), "copy it (cp -r {folder} COPY), then `bench replicate COPY`"
    )
    size, runs = again.share(sample), again.counted(results)
    files = rule_files.importable(run.record.cell.method.name for run in runs)
    registry = plugins.load(files=files)
    how = how_of(place)
    how.check(registry)
    execute = executor_named(how.executor, registry)
    seed = int.from_bytes(os.urandom(4)) if seed is None else seed
    if into is None:
        into = results.with_name(f"{results.resolve().name}-replicas")
        if into.is_symlink():  # it may have come with RESULTS
            raise UsageError(f"{into}: is a link; name the folder of the new runs with --into")
    if into.resolve() == results.resolve():
        raise UsageError(f"--into {into}: must be another folder than RESULTS")
    drawn = again.sample(runs, size, seed, each_row)
    echo(f"{plural(len(drawn), 'run')} drawn with --seed {seed} · {into}")
    planned, troubles = again.plan_again(drawn, registry, into, data_dir, device, threads)
    warn(troubles)
    folders = [item.posted.folder for item in planned]
    names = dict(zip(folders, names_of([item.cell for item in planned]), strict=True))
    reused = {item.posted.folder: again.trained_at(item.cell) for item in planned}

    same = f"the same command with --seed {seed}"
    with interruptible(f"finished runs are kept; {same} runs the rest"):
        replicas, problems = again.carry_out(planned, execute, data_dir, how.options, choose)
    for posted, replica in replicas:
        name = f"{posted.record.identity[:12]}  {names[posted.folder]}"
        when = reused[posted.folder]
        source = f" (the run that you trained at {when})" if when else ""
        outcome = "agrees" if replica.agrees else "DISAGREES"
        echo(cut(f"{name}: {outcome}: {replica.said}{source}"))
    warn(problems)
    agreed, missing = sum(replica.agrees for _, replica in replicas), len(drawn) - len(replicas)
    equal = sum(replica.agrees and replica.how == "bits" for _, replica in replicas)
    counts = [(equal, "bit by bit"), (agreed - equal, "within the tolerance")]
    ways = ", ".join(f"{count} {word}" for count, word in counts if count)
    more = f", {missing} could not be run" if missing else ""
    echo(f"{agreed} of {len(drawn)} agree{f' ({ways})' if ways else ''}{more}")
    sys.exit(Exit.DONE if agreed == len(drawn) and not problems else Exit.SOME_FAILED)


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
    from bench_core.report.text.numbers import plural
    from bench_core.sharing.submission import submit as write

    submission = write(shown_folders((results,))[0], output)
    warn(submission.troubles)
    needs = ", ".join(submission.requirements) or "bench-core alone"
    echo(f"{output}: {plural(len(submission.runs), 'run')}; needs {needs}")
