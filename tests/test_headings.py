"""A table says what ran: settings that are not usual stand in its heading, in every format."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from conftest import Here
from records import run

from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.verdicts.settings import Settings
from bench_core.report.view import view
from bench_core.results.record import cell_key
from bench_core.results.suite_json import SuiteFile

SUITE = """\
name: two
title: Two rules on digits
description: One of them transports no weights.
arch: {name: resmlp, width: 16, depth: 2}
dataset: digits
methods: [dfa, fa]
seeds: [1]
floors: false
data: {limit: 256}
training: {epochs: 1, batch_size: 64}
"""
PART = "not the whole suite: run with options, such as --method or --set"
OTHER = "Other rules or settings than in the file of two"
CHANGED = ("--set", "data.limit=200", "--set", "training.learning_rate=100", "--method", "dfa")
USUAL = {"data": {"limit": None}, "training": {}, "arch": {"name": "resmlp"}}


@pytest.mark.long
def test_a_changed_run_shows_its_settings_and_not_the_title_of_the_suite(here: Here) -> None:
    (here.cwd / "two.yaml").write_text(SUITE)
    first = here("run", "two.yaml", *CHANGED, env={"BENCH_REPORT": "1"})
    assert first.returncode == 0, first.stderr
    texts = {form: here("leaderboard", "--format", form).stdout for form in ("markdown", "latex")}
    texts |= {"terminal": first.stdout, "page": (here.cwd / "results/two/report.html").read_text()}
    for form, text in texts.items():
        plain = " ".join(text.replace("\\", "").replace("-{}-", "--").split())
        assert "Two rules" not in text, form
        assert "transports" not in text, form
        assert PART in plain, form
        for setting in ("data.limit=200", "training.learning_rate=100.0", "arch.width=16"):
            assert setting in plain, (form, setting)
    (suite,) = json.loads(here("leaderboard", "--format", "json").stdout)["suites"]
    assert suite["title"] == PART
    header = suite["groups"][0]["header"]
    assert "data.limit=200" in header
    (line,) = csv.DictReader(io.StringIO(here("leaderboard", "--format", "csv").stdout))
    assert line["header"] == header
    identity = next((here.cwd / "results/two").glob("*/run.json")).parent.name
    assert "data.limit=200" in here("show", identity[:8]).stdout

    whole = here("run", "two.yaml", env={"BENCH_REPORT": "1"})
    assert "two: Two rules on digits" in whole.stdout
    page = (here.cwd / "results/two/report.html").read_text()
    assert ">Two rules on digits</h2>" in page
    assert "transports" in page
    latex = here("leaderboard", "--format", "latex").stdout
    captions = [line for line in latex.splitlines() if "caption" in line]
    texts = {"data.limit=200" in line: line for line in captions}
    assert texts[False].startswith(r"\caption{Two rules on digits. resmlp")
    assert texts[True].startswith(r"\caption{resmlp")  # a remark is no title
    assert f"% {OTHER}\n" in latex
    mine = here("run", "two.yaml", *CHANGED, "--set", "title=Mine", "--set", "data.limit=128")
    assert "two: Mine" in mine.stdout  # an option's title is the user's own


@pytest.mark.parametrize(
    ("file", "defaults", "expected"),
    [
        (USUAL, {"width": 256, "depth": 4, "residual": True}, ""),
        (USUAL, {"width": 64, "depth": 4, "residual": True}, "arch.width=256"),
        (
            {**USUAL, "arch": {"name": "resmlp", "width": 32}},  # the default, and not the file's
            {"width": 256, "depth": 4, "residual": True},
            "arch.width=256",
        ),
        (USUAL, {"width": 256, "depth": 4}, "arch.residual=true"),  # a default is not known
        (
            {**USUAL, "data": {"limit": 5000}},
            {"width": 256, "depth": 4, "residual": True},
            "data.limit=null",
        ),
        (
            {**USUAL, "training": {"clip_norm": None}, "stop_when": ["scale_growth"]},
            {"width": 256, "depth": 4, "residual": True},
            "stop_when=none · training.clip_norm=1.0",
        ),
    ],
)
def test_a_setting_unlike_the_default_or_the_file_is_shown(
    file: dict[str, object], defaults: dict[str, object], expected: str
) -> None:
    settings = Settings(defaults={"arch bench-core/resmlp": defaults})
    (heading,) = view(SuiteResults("two", settings, (run(),), 0, claimed_for=file)).headers
    assert heading == " · ".join(
        filter(None, ["resmlp", "cifar10", "100 epochs", "seed 42", expected])
    )


@pytest.mark.parametrize(
    ("own", "title"),
    [
        (("dfa", "fa"), "Two rules (and 1 more rule)"),
        (("dfa",), "Two rules (1 of its 2 runs, and 1 more rule)"),
        ((), OTHER),
    ],
)
def test_a_title_counts_the_cells_of_the_suite_that_are_there(
    own: tuple[str, ...], title: str
) -> None:
    records = {name: run(f"bench-core/{name}") for name in ("dfa", "fa", "ep")}
    keys = [cell_key(records[name].cell) for name in ("dfa", "fa")]
    here = tuple(records[name] for name in (*own, "ep"))
    file = SuiteFile(title="Two rules", cells=keys)
    suite = SuiteResults("two", Settings(title="Two rules"), here, 0, file=file)
    assert view(suite).title == title
    file = SuiteFile(title="Two rules", cells=[cell_key(record.cell) for record in here])
    assert view(replace(suite, file=file)).title == "Two rules"
    floor = run("bench-core/ep", params={"freeze": "blocks"})
    of_own = replace(suite, file=file, records=(*here, floor))
    assert view(of_own).title == "Two rules"
    shorter = run("bench-core/ep", training={"stop_after": 6})
    beside = replace(suite, file=file, records=(*here, floor, shorter))
    assert view(beside).title == "Two rules"  # a heading of its own has the settings
    lacking = SuiteFile(
        title="Two rules", cells=[*(cell_key(each.cell) for each in here), "another"]
    )
    told = f"{len(here)} of its {len(here) + 1} runs, and 1 run with other settings"
    assert view(replace(beside, file=lacking)).title == f"Two rules ({told})"


@pytest.mark.long
def test_a_suite_without_a_title_is_headed_by_its_name(here: Here) -> None:
    (here.cwd / "two.yaml").write_text(SUITE.replace("title: Two rules on digits\n", ""))
    first = here("run", "two.yaml", "--no-report").stdout
    assert "\ntwo\n\nNo rule has a verdict yet" in first
    more = here("run", "two.yaml", "--method", "bp", "--no-report").stdout
    assert "\ntwo (and 1 more rule)\n\n" in more
    titles = [
        each["title"]
        for each in json.loads(here("leaderboard", "--format", "json").stdout)["suites"]
    ]
    assert titles == ["two (and 1 more rule)"]
    assert here("leaderboard", "--format", "markdown").stdout.startswith("## two (and 1 more rule)")
    (here.cwd / "two.yaml").write_text(SUITE.replace("title: Two rules", "title: two rules"))
    titled = here("run", "two.yaml", "--no-report").stdout
    assert "\ntwo: two rules on digits (and 1 more rule)\n" in titled


def test_settings_of_diagnostics_are_shown() -> None:
    defaults = {
        "arch bench-core/resmlp": {"width": 256, "depth": 4, "residual": True},
        "diagnostic bench-core/nudging": {"eta": 0.1},
        "diagnostic bench-core/drift": {},
    }
    settings = Settings({"scale_growth": 3.0}, defaults=defaults)
    diagnostics = {"bench-core/nudging": {"eta": 0.2}, "bench-core/drift": {}}
    suite = SuiteResults("two", settings, (run(),), 0, diagnostics=diagnostics)
    assert view(suite).headers[0].endswith("seed 42 · nudging.eta=0.2 · scale_growth.threshold=3.0")


@pytest.mark.long
def test_seeds_that_an_include_chooses_are_not_those_of_the_file(here: Here) -> None:
    """Seeds of the suite do not tell the cells of an entry that has seeds of its own."""
    text = SUITE + "include: [{method: fa, seeds: [7], training.epochs: 2}]\n"
    (here.cwd / "two.yaml").write_text(text.replace("seeds: [1]", "seeds: [1, 2]", 1))
    done = here("run", "two.yaml", "--set", "seeds=[1]", "--no-report")
    assert done.returncode == 0, done.stderr
    assert json.loads((here.cwd / "results/two/suite.json").read_text())["file"]["cells"] is None


@pytest.mark.long
def test_seeds_of_a_suite_keep_its_title_also_when_they_are_merged(here: Here) -> None:
    """The file's cells are known if `--seed` alone chose among them."""
    (here.cwd / "two.yaml").write_text(SUITE.replace("seeds: [1]", "seeds: [1, 2]"))
    for seed in (1, 2):
        done = here("run", "two.yaml", "--seed", seed, "-o", f"r{seed}", "--no-report")
        assert done.returncode == 0, done.stderr
    assert "Two rules on digits (2 of its 4 runs)" in here("leaderboard", "r1").stdout
    assert here("merge", "r1", "r2", "--into", "both").returncode == 0
    merged = here("leaderboard", "both").stdout
    assert "two: Two rules on digits" in merged
    assert "runs)" not in merged.splitlines()[0]
