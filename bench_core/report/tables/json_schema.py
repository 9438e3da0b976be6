"""Build the parts of a JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]


def object_schema(**properties: Schema | str) -> dict[str, Any]:
    """Describe an object with exactly these properties; a text is the name of a type."""
    typed = {k: {"type": v} if isinstance(v, str) else v for k, v in properties.items()}
    return {
        "type": "object",
        "properties": typed,
        "required": list(typed),
        "additionalProperties": False,
    }


def nullable(name: str) -> dict[str, Any]:
    return {"type": [name, "null"]}


def array(items: Schema) -> dict[str, Any]:
    return {"type": "array", "items": items}


def mapping(values: Schema) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}
