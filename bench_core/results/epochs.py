"""Read epochs.jsonl, the curve of a run, without torch or any plugin.

Row 0 is the untrained network. The first and the last row hold all diagnostics, the others those
that are measured after every epoch, or after every `diagnose_every`-th. The rows may be compact
(`bench_core.results.compact`).
"""

from __future__ import annotations

import contextlib
import gzip
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench_core.results import files
from bench_core.results.compact import Header, is_header
from bench_core.results.hashing import checksum
from bench_core.results.record import FileSum, Measurements, Number, RunRecord
from bench_core.results.store import EPOCHS, PACKED, Unreadable, first_fault

MOST = 1_000_000  # values of a curve that is kept in memory: some 10,000 epochs, and 100 MB
READ = 5_000_000  # values of a curve that is read row by row, in some seconds
# of a curve: the untrained network, and the most epochs that `bench replicate` trains
ROWS = 100_001


class Epoch(BaseModel):
    """One row: figures of the whole test set, and `seconds` of training without measurements."""

    model_config = ConfigDict(frozen=True)

    epoch: int
    learning_rate: float
    train_loss: Number | None = None
    accuracy: Number | None = None  # None: not evaluated after this epoch
    test_loss: Number | None = None
    validation_accuracy: Number | None = None
    seconds: Number = 0.0
    measurements: Measurements = Field(default_factory=dict)


ReadCurve = Callable[[RunRecord], Sequence[Epoch]]  # how an analysis gets the rows of a run


def is_row(value: Any) -> bool:
    """Test whether a value is a row of epochs.jsonl."""
    try:
        Epoch.model_validate(value)
    except ValidationError:
        return False
    return type(value["epoch"]) is int


def read(folder: Path, expected: FileSum | None = None) -> tuple[Epoch, ...]:
    """Read the rows of a run folder; empty if the run ended before row 0. Raises `Unreadable`.

    expected  the checksum that run.json names; None: it is not checked
    """
    try:
        if expected is not None:
            with files.opened(_file(folder), "epochs") as file:
                if checksum(file) != expected.blake2b:
                    raise ValueError("was changed: its checksum differs")
        rows = tuple(map(Epoch.model_validate, lines(folder, MOST)))
    except FileNotFoundError:
        return ()
    except ValidationError as error:
        raise Unreadable(f"{EPOCHS} does not follow its schema: {first_fault(error)}") from None
    except (OSError, ValueError) as error:
        raise Unreadable(f"{EPOCHS} {files.reason(error)}") from None
    if any(row.epoch != number for number, row in enumerate(rows)):
        raise Unreadable(f"{EPOCHS} does not count its epochs from 0 without a gap")
    return rows


def stated(record: RunRecord) -> FileSum | None:
    """Return the size and checksum that a record states of its rows."""
    return record.files.get(EPOCHS) or record.files.get(PACKED)


def _file(folder: Path) -> Path:
    packed = os.path.lexists(folder / PACKED) and not os.path.lexists(folder / EPOCHS)
    return folder / (PACKED if packed else EPOCHS)


@contextlib.contextmanager
def _text(folder: Path) -> Iterator[BufferedReader | gzip.GzipFile]:
    """Open the rows of a run folder, unpacked. Raises OSError."""
    path = _file(folder)
    with files.opened(path, "epochs") as file:
        if path.name == EPOCHS:
            yield file
            return
        try:
            with gzip.open(file) as unpacked:
                yield unpacked
        except (EOFError, zlib.error) as error:
            raise ValueError(f"cannot be unpacked: {error}") from None


def lines(folder: Path, most: int = READ) -> Iterator[Any]:
    """Yield the rows of a run folder as plain values. Raises OSError, ValueError.

    most  values of all rows
    """
    values, rows, size, longest = 0, 0, 0, files.LARGEST["row"]
    header = Header()
    with _text(folder) as file:
        while line := file.readline(longest + 1):
            rows, size = rows + 1, size + len(line)
            if size > files.LARGEST["epochs"]:
                raise ValueError(f"has more than {files.LARGEST['epochs']} bytes")
            if rows > ROWS:
                raise ValueError(f"has more than {ROWS:,} rows")
            if len(line) > longest:
                raise ValueError(f"has a row of more than {longest} bytes")
            values += files.values(line) + header.size
            if values > most:
                raise ValueError(f"has more than {most:,} values")
            if not line.strip():
                continue
            value = files.parsed(line, "row")
            if is_header(value):
                header = Header(value["row"], value["columns"], files.values(line))
            else:
                yield header.row(value) if isinstance(value, list) else value
