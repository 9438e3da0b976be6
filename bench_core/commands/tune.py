"""`bench tune`: search the recipe and the options of every rule, then train the best of each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import click

from bench_core.commands.options import option, warn
from bench_core.commands.run import (
    EXECUTOR_OPTIONS,
    NO_REFERENCE,
    SEEDS,
    SUITE_OPTIONS,
    broken,
    decorated,
    how_of,
    loaded,
    show,
)
from bench_core.commands.suggestions import SuiteCommand
from bench_core.errors import Exit
from bench_core.execution.events import Event, ended
from bench_core.report.text.terminal import echo

if TYPE_CHECKING:
    from bench_core.execution.planning.plan import Plan, PlannedCell
    from bench_core.execution.tuning.trials import Tuning
    from bench_core.results.record import RunRecord


class _Noting(AbstractContextManager["_Noting"]):
    """A display that also notes each cell that has ended."""

    def __init__(self, display: Any, on_end: Callable[[PlannedCell, RunRecord], None]) -> None:
        self.display, self.on_end = display, on_end

    def __enter__(self) -> _Noting:
        self.display.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.display.__exit__(*exc)

    def event(self, cell: PlannedCell, event: Event) -> None:
        self.display.event(cell, event)
        if end := ended(event):
            self.on_end(cell, end["record"])


@click.command(cls=SuiteCommand)
@decorated(each for each in SUITE_OPTIONS + EXECUTOR_OPTIONS if each not in (SEEDS, NO_REFERENCE))
@option("--trials N", "Trials of every rule.  [default: the suite's]", type=click.IntRange(1))
@option("--seed N", "Seed of sampler and trials.  [default: the suite's]", type=click.IntRange(0))
@option("--dry-run", "Say what would run, and at what cost.")
def tune(
    suite: str,
    trials: int | None,
    seed: int | None,
    dry_run: bool,
    wants_report: bool,
    **options: Any,
) -> None:
    """Search settings for every rule, with equal trials for each.

    bp is tuned too, as the ceiling.

    The suite's section `search` says what may change. Trials are scored on held-out training
    samples. The best values of each rule are then trained with the suite's seeds. tuning.json in
    the suite folder has every trial. The same command continues a search that was stopped.
    """
    from bench_core.commands.progress import choose
    from bench_core.execution.tuning.trials import Tuning

    how = how_of(options)
    given = {"trials": trials, "seed": seed}
    options["overrides"] += tuple(
        f"search.{key}={value}" for key, value in given.items() if value is not None
    )
    content, registry = loaded(suite, options)
    how.check(registry)
    tuning = Tuning(
        content, registry, options["results"], options["data_dir"], options["retry_failed"]
    )
    warn(broken(registry))
    if dry_run:
        echo(_cost(tuning))
        return

    def carry(plan: Plan, on_end: Callable[[PlannedCell, RunRecord], None]) -> list[RunRecord]:
        return how.run(plan, registry, lambda cells: _Noting(choose(cells), on_end))

    if unfinished := tuning.run(carry):
        echo(unfinished, err=True)
        sys.exit(Exit.SOME_FAILED)
    without = list(tuning.without_result())
    warn(without)
    plan, cells = tuning.winners()
    tuning.won(cells)
    show(plan, how.run(plan, registry, choose), wants_report, failed=bool(without))


def _cost(tuning: Tuning) -> str:
    """Say how many cells a search has, and estimate their cost from finished cells like them."""
    from bench_core.results.duration import Past, spoken
    from bench_core.results.ledger import TRIALS
    from bench_core.results.scan import scan

    rules, trials, seeds = tuning.contenders, tuning.search.trials, len(tuning.suite.seeds)
    per_rule = seeds * (2 if tuning.suite.floors else 1)
    roots = [root for root in (tuning.results, tuning.folder / TRIALS) if root.is_dir()]
    past = Past([run.record for run in scan(roots).runs])
    *there, plan = tuning.there()
    done, ended = sum(there), there[0] == len(rules) * trials
    with_winner = len(rules) - len(list(tuning.without_result())) if ended else len(rules)
    cells = len(rules) * trials + with_winner * per_rule
    left = [cell for cell in plan.cells if cell.action == "run"]
    costs = [past.estimate(cell.cell, cell.device, cell.begun) for cell in left]
    whole = [past.estimate(cell.cell, cell.device) for cell in left]
    known, full = ([each.seconds for each in some if each] for some in (costs, whole))
    cost = "unknown"
    if len(known) == len(left):  # the others, which are not drawn yet, take as long as these
        rest = max(0, cells - done - len(left)) * sum(full) / max(len(full), 1)
        cost = f"about {spoken(sum(known) + rest)} of one worker"
    floors = " with their floors" if tuning.suite.floors else ""
    reused = f", {done} there already" if done else ""
    return (
        f"{tuning.suite.name}: {len(rules)} rules × {trials} trials, then the best of each"
        f"{floors} × {seeds} seeds: {cells} cells{reused}\n"
        f"rules: {', '.join(one.key for one in rules)}\ncost: {cost}"
    )
