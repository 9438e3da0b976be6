"""The leaderboard as data: CSV with a row per method and JSON with an entry per run, both in full precision.

In CSV every figure is a bare number in a column of its own and every text is quoted, so that a reader in any locale
takes numbers for numbers and nothing for a formula. In JSON (`"schema": "bench-leaderboard/2"`, described by
docs/leaderboard.schema.json) names are raw: JSON is data, and its reader escapes. Neither holds NaN or infinity: such a
figure is empty or null, with a note beside it.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench_core.analysis.judge import Settings, recipe_key
from bench_core.analysis.leaderboard import Group, Row, Run
from bench_core.analysis.stats import Estimate
from bench_core.report import escape, notes
from bench_core.report.rows import (
    Figure,
    gamma,
    growth,
    memory,
    passes,
    passport,
    reference,
    seconds,
    trust,
)
from bench_core.results.hashing import jsonable, line_text
from bench_core.results.marks import ORDER
from bench_core.results.record import Measurement

SCHEMA = "bench-leaderboard/2"
_ESTIMATES = ("accuracy", "margin_matched_pp", "margin_bp_pp", "gamma_deep")
_FIGURES = ("growth", "reference_n128", "seconds", "peak_memory_bytes", "forward_passes")
CSV_COLUMNS = (
    *(
        "suite",
        "arch",
        "dataset",
        "epochs",
        "recipe",
        "rank",
        "tied",
        "method",
        "params",
        "label",
        "role",
    ),
    *("runs", "verdict", "three_diagnostics"),
    *(f"{name}{suffix}" for name in _ESTIMATES for suffix in ("", "_half_width_95", "_std", "_n")),
    "gamma_deep_not_diagnostic",
    *(f"{name}{suffix}" for name in _FIGURES for suffix in ("", "_note")),
    *("passport", "trust"),
)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _estimate(found: Estimate | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)


def _figure(figure: Figure) -> dict[str, Any]:
    return {"value": figure.value} | ({"note": figure.note} if figure.note else {})


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


def _distance(item: Measurement | None) -> dict[str, Any] | None:
    """d_BP by layer, where the suite asked for it."""
    if item is None:
        return None
    return {
        "layers": item.details.get("layers"),
        "samples": item.details.get("samples"),
        "missing": item.not_diagnostic,
    }


def _row(row: Row, settings: Settings) -> dict[str, Any]:
    found = gamma(row)
    return {
        "rank": row.rank,
        "tied": row.tied,
        "method": row.method.name,
        "params": jsonable(row.method.params),
        "label": row.label,
        "role": row.role,
        "accuracy": _estimate(row.accuracy),
        "runs_total": len(row.runs),
        "verdict": row.verdict,
        "three_diagnostics": row.three,
        "floor": {
            "name": row.floor.name,
            "mean": row.floor.mean,
            "missing": row.floor.reason or None,
        },
        "margin_pp": _estimate(row.margin),
        "margin_matched_pp": _estimate(row.margin_matched),
        "margin_bp_pp": _estimate(row.margin_bp),
        "gamma_deep": {
            "value": None if found.estimate is None else found.estimate.mean,
            "half_width": None if found.estimate is None else found.estimate.half_width,
            "n": 0 if found.estimate is None else found.estimate.n,
            "not_diagnostic": found.not_diagnostic,
        },
        "growth": _figure(growth(row)),
        "reference_n128": _figure(reference(row)),
        "passport": passport(row),
        "seconds": _figure(seconds(row)),
        "peak_memory_bytes": _figure(memory(row)),
        "forward_passes": _figure(passes(row)),
        "runs": [_run(run, settings) for run in row.runs],
    }


@dataclass(frozen=True)
class Judged:
    """A suite as it was judged."""

    name: str
    groups: Sequence[Group]
    settings: Settings


def as_json(suites: Sequence[Judged]) -> str:
    """The leaderboards of all suites as one JSON document."""
    document = {
        "schema": SCHEMA,
        "citation": notes.CITATION,
        "suites": [_suite(item) for item in suites],
    }
    return escape.json_text(json.dumps(jsonable(document), indent=1, allow_nan=False)) + "\n"


def _suite(item: Judged) -> dict[str, Any]:
    groups, settings = item.groups, item.settings
    return {
        "name": item.name,
        "title": settings.title,
        "depth_utility": asdict(settings.depth_utility),
        "thresholds": dict(sorted(settings.thresholds.items())),
        "groups": [
            {
                "header": header,
                "arch": group.records[0].cell.arch.model_dump(),
                "dataset": group.records[0].cell.dataset.model_dump(),
                "data": group.records[0].cell.data,
                "training": group.records[0].cell.training,
                "seeds": list(group.seeds),
                "set_aside": group.set_aside,
                "notes": notes.of_group(group, settings),
                "rows": [_row(row, settings) for row in group.rows],
            }
            for header, group in zip(notes.headers(groups), groups, strict=True)
        ],
    }


def _flat(suite: str, row: Row, settings: Settings) -> dict[str, Any]:
    record, found = row.runs[0].record, gamma(row)
    cell = record.cell
    flat: dict[str, Any] = {
        "suite": suite,
        "arch": cell.arch.short,
        "dataset": cell.dataset.short,
        "epochs": cell.training.get("epochs"),
        "recipe": recipe_key(record),
        "rank": row.rank,
        "tied": "yes" if row.tied else "no",
        "method": row.method.name,
        "params": line_text(row.method.params),
        "label": row.label,
        "role": row.role,
    }
    estimates = (row.accuracy, row.margin_matched, row.margin_bp, found.estimate)
    for name, item in zip(_ESTIMATES, estimates, strict=True):
        flat[name] = None if item is None else item.mean
        flat[f"{name}_half_width_95"] = None if item is None else item.half_width
        flat[f"{name}_std"] = None if item is None else item.std
        flat[f"{name}_n"] = 0 if item is None else item.n
    flat |= {
        "gamma_deep_not_diagnostic": found.not_diagnostic,
        "runs": len(row.runs),
        "verdict": row.verdict,
        "three_diagnostics": row.three,
    }
    figures = (growth(row), reference(row), seconds(row), memory(row), passes(row))
    for name, figure in zip(_FIGURES, figures, strict=True):
        flat[name], flat[f"{name}_note"] = figure.value, figure.note
    flat["passport"] = passport(row)
    counts = Counter(trust(run, settings) for run in row.runs)
    flat["trust"] = "; ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])
    return flat


def as_csv(suites: Sequence[Judged]) -> str:
    """One line per suite, recipe and method under one header, which is there without runs too."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for item in suites:
        for row in (row for group in item.groups for row in group.rows):
            line = _flat(item.name, row, item.settings)
            values = [line[name] for name in CSV_COLUMNS]
            writer.writerow(
                [escape.csv_text(value) if isinstance(value, str) else value for value in values]
            )
    return text.getvalue()
