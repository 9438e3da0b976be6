"""Measure the cost of reading results: an audit's page and summaries of many run folders.

    python benchmarks/report.py [--runs 10000]

The summaries cover a hundred folders, then `--runs` folders. tests/folders.py generates them in
the size of real ones: run.json about 6 kB, epochs.jsonl about 2.3 kB per row.
Each command runs in its own process. Its wall clock time, processor time and peak memory are
printed beside the promised limits.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from folders import write  # noqa: E402
from records import PASSPORT, SICK, frozen, measured, run, seeds  # noqa: E402

from bench_core.results.record import RunRecord  # noqa: E402

METHODS = ("bp", "fa", "dfa", "state_bridge", "credit_bridge", "ep")
FIELDS = {
    "initial": measured(),
    "passport": PASSPORT,
    "environment": {"python": "3.11", "torch": "2.11", "numpy": "2.4", "system": "Linux x86_64",
                    "device": "cpu", "device_name": "a processor", "threads": 1,
                    "deterministic": True, "commit": "0" * 40, "dirty": False},
    "code": {"bench-core": {"version": "0.1.0", "digest": "0" * 32,
                            "modules": ["bench_plugins.methods.dfa"] * 3}},
    "data_checksum": "0" * 32,
    "finished": "2026-01-01T00:00:00+00:00",
}  # fmt: skip


@dataclass(frozen=True)
class Cost:
    wall: float
    cpu: float
    peak_mb: float


def command(*arguments: object) -> Cost:
    """Run `bench` in its own process and measure its cost."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "bench_core", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status != 0:
        raise SystemExit(
            f"bench {arguments[0]} failed: "
            f"{process.stderr.read().decode() if process.stderr else ''}"
        )
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def audit6() -> list[RunRecord]:
    """Return the records of 36 cells: six rules and their floors, three seeds each."""
    records = []
    for k, name in enumerate(METHODS):
        values = [0.60 - 0.06 * k + 0.004 * j for j in range(3)]
        sick = SICK if k in (2, 3, 4) else measured()
        records += seeds(f"bench-core/{name}", values, **{**FIELDS, "measurements": sick})
        records += frozen(f"bench-core/{name}", [0.4 - 0.02 * k] * 3, **FIELDS)
    return records


def many(count: int) -> list[RunRecord]:
    """Return `count` records: five seeds per method and as many of its floor."""
    made = []
    for k in range(count // 10):
        for seed in range(5):
            value = 0.3 + 1e-4 * ((k * 7 + seed * 13) % 1000)
            made.append(run(f"lab/rule{k}", seed, value, **FIELDS))
            made.append(
                run(f"lab/rule{k}", seed, value - 0.01, params={"freeze": "blocks"}, **FIELDS)
            )
    return made


def told(what: str, cost: Cost, promise: str, more: str = "") -> None:
    print(
        f"{what:46} {cost.wall:6.2f} s wall {cost.cpu:6.2f} s cpu {cost.peak_mb:6.0f} MB{more}"
        f"   promised: {promise}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=10_000)
    count = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        write(home / "a", audit6(), 100, suite="audit6", title="Audit of six rules")
        rows = sum(path.stat().st_size for path in home.rglob("epochs.jsonl"))
        runs = [path.stat().st_size for path in home.rglob("run.json")]
        print(
            f"36 cells of 100 epochs: {rows / 36 / 101:.0f} B a row, "
            f"run.json {sum(runs) / len(runs):.0f} B"
        )
        page = home / "report.html"
        cost = command("report", home / "a", "-o", page)
        told(
            "bench report, audit6", cost, "5 s, 2 MB", f", page {page.stat().st_size / 1e6:.2f} MB"
        )
        write(home / "b", many(100), None)
        told("bench leaderboard, 100 folders", command("leaderboard", home / "b"), "1.5 s")
        write(home / "c", many(count), None)
        told(
            f"bench leaderboard, {count:,} folders",
            command("leaderboard", home / "c"),
            "10 s, 1 GB",
        )
        cost = command("report", home / "c", "-o", page)
        told(
            f"bench report, {count:,} folders",
            cost,
            "10 s, 5 MB",
            f", page {page.stat().st_size / 1e6:.2f} MB",
        )


if __name__ == "__main__":
    main()
