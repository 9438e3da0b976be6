"""Nothing is lost.

A killed, interrupted or starved run goes on where it was, and its tables are those of a straight
one.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import HANG, Finished, Here, alive, leftovers, runs, wait_until, workers_of

from bench_core.execution.executors import supervise
from bench_core.processes.forking import Forked

pytestmark = pytest.mark.processes


def figures(results: Path) -> object:
    """The leaderboard without what depends on the clock."""
    told = json.loads(Here(results)("leaderboard", results, "--format", "json").stdout)
    drop = {"seconds", "seconds_per_epoch", "peak_memory_bytes", "memory", "memory_mb", "finished"}

    def strip(value: object) -> object:
        if isinstance(value, dict):
            return {key: strip(item) for key, item in value.items() if key not in drop}
        return [strip(item) for item in value] if isinstance(value, list) else value

    return strip(told)


def begun(process: subprocess.Popen[str], results: Path, finished: int = 0) -> int:
    """Wait until `finished` runs are there and a worker is at the next; return its process.

    A worker that loads torch has its job, so the runner knows it.
    """

    def worker() -> int:
        if len(runs(results / "tiny")) >= finished:
            for pid in workers_of(process.pid):
                with suppress(OSError):  # it ended while we looked
                    if "libtorch" in Path(f"/proc/{pid}/maps").read_text():
                        return pid
        return 0

    pid: int = wait_until(worker, process)
    return pid


def test_a_second_run_trains_nothing_and_prints_the_same_table(here, finished: Finished):
    before = {
        name: (finished.folder / name / "run.json").stat().st_mtime_ns
        for name in runs(finished.folder)
    }
    again = here("run", finished.suite, "--results", finished.results)
    assert again.returncode == 0
    assert "4 cells, 4 reused, 0 to run" in again.stdout
    assert again.stdout.splitlines()[1:] == finished.output.splitlines()[5:]
    assert before == {
        name: (finished.folder / name / "run.json").stat().st_mtime_ns for name in before
    }


@pytest.mark.long
def test_the_same_cells_give_the_same_bits_whatever_runs_beside_them(
    bench, finished: Finished, tmp_path
):
    """One worker instead of two, and another hash seed: equal checkpoints, curves and probes."""
    arguments = ("--results", tmp_path / "r", "--workers", 1)
    bench("run", finished.suite, *arguments, env={"PYTHONHASHSEED": "7"})
    one, other = runs(finished.folder), runs(tmp_path / "r" / "tiny")
    assert one.keys() == other.keys()
    assert len(one) == 4
    for name, record in one.items():
        for file in ("checkpoint.safetensors", "probe.safetensors"):
            assert record["files"][file] == other[name]["files"][file], (
                record["cell"]["method"],
                file,
            )
        assert record["accuracy"] == other[name]["accuracy"]
        assert record["measurements"] == other[name]["measurements"]


@pytest.mark.long
@pytest.mark.parametrize("after", [0, 1])
def test_a_killed_run_goes_on_and_its_table_is_that_of_a_straight_one(
    bench, here, finished: Finished, tmp_path, after
):
    """SIGKILL of the runner after `after` cells or more.

    Its worker dies with it, finished cells stay, the rest is run.
    """
    folder = tmp_path / "r" / "tiny"
    process = bench.start("run", finished.suite, "--results", tmp_path / "r", "--workers", 1)
    worker = begun(process, tmp_path / "r", after)
    process.kill()
    process.communicate()
    wait_until(lambda: not alive(worker))
    kept = runs(folder)
    assert after <= len(kept) < 4
    went_on = here("run", finished.suite, "--results", tmp_path / "r")
    assert went_on.returncode == 0, went_on.stderr
    assert f"4 cells, {len(kept)} reused, {4 - len(kept)} to run" in went_on.stdout
    assert kept.items() <= runs(folder).items()
    assert leftovers(folder) == []
    assert figures(tmp_path / "r") == figures(finished.results)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_workers_and_leaves_nothing_half_written(
    bench, finished: Finished, tmp_path, number
):
    folder = tmp_path / "r" / "tiny"
    process = bench.start("run", finished.suite, "--results", tmp_path / "r", "--workers", 1)
    worker = begun(process, tmp_path / "r")
    process.send_signal(number)
    _, told = process.communicate(timeout=HANG)
    assert process.returncode == 130
    assert "finished cells are kept" in told
    assert "Traceback" not in told
    wait_until(lambda: not alive(worker))
    assert leftovers(folder) == []


def test_a_killed_worker_is_a_row_and_the_next_run_finishes_it(
    bench, here, finished: Finished, tmp_path
):
    folder = tmp_path / "r" / "tiny"
    process = bench.start("run", finished.suite, "--results", tmp_path / "r", "--workers", 1)
    os.kill(begun(process, tmp_path / "r"), signal.SIGKILL)
    out, _ = process.communicate(timeout=HANG)
    assert process.returncode == 1
    records = runs(folder)
    assert len(records) == 4
    (crashed,) = [record for record in records.values() if record["status"] != "done"]
    assert crashed["status"] == "crashed"
    assert "SIGKILL" in crashed["reason"]
    assert "crashed" in out
    again = here("run", finished.suite, "--results", tmp_path / "r")
    assert "3 reused, 1 to run" in again.stdout
    assert again.returncode == 0
    assert figures(tmp_path / "r") == figures(finished.results)


@pytest.mark.long
def test_a_cell_whose_fork_server_is_killed_starts_again(here, finished: Finished, tmp_path):
    """SIGKILL of the process that its worker was forked from: same bits, nothing lost."""
    started = supervise.start
    servers: list[int] = []

    def start(*arguments: Any) -> supervise.Worker:
        worker = started(*arguments)
        if isinstance(worker.process, Forked) and not servers:
            servers.append(worker.process.parent)
            os.kill(worker.process.parent, signal.SIGKILL)
        return worker

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervise, "start", start)
        run = here("run", finished.suite, "--results", tmp_path / "r", "--workers", 1)
    assert servers
    assert run.returncode == 0, run.stderr
    assert leftovers(tmp_path / "r" / "tiny") == []
    assert figures(tmp_path / "r") == figures(finished.results)


@pytest.mark.long
def test_two_runners_on_one_folder_share_the_cells(bench, finished: Finished, tmp_path):
    """Each cell is trained once: a run folder that is there is never replaced, and nobody fails."""
    both = [
        bench.start("run", finished.suite, "--results", tmp_path / "r", "--workers", 1)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=HANG) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    trained = sum(len(re.findall(r"· accuracy", out)) for out, _ in outputs)
    assert trained == 4
    assert leftovers(tmp_path / "r" / "tiny") == []
    assert figures(tmp_path / "r") == figures(finished.results)


@pytest.mark.long
def test_a_full_disk_stops_the_sweep_with_one_line_and_loses_nothing(
    here, finished: Finished, tmp_path
):
    """A real file system that fills up after the first cell.

    Exit 2, the finished cell is intact, the rest goes on later.
    """
    sizes = [
        sum(f["bytes"] for f in record["files"].values())
        for record in runs(finished.folder).values()
    ]
    disk = tmp_path / "disk"
    disk.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={int(1.9 * max(sizes))}".encode()
    if libc.mount(b"tmpfs", bytes(disk), b"tmpfs", 0, options) != 0:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    try:
        run = here("run", finished.suite, "--results", disk, "--workers", 1)
        assert run.returncode == 2
        assert "No space left on device" in run.stderr
        assert len([line for line in run.stderr.splitlines() if line.startswith("error")]) == 1
        assert "Traceback" not in run.stderr
        assert leftovers(disk / "tiny") == []
        kept = runs(disk / "tiny")
        assert len(kept) == 1
        # MS_REMOUNT: somebody made room
        libc.mount(b"tmpfs", bytes(disk), b"tmpfs", 32, b"size=100m")
        assert "1 reused, 3 to run" in here("run", finished.suite, "--results", disk).stdout
        assert figures(disk) == figures(finished.results)
    finally:
        libc.umount2(bytes(disk), 2)


@pytest.mark.parametrize("damage", ["truncated", "empty", "zeros", "other file"])
def test_a_damaged_run_is_set_aside_and_run_again(here, finished: Finished, tmp_path, damage):
    shutil.copytree(finished.results, tmp_path / "r")
    folder = tmp_path / "r" / "tiny"
    victim = next(path.parent for path in sorted(folder.glob("*/run.json")))
    record = victim / "run.json"
    body = record.read_bytes()
    if damage == "other file":
        checkpoint = victim / "checkpoint.safetensors"
        changed = bytearray(checkpoint.read_bytes())
        changed[-1] ^= 1
        checkpoint.write_bytes(changed)
    else:
        record.write_bytes(
            {"truncated": body[: len(body) // 2], "empty": b"", "zeros": bytes(len(body))}[damage]
        )
    # sums are checked by `bench run`, sizes and run.json by every reader
    if damage != "other file":
        told = here("leaderboard", tmp_path / "r")
        assert told.returncode == 0
        assert f"{victim.name}: not counted" in told.stderr
    run = here("run", finished.suite, "--results", tmp_path / "r")
    assert run.returncode == 0, run.stderr
    assert "3 reused, 1 to run" in run.stdout
    assert len(list((folder / "quarantine").iterdir())) == 2  # the folder and its reason
    assert figures(tmp_path / "r") == figures(finished.results)


def test_a_run_of_a_newer_bench_stays_and_stops_an_older_one(here, finished: Finished, tmp_path):
    shutil.copytree(finished.results, tmp_path / "r")
    folder = tmp_path / "r" / "tiny"
    first, victim = sorted(path.parent for path in folder.glob("*/run.json"))[:2]
    shutil.rmtree(first)
    record = victim / "run.json"
    record.write_text(json.dumps({**json.loads(record.read_bytes()), "schema": 99}))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    for command in ("run", "plan"):
        told = here(command, finished.suite, "--results", tmp_path / "r")
        assert told.returncode == 2
        assert told.stderr.count("\n") == 1
        assert f"{victim}: written by a newer bench: " in told.stderr
        assert "update bench-core" in told.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    told = here("verify", tmp_path / "r", "--quarantine")
    assert f"{victim}: left where it is: a newer bench wrote it" in told.stderr
    assert record.exists()
    assert not (folder / "quarantine").exists()
    assert here("leaderboard", tmp_path / "r").returncode == 0
    assert here("merge", finished.results, "--into", tmp_path / "r").returncode == 2
    assert json.loads(record.read_bytes())["schema"] == 99


@pytest.mark.long
def test_every_run_has_a_suite_file_that_makes_it_again(here, finished: Finished, tmp_path):
    """Whatever its suite and its options were.

    The identities are the same, so that nothing is left to train.
    """
    rule = "dfa[penalty=0.25,normalize_eps={per_n: 1e-6}]"
    sets = [
        "floors=false",
        "arch.width=12",
        "diagnostics=[scale_growth, reference_floor]",
        "stop_when=[reference_floor]",
    ]
    given = [word for value in sets for word in ("--set", value)]
    made = here("run", finished.suite, "--method", rule, *given, "--results", tmp_path / "r")
    assert made.returncode == 0, made.stderr
    for root in (tmp_path / "r", finished.results):
        for record in runs(root / "tiny").values():
            again = here("show", record["identity"][:12], root, "--suite")
            assert again.returncode == 0, again.stderr
            (tmp_path / "again.yaml").write_text(again.stdout)
            planned = json.loads(
                here("plan", tmp_path / "again.yaml", "--results", root, "--json").stdout
            )
            assert {cell["identity"]: cell["action"] for cell in planned["cells"]} == {
                record["identity"]: "reuse"
            }


@pytest.mark.long
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_here_is_said_before_anything_runs_and_disputes_nothing(
    here, finished: Finished, tmp_path
):
    run = here("run", finished.suite, "--device", "cuda", "--results", tmp_path / "r")
    assert run.returncode == 2
    assert run.stderr.startswith("error: no device cuda here: ")
    assert not (tmp_path / "r").exists()
    shutil.copytree(finished.results, tmp_path / "theirs")
    again = here("replicate", tmp_path / "theirs", "--sample", "1", "--device", "cuda")
    assert again.returncode == 1
    assert ": could not be run here: crashed: no device cuda here: " in again.stderr
    assert "0 of 1 agree, 1 could not be run" in again.stdout
    assert not (tmp_path / "theirs" / "tiny" / "agreement").exists()


@pytest.mark.long
def test_runs_of_two_suites_are_trained_again_at_once(here, finished: Finished, tmp_path):
    """Two cells in three runs: the cell that both suites have is trained for each."""
    for name in ("one", "two"):
        shutil.copytree(finished.folder, tmp_path / "theirs" / name)
    keep = sorted(path.name for path in finished.folder.glob("*") if (path / "run.json").is_file())
    for folder in (tmp_path / "theirs").glob("*/*/run.json"):
        if folder.parent.name not in keep[: 2 if folder.parent.parent.name == "one" else 1]:
            shutil.rmtree(folder.parent)
    again = here("replicate", tmp_path / "theirs", "--sample", "100%", "--workers", "2")
    assert again.returncode == 0, again.stderr
    assert "3 of 3 agree (3 bit by bit)" in again.stdout
    parts = re.findall(r"^\[(\d)/(\d)\]", again.stdout, re.MULTILINE)
    assert parts == [("1", "2"), ("2", "2"), ("1", "1")]


@pytest.mark.long
def test_an_interrupted_replication_leaves_nothing_half_written(
    bench, here, finished: Finished, tmp_path
):
    shutil.copytree(finished.results, tmp_path / "theirs")
    into, options = tmp_path / "theirs-replicas", ("--sample", 3, "--workers", 1)
    process = bench.start("replicate", tmp_path / "theirs", *options)
    worker = begun(process, into, finished=1)
    process.send_signal(signal.SIGTERM)
    printed, told = process.communicate(timeout=HANG)
    assert process.returncode == 130
    (seed,) = re.findall(r"3 runs drawn with --seed (\d+)", printed)
    advice = f"the same command with --seed {seed} runs the rest"
    assert f"interrupted: finished runs are kept; {advice}" in told
    wait_until(lambda: not alive(worker))
    assert leftovers(into / "tiny") == []
    before = {key: run for key, run in runs(into / "tiny").items() if run["status"] == "done"}
    rest = here("replicate", tmp_path / "theirs", *options, "--seed", seed)
    assert "3 of 3 agree" in rest.stdout
    assert rest.stdout.count("the run that you trained at") == len(before) >= 1
    assert before.items() <= runs(into / "tiny").items()


@pytest.mark.long
def test_a_killed_replication_is_tidied_by_the_next(bench, here, finished: Finished, tmp_path):
    shutil.copytree(finished.results, tmp_path / "theirs")
    into, options = tmp_path / "theirs-replicas", ("--sample", "100%", "--workers", 1)
    process = bench.start("replicate", tmp_path / "theirs", *options)
    worker = begun(process, into)
    process.kill()
    process.communicate(timeout=HANG)
    wait_until(lambda: not alive(worker))
    (into / "tiny" / f".tmp-{'0' * 32}").mkdir()  # of a cell that is not drawn again
    again = here("replicate", tmp_path / "theirs", *options)
    assert "4 of 4 agree" in again.stdout
    assert leftovers(into / "tiny") == []


@pytest.mark.long
def test_somebody_elses_results_are_checked_and_made_again(here, finished: Finished, tmp_path):
    """`bench verify`, then `bench replicate` of one run, in the same environment.

    Equal bit by bit, and the table says so.
    """
    shutil.copytree(finished.results, tmp_path / "theirs")
    assert "4 runs: 4 without fault, 0 with" in here("verify", tmp_path / "theirs").stdout
    again = here("replicate", tmp_path / "theirs", "--sample", "1", "--seed", 1)
    assert again.returncode == 0, again.stderr
    assert "agrees: equal bit by bit\n1 of 1 agree" in again.stdout
    assert "Of 4 runs: 1 replicated (" in here("leaderboard", tmp_path / "theirs").stdout
    assert len(runs(tmp_path / "theirs-replicas" / "tiny")) == 1
    assert runs(tmp_path / "theirs" / "tiny") == runs(finished.folder)
    merged = here(
        "merge", tmp_path / "theirs", tmp_path / "theirs-replicas", "--into", tmp_path / "all"
    )
    assert merged.returncode == 0, merged.stderr
    assert "4 copied, 1 there already" in merged.stdout
    two = here("replicate", tmp_path / "theirs", "--sample", 1, "--seed", 1, "--threads", 2)
    assert two.returncode == 0, two.stderr  # two threads may give the same bits, or not
    assert re.search(r"agrees: (equal bit|accuracy 0\.\d+ and 0\.\d+, within)", two.stdout)
    replicas = runs(tmp_path / "theirs-replicas" / "tiny").values()
    assert sorted(run["cell"]["training"]["threads"] for run in replicas) == [1, 2]


FORGETS = """
import os, signal
from pathlib import Path
from bench_core.api import Credits, LocalMethod, Passport


