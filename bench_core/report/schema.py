"""Generate docs/leaderboard.schema.json, the schema of `bench leaderboard --format json`.

python -m bench_core.report.schema > docs/leaderboard.schema.json
"""

from __future__ import annotations

import json
from typing import Any

from bench_core.report.columns import NUMBER, object_schema
from bench_core.report.data import FIELDS, RUN, SCHEMA


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _map(values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


STRING = {"type": "string"}


def _row() -> dict[str, Any]:
    values = {field.name: field.kind.schema for field in FIELDS}
    row = object_schema(**values, runs=_array(_ref("run")))
    row["properties"]["diagnostics"] = _map(_ref("median")) | {
        "description": "values of diagnostics beyond a, b, c and d, by letter or name"
    }
    return row


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
            "median": {
                "type": "object",
                "properties": {"value": NUMBER, "note": STRING},
                "required": ["value"],
                "additionalProperties": False,
                "description": "median over finished runs; null with a note where it is not finite",
            },
            "component": object_schema(name="string", params="object"),
            "run": object_schema(**{name: kind for name, (kind, _) in RUN.items()}),
            "row": _row(),
            "group": object_schema(
                header="string",
                arch=_ref("component"),
                dataset=_ref("component"),
                data="object",
                training="object",
                seeds=_array({"type": "integer"}),
                set_aside="integer",
                notes=_array(STRING),
                rows=_array(_ref("row")),
            )
            | {"description": "one recipe; no figure is averaged over two"},
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
