"""Bring an older run.json to the present schema: one function per step.

    1 → 2  `why`, `budget`, `resumed`, `stopped_by` and the status `skipped` are new, all with
           defaults; so is `stop_when` of a recipe, empty until then
    2 → 3  `algorithm`, the rule that computed the identity (1 until then), and `numerics` are new.
           A measurement has the title, heading, sentence, axis, batch and needs_reference of its
           diagnostic; `described` copies these fields from the built-in diagnostics
    3 → 4  `evaluate_every` and `diagnose_every` are new, 1 until then; so are `validation_accuracy`
           and `energy_joules`, null until then. A recipe's `precision` takes the place of
           `autocast`: "float32" for "off"; no recipe now equals "autocast". A passport has
           `local_heads`, which no rule had until then. A measurement has `repeatable`, true until
           then
    4 → 5  `steps_per_batch` is new, null until then
    5 → 6  `blocks_changed` is new, null until then
    6 → 7  `measured_by` is new, empty until then; so are `test_samples`, `reset_accuracy`
           and `recalibrated_accuracy`, null until then

A file is migrated when it is read and never rewritten, so its checksum stays that of its author. A
new field needs a default and a new schema number, because readers refuse unknown fields.
"""

from __future__ import annotations

from typing import Any

from bench_core.names import without_ours
from bench_core.results.files import newer
from bench_core.results.record import SCHEMA, Measurement

OLDER: dict[str, dict[str, Any]] = {
    "scale_growth": {
        "title": "largest growth of ‖h‖ in one block",
        "heading": "growth",
        "sentence": "{state} grows {value}x in one block (limit {limit}x)",
        "axis": "log",
    },
    "reference_floor": {
        "title": "‖g_L‖, batch-mean CE",
        "heading": "‖g_L‖",
        "sentence": "reference gradient at the floor ({value} < {limit} at N={batch})",
        "axis": "log",
        "batch": 128,
    },
    "batch_stability": {
        "title": "cosine between the gradients of batches",
        "heading": "cosine",
        "sentence": "gradient direction repeats across batches (cosine {value}, limit {limit})",
    },
    "depth_utility": {
        "title": "accuracy over the floor",
        "heading": "margin",
        "sentence": "blocks help {value} pp over {floor} (needs {limit})",
    },
    "alignment": {"needs_reference": True},
    "layer0_dominance": {"needs_reference": True},
    "null_calibration": {"needs_reference": True},
}  # attributes of the built-in diagnostics


def described(name: str, item: Measurement) -> Measurement:
    """Return a measurement with the words of the built-in diagnostics, whatever a record says.

    Records from before schema 3 lack them.
    """
    older = OLDER.get(without_ours(name), {})
    if all(getattr(item, field) == value for field, value in older.items()):
        return item
    return item.model_copy(update=older)


class NewerSchema(ValueError):  # noqa: N818
    """A file written by a newer bench."""


def _from_1(raw: dict[str, Any]) -> dict[str, Any]:
    cell = raw.get("cell")
    if not (isinstance(cell, dict) and isinstance(cell.get("training"), dict)):
        return raw  # the schema rejects it
    return {**raw, "cell": {**cell, "training": {"stop_when": {}, **cell["training"]}}}


def _from_2(raw: dict[str, Any]) -> dict[str, Any]:
    return {**raw, "algorithm": 1, "numerics": {}}


def _from_3(raw: dict[str, Any]) -> dict[str, Any]:
    cell = raw.get("cell")
    if not (isinstance(cell, dict) and isinstance(cell.get("training"), dict)):
        return raw  # the schema rejects it
    training = dict(cell["training"])
    if "autocast" in training:
        training["precision"] = "float32" if training.pop("autocast") == "off" else "autocast"
    passport = raw.get("passport")
    if isinstance(passport, dict) and passport:
        raw = {**raw, "passport": {"local_heads": False, **passport}}
    return {**raw, "cell": {**cell, "training": training}}


def _unchanged(raw: dict[str, Any]) -> dict[str, Any]:
    return raw


STEPS = {1: _from_1, 2: _from_2, 3: _from_3, 4: _unchanged, 5: _unchanged, 6: _unchanged}


def migrated(raw: Any) -> dict[str, Any]:
    """Return the content of a run.json in the present schema.

    Raises ValueError for an unknown schema, and NewerSchema for one of a newer bench.
    """
    version = raw.get("schema") if isinstance(raw, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < min(STEPS):
        raise ValueError(f"has no schema that this bench knows ({min(STEPS)} … {SCHEMA})")
    if version > SCHEMA:
        raise NewerSchema(newer(version, SCHEMA))
    for step in range(version, SCHEMA):
        raw = {**STEPS[step](raw), "schema": step + 1}
    return dict(raw)
