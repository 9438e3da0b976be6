"""Check that a plugin's fault is a row with distribution and reason, and harms no other plugin."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, Bench, Finished, Here, environment, fake_dist, plugin

from bench_core.api import API_VERSION, Method
from bench_core.errors import PluginError, UsageError
from bench_core.names import OURS
from bench_core.registry import loading, plugins
from bench_core.registry.registry import Registry, resolve

pytestmark = pytest.mark.processes

NUMBERS = count()
GOOD = plugin("bench_methods()", 'return [Component("fine", "somewhere.over:Rainbow", "a rule")]')


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Install sources as distributions and load: `install(stranger=source)` gives the registry."""

    def load(**sources: str) -> Registry:
        monkeypatch.syspath_prepend(str(tmp_path))
        for name, source in sources.items():
            fake_dist(tmp_path, f"x-{name}", f"module_{name}_{next(NUMBERS)}", source, entry=name)
        return plugins.load(isolated=False)

    return load


def builtins(registry: Registry) -> set[str]:
    return {item.full_name for item in registry.components if item.distribution == OURS}


BROKEN = {
    "import error": ("import no_such_module_at_all", "ModuleNotFoundError"),
    "syntax error": ("def (:", "SyntaxError"),
    "exit at import": ("import sys\nsys.exit(7)", "SystemExit: 7"),
    "its text raises": (
        "class Bad(Exception):\n    def __str__(self): raise ValueError\nraise Bad",
        "its message cannot be printed",
    ),
    "control codes": (r"raise ValueError('\x1b[2J')", "?[2J"),
    "misspelt hook": (
        plugin("bench_methodz()", "return []"),
        "bench_methodz is no hook: did you mean bench_methods",
    ),
    "other arguments": (
        plugin("bench_epoch_end(row, weather)", "pass"),
        "bench_epoch_end(row, weather) does not fit the hook bench_epoch_end(identity, cell, row)",
    ),
    "unknown argument": (plugin("bench_methods(registry)", "return []"), "registry"),
    "no hook": ("def methods(): return []", "implements no hook"),
    "no hookimpl": (
        plugin("bench_methods()", "return []") + "def bench_suite_end(plan): pass\n",
        "bench_suite_end never runs: it is not marked with @hookimpl",
    ),
    "in a class": (
        GOOD + "class Mine:\n    @hookimpl\n    def bench_suite_end(self, plan): pass\n",
        "Mine.bench_suite_end never runs: write a function outside of the class",
    ),
    "async": (
        plugin("bench_epoch_end(row)", "pass").replace("def", "async def"),
        "bench_epoch_end is an async function, which never runs: write a plain function, "
        "def bench_epoch_end(row)",
    ),
    "wrapper": (
        plugin("bench_suite_end(plan)", "return (yield)").replace(
            "@hookimpl", "@hookimpl(wrapper=True)"
        ),
        "bench_suite_end is a wrapper, which never runs: write a plain function, ",
    ),
    "old wrapper": (
        plugin("bench_methods()", "yield").replace("@hookimpl", "@hookimpl(hookwrapper=True)"),
        "bench_methods is a wrapper",
    ),
    "generator observer": (plugin("bench_epoch_end()", "yield"), "whose body never runs"),
    "default": (
        plugin("bench_epoch_end(cell, row=None)", "pass"),
        "bench_epoch_end gives row a default, so it never gets the value: write a plain function, "
        "def bench_epoch_end(cell, row)",
    ),
    "keywords": (
        plugin("bench_epoch_end(**all)", "pass"),
        "bench_epoch_end takes **all, which never gets a value: write a plain function, "
        "def bench_epoch_end(identity, cell, row)",
    ),
    "keyword-only": (plugin("bench_epoch_end(*, row)", "pass"), "takes row, which never"),
    "no function": (
        "import functools\nfrom bench_core.api import hookimpl\n"
        "bench_epoch_end = hookimpl(functools.partial(print, 1))",
        "bench_epoch_end is no function, so it never runs",
    ),
    "renamed": (
        plugin("hear(row=0)", "pass").replace("@hookimpl", "@hookimpl(specname='bench_epoch_end')"),
        "hear gives row a default, so it never gets the value: write a plain function, "
        "def hear(row)",
    ),
    "none": (
        plugin("bench_methods()", "return None"),
        "bench_methods() -> list[Component] returned NoneType",
    ),
    "generator": (
        plugin("bench_methods()", "yield Component('a', 'b:C')"),
        "bench_methods is a generator, whose body never runs: write a plain function, "
        "def bench_methods()",
    ),
    "returns a generator": (
        plugin("bench_methods()", "return (i for i in ())"),
        "bench_methods() returned a generator, whose body never runs: write a plain function",
    ),
    "returns a coroutine": (
        "async def later(): return []\n" + plugin("bench_methods()", "return later()"),
        "bench_methods() returned a coroutine, whose body never runs: write a plain function that "
        "has done its work when it returns",
    ),
    "text": (plugin("bench_methods()", "return 'fine'"), "returned str"),
    "wrong items": (plugin("bench_methods()", "return [1]"), "an item of type int"),
    "huge": (
        plugin("bench_methods()", "return [None] * 1_000_000"),
        "1,000,000 items; the limit is 10,000",
    ),
    "raises": (plugin("bench_archs()", "return 1 / 0"), "bench_archs() raised ZeroDivisionError"),
    "exits": (plugin("bench_archs()", "raise SystemExit(3)"), "bench_archs() raised SystemExit: 3"),
    "path": (
        plugin("bench_methods()", "return [Component('../../etc/x', 'b:C')]"),
        "'../../etc/x' is no component name",
    ),
    "look-alike": (
        plugin("bench_methods()", "return [Component('bр', 'b:C')]"),
        r"'b\u0440' is no component name",
    ),
    "empty": (
        plugin("bench_methods()", "return [Component('', 'b:C')]"),
        "'' is no component name",
    ),
    "long": (
        plugin("bench_methods()", "return [Component('a' * 300, 'b:C')]"),
        "is no component name",
    ),
    "newline": (
        plugin("bench_methods()", "return [Component('bp\\n', 'b:C')]"),
        r"'bp\n' is no component name",
    ),
    "name is a number": (
        plugin("bench_methods()", "return [Component(1, 'b:C')]"),
        "must be strings",
    ),
    "target": (
        plugin("bench_methods()", "return [Component('a', 'os; rm')]"),
        "is not of the form",
    ),
    "twice": (
        plugin("bench_methods()", "return [Component('a', 'b:C')] * 2"),
        "'a' twice in this distribution",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_is_a_row_with_its_name_and_reason(install, fault: str) -> None:
    source, reason = BROKEN[fault]
    before = builtins(plugins.load(isolated=False))
    registry = install(broken=source, fine=GOOD)
    (trouble,) = registry.troubles
    assert trouble.distribution == "x-broken"
    assert reason in str(trouble)
    assert str(trouble).isprintable()
    assert registry.find("method", "fine").distribution == "x-fine"
    assert builtins(registry) == before


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ((API_VERSION[0] + 1, 0), "--upgrade bench-core"),
        ((API_VERSION[0], API_VERSION[1] + 1), "--upgrade bench-core"),
        ((API_VERSION[0] - 1, 9), "--upgrade x-other"),
        ("1.0", "must be (major, minor)"),
    ],
)
def test_another_interface_is_refused_with_both_versions_and_what_to_do(
    install, asked: object, reason: str
) -> None:
    registry = install(other=f"BENCH_API = {asked!r}\n{GOOD}")
    (trouble,) = registry.troubles
    assert reason in trouble.reason
    if isinstance(asked, tuple):
        assert "{}.{}".format(*asked) in trouble.reason
        assert "{}.{}".format(*API_VERSION) in trouble.reason
    with pytest.raises(UsageError, match="x-other"):
        registry.find("method", "fine")


