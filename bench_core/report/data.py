"""Write the leaderboard as data: CSV with a line per method, JSON with an entry per run.

In CSV every figure is a bare number in a column of its own and every text is quoted, so that a
reader in any locale takes numbers for numbers and no text for a formula. In JSON
(docs/leaderboard.schema.json) names are raw. Neither holds NaN or infinity: such a figure is empty
or null, with a note beside it. Both have full precision. `report.columns` lists their fields.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bench_core.analysis.judge import Settings, recipe_key
from bench_core.analysis.leaderboard import Group, Row, Run
from bench_core.report import escape, notes
from bench_core.report.columns import COLUMNS, further
from bench_core.report.rows import trust
from bench_core.results.hashing import jsonable
from bench_core.results.marks import ORDER
from bench_core.results.record import Measurement

SCHEMA = "bench-leaderboard/2"
FIELDS = [field for column in COLUMNS for field in column.fields]


@dataclass(frozen=True)
class JudgedSuite:
    """A suite, judged: a group per recipe."""

    name: str
    groups: Sequence[Group]
    settings: Settings


# ------------------------------------------------------------------------------------------- JSON


def document(text: Any) -> str:
    """Return a JSON document that may stand inside an HTML page."""
    return escape.json_text(json.dumps(jsonable(text), indent=1, allow_nan=False)) + "\n"


def as_json(suites: Sequence[JudgedSuite]) -> str:
    """Return one document with every suite, recipe, method and run."""
    return document(
        {
            "schema": SCHEMA,
            "citation": notes.CITATION,
            "suites": [_suite(suite) for suite in suites],
        }
    )


def _suite(suite: JudgedSuite) -> dict[str, Any]:
    settings = suite.settings
    headers = notes.headers(suite.groups)
    return {
        "name": suite.name,
        "title": settings.title,
        "depth_utility": settings.depth_utility.model_dump(),
        "thresholds": dict(sorted(settings.thresholds.items())),
        "groups": [
            _group(header, group, settings)
            for header, group in zip(headers, suite.groups, strict=True)
        ],
    }


def _group(header: str, group: Group, settings: Settings) -> dict[str, Any]:
    cell = group.records[0].cell
    return {
        "header": header,
        "arch": cell.arch.model_dump(),
        "dataset": cell.dataset.model_dump(),
        "data": cell.data,
        "training": cell.training,
        "seeds": list(group.seeds),
        "set_aside": group.set_aside,
        "notes": notes.of_group(group, settings),
        "rows": [_row(row, settings) for row in group.rows],
    }


def _row(row: Row, settings: Settings) -> dict[str, Any]:
    values = {field.name: field.kind.json(field.get(row)) for field in FIELDS}
    diagnostics = {
        column.letter: column.fields[0].kind.json(column.fields[0].get(row))
        for column in further([row])
    }
    values |= {"diagnostics": diagnostics} if diagnostics else {}
    return values | {"runs": [_run(run, settings) for run in row.runs]}


def _run(run: Run, settings: Settings) -> dict[str, Any]:
    record, judgement = run.record, run.judgement
    return {
        "identity": record.identity,
        "suite": record.suite,
        "seed": record.cell.seed,
        "status": record.status,
        "reason": record.reason,
        "trust": trust(run, settings),
        "accuracy": _finite(record.accuracy),
        "verdict": judgement.text,
        "three_diagnostics": judgement.three,
        "letters": list(judgement.fired),
        "not_measured": list(judgement.missing),
        "not_diagnostic": dict(judgement.not_diagnostic),
        "margin_pp": _finite(judgement.margin),
        "margin_matched_pp": _finite(judgement.margin_matched),
        "margin_bp_pp": _finite(judgement.margin_bp),
        "state_distance": _distance(record.measurements.get("state_distance")),
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _distance(item: Measurement | None) -> dict[str, Any] | None:
    """Return d_BP by layer, where the suite measures it."""
    if item is None:
        return None
    details = {key: item.details.get(key) for key in ("layers", "samples")}
    return {**details, "missing": item.not_diagnostic}


# -------------------------------------------------------------------------------------------- CSV


def csv_text(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """Return CSV with every text quoted; no cell is one that a spreadsheet takes for a formula."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    for line in (header, *lines):
        writer.writerow([escape.csv_text(cell) if isinstance(cell, str) else cell for cell in line])
    return text.getvalue()


def as_csv(suites: Sequence[JudgedSuite]) -> str:
    """Return a line per suite, recipe and method under one header."""
    lines = [_flat(suite, row) for suite in suites for group in suite.groups for row in group.rows]
    every = (row for suite in suites for group in suite.groups for row in group.rows)
    last = {name for column in further(every) for field in column.fields for name in field.names}
    ordered = sorted(FIELDS, key=lambda field: field.kind.place)
    header = ["suite", "arch", "dataset", "epochs", "recipe"]
    header += [name for field in ordered for name in field.names]
    header += ["trust", *sorted(last)]
    return csv_text(header, ([line.get(name) for name in header] for line in lines))


def _flat(suite: JudgedSuite, row: Row) -> dict[str, Any]:
    record = row.runs[0].record
    cell = record.cell
    line = {
        "suite": suite.name,
        "arch": cell.arch.short,
        "dataset": cell.dataset.short,
        "epochs": cell.training.get("epochs"),
        "recipe": recipe_key(record),
    }
    further_fields = [field for column in further([row]) for field in column.fields]
    for field in FIELDS + further_fields:
        line |= field.flat(row)
    counts = Counter(trust(run, suite.settings) for run in row.runs)
    line["trust"] = "; ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])
    return line
