"""Work on results folders: `bench merge`, `verify`, `replicate`, `clean`, `audit`."""

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
    WORKERS,
    component,
    data_dir_option,
    interruptible,
    json_option,
    option,
    option_faults,
    own_folders,
    print_json,
    refuse_empty,
    results_argument,
    shown_folders,
    warn,
)
from bench_core.commands.suggestions import Seed
from bench_core.errors import Exit, StoreError, UsageError, by_reason
from bench_core.printable import cut, few
from bench_core.report.text.terminal import echo

if TYPE_CHECKING:
    from bench_core.registry.registry import Registry
    from bench_core.results.record import Measurement
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
        echo(f"conflict: {line}", err=True)
    if result.conflicts:
        wrote = "these runs stay as another bench wrote them meanwhile; the others were merged"
        wrote = wrote if result.late else f"nothing was written to {into}"
        settle = "`bench replicate` says which run holds; leave the other one out"
        echo(f"error: {len(result.conflicts)} conflicts; {wrote}; {settle}", err=True)
        sys.exit(Exit.SOME_FAILED)
    counts = [f"{result.count(fate)} {word}" for fate, word in WORDS.items() if result.count(fate)]
    if result.measured:
        counts.append(f"{plural(result.measured, 'late measurement')} copied")
    echo(f"{into}: {len(result.fates)} runs: {', '.join(counts) or 'nothing to copy'}")
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
        echo(f"{total} runs: {total - faulty} without fault, {faulty} with{more}")
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
@option("--device TEXT", "cpu, cuda, cuda:1, …", default="cpu")
@option("--threads N", "Train with N threads [those of each run].", type=THREADS)
@option("--workers N", "Cells at once.", type=WORKERS)
@option("--executor NAME", "local, ray, slurm, or a plugin's.", default="local")
def replicate(
    results: Path,
    sample: str,
    each_row: bool,
    seed: int | None,
    into: Path | None,
    data_dir: Path | None,
    device: str,
    threads: int | None,
    workers: int | None,
    executor: str,
) -> None:
    """Run a sample of runs again and record whether they agree.

    In the same environment and with the same code runs must be equal bit by bit. Elsewhere, and
    with another number of threads, their accuracies must lie within 2 points and the same
    diagnostics must fire. The leaderboard of RESULTS shows the outcome. A new run is trained here,
    unless you trained it before.
    """
    from bench_core.commands.progress import choose
    from bench_core.execution.executors import Options
    from bench_core.execution.planning.plan import names_of
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
    execute = executor_named(executor, registry)
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
        replicas, problems = again.carry_out(planned, execute, data_dir, Options(workers), choose)
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
    how = ", ".join(f"{count} {word}" for count, word in counts if count)
    more = f", {missing} could not be run" if missing else ""
    echo(f"{agreed} of {len(drawn)} agree{f' ({how})' if how else ''}{more}")
    sys.exit(Exit.DONE if agreed == len(drawn) and not problems else Exit.SOME_FAILED)


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