def test_our_own_interface_is_accepted(install) -> None:
    registry = install(same=f"BENCH_API = {API_VERSION}\n{GOOD}")
    assert registry.troubles == []
    assert registry.find("method", "fine").full_name == "x-same/fine"


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_clashes_name_both_and_do_not_depend_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[str, str]
) -> None:
    stamp = next(NUMBERS)
    for name in order:
        fake_dist(tmp_path / name, f"x-{name}", f"clash_{name}_{stamp}", GOOD, entry="same")
        monkeypatch.syspath_prepend(str(tmp_path / name))
    registry = plugins.load(isolated=False)
    texts = [str(trouble) for trouble in registry.troubles]
    assert len(texts) == 3
    assert "x-b 1.0 (same): entry point 'same' is also brought by x-a; both were loaded" in texts
    assert any(
        text.startswith("x-a") and "brought by x-b" in text and "'x-a/fine'" in text
        for text in texts
    )
    assert any(
        text.startswith("x-b") and "brought by x-a" in text and "'x-b/fine'" in text
        for text in texts
    )
    with pytest.raises(UsageError, match="several distributions; name one of x-a/fine, x-b/fine"):
        registry.find("method", "fine")
    assert registry.find("method", "x-b/fine").distribution == "x-b"


@pytest.mark.parametrize("front", [True, False])
def test_a_builtin_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, front: bool
) -> None:
    stamp = next(NUMBERS)
    source = plugin("bench_methods()", 'return [Component("bp", "evil:Twin")]')
    fake_dist(tmp_path, "aa-evil", f"evil_{stamp}", source, entry="methods")
    fake_dist(tmp_path, "bench_core", f"mask_{stamp}", source, entry="methods", version="99")
    monkeypatch.setattr(
        sys, "path", [str(tmp_path), *sys.path] if front else [*sys.path, str(tmp_path)]
    )
    registry = plugins.load()
    texts = "\n".join(map(str, registry.troubles))
    assert "aa-evil 1.0 (evil:Twin): method 'bp' is also brought by bench-core" in texts
    assert "bench-core 99 (methods): calls itself bench-core" in texts  # and hides nothing of ours
    assert registry.find("method", "aa-evil/bp").component.target == "evil:Twin"
    assert registry.find("method", "bp").component.target == "bench_plugins.methods.bp:Backprop"


