"""Generate docs/leaderboard.schema.json, the schema of `bench leaderboard --format json`.

python -m bench_core.report.tables.schema > docs/leaderboard.schema.json
"""

from __future__ import annotations

import json
from typing import Any

from bench_core.report.tables.data import FIELDS, RUN, SCHEMA, STRINGS
from bench_core.report.tables.fields import NUMBER
from bench_core.report.tables.json_schema import Schema, array, mapping, object_schema


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def schema() -> dict[str, Any]:
    """Return the schema."""
    row = object_schema(
        **{field.name: field.schema for field in FIELDS},
        reasons=STRINGS | {"description": "why the row has its verdict, in words"},
        doubts=STRINGS,
        runs=array(_ref("run")),
    )
    beyond = "values of all other diagnostics, by letter or name"
    row["properties"]["diagnostics"] = mapping(_ref("median")) | {"description": beyond}
    figures: dict[str, Schema | str] = {
        "mean": "number", "half_width": NUMBER, "std": NUMBER, "n": "integer",
    }  # fmt: skip
    how = {"enum": ["paired", "unpaired", "mean"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA,
        "description": "What `bench leaderboard --format json` writes.",
        **object_schema(schema={"const": SCHEMA}, citation="string", suites=array(_ref("suite"))),
        "$defs": {
            "estimate": {
                "anyOf": [{"type": "null"}, object_schema(**figures)],
                "description": "mean over n seeds; 95 % interval mean ± half_width, null at n = 1",
            },
            "margin": {
                "anyOf": [{"type": "null"}, object_schema(**figures, how=how)],
                "description": "percentage points over a floor. paired: of n pairs with one seed, "
                "or over a given accuracy. unpaired: a seed of the rule has no twin, so all seeds "
                "of rule and floor are compared by Welch's interval; n is that of the side with "
                "fewer, and there is no std. mean: the same without interval",
            },
            "median": {
                "type": "object",
                "properties": {"value": NUMBER, "note": {"type": "string"}},
                "required": ["value"],
                "additionalProperties": False,
                "description": "median over finished runs; null with a note where it is not finite",
            },
            "component": object_schema(name="string", params="object"),
            "run": object_schema(**{name: kind for name, (kind, _) in RUN.items()}),
            "row": row,
            "group": object_schema(
                header="string",
                arch=_ref("component"),
                dataset=_ref("component"),
                data="object",
                training="object",
                seeds=array({"type": "integer"}),
                set_aside="integer",
                resolution_pp=NUMBER,
                summary="string",
                notes=STRINGS,
                rows=array(_ref("row")),
            )
            | {"description": "one recipe; no figure is averaged over two"},
            "suite": object_schema(
                name="string",
                title="string",
                depth_utility=object_schema(floor="string", floor_value=NUMBER),
                thresholds=mapping({"type": "number"}),
                groups=array(_ref("group")),
            ),
        },
    }


def text() -> str:
    """Return the schema as the file's text."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(text(), end="")
