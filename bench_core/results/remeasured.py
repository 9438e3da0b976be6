"""Late audits: a diagnostic measured on the checkpoint of a finished run, without training.

    results/<suite>/<identity>/late.<diagnostic>.json     what was measured, when, with which version; beside what the run left

A run folder itself is never changed: a late measurement is a file of its own, sealed with a checksum and tied to the checkpoint
that it was measured on. Readers (`bench_core.analysis.gather`) put it among the run's measurements; where the run had measured the same
diagnostic, the later one counts. Each run is measured in a child process (`bench_core.execution.remeasure_worker`), which rebuilds network,
method and data from the cell, loads the checkpoint, and refuses where the states on the probe are not those that the run stored:
then the code has changed since.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bench_core.results.files import replace_file
from bench_core.results.hashing import digest
from bench_core.results.record import Measurement, RunRecord

SCHEMA = 1


class Late(BaseModel):
    """The content of late.<diagnostic>.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    late_schema: int
    checkpoint: str  # the sum of the checkpoint that was measured
    diagnostic: str  # full name
    params: dict[str, Any]
    measurement: Measurement
    versions: dict[str, Any]
    measured: str  # when
    checksum: str = ""

    def sealed(self) -> Late:
        return self.model_copy(update={"checksum": self.digest()})

    def digest(self) -> str:
        return digest(self.model_dump(mode="json", exclude={"checksum"}))


def checkpoint_sum(record: RunRecord) -> str:
    """BLAKE2b of the run's checkpoint; empty where it has none."""
    found = record.files.get("checkpoint.safetensors")
    return "" if found is None else found.blake2b


def attach(record: RunRecord, folder: Path) -> tuple[RunRecord, list[str]]:
    """The record with the late measurements that lie in its folder, and a line for each that cannot be read."""
    found, troubles = dict(record.measurements), []
    for path in sorted(folder.glob("late.*.json")):
        try:
            late = Late.model_validate_json(path.read_bytes())
            if late.late_schema > SCHEMA:
                raise ValueError(
                    f"schema {late.late_schema} is newer than this bench reads ({SCHEMA}): update bench-core"
                )
            if late.digest() != late.checksum:
                raise ValueError("it was changed: its checksum differs")
            if late.checkpoint != checkpoint_sum(record):
                raise ValueError("it belongs to another run")
        except (OSError, ValueError) as error:
            reason = (
                "it does not follow its schema"
                if isinstance(error, ValidationError)
                else str(error)
            )
            troubles.append(f"{path}: late measurement not counted: {reason}")
        else:
            found[late.diagnostic.rpartition("/")[2]] = late.measurement
    return (
        record
        if found == record.measurements
        else record.model_copy(update={"measurements": found})
    ), troubles


def write(folder: Path, late: Late) -> None:
    """Keep a late measurement beside its run; an older one of the same diagnostic is replaced."""
    name = late.diagnostic.rpartition("/")[2]
    replace_file(folder / f"late.{name}.json", late.sealed().model_dump_json(indent=1) + "\n")
