"""`bench audit`: diagnostics on the checkpoints of finished runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench_core.commands.options import (
    PATH,
    WORKERS,
    component,
    data_dir_option,
    faults,
    option,
    warn,
)
from bench_core.errors import Exit, UsageError

if TYPE_CHECKING:
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
@option("--method NAME", "Audit only this method; repeatable.", "methods", multiple=True)
@option("--seed N", "Audit only this seed; repeatable.", "seeds", multiple=True)
@data_dir_option
@option("--device NAME", "Measure on cpu, cuda, …  [default: the device of each run's training]")
@option("--workers N", "Audit N runs at once.  [default: one per core]", type=WORKERS)
def audit(
    runs: tuple[Path, ...],
    names: tuple[str, ...],
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    data_dir: Path | None,
    device: str | None,
    workers: int | None,
) -> None:
    """Measure diagnostics on the checkpoints of finished runs.

    Nothing is trained. RUNS are run folders, suite folders or results folders. The measurements are
    kept beside each run, and every table shows them from then on.
    """
    from tabulate import tabulate

    from bench_core.analysis.judge import label
    from bench_core.execution.remeasure import audit_runs
    from bench_core.registry import plugins
    from bench_core.report.escape import visible

    diagnostics = _validated(plugins.load(), names)
    chosen = _chosen(runs, methods, seeds)
    peers = [run.record.cell.method for run in chosen]
    heads = [diagnostic["name"].rpartition("/")[2] for diagnostic in diagnostics]
    rows, complete = [], True
    workers = workers or os.cpu_count() or 1
    for outcome in audit_runs(chosen, diagnostics, data_dir, device, workers):
        measured, cell = outcome.measurements, outcome.record.cell
        if outcome.problem is None:
            name = visible(label(cell.method, peers))
            values = [_cell(measured.get(head)) for head in heads]
            rows.append([outcome.folder.name[:12], name, str(cell.seed), *values])
            troubles = [item.details["error"] for item in measured.values() if _failed(item)]
        else:
            troubles = [f"not audited: {outcome.problem}"]
        for line in troubles:
            complete = False
            click.echo(f"{outcome.folder}: {visible(str(line))}", err=True)
    if rows:
        click.echo(tabulate(rows, headers=["run", "method", "seed", *heads], disable_numparse=True))
    sys.exit(Exit.DONE if complete else Exit.SOME_FAILED)


def _chosen(roots: Sequence[Path], methods: Sequence[str], seeds: Sequence[int]) -> list[Stored]:
    """Return the finished runs of these methods and seeds (empty: of all)."""
    from bench_core.results.scan import scan
    from bench_core.suite.cells import same_name

    stored = scan(roots)
    warn(stored.troubles)
    chosen = [
        run
        for run in sorted(stored.runs, key=lambda run: str(run.folder))
        if (not seeds or run.record.cell.seed in seeds)
        and (not methods or any(same_name(run.record.cell.method.name, name) for name in methods))
    ]
    if not chosen:
        done = {run.record.cell.method.short for run in stored.runs if run.record.status == "done"}
        asked = f" of {', '.join(methods)}" if methods else ""
        raise UsageError(
            f"{', '.join(map(str, roots))}: no finished run{asked} to audit; there are runs of "
            f"{', '.join(sorted(done)) or 'no method'}"
        )
    return chosen


def _failed(item: Measurement) -> bool:
    return "error" in item.details


def _cell(item: Measurement | None) -> str:
    """Return a measurement for the table; the reason in place of a value that means nothing."""
    if item is None or _failed(item):
        return "failed"
    if item.not_diagnostic is not None:
        return f"not diagnostic: {item.not_diagnostic}"
    return "–" if item.value is None else f"{item.value:.4g}"


def _validated(registry: Registry, texts: Iterable[str]) -> list[dict[str, Any]]:
    """Return the full name and the validated parameters of each diagnostic, or raise UsageError."""
    from bench_core.execution import validate

    asked = []
    for text in texts:
        name, options = component("--diagnostic", text)
        asked.append(("diagnostic", registry.find("diagnostic", name).full_name, options))
    diagnostics = []
    answers = validate.ask({"components": asked, "trios": []})["components"]
    for (_, name, _), answer in zip(asked, answers, strict=True):
        if "error" in answer:
            raise UsageError(answer["error"])
        for line in faults(answer):
            raise UsageError(f"--diagnostic {name}: {line}")
        if answer["across"]:
            raise UsageError(
                f"{name} compares runs: `bench leaderboard` computes it from stored results"
            )
        diagnostics.append({"name": name, "params": answer["params"]})
    return diagnostics
