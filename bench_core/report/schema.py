"""Generate docs/leaderboard.schema.json, the schema of `bench leaderboard --format json`.

python -m bench_core.report.schema > docs/leaderboard.schema.json
"""

from __future__ import annotations

import json
from typing import Any

from bench_core.report.columns import NUMBER, nullable, object_schema
from bench_core.report.data import FIELDS, SCHEMA
from bench_core.results.marks import ORDER
from bench_core.results.status import STATUSES


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _map(values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


STRING = {"type": "string"}
TRUST = {
    "enum": list(reversed(ORDER)),
    "description": "posted, or checked by `bench verify`; or run again, with or without agreement",
}
DISTANCE = nullable("object") | {
    "description": "distance of the states to those of bp, by layer, where the suite asked for it"
}


def _median() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"value": NUMBER, "note": STRING},
        "required": ["value"],
        "additionalProperties": False,
        "description": "median over finished runs; null with a note where it is not finite",
    }


def _run() -> dict[str, Any]:
    return object_schema(
        identity="string",
        suite="string",
        seed="integer",
        status={"enum": list(STATUSES)},
        reason=nullable("string"),
        trust=TRUST,
        accuracy=NUMBER,
        verdict="string",
        three_diagnostics="string",
        letters=_array(STRING),
        not_measured=_array(STRING),
        not_diagnostic=_map(STRING),
        margin_pp=NUMBER,
        margin_matched_pp=NUMBER,
        margin_bp_pp=NUMBER,
        state_distance=DISTANCE,
    )


def _row() -> dict[str, Any]:
    row = object_schema(
        **{field.name: field.kind.schema for field in FIELDS}, runs=_array(_ref("run"))
    )
    row["properties"]["diagnostics"] = _map(_ref("median")) | {
        "description": "values of diagnostics beyond a, b, c and d, by letter or name"
    }
    return row


def _group() -> dict[str, Any]:
    return object_schema(
        header="string",
        arch=_ref("component"),
        dataset=_ref("component"),
        data="object",
        training="object",
        seeds=_array({"type": "integer"}),
        set_aside="integer",
        notes=_array(STRING),
        rows=_array(_ref("row")),
    ) | {"description": "one recipe; no figure is averaged over two"}


def schema() -> dict[str, Any]:
    """Return the schema."""
    estimate = object_schema(mean="number", half_width=NUMBER, std=NUMBER, n="integer")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA,
        "description": "What `bench leaderboard --format json` writes.",
        **object_schema(schema={"const": SCHEMA}, citation="string", suites=_array(_ref("suite"))),
        "$defs": {
            "estimate": {
                "anyOf": [{"type": "null"}, estimate],
                "description": "mean over n seeds; 95 % interval mean ± half_width, null at n = 1",
            },
            "median": _median(),
            "component": object_schema(name="string", params="object"),
            "run": _run(),
            "row": _row(),
            "group": _group(),
            "suite": object_schema(
                name="string",
                title="string",
                depth_utility=object_schema(floor="string", floor_value=NUMBER),
                thresholds=_map({"type": "number"}),
                groups=_array(_ref("group")),
            ),
        },
    }


def text() -> str:
    """Return the schema as the file's text."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(text(), end="")
