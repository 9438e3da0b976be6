"""Check that random kills and racing runners lose nothing: the tables stay equal byte for byte.

Every test run has a few of each, with short scripts as workers that write real records.
`make soak` has tens of each, with real trainings, and prints the figures that
docs/reliability.md records.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import forged
import pytest
from conftest import COMMAND, HANG, Bench, environment, leftovers, wait_until, workers_of
from folders import leaderboard

from bench_core.results.scan import scan

pytestmark = pytest.mark.processes

RUNNER = """
import os, sys
from pathlib import Path
os.environ["BENCH_FORK"] = "0"
sys.path.insert(0, {tests!r})
import forged
from bench_core.results import store, suite_folder
from bench_core.execution.executors import Options, local
folder = suite_folder.create(Path({home!r}), "s")
store.tidy(folder)
sys.executable = {script!r}
cells = [forged.cell(folder / f"{{number:032x}}") for number in range(6)]
todo = [c for c in cells if store.stamp(c.folder) is None or store.read(c.folder).status != "done"]
local.execute(todo, forged.job, lambda c, event: None, Options(2))
"""
WORKER = """
from bench_core.processes.forking import die_with
die_with(int(sys.argv[-2]))
for row in range(5):
    with (store.temporary(final) / "epochs.jsonl").open("a") as out:
        out.write("{}" + chr(10))
    time.sleep(0.03)
