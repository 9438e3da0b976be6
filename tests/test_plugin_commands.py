"""`bench plugins`, `bench check` and `bench new` as commands: what they print, and how they end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import TINY, fake_dist, plugin

from bench_core import cli, pytest_plugin
from bench_core.errors import UsageError
from bench_core.names import OURS
from bench_core.registry import loading, plugins
from bench_core.testing import Outcome, datasets, session

NUMBERS = count()
LISTS = 'return [Component("{name}", "{module}:Rule", "a rule", "{cite}")]'
CRASHES = """
import os
from bench_core.api import LocalMethod

class Rule(LocalMethod):
    def credit(self, states, y, epoch):
        if self.params.freeze:
            print("last words", flush=True)
            os._exit(3)
        return [0 * h for h in states.h[: self.net.depth]]
"""


def invoke(*arguments: object) -> tuple[int, str, BaseException | None]:
    """(exit code, output, what was raised) of a command, carried out here."""
    done = CliRunner().invoke(cli.bench, [str(a) for a in arguments], standalone_mode=False)
    return done.exit_code, done.output, done.exception


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Install a method: `installed(name, source of its module)` gives the distribution's name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name: str, source: str, table: str = "", cite: str = "") -> str:
        stamp = next(NUMBERS)
        (tmp_path / f"rule_{stamp}.py").write_text(source)
        listed = LISTS.format(name=name, module=f"rule_{stamp}", cite=cite)
        hook = table + plugin("bench_methods()", listed)
        fake_dist(tmp_path, f"x-{name}", f"table_{stamp}", hook, entry=name)
        return f"x-{name}"

    return install


@pytest.fixture
def built_ins_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `bench plugins --check` import the built-ins' plugin modules here, without targets.

    It would start a process per entry point, and each would import torch for the targets.
    """
    examine = loading.examine

    def lighter(points, seconds, targets):
        if any(point.distribution != OURS for point in points):
            return examine(points, seconds, targets)
        results = [loading.ImportResult(entry_point=point) for point in points]
        for result in results:
            loading.take(result, result.entry_point)
        return results

    monkeypatch.setattr(loading, "examine", lighter)


@pytest.mark.long
def test_a_rule_that_ends_the_process_fails_the_check_that_it_was_at_and_the_others_go_on(
    installed,
) -> None:
    name = f"{installed('crashes', CRASHES)}/crashes"
    request = session.Request("method", name, {}, category="contract")
    found = {outcome.check: outcome for outcome in session.carry_out(request)}
    failed = found["frozen_blocks_stay_as_they_are"]
    assert failed.status == "failed"
    assert failed.reason == "it ended the process (exit code 3): last words"
    assert failed.law
    assert len(found) == 12
    assert found["a_step_does_not_wait_for_the_device"].status == "passed"


def test_one_fault_is_one_failure(installed) -> None:
    """A credit that fits no state stops every check that needs a step.

    The first of them says it, the others name that one.
    """
    narrow = CRASHES.replace("if self.params.freeze:", "if False:").replace(
        "0 * h for", "h[:, :3] for"
    )
    request = session.Request("method", f"{installed('narrow', narrow)}/narrow", {})
    found = list(session.carry_out(request))
    failed = {outcome.check: outcome.reason for outcome in found if outcome.status == "failed"}
    assert list(failed) == ["credits_have_the_shapes_of_their_states"]
    assert all("credits.audited[0] has shape" in reason for reason in failed.values())
    skipped = [
        outcome.reason
        for outcome in found
        if outcome.status == "skipped" and "not reached" in outcome.reason
    ]
    assert len(skipped) > 10
    assert set(skipped) == {"not reached: mend credits_have_the_shapes_of_their_states first"}


def test_a_credit_that_is_not_finite_is_named_and_nothing_is_said_of_what_follows(
    installed,
) -> None:
    nan = """
from bench_core.api import Credits, LocalMethod

class Rule(LocalMethod):
    def credit(self, states, y, epoch):
        audited = [1 + 0 * states.h[site] for site in self.net.sites]
        audited[1] = audited[1] + float("nan")
        return Credits(audited=audited, embed=0 * states.h[0])
"""
    request = session.Request("method", f"{installed('nan', nan)}/nan", {})
    found = list(session.carry_out(request))
    (failed,) = [outcome for outcome in found if outcome.status == "failed"]
    assert failed.reason == "credits.audited[1] is not finite (residual network)"
    assert {o.status for o in found if o.category != "contract"} == {"skipped"}


