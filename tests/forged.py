"""Scripts of a few lines in the place of worker processes, and cells for them to run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench_core.execution.executors import Options, local
from bench_core.execution.planning.job import make_job
from bench_core.execution.planning.plan import PlannedCell
from bench_core.results import store, suite_folder
from bench_core.results.record import Cell, ComponentRef

PYTHON = sys.executable
EVERY = {"evaluate_every": 1, "diagnose_every": 1}
FORGED = """
import json, os, pathlib, sys, time
from bench_core.results import store
from bench_core.results.record import Cell, RunRecord
job = json.load(sys.stdin)["job"]
final = pathlib.Path(job["final"])
def wait_until(condition):
    for _ in range(24000):
        if condition():
            return
        time.sleep(0.01)
    sys.exit("it hangs")
def finish():
    cell = Cell.model_validate(job["cell"])
    store.commit(RunRecord(identity=final.name, suite="s", cell=cell, status="done"), final)
"""

DISK_FULL = """
event = {"event": "unwritable", "reason": "the disk is full", "errno": 28}
os.write(1, json.dumps(event).encode() + b"\\n")
os._exit(74)
"""


def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Run cells with `code` in the place of the worker; return the events."""

    def run(
        code: str, *, cells: int = 1, device: str = "cpu", budget: Any = None, **options: Any
    ) -> list[dict[str, Any]]:
        script = tmp_path / "worker"
        script.write_text(f"#!{PYTHON}\n{FORGED}\n{code}")
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
        monkeypatch.setenv("BENCH_FORK", "0")
        events: list[dict[str, Any]] = []
        folder = suite_folder.create(tmp_path, "s")
        planned = [cell(folder / f"{number:032x}", device) for number in range(cells)]
        local.execute(
            planned,
            lambda c: job(c, budget),
            lambda c, event: events.append(event),
            Options(**options),
        )
        return events

    return run


def cell(folder: Path, device: str = "cpu") -> PlannedCell:
    ref = ComponentRef(name="bench-core/bp")
    resolved = Cell(method=ref, arch=ref, dataset=ref, data={}, training={"threads": 1}, seed=1)
    return PlannedCell(
        resolved,
        folder.name,
        folder,
        device,
        {},
        "",
        {},
        "run",
        "no run of this identity yet",
        store.stamp(folder),
    )


def job(planned: PlannedCell, budget: Any = None) -> dict[str, Any]:
    return {**make_job(planned, "s", [], None, budget or {}, EVERY), "why": "a test"}
