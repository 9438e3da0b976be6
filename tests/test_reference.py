"""The reference: compact runs that ship with bench, used where valid and never silently."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from bench_reference import add as adding
from bench_reference import readme
from click.testing import CliRunner
from conftest import TINY, Finished, Here, plan_totals, runs
from hostile import reseal
from records import seeds

from bench_core import cli, load
from bench_core.analysis.claims import board, trainings
from bench_core.analysis.gather import gather
from bench_core.analysis.joined import beside_reference, together
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.analysis.verdicts.ranks import PUBLISHED, resolution
from bench_core.analysis.verdicts.roles import role
from bench_core.commands.plan import precision
from bench_core.errors import UsageError
from bench_core.execution.planning.reuse import StoredRuns
from bench_core.execution.planning.shipped import Shipped
from bench_core.registry import plugins
from bench_core.registry.registry import base_class, resolve
from bench_core.report import figures
from bench_core.report.all_claims import all_claims
from bench_core.report.costs import costs_text
from bench_core.report.pages import site
from bench_core.report.pages.site import pages
from bench_core.report.tables import notes
from bench_core.report.tables.formats import leaderboards
from bench_core.report.view import view
from bench_core.report.words.headings import headings
from bench_core.results import compact, epochs, ledger, reference, store, suite_folder
from bench_core.results.agreement import disagreement
from bench_core.results.record import Cell, RunRecord, cell_key
from bench_core.results.scan import Stored, scan
from bench_core.sharing.verify import faults
from bench_core.suite.load import load_suite
from bench_core.suite.recipe import DataOptions, TrainingOptions
from bench_core.training.params import read, resolved

REPOSITORY = Path(__file__).resolve().parent.parent
LIMIT = 12_000_000  # bytes of all that ships


@pytest.fixture(scope="session")
def shipped(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference with the four cells of the tiny suite."""
    home = tmp_path_factory.mktemp("shipped")
    command = [str(finished.results), "--into", str(home), "--commit", "c" * 40]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adding, "fault", lambda *about: "")  # of code with edits
        for _ in range(2):  # the second time nothing changes
            done = CliRunner().invoke(adding.main, command)
            assert done.exit_code == 0, done.output
    assert "4 there already" in done.output
    return home


def changed(home: Path, to: Path, change: Callable[[Path], None]) -> Path:
    """Copy a reference, and change the run.json of its dfa."""
    shutil.copytree(home, to)
    for folder in to.glob("tiny/*/"):
        method = store.raw(folder)["cell"]["method"]
        if method["name"] == "bench-core/dfa" and method["params"]["freeze"] is None:
            change(folder / store.RUN)
    return to


def clean(read: Callable[[Any], RunRecord]) -> Callable[[Any], RunRecord]:
    """Let every run be of committed code, as those of a checkout with edits are not."""

    def record(raw: Any) -> RunRecord:
        run = read(raw)
        return run.model_copy(update={"environment": {**run.environment, "dirty": False}})

    return record


# ---------------------------------------------------------------------------------- compact form


def test_a_compact_run_says_what_the_run_says(finished: Finished, shipped: Path) -> None:
    trained = scan([finished.results]).runs
    assert len(trained) == 4
    for run in trained:
        small = store.read(shipped / "tiny" / run.record.identity, sums=True)
        assert small.cell == run.record.cell
        assert small.accuracy == pytest.approx(run.record.accuracy, rel=1e-6)
        assert not disagreement(small, run.record)
        assert small.original["run.json"].blake2b == run.record.checksum
        assert small.environment["reference"] == adding.VERSION
        rows = [epochs.read(folder) for folder in (run.folder, shipped / "tiny" / small.identity)]
        assert len(rows[0]) == len(rows[1]) > 0
        for own, other in zip(*rows, strict=True):
            assert own.measurements.keys() == other.measurements.keys()
            for name, item in own.measurements.items():
                again = other.measurements[name]
                assert again.value == (item.value and float(f"{item.value:.7g}"))
                assert (again.letter, again.threshold) == (item.letter, item.threshold)
                assert again.details == compact.seven_digits(item.details)


def test_a_compact_run_has_no_fault_and_few_bytes(finished: Finished, shipped: Path) -> None:
    compacted = scan([shipped]).runs
    assert len(compacted) == 4
    for run in compacted:
        assert faults(run) == []
        folder = finished.folder / run.record.identity
        size, own = (sum(p.stat().st_size for p in f.glob("*.json*")) for f in (run.folder, folder))
        assert size < own / 2


@pytest.mark.parametrize(
    "line", ["[1]", '{"row":1,"columns":[]}', '{"row":{},"columns":[[["a"]]]}\n[1,2]',
             '{"row":{"a":1},"columns":[[["a","b"]]]}\n[1]']
)  # fmt: skip
def test_compact_rows_that_do_not_fit_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "epochs.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match="has a"):
        list(epochs.lines(tmp_path))


def test_packed_rows_that_are_broken_or_endless_are_refused(tmp_path: Path) -> None:
    packed, whole = tmp_path / "epochs.jsonl.gz", compact.packed([{"epoch": 0}])
    broken = (whole[:-9], whole[:30] + b"???" + whole[33:], b"no gzip", gzip.compress(b" " * 10**7))
    for content in broken:
        packed.write_bytes(content)
        with pytest.raises((ValueError, OSError)):
            list(epochs.lines(tmp_path))


# ----------------------------------------------------------------------------------------- in use


def plan(here: Here, suite: Path, home: Path, *more: str) -> dict[str, Any]:
    done = here("plan", suite, "--json", *more, env={"BENCH_REFERENCE": str(home)})
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "err": done.stderr}


@pytest.mark.long
def test_cells_come_from_the_reference_and_are_marked_in_every_format(
    here: Here, finished: Finished, shipped: Path
) -> None:
    env = {"BENCH_REFERENCE": str(shipped)}
    done = here("run", finished.suite, env=env)
    assert done.returncode == 0
    assert "4 from the reference, 0 to run" in done.stderr + done.stdout
    assert "all 4 runs from reference 1" in done.stdout
    for form in ("markdown", "latex", "csv", "json", "table"):
        table = here("leaderboard", "--format", form, env=env)
        assert "all 4 runs from reference 1" in table.stdout
        assert table.stdout.count("reference 1, 20") >= 1, form
        assert table.stderr == ""
    for form in ("runs", "epochs", "measurements"):
        first, *lines = here("export", "--table", form, env=env).stdout.splitlines()
        assert "from_reference" in first
        assert all("reference 1, 20" in line for line in lines)
    identity = next((here.cwd / "results/tiny").glob("*/run.json")).parent.name
    shown = here("show", identity, env=env).stdout
    assert "from        reference 1, 20" in shown
    assert "trust       shipped with bench; its checksum agrees" in shown
    assert "bench run again.yaml --results again --no-reference\n" in shown
    assert here("verify", env=env).returncode == 0
    audit = here("audit", "results", "--diagnostic", "drift").stderr
    assert "4 compact runs left out" in audit
    assert "no finished run to audit" in audit
    # an installed reference without these rows does not vouch for them
    unknown = here("leaderboard", env={"BENCH_REFERENCE": ""}).stderr
    assert unknown.count("and 3 more: marked as a row of the reference, but the installed") == 1
    misspelt = plan(here, finished.suite, here.cwd / "nowhere")["err"]
    assert "BENCH_REFERENCE: the reference is not used: " in misspelt
    # and --no-reference trains them all
    counted = plan(here, finished.suite, shipped, "--no-reference")["cells"]
    assert {cell["action"] for cell in counted} == {"run"}


