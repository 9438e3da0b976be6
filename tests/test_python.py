"""Check results as a Python object: tables, leaderboard, figures and claims, and the notebook."""

from __future__ import annotations

import ast
import copy
import json
import pickle
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import Finished, Here
from folders import audit_folder, write
from records import CORE, seeds

import bench_core
from bench_core import Results, load, run_suite
from bench_core.commands import functions, progress
from bench_core.errors import UsageError
from bench_core.execution.executors import Options
from bench_core.report.results_object import Table
from bench_core.suite.protocol import AT_FLOOR

DOCS = Path(__file__).parent.parent / "docs"
NOTEBOOK = json.loads((DOCS / "quickstart.ipynb").read_text(encoding="utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("home") / "results"
    audit_folder(root, 2)
    return root


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return load(folder)


def test_the_tables_have_a_record_per_run_epoch_and_measurement(results: Results) -> None:
    assert (len(results), len(results.runs), len(results.epochs)) == (18, 18, 17 * 3)
    assert {record.identity for record in results} == {run["identity"] for run in results.runs}
    assert results[0] == results.records[0]
    assert {"scale_growth", "alignment"} <= {m["diagnostic"] for m in results.measurements}
    fired = {(m["method"], m["letter"]) for m in results.measurements if m["fired"]}
    assert ("dfa", "a") in fired
    for epoch in results.epochs:
        assert epoch["reference_n128"] == pytest.approx(epoch["reference_floor"] / 128)
    gamma = [m for m in results.measurements if m["method"] == "dfa" and m["value"] == 0.004]
    assert {m["not_diagnostic"] for m in gamma if m["moment"] == "trained"} == {AT_FLOOR}
    assert not any(name.startswith("bp") for name, _ in fired)
    assert repr(results) == "<results of audit5 (18 runs)>"
    assert repr(results.runs).startswith("<18 records: suite, identity, ")


@pytest.mark.parametrize("name", ["runs", "epochs", "measurements", "leaderboard"])
def test_a_rule_and_its_floor_have_two_names_and_a_verdict(results: Results, name: str) -> None:
    table: Table = results.leaderboard() if name == "leaderboard" else getattr(results, name)
    roles: dict[str, set[str]] = {}
    for record in table:
        roles.setdefault(record["method"], set()).add(record["role"])
    assert all(len(own) == 1 for own in roles.values())
    verdicts = {record["method"]: record["verdict"] for record in table}
    assert verdicts["bp"] == "trustworthy"
    assert verdicts["dfa"].startswith("walked back (")
    assert sum(verdict == "floor" for verdict in verdicts.values()) == 3
    frame = table.to_pandas()
    assert list(frame.columns) == table.columns
    assert len(frame) == table.to_arrow().num_rows == len(table)


def test_rules_are_compared_and_their_costs_given_as_the_commands_do(
    folder: Path, results: Results, here: Here
) -> None:
    (pair,) = results.compare("dfa", "bp")
    told = json.loads(here("compare", "dfa", "bp", str(folder), "--format", "json").stdout)
    (own,) = told["comparisons"]
    assert (pair["a"], pair["b"], pair["n"]) == ("dfa", "bp", 3)
    assert pair["effect"] == own["effect"]["mean"]
    assert pair["effect"] == pytest.approx(100 * (pair["accuracy_b"] - pair["accuracy_a"]))
    assert (pair["half_width"], pair["p_holm"]) == (own["effect"]["half_width"], own["p_holm"])
    assert (pair["verdict_a"], pair["verdict_b"]) == (own["a"]["verdict"], own["b"]["verdict"])
    with pytest.raises(UsageError, match="no such method"):
        results.compare("dfa", "dffa")
    costs = json.loads(here("cost", str(folder), "--format", "json", "--target", "0.3").stdout)
    assert json.loads(json.dumps(results.costs(0.3))) == costs["rows"]
    assert {row["method"]: row["target"] for row in results.costs(0.3)}["dfa"] == 0.3
    for target in (2, "x"):
        with pytest.raises(UsageError, match=f"target {target}: an accuracy is a number above 0"):
            results.costs(target)  # type: ignore[arg-type]


def test_results_that_were_read_may_be_copied_and_sent_to_another_process(folder: Path) -> None:
    results = load(folder)
    before = (str(results.leaderboard()), list(results.runs))
    for other in (copy.deepcopy(results), pickle.loads(pickle.dumps(results))):
        assert (str(other.leaderboard()), list(other.runs)) == before
        assert other.leaderboard().to_pandas().equals(results.leaderboard().to_pandas())


def test_the_leaderboard_is_a_table_a_text_and_a_page(results: Results) -> None:
    board = results.leaderboard()
    assert {row["label"]: row["verdict"] for row in board}["bp"] == "trustworthy"
    assert "trustworthy" in str(board)
    assert board._repr_html_() == results._repr_html_()
    assert "<s>+.004" in board._repr_html_()  # Γ of dfa means nothing
    assert results.leaderboard(floors=True)._repr_html_().count("<tr>") == 1 + len(board)
    with pytest.raises(UsageError, match="no column 'x'"):
        results.leaderboard(columns=["x"])


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    write(tmp_path, seeds("x/<script>alert(1)</script>", [0.4]), None)
    assert "(1 run)>" in repr(load(tmp_path))
    assert "<script>" not in load(tmp_path)._repr_html_()


def test_a_figure_is_a_chart_or_one_line(results: Results) -> None:
    spec = results.figure("leaderboard").to_dict(validate=False)
    assert spec["concat"]
    assert spec["$schema"].startswith("https://vega.github.io/schema/vega-lite/")
    with pytest.raises(UsageError, match="no figure 'ranking'"):
        results.figure("ranking")
    with pytest.raises(UsageError, match="number 1: these results have 1 such figure"):
        results.figure("leaderboard", 1)


def test_claims_are_records(tmp_path: Path) -> None:
    claim = {"figure": "accuracy", "method": "bp", "value": 0.6, "tolerance": 0.1, "source": "T1"}
    missing = {**claim, "method": "fa"}
    write(tmp_path, seeds("bench-core/bp", [0.61, 0.62]), None, expect=[claim, missing])
    holds, absent = load(tmp_path).claims()
    assert (holds["status"], holds["n"], holds["method"]) == ("holds", 2, "bp")
    assert holds["measured"] == pytest.approx(0.615)
    assert (absent["status"], absent["measured"]) == ("not run", None)


def test_what_cannot_be_read_is_a_warning_or_one_line(tmp_path: Path) -> None:
    folder = write(tmp_path, seeds("bench-core/bp", [0.61]), None)
    (next(folder.glob("*/run.json"))).write_text("{")
    with pytest.warns(UserWarning, match=r"run\.json"):
        assert len(load(tmp_path)) == 0
    with pytest.raises(UsageError):
        load(tmp_path / "absent")


def test_running_a_suite_gives_the_results_of_its_folder(
    finished: Finished, asked_here: None, tmp_path: Path
) -> None:
    home = Path(shutil.copytree(finished.results, tmp_path / "results"))
    results = run_suite(finished.suite, results=home, overrides=["floors=false"])
    assert [record.cell.method.short for record in results] == ["dfa"]
    assert {run["method"] for run in results.runs} == {"dfa", "dfa[frozen]", "bp", "bp[frozen]"}
    assert results.folders[0].samefile(home / "tiny")
    assert bench_core.Results is Results
    assert (
        repr(results)
        == f"<results of tiny ({len(results.runs)} runs); 1 record of run_suite's cells>"
    )
    again = run_suite(finished.suite, results=home, methods="dfa", overrides={"floors": False})
    assert [record.identity for record in again] == [record.identity for record in results]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Whatever `run_suite` asks for, before anything is planned."""
    calls: list[Any] = []

    def with_suite(*arguments: Any, **more: Any) -> Any:
        calls.append((*arguments, more))
        raise KeyboardInterrupt

    monkeypatch.setattr(functions.rule_files, "with_suite", with_suite)
    return calls


@pytest.mark.parametrize(
    ("given", "overrides", "methods", "seeds"),
    [
        ({}, [], [], []),
        ({"methods": "dfa", "seeds": 1}, [], ["dfa"], [1]),
        ({"methods": Path("my_rule.py")}, [], ["my_rule.py"], []),
        ({"methods": ("dfa", "bp"), "seeds": range(2)}, [], ["dfa", "bp"], [0, 1]),
        ({"seeds": np.arange(2)}, [], [], [0, 1]),
        ({"overrides": "floors=false"}, ["floors=false"], [], []),
        (
            {
                "overrides": {
                    "training.epochs": 1,
                    "floors": False,
                    "arch": "resmlp",
                    "device": None,
                }
            },
            ["training.epochs=1", "floors=false", 'arch="resmlp"', "device=null"],
            [],
            [],
        ),
        ({"overrides": {"training.learning_rate": 1e-5}}, ["training.learning_rate=1e-05"], [], []),
    ],
)
def test_one_of_several_needs_no_list_and_overrides_may_be_a_mapping(
    asked: list[Any], given: Any, overrides: Any, methods: Any, seeds: Any
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_suite("quickstart", **given)
    ((source, texts, rules, more),) = asked
    assert (source, texts, rules, more["seeds"]) == ("quickstart", overrides, methods, seeds)


def test_each_argument_reaches_the_suite_the_plan_or_the_executor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: dict[str, Any] = {}

    def with_suite(*arguments: Any, **more: Any) -> Any:
        told["suite"] = more
        return "suite", "registry"

    def make_plan(*arguments: Any) -> Any:
        told["plan"] = arguments
        return SimpleNamespace(troubles=())

    def run_plan(plan: Any, registry: Any, executor: str, options: Options, progress: Any) -> Any:
        told["run"] = (executor, options, progress)
        raise KeyboardInterrupt

    monkeypatch.setattr(functions.rule_files, "with_suite", with_suite)
    monkeypatch.setattr(functions, "make_plan", make_plan)
    monkeypatch.setattr(functions, "run_plan", run_plan)
    monkeypatch.setenv("BENCH_DATA_DIR", "elsewhere")
    chosen = {"dataset": "digits", "arch": "resmlp", "epochs": 3, "device": "cuda"}
    place: dict[str, Any] = {"results": "r", "data_dir": "d"}
    how: dict[str, Any] = {"workers": 2, "executor": "slurm", "settings": {"partition": "gpu"}}
    how |= {"retry_failed": True, "reference": False, "progress": True}
    with pytest.raises(KeyboardInterrupt):
        run_suite("quickstart", **chosen, **place, **how)
    assert told["suite"] == {**chosen, "seeds": []}
    assert told["plan"] == ("suite", "registry", Path("r"), Path("d"), True, None)
    options = Options(slots=2, settings={"partition": "gpu"})
    assert told["run"] == ("slurm", options, progress.choose)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: run_suite(3), "source is 3: give a path"),
        (lambda: run_suite("quickstart", methods=3), "methods has 3: give the name or the file"),
        (lambda: run_suite("quickstart", seeds="1"), "seeds has '1': give a whole number"),
        (
            lambda: run_suite("quickstart", methods=[]),
            "methods is empty: give at least one, or None",
        ),
        (lambda: run_suite("quickstart", seeds=[]), "seeds is empty: give at least one, or None"),
        (lambda: run_suite("quickstart", overrides=[1]), "overrides has 1: give a text key.path"),
        (lambda: run_suite("quickstart", overrides={"a": {1}}), "overrides has a value that"),
        (lambda: run_suite("quickstart", workers=0), "workers is 0: give a number from 1 to 1024"),
        (lambda: run_suite("quickstart", workers="2"), "workers is '2': give a number"),
        (lambda: load(3), "folder is 3: give a path or the name of a suite"),
        (lambda: load(""), "folder is empty: give a path or the name of a suite"),
        (lambda: load(["a", "b"]), "folder is a list: give each as an argument of its own"),
    ],
)
def test_an_argument_of_another_type_is_an_error_of_the_user(
    call: Callable[[], Any], said: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        call()


def test_an_argument_that_there_is_not_is_named_with_the_function_that_was_called() -> None:
    with pytest.raises(TypeError, match=r"run_suite\(\) got an unexpected .* 'method'"):
        run_suite("quickstart", method=["dfa"])


def test_a_notebook_shows_the_running_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    handle = SimpleNamespace(update=lambda data, raw: texts.append(data["text/plain"]))

    def display(data: dict[str, str], raw: bool, display_id: bool) -> Any:
        texts.append(data["text/plain"])
        return handle

    module = SimpleNamespace(display=display)
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    (record,) = seeds("bench-core/bp", [0.5])
    cell: Any = SimpleNamespace(identity="1", cell=record.cell, defaults=CORE, begun=0)
    with progress.choose([cell]) as shown:
        shown.event(cell, {"event": "start"})
        shown.event(cell, {"event": "epoch", "row": {"epoch": 3, "accuracy": 0.25}})
        shown.event(cell, {"event": "end", "record": record})
    assert texts[0].startswith("0 of 1 cells")
    assert "bp · seed 42 · epoch 3 of 100, accuracy .250" in texts[2]
    assert texts[-1].startswith("1 of 1 cells")
    assert "seed 42" not in texts[-1]


def run_code(source: str, names: dict[str, Any]) -> Any:
    """Execute the code of a cell; return the value of its last expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return (
        None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    )


@pytest.mark.long
def test_the_five_lines_of_the_docs_draw_a_plot(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (DOCS / "python.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- tested: five lines -->\n```python\n(.*?)```", text, re.DOTALL)
    assert block
    code = block[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 5
    shutil.copytree(folder / "audit5", tmp_path / "results" / "quickstart")
    monkeypatch.chdir(tmp_path)
    run_code(code, {})
    assert (tmp_path / "curves.svg").read_text().startswith("<svg")


@pytest.mark.long
def test_the_cells_of_the_notebook_run_and_have_their_outputs(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainings are replaced by planted results."""
    import altair

    monkeypatch.chdir(tmp_path)
    calls: list[Any] = []

    def planted(*arguments: Any, **options: Any) -> Results:
        calls.append((arguments, options))
        return results

    monkeypatch.setattr(functions, "run_suite", planted)
    renderer: Callable[..., Any] = altair.renderers.enable
    names: dict[str, Any] = {}
    with renderer("default"):
        values = [run_code(source, names) for source in CODE]
    assert len(calls) == 2
    assert calls[1] == (("quickstart",), {"methods": ["./one_bit.py"]})
    compile((tmp_path / "one_bit.py").read_text(), "one_bit.py", "exec")
    cells = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    for value, cell in zip(values, cells, strict=True):
        assert value is None or cell["outputs"]
        assert not any(output["output_type"] == "error" for output in cell["outputs"])
    assert sum(value is not None for value in values) == len(values) - 2