def test_a_component_that_cannot_be_imported_is_one_line(installed) -> None:
    name = f"{installed('gone', 'import os; os._exit(4)')}/gone"
    with pytest.raises(
        UsageError, match=r"method x-gone/gone: import: it ended the process \(exit code 4\)"
    ):
        list(session.carry_out(session.Request("method", name, {})))


@pytest.mark.parametrize(("table", "loads"), [("import torch\n", True), ("", False)])
def test_a_plugin_module_that_imports_torch_fails_its_check(
    installed, tmp_path: Path, table: str, loads: bool
) -> None:
    (tmp_path / "torch.py").write_text("")  # stands for the real one, which takes seconds
    installed("heavy", "", table)
    (item,) = plugins.load(only={"x-heavy"}).components
    taken, light = session.distribution(item, 60)
    assert taken.status == "passed"
    assert light.status == ("failed" if loads else "passed")
    assert ("loads torch" in light.reason) == loads


def test_a_plugin_module_with_trouble_fails_its_check(installed) -> None:
    installed("twice", "", plugin("bench_archs()", "return None"))
    (item,) = plugins.load(only={"x-twice"}).components
    taken, light = session.distribution(item, 60)
    assert (taken.status, light.status) == ("failed", "passed")
    assert "bench_archs() -> list[Component] returned NoneType" in taken.reason


@pytest.mark.parametrize(("work", "status"), [("Me 2026", "passed"), ("You 2025", "failed")])
def test_a_table_that_cites_another_work_than_the_docstring_fails_its_check(
    installed, work: str, status: str
) -> None:
    rule = 'class Rule:\n    """Equations.\n\n    Source: Me 2026.\n    """\n'
    name = installed(f"cites-{status}", rule, cite=work)
    (item,) = plugins.load(only={name}).components
    *_, found = session.distribution(item, 60)
    assert (found.check, found.status) == (session.CITED, status)
    said = "cite is 'You 2025', the docstring has 'Me 2026': correct one, or leave out cite"
    assert found.reason == (said if status == "failed" else "")


def test_the_report_gives_reason_law_and_the_command_that_shows_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outcomes = [
        Outcome("it_holds", "contract", "passed", "It holds."),
        Outcome(
            "it_broke",
            "honesty",
            "failed",
            "It must not.",
            "3 is not\x1b[2J 4",
            trace="Traceback\n  line",
        ),
        Outcome("not_here", "honesty", "skipped", "It may.", "no accelerator here"),
    ]
    monkeypatch.setattr(session, "carry_out", lambda request, seconds: iter(outcomes))
    code, output, _ = invoke("check", "dfa", "--trace", "--category", "honesty")
    assert code == 1
    assert output.splitlines()[0].startswith("bench-core/dfa: method of bench-core ")
    assert "1 passed, 1 failed, 1 skipped" in output
    assert "    passed   it holds\n" in output
    assert "    FAILED   it broke\n             3 is not" in output
    assert "\x1b" not in output
    assert "it must hold: It must not." in output
    assert "             Traceback\n" in output
    assert "    skipped  not here (no accelerator here)" in output
    hint = "see: bench check bench-core/dfa --only it_broke --trace"
    assert hint not in output
    assert hint in invoke("check", "dfa", "--category", "honesty")[1]
    rule = tmp_path / "mine.py"
    api = "from bench_core.api import LocalMethod\n"
    rule.write_text(f"{api}class Mine(LocalMethod):\n    credit = None\n")
    hint = f"see: bench check {rule} --only it_broke --trace"
    assert hint in invoke("check", str(rule), "--category", "honesty")[1]
    code, output, _ = invoke("check", "dfa", "--json", "--only", "it_broke")
    told = [json.loads(line) for line in output.splitlines()]
    assert [line["status"] for line in told] == ["passed", "failed", "skipped"]
    assert {line["component"] for line in told} == {"bench-core/dfa"}


