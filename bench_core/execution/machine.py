"""Check that this machine runs the code and reads the data that a cell's identity states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench_core.errors import BenchError, UsageError
from bench_core.execution.planning import validate
from bench_core.execution.planning.components import changed_modules, code_of
from bench_core.execution.planning.examination import Request, option_faults
from bench_core.execution.planning.fingerprint import CORE
from bench_core.execution.planning.job import Job
from bench_core.execution.planning.syntax import syntax_digest
from bench_core.registry.modules import place
from bench_core.registry.registry import Registry
from bench_core.suite.cells import PARTS


class CodeChanged(BenchError):  # noqa: N818
    """A module that is no longer the module of the plan."""


def check_modules(modules: Mapping[str, str], files: Iterable[str] = ()) -> None:
    """Compare the modules of plugins, which this process imports next, with those of the plan.

    A module that was edited since would be recorded as the planned one. Raises CodeChanged.

    modules  module → digest of its code
    files    modules of rules that were taken from files of this machine: each must still be there
    """
    for module in files:
        if (path := place(module)) is None or not path.exists():
            raise CodeChanged(f"{module} is gone since the run was planned: put it back")
    for module, digest in modules.items():
        if module.partition(".")[0] == CORE or " " in module:
            continue
        path = place(module)
        if path is not None and path.is_file() and syntax_digest(path.read_bytes()) != digest:
            raise CodeChanged(f"{module} was edited after the run was planned: run it again")


def check_machine(job: Job, registry: Registry) -> None:
    """Compare the components of a job with those installed here. Raises UsageError."""
    cell = job["cell"]
    measured = [("diagnostic", each["name"], each["params"]) for each in job["diagnostics"]]
    components = [(kind, cell[kind]["name"], cell[kind]["params"]) for kind in PARTS] + measured
    request: Request = {"components": components, "data_dir": job["data_dir"]}
    parts = validate.answer(request, registry)["components"]
    for part in parts:
        if "error" in part:
            raise UsageError(part["error"])
        if faults := option_faults(part):
            raise UsageError(f"other parameters are known here: {', '.join(faults)}")
    code = code_of(parts[:3], parts[3:], cell["training"]["stop_when"])
    for name, entry in code.items():
        if entry["digest"] != job["code"][name]["digest"]:
            modules = ", ".join(changed_modules({name: entry}, {name: job["code"][name]}))
            remedy = "install the same version everywhere"
            raise UsageError(f"this machine has other code of {name}: {modules}; {remedy}")
    here, planned = parts[2]["checksum"], job["data_checksum"]
    if here != planned:
        raise UsageError(f"this machine has other data: checksum {here}, not {planned}")
