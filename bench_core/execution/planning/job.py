"""Describe the cell that a worker process runs, and the run that comes of it."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import bench_core
from bench_core.execution.planning.examination import Examined
from bench_core.execution.planning.fingerprint import ALGORITHM, CORE
from bench_core.names import FILE, OURS, distribution_of
from bench_core.printable import brief, last_line
from bench_core.results.hashing import digest
from bench_core.results.record import RunRecord, now

if TYPE_CHECKING:
    from bench_core.execution.planning.plan import PlannedCell


class Named(TypedDict):
    """A component with its parameters."""

    name: str  # in full
    params: dict[str, Any]


class Measuring(Named):
    """A diagnostic with the code that measures."""

    files: dict[str, str]  # module → digest


class Listed(Named):
    """A diagnostic of a job."""

    code: str  # digest of its modules, without those of the core


def measuring(examined: Examined) -> Measuring:
    """Return a diagnostic that `validate` has examined."""
    name, params = examined["name"], examined["params"]
    return Measuring(name=name, params=params, files=examined["files"])


def digested(each: Measuring) -> Listed:
    """Return a diagnostic with the digest of its code, as a job has it."""
    own = {name: file for name, file in each["files"].items() if name.partition(".")[0] != CORE}
    return Listed(name=each["name"], params=each["params"], code=digest(own))


def measured_by(diagnostics: Iterable[Listed]) -> dict[str, str]:
    """Return diagnostic → digest of its code, as a run records it.

    Diagnostics of bench-core are left out: their `numerics` count instead.
    """
    others = (each for each in diagnostics if distribution_of(each["name"]) != OURS)
    return {each["name"]: each["code"] for each in others}


class Job(TypedDict):
    """All that a worker process must know of a cell, as plain JSON values.

    The entries that are fields of `RunRecord` enter the record of the run.
    """

    identity: str
    algorithm: int
    numerics: dict[str, int]
    measured_by: dict[str, str]  # diagnostic → digest of its code
    suite: str
    cell: dict[str, Any]
    device: str
    final: str  # the run folder
    data_dir: str | None
    diagnostics: list[Listed]
    passport: dict[str, bool]
    why: str
    budget: dict[str, float | int]  # limits of the cell (`Budget.of_cell`)
    evaluate_every: int
    diagnose_every: int
    checkpoint_every: int | None
    code: dict[str, Any]  # distribution → its entry (`components.code_of`)
    modules: dict[str, str]  # module → digest of the code of the cell and of its diagnostics
    data_checksum: str
    checkout: dict[str, Any]
    cwd: NotRequired[str]  # of the worker; its parent's without it
    verify: NotRequired[bool]  # whether the worker compares its machine with the plan


def rule_files(code: Iterable[str]) -> list[str]:
    """Return the modules of rules that were taken from files, of the distributions of a job."""
    return [name.removesuffix(FILE) for name in code if name.endswith(FILE)]


def make_job(
    cell: PlannedCell,
    suite: str,
    diagnostics: Sequence[Measuring],
    data_dir: Path | None,
    budget: Mapping[str, float | int],
    every: Mapping[str, int],
    checkpoint_every: int | None = None,
) -> Job:
    """Return the job of a cell.

    every  `evaluate_every` and `diagnose_every`
    """
    entries = [entry.get("files", {}) for entry in cell.code.values()]
    modules = [*entries, *(each["files"] for each in diagnostics)]
    measured = list(map(digested, diagnostics))
    return {
        "identity": cell.identity,
        "algorithm": ALGORITHM,
        "numerics": dict(cell.numerics),
        "measured_by": measured_by(measured),
        "suite": suite,
        "cell": cell.cell.model_dump(mode="json"),
        "device": cell.device,
        "final": str(cell.folder.absolute()),
        "data_dir": str(data_dir.absolute()) if data_dir else None,
        "diagnostics": measured,
        "passport": dict(cell.passport),
        "why": cell.why,
        "budget": dict(budget),
        "evaluate_every": every["evaluate_every"],
        "diagnose_every": every["diagnose_every"],
        "checkpoint_every": checkpoint_every,
        "code": cell.code,
        "modules": {name: file for files in modules for name, file in files.items()},
        "data_checksum": cell.data_checksum,
        "checkout": checkout()[0],
    }


def make_record(job: Mapping[str, object], **outcome: Any) -> RunRecord:
    """Return the record of a job's run: the job's entries that are its fields, and `outcome`."""
    fields: dict[str, Any] = {
        name: job[name] for name in RunRecord.model_fields.keys() & job.keys()
    }
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
        # trust the checkout of any owner: its code runs here already
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
