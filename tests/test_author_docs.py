"""The pages for plugin authors: their code runs, and no hook, law or passport line is missing."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import yaml
from conftest import environment

from bench_core import api
from bench_core.errors import DataError
from bench_core.registry import hookspecs, scaffold
from bench_core.registry.loading import OBSERVERS
from bench_core.registry.registry import KINDS
from bench_core.report.words.rows import PASSPORT
from bench_core.suite.budget import Budget
from bench_core.suite.claim import Expectation
from bench_core.suite.judging import DepthUtility
from bench_core.suite.load import load_suite
from bench_core.suite.model import Suite
from bench_core.suite.recipe import DataOptions, TrainingOptions
from bench_core.suite.search import Search
from bench_core.testing import checks, run
from bench_core.training.net import Net, States

FILE_OF_THE_PAGE = ("train_x", "train_y", "test_x", "test_y")
DOCS = Path(__file__).parent.parent / "docs"


def block(page: str, name: str) -> str:
    """The code block of a page that is marked `<!-- tested: name -->`."""
    text = (DOCS / page).read_text("utf-8")
    found = re.search(rf"<!-- tested: {re.escape(name)} -->\n```\w*\n(.*?)```", text, re.DOTALL)
    assert found, name
    return found[1]


def test_every_hook_stands_in_the_manual_with_its_arguments() -> None:
    text = (DOCS / "hooks.md").read_text("utf-8")
    hooks = [name for name in vars(hookspecs) if name.startswith("bench_")]
    assert set(hooks) == {f"bench_{kind}s" for kind in KINDS} | set(OBSERVERS)
    for name in hooks:
        arguments = ", ".join(
            getattr(hookspecs, name).__code__.co_varnames[
                : getattr(hookspecs, name).__code__.co_argcount
            ]
        )
        assert f"`{name}({arguments})`" in text
    assert f"now ({api.API_VERSION[0]}, {api.API_VERSION[1]})" in text


def test_the_tables_of_the_interface_name_what_the_code_has() -> None:
    text = (DOCS / "write-a-method.md").read_text("utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    table = {row[0]: row[1:] for row in rows}
    for field, (letter, words) in PASSPORT.items():
        shown, meaning = table[f"`{field}`"]
        assert shown == letter
        assert meaning.startswith(words)
    assert set(PASSPORT) == {field.name for field in fields(api.Passport)}
    kinds = {
        "`states`": States,
        "`self.net`": Net,
        "`self.task`": api.Task,
        "`self.tools`": api.Tools,
    }
    for row, kind in kinds.items():
        named = re.findall(r"`(\w+)", table[row][0])
        known = {*dir(kind), *kind.__annotations__}
        assert named
        assert set(named) <= known, row
    for written in (row for row in table if "(" in row and "self" not in row):
        name, *given = re.findall(r"\w+", written.partition("`,")[0])
        found = inspect.signature(getattr(api.LocalMethod, name)).parameters
        assert [*found][1:] == given


def defined(page: str, file: str, name: str) -> type:
    """A class that the code of a page defines."""
    namespace: dict[str, type] = {"__name__": "page"}
    exec(compile(block(page, file), file, "exec"), namespace)
    return namespace[name]


@pytest.fixture(scope="module")
def tutorial() -> type:
    """The rule of the tutorial."""
    return defined("write-a-method.md", "rule.py", "SignDfa")


@pytest.mark.long
@pytest.mark.parametrize(
    ("page", "file", "name"),
    [
        ("write-a-method.md", "rule.py", "SignDfa"),
        ("write-a-method.md", "fresh.py", "FreshFeedback"),
        ("../README.md", "bench_one_bit.py", "OneBit"),
    ],
)
def test_the_rules_that_are_printed_conform(page: str, file: str, name: str) -> None:
    found = [run(each) for each in checks(defined(page, file, name))]
    assert [outcome for outcome in found if outcome.status == "failed"] == []


def test_the_network_and_the_data_set_that_are_printed_conform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = numpy.random.default_rng(0)
    parts = {
        f"{part}_{kind}": values
        for part, size in (("train", 256), ("test", 128))
        for kind, values in (
            ("x", draws.normal(size=(size, 64))),
            ("y", numpy.arange(size) % 4),
        )
    }
    numpy.savez(tmp_path / "signals.npz", **{n: parts[n] for n in FILE_OF_THE_PAGE})
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path))
    for file, name in (("net.py", "RowNet"), ("data.py", "Signals")):
        found = [run(each) for each in checks(defined("write-a-network.md", file, name))]
        assert len(found) >= 8
        assert [outcome for outcome in found if outcome.status != "passed"] == []
    with pytest.raises(ValueError, match=r"takes images .*, not inputs of shape \(64,\)"):
        defined("write-a-network.md", "net.py", "RowNet")(None, (64,), 4)  # type: ignore[call-arg]
    with pytest.raises(DataError, match=r"signals\.npz: no such file; put signals\.npz there"):
        defined("write-a-network.md", "data.py", "Signals")(None).prepare(tmp_path / "x")  # type: ignore[call-arg]


def test_the_failure_that_the_tutorial_shows_is_what_is_printed(tutorial: type) -> None:
    def credit(self: Any, states: Any, y: Any, epoch: int) -> Any:
        return tutorial.credit(self, replace(states, error=states.output_error.sign()), y, epoch)  # type: ignore[attr-defined]

    claims = type("SignDfa", (tutorial,), {"credit": credit})
    (bound,) = checks(claims, only="credit_is_linear_in_the_error")
    assert run(bound).reason in (DOCS / "write-a-method.md").read_text("utf-8")


@pytest.mark.long
def test_the_package_that_follows_the_tutorial_passes_its_own_tests(tmp_path: Path) -> None:
    place = scaffold.new("method", "sign_dfa", tmp_path, set())
    for file in ("bench_sign_dfa/rule.py", "bench_sign_dfa/__init__.py", "tests/test_sign_dfa.py"):
        assert (place / file).is_file()
        (place / file).write_text(block("write-a-method.md", Path(file).name), "utf-8")
    left = [
        path
        for path in place.rglob("*")
        if path.is_file() and "target projection" in path.read_text("utf-8")
    ]
    assert left == []
    info = tmp_path / "bench_sign_dfa-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-sign-dfa\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[bench_core.plugins]\nsign_dfa = bench_sign_dfa\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         "--rootdir", place, place / "tests"],
        env=environment([tmp_path, place]), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]


def test_links_between_the_pages_lead_somewhere() -> None:
    targets = {
        (page.name, target)
        for page in DOCS.glob("*.md")
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8"))
    }
    assert ("suites.md", "protocol.md") in targets
    assert [pair for pair in targets if not (DOCS / pair[1]).exists()] == []


def test_the_suite_of_the_manual_has_the_cells_that_it_says(tmp_path: Path) -> None:
    (tmp_path / "my_suite.yaml").write_text(block("suites.md", "my_suite.yaml"))
    suite = load_suite(tmp_path / "my_suite.yaml")
    assert suite.idle() == {}
    found = Counter((cell.value("method.name"), cell.value("arch.depth")) for cell in suite.cells())
    # bp and dfa at both depths, dfa with a penalty at depth 8, three seeds; fa at depth 2, one seed
    of_dfa = {("dfa", 2): 3, ("dfa", 8): 2 * 3}
    assert found == {("bp", 2): 3, ("bp", 8): 3, ("fa", 2): 1, **of_dfa}


def test_the_manual_of_suites_names_every_key_and_the_plain_defaults() -> None:
    text = (DOCS / "suites.md").read_text("utf-8")
    models = (Suite, TrainingOptions, DataOptions, Budget, Search, Expectation, DepthUtility)
    names = [name for model in models for name in model.model_fields]
    assert [name for name in names if not re.search(rf"`{name}[`:]", text)] == []
    plain = {"seeds", "floors", "evaluate_every", "diagnose_every", "checkpoint_every"}
    fields = {name: Suite.model_fields[name].default for name in plain}
    fields |= {name: field.default for name, field in TrainingOptions.model_fields.items()}
    stated = {}
    for first, default in re.findall(r"^\| (`.*?) \| (.*?) \|", text, re.MULTILINE):
        keys = re.findall(r"`(\w+)`", first)
        if set(keys) <= fields.keys():
            one = default.startswith("[") or "," not in default
            values = [default] * len(keys) if one else default.split(", ")
            stated |= dict(zip(keys, map(yaml.safe_load, values), strict=True))
    assert stated == {name: "none" if own is None else own for name, own in fields.items()}