def test_other_methods_stand_beside_an_own_rule(
    here: Here, finished: Finished, shipped: Path
) -> None:
    made = plan(here, finished.suite, shipped, "--method", "fa")["cells"]
    actions = {
        (cell["cell"]["method"]["name"], cell["cell"]["method"]["params"]["freeze"]): cell["action"]
        for cell in made
    }
    assert {actions["bench-core/fa", None], actions["bench-core/fa", "blocks"]} == {"run"}
    assert [name for name, action in actions.items() if action == "reference"] == [
        ("bench-core/bp", "blocks"), ("bench-core/bp", None),
        ("bench-core/dfa", None), ("bench-core/dfa", "blocks"),
    ]  # fmt: skip
    options = (finished.suite, "--method", "fa")
    told = plan_totals(here, *options, env={"BENCH_REFERENCE": str(shipped)})
    beside = "; 2 of other methods beside them, from the reference"
    assert f"4 cells, 0 reused, 2 from the reference, 2 to run{beside}" in told


def test_no_row_of_the_reference_stands_beside_a_cell_that_was_trained_here(
    here: Here, finished: Finished, shipped: Path
) -> None:
    """By other code, so that the run is not reused."""
    home = Path(shutil.copytree(finished.results, here.cwd / "results")) / "tiny"
    for name in runs(home):
        (home / name).rename(other := home / name[::-1])
        reseal(other, {**store.raw(other), "identity": other.name})
    content = suite_folder.content(home)
    cells = {key: name[::-1] for key, name in content["cells"].items()}
    suite_folder.write(home, {**content, "cells": cells})
    made = plan(here, finished.suite, shipped, "--method", "fa")["cells"]
    rules = [(cell["cell"]["method"]["name"], cell["action"]) for cell in made]
    assert rules == [("bench-core/fa", "run")] * 2 + [("bench-core/bp", "reference")] * 2


@pytest.mark.long
def test_a_copy_of_an_earlier_reference_gives_way_to_the_run_of_today(
    here: Here, finished: Finished, shipped: Path
) -> None:
    env = {"BENCH_REFERENCE": str(shipped)}
    assert here("run", finished.suite, env=env).returncode == 0
    copy = here.cwd / "results" / "tiny" / min(runs(shipped / "tiny"))
    today = store.raw(copy)
    reseal(copy, {**today, "accuracy": 0.25})
    assert store.read(copy, sums=True).accuracy == 0.25
    assert here("run", finished.suite, env=env).returncode == 0
    assert store.raw(copy) == today == store.raw(shipped / "tiny" / copy.name)


@pytest.mark.long
def test_a_plan_says_what_the_reference_lacks_but_not_of_rules_that_it_does_not_know(
    here: Here, finished: Finished, shipped: Path
) -> None:
    own = plan(here, finished.suite, shipped, "--method", "fa")
    assert "the reference has no run" not in own["err"]
    more = plan(here, finished.suite, shipped, "--seed", "1", "--seed", "7")
    assert "the reference has no run for 4 of these cells" in more["err"]
    other = plan(here, finished.suite, shipped, "--epochs", "2")
    nearest = "; the nearest runs have training.epochs 1, not 2"
    assert f"the reference has no run for any of these cells{nearest}" in other["err"]
    seed = plan(here, finished.suite, shipped, "--seed", "7", "--set", "training.learning_rate=0.1")
    lacks = "the nearest runs have training.learning_rate 0.001, not 0.1; seed 1, not 7"
    assert lacks in seed["err"]
    scaled = plan(here, finished.suite, shipped, "--set", "methods=[{name: dfa, block_scale: 10}]")
    assert "method.block_scale 1.0, not 10.0" in scaled["err"]  # which those runs do not state
    network = plan(here, finished.suite, shipped, "--arch", "relu_mlp")
    (note,) = (line for line in network["err"].splitlines() if "nearest" in line)
    assert note.endswith("the nearest runs have arch bench-core/resmlp, not bench-core/relu_mlp")


@pytest.mark.long
def test_a_part_of_a_suite_of_the_reference_has_the_title_of_the_suite(
    here: Here, finished: Finished, shipped: Path
) -> None:
    """Its cells are known from the reference, where no run of the whole suite was here."""
    suite = here.cwd / "tiny.yaml"
    suite.write_text(f"title: The tiny suite\n{finished.suite.read_text()}")
    done = here("run", suite, "--method", "bp", env={"BENCH_REFERENCE": str(shipped)})
    assert done.returncode == 0, done.stderr
    file, theirs = (
        suite_folder.content(folder)["file"]
        for folder in (here.cwd / "results" / "tiny", shipped / "tiny")
    )
    assert set(file["cells"]) == set(theirs["cells"])
    assert "tiny: The tiny suite" in done.stdout
    other = ("run", suite, "--method", "bp", "--epochs", 2, "-o", "other")
    done = here(*other, env={"BENCH_REFERENCE": ""})
    assert "tiny: not the whole suite: run with options, such as --method or --set" in done.stdout


@pytest.mark.long
def test_the_cost_of_a_plan_says_that_its_runs_are_of_the_reference(
    here: Here, finished: Finished, shipped: Path
) -> None:
    env = {"BENCH_REFERENCE": str(shipped)}
    told = plan_totals(here, finished.suite, "--method", "fa", env=env)
    assert told.endswith(
        "estimated from runs of other rules, the fastest on machines of the reference; "
        "a busy core takes longer"
    )
    options = ("--method", "fa", "--method", "dfa", "--seed", "7")
    told = plan_totals(here, finished.suite, *options, env=env)
    both = "runs of the rule itself (4 cells) and other rules (2 cells)"
    fastest = "the fastest on machines of the reference; a busy core takes longer"
    assert told.endswith(f"estimated from {both}, {fastest}")
    assert here("run", finished.suite, env=env).returncode == 0  # which copies its runs
    told = plan_totals(here, finished.suite, "--seed", "7", env=env)
    assert told.endswith(f"estimated from runs of the rule itself, {fastest}")


@pytest.mark.parametrize(
    ("command", "remedy"),
    {
        "verify": "`python -m bench_reference.add --check` checks it",
        "replicate": "then `bench replicate COPY`",
        "clean": "name a results folder of yours",
    }.items(),
)
def test_no_command_writes_into_the_reference(
    here: Here, shipped: Path, command: str, remedy: str
) -> None:
    before = sorted(shipped.rglob("*"))
    for name in ("tiny", shipped, shipped / "tiny"):
        done = here(command, name, env={"BENCH_REFERENCE": str(shipped)})
        assert done.returncode == 2
        assert f"{name}: belongs to the shipped reference" in done.stderr
        assert str(shipped) in done.stderr
        assert remedy in done.stderr
    assert sorted(shipped.rglob("*")) == before
    copied = shutil.copytree(shipped / "tiny", here.cwd / "results" / "tiny")
    if command == "verify":  # results here come first
        assert here("verify", "tiny", env={"BENCH_REFERENCE": str(shipped)}).returncode == 0
        assert (copied / "agreement").is_dir()


