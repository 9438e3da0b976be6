"""Run folders as `bench run` leaves them, made of records without any training: for what reads
results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from records import audit, frozen, seeds

from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.verdicts.settings import Settings
from bench_core.report.tables.formats import Format, Wanted, leaderboards
from bench_core.results import store, suite_folder
from bench_core.results.hashing import jsonable
from bench_core.results.record import FileSum, RunRecord


def rows(record: RunRecord, epochs: int) -> list[dict[str, Any]]:
    """Epochs 0 … n: the last measurements are the record's; growth and the reference run to them
    from a healthy start."""
    made = []
    a = record.measurements["scale_growth"].value or 1.0
    b = record.measurements["reference_floor"].value or 1.0
    for epoch in range(epochs + 1):
        part = epoch / max(epochs, 1)
        growth, reference = 1.05 * (a / 1.05) ** part, 1.0 * (b / 1.0) ** part
        h = [8.8 * growth**k for k in range(5)]
        g = [reference] * 5
        measurements = {
            name: item.model_dump(mode="json") for name, item in record.measurements.items()
        }
        measurements["scale_growth"] |= {
            "value": growth,
            "details": {"h": h, "growth": [growth] * 4},
        }
        measurements["reference_floor"] |= {
            "value": reference,
            "details": {"g": g, "mean_128": reference / 128},
        }
        accuracy = 0.1 + part * ((record.accuracy or 0.1) - 0.1)
        made.append(
            {
                "epoch": epoch,
                "learning_rate": 1e-3,
                "accuracy": accuracy,
                "train_loss": 2.3 - part,
                "test_loss": 2.3 - part,
                "seconds": 1.0 if epoch else 0.0,
                "measurements": measurements,
            }
        )
    return made


def write(
    root: Path,
    records: Iterable[RunRecord],
    epochs: int | None = 3,
    suite: str = "audit5",
    **suite_json: Any,
) -> Path:
    """results/<suite>/<identity>/ for each record (identities are made up); `epochs` None:
    without epochs.jsonl."""
    folder = root / suite
    folder.mkdir(parents=True, exist_ok=True)
    for record in records:
        identity = blake2b(record.to_json().encode(), digest_size=16).hexdigest()
        home = folder / identity
        home.mkdir()
        files = {}
        if epochs is not None and record.status == "done":
            text = "".join(
                json.dumps(jsonable(row)) + "\n" for row in rows(record, epochs)
            ).encode()
            (home / "epochs.jsonl").write_bytes(text)
            files["epochs.jsonl"] = FileSum(
                bytes=len(text), blake2b=blake2b(text, digest_size=16).hexdigest()
            )
        made = store.sealed(
            record.model_copy(update={"identity": identity, "suite": suite, "files": files})
        )
        (home / "run.json").write_text(made.to_json(), encoding="utf-8")
    suite_folder.write(folder, {"name": suite, **suite_json})
    return folder


def audit_folder(root: Path, epochs: int = 6) -> Path:
    """The miniature audit of `records`, with what makes its numbers traceable."""
    found = {"torch": "2.11", "device": "cpu", "commit": "0" * 40, "dirty": False}
    records = [
        item.model_copy(
            update={
                "environment": found,
                "code": {"bench-core": {"digest": "ab", "version": "1"}},
                "data_checksum": "cd" * 16,
                "finished": "2026-01-02T03:04:05+00:00",
            }
        )
        for item in audit()
    ]
    return write(root, records, epochs, title="A miniature audit", description="bp, dfa and ep.")


def sweep_folder(root: Path) -> Path:
    """dfa over λ, normalisation and depth; bp beside it."""
    records = [
        *seeds("bench-core/bp", [0.60, 0.61, 0.62]),
        *frozen("bench-core/dfa", [0.35, 0.35, 0.36]),
    ]
    for k, penalty in enumerate((0.0, 1e-4, 1e-2)):
        values = [0.30 + 0.02 * k, 0.31 + 0.02 * k, 0.32 + 0.02 * k]
        records += seeds("bench-core/dfa", values, params={"penalty": penalty})
    for k, mode in enumerate(("batch", "none")):
        records += seeds("bench-core/dfa", [0.36 + 0.01 * k] * 3, params={"normalize": mode})
    deeper = [
        item.model_copy(
            update={
                "cell": item.cell.model_copy(
                    update={
                        "arch": item.cell.arch.model_copy(
                            update={"params": {**item.cell.arch.params, "depth": 8}}
                        )
                    }
                )
            }
        )
        for item in seeds("bench-core/bp", [0.58, 0.59, 0.60])
        + seeds("bench-core/dfa", [0.25, 0.26, 0.27])
    ]
    return write(root, records + deeper, None, suite="sweeps")


def leaderboard(
    records: Sequence[RunRecord],
    settings: Settings | None = None,
    format: Format = "table",
    width: int | None = 80,
    **wanted: Any,
) -> str:
    """Return the leaderboard of records as one suite."""
    name = records[0].suite if records else ""
    results = SuiteResults(name, settings or Settings(), tuple(records), superseded=0)
    return leaderboards([results], format, Wanted(width, **wanted))
