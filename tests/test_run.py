"""Sweeps with every kind of bad plugin: each cell ends as a row, and the good ones are unharmed.

What a killed runner, a killed worker or a full disk leave is in test_recovery.py.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forged
import pytest
from bench_plugins.methods.bp import Backprop
from bench_plugins.methods.dfa import DirectFeedbackAlignment
from conftest import Bench, Finished, Here, alive, fake_dist, leftovers, wait_until, workers_of
from forged import cell, job

from bench_core.commands.run import unmeasured
from bench_core.errors import StoreError
from bench_core.execution import resumption
from bench_core.execution.executors import Options, local, supervise
from bench_core.execution.worker.cell import diagnostics, unasked
from bench_core.names import OURS
from bench_core.registry import plugins
from bench_core.results import files, locks, logs, store, suite_folder
from bench_core.results.record import RunRecord
from bench_core.training.method import Method

pytestmark = pytest.mark.processes

# --------------------------------------------------------------------------------- one faulty sweep

HOOKS = """
import json, os
from bench_core.api import Component, hookimpl

@hookimpl
def bench_methods():
    names = ("raises", "quits", "nan", "killed", "exits", "loud")
    return [Component(name, f"faulty_rules:{name.title()}") for name in names]

@hookimpl
def bench_diagnostics():
    return [Component("breaks", "faulty_rules:Breaks"), Component("odd", "faulty_rules:Odd")]

def note(*words):
    with open(os.environ["NOTES"], "a") as out:
        out.write(" ".join(map(str, words)) + "\\n")

@hookimpl
def bench_suite_start(plan): note("suite_start", len(plan.to_run))
@hookimpl
def bench_cell_start(identity): note("cell_start", identity)
@hookimpl
def bench_epoch_end(cell, row): note("epoch_end", cell.method.short, row["epoch"])
@hookimpl
def bench_cell_end(record): note("cell_end", record.status)
@hookimpl
def bench_suite_end(records):
    note("suite_end", len(records))
    print("sweep \\x1b[2J\\udcffdone", "." * 5_000_000)
"""

RULES = """
import os, signal, sys
from pathlib import Path
import torch
from bench_core.api import Diagnostic, Measured
from bench_plugins.methods.bp import Backprop

class Raises(Backprop):
    def step(self, x, y, epoch):
        raise ValueError("no \\x1b[31mstep\\nfor you")

class Quits(Backprop):
    def step(self, x, y, epoch):
        sys.exit(3)

class Nan(Backprop):
    seen = 0
    def step(self, x, y, epoch):
        self.seen += 1
        loss = super().step(x, y, epoch)
        return loss * float("nan") if self.seen == 3 else loss

class Killed(Backprop):
    def step(self, x, y, epoch):
        if not Path(os.environ["MARK"]).exists():
            Path(os.environ["MARK"]).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(x, y, epoch)

class Exits(Backprop):
    def step(self, x, y, epoch):
        print("last words", flush=True)
        os._exit(74)

class Loud(Backprop):
    def step(self, x, y, epoch):
        os.write(1, b"\\xff\\x1b[2J" * 200_000)
        return super().step(x, y, epoch)

class Breaks(Diagnostic):
    letter = "x"
    def measure(self, audit):
        raise RuntimeError("cannot measure")

class Odd(Diagnostic):
    letter = "y"
    def measure(self, audit):
        return Measured(1.0, {"not": {"to be": torch.zeros(2)}})
"""

DEAF = """
from bench_core.api import hookimpl