def test_checks_that_one_fault_keeps_from_running_are_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reason = "not reached: RuntimeError as in it_broke; mend that first"
    alone = "not reached: ValueError as in it_broke; mend that first"
    outcomes = [
        Outcome("it_broke", "contract", "failed", "It must not.", "RuntimeError: 3"),
        Outcome("one", "contract", "skipped", "It may.", reason),
        Outcome("two", "honesty", "skipped", "It may.", reason),
        Outcome("three", "mathematics", "skipped", "It may.", alone),
    ]
    monkeypatch.setattr(session, "carry_out", lambda request, seconds: iter(outcomes))
    code, output, _ = invoke("check", "dfa", "--only", "it_broke")
    assert code == 1
    assert output.endswith(f"\n\n  2 checks {reason}\n")
    assert output.count("RuntimeError as in") == 1
    assert f"    skipped  three ({alone})" in output
    assert "honesty" not in output
    assert "0 passed, 1 failed, 3 skipped" in output
    assert len(invoke("check", "dfa", "--only", "it_broke", "--json")[1].splitlines()) == 4


def test_the_same_line_of_a_plugin_is_one_fault_however_it_was_called(installed) -> None:
    shapes = CRASHES.replace("if self.params.freeze:", "if False:").replace(
        "[0 * h for h in", "[h @ h for h in"
    )
    request = session.Request("method", f"{installed('shapes', shapes)}/shapes", {})
    (failed,) = [each for each in session.carry_out(request) if each.status == "failed"]
    assert failed.check == "credits_have_the_shapes_of_their_states"


def test_the_checks_of_a_data_set_find_its_files_by_the_option_of_other_commands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BENCH_DATA_DIR", "elsewhere")  # which the command sets: it is put back

    def carry_out(request: session.Request, seconds: float):
        yield Outcome("it_holds", "contract", "passed", "It holds.", f"in {datasets.folder()}")

    monkeypatch.setattr(session, "carry_out", carry_out)
    only = ("--only", "it_holds")
    assert "it holds (in elsewhere)" in invoke("check", "digits", *only)[1]
    told = invoke("check", "digits", "--data-dir", str(tmp_path), *only)[1]
    assert f"it holds (in {tmp_path})" in told


def test_a_distribution_is_checked_with_all_that_it_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def carry_out(request: session.Request, seconds: float):
        asked.append(f"{request.kind}:{request.name} {request.options}")
        yield Outcome("it_holds", "contract", "passed", "It holds.")

    monkeypatch.setattr(session, "carry_out", carry_out)
    code, output, _ = invoke("check", "bench-core", "--only", "it_holds")
    assert code == 0
    assert {
        "method:bench-core/bp {}",
        "arch:bench-core/resmlp {}",
        "dataset:bench-core/digits {}",
        "executor:bench-core/local {}",
    } <= set(asked)
    assert f"{len(asked)} components: {len(asked)} passed, 0 failed" in output
    asked.clear()
    assert invoke("check", "method:dfa[penalty=0.5]", "--only", "it_holds")[0] == 0
    told = str(
        CliRunner().invoke(cli.bench, ["check", "dfa[normalize=foo, penalti=1]"]).exception
    ).splitlines()
    assert told[0].startswith("dfa.normalize: must be sample, batch or none")
    assert told[1] == "dfa.penalti: unknown key; did you mean penalty?"
    assert asked == ["method:bench-core/dfa {'penalty': 0.5}"]
    _, _, error = invoke("check", "dffa")
    assert "no component is called 'dffa'; did you mean" in str(error)
    _, _, error = invoke("check", "quickstart")
    assert "'quickstart' is a suite, not a component: `bench plan quickstart`" in str(error)


