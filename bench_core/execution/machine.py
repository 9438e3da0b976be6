"""Check that this machine runs the code and reads the data that a cell's identity states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench_core.errors import UsageError
from bench_core.execution import validate
from bench_core.execution.components import PARTS, changed_modules, code_of
from bench_core.registry.registry import Registry


def check_machine(job: Mapping[str, Any], registry: Registry) -> None:
    """Compare the components of a job with those installed here. Raises UsageError."""
    cell = job["cell"]
    measured = [("diagnostic", each["name"], each["params"]) for each in job["diagnostics"]]
    components = [(kind, cell[kind]["name"], cell[kind]["params"]) for kind in PARTS] + measured
    request = {"components": components, "trios": [], "data_dir": job["data_dir"]}
    parts = validate.answer(request, registry)["components"]
    for part in parts:
        if "error" in part:
            raise UsageError(part["error"])
        if "invalid" in part:
            raise UsageError(f"other parameters are known here: {part['invalid']}")
    code = code_of(parts[:3], parts[3:], cell["training"]["stop_when"])
    for name, entry in code.items():
        if entry["digest"] != job["code"][name]["digest"]:
            modules = ", ".join(changed_modules({name: entry}, {name: job["code"][name]}))
            remedy = "install the same version everywhere"
            raise UsageError(f"this machine has other code of {name}: {modules}; {remedy}")
    here, planned = parts[2]["checksum"], job["data_checksum"]
    if here != planned:
        raise UsageError(f"this machine has other data: checksum {here}, not {planned}")
