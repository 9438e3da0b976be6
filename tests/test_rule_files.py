"""Check the evening of a rule's author: a rule from a file, short names, its card, older code."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import forged
import pytest
from conftest import TINY, Here, fake_dist, invoke, plugin, runs
from folders import write
from records import frozen, run, seeds

from bench_core.analysis.gather import gather
from bench_core.analysis.prune import spare
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.analysis.verdicts.older_code import older
from bench_core.analysis.verdicts.settings import Settings
from bench_core.errors import SuiteError, UsageError
from bench_core.execution.machine import check_modules
from bench_core.execution.planning.fingerprint import code_files
from bench_core.execution.planning.job import Measuring, make_job
from bench_core.execution.worker import process as worker
from bench_core.execution.worker.untouched import PROBE_DRAWS
from bench_core.names import OURS
from bench_core.registry import plugins, rule_files
from bench_core.registry.entry_points import EntryPoint, hooks_of, of_file
from bench_core.registry.loading import take
from bench_core.registry.registry import Registry
from bench_core.registry.scaffold import neighbours, without_hook
from bench_core.report.comparison import methods
from bench_core.report.words.rows import names_of
from bench_core.results import locks, suite_folder
from bench_core.results.record import cell_key
from bench_core.suite.cells import built_in, same_name
from bench_core.suite.judging import DepthUtility
from bench_core.suite.load import load_suite
from bench_core.testing.comparing import must_preserve
from bench_core.testing.kit import Failed

RULE = '''"""A rule in a file of its own."""

from pydantic import Field

from bench_core.api import Credits, LocalMethod


class _Base(LocalMethod):
    """A class whose name begins with _ is no rule of the file."""


class Fed(_Base):
    """a_l = gain·e·B_l."""

    class Params(LocalMethod.Params):
        gain: float = Field(1.0, description="factor of the credit")

    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        for layer in {0, *net.sites}:
            self.kept[f"B_{layer}"] = self.draw(task.classes, task.features(layer))

    def credit(self, states, y, epoch):
        e = self.params.gain * states.output_error
        a = {n: e @ self.kept[f"B_{n}"] for n in {0, *self.net.sites}}
        return Credits(audited=[a[site] for site in self.net.sites], embed=a[0])
'''
SUITE = TINY.replace("methods: [dfa]", "methods: [dfa]\nfloors: false")


@pytest.fixture
def path_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.long
def test_a_rule_from_a_file_is_run_recorded_digested_and_shown(
    here: Here, path_as_it_was: None
) -> None:
    (here.cwd / "fed.py").write_text(RULE)
    (here.cwd / "tiny.yaml").write_text(SUITE)
    done = here("run", "tiny.yaml", "--method", "./fed.py[gain=2]")
    assert done.returncode == 0, done.stderr
    assert "`bench new method fed --from fed.py` makes its package" in done.stderr
    (record,) = runs(here.cwd / "results" / "tiny").values()
    assert record["cell"]["method"]["name"] == "fed.py/fed"
    assert record["cell"]["method"]["params"]["gain"] == 2.0
    assert "fed[gain=2.0] · seed 1" in done.stdout
    path = here.cwd / "fed.py"
    line = '"""a_l = gain·e·B_l.'
    cites = RULE.replace(line, f"{line}\n\n    Source: Someone 2020, arXiv:2001.00001.\n    ")
    path.write_text(cites)
    cited = here("cite", path=[here.cwd]).stdout
    assert "title = {{fed}: learning rule}" in cited
    assert "% method fed.py/fed: bench_method_fed_py_fed" in cited
    # results of others choose no file of this folder to run
    sys.path.remove(str(here.cwd))
    remedy = "fed.py is not on PYTHONPATH, or does not load"
    assert f"% method fed.py/fed: {remedy}" in here("cite").stdout
    lacks = (
        "warning: fed.py: not on PYTHONPATH, or it does not load: the page lacks the card of its"
    )
    told = here("report", "-o", "without.html").stderr.splitlines()
    assert [line.startswith(lacks) for line in told] == [True]
    sys.path.append(str(here.cwd))
    assert here("report", "-o", "with.html").stderr == ""
    files = record["code"]["fed.py"]["files"]
    assert code_files(["fed"], "fed.py") == files
    path.write_text(RULE.replace("e = self", "e = -self"))
    assert code_files(["fed"], "fed.py")["fed"] != files["fed"]
    card = here("info", "./fed.py", "--json")
    about = json.loads(card.stdout)
    assert (about["name"], about["from"]) == ("fed.py/fed", "the file fed.py")
    assert about["definition"] == "a_l = gain·e·B_l."
    assert about["options"]["gain"] == {"default": 1.0, "description": "factor of the credit"}
    assert not any(about["passport"].values())
    shown = here("show", record["identity"]).stdout
    assert re.search(
        r"^code +the file fed\.py, \d+ modules, 1 of them its own, digest ", shown, re.M
    )


