"""Read epochs.jsonl, the curve of a run, without torch or any plugin.

Row 0 is the untrained network. The first and the last row hold all diagnostics, the others those
that are measured after every epoch.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from bench_core.results.record import Measurement, Number
from bench_core.results.store import EPOCHS, Unreadable

LARGEST = 256 << 20  # bytes; 100,000 epochs of a deep network are smaller


class Epoch(BaseModel):
    """One row: figures of the whole test set, and `seconds` of training without measurements."""

    model_config = ConfigDict(frozen=True)

    epoch: int
    learning_rate: float
    train_loss: Number | None = None
    accuracy: Number
    test_loss: Number | None = None
    seconds: Number = 0.0
    measurements: dict[str, Measurement] = Field(default_factory=dict)


def read(folder: Path) -> tuple[Epoch, ...]:
    """Read the rows of a run folder; empty if the run ended before row 0. Raises `Unreadable`."""
    path = folder / EPOCHS
    if not path.exists():
        return ()
    try:
        if path.stat().st_size > LARGEST:
            raise Unreadable(f"{EPOCHS} has {path.stat().st_size} bytes")
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = tuple(Epoch.model_validate(json.loads(line)) for line in lines if line.strip())
    except (OSError, ValueError, RecursionError) as error:  # also pydantic's
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise Unreadable(f"{EPOCHS} cannot be read: {reason}") from None
    if [row.epoch for row in rows] != list(range(len(rows))):
        raise Unreadable(f"{EPOCHS} does not count its epochs from 0 without a gap")
    return rows
