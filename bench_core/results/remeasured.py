"""Read and write late audits: diagnostics measured on the checkpoint of a finished run.

`bench_core.execution.remeasure` makes a measurement. It lies beside the run's files, which do not
change, as `late.<diagnostic>.json`, sealed with a checksum and tied to its checkpoint. Readers
(`bench_core.analysis.gather`) prefer it to the run's own measurement of the same diagnostic.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench_core.results import files
from bench_core.results.hashing import digest
from bench_core.results.record import Frozen, Measurement, RunRecord
from bench_core.results.store import CHECKPOINT

SCHEMA = 1


class Late(Frozen):
    """The content of late.<diagnostic>.json."""

    late_schema: int
    checkpoint: str  # checksum of the measured checkpoint
    diagnostic: str  # full name
    params: dict[str, Any]
    measurement: Measurement
    versions: dict[str, Any]
    measured: str  # time
    checksum: str = ""

    def digest(self) -> str:
        return digest(self.model_dump(mode="json", exclude={"checksum"}))


def checkpoint_sum(record: RunRecord) -> str:
    """Return the BLAKE2b of the run's checkpoint; empty if the run has no checkpoint."""
    entry = record.files.get(CHECKPOINT)
    return "" if entry is None else entry.blake2b


def attach(record: RunRecord, folder: Path) -> tuple[RunRecord, list[str]]:
    """Return the record with the late measurements of its folder, and the faults of their files."""
    measurements, troubles = dict(record.measurements), []
    for path in sorted(folder.glob("late.*.json")):
        try:
            late = Late.model_validate(files.read_json(path, "late"))
            if late.late_schema > SCHEMA:
                newer = f"has schema {late.late_schema}, newer than this bench reads ({SCHEMA})"
                raise ValueError(f"{newer}: update bench-core")
            if late.digest() != late.checksum:
                raise ValueError("was changed: its checksum differs")
            if late.checkpoint != checkpoint_sum(record):
                raise ValueError("belongs to another run")
        except (OSError, ValueError) as error:
            invalid = isinstance(error, ValidationError)
            reason = "does not follow its schema" if invalid else files.reason(error)
            troubles.append(f"{path}: late measurement not counted: it {reason}")
        else:
            measurements[late.diagnostic.rpartition("/")[2]] = late.measurement
    if measurements != record.measurements:
        record = record.model_copy(update={"measurements": measurements})
    return record, troubles


def write(folder: Path, late: Late) -> None:
    """Keep a late measurement beside its run, in place of an older one of the same diagnostic."""
    sealed = late.model_copy(update={"checksum": late.digest()})
    name = late.diagnostic.rpartition("/")[2]
    path = folder / f"late.{name}.json"
    files.replace_file(path, sealed.model_dump_json(indent=1) + "\n", parts=2)