@hookimpl
def bench_epoch_end(row): raise ValueError("never mind")
"""

METHODS = ", ".join(
    f"x-faulty/{name}" for name in ("raises", "quits", "nan", "killed", "exits", "loud")
)
SUITE = """\
name: faulty
arch: {name: resmlp, width: 8, depth: 2}
dataset: digits
methods: [METHODS]
seeds: [1]
floors: false
data: {limit: 128}
training: {epochs: 1, batch_size: 32}
diagnostics: [scale_growth, x-faulty/breaks, x-faulty/odd]
"""


@dataclass(frozen=True)
class Sweep:
    """The faulty suite after its first run."""

    home: Path
    done: subprocess.CompletedProcess[str]
    again: subprocess.CompletedProcess[str]
    first: dict[str, dict[str, Any]]  # method → run.json
    second: dict[str, dict[str, Any]]
    notes: list[str]

    def log(self, method: str) -> bytes:
        return (
            self.home / "results" / "faulty" / self.second[method]["identity"] / "log.txt"
        ).read_bytes()


def records(folder: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in folder.glob("*/run.json")]
    return {record["cell"]["method"]["name"].rpartition("/")[2]: record for record in found}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    home = tmp_path_factory.mktemp("faulty")
    fake_dist(home / "site", "x-faulty", "faulty_hooks", HOOKS)
    fake_dist(home / "site", "x-deaf", "deaf_hooks", DEAF, entry="deaf")
    (home / "site" / "faulty_rules.py").write_text(RULES)
    (home / "suite.yaml").write_text(SUITE.replace("METHODS", METHODS))
    env = {"NOTES": str(home / "notes"), "MARK": str(home / "mark")}
    arguments = ("run", "suite.yaml", "--workers", 2)
    done = Bench(home)(*arguments, path=[home / "site"], env=env)
    first, notes = records(home / "results" / "faulty"), (home / "notes").read_text().splitlines()
    again = Here(home)(*arguments, path=[home / "site"], env=env)
    return Sweep(home, done, again, first, records(home / "results" / "faulty"), notes)


def test_every_cell_is_a_row_with_its_status(sweep: Sweep) -> None:
    assert {name: record["status"] for name, record in sweep.first.items()} == {
        "raises": "failed",
        "quits": "failed",
        "nan": "diverged",
        "killed": "crashed",
        "exits": "crashed",
        "loud": "done",
    }
    assert sweep.done.returncode == 1
    assert "Traceback" not in sweep.done.stderr
    assert leftovers(sweep.home / "results" / "faulty") == []
    for word in ("failed", "diverged", "crashed"):
        assert word in sweep.done.stdout


def test_what_an_observer_prints_is_cleaned_and_cut(sweep: Sweep) -> None:
    said = next(line for line in sweep.done.stdout.splitlines() if line.startswith("sweep"))
    assert said.startswith("sweep [2J?done ....")
    assert 1_000_000 < len(said) < 4_000_000
    assert "\x1b" not in sweep.done.stdout


def test_the_reason_is_one_printable_line(sweep: Sweep) -> None:
    reasons = {name: record["reason"] for name, record in sweep.first.items()}
    line = 1 + RULES[: RULES.index("raise ValueError")].count("\n")
    assert reasons["raises"] == f"ValueError: no ?[31mstep for you (at faulty_rules.py:{line})"
    assert reasons["quits"].startswith("SystemExit: 3 (at faulty_rules.py:")
    assert reasons["nan"] == "the training loss is not finite from step 3 of epoch 1"
    assert reasons["killed"].startswith("the worker ended with SIGKILL after epoch 0")
    assert reasons["exits"] == "the worker ended with exit code 74 after epoch 0: last words"
    assert reasons["loud"] is None
    assert all(line.isprintable() for line in sweep.done.stdout.splitlines())


def test_the_log_has_the_traceback_and_an_end(sweep: Sweep) -> None:
    log = sweep.log("raises").decode()
    assert "Traceback (most recent call last)" in log
    assert "faulty_rules.py" in log
    shown = Here(sweep.home)("show", sweep.first["raises"]["identity"]).stdout
    assert shown.splitlines()[-1].endswith(f"{sweep.first['raises']['identity']}/log.txt")
    assert logs.LARGEST < len(sweep.log("loud")) < logs.LARGEST + 100


def test_a_diagnostic_that_raises_does_not_lose_the_training(sweep: Sweep) -> None:
    loud = sweep.first["loud"]
    assert loud["status"] == "done"
    assert loud["accuracy"] > 0
    assert loud["measurements"]["scale_growth"]["value"] > 0
    for name, words in (("breaks", "RuntimeError: cannot measure"), ("odd", "odd raised ")):
        assert loud["measurements"][name]["value"] is None
        assert words in loud["measurements"][name]["details"]["error"]
    assert "breaks not measured" in " ".join(sweep.done.stdout.split())


def test_the_next_run_takes_up_what_crashed_and_nothing_else(sweep: Sweep) -> None:
    assert "6 cells, 4 reused (1 diverged, 2 failed), 2 to run" in sweep.again.stdout
    assert sweep.again.returncode == 1
    assert "\n2 failed runs are of an earlier sweep; " in sweep.again.stderr
    assert "of an earlier sweep" not in sweep.done.stderr
    assert sweep.second["killed"]["status"] == "done"
    assert sweep.second["exits"]["status"] == "crashed"
    for name in ("raises", "quits", "nan", "loud"):
        assert sweep.second[name] == sweep.first[name]


def test_observers_hear_of_everything_and_a_raising_one_is_said_once(sweep: Sweep) -> None:
    heard = Counter(line.split()[0] for line in sweep.notes)
    assert sweep.notes[0] == "suite_start 6"
    assert sweep.notes[-1] == "suite_end 6"
    assert heard["cell_start"] == heard["cell_end"] == 6
    assert "epoch_end x-faulty/loud 1" in sweep.notes
    assert sorted(line.split()[1] for line in sweep.notes if line.startswith("cell_end")) == sorted(
        record["status"] for record in sweep.first.values()
    )
    assert (
        sweep.done.stderr.count("x-deaf 1.0 (deaf): bench_epoch_end raised ValueError: never mind")
        == 1
    )


@pytest.mark.long
def test_a_crash_does_not_touch_the_next_cell_of_a_builtin(sweep: Sweep) -> None:
    """bp among broken rules gives the bits that it gives alone: `loud` is bp that prints."""
    env = {"NOTES": str(sweep.home / "unheard"), "MARK": str(sweep.home / "mark")}
    text = SUITE.replace("METHODS", "bp").replace("name: faulty", "name: alone")
    (sweep.home / "alone.yaml").write_text(text.replace(", x-faulty/breaks, x-faulty/odd", ""))
    done = Here(sweep.home)("run", "alone.yaml", path=[sweep.home / "site"], env=env)
    assert done.returncode == 0, done.stderr
    alone = records(sweep.home / "results" / "alone")["bp"]
    for name in ("loud", "killed"):
        assert (
            sweep.second[name]["files"]["checkpoint.safetensors"]
            == alone["files"]["checkpoint.safetensors"]
        )


# ------------------------------------------------------- what must leave a training as it is

MEDDLING = """
from bench_core.api import Component, hookimpl

