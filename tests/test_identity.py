"""The identity of a cell changes exactly when something changes that can move its numbers."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import bench_plugins
import pytest

import bench_core
from bench_core.execution.planning.fingerprint import (
    TRAINING,
    cell_identity,
    code_files,
    imported,
    source,
    training_modules,
)
from bench_core.execution.planning.syntax import syntax_digest
from bench_core.results.hashing import digest

NUMBERS = count()
CODE = {"bench-core": "a" * 32}


def test_the_order_of_keys_does_not_matter() -> None:
    one = {"method": {"name": "bp", "params": {"a": 1, "b": [1.5, None]}}, "seed": 1}
    other = {"seed": 1, "method": {"params": {"b": [1.5, None], "a": 1}, "name": "bp"}}
    assert cell_identity(one, {"x": "1", "y": "2"}, "d") == cell_identity(
        other, {"y": "2", "x": "1"}, "d"
    )


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
    """A package with a rule, its helper, a module for type checkers, and one never imported."""
    name = f"rule_{next(NUMBERS)}"
    home = tmp_path / name
    home.mkdir()
    (home / "__init__.py").write_text("TABLE = 1\n")
    (home / "rule.py").write_text(
        "import typing\nfrom typing import TYPE_CHECKING\n"
        "import beside_it\nfrom .helper import double\n"
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
def test_what_the_rule_imports_counts_and_nothing_else(
    package: Path, file: str, counts: bool
) -> None:
    modules = [f"{package.name}.rule"]
    before = code_files(modules, "x-rule")
    with (package / file).open("a") as out:
        out.write("edited = True\n")
    assert (code_files(modules, "x-rule") != before) is counts


def test_a_helper_that_does_not_parse_or_is_no_python_still_counts(package: Path) -> None:
    modules = [f"{package.name}.rule"]
    (package / "helper.py").write_text("def (:\n")
    before = code_files(modules, "x-rule")
    (package / "helper.py").write_text("def ((:\n")
    assert code_files(modules, "x-rule") != before


def test_names_that_are_no_modules_have_no_source() -> None:
    assert source("bench_core.api.Method") is None
    assert source("no_such_module_at_all") is None
    assert source("sys") is None
    assert source(f"{TRAINING}.loop") == Path(bench_core.__file__).parent / "training" / "loop.py"


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of our own sources to edit, found instead of the installed ones."""
    here = Path(bench_core.__file__).parent
    shutil.copytree(here, tmp_path / "bench_core", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(
        Path(bench_plugins.__file__).parent,
        tmp_path / "bench_plugins",
        ignore=shutil.ignore_patterns("__pycache__"),
    )

    def found(module: str) -> Path | None:
        path = tmp_path.joinpath(*module.split("."))
        return next(
            (each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()),
            None,
        )

    monkeypatch.setattr("bench_core.execution.planning.fingerprint.source", found)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("bench_core/training/__init__.py", True),
        ("bench_core/training/audit.py", True),
        ("bench_core/training/build.py", True),
        ("bench_core/training/data.py", True),
        ("bench_core/training/local_update.py", True),
        ("bench_core/training/evaluation.py", True),
        ("bench_core/training/loop.py", True),
        ("bench_core/training/net.py", True),
        ("bench_core/training/optimizer.py", True),
        ("bench_core/training/rng.py", True),
        ("bench_core/training/setup.py", True),
        ("bench_plugins/methods/dfa.py", True),
        ("bench_plugins/methods/ep.py", False),
        ("bench_plugins/methods/__init__.py", False),
        ("bench_plugins/diagnostics/alignment.py", False),
        ("bench_core/__init__.py", False),
        ("bench_core/analysis/verdicts/leaderboard.py", False),
        ("bench_core/api.py", False),
        ("bench_core/cli.py", False),
        ("bench_core/execution/runner.py", False),
        ("bench_core/execution/worker/process.py", False),
        ("bench_core/report/tables/formats.py", False),
        ("bench_core/results/store.py", False),
    ],
)
def test_of_our_own_code_what_trains_counts(copied: Path, file: str, counts: bool) -> None:
    modules = ["bench_plugins.methods.dfa"]
    before = code_files(modules, "bench-core")
    with (copied / file).open("a") as out:
        out.write("edited = True\n")
    assert (code_files(modules, "bench-core") != before) is counts


def test_relative_imports_are_read_from_the_package(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "from .. import a\nfrom ..b import c\n"
        "import d.e as f\nfrom bench_core.training import net\n"
    )
    assert set(imported("one.two.module", path)) == {
        "one",
        "one.a",
        "one.b",
        "one.b.c",
        "d.e",
        "bench_core.training.net",
    }


