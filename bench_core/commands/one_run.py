"""Tell of one run: `bench show`, `why`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench_core.commands.options import (
    PATH,
    Paths,
    gathered,
    json_option,
    option,
    print_json,
    results_argument,
    shown_folders,
    terminal_width,
    write_suite_file,
)
from bench_core.errors import UsageError
from bench_core.report.text.terminal import echo

if TYPE_CHECKING:
    from bench_core.analysis.verdicts.rows import Row, Run
    from bench_core.report.view import View
    from bench_core.results.scan import Stored


@click.command()
@click.argument("run")
@results_argument
@option("--suite", "Print the suite file that makes this run again.", "as_suite")
@option("-o --output FILE", "With --suite: write it to this file, with its schema for editors.")
@json_option
def show(run: str, results: Paths, as_suite: bool, output: Path | None, as_json: bool) -> None:
    """Show one run.

    That is its measurements, its verdict and the reasons, and where its numbers come from. RUN is
    its folder, or the first letters of its identity in RESULTS  [default: results], else in the
    reference.
    """
    from bench_core.report.pages.provenance import suite_of
    from bench_core.report.single import text
    from bench_core.report.tables.data import of_run
    from bench_core.report.text.escape import visible
    from bench_core.report.text.terminal import say
    from bench_core.results.logs import LOG

    if (output is not None) > as_suite:
        raise UsageError("-o writes a suite file: add --suite")
    if as_suite and as_json:
        raise UsageError("--suite writes YAML: leave out --json")
    suite, row, item, also = _counted_run(run, results)
    if output is not None:
        for path in write_suite_file(output, suite_of(item.record)):
            echo(path)
    elif as_suite:
        echo(suite_of(item.record), nl=False)
    elif as_json:
        print_json(of_run(suite, row, item))
    else:
        say(text(suite, row, item, terminal_width()))
        log = suite.results.run_folder(item.record) / LOG
        if item.record.status != "done" and log.is_file():
            echo(f"log         {visible(str(log))}")
        if also:
            echo(f"also in     {visible(also)}")


def _counted_run(run: str, results: Paths) -> tuple[View, Row, Run, str]:
    """Find a run that counts, by its folder or the first letters of its identity.

    Of an identity in several suites, a run that is done comes first; the text names the others.
    """
    from bench_core.analysis.distance import attach
    from bench_core.analysis.find_run import also_in, find_run, run_folder, the_one
    from bench_core.report.view import view

    identity = run
    if folder := run_folder(run):
        results, identity = results or (folder.parent,), folder.resolve().name
    roots = shown_folders(results)
    reference = () if folder else _suites_of_reference(identity, roots)
    if not results and not roots[0].exists():
        results, roots = reference, shown_folders(reference)
    counted = [
        (suite, row, item)
        for suite in map(view, map(attach, gathered(results)[0]))
        for _, row, item in suite.runs
    ]
    first = sorted(counted, key=lambda own: own[2].record.status != "done")
    runs = {own[2].record.identity: own for own in reversed(first)}
    if not any(name.startswith(identity) for name in runs):
        if reference and results != reference:
            return _counted_run(run, reference)
        raise _uncounted(find_run(identity, roots))
    chosen = runs[the_one(identity, runs, roots)]
    if folder and (named := find_run(run, roots)).record.checksum != chosen[2].record.checksum:
        raise _uncounted(named)
    record, *every = (
        (own[2].record, own[0].results.run_folder(own[2].record)) for own in (chosen, *counted)
    )
    return *chosen, also_in(*record, every)


def _uncounted(run: Stored) -> UsageError:
    """Return the error for a run that no table counts."""
    from bench_core.results.record import cell_key
    from bench_core.results.reference import installed

    what, shipped = f"{run.folder}: no table counts this run", installed()
    if run.record.original and shipped and shipped.of_cell(cell_key(run.record.cell)):
        return UsageError(f"{what}: the reference has a run of its cell, which counts")
    return UsageError(f"{what}; `bench why {run.folder}` says more")


def _suites_of_reference(identity: str, roots: Sequence[Path]) -> Paths:
    """Return the suites of the reference with a run that begins so, if no run in `roots` does."""
    from bench_core.analysis.find_run import NO_RUN
    from bench_core.results.reference import installed

    shipped = installed()
    folders = [folder for root in roots for depth in ("*", "*/*") for folder in root.glob(depth)]
    if shipped is None or any(folder.name.startswith(identity) for folder in folders):
        return ()
    if shipped.trouble:
        raise UsageError(f"{identity}: no run here begins like this; {shipped.trouble}")
    names = [name for name in shipped.entries if name.startswith(identity)]
    missing = [str(root) for root in roots if not root.exists()]
    if not names and missing:
        lacking = f"no folder {', '.join(missing)} here"
        none = "no run of the reference begins like this"
        raise UsageError(f"{identity}: {none}, and {lacking}; {NO_RUN}")
    return tuple(sorted({shipped.place(name).parent for name in names}))


@click.command()
@click.argument("run")
@results_argument
@click.option("--results", "further", multiple=True, type=PATH, hidden=True)
@json_option
def why(run: str, results: Paths, further: Paths, as_json: bool) -> None:
    """Say why a run was trained or reused.

    It also names the nearest run and how the two differ.

    RUN is its folder, or the first letters of its identity in RESULTS  [default: results], else in
    the reference. Its neighbours lie there too.
    """
    from bench_core.analysis.find_run import find_run, run_folder
    from bench_core.analysis.why import explain, explained
    from bench_core.report.text.escape import visible
    from bench_core.results.scan import scan

    home = run_folder(run)
    roots = (*results, *further) or ((home.absolute().parent,) if home else ())
    folders = shown_folders(roots)
    if not home:
        folders = [*_suites_of_reference(run, folders)] or folders
    stored, runs = find_run(run, folders), scan(folders).runs
    if as_json:
        return print_json(explained(stored, runs))
    for line in explain(stored, runs):
        echo(visible(line))
    return None