@hookimpl
def bench_methods():
    names = ("counts", "keeps", "sets", "casts", "forks")
    return [Component(name, f"meddlers:{name.title()}") for name in names]

@hookimpl
def bench_diagnostics():
    names = ("pokes", "draws", "throws", "freezes", "steps", "flips", "folds")
    return [Component(name, f"meddlers:{name.title()}") for name in names]
"""
MEDDLERS = """
import os
from dataclasses import replace

import torch
from bench_core.api import Diagnostic, Measured
from bench_plugins.methods.dfa import DirectFeedbackAlignment

class Pokes(Diagnostic):
    def measure(self, audit):
        with torch.no_grad():
            audit.net.blocks[1].w1.weight.data[0, 0] += 1e-6
        raise ValueError("and hides it")

class Draws(Diagnostic):
    def measure(self, audit):
        torch.rand(1, generator=audit.method.tools.aux_generator)
        return Measured(1.0, {})

class Throws(Diagnostic):
    def measure(self, audit):
        return Measured(float(torch.rand(())), {})

class Steps(Diagnostic):
    def measure(self, audit):
        if state := audit.method.tools.updaters[0].optimiser.state:
            next(iter(state.values()))["exp_avg"].mul_(1.5)
        return Measured(1.0, {})

class Flips(Diagnostic):
    def measure(self, audit):
        audit.batches[0].g[1].mul_(-1)
        return Measured(1.0, {})

class Folds(Diagnostic):
    when = "epochs"
    def per_batch(self, audit, batch):
        batch.states.h[2].zero_()
    def measure(self, audit):
        return Measured(float(len(audit.figures(self))), {})

class Freezes(Diagnostic):
    when = "final"
    def measure(self, audit):
        audit.net.readout.requires_grad_(False)
        return Measured(1.0, {})

class Counts(DirectFeedbackAlignment):
    seen = 0
    def credit(self, states, y, epoch):
        self.seen += 1
        credits = super().credit(states, y, epoch)
        return replace(credits, audited=[a * (1 + self.seen % 7) for a in credits.audited])

