"""Take finished cells of results folders into the reference: `python -m bench_reference.add`.

Only a cell that was trained to its end by code of today's `numerics` comes in. A cell that is there
already stays as it is, so the command may be repeated after every cell; a further run of it comes
in beside it if it measured more, as another suite asks. In the reference itself the list of its
cells is written for every installed suite, whichever suite trained them; elsewhere for
those of `--suite`. In a checkout docs/claims.md and the README's part about the reference are
written anew.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import click
from bench_reference import readme

from bench_core import training
from bench_core.analysis.gather import gather
from bench_core.errors import BenchError, UsageError
from bench_core.execution.planning.fingerprint import code_files
from bench_core.execution.planning.plan import Plan, make_plan
from bench_core.execution.runner import default_data_dir, described
from bench_core.registry import plugins
from bench_core.registry.registry import base_class, resolve
from bench_core.report.all_claims import all_claims
from bench_core.results import compact, files, store, suite_folder
from bench_core.results.hashing import canonical
from bench_core.results.record import Measurement, RunRecord, cell_key, now
from bench_core.results.reference import (
    CELLS,
    Entry,
    Reference,
    installed,
    write_cells,
    write_code,
)
from bench_core.results.scan import Stored, run_folders, scan
from bench_core.sharing.submission import distances, write_compact
from bench_core.sharing.verify import faults
from bench_core.suite.load import installed_suites, load_suite
from bench_core.training import NUMERICS

HERE = Path(__file__).resolve().parent
VERSION = "1"  # of the reference: another one when a row is replaced, see README.md


@cache
def _numerics(kind: str, name: str) -> int | None:
    """Return the `numerics` of a component as installed; None if it is not."""
    try:
        item = plugins.load().find(kind, name)  # type: ignore[arg-type]
    except UsageError:
        return None
    return int(resolve(item, base_class(kind)).numerics)  # type: ignore[arg-type]


def lapsed(record: RunRecord) -> list[str]:
    """Name the parts of a run whose `numerics` are other ones now."""
    current: dict[str, int | None] = {"training": NUMERICS}
    current |= {kind: _numerics(kind, ref.name) for kind, ref in record.cell.refs.items()}
    measured = [key for key in record.numerics if key.startswith("diagnostic ")]
    current |= {key: _numerics("diagnostic", key.partition(" ")[2]) for key in measured}
    pairs = [(key, record.numerics.get(key), value) for key, value in current.items()]
    return [f"{key} {was}, now {value or 'gone'}" for key, was, value in pairs if was != value]


def is_there(record: RunRecord, reference: Reference) -> bool:
    """Decide whether the reference has a run, or one of its cell that serves as well.

    Such a run has not lapsed, and measured all that this one measured.
    """
    rows = (reference.read(name).record for name in reference.of_cell(cell_key(record.cell)))
    return record.identity in reference.entries or any(
        record.numerics.keys() <= row.numerics.keys() and not lapsed(row) for row in rows
    )


def fault(run: Stored, commit: str, reference: Reference) -> str:
    """Say why a run may not come in; empty if it may."""
    record = run.record
    if record.suite != run.suite:
        return f"its folder is not that of its suite, {record.suite}"
    if record.environment.keys() & {"reference", "lapsed"}:
        return "it is a row of a reference"
    if record.original:
        return "it is a compact run, as of a submission; its author can add the original"
    if record.status != "done" or record.epochs != record.cell.last_epoch:
        return f"{record.status} after {record.epochs} of {record.cell.last_epoch} epochs"
    if record.environment.get("dirty"):
        return "its code had edits that were not committed"
    if not (commit or record.environment.get("commit")):
        return "it names no commit; give it with --commit"
    if parts := lapsed(record):
        return f"today's code gives other numbers (numerics: {', '.join(parts)})"
    folders = (run.folder.parent, reference.folder / run.suite)
    own, known = (suite_folder.saved(folder).diagnostics for folder in folders)
    both = sorted(own.keys() & known.keys())
    if other := [name for name in both if canonical(own[name]) != canonical(known[name])]:
        return f"the other rows of its suite measured {', '.join(other)} with other options"
    return "; ".join(faults(run))


def add(
    run: Stored, reference: Reference, commit: str, distance: Measurement | None = None
) -> Reference:
    """Write a run in compact form, and return the reference with it. Raises StoreError."""
    about = {"reference": reference.version, **({"commit": commit} if commit else {})}
    final = reference.folder / run.suite / run.record.identity
    record = write_compact(run, final, about, distance)
    entry = Entry(suite=record.suite, cell=cell_key(record.cell), checksum=record.checksum or "")
    return replace(reference, entries={**reference.entries, record.identity: entry})


def unmarked(reference: Reference) -> Iterator[tuple[Stored, list[str]]]:
    """Yield the runs that have lapsed and do not say so, with the parts."""
    for run in reference.runs()[0]:
        if not run.record.environment.get("lapsed") and (parts := lapsed(run.record)):
            yield run, parts


def marked(reference: Reference) -> Reference:
    """Let every run that has lapsed say so, and return the reference. Raises StoreError."""
    entries = dict(reference.entries)
    for run, parts in unmarked(reference):
        raw = {key: value for key, value in store.raw(run.folder).items() if key != "checksum"}
        raw["environment"] = {**raw["environment"], "lapsed": f"numerics: {', '.join(parts)}"}
        text = compact.sealed_text(raw)
        files.replace_file(run.folder / store.RUN, text, parts=2)
        name = run.record.identity
        entries[name] = entries[name].model_copy(
            update={"checksum": store.read(run.folder).checksum}
        )
    reference = replace(reference, entries=entries)
    write_cells(reference)
    return reference


def faults_of(reference: Reference) -> list[str]:
    """Return a line for each row that is damaged or not named, or lapsed and silent on it."""
    lines = reference.runs()[1]
    for folder in sorted(run_folders(reference.folder)):
        name = folder.name
        if name not in reference.entries or reference.place(name) != folder:
            lines.append(f"{folder}: {CELLS} does not name it; add its results again, or remove it")
    remedy = "it has lapsed; train it again, or mark it with --lapse"
    lines += [
        f"{run.folder}: {', '.join(own)} (numerics): {remedy}" for run, own in unmarked(reference)
    ]
    return lines


def take(
    runs: Iterable[Stored], states: Mapping[str, Measurement], reference: Reference, commit: str
) -> tuple[Reference, Counter[str]]:
    """Add the runs that may come in, say why others may not, and count both. Raises StoreError.

    states  identity → distance to bp
    """
    counts: Counter[str] = Counter()
    for run in runs:
        if is_there(run.record, reference):
            counts["there already"] += 1
            continue
        distance = states.get(run.record.identity)
        reason = fault(run, commit, reference)
        if not reason and distance is not None and distance.value is None:
            reason = f"its distance to bp: {distance.not_diagnostic}"
        if reason:
            say([f"{run.folder}: left out: {reason}"])
        else:
            reference = add(run, reference, commit, distance)
        counts["left out" if reason else "added"] += 1
    return reference, counts


def suite_of(folder: Path) -> dict[str, Any]:
    """Read suite.json of a results folder, whole. Raises UsageError."""
    try:
        content = suite_folder.content(folder)
    except store.Unreadable as reason:
        raise UsageError(
            f"{folder / suite_folder.SUITE}: {reason}; `bench run` writes it"
        ) from None
    if lacking := [key for key in ("cells", "diagnostics", "file") if key not in content]:
        what = f"lacks {', '.join(lacking)}; `bench run` writes it anew"
        raise UsageError(f"{folder / suite_folder.SUITE}: {what}")
    return {**content, "name": folder.resolve().name}


def list_cells(content: dict[str, Any], reference: Reference) -> None:
    """Write suite.json of a suite, with the cells that the reference has.

    The options of the diagnostics with which earlier rows were measured stay.
    """
    folder = reference.folder / content["name"]
    older = suite_folder.read(folder) or {}
    both = (older.get("cells", {}), content["cells"])
    known = {k: name for own in both for k, name in own.items() if name in reference.entries}
    if not known:
        return
    with files.writing(folder):
        files.make_folder(folder)
    file, before = content["file"], older.get("file")
    if before and file["digest"] == before["digest"] and file["cells"] is None:
        file = before  # another command has listed the cells of the suite's file
    kept = {key: value for key, value in content.items() if key not in ("decisions", "used")}
    kept["diagnostics"] = {**content["diagnostics"], **older.get("diagnostics", {})}
    suite_folder.write(folder, {**kept, "cells": known, "file": file})


def list_suites(names: Iterable[str], reference: Reference) -> None:
    """Write suite.json of suites by their names, with the cells that the reference has."""
    for plan in _plans(names, reference):
        list_cells(described(plan), reference)


def _plans(names: Iterable[str], reference: Reference) -> Iterator[Plan]:
    registry, home = plugins.load(), reference.folder.parent
    for name in dict.fromkeys(names):
        suite = load_suite(name)
        try:
            yield make_plan(suite, registry, home, default_data_dir(), reference=reference)
        except BenchError as error:  # such as data that this machine lacks
            say([f"{name}: its cells are not listed: {error}"])


def code_here() -> dict[str, str]:
    """Return module → digest of the code that decides the numbers of the built-in components."""
    modules = [f"bench_core.training.{item.name}" for item in iter_modules(training.__path__)]
    for folder in ("archs", "datasets", "diagnostics", "methods"):
        package = import_module(f"bench_plugins.{folder}")
        modules += [f"{package.__name__}.{item.name}" for item in iter_modules(package.__path__)]
    return code_files([training.__name__, *modules])


def say(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line, err=True)


@click.command(help=__doc__)
@click.argument("results", nargs=-1, type=click.Path(path_type=Path))
@click.option("--commit", default="", help="The commit of the code, for runs that name none.")
@click.option("--suite", "suites", multiple=True, help="List the cells of this suite; repeatable.")
@click.option(
    "--without-states",
    is_flag=True,
    help="Take also runs whose .safetensors stayed on the machine that trained them.",
)
@click.option("--into", type=click.Path(path_type=Path), default=HERE, help="The reference.")
@click.option(
    "--check",
    is_flag=True,
    help="Fail if a row is damaged or not named, or lapsed and silent on it.",
)
@click.option("--lapse", is_flag=True, help="Let the rows that have lapsed say so.")
@click.option(
    "--vouch",
    is_flag=True,
    help="State that the code of today gives the numbers of the rows that have not lapsed.",
)
def main(
    results: Sequence[Path],
    commit: str,
    suites: Sequence[str],
    without_states: bool,
    into: Path,
    check: bool,
    lapse: bool,
    vouch: bool,
) -> None:
    known = installed(into)
    reference = known or Reference(into, VERSION)
    if reference.trouble:
        raise click.ClickException(reference.trouble)
    if known is None and (check or lapse or vouch):
        raise click.ClickException(f"{into}: is no reference: it has no {CELLS}")
    if lapse:
        reference = marked(reference)
    if check or lapse:
        lines = faults_of(reference)
        say(lines)
        sys.exit(bool(lines))
    if vouch:
        write_code(reference, code_here())
        reference = installed(into) or reference
    stored = scan(results, states=not without_states)
    say(stored.troubles)
    contents = [suite_of(folder) for folder in sorted({run.folder.parent for run in stored.runs})]
    reference, counts = take(stored.runs, distances(gather(results)[0]), reference, commit)
    for content in contents:
        list_cells(content, reference)
    write_cells(reference)  # a plan reads the runs with the checksums of suite.json
    reference = installed(into) or reference
    list_suites([*suites, *(installed_suites() if into == HERE else ())], reference)
    write_cells(reference)
    if into == HERE and (HERE.parent / "docs").is_dir():
        text, troubles = all_claims()
        files.replace_file(HERE.parent / "docs" / "claims.md", text)
        say(troubles)
        readme.write()
    told = ", ".join(f"{count} {word}" for word, count in counts.items()) or "no run"
    click.echo(f"{into}: {len(reference.entries)} runs ({told}); {now()}")


if __name__ == "__main__":
    try:
        main()
    except (BenchError, store.Unreadable) as error:  # also a damaged row
        sys.exit(f"error: {error}")
