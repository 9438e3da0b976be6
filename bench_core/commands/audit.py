"""`bench audit`: a diagnostic on the checkpoints of finished runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench_core.commands.options import PATH
from bench_core.errors import Exit, UsageError

if TYPE_CHECKING:
    from bench_core.registry.registry import Registry
    from bench_core.results.record import Measurement


@click.command()
@click.argument("runs", nargs=-1, required=True, type=PATH)
@click.option(
    "--diagnostic",
    "names",
    multiple=True,
    required=True,
    metavar="NAME",
    help="Or name[option=value]; repeatable.",
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME",
    help="Only runs of this method (repeatable).",
)
@click.option(
    "--seed",
    "seeds",
    multiple=True,
    type=int,
    metavar="N",
    help="Only runs of this seed (repeatable).",
)
@click.option(
    "--data-dir",
    envvar="BENCH_DATA_DIR",
    show_envvar=True,
    type=PATH,
    help="Where data files lie [data].",
)
@click.option(
    "--device", metavar="NAME", help="cpu, cuda, …; default: the one that each run was trained on."
)
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Runs at once; default: one per core.",
)
def audit(
    runs: tuple[Path, ...],
    names: tuple[str, ...],
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    data_dir: Path | None,
    device: str | None,
    workers: int | None,
) -> None:
    """Measure diagnostics on the checkpoints of finished runs. Nothing is trained.

    RUNS are run folders, suite folders or results folders. What is measured is kept beside each run and counts in every
    table from then on.
    """
    from tabulate import tabulate

    from bench_core.analysis.judge import label
    from bench_core.execution.remeasure import audit_runs, choose
    from bench_core.registry import plugins
    from bench_core.report.escape import visible
    from bench_core.results.scan import scan
    from bench_core.suite.cells import same_name

    registry = plugins.load()
    listed = resolved(registry, names)
    found = scan(runs)
    for line in found.troubles:
        click.echo(f"warning: {line}", err=True)
    chosen = choose(
        found.runs,
        lambda record: (
            (not methods or any(same_name(record.cell.method.name, name) for name in methods))
            and (not seeds or record.cell.seed in seeds)
        ),
    )
    if not chosen:
        there = sorted(
            {run.record.cell.method.short for run in found.runs if run.record.status == "done"}
        )
        asked = f" of {', '.join(methods)}" if methods else ""
        raise UsageError(
            f"{', '.join(map(str, runs))}: no finished run{asked} to audit; there are runs of {', '.join(there) or 'no method'}"
        )
    peers = [run.record.cell.method for run in chosen]
    short = [entry["name"].rpartition("/")[2] for entry in listed]
    rows, problems = [], 0
    for outcome in audit_runs(chosen, listed, data_dir, device, workers or os.cpu_count() or 1):
        who = [
            outcome.folder.name[:12],
            visible(label(outcome.record.cell.method, peers)),
            str(outcome.record.cell.seed),
        ]
        if outcome.problem is not None:
            problems += 1
            click.echo(f"{outcome.folder}: not audited: {visible(outcome.problem)}", err=True)
            continue
        failed = [m.details["error"] for m in outcome.measurements.values() if "error" in m.details]
        problems += bool(failed)
        for line in failed:
            click.echo(f"{outcome.folder}: {visible(str(line))}", err=True)
        rows.append(who + [shown(outcome.measurements.get(name)) for name in short])
    if rows:
        click.echo(tabulate(rows, headers=["run", "method", "seed", *short], disable_numparse=True))
    sys.exit(Exit.SOME_FAILED if problems else Exit.DONE)


def shown(found: Measurement | None) -> str:
    """A measurement in a table; one that means nothing never as a number alone."""
    if found is None or "error" in found.details:
        return "failed"
    if found.not_diagnostic is not None:
        return f"not diagnostic: {found.not_diagnostic}"
    return "–" if found.value is None else f"{found.value:.4g}"


def resolved(registry: Registry, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Full name and validated parameters of each diagnostic. Raises UsageError with what is wrong."""
    from bench_core.execution import validate
    from bench_core.suite.component import component_option

    wanted = []
    for text in names:
        value = component_option("--diagnostic", text, ()).value
        entry: Mapping[str, Any] = value if isinstance(value, dict) else {"name": value}
        params = {key: item for key, item in entry.items() if key != "name"}
        wanted.append(("diagnostic", registry.find("diagnostic", entry["name"]).full_name, params))
    listed = []
    for (_, name, _), told in zip(
        wanted, validate.ask({"components": wanted, "trios": []})["components"], strict=True
    ):
        if "error" in told:
            raise UsageError(told["error"])
        for path, what, hint, _ in told.get("invalid", ()):
            raise UsageError(
                f"--diagnostic {name}: {'.'.join(map(str, path))}: {what}"
                + (f"; {hint}" if hint else "")
            )
        if told["across"]:
            raise UsageError(
                f"{name} compares runs: `bench leaderboard` computes it from what is stored"
            )
        listed.append({"name": name, "params": told["params"]})
    return listed