class Keeps(DirectFeedbackAlignment):  # a cache, what it saw last, a counter and a log
    calls, log = 0, []
    def credit(self, states, y, epoch):
        self.calls += 1
        self.log.append(states.h[0].mean())
        self.last = {"loss": float(states.output_error.abs().sum())}
        if not hasattr(self, "ones"):
            self.ones = torch.ones(3)
        return super().credit(states, y, epoch)

class Casts(DirectFeedbackAlignment):
    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        torch.set_autocast_enabled("cpu", True)
        torch.set_flush_denormal(True)
        torch.backends.mkldnn.enabled = False

class Forks(DirectFeedbackAlignment):  # and the child comes back
    calls = 0
    def credit(self, states, y, epoch):
        self.calls += 1
        if self.calls in (1, 9):
            child = os.fork()
            if child:
                os.waitpid(child, 0)
        return super().credit(states, y, epoch)

class Sets(DirectFeedbackAlignment):
    def step(self, x, y, epoch):
        torch.set_num_threads(2)
        torch.set_float32_matmul_precision("medium")
        return super().step(x, y, epoch) * float("nan" if self.params.penalty else 1)
"""


@pytest.mark.long
def test_what_changes_a_training_beside_its_identity_ends_the_cell(here: Here) -> None:
    """A diagnostic is no part of the identity, so its cell is trained again without it."""
    fake_dist(here.cwd / "site", "x-meddle", "meddling", MEDDLING)
    (here.cwd / "site" / "meddlers.py").write_text(MEDDLERS)

    def run(*rules: str, measured: str = "drift") -> dict[str, tuple[str, str]]:
        text = SUITE.replace("METHODS", ", ".join(rules)).replace("faulty", "meddled")
        listed = text.replace("x-meddled/breaks, x-meddled/odd", measured)
        (here.cwd / "suite.yaml").write_text(listed)
        done = here("run", "suite.yaml", path=[here.cwd / "site"])
        assert "error" not in done.stderr, done.stderr
        found = records(here.cwd / "results" / "meddled").items()
        return {name: (record["status"], record["reason"] or "") for name, record in found}

    mend, draw = "mend it", 'draw by stream(audit.seed, "probe") of bench_core.api'
    for name, what, remedy in (
        ("pokes", "net.blocks.1.w1.weight", mend),
        ("draws", "the random stream auxiliary", draw),
        ("throws", "torch's global generator", draw),
        ("freezes", "requires_grad of its parameters", mend),
        ("steps", "updater.0.0.exp_avg", mend),
        ("flips", "g_1 of probe batch 0", mend),
        ("folds", "h_2 of probe batch 0", mend),
    ):
        status, reason = run("dfa", measured=f"x-meddle/{name}")["dfa"]
        assert status == "crashed"
        shown = name.title() if name == "folds" else name  # found while all read the probe
        assert reason.startswith(f"the diagnostic {shown} changes {what}; measuring must")
        assert reason.endswith(f"as it is: {remedy}, or take it out of diagnostics")
    own = [f"x-meddle/{name}" for name in ("counts", "keeps", "sets", "casts", "forks")]
    ended = run("dfa", *own, "{name: x-meddle/sets, penalty: 0.1}")
    assert [ended[name][0] for name in ("dfa", "keeps", "forks")] == ["done"] * 3
    assert ended["casts"][0] == "failed"
    assert ended["casts"][1].startswith(
        "autocast is cpu, not off; flush of denormal numbers is True, not False; "
        "mkldnn.enabled is False, not True: "
    )
    for folder in (here.cwd / "results" / "meddled").glob("[0-9a-f]*"):
        if '"x-meddle/forks"' in (folder / "run.json").read_text():
            rows = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
            assert [row["epoch"] for row in rows] == [0, 1]
    status, reason = ended["counts"]
    assert status == "failed"
    assert "credit() of Counts returns another credit when it is asked for the same " in reason
    both = (here.cwd / "results" / "meddled").glob("*/run.json")
    for raw in map(json.loads, (path.read_text() for path in both)):
        if raw["cell"]["method"]["name"] == "x-meddle/sets":  # one of them has diverged by then
            assert raw["status"] == "failed"
            assert raw["reason"].startswith(
                "number of threads is 2, not 1; matmul precision is medium, not highest: "
            )
    late = ("--diagnostic", "x-meddle/flips", "--diagnostic", "alignment")
    done = here("audit", "meddled", "--method", "dfa", *late, path=[here.cwd / "site"])
    assert done.returncode == 1
    assert "the diagnostic flips changes g_1 of probe batch 0; measuring must" in done.stderr
    assert not list((here.cwd / "results").rglob("late*"))


# -------------------------------------------------------------------------------- where writes fail


@pytest.mark.long
def test_files_that_may_not_grow_stop_the_sweep_with_one_line(
    bench: Bench, finished: Finished
) -> None:
    """RLIMIT_FSIZE, with SIGXFSZ ignored by Python: every write over 6,000 bytes fails."""
    kept = {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*")}
    done = bench(
        "run", finished.suite, "--seed", 5, "--seed", 6, "--results", "r", "--workers", 1,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000)),
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: r/tiny/") or f"error: {bench.cwd}/r/tiny/" in line
    assert "cannot be written: " in line
    assert leftovers(bench.cwd / "r" / "tiny") == []
    assert list((bench.cwd / "r" / "tiny").glob("*/run.json")) == []
    assert kept == {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*")}


def test_a_run_states_how_many_test_samples_it_had(finished: Finished) -> None:
    (folder, *_) = (path.parent for path in finished.folder.glob("*/run.json"))
    record = store.read(folder)
    assert record.test_samples == 360  # of digits, whatever `data.limit` leaves of the training set
    assert record.chance is not None
    assert round(record.chance * 360) == pytest.approx(record.chance * 360)


def test_a_run_states_its_accuracy_with_initial_blocks_if_they_trained(finished: Finished) -> None:
    found = {}
    for path in finished.folder.glob("*/run.json"):
        record = store.read(path.parent)
        found[record.cell.method.short, record.cell.method.params["freeze"]] = record.reset_accuracy
    assert found.keys() == {(name, way) for name in ("bp", "dfa") for way in (None, "blocks")}
    for (_, freeze), accuracy in found.items():
        assert accuracy is None if freeze else 0 <= accuracy <= 1


def test_the_step_of_a_rule_is_compared_with_the_gradient(
    finished: Finished,
) -> None:
    """Of every rule whose blocks learn; dfa's step is no better than its credit."""
    found = {}
    for path in finished.folder.glob("*/run.json"):
        record = store.read(path.parent)
        asked = "diagnostic bench-core/projected_step" in record.numerics
        last = list(map(json.loads, (path.parent / store.EPOCHS).read_text().splitlines()))[-1]
        measured = {name: m.value for name, m in record.measurements.items()}
        assert ("projected_step" in last["measurements"]) == ("projected_step" in measured) == asked
        assert "projected_step" not in record.initial  # a continued training would lose it
        cell = record.cell.method
        found[cell.short, cell.params["freeze"]] = measured.get("projected_step")
    assert found == {
        ("bp", None): pytest.approx(1),
        ("bp", "blocks"): None,
        ("dfa", None): pytest.approx(0, abs=0.5),
        ("dfa", "blocks"): None,
    }