@click.command()
@click.argument("runs", nargs=-1, required=True, type=PATH)
@option(
    "--diagnostic NAME",
    "Measure this diagnostic, NAME or NAME[option=value]; repeatable.",
    "names",
    multiple=True,
    required=True,
)
@option(
    "--method NAME", "Audit only this method or ./my_rule.py; repeatable.", "methods", multiple=True
)
@option("--seed N", "Audit only this seed; repeatable.", "seeds", multiple=True, type=Seed())
@option("--no-floors", "Leave out runs with frozen blocks.")
@data_dir_option
@option("--device NAME", "Measure on cpu, cuda, …  [default: the device of each run's training]")
@option("--workers N", "Audit N runs at once.  [default: one per core]", type=WORKERS)
def audit(
    runs: tuple[Path, ...],
    names: tuple[str, ...],
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    no_floors: bool,
    data_dir: Path | None,
    device: str | None,
    workers: int | None,
) -> None:
    """Measure diagnostics on the checkpoints of finished runs.

    Nothing is trained. RUNS are run folders, suite folders, results folders or suites. The
    measurements are kept beside each run, and every table shows them from then on.
    """
    from tabulate import tabulate

    from bench_core.analysis.verdicts.judge import label
    from bench_core.execution.devices import cores
    from bench_core.execution.remeasure import audit_runs
    from bench_core.registry import rule_files
    from bench_core.report.text.escape import visible

    registry, rules = rule_files.load(methods)
    diagnostics = _validated(registry, names)
    chosen = _chosen(shown_folders(runs), rules, seeds, no_floors)
    rule_files.add(registry, (run.record.cell.method.name for run in chosen))
    peers = [run.record.cell.method for run in chosen]
    heads = [diagnostic["name"].rpartition("/")[2] for diagnostic in diagnostics]
    rows: list[list[str]] = []
    faults: list[tuple[Path, str]] = []
    workers = workers or cores()
    with interruptible("finished measurements are kept; the same command makes all of them again"):
        outcomes = list(audit_runs(chosen, diagnostics, data_dir, device, workers))
    for outcome in outcomes:
        measured, cell = outcome.measurements, outcome.record.cell
        if outcome.problem is None:
            name = visible(label(cell.method, peers, outcome.record.defaults()))
            values = [_cell(measured.get(head)) for head in heads]
            rows.append([outcome.folder.name[:12], name, str(cell.seed), *values])
            raised = [item.raised for item in measured.values() if item.raised]
        else:
            raised = [f"not audited: {outcome.problem}"]
        faults += [(outcome.folder, visible(str(line))) for line in raised]
    for line in by_reason(faults):
        echo(line, err=True)
    if rows:
        echo(tabulate(rows, headers=["run", "method", "seed", *heads], disable_numparse=True))
    sys.exit(Exit.SOME_FAILED if faults else Exit.DONE)


def _chosen(
    roots: Sequence[Path], methods: Sequence[str], seeds: Sequence[int], no_floors: bool
) -> list[Stored]:
    """Return the finished runs of these methods and seeds (empty: of all).

    Compact runs, such as rows of the reference, have no weights to measure.
    """
    from bench_core.analysis.verdicts.judge import is_floor
    from bench_core.report.text.numbers import plural
    from bench_core.results.scan import scan
    from bench_core.suite.cells import same_name

    stored = scan(roots)
    warn(stored.troubles)
    if compact := sum(bool(run.record.original) for run in stored.runs):
        warn([f"{plural(compact, 'compact run')} left out: such a run has no weights to measure"])
    chosen = [
        run
        for run in sorted(stored.runs, key=lambda run: str(run.folder))
        if (not seeds or run.record.cell.seed in seeds)
        and not run.record.original
        and not (no_floors and is_floor(run.record))
        and (not methods or any(same_name(run.record.cell.method.name, name) for name in methods))
    ]
    if not chosen:
        own = [run.record for run in stored.runs if not run.record.original]
        done = [record for record in own if record.status == "done"]
        there = sorted({record.cell.method.short for record in done})
        numbers = sorted({record.cell.seed for record in done})
        asked = f" of {', '.join(methods)}" if methods else ""
        asked += f" with seed {', '.join(map(str, seeds))}" if seeds else ""
        with_seeds = f", with the seeds {few([*map(str, numbers)])}" if seeds and numbers else ""
        raise UsageError(
            f"{', '.join(map(str, roots))}: no finished run{asked} to audit; there are runs of "
            f"{', '.join(there) or 'no method'}{with_seeds}"
        )
    return chosen


def _cell(item: Measurement | None) -> str:
    """Return a measurement for the table; the reason in place of a value that means nothing."""
    if item is None or item.raised:
        return "failed"
    if item.not_diagnostic is not None:
        return f"not diagnostic: {item.not_diagnostic}"
    return "–" if item.value is None else f"{item.value:.4g}"


def _validated(registry: Registry, texts: Iterable[str]) -> list[dict[str, Any]]:
    """Return the full name and the validated parameters of each diagnostic, or raise UsageError."""
    from bench_core.execution.planning import validate

    asked = []
    for text in texts:
        name, options = component("--diagnostic", text)
        asked.append(("diagnostic", registry.find("diagnostic", name).full_name, options))
    diagnostics = []
    answers = validate.ask({"components": asked, "trios": []})["components"]
    for (_, name, _), answer in zip(asked, answers, strict=True):
        if "error" in answer:
            raise UsageError(answer["error"])
        for line in option_faults(answer):
            raise UsageError(f"--diagnostic {name}: {line}")
        if answer["across"]:
            raise UsageError(
                f"{name} compares runs: `bench leaderboard` computes it from stored results"
            )
        diagnostics.append({"name": name, "params": answer["params"]})
    return diagnostics