def edited(text: str, change: Callable[[ast.AST], None]) -> str:
    """The source with `change` applied to every node of its syntax tree."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        change(node)
    return ast.unparse(tree)


def reword(node: ast.AST) -> None:
    """Replace a docstring and the text of an exception."""
    body = getattr(node, "body", None)
    if isinstance(body, list) and isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
        first = body[0] if body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            first.value = ast.Constant("Other words.")
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
        node.exc.args = [ast.Constant("another message")]


@pytest.mark.parametrize("name", sorted(training_modules()))
def test_words_of_the_training_change_no_identity(name: str) -> None:
    text = training_modules()[name].read_text()
    reworded = edited(text, reword)
    assert reworded != text
    assert syntax_digest(reworded.encode()) == syntax_digest(text.encode())


@pytest.mark.parametrize(
    ("file", "now", "then"),
    [
        ("build", "torch.manual_seed(seed)", "torch.manual_seed(seed + 1)"),
        ("build", 'if training["compile"]:', 'if training["compile"] and device != "cpu":'),
        (
            "data",
            "torch.randperm(n, generator=order)",
            "torch.randperm(n, generator=order).flip(0)",
        ),
        ("setup", "AUXILIARY_LR = 1e-3", "AUXILIARY_LR = 2e-3"),
        ("optimizer", "0.5 * (1 + math.cos", "0.5 * (1 - math.cos"),
        ("rng", 'f"{name}:{seed}"', 'f"{seed}:{name}"'),
    ],
)
def test_an_edit_that_moves_numbers_changes_the_identity(
    copied: Path, file: str, now: str, then: str
) -> None:
    modules = ["bench_plugins.methods.dfa"]
    before = code_files(modules, "bench-core")
    path = copied / "bench_core" / "training" / f"{file}.py"
    text = path.read_text()
    assert text.count(now) == 1
    path.write_text(text.replace(now, then))
    after = code_files(modules, "bench-core")
    assert {name for name in before if before[name] != after[name]} == {f"{TRAINING}.{file}"}


SAME = {
    "what is logged": ("logger.error('a', x)\n", "logger.error('b')\n"),
    "comments and formatting": ("x = [1, 2]  # two\n", "x=[1,\n  2]\n"),
    "annotations of a function": (
        "def f(a: int) -> int:\n    return a\n", "def f(a):\n    return a\n"),
    "annotations of a variable": ("def f():\n    a: int = 1\n", "def f():\n    a = 1\n"),
    "the type of a field": ("class A:\n    x: int = 1\n", "class A:\n    x: float = 1\n"),
    "the order of imports": ("import a\nfrom b import c, d\n", "from b import d, c\nimport a\n"),
    "blocks for type checkers": ("if TYPE_CHECKING:\n    import a\nx = 1\n", "x = 1\n"),
    "the text of an exception": ("raise A(f'{x} is bad')\n", "raise A('bad')\n"),
    "what is printed": ("print('a', x)\n", "print('b')\n"),
    "a description": ("f(1, description='a')\n", "f(1)\n"),
    "a refusal": ("def unsupported(s, n):\n    return 'a' if n else None\n",
                  "def unsupported(s, n):\n    return f'b{n}' if n else None\n"),
}  # fmt: skip
OTHER = {
    "an argument of a loss's error": ("loss.error(x, y)\n", "loss.error(2 * x, y)\n"),
    "an argument of a tensor called log": ("log.sum(0)\n", "log.sum(1)\n"),
    "a number": ("x = 1\n", "x = 2\n"),
    "a type of number": ("x = 1\n", "x = 1.0\n"),
    "an option's name": ("f('sum')\n", "f('mean')\n"),
    "a text that is no message": ("rearrange(x, 'b c -> c b')\n", "rearrange(x, 'b c -> b c')\n"),
    "the order of operands": ("a + b\n", "b + a\n"),
    "the order of fields": (
        "class A:\n    x: int\n    y: int\n", "class A:\n    y: int\n    x: int\n"),
    "a class variable": ("class A:\n    x: int = 1\n", "class A:\n    x: ClassVar[int] = 1\n"),
    "the class of an exception": ("raise A('bad')\n", "raise B('bad')\n"),
    "an import under another name": ("import a as b\n", "import c as b\n"),
    "a keyword": ("f(x, scale=1)\n", "f(x, scale=2)\n"),
    "a refusal's condition": ("def unsupported(s, n):\n    return 'a' if n else None\n",
                              "def unsupported(s, n):\n    return 'a' if not n else None\n"),
}  # fmt: skip


@pytest.mark.parametrize("what", SAME)
def test_what_cannot_move_numbers_is_not_digested(what: str) -> None:
    one, other = SAME[what]
    assert syntax_digest(one.encode()) == syntax_digest(other.encode())


@pytest.mark.parametrize("what", OTHER)
def test_what_may_move_numbers_is_digested(what: str) -> None:
    one, other = OTHER[what]
    assert syntax_digest(one.encode()) != syntax_digest(other.encode())


def test_the_digest_does_not_depend_on_the_version_of_python() -> None:
    text = "def f(x, /, *y, z=1, **k):\n    return f'{x:>3} {y!r}'\n"
    assert syntax_digest(text.encode()) == "1caeaffca5c8bc850d061cc479338e4f"
