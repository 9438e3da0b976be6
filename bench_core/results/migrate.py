"""Older run.json in today's form: one function per step, each from the schema before.

    1 → 2  `why`, `budget`, `resumed`, `stopped_by` came, and the status `skipped`; a recipe says what may end a training early
           (`stop_when`), which was nothing before.

    2 → 3  `algorithm`, by which the identity was computed (until then always 1), and `numerics` came.

A file is migrated when it is read and never rewritten: its checksum is that of what its author wrote. A field may be added,
with a default, only together with a new schema number, because readers refuse what they do not know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench_core.results.record import SCHEMA


def _from_1(raw: dict[str, Any]) -> dict[str, Any]:
    cell = raw.get("cell")
    if not (isinstance(cell, dict) and isinstance(cell.get("training"), dict)):
        return raw  # the schema will say so
    return {**raw, "cell": {**cell, "training": {"stop_when": {}, **cell["training"]}}}


class NewerSchema(ValueError):  # noqa: N818
    """Written by a newer bench."""


def _from_2(raw: dict[str, Any]) -> dict[str, Any]:
    return {**raw, "algorithm": 1, "numerics": {}}


STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1, 2: _from_2}


def migrated(raw: Any) -> dict[str, Any]:
    """The content of a run.json in the present schema. Raises ValueError with what is wrong in words, NewerSchema for a
    schema that is still to come."""
    version = raw.get("schema") if isinstance(raw, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < min(STEPS):
        raise ValueError(f"has no schema that this bench knows ({min(STEPS)} … {SCHEMA})")
    if version > SCHEMA:
        raise NewerSchema(
            f"has schema {version}, newer than this bench reads ({SCHEMA}): update bench-core"
        )
    for step in range(version, SCHEMA):
        raw = {**STEPS[step](raw), "schema": step + 1}
    return dict(raw)
