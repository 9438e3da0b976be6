"""Check late audits: a diagnostic on a checkpoint measures the same as during the run."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from conftest import HANG, TINY, Bench, Finished, Here, alive, fake_dist, plugin, runs, wait_until
from folders import write
from records import run, seeds

from bench_core import cli
from bench_core.analysis.gather import gather
from bench_core.errors import BenchError, UsageError
from bench_core.execution import remeasure
from bench_core.execution.worker.cell import make
from bench_core.registry import plugins
from bench_core.report.pages.provenance import suite_of
from bench_core.results import locks, remeasured, store
from bench_core.results.hashing import checksum
from bench_core.results.record import Measurement, checked
from bench_core.results.scan import Stored, scan

pytestmark = pytest.mark.processes


@pytest.fixture
def copy(finished: Finished, tmp_path):
    """Return a writable copy of the finished suite and the folder of its dfa run."""
    results = tmp_path / "results"
    shutil.copytree(finished.results, results)
    (run,) = (
        found
        for found in scan([results]).runs
        if found.record.cell.method.short == "dfa"
        and found.record.cell.method.params["freeze"] is None
    )
    return results, run


SLOW = """
import os, pathlib, signal
from bench_core.api import Component, Diagnostic, Measured, hookimpl

class Sleeps(Diagnostic):
    title = sentence = unit = "x"

    def measure(self, audit):
        pathlib.Path(os.environ["BEGUN"], str(os.getpid())).touch()
        signal.pause()

@hookimpl
def bench_diagnostics():
    return [Component("sleeps", "slow:Sleeps", "x")]
"""


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_audit_ends_at_once_and_says_so(copy, tmp_path: Path, number: int) -> None:
    """Neither the measurements that have begun nor those that wait are carried out."""
    results, _ = copy
    fake_dist(tmp_path / "site", "x-slow", "slow", SLOW)
    (begun := tmp_path / "begun").mkdir()
    process = Bench(tmp_path).start(
        "audit", results, "--diagnostic", "x-slow/sleeps", "--workers", 2,
        path=[tmp_path / "site"], env={"BEGUN": str(begun)},
    )  # fmt: skip
    wait_until(lambda: len(os.listdir(begun)) == 2, process)
    process.send_signal(number)
    printed, told = process.communicate(timeout=HANG)
    assert process.returncode == 130
    assert printed == ""
    rest = "finished measurements are kept; the same command makes all of them again"
    assert told == f"\ninterrupted: {rest}\n"
    wait_until(lambda: not any(alive(int(pid)) for pid in os.listdir(begun)))
    assert len(os.listdir(begun)) == 2
    assert not list(results.rglob("late*"))


def test_a_merge_brings_late_measurements_of_a_run_that_is_there(copy, tmp_path: Path) -> None:
    results, run = copy
    other = tmp_path / "other"
    shutil.copytree(results, other)
    theirs = other / run.folder.relative_to(results)
    assert Here(tmp_path)("audit", theirs, "--diagnostic", "alignment").returncode == 0
    (late,) = theirs.glob("late*")
    count = len(scan([results]).runs)
    said = CliRunner().invoke(cli.bench, ["merge", str(other), "--into", str(results)])
    there = f"{results}: {count} runs: {count} there already"
    assert said.output == f"{there}, 1 late measurement copied\n"
    assert (run.folder / late.name).read_bytes() == late.read_bytes()
    (record,) = (r for r in gather([results])[0][0].records if r.identity == run.record.identity)
    assert (
        record.measurements["alignment"]
        == remeasured.attach(run.record, theirs)[0].measurements["alignment"]
    )
    (run.folder / late.name).unlink()
    with locks.locked(run.folder):
        said = CliRunner().invoke(cli.bench, ["merge", str(other), "--into", str(results)])
        assert "its late measurements are left out: it is in use" in said.output
        assert said.exit_code == 1
        late.rename(late.with_suffix(".away"))
        said = CliRunner().invoke(cli.bench, ["merge", str(other), "--into", str(results)])
        assert (said.output, said.exit_code) == (f"{there}\n", 0)
    late.with_suffix(".away").rename(late)
    (run.folder / late.name).write_text("mine")  # what is there stays
    said = CliRunner().invoke(cli.bench, ["merge", str(other), "--into", str(results)])
    assert said.output == f"{there}\n"
    assert (run.folder / late.name).read_text() == "mine"


def test_a_late_audit_measures_what_the_run_measured(copy, tmp_path):
    """A late audit has the training's network, feedback, data and probe, so Γ is the same."""
    results, run = copy
    before = run.record.measurements["alignment"]
    bench = Here(tmp_path)
    done = bench(
        "audit",
        run.folder,
        "--diagnostic",
        "alignment",
        "--diagnostic",
        "nudging",
        "--diagnostic",
        "loss_decrease",
    )
    assert done.returncode == 0, done.stderr
    suites, troubles = gather([results])
    assert troubles == []
    (record,) = (record for record in suites[0].records if record.identity == run.record.identity)
    assert record.measurements["alignment"].details["unclamped"] == pytest.approx(
        before.details["unclamped"], abs=1e-6
    )
    assert record.measurements["nudging"].value < 0
    assert record.measurements["loss_decrease"].not_diagnostic  # one epoch
    assert store.read(run.folder, sums=True) == run.record  # the run itself is as it was
    assert "not diagnostic: fewer than two epochs" in done.stdout
    again = yaml.safe_load(suite_of(record))["diagnostics"]  # what the run itself measured
    assert set(again) == set(run.record.listed())


