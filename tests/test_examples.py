"""The example package and what `bench new` makes of it: installed as a stranger would, in an
environment of their own."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY

from bench_core.errors import UsageError
from bench_core.registry import scaffold

EXAMPLE = Path(__file__).parent.parent / "examples" / "bench-drtp"
NEW = {"method": "my-rule", "arch": "my_net", "dataset": "blobs.v2", "diagnostic": "headnorm"}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """bench-drtp and one new package of every kind, in folders."""
    home = tmp_path_factory.mktemp("packages")
    built = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    made = {"drtp": Path(shutil.copytree(EXAMPLE, home / EXAMPLE.name, ignore=built))}
    return made | {kind: scaffold.new(kind, name, home, set()) for kind, name in NEW.items()}


@pytest.fixture(scope="module")
def stranger(
    packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Any]:
    """Runs Python in an environment with these packages installed, the new rule as editable.

    torch and bench are lent to it by path.
    """
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    Path(site, "lent.pth").write_text(
        f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    )

    def run(*arguments: Any, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, *map(str, arguments)], cwd=cwd or home,
            env={**os.environ, "COLUMNS": "100"}, timeout=600,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    ordinary = [place for kind, place in packages.items() if kind != "method"]
    done = run(
        "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation",
        "-e", packages["method"], *ordinary
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return run


@pytest.mark.long
def test_the_packages_pass_their_own_tests_at_once(
    stranger: Any, packages: dict[str, Path]
) -> None:
    done = stranger(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        *(place / "tests" for place in packages.values()),
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "failed" not in done.stdout


@pytest.mark.long
def test_the_example_is_checked_and_runs_beside_the_built_ins(
    stranger: Any, tmp_path: Path
) -> None:
    checked = stranger(
        "-m", "bench_core", "check", "bench-drtp", "--json", "--category", "contract"
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    outcomes = {
        line["check"]: line["status"] for line in map(json.loads, checked.stdout.splitlines())
    }
    assert outcomes["the_plugin_module_imports_no_torch"] == "passed"
    assert set(outcomes.values()) <= {"passed", "skipped"}
    (tmp_path / "tiny.yaml").write_text(TINY + "floors: false\n")
    run = stranger("-m", "bench_core", "run", "tiny.yaml", "--method", "drtp", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "bench-drtp/drtp" in run.stdout


def test_a_new_local_rule_is_at_most_25_lines_besides_its_docstring() -> None:
    source = (EXAMPLE / "bench_drtp" / "rule.py").read_text()
    (rule,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    docstring = rule.body[0]
    assert ast.get_docstring(rule)
    lines = source.splitlines()[rule.lineno - 1 : rule.end_lineno]
    own = lines[: docstring.lineno - rule.lineno] + lines[docstring.end_lineno - rule.lineno + 1 :]
    assert len([line for line in own if line.strip()]) <= 25


@pytest.mark.parametrize("kind", NEW)
def test_a_new_package_bears_its_own_name_and_nothing_of_the_example(
    packages: dict[str, Path], kind: str
) -> None:
    place = packages[kind]
    files = [
        path
        for path in place.rglob("*")
        if path.is_file() and "build" not in path.parts and ".egg" not in str(path)
    ]
    inside = {str(path.relative_to(place)) for path in files if "__pycache__" not in path.parts}
    assert {
        "pyproject.toml",
        "README.md",
        ".github/workflows/test.yml",
        scaffold.module(kind, NEW[kind]),
    } <= inside
    assert not any("drtp" in path for path in inside)
    for path in inside:
        text = (place / path).read_text()
        assert "drtp" not in text, path
    assert scaffold.module(kind, NEW[kind]) in (place / "README.md").read_text()


@pytest.mark.parametrize("kind", NEW)
def test_the_table_of_a_new_package_leaves_the_source_to_the_docstring(
    packages: dict[str, Path], kind: str
) -> None:
    table: dict[str, Any] = {}
    exec((packages[kind] / scaffold.table(NEW[kind])).read_text(), table)
    (component,) = table[f"bench_{kind}s"]()
    assert (component.name, component.cite) == (NEW[kind], "")
    assert component.summary == scaffold.TO_WRITE
    module, _, target = component.target.partition(":")
    source = (packages[kind] / f"{module.replace('.', '/')}.py").read_text()
    assert f"class {target}(" in source


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../up", "is no component name"),
        ("Bp", "is no component name"),
        ("taken", "is installed already"),
        ("plugins", "a module bench_plugins is installed already"),
        ("9lives", "begin with a letter"),
        ("class", "is a keyword of Python"),
        ("there", "is there already"),
    ],
)
def test_a_name_that_cannot_be_used_leaves_nothing(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "bench-there").symlink_to("nowhere")
    with pytest.raises(UsageError, match=reason):
        scaffold.new("method", name, tmp_path, {"taken"})
    with pytest.raises(UsageError, match="is no folder"):
        scaffold.new("method", "fine", tmp_path / "not there", set())
    assert [path.name for path in tmp_path.iterdir()] == ["bench-there"]


def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UsageError, match="bench-fine cannot be written: No space left on device"):
        scaffold.new("method", "fine", tmp_path, set())
    assert list(tmp_path.iterdir()) == []