@pytest.mark.long
def test_an_entry_of_include_may_name_a_rule_file(here: Here, path_as_it_was: None) -> None:
    (here.cwd / "fed.py").write_text(RULE)
    for written in ("./fed.py", "{name: ./fed.py, gain: 3}", "./fed.py/fed"):
        extra = f"include: [{{method: {written}, seeds: [9]}}]\n"
        (here.cwd / "tiny.yaml").write_text(SUITE + extra)
        planned = here("plan", "tiny.yaml")
        assert planned.returncode == 0, planned.stderr
        (line,) = (line for line in planned.stdout.splitlines() if " 9 (" in line)
        assert "fed" in line
        assert ("gain=3" in line) == ("gain" in written)
    (here.cwd / "tiny.yaml").write_text(SUITE + "include: [{method: ./nix.py, seeds: [9]}]\n")
    assert "include[0].method: nix.py: no such file" in here("plan", "tiny.yaml").stderr
    assert here("plan", "tiny.yaml", "--method", "bp").returncode == 0


def test_a_file_whose_class_cannot_be_made_is_one_line_with_its_line_and_the_remedy(
    here: Here, path_as_it_was: None
) -> None:
    (here.cwd / "fed.py").write_text(RULE.replace("def credit(", "def credits("))
    (here.cwd / "tiny.yaml").write_text(SUITE)
    for command in (["run", "tiny.yaml", "--method", "./fed.py"], ["check", "./fed.py"]):
        done = here(*command)
        assert done.returncode == 2
        assert done.stderr == (
            "error: the file fed.py: method fed: Fed has no `credit` (fed.py:12); "
            "did you mean its `credits`?\n"
        )


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("absent.py", None, "no such file"),
        ("Fed.py", RULE, "rename it"),
        ("my-rule.py", RULE, "rename it"),
        ("pathlib.py", RULE, "Python has another module pathlib"),
    ],
)
def test_a_file_that_python_cannot_import_by_its_name_is_one_line(
    tmp_path: Path, path_as_it_was: None, name: str, text: str | None, reason: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=reason):
        rule_files.on_path(str(tmp_path / name))


