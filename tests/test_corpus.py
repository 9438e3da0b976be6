"""Results folders of every released schema are read, judged and shown."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from posted import CORPUS, tree, true

from bench_core.analysis.gather import gather
from bench_core.cli import bench
from bench_core.report.pages.page import page
from bench_core.report.tables.formats import leaderboards
from bench_core.results.agreement import compare, disagreement
from bench_core.results.record import (
    SCHEMA,
)
from bench_core.results.scan import scan
from bench_core.sharing import merge as merging
from bench_core.sharing import verify


@pytest.mark.parametrize("kind", sorted(path.name for path in CORPUS.iterdir()))
def test_results_of_every_earlier_schema_are_read_and_verified(tmp_path: Path, kind: str) -> None:
    """Frozen folders as older versions wrote them: nothing is unreadable, nothing has a fault,
    nothing is rewritten."""
    shutil.copytree(CORPUS / kind, tmp_path / kind)
    before = tree(tmp_path / kind)
    (results,), troubles = gather([tmp_path / kind])
    assert troubles == []
    assert results.settings.title
    assert {record.schema_version for record in results.records} == {SCHEMA}
    assert all("stop_when" in record.cell.training for record in results.records)
    assert sum(record.status == "done" for record in results.records) == 1
    for run_ in scan([tmp_path / kind]).runs:
        assert verify.faults(run_) == []
    merging.merge([tmp_path / kind], tmp_path / "into")
    assert {k: v for k, v in tree(tmp_path / "into").items() if "suite.json" not in k} == {
        k: v for k, v in before.items() if "suite.json" not in k
    }
    assert tree(tmp_path / kind) == before


def test_the_steps_in_a_batch_agree_where_an_older_run_does_not_say_them() -> None:
    changed = [true(seed=1, blocks_changed=pair) for pair in ((4, 4), (0, 4), None)]
    assert "blocks_changed" in compare(changed[0], changed[1]).said
    assert "blocks_changed in one of them only" in compare(changed[2], changed[0]).said
    posted, again = true(seed=1), true(seed=1, steps_per_batch=(1, 1))
    assert compare(posted, again).agrees  # its schema had no such field
    silent = true(seed=1, steps_per_batch=None)
    assert "steps_per_batch in one of them only" in compare(silent, again).said
    two = true(seed=1, steps_per_batch=(1, 2))
    assert "steps_per_batch" in compare(again, two).said


def test_a_number_of_steps_that_depends_on_the_machine_is_no_disagreement() -> None:
    here, there = ({"torch": name} for name in ("2.1", "2.2"))
    one = true(seed=1, steps_per_batch=(1, 2.31), environment=here)
    for taken, agrees in (((1, 2.32), True), ((1, 1), False), ((0, 2.31), False)):
        other = true(seed=1, steps_per_batch=taken, environment=there)
        assert compare(one, other).agrees == agrees, taken
        assert (disagreement(one, other) == []) == agrees


SUITE_2 = """
name: corpus
title: A results folder of schema 2
arch: {name: resmlp, width: 2, depth: 1}
dataset: digits
methods: [dfa]
seeds: [1]
training: {epochs: 1, batch_size: 32, threads: 1}
data: {limit: 64}
floors: false
"""


@pytest.mark.long
def test_a_run_of_an_older_schema_is_shown_and_not_reused(tmp_path: Path) -> None:
    shutil.copytree(CORPUS / "schema-2", tmp_path / "results")
    (suite,), _ = gather([tmp_path / "results"])
    assert "1 of 2 runs not done (seed " in " ".join(leaderboards([suite]).split())
    assert page([suite]).count("badge timeout") == 1
    (tmp_path / "tiny.yaml").write_text(SUITE_2)
    arguments = ["plan", str(tmp_path / "tiny.yaml"), "--results", str(tmp_path / "results")]
    told = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert "0 reused, 1 to run" in told.stdout
    assert "run: an earlier run is kept but not reused: its identity was" in told.stdout
    assert "algorithm 1" in told.stdout
