"""`bench audit`: diagnostics on the checkpoints of finished runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench_core.commands.options import (
    PATH,
    WORKERS,
    component,
    data_dir_option,
    interruptible,
    option,
    shown_folders,
    warn,
)
from bench_core.commands.suggestions import Seed
from bench_core.errors import Exit, UsageError, by_reason
from bench_core.names import bare_name
from bench_core.printable import few
from bench_core.report.text.terminal import echo

if TYPE_CHECKING:
    from bench_core.execution.planning.job import Listed
    from bench_core.registry.registry import Registry
    from bench_core.results.record import Measurement
    from bench_core.results.scan import Stored


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

    from bench_core.analysis.verdicts.labels import label
    from bench_core.execution.devices import cores
    from bench_core.execution.remeasure import audit_runs
    from bench_core.registry import rule_files
    from bench_core.report.text.escape import visible

    registry, rules = rule_files.load(methods)
    diagnostics = _validated(registry, names)
    chosen = _chosen(shown_folders(runs), rules, seeds, no_floors)
    rule_files.add(registry, (run.record.cell.method.name for run in chosen))
    peers = [run.record.cell.method for run in chosen]
    heads = [bare_name(diagnostic["name"]) for diagnostic in diagnostics]
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
    from bench_core.analysis.verdicts.roles import is_floor
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
        if not own:
            places = ", ".join(map(str, roots))
            raise UsageError(f"{places}: no finished run to audit: none has weights to measure")
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


def _validated(registry: Registry, texts: Iterable[str]) -> list[Listed]:
    """Return each diagnostic with its validated parameters and code, or raise UsageError."""
    from bench_core.execution.planning import validate
    from bench_core.execution.planning.examination import option_faults
    from bench_core.execution.planning.job import digested, measuring

    asked = []
    for text in texts:
        name, options = component("--diagnostic", text)
        asked.append(("diagnostic", registry.find("diagnostic", name).full_name, options))
    diagnostics: list[Listed] = []
    examined = validate.ask({"components": asked})["components"]
    for (_, name, _), answer in zip(asked, examined, strict=True):
        if "error" in answer:
            raise UsageError(answer["error"])
        for line in option_faults(answer):
            raise UsageError(f"--diagnostic {name}: {line}")
        if answer["across"]:
            raise UsageError(
                f"{name} compares runs: `bench leaderboard` computes it from stored results"
            )
        diagnostics.append(digested(measuring(answer)))
    return diagnostics
