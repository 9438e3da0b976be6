"""The rows of epochs.jsonl, what every epoch of a run left: read from a run folder, without torch or any plugin.

Row 0 is the untrained network. A row holds the measurements of the diagnostics that are taken after every epoch; the first and the
last row hold those of all.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench_core.results.record import Measurement, Number
from bench_core.results.store import EPOCHS, Unreadable

LARGEST = 256 << 20  # bytes; 100,000 epochs of a deep network stay under it


class Epoch(BaseModel):
    """One row. `accuracy` and `test_loss` are those of the whole test set, `seconds` those of the training alone."""

    model_config = ConfigDict(frozen=True)

    epoch: int
    learning_rate: float
    train_loss: Number | None = None
    accuracy: Number
    test_loss: Number | None = None
    seconds: Number = 0.0
    measurements: dict[str, Measurement] = Field(default_factory=dict)


def read(folder: Path) -> tuple[Epoch, ...]:
    """The rows of a run folder in the order of the epochs. Raises `Unreadable`; a run that ended before row 0 has none.

    `bench_core.results.store.read` has checked the size of the file against run.json.
    """
    path = folder / EPOCHS
    if not path.exists():
        return ()
    try:
        if path.stat().st_size > LARGEST:
            raise Unreadable(f"{EPOCHS} has {path.stat().st_size} bytes")
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = tuple(Epoch.model_validate(json.loads(line)) for line in lines if line.strip())
    except (OSError, ValidationError, ValueError, RecursionError) as error:
        raise Unreadable(
            f"{EPOCHS} cannot be read: {getattr(error, 'strerror', None) or type(error).__name__}"
        ) from None
    if [row.epoch for row in rows] != list(range(len(rows))):
        raise Unreadable(f"{EPOCHS} does not count its epochs from 0 without a gap")
    return rows