@pytest.mark.long
def test_plugins_are_checked_one_by_one(
    installed, built_ins_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_PLUGINS", "x-fine,x-ends,x-late")
    installed(
        "fine", "import bench_core.api\nclass Rule(bench_core.api.LocalMethod): credit = None"
    )
    installed("ends", "", "import os\nos._exit(5)\n")
    installed("late", "raise ValueError('too late')")
    code, output, _ = invoke("plugins", "--check", "--timeout", "60")
    rows = {
        line.split()[0]: line
        for line in output.splitlines()
        if line.startswith(("x-", "bench-core"))
    }
    assert code == 1
    assert rows["x-fine"].rstrip().endswith("ok")
    assert rows["x-ends"].rstrip().endswith("trouble")
    assert rows["bench-core"]
    assert "trouble: x-ends 1.0 (ends): its import ended the process (exit code 5)" in output
    assert (
        "trouble: x-late 1.0 (late): method late: import: ValueError: too late (at rule_" in output
    )


@pytest.mark.long
def test_the_check_says_all_that_the_list_says(
    installed, built_ins_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_PLUGINS", "x-one,x-two")
    for name in ("one", "two"):
        twins = plugin("bench_methods()", LISTS.format(name="bp", module="click", cite=""))
        fake_dist(tmp_path, f"x-{name}", f"table_{next(NUMBERS)}", twins, entry="same")
    listed, checked = (
        [line for line in invoke("plugins", *more)[1].splitlines() if line.startswith("trouble: ")]
        for more in ((), ("--check", "--timeout", "60"))
    )
    assert any("entry point 'same' is also brought by x-one" in line for line in listed)
    assert any("method 'bp' is also brought by bench-core, x-two" in line for line in listed)
    assert set(listed) <= set(checked)


@pytest.mark.parametrize(
    ("told", "given", "seconds"), [("3", (), 3), ("3", ("--timeout", 7), 7), (None, (), 60)]
)
def test_the_check_waits_as_long_as_it_is_told(
    monkeypatch: pytest.MonkeyPatch, told: str | None, given: tuple[object, ...], seconds: float
) -> None:
    waits = []

    def late(name: str, request: Any, limit: float, **more: Any) -> Any:
        waits.append(limit)
        raise loading.child.ChildTimeoutError("did not end")

    monkeypatch.setattr(loading.child, "ask", late)
    monkeypatch.setenv(loading.SECONDS, told) if told else monkeypatch.delenv(
        loading.SECONDS, raising=False
    )
    code, output, _ = invoke("plugins", "--check", *given)
    assert set(waits) == {seconds}
    longer = f"--timeout {2 * seconds}" if given else f"BENCH_PLUGIN_SECONDS={2 * seconds}"
    assert code == 1
    assert f"its import did not end; give it longer with {longer}" in " ".join(output.split())


@pytest.mark.long
def test_strict_plugins_stop_before_anything_is_written(
    installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("suite.yaml").write_text(TINY)
    installed("ends", "", "import os\nos._exit(5)\n")
    for command in (["run", "suite.yaml"], ["plan", "suite.yaml"], ["plugins"]):
        _, _, error = invoke(*command, "--strict-plugins")
        assert isinstance(error, UsageError)
        assert str(error).startswith(
            "--strict-plugins: plugin x-ends 1.0 (ends): its import ended the process"
        )
    assert invoke("plugins")[0] == 0
    assert not Path("results").exists()


def test_new_says_what_to_do_next(tmp_path: Path) -> None:
    code, output, _ = invoke("new", "arch", "mine", "--into", tmp_path)
    assert code == 0
    place = tmp_path / "bench-mine"
    assert output.splitlines() == [
        f"{place}: an architecture that passes its tests; make it yours in bench_mine/net.py, "
        "and describe it in bench_mine/__init__.py",
        f"  pip install -e '{place}[test]'",
        "  bench check bench-mine",
        "  bench run quickstart --arch mine --seed 42",
    ]
    _, _, error = invoke("new", "method", "bp", "--into", tmp_path)
    assert "a method 'bp' is installed already" in str(error)


@pytest.mark.long
def test_pytest_takes_the_checks_of_a_component(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--bench-check"]
    command.append("bench-core/dfa")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    passed, skipped = re.search(r"(\d+) passed, (\d+) skipped", done.stdout).groups()
    assert int(passed) >= 20
    assert int(skipped) >= 1


def test_pytest_refuses_a_component_that_is_not_there() -> None:
    config = SimpleNamespace(getoption=lambda name: ["dffa"])
    with pytest.raises(pytest.UsageError, match="no component is called 'dffa'"):
        pytest_plugin.pytest_collection_modifyitems(None, config, [])
