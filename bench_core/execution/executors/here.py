"""Whether this machine would run what a cell's identity says: the same code, the same data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench_core.errors import UsageError
from bench_core.execution import validate
from bench_core.execution.plan import PARTS, code_of
from bench_core.registry.registry import Registry


def check(job: Mapping[str, Any], registry: Registry) -> None:
    """Raises UsageError with the first thing that differs."""
    cell = job["cell"]
    parts = [(kind, cell[kind]["name"], cell[kind]["params"]) for kind in PARTS]
    told = validate.answer(
        {"components": parts, "trios": [], "data_dir": job["data_dir"]}, registry
    )["components"]
    for each in told:
        if "error" in each or "invalid" in each:
            raise UsageError(
                each.get("error") or f"other parameters are known here: {each['invalid']}"
            )
    for name, entry in code_of(told).items():
        if entry["digest"] != job["code"][name]["digest"]:
            here = {f"{module}={digest}" for module, digest in entry["files"].items()}
            there = {
                f"{module}={digest}"
                for module, digest in job["code"][name].get("files", {}).items()
            }
            modules = ", ".join(sorted({text.partition("=")[0] for text in here ^ there}))
            raise UsageError(
                f"this machine has other code of {name}: {modules}; install the same version everywhere"
            )
    if told[2]["checksum"] != job["data_checksum"]:
        raise UsageError(
            f"this machine has other data: checksum {told[2]['checksum']}, not {job['data_checksum']}"
        )