@pytest.mark.parametrize(
    ("command", "remedy"),
    {
        "run quickstart -o": "folder",
        "tune quickstart -o": "folder",
        "merge results --into": "folder",
        "submit results -o": "folder",
        "site results -o": "folder",
        "new method mine --into": "folder",
        "report results -o": "file",
    }.items(),
)
def test_no_option_names_a_place_in_the_reference(
    here: Here, shipped: Path, command: str, remedy: str
) -> None:
    before = sorted(shipped.rglob("*"))
    (here.cwd / "results").mkdir()
    option = command.split()[-1]
    for place in (shipped / "tiny", shipped / "new"):
        done = here(*command.split(), place, env={"BENCH_REFERENCE": str(shipped)})
        assert done.returncode == 2
        assert done.stderr == (
            f"error: {option} {place}: belongs to the shipped reference, in which no "
            f"command writes; name a {remedy} of yours\n"
        )
    assert sorted(shipped.rglob("*")) == before


def test_rows_of_an_earlier_reference_are_no_own_runs(
    tmp_path: Path, finished: Finished, shipped: Path
) -> None:
    home = Path(shutil.copytree(finished.folder, tmp_path / "tiny"))
    own, row, *_ = sorted(runs(home))
    shutil.rmtree(home / row)
    shutil.copytree(shipped / "tiny" / row, home / row)
    stored = StoredRuns(home, load_suite(finished.suite), [], False)
    keys = {name: key for key, name in stored.earlier.items()}
    trained = stored.trained(reference.Reference(tmp_path / "newer"))
    assert (keys[own] in trained, keys[row] in trained) == (True, False)


def test_precision_counts_every_rule_that_gets_a_rank(finished: Finished) -> None:
    def cells(*rules: str, seeds: int = 3) -> list[Any]:
        return [
            SimpleNamespace(
                cell=Cell.model_validate({**cell, "method": {"name": rule}, "seed": n}),
                action="run",
            )
            for rule in rules
            for n in range(seeds)
        ]

    cell = scan([finished.results]).runs[0].record.cell.model_dump()
    own, other, few = cells("x", "bp"), cells("dfa", "fa"), cells("ep", seeds=1)
    here: dict[str, Any] = {"folder": Path("nowhere"), "shipped": []}
    plan: Any = SimpleNamespace(cells=own, beside=[*other, *few], **here)
    assert f"differ by {100 * resolution(4, 3, PUBLISHED):.1f} points" in precision(plan)[0]
    plan = SimpleNamespace(cells=few + few, beside=other, **here)
    assert "one seed" in precision(plan)[0]


@pytest.mark.long
def test_precision_counts_the_rules_that_the_folder_has(here: Here, finished: Finished) -> None:
    """A plan of one rule is ranked among the finished runs of its recipe, and no others."""
    seeds = ("--seed", "1", "--seed", "2", "--set", "floors=false", "--no-reference")
    here("run", finished.suite, "--method", "dfa", *seeds)
    command = ("plan", finished.suite, "--method", "fa", *seeds)
    assert "with 2 seeds, two rules that differ by" in here(*command).stdout
    assert "rules apart" not in here(*command, "--set", "training.epochs=3").stdout


def test_precision_is_by_the_scatter_of_the_runs_that_are_here() -> None:
    """As in the leaderboard of the same runs."""
    accuracies = {"bp": [0.60, 0.62, 0.61], "dfa": [0.30, 0.31, 0.33], "fa": [0.41, 0.40, 0.44]}
    records = [
        item for rule, own in accuracies.items() for item in seeds(f"bench-core/{rule}", own)
    ]
    stored = [
        SimpleNamespace(cell=record.cell, identity=record.identity, shipped=Stored(record, Path()))
        for record in records
    ]
    others = [  # more runs, of another recipe
        SimpleNamespace(
            cell=(cell := record.cell.model_copy(update={"training": {"epochs": 7}})),
            identity=f"{n}{record.identity}",
            shipped=Stored(
                record.model_copy(update={"cell": cell, "accuracy": record.accuracy / (1 + n)}),
                Path(),
            ),
        )
        for n, record in enumerate([*records, *seeds("bench-core/ep", [0.1, 0.9, 0.5])])
    ]
    both = {"folder": Path("nowhere"), "shipped": [*stored, *others]}
    plan: Any = SimpleNamespace(cells=stored, beside=[], **both)
    (group,) = judge_all(records)
    points = 100 * resolution(3, 3, group.ranking.deviation)
    (line,) = precision(plan)
    assert f"differ by {points:.1f} points" in line
    assert line.endswith("(if all scatter like the runs that are here)")


@pytest.mark.long
def test_a_suite_of_the_reference_can_be_named_beside_own_runs(
    here: Here, finished: Finished, shipped: Path
) -> None:
    env = {"BENCH_REFERENCE": str(shipped)}
    here("run", finished.suite, "--seed", "2", "--method", "dfa", "--no-reference", env=env)
    own = here("leaderboard", "tiny", env=env)
    note = "note: tiny is results/tiny, your own runs; reference/tiny is the reference, which they"
    assert own.stderr.startswith(note)
    assert "from reference" not in own.stdout
    of_reference = here("leaderboard", "reference/tiny", env=env)
    assert "all 4 runs from reference 1" in of_reference.stdout
    assert of_reference.stderr == ""
    assert "reference/nope: no such" in here("leaderboard", "reference/nope", env=env).stderr
    for path in (here.cwd / "results" / "tiny").glob("*/run.json"):
        shutil.rmtree(path.parent)
    begun = here("leaderboard", "tiny", env=env)
    note = "note: results/tiny has no finished run; reference/tiny is the reference\n"
    assert (begun.stderr, begun.returncode) == (note, 0)


