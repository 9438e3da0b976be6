"""Results as flat tables for other tools: a row per run, or a row per run and epoch; CSV, or Parquet through pyarrow.

Numbers are in full precision and in columns of their own; what is not finite is empty, with its column named in
`not_finite`. A column that a diagnostic brings is named `<diagnostic>` (its value as stored; b is per sample).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench_core.analysis.judge import recipe_key
from bench_core.analysis.leaderboard import Row, Run
from bench_core.errors import UsageError
from bench_core.report.criteria import Criterion
from bench_core.report.curves import curve, read_rows
from bench_core.report.data import csv_text
from bench_core.report.text import flat
from bench_core.report.view import View, gamma_deep, state_norm, value
from bench_core.results.hashing import line_text
from bench_core.results.record import RunRecord

Line = dict[str, Any]
BUILT_IN = {
    "a": "a_growth",
    "b": "b_reference_n128",
    "c": "c_batch_stability",
    "d": "d_margin_pp",
}


def _clean(line: Line) -> Line:
    broken = [
        key for key, item in line.items() if isinstance(item, float) and not math.isfinite(item)
    ]
    return {key: None if key in broken else item for key, item in line.items()} | {
        "not_finite": " ".join(broken)
    }


def _cell(found: View, row: Row, record: RunRecord) -> Line:
    cell = record.cell
    return {
        "suite": found.results.name,
        "identity": record.identity,
        "recipe": recipe_key(record),
        "label": row.label,
        "role": row.role,
        "method": cell.method.name,
        "method_params": line_text(cell.method.params),
        "arch": cell.arch.name,
        "arch_params": line_text(cell.arch.params),
        "dataset": cell.dataset.name,
        "dataset_params": line_text(cell.dataset.params),
        "data": line_text(cell.data),
        "training": line_text(cell.training),
        "seed": cell.seed,
    }


def _run(found: View, row: Row, run: Run) -> Line:
    record, judgement = run.record, run.judgement
    deep, reason = gamma_deep(run)
    return _clean(
        _cell(found, row, record)
        | {
            "status": record.status,
            "reason": record.reason,
            "epochs": record.epochs,
            "accuracy": record.accuracy,
            "train_loss": record.train_loss,
            "verdict": judgement.text,
            "fired": "+".join(judgement.fired),
            "not_measured": "+".join(judgement.missing),
            **{name: value(run, letter) for letter, name in BUILT_IN.items()},
            "margin_matched_pp": judgement.margin_matched,
            "margin_bp_pp": judgement.margin_bp,
            "state_norm": state_norm(record),
            "gamma_deep": deep,
            "gamma_not_diagnostic": reason,
            "passport": " ".join(sorted(name for name, flag in record.passport.items() if flag)),
            "forward_passes": record.forward_passes,
            "seconds": record.seconds,
            "peak_memory_bytes": record.peak_memory_bytes,
            "finished": record.finished,
            "data_checksum": record.data_checksum,
            "code": line_text(record.code),
        }
        | {f"environment_{key}": item for key, item in flat(record.environment).items()}
        | {
            Criterion(letter, *named).field: value(run, letter)
            for letter, named in run.judged.items()
            if letter not in BUILT_IN
        }
    )


def runs(found: Sequence[View]) -> Iterator[Line]:
    """A row per run that counts."""
    for seen in found:
        yield from (_run(seen, row, run) for _, row, run in seen.runs)


def epochs(found: Sequence[View]) -> Iterator[Line]:
    """A row per run and epoch, from epochs.jsonl."""
    for seen in found:
        for _, row, run in seen.runs:
            rows = read_rows(seen.results.run_folder(run.record))
            fixed = {
                key: item
                for key, item in _cell(seen, row, run.record).items()
                if not key.endswith("_params")
            }
            for raw, point in zip(rows, curve(rows), strict=True):
                plain = {
                    "epoch": raw.epoch,
                    "accuracy": raw.accuracy,
                    "train_loss": raw.train_loss,
                    "test_loss": raw.test_loss,
                    "seconds": raw.seconds,
                    "learning_rate": raw.learning_rate,
                }
                values = {name: item.value for name, item in raw.measurements.items()}
                yield _clean(
                    {**fixed, **plain, "state_norm": point.h, "reference_n128": point.g, **values}
                )


TABLES: dict[str, Callable[[Sequence[View]], Iterator[Line]]] = {"runs": runs, "epochs": epochs}


def _columns(lines: Iterable[Line]) -> list[str]:
    return list(dict.fromkeys(key for line in lines for key in line))


def as_csv(lines: Sequence[Line]) -> str:
    """One header, every text quoted, no cell that a spreadsheet would take for a formula."""
    columns = _columns(lines)
    return csv_text(columns, ([_csv(line.get(column)) for column in columns] for line in lines))


def _csv(cell: Any) -> Any:
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if cell is None or isinstance(cell, (int, float)):
        return cell
    return cell if isinstance(cell, str) else line_text(cell)


def write_parquet(lines: Sequence[Line], path: Path) -> None:
    """Write a Parquet file whole. Raises `UsageError` where pyarrow is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UsageError(
            "Parquet needs pyarrow: pip install 'bench-core[parquet]', or --format csv"
        ) from None
    from bench_core.results.files import replace_file

    columns = {column: [line.get(column) for line in lines] for column in _columns(lines)}
    table = pyarrow.table({column: _typed(cells) for column, cells in columns.items()})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    replace_file(path, buffer.getvalue())


def _typed(cells: list[Any]) -> list[Any]:
    """A column of one type: numbers stay numbers; where types mix, everything is text."""
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds <= {int, float}:
        return (
            [None if cell is None else float(cell) for cell in cells] if float in kinds else cells
        )
    if len(kinds) <= 1 and kinds <= {str, bool}:
        return cells
    return [cell if cell is None or isinstance(cell, str) else line_text(cell) for cell in cells]
