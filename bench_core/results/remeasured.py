"""Read and write late audits: diagnostics measured on the checkpoint of a finished run.

`bench_core.execution.remeasure` makes a measurement. It lies beside the run's files, which do not
change, as `late.<diagnostic>.json`, sealed with a checksum and tied to its checkpoint. Readers
(`bench_core.analysis.gather`) prefer it to the run's own measurement of the same diagnostic. Every
table says so, with the maker of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator

from bench_core.names import bare_name
from bench_core.results import files
from bench_core.results.author import Sealed, by
from bench_core.results.hashing import digest
from bench_core.results.record import MOST_MEASUREMENTS, Measurement, RunRecord, checked
from bench_core.results.store import CHECKPOINT

SCHEMA = 2  # since 2 with maker and seal


class Late(Sealed):
    """The content of late.<diagnostic>.json."""

    late_schema: int
    checkpoint: str  # checksum of the measured checkpoint
    diagnostic: str  # full name
    params: dict[str, Any]
    measurement: Measurement
    versions: dict[str, Any]  # the environment; the diagnostic's `numerics` and digest of `code`
    measured: str  # time
    checksum: str = ""

    @model_validator(mode="after")
    def _checked(self) -> Late:
        checked({bare_name(self.diagnostic): self.measurement})
        return self

    def digest(self) -> str:
        unknown = {"maker", "seal"} if self.late_schema < 2 else set()
        return digest(self.model_dump(mode="json", exclude={"checksum"} | unknown))


@dataclass(frozen=True)
class Remark:
    """A measurement that was made after the run.

    maker    of the measurement in words; empty for this user
    instead  the run's own value, where the measurement has a part in verdicts
    """

    name: str
    maker: str
    value: float | None
    instead: float | None
    judges: bool

    @property
    def differs(self) -> bool:
        """Whether it says more than the run itself: another value, or another maker."""
        return bool(self.maker) or self.value != self.instead

    @property
    def text(self) -> str:
        """Say who measured, and what the run itself says where that can change a verdict."""
        who = f" by {self.maker}, as they say" if self.maker else ""
        if not self.judges:
            return f"{self.name} measured after the run{who}"
        value, own = ("none" if v is None else f"{v:g}" for v in (self.value, self.instead))
        return f"{self.name} {value} measured after the run{who}; the run itself: {own}"


def checkpoint_sum(record: RunRecord) -> str:
    """Return the BLAKE2b of the run's checkpoint; empty if the run has no checkpoint."""
    entry = record.files.get(CHECKPOINT)
    return "" if entry is None else entry.blake2b


def late_files(folder: Path, troubles: list[str]) -> Iterator[Path]:
    """Yield the late measurements of a run folder that are read; the others are named.

    All of them together may be as large as one of them, and as many as the measurements of a run.
    """
    size = count = 0
    for path in sorted(folder.glob("late.*.json")):
        size, count = size + path.lstat().st_size, count + 1
        if size > files.LARGEST["late"] or count > MOST_MEASUREMENTS:
            most = f"{MOST_MEASUREMENTS} files and {files.LARGEST['late']} bytes"
            troubles.append(f"{path}: left out: late measurements of a run are at most {most}")
            size, count = size - path.lstat().st_size, count - 1
        else:
            yield path


def attach(record: RunRecord, folder: Path) -> tuple[RunRecord, tuple[Remark, ...], list[str]]:
    """Return the record with the late measurements of its folder, and the versions of these.

    Also returns a remark on each of them, and the faults of their files.
    """
    measurements, numerics = dict(record.measurements), dict(record.numerics)
    measured_by = dict(record.measured_by)
    remarks: list[Remark] = []
    troubles: list[str] = []
    for path in late_files(folder, troubles):
        try:
            late = Late.model_validate(files.read_json(path, "late"))
            if late.late_schema > SCHEMA:
                raise ValueError(files.newer(late.late_schema, SCHEMA))
            if late.digest() != late.checksum:
                raise ValueError("was changed: its checksum differs")
            if late.checkpoint != checkpoint_sum(record):
                raise ValueError("belongs to another run")
        except (OSError, ValueError) as error:
            invalid = isinstance(error, ValidationError)
            reason = "does not follow its schema" if invalid else files.reason(error)
            troubles.append(f"{path}: late measurement not counted: it {reason}")
        else:
            name, item = bare_name(late.diagnostic), late.measurement
            own = record.measurements.get(name)
            maker = "" if late.is_mine() else by(late.maker)
            judges = item.direction is not None or (own is not None and own.direction is not None)
            before = None if own is None else own.value
            remarks.append(Remark(name, maker, item.value, before, judges))
            measurements[name] = item
            numerics.pop(key := f"diagnostic {late.diagnostic}", None)  # older files do not say
            if isinstance(number := late.versions.get("numerics"), int):
                numerics[key] = number
            measured_by.pop(late.diagnostic, None)
            if isinstance(code := late.versions.get("code"), str):
                measured_by[late.diagnostic] = code
    if remarks:
        update = {
            "measurements": measurements, "numerics": numerics, "measured_by": measured_by
        }  # fmt: skip
        record = record.model_copy(update=update)
    return record, tuple(remarks), troubles


def write(folder: Path, late: Late) -> None:
    """Keep a late measurement beside its run, in place of an older one of the same diagnostic.

    Raises StoreError.
    """
    sealed = late.sealed()
    sealed = sealed.model_copy(update={"checksum": sealed.digest()})
    name = bare_name(late.diagnostic)
    path = folder / f"late.{name}.json"
    files.replace_file(path, sealed.model_dump_json(indent=1) + "\n", parts=2)
