"""Write the leaderboard as data: CSV with a line per method, JSON with an entry per run.

Both have full precision. In CSV every figure is a bare number in its own column and every text is
quoted, so that no text is read as a formula. Names in JSON (docs/leaderboard.schema.json) are raw.
A figure that is not finite is empty or null, with a note. `columns` has the fields.

In CSV, as in the exports, `method` and `label` name a rule with its options, so a rule and its
floor never mix, and `rule` is the full name of the component; in JSON this name is `method`.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from bench_core.analysis.verdicts.ranks import resolution
from bench_core.analysis.verdicts.recipes import recipe_key
from bench_core.analysis.verdicts.rows import Group, Row, Run
from bench_core.analysis.verdicts.settings import Settings
from bench_core.report.tables import notes
from bench_core.report.tables.columns import COLUMNS, further
from bench_core.report.tables.fields import NUMBER
from bench_core.report.tables.json_schema import Schema, array, mapping, nullable
from bench_core.report.text import escape
from bench_core.report.view import View
from bench_core.report.words import reasons, summary
from bench_core.report.words.cite import CITATION
from bench_core.results.details import finite
from bench_core.results.hashing import jsonable
from bench_core.results.marks import ORDER
from bench_core.results.record import Measurement
from bench_core.results.status import STATUSES

SCHEMA = "bench-leaderboard/2"
PLACE = ("suite", "arch", "dataset", "epochs", "recipe", "header", "method")
FIELDS = [field for column in COLUMNS for field in column.fields]


Get = Callable[[Run, Settings], Any]


def _of(path: str, written: Callable[[Any], Any] = lambda value: value) -> Get:
    return lambda run, settings: written(attrgetter(path)(run))


def _distance(measurements: Mapping[str, Measurement]) -> dict[str, Any] | None:
    """Return d_BP by layer, where the suite measures it."""
    item = measurements.get("state_distance")
    if item is None:
        return None
    details = {key: item.details.get(key) for key in ("layers", "samples", "probe")}
    return {**details, "missing": item.not_diagnostic}


TRUST = {
    "enum": list(reversed(ORDER)),
    "description": "posted, or checked by `bench verify`; or run again, with or without agreement",
}
DISTANCE = nullable("object") | {
    "description": "distance of the states to those of bp, by layer, where the suite asked for it"
}
STRINGS = array({"type": "string"})
REASONS = mapping({"type": "string"})
RUN: dict[str, tuple[Schema | str, Get]] = {  # a field of a run: its schema and its value
    "identity": ("string", _of("record.identity")),
    "suite": ("string", _of("record.suite")),
    "seed": ("integer", _of("record.cell.seed")),
    "status": ({"enum": list(STATUSES)}, _of("record.status")),
    "reason": (nullable("string"), _of("record.reason")),
    "trust": (TRUST, _of("standing.trust")),
    "accuracy": (NUMBER, _of("record.accuracy", finite)),
    "reset_accuracy": (NUMBER, _of("record.reset_accuracy", finite)),
    "recalibrated_accuracy": (NUMBER, _of("record.recalibrated_accuracy", finite)),
    "verdict": ("string", _of("judgement.text")),
    "letters": (STRINGS, _of("judgement.fired", list)),
    "not_measured": (STRINGS, _of("judgement.missing", list)),
    "not_diagnostic": (REASONS, _of("judgement.not_diagnostic", dict)),
    "margin_pp": (NUMBER, _of("judgement.margin", finite)),
    "margin_matched_pp": (NUMBER, _of("judgement.margin_matched", finite)),
    "margin_bp_pp": (NUMBER, _of("judgement.margin_bp", finite)),
    "state_distance": (DISTANCE, _of("record.measurements", _distance)),
}


def document(text: Any) -> str:
    """Return a JSON document that may stand inside an HTML page."""
    return escape.json_text(json.dumps(jsonable(text), indent=1, allow_nan=False)) + "\n"


def as_json(views: Sequence[View]) -> str:
    """Return one document with every suite, recipe, method and run."""
    return document(
        {
            "schema": SCHEMA,
            "citation": CITATION,
            "suites": [_suite(shown) for shown in views],
        }
    )


def _suite(shown: View) -> dict[str, Any]:
    settings = shown.settings
    return {
        "name": shown.results.name,
        "title": shown.title,
        "depth_utility": settings.depth_utility.model_dump(),
        "thresholds": dict(sorted(settings.thresholds.items())),
        "groups": [_group(header, group, shown) for header, group in shown.recipes],
    }


def _group(header: str, group: Group, shown: View) -> dict[str, Any]:
    cell, settings = group.cell, shown.settings
    return {
        "header": header,
        "arch": cell.arch.model_dump(),
        "dataset": cell.dataset.model_dump(),
        "data": cell.data,
        "training": cell.training,
        "seeds": list(group.seeds),
        "set_aside": group.set_aside,
        "resolution_pp": _resolution(group),
        "summary": summary.opening(group),
        "notes": [
            *filter(None, [notes.warning(group, settings)]),
            *notes.of_group(group, settings),
        ],
        "rows": [_row(row, shown.doubts(row), settings) for row in group.rows],
    }


def _resolution(group: Group) -> float | None:
    rules, ranking = sum(row.rank is not None for row in group.rows), group.ranking
    return 100 * resolution(rules, ranking.n, ranking.deviation) if ranking.deviation else None


def _row(row: Row, beside: list[str], settings: Settings) -> dict[str, Any]:
    values = {field.name: field.json(row) for field in FIELDS}
    diagnostics = {column.letter: column.fields[0].json(row) for column in further([row])}
    values |= {"diagnostics": diagnostics} if diagnostics else {}
    runs = [{name: get(run, settings) for name, (_, get) in RUN.items()} for run in row.runs]
    why = reasons.of_row(row, settings)
    return {**values, "reasons": why, "doubts": beside, "runs": runs}


def of_run(shown: View, row: Row, run: Run) -> dict[str, Any]:
    """Return all that `bench show` knows of a run: its row's verdict with reasons, its record."""
    settings = shown.settings
    about = {"suite": shown.results.name, "folder": str(shown.results.run_folder(run.record))}
    judged = {"label": row.label, "role": row.role, "rule_verdict": row.verdict.text}
    own = {name: get(run, settings) for name, (_, get) in RUN.items()}
    why = {"reasons": reasons.of_row(row, settings), "doubts": shown.doubts(row)}
    return {
        **own,
        **about,
        **judged,
        **why,
        "record": run.record.model_dump(by_alias=True, mode="json"),
    }


