"""The table of statuses: everything that shows or judges a run takes every status from it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from folders import leaderboard
from pydantic import ValidationError
from records import audit, run

from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.verdicts.settings import Settings
from bench_core.report.pages.page import page
from bench_core.report.tables.columns import COLUMNS
from bench_core.report.tables.data import RUN
from bench_core.report.tables.schema import schema
from bench_core.report.text.terminal import COLOURS, paint
from bench_core.results.record import RunRecord
from bench_core.results.status import FINAL, STATUSES, is_reused
from bench_core.suite.budget import Budget

SCHEMA = json.loads((Path(__file__).parent.parent / "docs/leaderboard.schema.json").read_text())


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_is_shown_and_its_leaderboard_follows_the_published_schema(
    status: str, tmp_path: Path
) -> None:
    records = (*audit(), run("bench-core/dfa", 7, status=status, reason="a reason"))
    assert RunRecord.model_validate_json(records[-1].to_json()) == records[-1]
    document = json.loads(leaderboard(records, format="json"))
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    html = page([SuiteResults("made", Settings(), records, 0, tmp_path)])
    if STATUSES[status].tone:
        assert paint(status) != status
        assert f".badge.{status} {{ background: var(--{STATUSES[status].tone}-bg)" in html
        assert f"seed 7 {status}: a reason" in " ".join(leaderboard(records).split())


def test_the_published_schema_names_the_statuses_of_the_table() -> None:
    assert SCHEMA["$defs"]["run"]["properties"]["status"]["enum"] == list(STATUSES)
    assert set(STATUSES) - COLOURS.keys() == {"done"}


def test_the_published_schema_has_every_column_and_every_field_of_a_run() -> None:
    assert schema() == SCHEMA
    row, one = SCHEMA["$defs"]["row"], SCHEMA["$defs"]["run"]
    columns = {field.name for column in COLUMNS for field in column.fields}
    assert {*columns, "reasons", "doubts", "runs"} == set(row["required"])
    assert row["additionalProperties"] is one["additionalProperties"] is False
    assert set(RUN) == set(one["required"])


def test_a_status_outside_the_table_is_no_status() -> None:
    with pytest.raises(ValidationError, match="status"):
        RunRecord.model_validate({**run().model_dump(by_alias=True), "status": "pending"})


def test_limits_of_a_status_are_settings_of_a_budget() -> None:
    for name, status in STATUSES.items():
        assert set(status.limits) <= Budget.model_fields.keys()
        assert bool(status.limits) == (status.reused == "within the budget")
        assert is_reused(name, {}, {}) == (name in FINAL) == (status.reused == "always")
