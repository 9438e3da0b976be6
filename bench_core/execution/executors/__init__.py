"""How the cells of a plan are carried out, and where.

An executor is a callable

    execute(cells, job, on_event, options) -> None

that an installed distribution brings through the hook `bench_executors`; ours are `local`, `ray` and `slurm`. It must leave a run
folder for every cell, whatever happens to it, and give the same bits as every other.

    cells     the cells to run, in the plan's order
    job       cell → what a worker needs, plain JSON values (`bench_core.execution.runner`)
    on_event  hears of {"event": "start"}, {"event": "epoch", "row": …} and {"event": "end", "record": …}, or, where another
              runner was faster, {"event": "reused", "record": …}

Raises StoreError when the results folder cannot be written, UsageError when there is nothing to execute on, KeyboardInterrupt
when interrupted; either way every worker is ended, and no temporary folder and no lock is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench_core.execution.plan import PlannedCell

Job = Mapping[str, Any]
Event = Callable[["PlannedCell", dict[str, Any]], None]


@dataclass(frozen=True)
class Options:
    """What the user may say about an execution.

    slots          cells at once; None: as many as there are cores or accelerators
    per_gpu        cells at once on one accelerator
    sweep_seconds  after this time no cell is started: the rest is skipped
    settings       the executor's own, such as `partition` for slurm
    """

    slots: int | None = None
    per_gpu: int = 1
    sweep_seconds: float | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


Execute = Callable[[Sequence["PlannedCell"], Callable[["PlannedCell"], Job], Event, Options], None]