def test_the_diagnostics_of_credit_and_block_are_kept(copy):
    _, run = copy
    few = ("common_mode", "participation")
    names = [f"bench-core/{name}" for name in few]
    listed = [{"name": name, "params": {}} for name in names]
    job = {"diagnostics": listed, "device": "cpu", "data_dir": None}
    measured = remeasure.measured(job, run.folder)
    items = {name: Measurement.model_validate(item) for name, item in measured.items()}
    assert {name: item.raised for name, item in items.items() if item.raised} == {}
    record, _, troubles = remeasured.attach(run.record, run.folder)
    assert troubles == []
    assert record.measurements.keys() >= items.keys()


def test_a_measurement_that_raised_is_told_from_one_with_a_figure_of_an_error():
    """The share of the output error is a detail of common_mode of this name."""
    raised = Measurement(details={"error": "common_mode raised a ValueError"})
    assert checked({"common_mode": raised})["common_mode"].raised == raised.details["error"]
    for value in (0.5, None):
        assert Measurement(value=value, details={"error": 0.1, "layers": []}).raised is None


def test_a_checkpoint_that_the_code_does_not_fit_is_refused(copy):
    """The states on the probe reveal another network under the same cell."""
    from safetensors.torch import load_file, save_file

    _, run = copy
    path = run.folder / "checkpoint.safetensors"
    tensors = load_file(path)
    tensors["net.blocks.0.w1.weight"] = tensors["net.blocks.0.w1.weight"] * 1.5
    save_file(tensors, path)
    files = {name: entry.model_dump() for name, entry in run.record.files.items()}
    files[path.name] = {"bytes": path.stat().st_size, "blake2b": checksum(path.open("rb"))}
    record = run.record.model_copy(
        update={"files": {k: type(run.record.files[k])(**v) for k, v in files.items()}}
    )
    (run.folder / store.RUN).write_text(store.sealed(record).to_json())
    job = {
        "diagnostics": [{"name": "bench-core/nudging", "params": {}}],
        "device": "cpu",
        "data_dir": None,
    }
    with pytest.raises(BenchError, match="gives other states h_1"):
        remeasure.measured(job, run.folder)
    assert not list(run.folder.glob("late.*"))


def a_late(stored: Stored, value: float = 0.5, **changes) -> remeasured.Late:
    measurement = {"value": value, "details": {"deep": value}}
    fields = {
        "late_schema": 2,
        "checkpoint": remeasured.checkpoint_sum(stored.record),
        "diagnostic": "bench-core/alignment",
        "params": {},
        "versions": {},
    }
    return remeasured.Late.model_validate(
        {**fields, "measurement": measurement, "measured": "2026-01-01", **changes}
    )


