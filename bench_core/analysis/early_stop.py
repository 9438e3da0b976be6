"""Compute what `stop_when` saved and cost: a pure function of records.

The cost is the accuracy of the run that was ended minus that of the same cell trained to its end,
paired by seed. It is known only if such runs are among the records.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bench_core.analysis.accuracies import Scored, of_accuracies
from bench_core.analysis.stats import Estimate
from bench_core.analysis.verdicts.floors import explained, is_finished, samples_of
from bench_core.results.hashing import digest
from bench_core.results.record import ComponentRef, RunRecord


@dataclass(frozen=True)
class Saving:
    """The runs of one method in one recipe that a diagnostic ended.

    system   architecture and data set, `resmlp on digits`
    at       seed → the epoch after which its run was ended
    planned  epochs of the recipe
    seconds  saved, at each run's mean seconds per epoch; None if that is unknown
    cost     accuracy of the ended run minus that of the run to the end, percentage points, or None
    """

    method: ComponentRef
    system: str
    diagnostic: str
    at: dict[int, int]
    planned: int
    seconds: float | None
    cost: Estimate | None

    @property
    def epochs(self) -> int:
        """Epochs saved over all runs."""
        return len(self.at) * self.planned - sum(self.at.values())


def _key(record: RunRecord, seed: bool) -> str:
    """Compute the digest of a cell without stop_when, with or without its seed."""
    cell: dict[str, Any] = record.cell.model_dump(mode="json")
    cell["training"] = {key: value for key, value in cell["training"].items() if key != "stop_when"}
    return digest(cell if seed else {**cell, "seed": None})


def savings(records: Iterable[RunRecord]) -> list[Saving]:
    """Compute the savings per method, recipe and diagnostic that ended runs."""
    records = sorted(records, key=lambda record: (record.cell.seed, record.identity))
    scores = {run.identity: run.accuracy for run in records if run.accuracy is not None}
    finished = [run for run in records if is_finished(run)]
    whole = {_key(run, True): scores[run.identity] for run in finished if run.stopped_by is None}
    ended: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.stopped_by is not None:
            ended[_key(record, False), record.stopped_by].append(record)
    result = []
    for (_, diagnostic), runs in ended.items():
        pairs = [
            (scores[run.identity], whole[key])
            for run in runs
            if is_finished(run) and (key := _key(run, True)) in whole
        ]
        samples = Scored(samples_of(runs), tuple(share for pair in pairs for share in pair))
        left = [(run.cell.last_epoch - run.epochs, run.seconds_per_epoch) for run in runs]
        seconds = [epochs * per_epoch for epochs, per_epoch in left if per_epoch is not None]
        result.append(
            Saving(
                method=runs[0].cell.method,
                system=f"{runs[0].cell.arch.short} on {runs[0].cell.dataset.short}",
                diagnostic=diagnostic,
                at={run.cell.seed: run.epochs for run in runs},
                planned=runs[0].cell.last_epoch,
                seconds=sum(seconds) if len(seconds) == len(runs) else None,
                cost=of_accuracies(
                    (own - full for own, full in pairs), samples, 2, not explained(runs)
                ).scaled(100.0)
                if len(pairs) == len(runs)
                else None,
            )
        )
    return result