@pytest.mark.parametrize(
    ("rule", "freeze", "listed", "asked"),
    [
        (Backprop, None, ["alignment"], ["projected_step"]),
        (Backprop, None, ["scale_growth"], []),
        (Backprop, None, ["alignment", "projected_step"], []),
        (Backprop, "blocks", ["alignment"], []),
        (DirectFeedbackAlignment, None, ["alignment"], ["projected_step"]),
    ],
)
def test_a_step_is_compared_once_and_beside_the_credit(
    rule: type[Method], freeze: str | None, listed: list[str], asked: list[str]
) -> None:
    method = object.__new__(rule)
    method.params = SimpleNamespace(freeze=freeze)
    registry = plugins.load(only={OURS})
    suite = diagnostics(registry, [{"name": f"{OURS}/{each}", "params": {}} for each in listed])
    assert [name for name, _ in unasked(registry, method, suite)] == asked


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_a_results_folder_that_cannot_be_is_a_usage_error(
    here: Here, finished: Finished, kind: str
) -> None:
    place = here.cwd / "results"
    place.touch() if kind == "file" else place.symlink_to("nowhere/at all")
    done = here("run", finished.suite)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: results/tiny: cannot be written: ")


# ----------------------------------------------------- the executor, with workers that are not ours


def test_a_worker_that_dies_after_its_run_was_stored_does_not_lose_it(
    execute, tmp_path: Path
) -> None:
    events = execute("finish()\nos.kill(os.getpid(), 9)")
    assert events[-1]["record"].status == "done"
    assert store.read(tmp_path / "s" / f"{0:032x}").status == "done"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("os._exit(0)", "the worker ended with exit code 0 after epoch 0"),
        ("os._exit(74)", "the worker ended with exit code 74 after epoch 0"),
        (
            "raise ValueError('its own fault')",
            "exit code 1 after epoch 0: ValueError: its own fault",
        ),
        ("import shutil; shutil.rmtree(store.temporary(final))", "exit code 0"),
        ("os.write(1, b'5\\nnull\\n\\xff\\n{\"event\"'); os._exit(9)", "exit code 9"),
        ("os.close(1); os.close(2); os._exit(9)", "exit code 9"),
    ],
)
def test_however_a_worker_ends_its_cell_is_a_row(
    execute, tmp_path: Path, code: str, reason: str
) -> None:
    events = execute(code)
    assert [event["event"] for event in events] == ["start", "end"]
    assert events[-1]["record"].status == "crashed"
    assert reason in events[-1]["record"].reason
    assert leftovers(tmp_path / "s") == []