def test_credits_are_compared_only_where_they_were_computed_alike(
    copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older run states no instruction set; it is compared on a machine like its own."""
    _, run = copy
    asked: list[Path] = []
    monkeypatch.setattr(remeasure, "check_credits", lambda folder, audit: asked.append(folder))
    job = {"diagnostics": [], "device": None, "data_dir": None}
    own = run.record.environment
    older = {key: value for key, value in own.items() if key != "instructions"}
    for environment, alike in (
        (own, True),
        (older, True),
        ({**own, "instructions": "another"}, False),
        ({**own, "device_name": "another"}, False),
    ):
        asked.clear()
        stated = run.record.model_copy(update={"environment": environment})
        monkeypatch.setattr(remeasure.store, "read", lambda folder, sums, record=stated: record)
        remeasure.measured(job, run.folder)
        assert bool(asked) is alike


def test_a_run_whose_rule_lost_an_option_is_not_rebuilt() -> None:
    said = "^the installed bench-core/dfa has other parameters: lost: unknown key"
    with pytest.raises(UsageError, match=said):
        make(plugins.load(), "method", "bench-core/dfa", {"lost": 0.25})


def test_the_later_measurement_counts(copy):
    _, run = copy
    remeasured.write(run.folder, a_late(run))
    remeasured.write(run.folder, a_late(run, 0.25))
    record, _, troubles = remeasured.attach(run.record, run.folder)
    assert troubles == []
    assert record.measurements["alignment"].value == 0.25
    assert record.measurements["scale_growth"] == run.record.measurements["scale_growth"]
    key = "diagnostic bench-core/alignment"
    assert key in run.record.numerics
    assert key not in record.numerics  # a file of an older bench does not say by which it was made
    remeasured.write(run.folder, a_late(run, versions={"numerics": 7}))
    assert remeasured.attach(run.record, run.folder)[0].numerics[key] == 7
    stated = run.record.model_copy(update={"measured_by": {"bench-core/alignment": "a"}})
    assert remeasured.attach(stated, run.folder)[0].measured_by == {}  # the file does not say
    remeasured.write(run.folder, a_late(run, versions={"code": "b"}))
    assert remeasured.attach(stated, run.folder)[0].measured_by == {"bench-core/alignment": "b"}


OWN = """
from bench_core.api import Diagnostic, Measured

class Own(Diagnostic):
    title = sentence = unit = "x"

    def measure(self, audit):
        return Measured(0.5)
"""


@pytest.mark.long
def test_an_edited_diagnostic_is_named_until_it_measures_again(tmp_path: Path) -> None:
    """Its author has not raised its `numerics`, and the edit came between two commands."""
    site = tmp_path / "site"
    listed = plugin("bench_diagnostics()", 'return [Component("own", "own_diagnostic:Own", "x")]')
    fake_dist(site, "x-own", "own_hooks", listed)
    (site / "own_diagnostic.py").write_text(OWN)
    (tmp_path / "tiny.yaml").write_text(TINY + "diagnostics: [own]\nfloors: false\n")
    bench = Here(tmp_path)

    def run(seed: int) -> None:
        told = bench("run", "tiny.yaml", "--seed", seed, path=[site])
        assert told.returncode == 0, told.stderr

    def table() -> str:
        return " ".join(bench("leaderboard", "results", path=[site]).stdout.split())

    run(1)
    (site / "own_diagnostic.py").write_text(
        OWN.replace("    def m", '    """Measure."""\n\n    def m')
    )
    assert "own" not in bench("plan", "tiny.yaml", path=[site]).stderr  # words, and no code
    (site / "own_diagnostic.py").write_text(OWN.replace("0.5", "0.25"))
    remedy = "`bench audit results/tiny --diagnostic own` measures it again"
    told = f"1 of the runs to reuse measured own with code that has changed since; {remedy}"
    assert told in bench("plan", "tiny.yaml", path=[site]).stderr
    (path,) = (tmp_path / "results/tiny").glob("*/run.json")
    text, record = path.read_text(), store.read(path.parent)
    silent = store.sealed(record.model_copy(update={"measured_by": {}}))
    path.write_text(silent.to_json())  # as of an older bench
    assert "changed since" not in bench("plan", "tiny.yaml", path=[site]).stderr
    path.write_text(text)
    run(2)
    by = [record["measured_by"]["x-own/own"] for record in runs(tmp_path / "results/tiny").values()]
    assert len(set(by)) == 2
    versions = "own was measured by 2 versions of the diagnostic (its code differs"
    assert versions in table()
    said = bench("audit", "results/tiny", "--diagnostic", "own", path=[site])
    assert said.returncode == 0, said.stderr
    assert versions not in table()
    assert "changed since" not in bench("plan", "tiny.yaml", path=[site]).stderr


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("value", "its checksum differs"),
        ("run", "belongs to another run"),
        ("schema", "newer"),
        ("json", "is no JSON"),
    ],
)
def test_a_late_measurement_that_cannot_be_trusted_is_not_counted(copy, fault, reason):
    _, run = copy
    path = run.folder / "late.alignment.json"
    if fault == "run":
        remeasured.write(run.folder, a_late(run, checkpoint="0" * 32))
    elif fault == "schema":
        remeasured.write(run.folder, a_late(run, late_schema=3))
    else:
        remeasured.write(run.folder, a_late(run))
        raw = json.loads(path.read_text())
        raw["measurement"]["value"] = 0.9
        path.write_text(json.dumps(raw) if fault == "value" else path.read_text()[:-20])
    record, _, troubles = remeasured.attach(run.record, run.folder)
    assert record == run.record
    assert len(troubles) == 1
    assert reason in troubles[0]
    assert str(path) in troubles[0]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("depth_utility", "compares runs"),
        ("nudging[eta=-1]", "eta: must be above 0"),
        ("nudgin", "did you mean nudging?"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is(copy, asked_here, wanted, message):
    results, _ = copy
    done = CliRunner().invoke(cli.bench, ["audit", str(results), "--diagnostic", wanted])
    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)
    assert not list(results.rglob("late.*"))


def test_runs_that_cannot_be_measured_for_one_reason_are_one_line(asked_here, tmp_path):
    folder = write(tmp_path, seeds("bench-core/dfa", [0.4, 0.5, 0.6]), None)
    done = CliRunner().invoke(cli.bench, ["audit", str(tmp_path), "--diagnostic", "nudging"])
    first = min(runs(folder))
    line = (
        f"{folder / first} and 2 more: not audited: its status is done, and it left no checkpoint"
    )
    assert (done.stderr.splitlines(), done.exit_code) == ([line], 1)


def test_a_late_audit_and_a_validation_have_a_limit_of_memory(copy, monkeypatch):
    """A cell of other people may ask for a network of any size: its child is ended."""
    from bench_core.execution import limits
    from bench_core.execution.planning import validate

    _, run = copy
    monkeypatch.setattr(limits, "MEMORY_MB", 1)
    small = run.record.model_copy(update={"peak_memory_bytes": 0})
    (outcome,) = remeasure.audit_runs([Stored(small, run.folder)], [], None, None, 1)
    assert "used more than 1 MiB of memory" in outcome.problem
    with pytest.raises(UsageError, match="used more than 1 MiB of memory"):
        validate.ask({"components": [], "trios": [], "memory_mb": 1})
    endless = run.record.model_copy(update={"epochs": 10**7})
    (outcome,) = remeasure.audit_runs([Stored(endless, run.folder)], [], None, None, 1)
    assert outcome.problem == "it has 10,000,000 epochs; at most 100,000 are run again"


@pytest.mark.parametrize(
    ("seconds", "mebibytes", "allowed"),
    [
        (1.0, 100, {"seconds": 600.0, "memory_mb": 2248}),  # ten minutes at the least
        (20.0, 0, {"seconds": 2000.0, "memory_mb": 2048}),  # a hundred times
        (5000.0, 10_000, {"seconds": 86_400.0, "memory_mb": 12_000}),  # a day; .75 of 16,000
    ],
)
def test_what_a_posted_cell_may_use_follows_from_its_run(
    seconds: float, mebibytes: int, allowed: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench_core.execution import limits

    monkeypatch.setattr(limits, "machine_memory", lambda: 16_000 << 20)
    posted = run(seconds=seconds, peak_memory_bytes=mebibytes << 20)
    assert limits.allowance(posted) == allowed


def test_an_audit_labels_a_run_as_every_table_does(asked_here, tmp_path, monkeypatch):
    code = {"x-ebd": {"files": {}, "defaults": {"x-ebd/ebd": {"normalize": "none"}}}}
    posted = run("x-ebd/ebd", params={"normalize": "none"}, code=code)
    write(tmp_path, [posted], None)
    outcomes = [remeasure.Remeasured(tmp_path, posted)]
    monkeypatch.setattr(remeasure, "audit_runs", lambda *arguments: outcomes)
    done = CliRunner().invoke(cli.bench, ["audit", str(tmp_path), "--diagnostic", "nudging"])
    assert "  x-ebd/ebd  " in done.stdout


def test_a_seed_without_a_run_is_named(copy):
    results, run = copy
    seed = run.record.cell.seed
    wanted = ["audit", str(results), "--diagnostic", "drift", "--method", "dfa", "--seed", "99"]
    done = CliRunner().invoke(cli.bench, wanted)
    told = str(done.exception)
    assert "no finished run of dfa with seed 99 to audit" in told
    assert f"with the seeds {seed}" in told