def csv_text(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """Return CSV with every text quoted; no cell reads as a formula in a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    for line in (header, *lines):
        writer.writerow([escape.csv_text(cell) if isinstance(cell, str) else cell for cell in line])
    return text.getvalue()


def as_csv(views: Sequence[View]) -> str:
    """Return a line per suite, recipe and method under one header."""
    lines = flat_rows(views)
    last = {name for column in further(_rows(views)) for name in column.fields[0].names}
    ordered = sorted(FIELDS, key=lambda field: field.place)
    header = [*PLACE, *(name for field in ordered for name in field.names)]
    header += ["trust", "reasons", "doubts", *sorted(last)]
    return csv_text(header, ([line.get(name) for name in header] for line in lines))


def _rows(views: Sequence[View]) -> list[Row]:
    return [row for shown in views for row in shown.rows]


def flat_rows(views: Sequence[View]) -> list[dict[str, Any]]:
    """Return a flat line per suite, recipe and method."""
    lines = []
    placed = [(v, header, row) for v in views for header, group in v.recipes for row in group.rows]
    for shown, heading, row in placed:
        cell, recipe = row.runs[0].record.cell, recipe_key(row.runs[0].record, row.tuned)
        names = (shown.results.name, cell.arch.short, cell.dataset.short)
        place = (*names, cell.training.get("epochs"), recipe, heading, row.label)
        line = dict(zip(PLACE, place, strict=True))
        for field in FIELDS + [column.fields[0] for column in further([row])]:
            line |= field.flat(row)
        counts = Counter(run.standing.trust for run in row.runs)
        line["trust"] = "; ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])
        line["reasons"] = "; ".join(reasons.of_row(row, shown.settings))
        line["doubts"] = "; ".join(shown.doubts(row))
        lines.append(line)
    return lines
