"""Write results as flat tables for other tools: a row per run, epoch, or measurement.

`method` and `label` name a rule with its options, so a rule and its floor never mix; `rule` is the
full name of the component. `verdict` is the rule's over its seeds, `flags` those of the run.

Numbers have full precision and columns of their own. A number that is not finite is empty, and
`not_finite` names its column. Values by epoch are those that were stored (b is per sample).
`code` has the digest of each distribution's code; run.json has those of its modules.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bench_core.analysis.verdicts.recipes import recipe_key
from bench_core.analysis.verdicts.rows import Row, Run
from bench_core.errors import UsageError
from bench_core.report.tables.data import csv_text
from bench_core.report.view import View, curve, gamma_deep, state_norm, value
from bench_core.report.words.criteria import Criterion
from bench_core.results import files
from bench_core.results.hashing import flat, line_text
from bench_core.results.record import RunRecord
from bench_core.results.reference import source
from bench_core.suite.protocol import STANDARD

Line = dict[str, Any]
BYTES_OF_LINE = 2000  # of memory, about
OF_RUN = (
    "status", "reason", "epochs", "stopped_by", "accuracy", "reset_accuracy",
    "recalibrated_accuracy", "validation_accuracy", "chance", "test_samples", "train_loss",
)  # fmt: skip
PAIRS = ("steps_per_batch", "blocks_changed")
COSTS = (
    "forward_passes", "seconds", "seconds_per_epoch", "energy_joules", "peak_memory_bytes",
    "finished", "data_checksum",
)  # fmt: skip
OF_EPOCH = (
    "epoch", "accuracy", "validation_accuracy", "train_loss", "test_loss", "seconds",
    "learning_rate",
)  # fmt: skip
OF_MEASUREMENT = ("letter", "value", "unit", "direction", "threshold", "not_diagnostic")


def _clean(line: Line) -> Line:
    numbers = {key: item for key, item in line.items() if isinstance(item, float)}
    broken = [key for key, item in numbers.items() if not math.isfinite(item)]
    return {**line, **dict.fromkeys(broken), "not_finite": " ".join(broken)}


def _cell(shown: View, row: Row, record: RunRecord) -> Line:
    cell = record.cell
    return {
        "suite": shown.results.name,
        "identity": record.identity,
        "recipe": recipe_key(record, row.tuned),
        "label": row.label,
        "role": row.role,
        "verdict": row.verdict.text,
        "method": row.label,
        "rule": cell.method.name,
        "method_params": line_text(cell.method.params),
        "arch": cell.arch.name,
        "arch_params": line_text(cell.arch.params),
        "dataset": cell.dataset.name,
        "dataset_params": line_text(cell.dataset.params),
        "data": line_text(cell.data),
        "training": line_text(cell.training),
        "seed": cell.seed,
        "from_reference": source([record]),
    }


def _run(shown: View, row: Row, run: Run) -> Line:
    record, judgement = run.record, run.judgement
    deep, reason = gamma_deep(run)
    own = [Criterion(k, *named) for k, named in run.deciding.items() if k not in STANDARD]
    further = {criterion.field: value(run, criterion.letter) for criterion in own}
    judging = {name for name, _ in run.deciding.values()} | {"alignment"}  # Γ has columns
    for name, item in record.measurements.items():
        if name not in judging:
            further |= {name: item.value} if item.not_diagnostic is None else {}
    if (distance := record.measurements.get("state_distance")) is not None:
        counts = {
            f"state_distance_{key}": distance.details.get(key) for key in ("samples", "probe")
        }
        further |= {"state_distance": distance.value, **counts}
    line = {
        **_cell(shown, row, record),
        **{name: getattr(record, name) for name in OF_RUN},
        "trust": run.standing.trust,
        "doubts": "; ".join(shown.doubts(row)),
        "flags": judgement.text,
        "fired": "+".join(judgement.fired),
        "not_measured": "+".join(judgement.missing),
        "not_diagnostic": "; ".join(": ".join(pair) for pair in judgement.not_diagnostic),
        **{item.column: value(run, letter) for letter, item in STANDARD.items()},
        "margin_matched_pp": judgement.margin_matched,
        "margin_bp_pp": judgement.margin_bp,
        "state_norm": state_norm(record),
        "gamma_deep": deep,
        "gamma_not_diagnostic": reason,
        "passport": " ".join(sorted(name for name, flag in record.passport.items() if flag)),
        **{name: line_text(pair) if (pair := getattr(record, name)) else None for name in PAIRS},
        **{name: getattr(record, name) for name in COSTS},
        "code": line_text({name: own.get("digest") for name, own in record.code.items()}),
        **{f"environment_{key}": item for key, item in flat(record.environment).items()},
        **further,
    }
    return _clean(line)


def runs(views: Sequence[View]) -> Iterator[Line]:
    """Yield a row per run that counts."""
    for shown in views:
        yield from (_run(shown, row, run) for _, row, run in shown.runs)


def epochs(views: Sequence[View]) -> Iterator[Line]:
    """Yield a row per run and epoch, from epochs.jsonl. Raises UsageError if they are too many."""
    room = files.MEMORY // BYTES_OF_LINE
    for shown in views:
        for _, row, run in shown.runs:
            rows = shown.epochs(run.record)
            if (room := room - len(rows)) < 0:
                most = f"more than {files.MEMORY // BYTES_OF_LINE:,} epochs"
                remedy = "name fewer folders, or set BENCH_MEMORY to more MB"
                raise UsageError(f"{run.record.identity}: {most} with this run; {remedy}")
            cell = _cell(shown, row, run.record)
            fixed = {key: item for key, item in cell.items() if not key.endswith("_params")}
            for raw, point in zip(rows, curve(rows), strict=True):
                line = {
                    **fixed,
                    **{name: getattr(raw, name) for name in OF_EPOCH},
                    "state_norm": point.h,
                    "reference_n128": point.g,
                    **{name: item.value for name, item in raw.measurements.items()},
                }
                yield _clean(line)


def measurements(views: Sequence[View]) -> Iterator[Line]:
    """Yield a row per run, moment ("untrained" or "trained") and diagnostic."""
    for shown in views:
        for _, row, run in shown.runs:
            cell = _cell(shown, row, run.record)
            fixed = {key: item for key, item in cell.items() if not key.endswith("_params")}
            moments = {"untrained": run.record.initial, "trained": run.record.measurements}
            letters = {name: letter for letter, (name, _) in run.deciding.items()}
            silent = {**dict(run.judgement.not_diagnostic), "alignment": gamma_deep(run)[1]}
            for moment, measured in moments.items():
                for name, item in measured.items():
                    own = {key: getattr(item, key) for key in OF_MEASUREMENT}
                    letter, trained = letters.get(name, name), moment == "trained"
                    fired = trained and letter in run.judgement.fired
                    own["not_diagnostic"] = (trained and silent.get(letter)) or item.not_diagnostic
                    line = {**fixed, "moment": moment, "diagnostic": name, **own, "fired": fired}
                    yield _clean({**line, "details": line_text(item.details)})


TABLES: dict[str, Callable[[Sequence[View]], Iterator[Line]]] = {
    "runs": runs,
    "epochs": epochs,
    "measurements": measurements,
}


def as_csv(lines: Sequence[Line]) -> str:
    """Write CSV with one header, every text quoted, and no cell that reads as a formula."""
    columns = list(dict.fromkeys(key for line in lines for key in line))
    return csv_text(columns, ([_plain(line.get(name)) for name in columns] for line in lines))


def _plain(cell: Any) -> Any:
    """Write a value that is neither a number nor a text as JSON."""
    return cell if cell is None or type(cell) in (int, float, str) else line_text(cell)


def arrow(lines: Sequence[Line]) -> Any:
    """Return lines as a table of Arrow. Raises `UsageError` if pyarrow is not installed."""
    try:
        import pyarrow
    except ImportError:
        remedy = "pip install 'bench-core[parquet]', or --format csv"
        raise UsageError(f"Parquet needs pyarrow: {remedy}") from None
    names = dict.fromkeys(key for line in lines for key in line)
    return pyarrow.table({name: _typed([line.get(name) for line in lines]) for name in names})


def as_parquet(lines: Sequence[Line]) -> bytes:
    """Write Parquet. Raises `UsageError` if pyarrow is not installed."""
    table = arrow(lines)
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    return buffer.getvalue()


def _typed(cells: list[Any]) -> list[Any]:
    """Return a column of one type: numbers stay numbers; where types mix, all become texts."""
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds == {int, float}:
        return [None if cell is None else float(cell) for cell in cells]
    if len(kinds) <= 1 and kinds <= {int, float, str, bool}:
        return cells
    return [cell if cell is None or isinstance(cell, str) else line_text(cell) for cell in cells]


# name of a format, which is the ending of its files → its writer; a text can be printed
FORMATS: dict[str, Callable[[Sequence[Line]], str | bytes]] = {
    "csv": as_csv,
    "parquet": as_parquet,
}
