"""Diagnostics of another package: one with the letter e, and one that judges nothing.

In the verdict, every format, every export and every figure.
"""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from conftest import TINY, Here, fake_dist

from bench_core.analysis.gather import gather
from bench_core.errors import UsageError
from bench_core.report import export, figures
from bench_core.report.pages.page import page
from bench_core.report.pages.tallies import bands
from bench_core.report.tables.formats import FORMATS, Wanted, leaderboards
from bench_core.report.view import view

SOURCE = '''
from bench_core.api import Component, Diagnostic, Measured, hookimpl


class Rank(Diagnostic):
    """7 at the end of the training, 0 before."""

    letter, direction, threshold, unit = "e", "above", 3.5, "samples"
    title, heading, axis = "rank of the states", "rank", "log"
    sentence = "the states have rank {value} (limit {limit} {unit})"

    def measure(self, audit):
        return Measured(7.0 if len(audit.history) > 1 else 0.0)


class Spread(Diagnostic):
    """The largest entry of all credits; it judges nothing."""

    def measure(self, audit):
        return Measured(max(float(a.abs().max()) for b in audit.batches for a in b.audited))


@hookimpl
def bench_diagnostics():
    return [
        Component("rank", "rank_plugin:Rank", "rank of the states"),
        Component("spread", "rank_plugin:Spread", "spread of the credits"),
    ]
'''


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("further")
    fake_dist(home / "site", "x-rank", "rank_plugin", SOURCE)
    suite = home / "tiny.yaml"
    suite.write_text(TINY + "diagnostics: [scale_growth, x-rank/rank, x-rank/spread]\n")
    done = Here(home)("run", suite, "--results", home / "results", path=[home / "site"])
    assert done.returncode == 0, done.stderr
    assert "the states have rank 7" in " ".join(done.stdout.split())
    return home / "results"


@pytest.mark.long
def test_it_is_judged_and_shown_without_its_package(results: Path) -> None:
    """The verdict, the sentence and the column, in every format."""
    suites, troubles = gather([results])
    assert troubles == []
    wanted = Wanted(None, columns=["e", "spread"])
    texts = {name: leaderboards(suites, format=name, wanted=wanted) for name in FORMATS}
    for name in ("table", "markdown", "latex"):
        assert "e rank" in texts[name]
        assert "the states have rank 7 (limit 3.5 samples)" in texts[name]
        assert re.search(r"rank \(e\)(, \w+)*: median over finished runs", texts[name])
        assert "spread" in texts[name]
    document = json.loads(texts["json"])["suites"][0]["groups"][0]
    row = next(row for row in document["rows"] if row["role"] == "method")
    assert row["diagnostics"]["e"] == {"value": 7.0}
    spread = row["diagnostics"]["spread"]["value"]
    assert spread > 0
    assert "e" in row["runs"][0]["letters"]
    assert row["runs"][0]["verdict"].startswith("flagged (")
    line = next(
        line
        for line in csv.DictReader(io.StringIO(texts["csv"], newline=""))
        if line["role"] == "method"
    )
    assert (float(line["e_rank"]), line["e_rank_note"]) == (7.0, "")
    assert float(line["spread"]) == spread
    alone = leaderboards(suites)
    assert "spread" not in alone.split("\n\n")[2]
    assert "--column NAME one" in " ".join(alone.split())
    with pytest.raises(UsageError, match="--column nope: no such column; there are rank, "):
        leaderboards(suites, wanted=Wanted(columns=["nope"]))
    exported = [line for line in export.runs([view(suites[0])]) if line["role"] == "method"]
    assert (exported[0]["e_rank"], exported[0]["spread"]) == (7.0, spread)


@pytest.mark.long
def test_it_has_a_panel_a_row_and_a_column_of_the_page(results: Path) -> None:
    (suite,), _ = gather([results])
    shown = view(suite)
    panels = [
        panel.title
        for drawn in figures.drawn(shown)
        if drawn.chart.name == "audit"
        for panel in drawn.figure.panels
    ]
    assert "e · rank of the states (samples)" in panels
    assert ("e · rank", "> 3.5") in {row[:2] for row in bands(shown)}
    html = page([suite])
    assert '<abbr title="e · rank of the states (samples)">rank</abbr>' in html
    assert '<th scope="col" class="n">spread</th>' in html
    assert "the states have rank 7 (limit 3.5 samples)" in html
