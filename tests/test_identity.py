"""The identity of a cell: equal for equal cells, another one as soon as something that can change numbers changes."""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path

import bench_plugins
import pytest

import bench_core
from bench_core.identity import LOOP, cell_identity, code_digest, digest, imported, source

NUMBERS = count()
CODE = {"bench-core": "a" * 32}


def test_the_order_of_keys_does_not_matter() -> None:
    one = {"method": {"name": "bp", "params": {"a": 1, "b": [1.5, None]}}, "seed": 1}
    other = {"seed": 1, "method": {"params": {"b": [1.5, None], "a": 1}, "name": "bp"}}
    assert cell_identity(one, {"x": "1", "y": "2"}, "d") == cell_identity(other, {"y": "2", "x": "1"}, "d")


@pytest.mark.parametrize(
    "other",
    [
        cell_identity({"seed": 2}, CODE, "data"),
        cell_identity({"seed": 1.5}, CODE, "data"),
        cell_identity({"seed": "1"}, CODE, "data"),
        cell_identity({"seed": 1, "more": None}, CODE, "data"),
        cell_identity({"seed": 1}, {"bench-core": "b" * 32}, "data"),
        cell_identity({"seed": 1}, {**CODE, "x": "c"}, "data"),
        cell_identity({"seed": 1}, CODE, "other data"),
    ],
)
def test_cell_code_and_data_each_count(other: str) -> None:
    one = cell_identity({"seed": 1}, CODE, "data")
    assert one != other
    assert len(one) == len(other) == 32


def test_a_number_that_json_cannot_hold_has_no_identity() -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest({"lr": float("nan")})


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package with a rule, its helper, a module that only type checkers import, and one that nobody imports."""
    name = f"rule_{next(NUMBERS)}"
    home = tmp_path / name
    home.mkdir()
    (home / "__init__.py").write_text("TABLE = 1\n")
    (home / "rule.py").write_text(
        "import typing\nfrom typing import TYPE_CHECKING\nimport beside_it\nfrom .helper import double\n"
        "if TYPE_CHECKING:\n    from .types_only import T\nelse:\n    from . import runtime\n"
        "if typing.TYPE_CHECKING:\n    from . import types_only\n"
        "def late():\n    from .lazy import thing\n"
    )
    (home / "helper.py").write_text("from . import deeper\n")
    (home / "deeper.py").write_text("")
    (home / "lazy.py").write_text("raise RuntimeError('imported')\n")
    for other in ("types_only", "runtime", "unused"):
        (home / f"{other}.py").write_text("")
    (tmp_path / "beside_it.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    return home


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("rule.py", True),
        ("helper.py", True),
        ("deeper.py", True),
        ("runtime.py", True),
        ("lazy.py", True),
        ("../beside_it.py", True),
        ("types_only.py", False),
        ("unused.py", False),
    ],
)
def test_what_the_rule_imports_counts_and_nothing_else(package: Path, file: str, counts: bool) -> None:
    modules = [f"{package.name}.rule"]
    before = code_digest(modules, "x-rule")
    with (package / file).open("a") as out:
        out.write("edited = True\n")
    assert (code_digest(modules, "x-rule") != before) is counts


def test_a_helper_that_does_not_parse_or_is_no_python_still_counts(package: Path) -> None:
    modules = [f"{package.name}.rule"]
    (package / "helper.py").write_text("def (:\n")
    before = code_digest(modules, "x-rule")
    (package / "helper.py").write_text("def ((:\n")
    assert code_digest(modules, "x-rule") != before


def test_names_that_are_no_modules_have_no_source() -> None:
    assert source("bench_core.api.Method") is None
    assert source("no_such_module_at_all") is None
    assert source("sys") is None
    assert source(LOOP) == Path(bench_core.__file__).parent / "train.py"


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of our own sources to edit, found instead of the installed ones."""
    here = Path(bench_core.__file__).parent
    shutil.copytree(here, tmp_path / "bench_core", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(
        Path(bench_plugins.__file__).parent, tmp_path / "bench_plugins", ignore=shutil.ignore_patterns("__pycache__")
    )

    def found(module: str) -> Path | None:
        path = tmp_path.joinpath(*module.split("."))
        return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None)

    monkeypatch.setattr("bench_core.identity.source", found)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("bench_core/train.py", True),
        ("bench_core/local.py", True),
        ("bench_core/api.py", True),
        ("bench_core/net.py", True),
        ("bench_core/data.py", True),
        ("bench_core/streams.py", True),
        ("bench_plugins/methods/dfa.py", True),
        ("bench_plugins/methods/ep.py", False),
        ("bench_plugins/methods/__init__.py", False),
        ("bench_plugins/diagnostics/alignment.py", False),
        ("bench_core/cli.py", False),
        ("bench_core/audit.py", False),
        ("bench_core/verdict.py", False),
        ("bench_core/store.py", False),
        ("bench_core/runner.py", False),
        ("bench_core/__init__.py", False),
        ("bench_core/report/tables.py", False),
    ],
)
def test_of_our_own_code_what_trains_counts(copied: Path, file: str, counts: bool) -> None:
    modules = ["bench_plugins.methods.dfa", LOOP]
    before = code_digest(modules, "bench-core")
    with (copied / file).open("a") as out:
        out.write("edited = True\n")
    assert (code_digest(modules, "bench-core") != before) is counts


def test_relative_imports_are_read_from_the_package(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("from .. import a\nfrom ..b import c\nimport d.e as f\nfrom bench_core import net\n")
    assert set(imported("one.two.module", path)) == {"one", "one.a", "one.b", "one.b.c", "d.e", "bench_core.net"}
