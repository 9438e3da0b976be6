"""Measure the cost of running besides training, and the gain from a second worker.

    python benchmarks/running.py plan                    planning a suite of 10,000 cells
    python benchmarks/running.py supervisor              CPU time of `bench run` per second of
                                                         a running cell
    python benchmarks/running.py workers --data-dir DIR  a batch of CIFAR-10 cells with one
                                                         worker and with two

Every figure is printed with its n. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

COMMAND = [sys.executable, "-m", "bench_core"]
BIG = """\
name: big
arch: {name: resmlp, width: 8, depth: 2}
dataset: digits
methods: [bp, dfa, fa, ep, state_bridge]
seeds: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]
matrix:
  method.penalty: [0.0, 0.001, 0.01, 0.1]
  training.learning_rate: [0.001, 0.002, 0.003, 0.004, 0.005]
  arch.width: [8, 16, 32, 64]
training: {epochs: 1}
"""
LONG = """\
name: long
arch: {name: resmlp, width: 256, depth: 4}
dataset: digits
methods: [dfa]
seeds: [1]
floors: false
training: {epochs: 40, batch_size: 32}
budget: {seconds: 3600, memory_mb: 8000}
"""
CIFAR = """\
name: batch
arch: resmlp
dataset: cifar10
methods: [bp, dfa]
seeds: [1, 2]
floors: false
training: {epochs: 6}
"""


def run(home: Path, *arguments: str) -> tuple[float, float]:
    """Run one command; return (wall seconds, CPU seconds of the command and its children)."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([*COMMAND, *arguments], cwd=home, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - started, cpu


def plan(home: Path, repeats: int) -> None:
    (home / "big.yaml").write_text(BIG)
    for _ in range(repeats):
        wall, cpu = run(home, "plan", "big.yaml")
        print(f"bench plan, 10,000 cells: {wall:.2f} s wall, {cpu:.2f} s of CPU")


def supervisor(home: Path) -> None:
    """Measure the runner's own CPU time from /proc while its worker runs.

    The runner's start-up does not count.
    """
    (home / "long.yaml").write_text(LONG)
    process = subprocess.Popen([*COMMAND, "run", "long.yaml"], cwd=home, stdout=subprocess.DEVNULL)
    ticks = os.sysconf("SC_CLK_TCK")

    def spent() -> float:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / ticks

    while not list(home.glob("results/long/.tmp-*/epochs.jsonl")):
        time.sleep(0.05)
    started, before, last = time.monotonic(), spent(), 0.0
    while list(home.glob("results/long/.tmp-*/epochs.jsonl")):
        last = spent()
        time.sleep(0.1)
    wall = time.monotonic() - started
    process.wait()
    print(
        f"supervisor: {last - before:.2f} s of CPU in {wall:.1f} s of one running cell: "
        f"{100 * (last - before) / wall:.2f} %"
    )


def workers(home: Path, data_dir: str, repeats: int) -> None:
    """Time whole commands, including planning and the page at the end."""
    (home / "batch.yaml").write_text(CIFAR)
    took: dict[int, list[float]] = {1: [], 2: []}
    for repeat in range(repeats):
        for count, seconds in took.items():
            seconds.append(
                run(home, "run", "batch.yaml", "--results", f"results-{count}-{repeat}",
                    "--workers", str(count), "--data-dir", data_dir)[0]
            )  # fmt: skip
            print(
                f"4 CIFAR-10 cells, {count} worker{'s' if count > 1 else ''}: {seconds[-1]:.1f} s",
                flush=True,
            )
    ratio = median(took[1]) / median(took[2])
    print(f"two workers finish {ratio:.2f} x sooner (medians, n = {repeats})")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["plan", "supervisor", "workers"])
    parser.add_argument("--data-dir", default=os.environ.get("BENCH_DATA_DIR", "data"))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if options.what == "plan":
            plan(home, options.repeats)
        elif options.what == "supervisor":
            supervisor(home)
        else:
            workers(home, str(Path(options.data_dir).absolute()), options.repeats)


if __name__ == "__main__":
    main()
