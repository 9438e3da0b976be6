"""Choose the record of a cell that counts, because a seed counts once.

Of several records (replicates, another version of the code) the first of these counts: a row of the
reference, a record that this user has replicated, a done record, one that this user has checked,
one in the folder that was named first, the record finished last. (A record states itself when it
was finished. So that decides only within a folder.) The others are set aside, and named where they
say something else of the cell. Two results of one identity that do not agree are a conflict: none
of them counts, unless one is a row of the reference. A record that this user disputes is a conflict
too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bench_core.analysis.verdicts.settings import Settings
from bench_core.results.agreement import POINTS
from bench_core.results.record import RunRecord


def counted(records: Sequence[RunRecord], settings: Settings) -> RunRecord:
    """Choose the record of a cell that counts; one that is in conflict has this status."""

    def order(record: RunRecord) -> tuple[Any, ...]:
        standing = settings.standing(record)
        reference = record.shipped and not record.environment.get("lapsed")
        replicated, checked = (standing.trust == trust for trust in ("replicated", "checked"))
        known = not standing.conflict, reference, replicated, record.status == "done", checked
        return *known, -standing.place, record.finished, record.identity, record.shipped

    chosen = records[0]
    if len(records) > 1:
        chosen = max(records, key=lambda record: (*order(record), record.to_json()))
    if not (conflict := settings.standing(chosen).conflict):
        return chosen
    return chosen.model_copy(update={"status": "conflict", "reason": conflict})


def contradicts(run: RunRecord, other: RunRecord) -> bool:
    """Decide whether a run that does not count says something else of its cell: by other code."""
    if other.status != run.status:
        return bool({"diverged", "failed"} & {other.status, run.status})
    one, two = run.accuracy, other.accuracy
    return one is not None and two is not None and POINTS < abs(one - two) < math.inf
