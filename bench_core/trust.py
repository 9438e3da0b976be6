"""How far a run can be relied on: *posted* (it is there), *checked* (`bench verify` found no fault), *replicated* (somebody ran
it again and agreed), or *disputed* (somebody did and did not).

Marks lie in `<suite>/agreement/<identity>.json`, beside the runs and never in them, and each names the checksum of the run.json
that it is about: a mark on another run.json of this identity does not count.

Two runs agree when they are equal bit by bit, where their environments and code are; else when their accuracies lie within
2 points and the same diagnostics fire: training amplifies rounding, and more than that cannot be asked of another machine.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bench_core import store
from bench_core.judgement import fires, label
from bench_core.merge import differing, environment_key
from bench_core.record import RunRecord

FOLDER = "agreement"
POINTS = 0.02  # of accuracy, between environments
State = Literal["posted", "checked", "replicated", "disputed"]
ORDER: tuple[State, ...] = ("disputed", "replicated", "checked", "posted")


class Replica(BaseModel):
    """One attempt to get a run again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agrees: bool
    how: Literal["bits", "figures"]
    said: str  # in words, what was compared
    identity: str  # of the new run: another one where the code differs
    accuracy: float | None
    environment: dict[str, Any]
    finished: str


class Mark(BaseModel):
    """What is known about one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    identity: str
    run: str  # checksum of the run.json
    checked: str | None = None  # when
    replicas: list[Replica] = []

    @property
    def state(self) -> State:
        if any(not replica.agrees for replica in self.replicas):
            return "disputed"
        return "replicated" if self.replicas else "checked" if self.checked else "posted"


def read(folder: Path, record: RunRecord) -> Mark:
    """The mark of a run in a suite folder; an empty one where there is none that is about this run.json."""
    fresh = Mark(identity=record.identity, run=record.checksum or "")
    try:
        mark = Mark.model_validate(
            json.loads((folder / FOLDER / f"{record.identity}.json").read_text(encoding="utf-8"))
        )
    except (OSError, ValueError, RecursionError, ValidationError):
        return fresh
    return mark if (mark.identity, mark.run) == (fresh.identity, fresh.run) else fresh


def write(folder: Path, mark: Mark) -> None:
    """Raises StoreError."""
    home = folder / FOLDER
    with store.writing(home):
        home.mkdir(exist_ok=True)
    text = json.dumps(mark.model_dump(mode="json"), sort_keys=True, indent=1, allow_nan=False)
    store.replace_file(home / f"{mark.identity}.json", text + "\n")


def compare(posted: RunRecord, again: RunRecord) -> Replica:
    """Whether a run that was made again agrees with the posted one."""
    told = differing(again, posted)
    accuracy = again.accuracy
    if again.identity == posted.identity and environment_key(again) == environment_key(posted):
        how: Literal["bits", "figures"] = "bits"
        agrees, said = not told, "equal bit by bit" if not told else "; ".join(told)
    else:
        how, parts = "figures", list[str]()
        if again.status != posted.status:
            parts.append(f"status {again.status}, posted {posted.status}")
        if accuracy is not None and posted.accuracy is not None and not abs(accuracy - posted.accuracy) <= POINTS:
            parts.append(f"accuracy {accuracy:.3f}, posted {posted.accuracy:.3f}")
        shared = again.measurements.keys() & posted.measurements.keys()
        odd = sorted(n for n in shared if fires(again.measurements[n]) != fires(posted.measurements[n]))
        parts += [f"{name} fires in one of them only" for name in odd]
        agrees, said = not parts, "; ".join(parts) or "accuracy within 2 points, the same diagnostics fire"
    return Replica(
        agrees=agrees, how=how, said=said, identity=again.identity, accuracy=accuracy,
        environment=again.environment, finished=again.finished,
    )  # fmt: skip


def summary(folder: Path, records: Sequence[RunRecord]) -> str | None:
    """One line under a leaderboard; None where all runs are only posted."""
    states = {record.identity: read(folder, record).state for record in records}
    if set(states.values()) <= {"posted"}:
        return None
    counts = Counter(states.values())
    parts = []
    for state in ORDER:
        names = Counter(
            label(record.cell.method, [each.cell.method for each in records])
            for record in records
            if states[record.identity] == state
        )
        shown = ", ".join(f"{name} {count}" for name, count in sorted(names.items()))
        if counts[state]:
            parts.append(f"{counts[state]} {state}" + (f" ({shown})" if state != "posted" else ""))
    return f"Of {len(records)} runs: {'; '.join(parts)}"
