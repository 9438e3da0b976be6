"""Describe the cell that a worker process runs, and the run that comes of it."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bench_core
from bench_core.execution.planning.fingerprint import ALGORITHM
from bench_core.printable import brief, last_line
from bench_core.results.record import RunRecord, now

if TYPE_CHECKING:
    from bench_core.execution.planning.plan import PlannedCell


def make_job(
    cell: PlannedCell,
    suite: str,
    diagnostics: Sequence[Mapping[str, Any]],
    data_dir: Path | None,
    budget: Mapping[str, float | int],
    every: Mapping[str, int | None],
) -> dict[str, Any]:
    """Return all that a worker must know of a cell, as plain JSON values.

    diagnostics       `{"name": full name, "params": …}` of each
    budget            limits of the cell (`Budget.of_cell`)
    every             `evaluate_every`, `diagnose_every` and `checkpoint_every` of the suite
    """
    return {
        "identity": cell.identity,
        "algorithm": ALGORITHM,
        "numerics": dict(cell.numerics),
        "suite": suite,
        "cell": cell.cell.model_dump(mode="json"),
        "device": cell.device,
        "final": str(cell.folder.absolute()),
        "data_dir": str(data_dir.absolute()) if data_dir else None,
        "diagnostics": list(diagnostics),
        "passport": cell.passport,
        "why": cell.why,
        "budget": dict(budget),
        **every,
        "code": cell.code,
        "data_checksum": cell.data_checksum,
        "checkout": checkout()[0],
    }


def make_record(job: Mapping[str, Any], **outcome: Any) -> RunRecord:
    """Return the record of a job's run: the job's entries that are its fields, and `outcome`."""
    fields = {name: job[name] for name in RunRecord.model_fields.keys() & job.keys()}
    return RunRecord(**{**fields, "finished": now(), **outcome})


@cache
def checkout() -> tuple[dict[str, Any], str]:
    """Return the commit of this code and whether it was edited since, and git's fault or "".

    Outside a git checkout there is neither.
    """
    root = Path(bench_core.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return {}, ""

    def git(*arguments: str) -> str:
        # trusted whoever owns it, because its code runs here anyway
        options = ["-c", f"safe.directory={root}", "--no-optional-locks", "-C", str(root)]
        output = subprocess.check_output(
            ["git", *options, *arguments], stderr=subprocess.PIPE, timeout=30
        )
        return output.decode().strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=no")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changes)}, ""
    except subprocess.CalledProcessError as error:
        fault = last_line(error.stderr) or brief(error)
        remedy = f"`git -C {shlex.quote(str(root))} status` must work"
        return {}, f"{fault}; {remedy}"
    except (OSError, subprocess.SubprocessError) as error:
        return {}, brief(error)