def test_a_diagnostic_with_the_name_of_a_built_in_is_not_taken(install) -> None:
    table = 'return [Component("scale_growth", "x:Y"), Component("own", "x:Y")]'
    registry = install(vain=plugin("bench_diagnostics()", table))
    (trouble,) = registry.troubles
    assert (
        trouble.reason
        == "diagnostic 'scale_growth' has the name of a built-in and is not taken: rename it"
    )
    assert registry.find("diagnostic", "own").distribution == "x-vain"
    assert registry.find("diagnostic", "scale_growth").distribution == OURS
    with pytest.raises(UsageError, match="unknown diagnostic"):
        registry.find("diagnostic", "x-vain/scale_growth")


def test_unreadable_metadata_stop_nobody(install, tmp_path: Path) -> None:
    (tmp_path / "torn-1.0.dist-info").mkdir()
    (tmp_path / "torn-1.0.dist-info" / "entry_points.txt").write_bytes(
        b"[bench_core.plugins]\nx = \xff\xfe\n"
    )
    nameless = tmp_path / "nameless-1.0.dist-info"
    nameless.mkdir()
    (nameless / "entry_points.txt").write_text("[bench_core.plugins]\nx = no_such_module\n")
    registry = install(fine=GOOD)
    assert sorted("torn" in trouble.distribution for trouble in registry.troubles) == [False, True]
    assert registry.find("method", "fine")
    assert registry.find("method", "bp")