@pytest.mark.parametrize(
    ("text", "brought", "reason"),
    [
        (RULE, ["one_class"], ""),
        ("x = 1\n", [], "it has no learning rule"),
        (RULE + "\n\nclass Other(_Base):\n    pass\n", [], "it has 2 learning rules: Fed, Other"),
        (RULE + "\n\nclass Other(_Base):\n    pass\n", [], "several in a bench_methods() hook"),
        (RULE + plugin("bench_methods()", 'return [Component("a", "one_class:Fed")]'), ["a"], ""),
        (
            plugin("bench_methods()", 'return [Component("a", "old:Fed")]'),
            [],
            "write one_class:Fed",
        ),
        ("1 / 0\n", [], "cannot be imported: ZeroDivisionError"),
    ],
)
def test_a_file_brings_its_one_class_or_what_its_hook_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, brought: list[str], reason: str
) -> None:
    (tmp_path / "one_class.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "one_class", raising=False)
    registry = Registry()
    hooks_of.cache_clear()
    take(registry, of_file(rule_files.on_path(str(tmp_path / "one_class.py"))))
    assert [item.component.name for item in registry.components] == brought
    assert all(item.full_name.startswith("one_class.py/") for item in registry.components)
    assert [reason in trouble.reason for trouble in registry.troubles] == [True] * bool(reason)
    monkeypatch.delitem(sys.modules, "one_class", raising=False)


def test_a_file_becomes_a_package(tmp_path: Path, path_as_it_was: None) -> None:
    (tmp_path / "fed.py").write_text(RULE)
    done = invoke("new", "method", "fed-back", "--from", tmp_path / "fed.py", "--into", tmp_path)
    assert "the rule of " in done
    package = tmp_path / "bench-fed-back" / "bench_fed_back"
    assert (package / "rule.py").read_text() == RULE
    sys.path.append(str(package.parent))
    registry = Registry()
    take(registry, EntryPoint("bench-fed-back", "0.1.0", "fed_back", "bench_fed_back"))
    assert registry.troubles == []
    (item,) = registry.components
    assert (item.component.name, item.component.target) == ("fed-back", "bench_fed_back.rule:Fed")
    assert item.component.summary == "a_l = gain·e·B_l."
    tests = (package.parent / "tests" / "test_fed_back.py").read_text()
    assert '@conformance("fed-back")' in tests
    sys.modules.pop("bench_fed_back")
    (tmp_path / "bench_fed.py").write_text(RULE)  # a file that already has the package's name
    invoke("new", "method", "fed", "--from", tmp_path / "bench_fed.py", "--into", tmp_path)
    assert (tmp_path / "bench-fed" / "bench_fed" / "rule.py").read_text() == RULE


def test_the_rule_of_a_package_has_no_hook_of_its_file() -> None:
    hook = "\n\n@hookimpl\ndef bench_methods():\n    return [Component('fed', 'fed:Fed')]\n"
    api = "from bench_core.api import Component, Credits, LocalMethod, hookimpl\n"
    text = RULE.replace("from bench_core.api import Credits, LocalMethod\n", api)
    assert text.count(api) == 1
    assert without_hook(text + hook) == RULE
    wide = "from bench_core.api import (\n    Component,\n    Credits,\n    hookimpl,\n)\n"
    kept = "from bench_core.api import (\n    Credits,\n)\n"
    assert without_hook(wide + hook + "\n\nx = Credits\n") == kept + "\n\nx = Credits\n"
    assert without_hook(RULE) == RULE


def test_a_rule_whose_file_is_not_given_names_a_remedy_of_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("FOLDER_OF_fed.py", "."):
        with pytest.raises(UsageError, match=rf"PYTHONPATH={re.escape(folder)}:\$PYTHON"):
            Registry().find("method", "fed.py/fed")
        (tmp_path / "fed.py").write_text(RULE)


def test_a_rule_whose_file_is_here_is_named_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fed.py").write_text(RULE)
    with pytest.raises(UsageError, match=r"the rule of a file has its path: \./fed\.py"):
        Registry().find("method", "fed")


def test_a_suite_that_names_a_file_without_its_rule_gets_the_remedy() -> None:
    with pytest.raises(UsageError, match=r"^unknown method 'fed\.py'; .* write fed\.py/fed"):
        Registry().find("method", "fed.py")


def test_a_suite_names_a_rule_file_by_its_path_from_the_suites_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path_as_it_was: None
) -> None:
    (tmp_path / "lab" / "rules").mkdir(parents=True)
    (tmp_path / "lab" / "rules" / "fed.py").write_text(RULE)
    suite = tmp_path / "lab" / "tiny.yaml"
    entries = "[dfa, rules/fed.py, {name: ./rules/fed.py, gain: 2}]"
    suite.write_text(SUITE.replace("[dfa]", entries))
    monkeypatch.chdir(tmp_path)
    found, registry = rule_files.with_suite("lab/tiny.yaml", [], [])
    named = [method.as_dict() for method in found.methods]
    expected = [{"name": "dfa"}, {"name": "fed.py/fed"}, {"name": "fed.py/fed", "gain": 2}]
    assert named == expected
    assert registry.find("method", "fed.py/fed").distribution == "fed.py"
    for wanted in ("fed", "lab/rules/fed.py"):  # the entries of the file, with their options
        chosen, _ = rule_files.with_suite("lab/tiny.yaml", [], [wanted])
        assert [method.as_dict() for method in chosen.methods] == expected[1:]


@pytest.mark.long
def test_a_sweep_without_time_shows_the_cells_that_another_runner_has_as_skipped(
    here: Here,
) -> None:
    (here.cwd / "tiny.yaml").write_text(SUITE)
    planned = json.loads(here("plan", "tiny.yaml", "--json").stdout)
    (cell,) = planned["cells"]
    suite_folder.create(here.cwd / "results", "tiny")
    with locks.locked(here.cwd / "results" / "tiny" / cell["identity"]) as lock:
        assert lock is not None
        done = here("run", "tiny.yaml", "--set", "budget.sweep_seconds=0.1")
    assert done.returncode == 1, done.stderr
    assert "was spent; another runner is at work on it" in done.stdout
    assert "changed meanwhile" not in done.stderr


