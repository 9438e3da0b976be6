"""Whether two runs of one cell agree."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import TINY, Here, leftovers
from posted import HERE, THERE, WEIGHTS, named, put, true
from records import measured

from bench_core.analysis.gather import gather
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.cli import bench
from bench_core.errors import UsageError
from bench_core.report.pages.page import page
from bench_core.report.tables.formats import leaderboards
from bench_core.report.tables.next_steps import next_steps
from bench_core.results import locks, marks, store, suite_folder
from bench_core.results.agreement import CLOCK, compare, disagreement
from bench_core.results.record import (
    Measurement,
    RunRecord,
    cell_key,
    same_environment,
)
from bench_core.results.scan import Stored
from bench_core.results.store import CHECKPOINT
from bench_core.sharing import merge as merging
from bench_core.sharing import replicate, verify


def test_equal_bits_agree_and_another_bit_does_not() -> None:
    posted = true(seed=1)
    assert compare(posted, posted).agrees
    other = compare(posted, posted.model_copy(update={"accuracy": 0.4000001}))
    assert (other.agrees, other.how) == (False, "bits")
    assert "accuracy" in other.said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw["passport"].update(weight_transport=True), "passport.weight_transport"),
        (lambda raw: raw["passport"].clear(), "passport.weight_transport in one of them only"),
        (lambda raw: raw.update(chance=0.5), "chance 0.1 and 0.5"),
        (lambda raw: raw.update(chance=None), "chance in one of them only"),
        (lambda raw: raw.update(stopped_by="x"), "stopped_by None and x"),
        (lambda raw: raw.update(accuracy=0.4000001), "accuracy 0.4 and 0.4000001"),
        (
            lambda raw: (raw.get("original") or raw["files"])[CHECKPOINT].update(blake2b="other"),
            "weights differ",
        ),
        (lambda raw: (raw.get("original") or raw["files"]).clear(), "weights in one of them only"),
        (
            lambda raw: raw["initial"]["scale_growth"].update(value=51.0),
            "initial.scale_growth fires in one of them only",
        ),
        (
            lambda raw: raw["measurements"].pop("scale_growth"),
            "measurements.scale_growth in one of them only",
        ),
        (
            lambda raw: raw["measurements"]["alignment"]["details"].pop("deep"),
            "measurements.alignment details deep in one of them only",
        ),
        (
            lambda raw: raw["measurements"]["alignment"]["details"].update(deep=0.99),
            "measurements.alignment details deep 0.2 and 0.99",
        ),
        (
            lambda raw: raw["measurements"]["scale_growth"].update(threshold=1e9),
            "measurements.scale_growth threshold",
        ),
        (
            lambda raw: raw["measurements"]["scale_growth"].update(across="floor"),
            "measurements.scale_growth across",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["full", "compact"])
def test_whatever_a_table_shows_is_compared(
    change: Callable[[dict[str, Any]], object], said: str, kind: str
) -> None:
    again = true(
        seed=1,
        chance=0.1,
        passport={"weight_transport": False},
        initial=measured(),
        files={CHECKPOINT: WEIGHTS},
        numerics={"training": 1},
    )
    raw = json.loads(again.to_json())
    if kind == "compact":
        raw |= {"files": {}, "original": raw["files"]}
    assert compare(RunRecord.model_validate(raw), again).said == "equal bit by bit"
    change(raw)
    found = compare(RunRecord.model_validate(raw), again)
    assert not found.agrees
    assert said in found.said


def test_a_time_is_not_compared() -> None:
    """A diagnostic that reads a clock says so; a posted run cannot say so of another one."""

    def timed(seconds: float, repeatable: bool = False) -> RunRecord:
        clock = Measurement(value=seconds, direction="above", threshold=1.5, repeatable=repeatable)
        return true(seed=1, measurements=measured() | {"lab/clock": clock})

    assert compare(timed(1.0), timed(2.0)).said == "equal bit by bit"
    assert disagreement(timed(1.0), timed(2.0)) == []
    assert disagreement(timed(1.0, True), timed(2.0, True)) == [
        "measurements.lab/clock fires in one of them only: false and true",
        "measurements.lab/clock value 1.0 and 2.0",
        CLOCK,
    ]
    other = timed(2.0, True).model_copy(update={"accuracy": 0.2})
    assert CLOCK not in disagreement(timed(1.0, True), other)
    said = compare(timed(1.0), timed(2.0, True)).said
    assert "measurements.lab/clock repeatable in one of them only" in said


def test_a_run_from_before_schema_3_may_lack_later_fields() -> None:
    posted = true(seed=1)
    assert compare(posted, posted.model_copy(update={"chance": 0.1})).agrees


def test_the_curve_of_a_posted_run_is_compared(tmp_path: Path) -> None:
    record = true(seed=1)
    posted, again = put(tmp_path / "a", record), put(tmp_path / "b", record)
    full = [
        json.dumps(json.loads(line) | {"learning_rate": 0.1})
        for line in (again / "epochs.jsonl").read_text().splitlines()
    ]
    for folder in (posted, again):
        (folder / "epochs.jsonl").write_text("\n".join(full) + "\n")
    assert compare(record, record, (posted, again)).agrees
    full[1] = json.dumps(json.loads(full[1]) | {"accuracy": 0.875})
    (posted / "epochs.jsonl").write_text("\n".join(full) + "\n")
    found = compare(record, record, (posted, again))
    assert (found.agrees, "epochs.jsonl after epoch 1" in found.said) == (False, True)
    (posted / "epochs.jsonl").write_text("\n".join(full[:50]) + "\n")
    (again / "epochs.jsonl").write_text("\n".join(full) + "\n")
    found = compare(record, record, (posted, again))
    cut = "epochs.jsonl has 50 rows in one of them, and more in the other"
    assert (found.agrees, cut in found.said) == (False, True)


def test_the_curve_of_a_compact_run_is_compared_at_its_digits(tmp_path: Path) -> None:
    """The Γ of one epoch is forged, or rounded as compact runs are."""
    gamma = 0.123456789
    row = {"epoch": 1, "learning_rate": 0.1, "accuracy": 0.5, "seconds": 1.0}
    for name, value in (("full", gamma), ("rounded", 0.1234568), ("forged", 0.99)):
        told = {"alignment": {"value": 0.1, "details": {"deep": value}}}
        (tmp_path / name).mkdir()
        (tmp_path / name / "epochs.jsonl").write_text(json.dumps(row | {"measurements": told}))
    again = true(seed=1, files={CHECKPOINT: WEIGHTS})
    posted = true(seed=1, original={CHECKPOINT: WEIGHTS})
    for environment in (HERE, THERE):
        own = posted.model_copy(update={"environment": environment})
        found = compare(own, again, (tmp_path / "rounded", tmp_path / "full"))
        assert found.said == "equal bit by bit"
        found = compare(own, again, (tmp_path / "forged", tmp_path / "full"))
        assert (found.agrees, "epochs.jsonl after epoch 1" in found.said) == (False, True)


@pytest.mark.parametrize(
    ("fields", "agrees", "said"),
    [
        ({"accuracy": 0.41}, True, "within 2 points; the same diagnostics fire; Γ and curves not"),
        ({"passport": {}}, False, "passport.weight_transport in one of them only"),
        ({"initial": measured(a=51.0)}, False, "initial.scale_growth fires in one of them only"),
        ({"chance": 0.3}, False, "chance 0.3 and 0.1"),
        ({"data_checksum": "x"}, False, "data_checksum x and"),
        ({"accuracy": None}, False, "accuracy in one of them only"),
        ({"accuracy": 0.4201}, False, "accuracy 0.4201 and 0.4000 (here and posted)"),
        ({"status": "diverged", "reason": "r"}, False, "status diverged (r) and done"),
        ({"reset_accuracy": 0.31}, True, "within 2 points; the same diagnostics fire"),
        ({"reset_accuracy": 0.33}, False, "reset_accuracy 0.3300 and 0.3000 (here and posted)"),
        ({"reset_accuracy": None}, False, "reset_accuracy in one of them only"),
        ({"recalibrated_accuracy": None}, False, "recalibrated_accuracy in one of them only"),
    ],
)
def test_elsewhere_figures_agree_within_two_points(
    fields: dict[str, Any], agrees: bool, said: str
) -> None:
    fixed: dict[str, Any] = {"seed": 1, "chance": 0.1, "initial": measured()}
    fixed |= {"reset_accuracy": 0.3, "recalibrated_accuracy": 0.4}
    found = compare(true(**fixed), true(**{**fixed, "environment": THERE, **fields}))
    assert (found.agrees, found.how) == (agrees, "figures")
    assert said in found.said


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "equal bit by bit"),
        ({"accuracy": 0.4005}, "accuracy 0.4000 and 0.4005, equal weights, all numbers within 0.0"),
        ({"accuracy": 0.41}, ""),
        ({"measurements": measured(gamma=0.99)}, ""),
    ],
)
def test_equal_weights_of_another_environment_have_equal_numbers_but_for_rounding(
    fields: dict[str, Any], said: str
) -> None:
    again = true(seed=1, files={CHECKPOINT: WEIGHTS})
    posted = true(**{"seed": 1, "environment": THERE, "original": {CHECKPOINT: WEIGHTS}, **fields})
    found = compare(posted, again)
    assert found.agrees == bool(said)
    assert said in found.said
    assert ("bit by bit" in found.said) == (found.how == "bits") == (not fields)


def test_a_measurement_that_is_not_installed_is_never_equal_bit_by_bit() -> None:
    """Nor does it take the place of one that the suite has."""
    again = true(seed=1, files={CHECKPOINT: WEIGHTS})
    forged = Measurement(value=1.2, letter="a", direction="above", threshold=50.0)
    posted = again.model_copy(update={"measurements": {**measured(), "growth": forged}})
    found = compare(posted, again)
    assert (found.agrees, found.how) == (True, "figures")
    assert "not installed here, so not compared: growth" in found.said
    del posted.measurements["scale_growth"]
    assert "measurements.scale_growth in one of them only" in compare(posted, again).said


def test_diagnostics_fire_at_the_thresholds_of_the_suite() -> None:
    posted = true(seed=1, environment=THERE, initial=measured(a=1.06))
    again = true(seed=1, initial=measured(a=1.0))
    assert compare(posted, again).agrees
    found = compare(posted, again, limits={"scale_growth": 1.05})
    assert "initial.scale_growth fires in one of them only" in found.said


def test_a_diagnostic_that_the_posted_run_was_not_asked_for_is_no_difference() -> None:
    """Its suite has gained it since. One that the run was asked for must be there."""
    again = true(seed=1, measurements={**measured(), "drift": Measurement(value=0.1)})
    asked = {f"diagnostic bench-core/{name}": 1 for name in measured()}
    posted = true(seed=1, numerics=asked)
    found = compare(posted, again)
    assert (found.agrees, found.how) == (True, "bits")
    assert found.said == "equal bit by bit; not measured by the posted run: drift"
    hidden = posted.model_copy(update={"numerics": {**asked, "diagnostic bench-core/drift": 1}})
    assert "measurements.drift in one of them only" in compare(hidden, again).said


def test_a_diagnostic_that_fires_in_one_of_them_only_is_no_agreement() -> None:
    from records import SICK

    found = compare(true(seed=1), true(seed=1, environment=THERE, measurements=SICK))
    assert not found.agrees
    assert "scale_growth fires in one of them only" in found.said


def test_a_run_in_which_a_fault_is_found_is_no_longer_checked(tmp_path: Path) -> None:
    folder = put(tmp_path, true(seed=1))
    assert (
        CliRunner().invoke(bench, ["verify", str(tmp_path)], catch_exceptions=False).exit_code == 0
    )
    assert marks.read(folder.parent, store.read(folder)).state == "checked"
    (folder / "checkpoint.safetensors").write_text("Weights")
    assert (
        CliRunner().invoke(bench, ["verify", str(tmp_path)], catch_exceptions=False).exit_code == 1
    )
    assert marks.read(folder.parent, store.read(folder)).state == "posted"


def test_a_mark_belongs_to_one_run_json(tmp_path: Path) -> None:
    folder = put(tmp_path, true(seed=1))
    record = store.read(folder)
    mark = marks.read(folder.parent, record)
    assert mark.state == "posted"
    marks.write(folder.parent, mark.signed("checked", "now"))
    assert marks.read(folder.parent, record).state == "checked"
    for agrees, state in ((True, "replicated"), (False, "disputed")):
        replica = compare(record, record).model_copy(update={"agrees": agrees})
        marks.write(folder.parent, marks.read(folder.parent, record).replicated(replica))
        assert marks.read(folder.parent, record).state == state
    again = store.read(put(tmp_path, true(seed=1, accuracy=0.5)))
    assert marks.read(folder.parent, again).state == "posted"
    for content in ("", "[]", "{", '{"identity": 3}'):
        (folder.parent / marks.FOLDER / f"{record.identity}.json").write_text(content)
        assert marks.read(folder.parent, record).state == "posted"


def test_environments_are_alike_as_far_as_both_state_them() -> None:
    old, new = {"torch": "2"}, {"torch": "2", "instructions": "AVX2", "commit": "x"}
    other = {**new, "instructions": "AVX512"}
    pairs = [(old, new, True), (new, {**new, "commit": "y"}, True), (new, other, False)]
    pairs += [(old, {**new, "torch": "3"}, False), (old, {**new, "matmul": "oneDNN"}, False)]
    for one, two, alike in pairs:
        runs_of = [true(seed=1, environment=each) for each in (one, two)]
        assert same_environment(*runs_of) is same_environment(*reversed(runs_of)) is alike


def test_only_runs_that_state_all_the_same_must_be_equal_bit_by_bit(tmp_path: Path) -> None:
    """A run that does not state its instructions is like two that differ: no conflict follows."""
    old, one = {"torch": "2"}, {"torch": "2", "instructions": "AVX2"}
    environments = [old, one, {**one, "instructions": "AVX512"}]
    runs_of = [
        Stored(true(seed=1, accuracy=accuracy, environment=each), tmp_path / str(number))
        for number, (accuracy, each) in enumerate(zip([0.5, 0.4, 0.5], environments, strict=True))
    ]
    for order in permutations(runs_of):
        assert not [line for line in verify.between(order) if "other numbers" in line]
        assert merging.fate(order[0].record, order[1].record) in ("replicate", "same")
    again = true(seed=1, accuracy=0.3, environment=one)
    assert merging.fate(again, runs_of[1].record) == "conflict"
    assert [*verify.between([runs_of[1], Stored(again, tmp_path)])]


def test_runs_in_conflict_lead_to_a_replication() -> None:
    (group,) = judge_all([true(seed=1).model_copy(update={"status": "conflict", "reason": "r"})])
    (line,) = next_steps([group], "s")
    assert line.startswith("Next: `bench replicate RESULTS --sample 100%` trains the runs in")


@pytest.mark.long
def test_a_suite_json_of_a_newer_bench_is_named_and_not_replaced(here: Here) -> None:
    (here.cwd / "tiny.yaml").write_text(TINY)
    assert here("run", "tiny.yaml", "--set", "training.epochs=1").returncode == 0
    (path,) = (here.cwd / "results").glob("*/suite.json")
    path.write_text(json.dumps(newer := {**json.loads(path.read_text()), "schema": 99, "new": 1}))
    told = "has schema 99, newer than this bench reads (1): update bench-core"
    shutil.copytree(here.cwd / "results", here.cwd / "other")
    merged = here("merge", "other", "--into", "new")
    assert merged.returncode == 1
    assert f"other/tiny/suite.json: left out: it {told}" in merged.stderr
    for command in ("plan tiny.yaml", "run tiny.yaml", "merge new --into results"):
        done = here(*command.split())
        assert done.returncode == 2, command
        assert told in done.stderr
        assert json.loads(path.read_text()) == newer
    search = "search: {trials: 1, training: {learning_rate: [0.1, 0.2]}}\n"
    held_out = TINY.replace("data: {", "data: {validation: 32, ")
    (here.cwd / "tuned.yaml").write_text(held_out + search)
    for command in ("tune tuned.yaml", "submit results -o sent"):
        done = here(*command.split())
        assert done.returncode == 2, command
        assert told in done.stderr, command
        assert not list((here.cwd / "results").rglob("tuning.json"))
    for command in ("status results", "clean results"):  # which replace no suite.json
        assert here(*command.split()).returncode == 0
    assert told in here("leaderboard", "results").stderr
    assert here("report", "results", "-o", "page.html").returncode == 0
    path.write_text("{")
    done = here("run", "tiny.yaml", "--set", "training.epochs=1")
    assert done.returncode == 0
    assert "suite.json: it cannot be read; `bench run` writes it anew and forgets" in done.stderr


def test_cleaning_takes_what_no_table_counts_and_nothing_else(tmp_path: Path) -> None:
    old, new = put(tmp_path, named("1", seed=1)), put(tmp_path, named("2", seed=1))
    failed = put(tmp_path, named("3", seed=3, status="failed", reason="r"))
    odd = put(tmp_path, named("4", seed=4))
    (odd / "run.json").write_text("{")
    aside = store.quarantine(odd, "damaged")
    good = put(tmp_path, named("5", seed=5))  # new code failed where old code was done
    broken = store.read(put(tmp_path, named("6", seed=5, status="failed", reason="r")))
    cells = {cell_key(store.read(new).cell): "2" * 32, cell_key(broken.cell): "6" * 32}
    suite_folder.write(new.parent, {"name": new.parent.name, "cells": cells})
    states = [store.resume_file(new.parent / (digit * 32)) for digit in "27"]
    for state in states:  # of the newest code, and of code that was edited since
        state.write_bytes(b"x")
    before = table(tmp_path)

    said = CliRunner().invoke(bench, ["clean", str(tmp_path)], catch_exceptions=False)
    assert (said.exit_code, old.exists(), aside.exists()) == (0, True, True)
    listed = {line.split()[1] for line in said.output.splitlines()[:-1]}
    assert listed == {str(old), str(aside), str(states[1])}
    assert "--yes removes them" in said.output

    held_by = [old, new.parent / ("7" * 32)]
    held = [locks.lock(each) for each in held_by]
    assert None not in held
    said = CliRunner().invoke(bench, ["clean", str(tmp_path), "--yes"], catch_exceptions=False)
    for each, lock in zip(held_by, held, strict=True):
        locks.unlock(each, lock)
    assert (said.exit_code, old.exists(), aside.exists()) == (1, True, False)
    assert states[1].exists()
    assert CliRunner().invoke(bench, ["clean", str(tmp_path), "--yes"]).exit_code == 0
    assert not old.exists()
    assert [state.exists() for state in states] == [True, False]
    states[0].unlink()
    assert new.exists()
    assert failed.exists()
    assert good.exists()
    assert list((new.parent / store.QUARANTINE).iterdir()) == []
    assert leftovers(new.parent) == []
    assert table(tmp_path) == before
    assert CliRunner().invoke(bench, ["clean", str(tmp_path)]).output == "nothing to remove\n"


def table(results: Path) -> str:

    return leaderboards(gather([results])[0], "csv")


@pytest.mark.long
def test_every_leaderboard_and_the_page_say_how_far_runs_can_be_relied_on(tmp_path: Path) -> None:
    from bench_core.report.tables.formats import leaderboards

    record = store.read(folder := put(tmp_path, true(seed=1)))
    put(tmp_path, true(seed=2))
    replica = compare(record, record)
    marks.write(folder.parent, marks.read(folder.parent, record).replicated(replica))
    suites, _ = gather([tmp_path])
    said = "Of 2 runs: 1 replicated (dfa 1); 1 posted"
    for form in ("table", "markdown", "latex", "csv", "json"):
        text = leaderboards(suites, form)
        assert ("1 replicated; 1 posted" if form == "csv" else said) in " ".join(text.split()), form
    assert said in page(suites)
    told = {run["identity"]: run["trust"] for run in _runs_of(leaderboards(suites, "json"))}
    assert told[record.identity] == "replicated"
    assert set(told.values()) == {"replicated", "posted"}


def _runs_of(text: str) -> list[dict[str, Any]]:
    (suite,) = json.loads(text)["suites"]
    return [run for group in suite["groups"] for row in group["rows"] for run in row["runs"]]


def test_merging_carries_what_is_known_of_a_run_and_adds_it_up(tmp_path: Path) -> None:
    record = store.read(mine := put(tmp_path / "mine", true(seed=1)))
    theirs = put(tmp_path / "theirs", true(seed=1))
    replica = compare(record, record)
    marks.write(mine.parent, marks.read(mine.parent, record).replicated(replica))
    marks.write(theirs.parent, marks.read(theirs.parent, record).signed("checked", "then"))
    for source in ("mine", "theirs", "mine"):
        merging.merge([tmp_path / source], tmp_path / "all")
    mark = marks.read(tmp_path / "all" / mine.parent.name, record)
    assert mark.checked is not None
    assert mark.checked.when == "then"
    assert [each.said for each in mark.replicas] == [replica.said]


@pytest.mark.parametrize("command", [("verify",), ("verify", "--json"), ("site", "-o", "site")])
def test_a_folder_without_a_run_is_refused_by_name(here: Here, command: tuple[str, ...]) -> None:
    (here.cwd / "empty" / "suite").mkdir(parents=True)
    done = here(*command, "empty")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: empty: no run to ")
    assert not (here.cwd / "site").exists()


def test_a_sample_is_a_share_of_the_runs_that_are_done(tmp_path: Path) -> None:
    runs = [Stored(true(seed=seed), tmp_path / str(seed)) for seed in range(20)]
    runs.append(Stored(true(seed=99, status="failed", reason="r"), tmp_path / "99"))
    drawn = replicate.sample(runs, replicate.share("10%"), 7)
    assert len(drawn) == 2
    assert drawn == replicate.sample(runs[::-1], 0.1, 7)
    assert drawn != replicate.sample(runs, 0.1, 8)
    assert len(replicate.sample(runs, replicate.share("100%"), 7)) == 20
    assert len(replicate.sample(runs, replicate.share("3"), 7)) == 3
    assert len(replicate.sample(runs, 0.001, 7)) == 1
    for text in ("0%", "101%", "x", "0.5", "-1", "nan%", "0"):
        with pytest.raises(UsageError, match="must be a share such as 10%"):
            replicate.share(text)
    with pytest.raises(UsageError, match="no run that is done"):
        replicate.sample(runs[-1:], 0.1, 7)


def test_a_draw_that_meets_every_row_adds_one_run_of_each_that_it_missed(tmp_path: Path) -> None:
    """A rule and its floor count apart: either can be forged."""
    ways = [
        (f"bench-core/{name}", {"freeze": freeze})
        for name in ("bp", "dfa")
        for freeze in (None, "blocks")
    ]
    records = [true(method=name, params=params, seed=k) for name, params in ways for k in range(9)]
    runs = [Stored(record, tmp_path / record.identity) for record in records]
    for seed in range(20):
        few = replicate.sample(runs, 0.1, seed)
        drawn = replicate.sample(runs, 0.1, seed, each_row=True)
        assert drawn[:4] == few  # the tenth stays as it was
        count = Counter(str(item.record.cell.method) for item in drawn)
        missed = count.keys() - {str(item.record.cell.method) for item in few}
        assert len(count) == len(ways)
        assert all(count[method] == 1 for method in missed)
        assert len({item.folder for item in drawn}) == len(drawn)
    long = true(training={"epochs": 7}, seed=1)  # a row of another recipe
    both = [*runs, Stored(long, tmp_path / "long")]
    assert any(item.record == long for item in replicate.sample(both, 1, 0, each_row=True))


def test_runs_that_no_table_counts_are_not_drawn(tmp_path: Path) -> None:
    """Honest runs of other code beside a forged run would hide it."""
    put(tmp_path, shown := true(seed=1))
    for digit in "123456789":
        put(tmp_path, named(digit, seed=1))
    suite_folder.write(tmp_path / "s", {"cells": {cell_key(shown.cell): shown.identity}})
    assert [run.record.identity for run in replicate.counted(tmp_path)] == [shown.identity]
