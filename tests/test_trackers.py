"""Check the example packages of observers: their own tests pass, and they load as plugins."""

from __future__ import annotations

import inspect
import runpy
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from bench_core.registry.entry_points import EntryPoint
from bench_core.registry.loading import take
from bench_core.registry.registry import Registry

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize("name", ["trackio", "tensorboard"])
def test_the_package_of_a_tracker_passes_its_own_tests(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a copy: what lies in the folder of an editable installation belongs to bench-core
    package = shutil.copytree(EXAMPLES / f"bench-{name}", tmp_path / f"bench-{name}")
    monkeypatch.syspath_prepend(str(package))
    tests = runpy.run_path(str(package / "tests" / f"test_{name}.py"))
    functions = [value for key, value in tests.items() if key.startswith("test_")]
    assert functions
    for function in functions:
        with pytest.MonkeyPatch.context() as patch:
            lent = {"monkeypatch": patch, "tmp_path": tmp_path}
            function(**{key: lent[key] for key in inspect.signature(function).parameters})
    about = tomllib.loads((package / "pyproject.toml").read_text())
    ((entry, module),) = about["project"]["entry-points"]["bench_core.plugins"].items()
    registry = Registry()
    take(registry, EntryPoint(f"bench-{name}", "0.1.0", entry, module))
    hooks = ["bench_suite_start", "bench_cell_start", "bench_epoch_end", "bench_cell_end"]
    assert (registry.troubles, [o.hook for o in registry.observers]) == ([], hooks)
    monkeypatch.delitem(sys.modules, module)