@pytest.mark.long
def test_claims_read_a_suite_that_names_rule_files_without_their_code(
    here: Here, path_as_it_was: None
) -> None:
    (here.cwd / "lab").mkdir()
    claim = "expect: [{figure: accuracy, method: dfa, at_least: 0, source: x}]\n"
    entries = "[dfa, ./fed.py, ./pair.py/one]"
    (here.cwd / "lab" / "tiny.yaml").write_text(SUITE.replace("[dfa]", entries) + claim)
    (here.cwd / "tiny.yaml").write_text(SUITE)
    assert here("run", "tiny.yaml").returncode == 0
    done = here("claims", "--suite", "lab/tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert "1 claim: 1 holds, 0 fail" in done.stdout


def test_a_file_that_is_left_out_loosens_no_claim(here: Here, path_as_it_was: None) -> None:
    claim = "expect: [{figure: accuracy, method: dfa, at_least: 0, source: x}]\n"
    text = SUITE.replace("[dfa]", "[dfa, ./absent.py]").replace("epochs: 1", "epochs: 2") + claim
    (here.cwd / "tiny.yaml").write_text(text)
    done = here("run", "tiny.yaml", "--method", "dfa", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    assert "1 claim: 0 hold, 0 fail, 1 not run" in here("claims").stdout


def test_a_rule_file_of_a_suite_that_is_not_chosen_may_be_broken(
    tmp_path: Path, path_as_it_was: None
) -> None:
    (tmp_path / "fed.py").write_text(RULE)
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "tiny.yaml").write_text(SUITE.replace("[dfa]", "[dfa, ./fed.py, broken.py]"))
    suite = str(tmp_path / "tiny.yaml")
    for wanted in ("dfa", "fed"):
        found, _ = rule_files.with_suite(suite, [], [wanted])
        assert [method.name.rpartition("/")[2] for method in found.methods] == [wanted]
    with pytest.raises(SuiteError, match="nothing_of_this_name"):
        rule_files.with_suite(suite, [], [])


@pytest.mark.long
def test_a_rule_that_leaves_the_working_folder_stops_no_other(
    here: Here, path_as_it_was: None
) -> None:
    leaves = "import os, tempfile\nwith tempfile.TemporaryDirectory() as f:\n    os.chdir(f)\n"
    (here.cwd / "fed.py").write_text(f"{leaves}{RULE}")
    (here.cwd / "tiny.yaml").write_text(SUITE.replace("[dfa]", "[dfa, ./fed.py]"))
    done = here("plan", "tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert "2 cells, 0 reused, 2 to run" in done.stdout


@pytest.mark.long
def test_a_run_that_ends_early_leaves_the_finished_one_and_names_no_log(
    here: Here, path_as_it_was: None
) -> None:
    """Finer epochs ask for another training of the same cell, which runs out of memory here."""
    breaks = "    def after_update(self, epoch):\n        if os.environ.get('BREAKS'):\n"
    rule = f"import os\n{RULE}\n{breaks}            raise MemoryError('not enough memory')\n"
    rule += "        print('a line of the log')\n"
    (here.cwd / "fed.py").write_text(rule)
    text = SUITE.replace("[dfa]", "[./fed.py]").replace("epochs: 1", "epochs: 2")
    (here.cwd / "tiny.yaml").write_text(text)
    sparse = ("tiny.yaml", "--set", "evaluate_every=2", "--set", "diagnose_every=2")
    assert here("run", *sparse).returncode == 0
    before = runs(here.cwd / "results" / "tiny")
    done = here("run", "tiny.yaml", env={"BREAKS": "1"})
    assert done.returncode == 1
    assert "oom: MemoryError: not enough memory" in done.stdout
    assert "; its done run stays" in done.stdout
    assert "log.txt" not in done.stderr
    assert runs(here.cwd / "results" / "tiny") == before
    assert "1 reused, 0 to run" in here("plan", *sparse).stdout


PAIR = (
    "from bench_core.api import Component, hookimpl\n"
    + RULE
    + '''

class Other(Fed):
    """a_l = -gain·e·B_l."""
'''
    + "\n\n@hookimpl\ndef bench_methods():\n"
    "    return [Component('one', 'pair:Fed'), Component('two', 'pair:Other')]\n"
)


def test_of_a_file_with_several_rules_a_suite_names_one(
    tmp_path: Path, path_as_it_was: None
) -> None:
    (tmp_path / "pair.py").write_text(PAIR)
    suite = tmp_path / "tiny.yaml"
    entries = "[{name: ./pair.py/two, penalty: 0.1}, pair.py/one, dfa]"
    suite.write_text(SUITE.replace("[dfa]", entries))
    found, _ = rule_files.with_suite(str(suite), ["methods[0].penalty=0.2"], [])
    assert [method.as_dict() for method in found.methods] == [
        {"name": "pair.py/two", "penalty": 0.2},
        {"name": "pair.py/one"},
        {"name": "dfa"},
    ]
    for entry in ("./pair.py", "./pair.py/three"):
        suite.write_text(SUITE.replace("[dfa]", f"[{entry}]"))
        one = r"write the one that you mean: \./pair\.py/one or \./pair\.py/two$"
        with pytest.raises(SuiteError, match=one):
            rule_files.with_suite(str(suite), [], [])


@pytest.mark.long
def test_of_a_file_with_several_rules_a_command_names_one(here: Here) -> None:
    (here.cwd / "pair.py").write_text(PAIR)
    (here.cwd / "tiny.yaml").write_text(SUITE)

    def planned(*rules: str) -> str:
        given = [text for rule in rules for text in ("--method", rule)]
        told = here("plan", "tiny.yaml", "--json", *given, "--no-reference")
        cells = json.loads(told.stdout)["cells"]
        names = {cell["cell"]["method"]["name"] for cell in cells}
        return " ".join(sorted(name for name in names if name.startswith("pair")))

    assert planned("./pair.py/two") == "pair.py/two"
    assert planned("./pair.py/two[penalty=0.1]", "./pair.py/one") == "pair.py/one pair.py/two"
    assert planned("./pair.py") == "pair.py/one pair.py/two"
    wrong = here("run", "tiny.yaml", "--method", "./pair.py/three")
    known = "write ./pair.py/one or ./pair.py/two"
    assert wrong.stderr == f"error: ./pair.py: brings no rule 'three'; {known}\n"
    assert "a_l = -gain" in here("info", "./pair.py/two").stdout
    both = here("info", "./pair.py")
    assert both.stderr.endswith("brings 2 rules; name one: ./pair.py/one or ./pair.py/two\n")
    package = here("new", "method", "one", "--from", "pair.py")
    remedy = "move each rule into a file of its own, and name the file"
    assert package.stderr.endswith(
        f"of a file with 2 rules; a package begins with a file of one: {remedy}\n"
    )
    package = here("new", "method", "one", "--from", "./pair.py/one")
    assert package.stderr.endswith(f"of one: {remedy}\n")
    told = here("run", "tiny.yaml", "--method", "./pair.py", "--no-reference").stderr
    assert "pair.py: rules from a file; `bench check pair.py` tests them; " in told
    assert "bench new method one" not in told


def test_rule_files_of_a_suite_that_cannot_be_taken_are_named_at_their_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path_as_it_was: None
) -> None:
    (tmp_path / "tiny.yaml").write_text(
        SUITE.replace("[dfa]", "\n  - ./absent.py\n  - name: lost.py\n    penalty: -1\n  - dfa")
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SuiteError) as told:
        rule_files.with_suite("tiny.yaml", [], [])
    line = 1 + (tmp_path / "tiny.yaml").read_text().split("\n").index("  - ./absent.py")
    assert str(told.value).split("\n") == [
        f"tiny.yaml:{line}:5: methods[0]: absent.py: no such file",
        f"tiny.yaml:{line + 1}:11: methods[1].name: lost.py: no such file",
    ]


def test_rules_on_the_import_path_are_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fed.py").write_text(RULE)
    names = ["fed.py/fed", "absent.py/absent", "bench-core/dfa", "x-ebd/ebd"]
    assert rule_files.importable(names) == set()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert rule_files.importable(names) == {"fed.py"}
    registry = Registry()
    rule_files.add(registry, names)  # of a suite, or of runs
    assert registry.find("method", "fed.py/fed").component.summary == "a_l = gain·e·B_l."


def code(**files: str) -> dict[str, object]:
    defaults = {"x-ebd/ebd": {"gain": 1.0, "freeze": None, "penalty": 0.0}}
    return {"x-ebd": {"files": files, "defaults": defaults}}


def test_an_option_that_came_later_splits_no_row(tmp_path: Path) -> None:
    before = seeds("x-ebd/ebd", [0.4, 0.41])
    after = run("x-ebd/ebd", 456, 0.42, params={"gain": 1.0}, code=code())
    other = run("x-ebd/ebd", 456, 0.43, params={"gain": 2.0}, code=code())
    write(tmp_path, [*before, after, other], None)
    (suite,), _ = gather([tmp_path])
    (group,) = judge_all(suite.records, suite.settings)
    assert {row.label: len(row.runs) for row in group.rows} == {
        "x-ebd/ebd": 3,
        "x-ebd/ebd[gain=2.0]": 1,
    }


def test_the_page_has_the_short_name_that_the_first_sentence_has(tmp_path: Path) -> None:
    write(tmp_path, [run("fed.py/fed"), run("x-ebd/ebd"), run("lab/ebd")], None)
    (suite,), _ = gather([tmp_path])
    (group,) = judge_all(suite.records, suite.settings)
    names = {"fed.py/fed": "fed", "x-ebd/ebd": "x-ebd/ebd", "lab/ebd": "lab/ebd"}
    assert names_of(group.rows) == names


def test_a_module_that_was_edited_after_the_plan_is_not_recorded_as_the_planned_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "edited_rule.py"
    path.write_text("GAIN = 1\n")
    modules = code_files(["edited_rule"])
    check_modules(modules)
    path.write_text("GAIN = 1  # a comment\n")
    check_modules(modules)

    path.write_text("GAIN = 2\n")
    measuring = Measuring(name="lab/own", params={}, files=modules)  # the code of a diagnostic
    planned = forged.cell(tmp_path / ("0" * 32))
    job = make_job(planned, "s", [measuring], None, {}, forged.EVERY)
    record = worker.CellRun(job, print).run()
    assert record.status == "crashed"  # `bench run` trains it again
    assert record.reason == "edited_rule was edited after the run was planned: run it again"

    path.unlink()
    importlib.invalidate_caches()
    record = worker.CellRun({**job, "code": {"edited_rule.py": {}}}, print).run()
    assert record.status == "crashed"
    assert record.reason == "edited_rule is gone since the run was planned: put it back"
    check_modules(modules)  # of a package, which may be found after an import alone, or elsewhere


@pytest.mark.long
def test_after_an_undone_edit_todays_runs_stay_whatever_runs_next(
    here: Here, path_as_it_was: None
) -> None:
    """Code A with two seeds, B with a third, A again, then a plan without the rule."""
    (here.cwd / "tiny.yaml").write_text(SUITE)
    edited = RULE.replace("class ", "OTHER = 1\n\n\nclass ", 1)

    def ran(source: str, *options: object) -> list[int]:
        (here.cwd / "fed.py").write_text(source)
        done = here("run", "tiny.yaml", *options, env={"BENCH_REPORT": "0"})
        assert done.returncode == 0, done.stderr
        (suite,), _ = gather([here.cwd / "results"])
        own = {r.cell.seed for r in suite.records if r.cell.method.name.startswith("fed.py/")}
        return sorted(own)

    rule = ("--method", "./fed.py")
    assert ran(RULE, *rule, "--seed", 1, "--seed", 2) == [1, 2]
    assert ran(edited, *rule, "--seed", 3) == [3]
    assert ran(RULE, *rule, "--seed", 1) == [1, 2]
    assert ran(RULE, "--method", "bp", "--seed", 1) == [1, 2]
    spare = here("clean", "--older").stdout
    assert spare.count("older code than other runs") == 1  # the third seed
    (suite,), _ = gather([here.cwd / "results"])
    assert not any(run.identity in spare for run in suite.records)


def test_without_a_known_default_rows_stay_apart() -> None:
    records = [run("x-ebd/ebd"), run("x-ebd/ebd", params={"gain": 1.0})]
    (group,) = judge_all(records, Settings())
    assert len(group.rows) == 2


def test_runs_by_older_code_are_marked_and_removed_on_request(tmp_path: Path) -> None:
    old = seeds("x-ebd/ebd", [0.4], code=code(rule="1", core="7"), finished="2026-01-01")
    new = seeds("x-ebd/ebd", [0.5], params={"gain": 2.0}, code=code(rule="2", core="7"))
    new = [item.model_copy(update={"finished": "2026-01-02"}) for item in new]
    bp = seeds("bench-core/bp", [0.6], finished="2026-01-01")
    assert older([*old, *new, *bp]) == {old[0].identity: ["rule"]}
    folder = write(tmp_path, [*old, *new, *bp], None)
    shown = invoke("leaderboard", tmp_path)
    said = r"Older code than other runs here \(rule\): (x-ebd/)?ebd;"  # as the width has room
    assert re.search(said, " ".join(shown.split()))
    assert "1 run by older code than others here" in invoke(
        "leaderboard", tmp_path, "--format", "csv"
    )
    assert "Older code than" in invoke("leaderboard", tmp_path, "--format", "latex")
    assert "older code than other runs of its recipe: rule" in invoke("clean", tmp_path, "--older")
    assert len(runs(folder)) == 3
    assert "nothing to remove" in invoke("clean", tmp_path, "--older", "--method", "bp")
    invoke("clean", tmp_path, "--older", "--yes")
    assert len(runs(folder)) == 2
    assert "1 spare" in invoke("clean", tmp_path, "--method", "ebd", "--yes")
    (left,) = runs(folder).values()
    assert left["cell"]["method"]["name"] == "bench-core/bp"


def test_cleaning_a_method_takes_its_done_run_whose_replacement_failed(tmp_path: Path) -> None:
    """Without --method that run stays: nothing else is left of the cell."""
    both = [run("lab/ebd"), run("lab/ebd", status="failed", reason="it raised")]
    folder = write(tmp_path, both, None)
    (failed,) = (name for name, raw in runs(folder).items() if raw["status"] == "failed")
    suite_folder.write(folder, {"name": "audit5", "cells": {cell_key(both[1].cell): failed}})
    assert len(list(spare([tmp_path], methods=["lab/ebd"]))) == 2
    assert list(spare([tmp_path])) == []


def test_cleaning_takes_the_rules_of_a_file_and_no_options(tmp_path: Path) -> None:
    write(tmp_path, [run(name) for name in ("own.py/one", "own.py/two", "down.py/one")], None)

    def spared(name: str) -> list[str]:
        return [item.why.removeprefix("a run of ") for item in spare([tmp_path], methods=[name])]

    assert sorted(spared("some/where/own.py")) == ["own.py/one", "own.py/two"]
    assert spared("own.py/two") == ["own.py/two"]
    told = r"--method dfa\[frozen\]: takes a rule without options; --method dfa names all"
    with pytest.raises(UsageError, match=told):
        spared("dfa[frozen]")
    assert spared("r[1]/down.py") == ["down.py/one"]
    with pytest.raises(UsageError, match=r"no run of this method; there are down\.py/one"):
        spared("wn.py")


def test_cleaning_takes_a_method_by_its_one_name(tmp_path: Path) -> None:
    homes = ("bench-core/dfa", "lab/dfa", "lab/ebd", "other/ebd")
    folder = write(tmp_path, [run(name) for name in homes], None)
    (folder / "quarantine" / "odd").mkdir(parents=True)  # no run of any method

    def spared(name: str) -> list[str]:
        return [item.why.removeprefix("a run of ") for item in spare([tmp_path], methods=[name])]

    assert (spared("dfa"), spared("lab/dfa"), spared("lab/ebd")) == (
        ["dfa"],
        ["lab/dfa"],
        ["lab/ebd"],
    )
    for name, fault in (
        ("ebd", "several methods have this name; there are lab/ebd, other/ebd"),
        ("dffa", "no run of this method; there are bench-core/dfa, lab/dfa"),
    ):
        with pytest.raises(UsageError, match=fault):
            spared(name)


def test_the_name_of_a_built_in_never_means_the_rule_of_a_file(tmp_path: Path) -> None:
    rows = [*seeds("dfa.py/dfa", [0.3, 0.3]), *frozen("dfa.py/dfa", [0.2, 0.2])]
    write(tmp_path, [*rows, *seeds("lab/ebd", [0.4, 0.4])], None)
    with pytest.raises(UsageError, match="no run of this method; there are"):
        list(spare([tmp_path], methods=["dfa"]))
    assert len(list(spare([tmp_path], methods=["dfa.py/dfa"]))) == 4
    suites, _ = gather([tmp_path])
    with pytest.raises(UsageError, match="dfa"):
        methods(suites, "dfa", "ebd")
    (pair,) = methods(suites, "dfa.py/dfa", "ebd")
    assert pair.effect is not None
    assert pair.effect.mean == pytest.approx(10.0)
    for name, known in (("dfa", False), ("dfa.py/dfa", True)):
        settings = Settings(depth_utility=DepthUtility(floor=name))
        (group,) = judge_all(rows, settings)
        (row,) = [row for row in group.rows if row.role == "method"]
        assert (not row.floor.reason) == known


def test_a_comparison_takes_the_name_that_the_table_shows(tmp_path: Path) -> None:
    rows = [*seeds("x-ebd/ebd", [0.4, 0.5]), *frozen("x-ebd/ebd", [0.3, 0.3])]
    rows += seeds("x-ebd/ebd", [0.45], params={"penalty": 0.01})
    rows += frozen("bench-core/dfa", [0.3, 0.3])
    write(tmp_path, [*rows, *seeds("bench-core/dfa", [0.35, 0.36])], None)
    suites, _ = gather([tmp_path])
    for name in ("ebd", "ebd[penalty=0.01]", "ebd[freeze=blocks]", "ebd[frozen]", "x-ebd/ebd"):
        for dfa in ("dfa", "bench-core/dfa"):
            (pair,) = methods(suites, name, dfa)
        label = name.removeprefix("x-ebd/").replace("freeze=blocks", "frozen")
        assert pair.a.label.removeprefix("x-ebd/") == label
    (pair,) = methods(suites, "ebd", "bench-core/dfa[frozen]")
    assert pair.b.label == "dfa[frozen]"


def test_a_kind_may_be_said_in_the_singular_and_printed_as_json() -> None:
    rules = json.loads(invoke("list", "method", "--json"))
    assert {item["kind"] for item in rules} == {"method"}
    assert rules == json.loads(invoke("list", "methods", "--json"))
    assert {"name", "summary", "source", "from"} <= rules[0].keys()


def test_a_card_without_its_class_is_a_card_with_a_warning(here: Here) -> None:
    folder = here.cwd / "site"
    table = 'return [Component("lost", "lost_rule:Rule", "a rule")]'
    fake_dist(folder, "x-lost", "lost_table", plugin("bench_methods()", table))
    done = here("info", "lost", path=[folder])
    assert "x-lost/lost: method of x-lost 1.0\na rule" in done.stdout
    assert "warning: no options, passport and laws: x-lost" in done.stderr


def test_the_check_of_global_state_says_how_to_draw() -> None:
    changes = SimpleNamespace(names=["torch's global generator"])
    with pytest.raises(Failed, match=r"nn\.Linear .* draws_from\(tools\.aux_generator\)"):
        must_preserve(changes, "training")  # type: ignore[arg-type]
    with pytest.raises(Failed, match=r"generator; draw by stream\(audit\.seed"):
        must_preserve(changes, "measuring", remedy=PROBE_DRAWS)  # type: ignore[arg-type]


@pytest.mark.long
def test_a_file_and_the_package_made_from_it_are_told_apart_in_one_line(
    here: Here, path_as_it_was: None
) -> None:
    (here.cwd / "fed.py").write_text(RULE)
    brought = plugin("bench_methods()", 'return [Component("fed", "bench_fed:Fed")]')
    fake_dist(here.cwd / "site", "bench-fed", "bench_fed", f"{RULE}\n{brought}", entry="fed")
    done = here("plan", "quickstart", "--method", "./fed.py", path=[here.cwd / "site"])
    assert done.returncode == 0, done.stderr
    told = "method 'fed' is here fed.py/fed, and not that of the package bench-fed/fed"
    (line,) = (line for line in done.stderr.splitlines() if "bench-fed" in line)
    assert line.endswith(told)


def test_a_short_name_means_the_built_in_alone_beside_a_rule_of_the_same_name() -> None:
    named = [
        load_suite("quickstart", methods=[text, "dfa"]).methods
        for text in ("dfa.py/dfa", "lab/dfa")
    ]
    assert [[method.name for method in pair] for pair in named] == [
        ["dfa.py/dfa", "dfa"],
        ["lab/dfa", "dfa"],
    ]
    assert same_name("bench-core/dfa", "dfa")
    assert same_name("ebd", "lab/ebd")
    registry = plugins.load(only=[OURS])
    brought = {item.component.name for item in registry.components if item.kind != "executor"}
    assert built_in() == brought


def test_compare_takes_the_options_of_a_rule_in_any_order_and_spelling(tmp_path: Path) -> None:
    both, other = {"penalty": 0.1, "normalize": "batch"}, {"penalty": 0.2, "normalize": "batch"}
    rows = [*seeds("bench-core/dfa", [0.3, 0.31], params=both)]
    rows += [*seeds("bench-core/dfa", [0.4, 0.41], params=other), *seeds("lab/ebd", [0.2, 0.21])]
    write(tmp_path, rows, None)
    suites = gather([tmp_path])[0]
    for name in (
        "dfa[penalty=0.1, normalize=batch]",
        "dfa[normalize=batch,penalty=0.1]",
        "bench-core/dfa[ penalty=0.1 ]",
    ):
        (pair,) = methods(suites, name, "ebd")
        assert pair.a.label == "dfa[penalty=0.1, normalize=batch]"
    with pytest.raises(UsageError, match=r"2 methods of .* have this name"):
        methods(suites, "dfa[normalize=batch]", "ebd")
    with pytest.raises(UsageError, match="no such method"):
        methods(suites, "dfa[penalty=0.3]", "ebd")


def test_a_rule_file_in_the_root_of_a_checkout_becomes_a_package(
    here: Here, path_as_it_was: None
) -> None:
    """The folder of bench_core lies beside it there, and is no code that the package lacks."""
    (here.cwd / "fed.py").write_text(RULE)
    for name in ("bench_core", "helper"):
        (here.cwd / name).mkdir()
        (here.cwd / name / "__init__.py").touch()
    assert neighbours(f"import helper\n{RULE}", here.cwd / "fed.py") == ["helper"]
    assert neighbours(RULE, here.cwd / "fed.py") == []


def test_the_package_of_a_file_that_imports_its_neighbours_is_refused(
    here: Here, path_as_it_was: None
) -> None:
    (here.cwd / "helper.py").write_text("GAIN = 1.0\n")
    (here.cwd / "fed.py").write_text(RULE.replace("from pydantic", "import helper\nfrom pydantic"))
    done = here("new", "method", "fed", "--from", "fed.py")
    assert done.returncode == 2
    assert "fed.py: imports helper from its own folder, which a package would lack" in done.stderr
    assert not (here.cwd / "bench-fed").exists()


def test_a_class_without_a_docstring_has_not_that_of_its_base(
    here: Here, path_as_it_was: None
) -> None:
    text = RULE.replace('    """a_l = gain·e·B_l."""\n', "")
    (here.cwd / "fed.py").write_text(text)
    card = json.loads(here("info", "./fed.py", "--json").stdout)
    assert "block-local rule" not in json.dumps(card)
    found = outcomes_of(here, "./fed.py")
    assert (
        found["the_docstring_is_a_card"]
        == "hint: it has no docstring; `bench info dfa` shows a card"
    )


def outcomes_of(here: Here, name: str) -> dict[str, str]:
    told = here("check", name, "--json", "--only", "the_docstring_is_a_card").stdout
    return {item["check"]: item["reason"] for item in map(json.loads, told.splitlines())}


@pytest.mark.long
def test_an_axis_that_a_rule_does_not_know_names_the_rule_and_the_remedy(
    here: Here, path_as_it_was: None
) -> None:
    (here.cwd / "fed.py").write_text(RULE)
    axis = SUITE.replace("[dfa]", "[dfa, ./fed.py]") + "matrix: {method.gain: [1.0, 2.0]}\n"
    (here.cwd / "tiny.yaml").write_text(axis)
    done = here("plan", "tiny.yaml")
    assert done.returncode == 2
    first, *_ = done.stderr.splitlines()
    assert "matrix.method.gain[0]: dfa: unknown key; known: block_scale, center, freeze" in first
    assert first.endswith("; one rule's values stand under methods: {name: RULE, gain: …}")