def test_observers_get_the_arguments_they_name_and_cannot_disturb(install, tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    write = f"open({str(heard)!r}, 'a').write"
    registry = install(
        none=plugin("bench_epoch_end()", f"{write}('none ')"),
        some=plugin("bench_epoch_end(row)", f"{write}(f'row={{row}} ')"),
        all=plugin(
            "bench_epoch_end(cell, row, identity)", f"{write}(f'{{cell}}{{row}}{{identity}} ')"
        ),
        bad=plugin("bench_epoch_end(cell)", "1 / 0"),
        quits=plugin("bench_epoch_end(cell)", "raise SystemExit"),
        later="async def send(row): 1 / 0\n" + plugin("bench_epoch_end(row)", "return send(row)"),
        renamed=plugin("hear()", f"{write}('renamed ')").replace(
            "@hookimpl", '@hookimpl(specname="bench_epoch_end")'
        ),
    )
    troubles = registry.notify("bench_epoch_end", identity="i", cell="c", row=3)
    assert sorted(heard.read_text().split()) == ["c3i", "none", "renamed", "row=3"]
    assert [(t.distribution, t.reason) for t in troubles] == [
        ("x-bad", "bench_epoch_end raised ZeroDivisionError: division by zero"),
        (
            "x-later",
            "bench_epoch_end returned a coroutine, whose body never runs: write a plain function "
            "that has done its work when it returns",
        ),
        ("x-quits", "bench_epoch_end raised SystemExit: "),
    ]
    assert registry.notify("bench_suite_end", plan=None, records=[]) == []


def test_each_implementation_of_a_hook_in_one_module_runs_once(install, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    source = plugin("bench_epoch_end()", f"open({str(calls)!r}, 'a').write('first ')")
    second = source.replace("bench_epoch_end", "hear").replace("first", "second")
    second = second.replace("@hookimpl", "@hookimpl(specname='bench_epoch_end')")
    install(both=source + second).notify("bench_epoch_end", identity="i", cell="c", row=3)
    assert sorted(calls.read_text().split()) == ["first", "second"]


@pytest.mark.parametrize(
    ("target", "source", "reason"),
    [
        ("somewhere.over:Rainbow", "", "import: ModuleNotFoundError: No module named 'somewhere'"),
        ("{}:Rule", "import sys; sys.exit(7)", "import: SystemExit: 7"),
        ("{}:Rule", "Other = 1", "import: AttributeError"),
        ("{}:Rule", "Rule = 1", ":Rule is not a subclass of Method"),
        ("{}:Rule", "class Rule: pass", ":Rule is not a subclass of Method"),
    ],
)
def test_a_target_is_imported_when_it_is_used_and_not_before(
    install, tmp_path: Path, target: str, source: str, reason: str
) -> None:
    module = f"target_{next(NUMBERS)}"
    (tmp_path / f"{module}.py").write_text(source)
    registry = install(fine=GOOD.replace("somewhere.over:Rainbow", target.format(module)))
    assert registry.troubles == []
    with pytest.raises(PluginError, match=r"^x-fine 1\.0: method fine: ") as caught:
        resolve(registry.find("method", "fine"), Method)
    assert reason in str(caught.value)


# ---------------------------------------------------------------------- imported in a child process

# it says that it hangs, prints, which wakes the parent, and hangs
HANGS = (
    "import signal, time\nfrom pathlib import Path\nPath(__file__).with_suffix('.hangs').touch()\n"
    "print('begun', flush=True)\nwhile True: time.sleep(1)"
)
LATE = (
    "its import did not end within 600 s; give it longer with BENCH_PLUGIN_SECONDS=1200, "
    "or leave it out with BENCH_PLUGINS=…, or pip uninstall x-hangs"
)
HOSTILE = {
    "hangs": (HANGS, LATE),
    "hangs deaf": ("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + HANGS, LATE),
    "is gone": (
        "import os\nprint('bye', flush=True)\nos._exit(3)",
        "(exit code 3): bye; leave it out with BENCH_PLUGINS=…, or pip uninstall x-is-gone",
    ),
    "crashes": ("import ctypes\nctypes.string_at(0)", "(killed by SIGSEGV)"),
    "is silent": ("import os\nos.closerange(1, 200)\nos._exit(0)", "(exit code 0)"),
    "is loud": (
        "import os\nfor _ in range(300): os.write(1, b'\\xff\\x1b' * 5000)",
        "implements no hook",
    ),
}


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Install every hostile plugin between two good ones; return the expected words for each."""
    monkeypatch.syspath_prepend(str(tmp_path))
    fake_dist(tmp_path, "x-a-good", f"good_{next(NUMBERS)}", GOOD, entry="a")
    fake_dist(
        tmp_path,
        "x-z-good",
        f"good_{next(NUMBERS)}",
        plugin("bench_suite_end()", "pass"),
        entry="z",
    )
    for fault, (source, _) in HOSTILE.items():
        name = fault.replace(" ", "-")
        fake_dist(tmp_path, f"x-{name}", f"hostile_{next(NUMBERS)}", source, entry=name)
    return {f"x-{fault.replace(' ', '-')}": reason for fault, (_, reason) in HOSTILE.items()}


@pytest.mark.long
def test_modules_that_hang_or_end_their_process_cost_a_line_each(
    hostile: dict[str, str], tmp_path: Path, leap: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock passes the time limit once both modules hang."""
    monkeypatch.setenv("BENCH_PLUGIN_SECONDS", "600")
    leap(lambda: len(list(tmp_path.glob("*.hangs"))))
    registry = plugins.load()
    said = {trouble.distribution: trouble.reason for trouble in registry.troubles}
    assert said.keys() == hostile.keys()
    for name, reason in hostile.items():
        assert reason in said[name]
        assert said[name].isprintable()
    assert registry.find("method", "fine").full_name == "x-a-good/fine"
    assert [observer.entry_point.distribution for observer in registry.observers] == ["x-z-good"]
    assert builtins(registry) == builtins(plugins.load(only={OURS}))


def test_what_is_not_let_in_is_not_imported(
    hostile: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_PLUGINS", "x-A_good, ,nobody,good")
    registry = plugins.load()
    lacking = "BENCH_PLUGINS names it, but no installed distribution of this name has a plugin"
    good, nobody = map(str, registry.troubles)
    assert good == f"good: {lacking}; did you mean x-z-good or x-a-good?"
    assert nobody.startswith(f"nobody: {lacking}; known: x-a-good, ")
    assert {item.distribution for item in registry.components} == {OURS, "x-a-good"}
    monkeypatch.setenv("BENCH_PLUGINS", "")
    assert {item.distribution for item in plugins.load().components} == {OURS}


def test_a_worker_imports_what_its_cell_uses_and_nothing_else(hostile: dict[str, str]) -> None:
    registry = plugins.load_for(["bench-core/bp", "x-a-good/fine"])
    assert registry.troubles == []
    assert {item.distribution for item in registry.components} == {OURS, "x-a-good"}


@pytest.mark.parametrize("told", ["", "0", "-1", "soon", "nan", "inf"])
def test_the_patience_with_imports_is_a_positive_number(
    told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_PLUGIN_SECONDS", told)
    with pytest.raises(UsageError, match="is no positive number of seconds"):
        loading.limit()


@pytest.mark.long
def test_what_a_stranger_brings_is_the_same_heard_from_a_child(install, tmp_path: Path) -> None:
    here = install(
        rule=GOOD,
        loud=plugin("bench_epoch_end(row)", "print(row)"),
        bad=plugin("bench_archs()", "return 1 / 0"),
    )
    there = plugins.load()
    assert there.components == here.components
    assert there.troubles == here.troubles
    assert there.observers == here.observers


# -------------------------------------------------------------------- through the installed command


@pytest.mark.long
def test_broken_and_unused_is_one_warning(bench: Bench, tmp_path: Path) -> None:
    fake_dist(tmp_path / "site", "x-broken", "broken_unused", "import no_such_module_at_all")
    done = bench("list", "methods", path=[tmp_path / "site"])
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "warning: plugin x-broken 1.0 (it): cannot be imported: "
        "ModuleNotFoundError: No module named 'no_such_module_at_all' (at broken_unused.py:1)"
    ]
    listed = bench("plugins", path=[tmp_path / "site"])
    assert "x-broken" in listed.stdout
    assert "trouble: x-broken 1.0 (it): cannot be imported" in listed.stdout


@pytest.mark.long
def test_broken_and_used_stops_before_anything_is_written(here: Here, tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(TINY.replace("[dfa]", "[mine]"))
    fake_dist(tmp_path / "site", "x-broken", "broken_used", "import no_such_module_at_all")
    done = here("run", "suite.yaml", path=[tmp_path / "site"])
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: suite.yaml:4:11: methods[0]: unknown method 'mine'")
    assert "x-broken 1.0 (it): cannot be imported: ModuleNotFoundError" in line
    assert not (tmp_path / "results").exists()


TARGETS = {
    "raises": ("raise ValueError('no')", "x-late 1.0: method late: import: ValueError: no"),
    "is gone": (
        "import os; os._exit(3)",
        "method x-late/late: import: it ended the process (exit code 3)",
    ),
    "crashes": (
        "import ctypes; ctypes.string_at(0)",
        "method x-late/late: import: it ended the process (killed by SIGSEGV)",
    ),
}


@pytest.mark.parametrize("fault", TARGETS)
def test_a_target_that_breaks_is_one_line_before_anything_is_written(
    here: Here, tmp_path: Path, fault: str
) -> None:
    source, reason = TARGETS[fault]
    site = tmp_path / "site"
    fake_dist(
        site,
        "x-late",
        "late",
        plugin("bench_methods()", 'return [Component("late", "late_target:Rule")]'),
    )
    (site / "late_target.py").write_text(f"print('\\xff noise')\n{source}\n")
    (tmp_path / "suite.yaml").write_text(TINY.replace("[dfa]", "[late]") + "floors: false\n")
    done = here("run", "suite.yaml", path=[site])
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {reason}")
    assert not (tmp_path / "results").exists()


UNRULY = """
import ctypes, gc, os, sys
import torch
from bench_plugins.methods.dfa import DirectFeedbackAlignment

class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")

class WritesData(DirectFeedbackAlignment):
    def setup(self, net, task, tools):
        super().setup(net, task, tools)
        kinds = [o for o in gc.get_objects() if type(o).__name__ == "Data"]
        kinds[0].train_y.zero_()

class TooLarge(DirectFeedbackAlignment):
    def step(self, x, y, epoch):
        return torch.empty(1 << 50)

class Speechless(DirectFeedbackAlignment):
    def step(self, x, y, epoch):
        raise Unprintable

class Interrupts(DirectFeedbackAlignment):
    def step(self, x, y, epoch):
        raise KeyboardInterrupt

class Crashes(DirectFeedbackAlignment):
    def step(self, x, y, epoch):
        ctypes.string_at(0)

class ClosesStreams(DirectFeedbackAlignment):
    def setup(self, *given):
        super().setup(*given)
        sys.stdout.close()
        sys.stderr = open("/dev/full", "w")
        print("lost", file=sys.stderr)

class ForksAndEnds(DirectFeedbackAlignment):
    def setup(self, *given):
        super().setup(*given)
        if not (child := os.fork()):
            sys.exit(7)
        os.waitpid(child, 0)

class KeepsNumber(DirectFeedbackAlignment):
    def state_dict(self):
        return {"count": 3}
"""
ENDS = {
    "WritesData": (
        "failed",
        r"train_y changed while it ran: "
        r"x-unruly/WritesData, or another plugin of it, writes to the data",
    ),
    "TooLarge": ("oom", r"RuntimeError: .*allocate memory.*"),
    "Speechless": ("failed", r"Unprintable: \(its message cannot be printed\)"),
    "Interrupts": ("failed", r"KeyboardInterrupt: "),
    "Crashes": (
        "crashed",
        r"the worker ended with SIGSEGV after epoch 0: "
        r'Fatal Python error: Segmentation fault, File ".*',
    ),
    "ClosesStreams": ("done", ""),
    "ForksAndEnds": ("done", ""),
    "KeepsNumber": (
        "failed",
        r"state_dict\(\) of the rule holds 'count', of type int: "
        r"only tensors can be kept; keep a number as an attribute and write it as a tensor in .*",
    ),
}


@pytest.mark.long
def test_whatever_a_rule_does_its_row_says_what_it_was(here: Here, tmp_path: Path) -> None:
    site = tmp_path / "site"
    listed = ", ".join(f'Component("{name.lower()}", "unruly_rules:{name}")' for name in ENDS)
    fake_dist(site, "x-unruly", "unruly", plugin("bench_methods()", f"return [{listed}]"))
    (site / "unruly_rules.py").write_text(UNRULY)
    (tmp_path / "suite.yaml").write_text(
        TINY.replace("[dfa]", f"[bp, {', '.join(name.lower() for name in ENDS)}]")
        + "floors: false\n"
    )
    done = here("run", "suite.yaml", path=[site])
    assert done.returncode == 1, done.stderr
    records = [json.loads(path.read_text()) for path in tmp_path.glob("results/*/*/run.json")]
    found = {record["cell"]["method"]["name"].rpartition("/")[2]: record for record in records}
    assert found.pop("bp")["status"] == "done"
    for name, (status, reason) in ENDS.items():
        record = found.pop(name.lower())
        assert record["status"] == status, (name, record["reason"])
        said = re.sub(r" \(at unruly_rules\.py:\d+\)$", "", record["reason"] or "")
        assert re.fullmatch(reason.replace(f"/{name}", f"/{name.lower()}"), said), said
    assert found == {}


# ------------------------------------------------------------------------------------ light imports

LIGHT = """
import sys
from bench_core import cli

for arguments in ARGUMENTS:
    sys.argv = ["bench", *arguments]
    try:
        cli.main()
    except SystemExit as end:
        assert not end.code, end
    heavy = {"torch", "torchvision", "sklearn", "bench_core.training.loop"} & set(sys.modules)
    if arguments == ["--help"]:  # the first command: it reads no results
        heavy |= {"pydantic", "numpy", "bench_core.results.record"} & set(sys.modules)
    assert not heavy, (arguments, heavy)
"""


@pytest.mark.long
def test_commands_that_do_not_train_never_load_torch(finished: Finished, tmp_path: Path) -> None:
    suite, results = str(finished.suite), str(finished.results)
    commands = [["--help"], ["list"], ["plugins"], ["schema"], ["leaderboard", results]]
    commands.append(["plan", suite, "--results", results])
    done = subprocess.run(
        [sys.executable, "-c", LIGHT.replace("ARGUMENTS", repr(commands))],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_interface_loads_without_torch() -> None:
    code = (
        "import sys, bench_core.api, bench_core.registry.hookspecs; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.long
def test_the_first_optimiser_imports_no_compiler() -> None:
    """torch's own wrappers import it: 1.2 s of CPU in every process that trains."""
    code = (
        "import sys, torch, bench_core.execution.worker.process\n"
        "from bench_core.training.optimizer import Updater\n"
        "weight = torch.ones(2, requires_grad=True)\n"
        "updater = Updater({'a': [weight]}, 0.1, 0.0, None)\n"
        "weight.sum().backward()\n"
        "updater.optimiser.step()\n"
        "assert float(weight[0]) < 1\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
