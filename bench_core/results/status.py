"""The statuses of a run: one table of how a run can end and what follows from it.

Records, plans, terminal, report and docs/leaderboard.schema.json are made from this table. A new
status is one entry here, and the code that gives it to a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal


@dataclass(frozen=True)
class RunStatus:
    """One way in which a run can end.

    meaning  a sentence for people
    reused   whether a later `bench run` keeps the run: always (the same code on the same cell
             would end so again), within the budget (while no limit of it is larger), never
    tone     colour: bad or mid; none where the verdict has a colour of its own
    failure  whether `--retry-failed` runs the cell again
    limits   settings of a budget that end a run in this way
    """

    meaning: str
    reused: Literal["always", "within the budget", "never"]
    tone: Literal["bad", "mid"] | None = "bad"
    failure: bool = True
    limits: tuple[str, ...] = ()


STATUSES: dict[str, RunStatus] = {
    "done": RunStatus(
        "trained to its last epoch, or until `stop_when` ended it", "always", None, failure=False
    ),
    "diverged": RunStatus("the training loss or a weight is not finite", "always", failure=False),
    "failed": RunStatus("a component raised an error", "always"),
    "crashed": RunStatus("the worker process died before its run ended", "never"),
    "oom": RunStatus(
        "the memory ran out or its limit was exceeded",
        "within the budget",
        limits=("memory_mb", "gpu_memory_mb"),
    ),
    "timeout": RunStatus(
        "the time limit of a cell was exceeded", "within the budget", limits=("seconds",)
    ),
    "interrupted": RunStatus("`bench run` was interrupted", "never", "mid"),
    "conflict": RunStatus(
        "two results of this identity do not agree, or your replica of it does not, so it does "
        "not count",
        "never",
        failure=False,
    ),
    "skipped": RunStatus("the time limit of the sweep left no time for it", "never", "mid"),
}
FINAL = tuple(name for name, status in STATUSES.items() if status.reused == "always")

if TYPE_CHECKING:
    Status = str
else:
    Status = Literal[tuple(STATUSES)]


def is_reused(status: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Decide whether a later `bench run` keeps a run that ended with this status.

    then, now  limits of a cell that the run had and that a new run would have

    A run over its budget is kept while no limit that can have ended it is larger or gone. Memory
    that ran out without a limit says nothing about the next run.
    """
    if STATUSES[status].reused != "within the budget":
        return status in FINAL
    limits = [name for name in STATUSES[status].limits if name in then]
    return bool(limits) and all(name in now and now[name] <= then[name] for name in limits)