def test_a_suite_without_local_results_shows_the_reference(
    here: Here, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_REFERENCE", str(shipped))
    for command in (("leaderboard", "tiny"), ("compare", "tiny", shipped / "tiny")):
        done = here(*command)
        text = " ".join(done.stdout.split())
        assert "all 4 runs from reference 1" in text
        assert done.returncode == 0
    (shown,), troubles = gather([shipped / "tiny"])
    assert len(shown.records) == 4
    assert troubles == []
    figure = figures._sourced(figures.Figure("A caption.", ()), view(shown).rows)
    assert figure.caption.startswith("A caption. Measured: reference 1, 20")
    one = next(each for each in shown.records if role(each) == "method")
    twin = one.model_copy(update={"original": {}, "identity": "f" * 32})
    twin = twin.model_copy(update={"cell": one.cell.model_copy(update={"seed": 2})})
    mixed = replace(shown, records=(*shown.records, twin))
    groups = judge_all(mixed.records, mixed.settings)
    assert headings(mixed, groups)[0].endswith("4 of 5 runs from reference 1")
    assert reference.source([one, twin]).endswith(" (1 of 2 runs)")
    for suite, count in ((shown, 0), (mixed, 1)):
        assert costs_text([suite], "table", None, None).count("those of its machine") == count


def test_runs_of_the_reference_are_counted_by_machine(shipped: Path) -> None:
    (shown,), _ = gather([shipped / "tiny"])
    about = {"reference": "1", "device_name": "Xeon"}
    epyc = about | {"device_name": "EPYC", "lapsed": "x"}
    records = tuple(
        record.model_copy(
            update={
                "environment": epyc if record.cell.method.short == "dfa" else about,
                "finished": f"2026-11-2{k}T00:00:00+00:00",
            }
        )
        for k, record in enumerate(shown.records)
    )
    assert reference.source(records).endswith("2 on EPYC, lapsed (x), 2 on Xeon")
    assert reference.source(records[:1]).count(" on ") == 0
    (group,) = judge_all(records, shown.settings)
    days = "reference 1, 2026-11-20 … 2026-11-23"
    placed = "2 on EPYC, lapsed (x) (dfa, dfa[frozen]); 2 on Xeon (bp, bp[frozen])"
    counted, lapsed = notes.references(group)
    assert counted == f"all 4 runs from {days}: {placed}"
    assert lapsed.startswith("lapsed: today's code gives other numbers than these runs have")


def test_a_run_that_is_not_here_is_shown_from_the_reference(here: Here, shipped: Path) -> None:
    identity = min(runs(shipped / "tiny"))
    env = {"BENCH_REFERENCE": str(shipped)}
    (here.cwd / "results" / "other").mkdir(parents=True)
    for command, line in (("show", f"run         {identity}"), ("why", f"{identity}  ")):
        assert line in here(command, identity[:12], env=env).stdout
        assert "no run in results" in here(command, "zz", env=env).stderr
        assert (
            "runs from reference" not in here(command, identity[:12], env=env).stdout
        )  # it is one
        assert identity not in here(command, identity[:12], env={"BENCH_REFERENCE": ""}).stdout


def test_a_suite_may_list_runs_of_another(tmp_path: Path, shipped: Path, monkeypatch: Any) -> None:
    home = changed(shipped, tmp_path / "home", lambda path: None)
    listed = {**suite_folder.content(home / "tiny"), "name": "part"}
    (home / "part").mkdir()
    suite_folder.write(home / "part", listed)
    monkeypatch.setenv("BENCH_REFERENCE", str(home))
    (tmp_path / "link").symlink_to(home)
    (shown,), _ = gather([tmp_path / "link" / "part"])
    assert len(shown.records) == 4
    assert all(epochs.read(shown.run_folder(record)) for record in shown.records)
    views = [*map(view, together(gather([home])[0])[0])]
    assert all(shown.epochs(run.record) for shown in views for _, _, run in shown.runs)
    bp, dfa = site._rules(views, {})
    assert [[*entry.suites] for entry in bp["entries"]] == [["part", "tiny"]] * 2
    assert len(dfa["runs"]) == 2
    assert "reference" not in dfa["entries"][0].recipe
    (found,) = site._first_recipes(views)  # both have the same recipe
    assert {line.label for lines in found["lists"].values() for line in lines} == {"bp", "dfa"}
    (home / "part" / suite_folder.SUITE).write_text("{")
    assert "part/suite.json: cannot be read" in gather([home / "part"])[1][0]


def lie(path: Path) -> None:
    raw = store.raw(path.parent)
    reseal(path.parent, {**raw, "accuracy": 0.9})


def stated(path: Path, **fields: Any) -> None:
    """Let cells.json state the checksum of a run, and other fields of its entry."""
    known = reference.installed(path.parents[2])
    assert known is not None
    checksum = json.loads(path.read_text())["checksum"]
    entry = known.entries[path.parent.name].model_copy(update={"checksum": checksum, **fields})
    reference.write_cells(replace(known, entries={**known.entries, path.parent.name: entry}))


def older(path: Path) -> None:
    """A row of other numerics, with checksums that fit."""
    raw = store.raw(path.parent)
    reseal(path.parent, {**raw, "numerics": {**raw["numerics"], "method": 7}})
    stated(path)


def outside(path: Path) -> None:
    """A row that names a file outside its folder, with checksums that fit."""
    raw = store.raw(path.parent)
    sums = raw["files"]["epochs.jsonl.gz"]
    shutil.copy(path.with_name("epochs.jsonl.gz"), path.with_name("more"))
    reseal(path.parent, {**raw, "files": {**raw["files"], "../more": sums}})
    stated(path)


@pytest.mark.parametrize(
    ("change", "said", "lost"),
    [
        (lambda path: path.write_text("{"), "run.json is no JSON", 1),
        (lie, "refused: cells.json states", 1),
        (lambda path: stated(path, cell="0" * 32), "no run for 1 of these cells", 1),
        (outside, "names other files than epochs.jsonl.gz", 1),
        (lambda path: path.with_name("epochs.jsonl.gz").unlink(), "epochs.jsonl.gz is missing", 1),
        (lambda p: reseal(p.parent, {**store.raw(p.parent), "schema": 99}), "schema 99", 1),
        (lambda path: (path.parents[2] / "cells.json").write_text("{"), "is not used", 4),
        (lambda path: (path.parents[2] / "cells.json").write_text('{"schema": 9}'), "newer", 4),
        (older, "the code gives other numbers since its run (numerics: method 7, now 1)", 1),
    ],
)  # fmt: skip
def test_what_is_not_valid_is_named_and_not_used(
    tmp_path: Path, finished: Finished, shipped: Path,
    change: Callable[[Path], None], said: str, lost: int,
) -> None:  # fmt: skip
    known = reference.installed(changed(shipped, tmp_path / "home", change))
    assert known is not None
    measured = suite_folder.content(finished.folder)["diagnostics"]
    diagnostics = [{"name": name, "params": params} for name, params in measured.items()]
    found = Shipped(known, load_suite(finished.suite), diagnostics)
    records = [run.record for run in scan([finished.results]).runs]
    used = [found.find(run.cell, run.numerics, run.data_checksum, {})[0] for run in records]
    assert used.count(None) == lost
    assert said in "".join([*found.refused, *found.lines()])
    with_data = [found.find(run.cell, run.numerics, "other", {}) for run in records]
    assert [run for run, _ in with_data] == [None] * 4
    told = [why for _, why in with_data]  # each cell of the plan shows its own reason
    assert sum("its run read other data" in why for why in told) >= 4 - lost


@pytest.mark.long
def test_an_edited_rule_is_trained_and_not_taken_from_the_reference(
    here: Here, tmp_path: Path, finished: Finished, shipped: Path
) -> None:
    """`numerics` say what an author knows; the digest of the code says what was edited."""
    home = changed(shipped, tmp_path / "home", lambda path: None)
    known = reference.installed(home)
    assert known is not None
    env = {"BENCH_REFERENCE": str(home)}

    def reused(**edited: str) -> tuple[int, str]:
        reference.write_code(known, adding.code_here() | edited)
        told = here("plan", finished.suite, "--results", tmp_path / "none", "--json", env=env)
        cells = json.loads(told.stdout)["cells"]
        return [cell["action"] for cell in cells].count("reference"), told.stderr

    dfa, alignment = "bench_plugins.methods.dfa", "bench_plugins.diagnostics.alignment"
    assert reused() == (4, "")
    assert reused(**{"bench_plugins.methods.ep": "another"})[0] == 4  # no cell uses it
    count, told = reused(**{dfa: "another"})
    assert count == 2
    assert f"not from the reference: dfa (seed 1); dfa[frozen] (seed 1): {dfa} was edited" in told
    assert "edited since, so it is trained here" in told
    assert reused(**{"bench_core.training.loop": "another"})[0] == 0
    assert reused(**{alignment: "another"})[0] == 0  # all cells were measured by it
    (home / reference.CODE).unlink()
    assert here("plan", finished.suite, "--results", "none", "--json", env=env).stderr == ""
    for damaged in ("{", "[]", '{"x": 1}'):
        (home / reference.CODE).write_text(damaged)
        done = here("plan", finished.suite, "--results", tmp_path / "none", "--json", env=env)
        assert f"{home / reference.CODE}: refused: it " in done.stderr
        assert '"action": "reference"' not in done.stdout


@pytest.mark.long
def test_the_demo_trains_all_that_it_shows() -> None:
    """README's first table is of one's own runs: no cell on digits is in the reference."""
    shipped = reference.installed(reference.folder())
    assert shipped is not None
    datasets = {run.record.cell.dataset.short for run in shipped.runs()[0]}
    assert "cifar10" in datasets
    assert "digits" not in datasets


def test_the_reference_stands_for_the_code_of_today() -> None:
    """If the numbers are the same after an edit: `python -m bench_reference.add --vouch`."""
    known = reference.installed(reference.folder())
    assert known is not None
    assert dict(known.code) == adding.code_here()


def test_a_changed_suite_file_of_the_reference_is_named(
    here: Here, tmp_path: Path, finished: Finished, shipped: Path
) -> None:
    home = changed(shipped, tmp_path / "home", lambda path: None)
    path = home / "tiny" / suite_folder.SUITE
    path.write_text(path.read_text().replace('"floor": "matched"', '"floor": "bp"'))
    done = here("leaderboard", "tiny", env={"BENCH_REFERENCE": str(home)})
    assert "tiny/suite.json: cannot be read: it was changed: its checksum differs" in done.stderr
    known = reference.installed(home)
    assert known is not None
    assert [line.rpartition("/tiny/")[2] for line in known.runs()[1]] == [
        "suite.json: refused: was changed: its checksum differs"
    ]  # so that the check fails
    made = plan(here, finished.suite, home)
    assert {cell["action"] for cell in made["cells"]} == {"run"}
    assert "suite.json of its suite was changed" in made["err"]


@pytest.mark.long
@pytest.mark.parametrize("newer", [True, False])
def test_a_reference_that_cannot_be_used_is_named_once_by_every_command(
    here: Here, tmp_path: Path, finished: Finished, shipped: Path, newer: bool
) -> None:
    home = changed(shipped, tmp_path / "home", lambda path: None)
    if newer:
        cells = home / reference.CELLS
        cells.write_text(cells.read_text().replace('"schema": 1', '"schema": 2'))
        cause = f"{cells}: the reference is not used: it has schema 2, newer than this bench reads"
    else:
        (home / reference.CELLS).unlink()
        cause = f"BENCH_REFERENCE: the reference is not used: {home} has no cells.json"
    env = {"BENCH_REFERENCE": str(home)}
    run = min(runs(shipped / "tiny"))[:12]
    lacking = f"error: tiny: no such results folder here; {cause}"
    (here.cwd / "results").mkdir()
    for command, first in (
        *(
            (f"{name} tiny", lacking)
            for name in ("leaderboard", "report", "claims", "cite", "cost")
        ),
        ("compare dfa bp tiny", lacking),
        ("status tiny", lacking),
        (f"show {run}", f"error: {run}: no run here begins like this; {cause}"),
        (f"why {run}", f"error: {run}: no run here begins like this; {cause}"),
        ("claims --all -o page.md", f"error: {cause}"),
        ("site --board -o pages", f"error: {cause}"),
    ):
        done = here(*command.split(), env=env)
        assert done.returncode == 2, command
        assert done.stderr.startswith(first), command
        assert done.stderr.count("\n") == 1, command
    assert {path.name for path in here.cwd.iterdir()} == {"home", "results"}  # nothing was written
    for place in (home, finished.results):
        done = here("report", place, env=env)
        assert done.returncode == 0
        assert [line.startswith(f"warning: {cause}") for line in done.stderr.splitlines()] == [True]
    ran = here("run", finished.suite, "--epochs", "1", "--method", "bp", env=env)
    assert ran.stderr.count(cause) == 1


def test_without_a_reference_there_is_no_board(here: Here) -> None:
    for command in (("claims", "--all", "-o", "page.md"), ("site", "--board", "-o", "pages")):
        done = here(*command, env={"BENCH_REFERENCE": ""})
        assert (done.returncode, done.stderr[:38]) == (2, "error: there is no reference: BENCH_RE")
    assert list(here.cwd.iterdir()) == []


def posted(shipped: Path, to: Path, **fields: Any) -> None:
    """A submission with a row of the reference, changed, and the same run of a rule of its own."""
    changed(shipped, to, lambda path: (path.parents[2] / "cells.json").unlink())
    for folder in to.glob("tiny/*/"):
        raw = store.raw(folder)
        method, about = raw["cell"]["method"], raw["environment"]
        if method["name"] != "bench-core/dfa" or method["params"]["freeze"] is not None:
            shutil.rmtree(folder)
            continue
        del about["reference"]
        reseal(folder, {**raw, **fields})
        method["name"] = "bench-mine/mine"
        own = Path(shutil.copytree(folder, folder.parent / ("f" * 32)))
        reseal(own, {**raw, "identity": own.name})


def test_a_submission_stands_beside_the_reference_and_replaces_no_row(
    here: Here, shipped: Path
) -> None:
    posted(shipped, here.cwd / "posted", accuracy=0.9, finished="2099-01-01T00:00:00+00:00")
    done = here("leaderboard", "posted", env={"BENCH_REFERENCE": str(shipped)})
    assert "4 of 5 runs from reference 1" in done.stdout
    assert "mine" in done.stdout
    assert "dfa seed 1 is ." in done.stdout
    assert "but .900 in run" in done.stdout
    assert "4 of" not in here("leaderboard", "posted", env={"BENCH_REFERENCE": ""}).stdout


def test_whatever_shows_a_submission_has_the_rows_of_the_reference_beside_it(
    here: Here, finished: Finished, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = here.cwd / "posted"
    posted(shipped, home, accuracy=0.9)
    monkeypatch.setenv("BENCH_REFERENCE", str(shipped))
    dfa = next(
        record
        for record in (run.record for run in scan([finished.results]).runs)
        if record.cell.method.short == "dfa" and record.cell.method.params["freeze"] is None
    )
    shown = f"{dfa.accuracy:.3f}".removeprefix("0")
    assert f"dfa → bp {shown}" in " ".join(here("compare", "dfa", "bp", "posted").stdout.split())
    (line,) = [line for line in here("cost", "posted").stdout.splitlines() if line[:4] == "dfa "]
    assert shown in line
    rows = here("export", "posted").stdout.splitlines()
    assert [len(rows), sum(str(0.9) in row.split(",") for row in rows)] == [6, 0]
    assert "n = 3 finished runs of 3 methods" in here("figure", "audit", "posted").stdout
    claims = tmp_path / "claims.yaml"
    content = yaml.safe_load(finished.suite.read_text())
    claim = {"figure": "accuracy", "at_most": 0.8, "source": "a"}
    entries = [{**claim, "method": name} for name in ("dfa", "bp")]
    claims.write_text(yaml.safe_dump({**content, "expect": entries}))
    assert "2 claims: 2 hold" in here("claims", "posted", "--suite", claims).stdout
    loaded = load(home)
    assert {row["label"]: row["accuracy"] for row in loaded.leaderboard()}["dfa"] == pytest.approx(
        dfa.accuracy, rel=1e-6
    )
    assert (len(loaded), len(loaded.runs)) == (5, 5)
    assert sorted(loaded.folders) == sorted([shipped / "tiny", home / "tiny"])
    said = here("show", home / "tiny" / dfa.identity).stderr
    assert "no table counts this run: the reference has a run of its cell" in said


def test_a_planted_ledger_says_nothing_of_the_reference(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted(shipped, tmp_path / "posted")
    changed(shipped, tmp_path / "copies", lambda path: (path.parents[2] / "cells.json").unlink())
    monkeypatch.setenv("BENCH_REFERENCE", str(shipped))
    keys = {cell_key(run.record.cell) for run in scan([shipped, tmp_path / "posted"]).runs}
    about = {"method": {}, "seed": 0, "scored_on": "test", "sampler": "", "versions": {}}
    best = ledger.Trial(values={}, identity="0", status="done", score=0.9)
    given = {**about, "trials": 500, "space": {}, "results": [best], "best": 0}
    search = ledger.Tuned.model_validate({**given, "cells": sorted(keys)})
    hiding = search.model_copy(update={"cells": [], "earlier": search.cells})
    for name, planted in (("posted", search), ("copies", search), ("copies", hiding)):
        ledger.write(tmp_path / name / "tiny", "tiny", {"dfa": planted})
        (suite,), _ = beside_reference([tmp_path / name])
        rows = [row for group in judge_all(suite.records, suite.settings) for row in group.rows]
        said = {row.label: row.tuned is not None for row in rows if row.role != "floor"}
        assert said.pop("bench-mine/mine", None) is {"posted": True}.get(name)
        assert said == {"bp": False, "dfa": False}


def test_claims_of_the_reference_count_runs_of_a_submission(
    finished: Finished, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted(shipped, tmp_path / "posted")
    monkeypatch.setenv("BENCH_REFERENCE", str(shipped))
    monkeypatch.setattr(board, "installed_suites", lambda: ["tiny"])
    monkeypatch.setattr(board, "load_suite", lambda name: load_suite(finished.suite))
    (suite,), _ = beside_reference([tmp_path / "posted"])
    names = [record.cell.method.short for record in board.of_reference(suite).records]
    assert sorted(names) == ["bench-mine/mine", "bp", "bp", "dfa", "dfa", "dfa"]
    assert len(board.of_reference(*gather([shipped])[0]).records) == 4


def test_claims_count_the_seeds_of_their_own_suite_alone(
    finished: Finished, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that another suite made of the same cell, with a seed of its own, changes no n."""
    monkeypatch.setenv("BENCH_REFERENCE", str(shipped))
    known = board.board()
    counts = {
        seeds: len(known.results(load_suite(finished.suite, [f"seeds={seeds}"])).records)
        for seeds in ("[1]", "[1, 2]", "[2]")
    }
    assert counts == {"[1]": 4, "[1, 2]": 4, "[2]": 0}


def test_a_refused_row_is_trained(
    here: Here, tmp_path: Path, finished: Finished, shipped: Path
) -> None:
    made = plan(here, finished.suite, changed(shipped, tmp_path / "home", lie))
    assert [cell["action"] for cell in made["cells"]].count("run") == 1
    assert "refused: cells.json states" in made["err"]


def test_a_refused_row_is_in_no_table_and_fails_the_check(
    here: Here, tmp_path: Path, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adding, "_numerics", lambda kind, name: 1)
    home = changed(shipped, tmp_path / "home", lambda path: stated(path, cell="0" * 32))
    (here.cwd / "link").symlink_to(home)  # a checkout names the same folder in another way
    done = here("leaderboard", "link/tiny", env={"BENCH_REFERENCE": str(home)})
    assert "all 3 runs from reference 1" in done.stdout
    assert "refused: cells.json states another cell" in done.stderr
    checked = CliRunner().invoke(adding.main, ["--check", "--into", str(home)])
    assert (checked.exit_code, "states another cell" in checked.output) == (1, True)


@pytest.mark.long
def test_other_data_and_sparser_epochs_do_not_stand_for_a_cell(
    here: Here, finished: Finished, shipped: Path
) -> None:
    other = here.cwd / "other.yaml"
    other.write_text(TINY + "diagnostics: [scale_growth, drift]\n")
    made = plan(here, other, shipped)
    assert {cell["action"] for cell in made["cells"]} == {"run"}
    assert "its run lacks drift" in made["err"]
    other.write_text(other.read_text().replace("name: tiny", "name: another"))
    err = plan(here, other, shipped)["err"]
    assert "bp (seed 1): its run lacks drift" in err
    other.write_text(other.read_text().replace("[scale_growth, drift]", "[scale_growth]"))
    assert "not from the reference" not in plan(here, other, shipped, "--epochs", "2")["err"]


# ------------------------------------------------------------------------------------ what comes in


def test_only_whole_trainings_of_todays_numbers_come_in(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adding, "_numerics", lambda kind, name: 1)
    home = Path(shutil.copytree(finished.folder, tmp_path / "tiny"))
    run = scan([home]).runs[0]
    record = run.record.model_copy(update={"environment": {}})
    empty = reference.Reference(tmp_path / "empty")

    def fault(commit: str = "c", into: reference.Reference = empty, **fields: Any) -> str:
        return adding.fault(Stored(record.model_copy(update=fields), run.folder), commit, into)

    assert fault() == ""
    assert "diverged" in fault(status="diverged")
    assert "0 of 1 epochs" in fault(epochs=0)
    assert "numerics: training 2, now 1" in fault(numerics={**record.numerics, "training": 2})
    assert "not committed" in fault(environment={"dirty": True})
    assert "--commit" in fault("")
    assert "not that of its suite" in fault(suite="../evil")
    assert "a row of a reference" in fault(environment={"reference": "1"}, original={"a": 1})
    assert "a compact run, as of a submission" in fault(original={"a": 1})
    with_options = {"diagnostics": {"bench-core/scale_growth": {"batches": 1}}}
    (tmp_path / "other" / "tiny").mkdir(parents=True)
    suite_folder.write(tmp_path / "other" / "tiny", with_options)
    assert "with other options" in fault(into=reference.Reference(tmp_path / "other"))
    path = run.folder / store.EPOCHS
    path.write_bytes(path.read_bytes().replace(b"1", b"2"))
    assert "epochs.jsonl was changed" in fault()
    monkeypatch.setattr(adding, "_numerics", lambda kind, name: None)  # a plugin that is not here
    assert "method 1, now gone" in fault()


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), ("{", "no JSON"), ("{}", "lacks cells, diagnostics, file")],
)
def test_results_without_their_suite_file_are_refused_before_anything_is_written(
    finished: Finished, tmp_path: Path, content: str | None, said: str
) -> None:
    results, into = Path(shutil.copytree(finished.results, tmp_path / "r")), tmp_path / "into"
    path = results / "tiny" / suite_folder.SUITE
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UsageError) as raised:
        adding.main([str(results), "--into", str(into), "--commit", "c"], standalone_mode=False)
    assert str(raised.value).startswith(f"{path}: ")
    assert said in str(raised.value)
    assert not into.exists()


def test_a_damaged_run_of_the_results_is_named(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adding, "fault", lambda *about: "")
    results = Path(shutil.copytree(finished.results, tmp_path / "r"))
    run = results / "tiny" / min(runs(results / "tiny"))
    (run / store.RUN).write_text("{")
    (into := tmp_path / "into").mkdir()
    done = CliRunner().invoke(adding.main, [str(results), "--into", str(into), "--commit", "c"])
    assert f"{run}: not counted: run.json is no JSON" in done.output
    assert "3 runs (3 added)" in done.output


def test_runs_whose_states_stayed_elsewhere_come_in_on_demand(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_record", clean(store._record))
    results = Path(shutil.copytree(finished.results, tmp_path / "r"))
    one, other, changed, *_ = (results / "tiny" / name for name in sorted(runs(results / "tiny")))
    for name in (store.CHECKPOINT, store.PROBE):
        (one / name).unlink()
    (other / store.EPOCHS).unlink()
    (changed / store.PROBE).write_bytes(b"another")
    (into := tmp_path / "into").mkdir()
    command = [str(results), "--into", str(into), "--commit", "c"]
    strict = CliRunner().invoke(adding.main, command)
    assert f"{one}: not counted: checkpoint.safetensors is missing" in strict.output
    assert "1 runs (1 added)" in strict.output
    done = CliRunner().invoke(adding.main, [*command, "--without-states"])
    assert str(one) not in done.output
    assert f"{other}: not counted: epochs.jsonl is missing" in done.output
    assert f"{changed}: not counted: probe.safetensors has 7 bytes, not" in done.output
    assert "2 runs (1 added, 1 there already)" in done.output
    original = store.read(into / "tiny" / one.name).original
    assert original[store.PROBE] == store.read(one, states=False).files[store.PROBE]


def test_the_check_fails_without_cells_and_for_runs_that_are_not_named(
    tmp_path: Path, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adding, "_numerics", lambda kind, name: 1)
    home = changed(shipped, tmp_path / "home", lambda path: None)

    def checked(option: str = "--check") -> tuple[int, str]:
        done = CliRunner().invoke(adding.main, [option, "--into", str(home)])
        return done.exit_code, done.output

    assert checked() == (0, "")
    name = min(runs(home / "tiny"))
    (home / "other").mkdir()
    moved = Path(shutil.copytree(home / "tiny" / name, home / "other" / name))
    what = "cells.json does not name it; add its results again, or remove it"
    assert checked() == (1, f"{moved}: {what}\n")
    shutil.rmtree(moved)
    (home / "tiny" / name).rename(home / "tiny" / ("f" * 32))
    assert f"{home / 'tiny' / ('f' * 32)}: {what}" in checked()[1]
    (home / "cells.json").unlink()
    for option in ("--check", "--lapse"):
        assert checked(option) == (1, f"Error: {home}: is no reference: it has no cells.json\n")
    assert not (home / "cells.json").exists()


def test_a_cell_that_is_there_stays_as_it_is(
    tmp_path: Path, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = changed(shipped, tmp_path / "home", lambda path: None)
    known = reference.installed(home)
    assert known is not None
    content = suite_folder.content(home / "tiny")
    options, more = content["diagnostics"], {"bench-core/drift": {}}
    other = {name: {"batches": 1} for name in options} | more
    cells = dict.fromkeys(content["cells"], "of other code")
    adding.list_cells({**content, "diagnostics": other, "cells": cells}, known)
    now = suite_folder.content(home / "tiny")
    assert (now["diagnostics"], now["cells"]) == ({**options, **more}, content["cells"])
    record = known.runs()[0][0].record
    again = record.model_copy(update={"identity": "f" * 32})
    for numerics, there in ((1, True), (2, False)):  # one that has lapsed is trained again
        monkeypatch.setattr(adding, "_numerics", lambda kind, name, now=numerics: now)
        assert adding.is_there(record, known)
        assert adding.is_there(again, known) == there
    monkeypatch.setattr(adding, "_numerics", lambda kind, name: 1)
    measured = dict.fromkeys([*record.numerics, "diagnostic bench-core/another"], 1)
    more = again.model_copy(update={"numerics": measured})
    assert not adding.is_there(more, known)  # another suite asks for another diagnostic
    fewer = again.model_copy(update={"numerics": dict(list(record.numerics.items())[:-1])})
    assert adding.is_there(fewer, known)


def test_a_row_of_other_numbers_fails_the_check_until_it_says_so(
    tmp_path: Path, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = changed(shipped, tmp_path / "home", older)
    monkeypatch.setattr(adding, "_numerics", lambda kind, name: 1)

    def code(*arguments: str) -> int:
        return CliRunner().invoke(adding.main, [*arguments, "--into", str(home)]).exit_code

    assert [code("--check"), code("--lapse"), code("--check")] == [1, 0, 0]
    monkeypatch.setenv("BENCH_REFERENCE", str(home))
    (shown,), troubles = gather([home])
    assert troubles == []
    text = leaderboards([shown], "csv")
    assert "lapsed (numerics: method 7, now 1)" in text
    heading = "all 4 runs from reference 1, 1 of them lapsed"
    assert heading in text


def test_the_board_has_pages_of_claims_and_submissions(
    tmp_path: Path, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = tmp_path / "tiny.yaml"
    suite.write_text(TINY + CLAIMS)
    monkeypatch.setenv("BENCH_REFERENCE", str(shipped))
    monkeypatch.setattr(board, "installed_suites", lambda: [str(suite)])
    html = pages([], {}, [], list(board.board().suites()))
    assert html.keys() == {"index.html", "claims.html", "submit.html"}
    assert "bench submit" in html["submit.html"]
    assert "3 claims: 1 holds, 1 fails, 1 not run" in html["claims.html"]


# ----------------------------------------------------------------------------------------- claims

CLAIMS = """\
expect:
  - {figure: accuracy, method: dfa, at_least: 1, source: nobody}
  - {figure: accuracy, method: bp, at_least: 0, source: nobody}
  - {figure: accuracy, method: fa, at_least: 0, source: nobody}
"""
FINDING = "- {suite: tiny, claim: accuracy of dfa, cause: theirs, finding: no accuracy is 1}\n"


def test_claims_of_all_suites_are_held_against_the_reference(
    tmp_path: Path, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, suite = changed(shipped, tmp_path / "home", lambda path: None), tmp_path / "tiny.yaml"
    suite.write_text(TINY + CLAIMS)
    monkeypatch.setenv("BENCH_REFERENCE", str(home))
    monkeypatch.setattr(board, "installed_suites", lambda: [str(suite)])
    monkeypatch.setattr(trainings, "IMAGES", ("digits",))
    text, troubles = all_claims()
    assert troubles == []
    assert re.search(r"\| tiny +\|[^|]*\| +1 \| +1 \| +1 \| +\d \|", text)
    assert "accuracy of dfa: expected ≥ 1.000" in text
    assert "Cause: not looked into yet" in text
    assert "1–2: measured: reference 1, 20" in text
    assert "no run of this method (training: about " in text
    known, tiny = board.board(), load_suite(str(suite))
    dfa, _, fa = tiny.expect
    assert known.trainings.cost(tiny, dfa) == {}  # its training has a run
    less = fa.model_copy(update={"minus": dfa.method})
    assert len(known.trainings.cost(tiny, less) or ()) == 1  # that of fa alone
    records = known.trainings.records
    on_a_gpu = [
        record.model_copy(
            update={
                "environment": {**record.environment, "device": "cuda"},
                "seconds": 1e-3 * record.seconds,
            }
        )
        for record in records
    ]
    both = replace(known.trainings, records=[*records, *on_a_gpu])
    assert both.cost(tiny, fa) == known.trainings.cost(tiny, fa)  # its time is that on a core
    (run, *_) = known.runs
    marked = {"environment": {**run.record.environment, "lapsed": "method 1, now 2"}}
    lapsed = Stored(run.record.model_copy(update=marked), run.folder.with_name("0"))
    (counted,) = board.Board(reference.Reference(home), [lapsed, run], []).results(tiny).records
    assert counted is run.record
    (home / "findings.yaml").write_text(FINDING)
    assert "**Cause: theirs.** no accuracy is 1" in all_claims()[0]
    page = pages([], {}, [], list(board.board().suites()))["claims.html"]
    assert "Cause: theirs. no accuracy is 1" in page
    assert re.search(r'<a href="#tiny">tiny</a>.*about \d+ s</td></tr>', page)
    (home / "findings.yaml").write_text(FINDING.replace("of dfa", "of bp"))
    assert all_claims()[1] == [
        "findings.yaml: tiny: accuracy of bp: no such claim fails; remove its finding"
    ]
    changed(home, tmp_path / "damaged", lambda path: path.write_text("{"))
    monkeypatch.setenv("BENCH_REFERENCE", str(tmp_path / "damaged"))
    (line,) = all_claims()[1]  # the finding may be of the run that is damaged
    assert "run.json is no JSON" in line
    monkeypatch.setenv("BENCH_REFERENCE", str(home))
    (home / "findings.yaml").write_text("- {suite: tiny}\n- 7\n")
    assert "an entry needs" in all_claims()[1][0]


@pytest.mark.long
def test_the_document_of_claims_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_REFERENCE", str(REPOSITORY / "reference"))
    text, troubles = all_claims()
    assert troubles == []
    stored = (REPOSITORY / "docs" / "claims.md").read_text(encoding="utf-8")
    assert text == stored, "run `bench claims --all -o docs/claims.md`"


@pytest.mark.long
def test_claims_of_a_suite_are_those_of_the_document(
    here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_REFERENCE", str(REPOSITORY / "reference"))
    document = (REPOSITORY / "docs" / "claims.md").read_text(encoding="utf-8")
    counted = re.compile(r"^\*\*.*claims: .*$", re.MULTILINE)
    monkeypatch.setattr(board, "board", cache(board.board))  # reads the reference once
    # one has runs of its own, one those of other suites, and two have no folder there
    for suite in ("audit5", "temporal", "vit", "cifar100"):
        printed = here("claims", suite, "--format", "markdown").stdout
        (line,) = counted.findall(printed)
        assert line.startswith(f"**{suite}: ")
        assert f"\n{line}\n" in document, suite


@pytest.mark.long
def test_the_commands_of_the_readme_run_on_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that name a suite or a run of the reference need no run of the reader's own."""
    lines = readme.README.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if re.match("    bench .*(audit[56]|0f04)", line)]
    told = [line.partition("#")[0].split()[1:] for line in lines]
    quick = {"show", "why", "claims", "cost", "compare", "leaderboard"}
    commands = [words for words in told if words[0] in quick]
    assert {words[0] for words in commands} == quick
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_REFERENCE", str(REPOSITORY / "reference"))
    for words in commands:
        assert CliRunner().invoke(cli.bench, words).exit_code == 0, words


def test_the_readme_shows_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_REFERENCE", str(REPOSITORY / "reference"))
    seen, again = readme.shown(), "run `python -m bench_reference.readme`"
    stored = readme.README.read_text(encoding="utf-8")
    assert readme.page(seen, stored) == stored, again
    mark = readme.mark(readme.figure(seen))
    for name in readme.FIGURES.values():
        assert mark in (REPOSITORY / name).read_text(encoding="utf-8"), again


def test_the_readme_names_rules_with_fewer_seeds() -> None:
    records = [
        *seeds("bench-core/bp", [0.6, 0.61, 0.6]),
        *seeds("bench-core/dfa", [0.3, 0.31, 0.3]),
    ]
    (group,) = judge_all(records)
    assert readme._seeds(group) == "Every rule has 3 finished seeds."
    (group,) = judge_all(records[:-1])
    assert readme._seeds(group) == "Every rule has 3 finished seeds, but dfa has 2."


# ------------------------------------------------------------------------------------- what ships


def test_the_shipped_reference_is_whole_and_valid() -> None:
    home = REPOSITORY / "reference"
    known = reference.installed(home)
    if known is None:
        pytest.skip("no reference yet")
    assert known.trouble == ""
    records: list[RunRecord] = [known.read(identity).record for identity in known.entries]
    assert {folder.name for folder in home.glob("*/*/") if len(folder.name) == 32} == set(
        known.entries
    )
    assert all(known.content(path.parent) for path in home.glob("*/suite.json"))
    for record in records:
        assert record.environment["commit"]
        assert record.environment["reference"] == known.version
        assert record.status == "done"
        assert record.epochs == record.cell.last_epoch
        assert record.environment.get("lapsed") or adding.lapsed(record) == [], record.identity
        assert cell_key(as_today(record.cell)) == known.entries[record.identity].cell, (
            "an option that is not LATER: no row of the reference stands for its cell any more"
        )
    assert sum(path.stat().st_size for path in home.rglob("*.json*")) < LIMIT


known_plugins = cache(plugins.load)


def as_today(cell: Cell) -> Cell:
    """Return the cell as today's code resolves its parameters."""
    refs, registry = {}, known_plugins()
    for kind, ref in cell.refs.items():
        params = resolve(registry.find(kind, ref.name), base_class(kind)).Params
        refs[kind] = ref.model_copy(update={"params": resolved(read(params, ref.params))})
    stop_when = {"stop_when": cell.training["stop_when"]}
    own = {key: value for key, value in cell.training.items() if key != "stop_when"}
    training = resolved(TrainingOptions.model_validate(own)) | stop_when
    training.pop("device")
    data = resolved(DataOptions.model_validate(cell.data))
    return cell.model_copy(update={**refs, "training": training, "data": data})