sys.path.insert(0, TESTS)
from records import run
seed = int(final.name, 16)
rule = ("bench-core/dfa", "bench-core/bp")[seed % 2]
record = run(rule, seed, 0.3 + seed / 100)
store.commit(record.model_copy(update={"identity": final.name, "suite": "s"}), final)
"""


def runner(home: Path) -> list[str]:
    """Return a command that completes six cells and skips the finished ones."""
    script, tests = home / "worker", str(Path(__file__).parent)
    script.write_text(f"#!{sys.executable}\n{forged.FORGED}\nTESTS = {tests!r}\n{WORKER}")
    script.chmod(0o755)
    return [sys.executable, "-c", RUNNER.format(tests=tests, home=str(home), script=str(script))]


def table(home: Path) -> str:
    return leaderboard([run.record for run in scan([home]).runs], format="json")


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> str:
    home = tmp_path_factory.mktemp("straight")
    subprocess.run(runner(home), check=True, timeout=HANG)
    return table(home)


def kill_some(process: subprocess.Popen[Any], draw: random.Random) -> str:
    """SIGKILL the runner, one of its workers, or all, and return which.

    They may have ended already.
    """
    which = draw.choice(["runner", "worker", "both"])
    workers = workers_of(process.pid)
    chosen = {"runner": [], "worker": workers[:1], "both": workers}[which]
    if which != "worker" or not workers:
        which = "both" if chosen else "runner"
        process.kill()
    for pid in chosen:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return which


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_at_a_random_moment_and_run_again_the_table_is_the_same(
    tmp_path: Path, straight: str, seed: int
) -> None:
    draw = random.Random(seed)
    process = subprocess.Popen(runner(tmp_path), stderr=subprocess.DEVNULL)
    wait_until(lambda: list(tmp_path.glob("s/*")), process)
    time.sleep(draw.uniform(0, 1.0))
    if process.poll() is None:
        kill_some(process, draw)
    process.wait(timeout=HANG)
    subprocess.run(runner(tmp_path), check=True, timeout=HANG)
    assert table(tmp_path) == straight
    assert leftovers(tmp_path / "s") == []


@pytest.mark.long
def test_two_runners_on_one_folder_do_each_cell_once(tmp_path: Path, straight: str) -> None:
    both = [subprocess.Popen(runner(tmp_path)) for _ in range(2)]
    assert [process.wait(timeout=HANG) for process in both] == [0, 0]
    assert table(tmp_path) == straight
    assert leftovers(tmp_path / "s") == []


# ---------------------------------------------------------------------------------------- make soak

TINY = """\
name: soak
arch: {name: resmlp, width: 16, depth: 2}
dataset: digits
methods: [dfa, credit_bridge]
seeds: [1]
floors: false
data: {limit: 256}
training: {epochs: 150, batch_size: 32}
checkpoint_every: 1
"""
MOMENTS = 20


def printed(bench: Bench, results: str) -> str:
    """Return the table as users see it; no column depends on the clock."""
    return str(bench("leaderboard", results, env={"COLUMNS": "100"}).stdout)


def sums(folder: Path) -> dict[str, Any]:
    runs = scan([folder]).runs
    return {run.record.identity: run.record.files["checkpoint.safetensors"] for run in runs}


@pytest.mark.soak
def test_soak_sigkill_at_random_moments(bench: Bench) -> None:
    """Real trainings survive every kill: weights and tables equal those of a straight run."""
    (bench.cwd / "soak.yaml").write_text(TINY)
    started = time.monotonic()
    assert bench("run", "soak.yaml", "--results", "straight", "--workers", 2).returncode == 0
    length = time.monotonic() - started
    expected, weights = printed(bench, "straight"), sums(bench.cwd / "straight")
    told = {"runner": 0, "worker": 0, "both": 0, "too late": 0}
    resumed = 0
    for moment in range(MOMENTS):
        draw, results = random.Random(moment), f"killed-{moment}"
        process = bench.start("run", "soak.yaml", "--results", results, "--workers", "2")
        time.sleep(draw.uniform(0.2, 0.9) * length)
        if process.poll() is None:
            told[kill_some(process, draw)] += 1
        else:
            told["too late"] += 1
        process.communicate(timeout=600)
        assert bench("run", "soak.yaml", "--results", results, "--workers", 2).returncode == 0
        assert printed(bench, results) == expected
        assert sums(bench.cwd / results) == weights
        assert leftovers(bench.cwd / results / "soak") == []
        resumed += sum(bool(run.record.resumed) for run in scan([bench.cwd / results]).runs)
    print(
        f"\nSIGKILL at {MOMENTS} random moments: {told}; "
        f"{resumed} cells went on from a saved state; tables and weights equal"
    )


@pytest.fixture
def fuse(tmp_path: Path) -> Iterator[Path]:
    """A folder on a FUSE file system."""
    if shutil.which("bindfs") is None or not os.access("/dev/fuse", os.W_OK):
        pytest.skip("needs bindfs and /dev/fuse: apt-get install bindfs")
    (tmp_path / "under").mkdir()
    (tmp_path / "fuse").mkdir()
    subprocess.run(["bindfs", tmp_path / "under", tmp_path / "fuse"], check=True, timeout=60)
    try:
        yield tmp_path / "fuse"
    finally:
        subprocess.run(["umount", tmp_path / "fuse"], check=True, timeout=60)


@pytest.mark.soak
def test_soak_on_fuse(bench: Bench, fuse: Path) -> None:
    """A file that is removed while it is open becomes a hidden file that vanishes later."""
    suite = TINY.replace("seeds: [1]", "seeds: [1, 2, 3, 4]").replace("epochs: 150", "epochs: 20")
    (bench.cwd / "soak.yaml").write_text(suite)
    assert bench("run", "soak.yaml", "--results", "straight", "--workers", 2).returncode == 0
    expected, weights = printed(bench, "straight"), sums(bench.cwd / "straight")
    process = bench.start("run", "soak.yaml", "--results", "fuse/results", "--workers", "2")
    wait_until(lambda: list(fuse.glob("results/soak/*/run.json")), process)
    kill_some(process, random.Random(1))
    process.communicate(timeout=600)
    assert bench("run", "soak.yaml", "--results", "fuse/results", "--workers", 2).returncode == 0
    again = bench("run", "soak.yaml", "--results", "fuse/results", "--workers", 2)
    assert "8 reused, 0 to run" in again.stdout
    assert again.stderr == ""
    assert printed(bench, "fuse/results") == expected
    assert bench("verify", "fuse/results").returncode == 0
    assert bench("merge", "fuse/results", "--into", "fuse/merged").returncode == 0
    assert sums(fuse / "results") == sums(fuse / "merged") == weights
    assert leftovers(fuse / "results" / "soak") == []
    print("\n8 cells on bindfs, one kill: all reused, verified and merged; tables equal")


@pytest.mark.soak
def test_soak_two_runners_on_one_folder(bench: Bench) -> None:
    (bench.cwd / "soak.yaml").write_text(TINY.replace("epochs: 150", "epochs: 2"))
    assert bench("run", "soak.yaml", "--results", "straight").returncode == 0
    expected, weights, trained = printed(bench, "straight"), sums(bench.cwd / "straight"), 0
    for number in range(MOMENTS):
        command = [COMMAND, "run", "soak.yaml", "--results", f"race-{number}", "--workers", "1"]
        both = [
            subprocess.Popen(
                command, cwd=bench.cwd, env=environment(), stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        outputs = [process.communicate(timeout=600)[0] for process in both]
        assert [process.returncode for process in both] == [0, 0]
        trained += sum(out.count("· accuracy") for out in outputs)
        assert printed(bench, f"race-{number}") == expected
        assert sums(bench.cwd / f"race-{number}") == weights
        assert leftovers(bench.cwd / f"race-{number}" / "soak") == []
    assert trained == 2 * MOMENTS
    print(
        f"\ntwo runners on one folder, {MOMENTS} times: {trained} cells trained, "
        f"{2 * MOMENTS} expected; tables equal"
    )