def test_a_worker_that_cannot_write_stops_the_sweep(execute, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the disk is full"):
        execute(forged.DISK_FULL, cells=3)
    assert list((tmp_path / "s").iterdir()) == []


def test_what_a_worker_started_ends_with_it(execute, tmp_path: Path) -> None:
    write = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))"
    execute(f"import subprocess\nchild = subprocess.Popen(['sleep', '600'])\n{write}\nfinish()")
    assert wait_until(lambda: not alive(int((tmp_path / "pid").read_text())))


@pytest.mark.long
def test_many_cells_leave_no_descriptor_and_no_child(execute, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    events = execute("finish()", cells=6, slots=3)
    assert Counter(event["event"] for event in events) == {"start": 6, "end": 6}
    assert len(os.listdir("/proc/self/fd")) == before
    assert workers_of(os.getpid()) == []
    assert leftovers(tmp_path / "s") == []


def test_a_run_that_another_runner_made_meanwhile_is_taken_and_not_made_again(
    execute, tmp_path: Path
) -> None:
    """The other one had even replaced a crashed run that our plan knew."""
    assert execute("os._exit(1)")[-1]["record"].status == "crashed"
    planned = cell(tmp_path / "s" / f"{0:032x}")
    assert execute("finish()")[-1]["record"].status == "done"
    events: list[dict[str, Any]] = []
    local.execute([planned], job, lambda c, event: events.append(event), Options(1))
    assert [(event["event"], event["record"].status) for event in events] == [("reused", "done")]


def test_a_row_of_an_unfinished_training_is_that_of_the_last_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says after which epochs the attempts continued, and takes the place of an earlier row."""
    job = forged.job(forged.cell(suite_folder.create(tmp_path, "s") / ("0" * 32)))
    final = Path(job["final"])
    monkeypatch.setattr(supervise.groups, "end_groups", lambda processes: True)

    def interrupted(epochs: int, saved: dict[str, Any] | None, *, since: bool) -> RunRecord:
        monkeypatch.setattr(resumption, "saved_state", lambda path, sealed: saved)
        monkeypatch.setattr(supervise, "saved_state", lambda path: saved)
        store.resume_file(final).touch()
        os.utime(store.resume_file(final), (3000.0, 3000.0) if since else (1000.0, 1000.0))
        locks.beside(final, "lock").touch()
        os.utime(locks.beside(final, "lock"), (2000.0, 2000.0))
        worker: Any = SimpleNamespace(
            job=job, final=final, process=None, epochs=epochs, seconds=1.0
        )
        supervise.interrupt([worker])
        return store.read(final)

    first = interrupted(8, {"epoch": 6, "resumed": []}, since=True)
    assert (first.epochs, first.resumed) == (8, [])
    second = interrupted(15, {"epoch": 12, "resumed": [6]}, since=True)
    assert (second.epochs, second.resumed) == (15, [6])
    assert second.reason == "interrupted after epoch 15; the next run continues after epoch 12"
    third = interrupted(14, {"epoch": 12, "resumed": [6]}, since=False)  # it has saved nothing
    assert (third.epochs, third.resumed) == (14, [6, 12])
    anew = interrupted(3, {"epoch": 12, "resumed": [6]}, since=False)
    assert (anew.epochs, anew.resumed) == (3, [])
    files.make_folder(store.temporary(final))
    store.commit(anew.model_copy(update={"status": "done"}), final)
    assert interrupted(9, None, since=True).status == "done"  # a result stays


def test_what_another_runner_did_not_measure_is_named() -> None:
    """It had the cell, and its suite had other diagnostics."""
    own, theirs = "diagnostic lab/own", "diagnostic lab/both"
    plan: Any = SimpleNamespace(
        folder=Path("r/s"),
        diagnostics=[{"name": "lab/own"}, {"name": "lab/both"}],
        to_run=[SimpleNamespace(identity=name) for name in ("ours", "theirs", "failed")],
    )
    numerics = {"method": 1, theirs: 1}
    ended: Any = [
        SimpleNamespace(identity="ours", status="done", numerics={**numerics, own: 1}),
        SimpleNamespace(identity="theirs", status="done", numerics=numerics),
        SimpleNamespace(identity="failed", status="failed", numerics={}),
        SimpleNamespace(identity="reused", status="done", numerics={}),  # the plan has said it
    ]
    assert unmeasured(plan, ended) == [
        "1 of the runs of another runner did not measure own; "
        "`bench audit r/s --diagnostic own` measures it"
    ]


@pytest.mark.parametrize(("word", "told"), [("continues after epoch 6", ""), ("oh", ": oh")])
def test_the_end_of_a_continued_worker_is_not_put_down_to_its_going_on(
    execute: Any, word: str, told: str
) -> None:
    *_, event = execute(f"os.write(2, b'{word}'); os._exit(7)")
    reason = "the worker ended with exit code 7 after epoch 0"
    assert event["record"].reason == reason + told


def test_a_run_that_a_killed_runner_was_to_replace_is_taken_and_not_made_again(
    execute, tmp_path: Path
) -> None:
    """It was killed between the two renames, after our plan was made."""
    execute("finish()")
    folder = tmp_path / "s" / f"{0:032x}"
    folder.rename(locks.beside(folder, "old"))
    (event,) = execute("os._exit(1)")
    assert (event["event"], event["record"].status) == ("reused", "done")


def test_an_unreadable_folder_is_set_aside_by_who_makes_the_run_anew(
    execute, tmp_path: Path
) -> None:
    folder = tmp_path / "s" / f"{0:032x}"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{")
    assert execute("finish()")[-1]["record"].status == "done"
    assert "no JSON" in (tmp_path / "s" / "quarantine" / f"{folder.name}-1.reason.txt").read_text()


def test_a_run_of_a_newer_bench_is_not_set_aside_by_who_would_make_it_anew(
    execute, tmp_path: Path
) -> None:
    assert execute("finish()")[-1]["record"].status == "done"
    record = tmp_path / "s" / f"{0:032x}" / "run.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "schema": 99}))
    with pytest.raises(StoreError, match="written by a newer bench"):
        execute("finish()")
    assert record.exists()


def test_an_interrupt_between_cells_leaves_nothing(
    execute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        wait_until(lambda: len(list((tmp_path / "s").glob(".tmp-*/ready"))) == 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "_listen", interrupted)
    monkeypatch.setattr("bench_core.processes.groups.GRACE", 0.2)
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    deaf += "(store.temporary(final) / 'ready').touch()\ntime.sleep(600)"
    with pytest.raises(KeyboardInterrupt):
        execute(f"import signal, time\n{deaf}", cells=3, slots=2)
    assert leftovers(tmp_path / "s") == []
    rows = [store.read(folder, sums=True) for folder in (tmp_path / "s").iterdir()]
    assert [(row.status, row.reason) for row in rows] == [
        ("interrupted", "interrupted after epoch 0; the next run begins it anew")
    ] * 2
    assert workers_of(os.getpid()) == []
