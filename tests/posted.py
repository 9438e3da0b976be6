"""Runs of several people: records whose identity is that of their cell, and run folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from records import run

from bench_core.execution.planning.fingerprint import ALGORITHM, cell_identity
from bench_core.results import locks, store, suite_folder
from bench_core.results.record import (
    FileSum,
    RunRecord,
)

CORPUS = Path(__file__).parent / "corpus"
HERE, THERE = {"torch": "2.15", "device_name": "a"}, {"torch": "2.14", "device_name": "a"}
WEIGHTS = FileSum(bytes=1, blake2b="w")
CODE = {"bench-core": {"version": "1", "digest": "d"}}


def true(**fields: Any) -> RunRecord:
    """A record whose identity is that of its cell, with an environment."""
    record = run(**{"environment": HERE, "code": CODE, "algorithm": ALGORITHM, **fields})
    identity = cell_identity(
        record.cell.model_dump(mode="json"), {"bench-core": "d"}, record.data_checksum
    )
    return record.model_copy(update={"identity": identity, "suite": "s"})


def named(digit: str, **fields: Any) -> RunRecord:
    """The same cell under an identity of another code."""
    return true(**fields).model_copy(update={"identity": digit * 32})


def rows(record: RunRecord) -> str:
    """The epochs.jsonl that belongs to a record."""
    lines = []
    for epoch in range(record.epochs + 1):
        last = epoch == record.epochs
        told = (
            {name: item.model_dump(mode="json") for name, item in record.measurements.items()}
            if last
            else {}
        )
        row = {
            "epoch": epoch,
            "accuracy": record.accuracy,
            "train_loss": record.train_loss if last else 1.0,
        }
        lines.append(json.dumps({**row, "seconds": 0.1, "measurements": told}))
    return "\n".join(lines) + "\n"


def put(results: Path, record: RunRecord, **files: str) -> Path:
    """A complete run folder."""
    final = suite_folder.create(results, "s") / record.identity
    lock = locks.lock(final)
    assert lock is not None
    folder = store.clear_temporary(final)
    if record.status == "done":
        contents = {
            "epochs.jsonl": rows(record),
            "checkpoint.safetensors": f"weigh{record.cell.seed % 100:02}",
            "probe.safetensors": "states",
        }
        for name, content in {
            **contents,
            **{key.replace("_", "."): value for key, value in files.items()},
        }.items():
            (folder / name).write_text(content)
    store.commit(record, final)
    locks.unlock(final, lock)
    return final


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