class Forgets(LocalMethod):
    passport = Passport()

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        self.B = {n: self.draw(task.classes, task.features(n)) for n in sorted({0, *net.sites})}

    def learn(self, states, y, epoch):
        if epoch == 2 and Path("dies").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        for n in self.B:
            self.B[n] += 0.1 * states.output_error.T @ states.h[n] / len(y)

    def credit(self, states, y, epoch):
        a = {n: states.output_error @ self.B[n] for n in self.B}
        return Credits(audited=[a[n] for n in self.net.sites], embed=a[0])
"""


@pytest.mark.long
def test_a_rule_that_forgets_its_state_is_trained_anew_and_the_user_hears_why(
    here, tmp_path, monkeypatch
):
    """Its accuracy is that of a training that nothing cut short."""
    rule, dies = tmp_path / "forgets.py", tmp_path / "dies"
    rule.write_text(FORGETS)
    monkeypatch.chdir(tmp_path)
    options = ["quickstart", "--method", "./forgets.py", "--seed", 1, "--set", "floors=false"]
    options += ["--set", "checkpoint_every=1"]

    def run(results: str) -> str:
        done = here("run", *options, "--results", tmp_path / results)
        return done.stdout + done.stderr

    straight = run("straight")
    dies.touch()
    run("killed")
    dies.unlink()
    told = run("killed")
    assert "forgets · seed 1: training begins anew: the rule rebuilt from it gives" in told
    (one,), (other,) = (
        runs(tmp_path / name / "quickstart").values() for name in ("straight", "killed")
    )
    assert other["resumed"] == []
    assert one["accuracy"] == other["accuracy"], straight
    told = here("why", other["identity"], tmp_path / "killed").stdout
    assert "was to continue after epoch 2, but began anew" in told
    assert "continues after" not in told
