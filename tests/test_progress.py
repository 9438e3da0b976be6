"""Check that long runs speak: the time left, lines off a terminal, and `bench status`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Finished, invoke, wait_until
from folders import rows
from records import run, seeds

from bench_core.analysis.verdicts.labels import label
from bench_core.commands import progress
from bench_core.commands.progress import Plain
from bench_core.execution import resumption, sweeps
from bench_core.execution.forecast import Forecast, Progress, rule_of, seconds_left
from bench_core.execution.planning.cell_names import names_of
from bench_core.results import locks, store, suite_folder
from bench_core.results.hashing import jsonable
from bench_core.results.scan import scan

pytestmark = pytest.mark.processes

A, B = "a" * 32, "b" * 32

OF_THE_LAST = "cells of the last `bench run` or `bench tune`"


def planned(record: Any, identity: str = "", begun: int = 0, **defaults: Any) -> Any:
    return SimpleNamespace(
        begun=begun,
        identity=identity or record.identity,
        cell=record.cell,
        defaults=defaults or record.cell.method.params,
    )


@pytest.mark.parametrize(
    ("cells", "seconds"),
    [
        ([], 0.0),
        ([Progress("a", 10)], None),
        ([Progress("a", 10, 2.0, True)], 20.0),
        ([Progress("a", 10, 2.0, True), Progress("a", 10)], 40.0),  # the second one waits
        ([Progress("a", 10, 2.0, True), Progress("a", 10, 2.0, True)], 20.0),  # both at once
        ([Progress("a", 10, 2.0, True), Progress("b", 10, 4.0, True), Progress("c", 10)], 45.0),
        ([Progress("a", 0, 2.0), Progress("b", 0, 9.0), Progress("a", 5)], 10.0),  # its own rule's
        ([Progress("a", 1, 1.0, True), Progress("a", 99, 1.0, True)], 99.0),  # the longest one
    ],
)
def test_the_time_left_follows_from_the_epochs_that_ended(
    cells: list[Progress], seconds: float | None
) -> None:
    assert seconds_left(cells) == (None if seconds is None else pytest.approx(seconds))


def test_a_forecast_counts_wall_time_from_the_first_row_of_a_worker() -> None:
    now = [100.0]
    one, other = (planned(record) for record in seeds("bench-core/dfa", [0.4, 0.4]))
    forecast = Forecast([one, other], lambda: now[0])
    assert forecast.seconds_left() is None
    forecast.event(one, {"event": "start"})
    for epoch in (40, 41, 42):  # continued from a saved state
        forecast.event(one, {"event": "epoch", "row": {"epoch": epoch}})
        now[0] += 3.0
    assert forecast.seconds_left(one.identity) == 58 * 3.0
    assert forecast.seconds_left() == 158 * 3.0
    forecast.event(one, {"event": "end"})
    assert forecast.seconds_left() == 100 * 3.0
    goes_on = Forecast(
        [one, planned(seeds("bench-core/dfa", [0.4] * 3)[2], begun=75)], lambda: now[0]
    )
    for epoch in (0, 1):
        goes_on.event(one, {"event": "epoch", "row": {"epoch": epoch}})
        now[0] += 3.0
    assert goes_on.seconds_left() == (99 + 25) * 3.0
    assert rule_of(one.cell) == rule_of(other.cell)


def test_off_a_terminal_the_running_cells_get_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    records = seeds("bench-core/dfa", [0.4] * 6)
    cells = [planned(record) for record in records]
    shown = Plain(cells)
    for cell in cells:
        shown.event(cell, {"event": "start"})
    shown.event(cells[0], {"event": "epoch", "row": {"epoch": 3, "accuracy": 0.25}})
    shown.say_running()
    line = capsys.readouterr().out
    assert line.startswith("[0/6] dfa · seed 42 · epoch 3 of 100, accuracy .250; dfa · seed 123 ")
    assert line.endswith("; and 2 more\n")
    shown.event(cells[0], {"event": "end", "record": records[0]})
    assert capsys.readouterr().out.startswith("[1/6] dfa · seed 42 · accuracy .250 after 3 epochs")


def test_a_silent_cell_is_reminded_of_until_the_sweep_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert progress.PAUSE < 120
    out = ""
    with Plain([planned(run())], pause=0.0) as shown:

        def printed() -> bool:
            nonlocal out
            out += capsys.readouterr().out
            return "[0/1] waiting" in out

        wait_until(printed)
    assert not shown.reminder.is_alive()  # no line comes after the end


def test_names_show_what_sets_cells_apart() -> None:
    shallow = run(params={"freeze": "blocks"}).cell
    deep = run("bench-core/dfa", 7, params={"penalty": 0.01}).cell
    deep = deep.model_copy(update={"arch": deep.arch.model_copy(update={"params": {"depth": 8}})})
    own = {"freeze": None, "penalty": 0.0, "random_targets": False}
    own |= {"normalize": "sample", "normalize_eps": 1e-6}
    padded = deep.dataset.model_copy(update={"params": {"padding": "black"}})
    padded = deep.model_copy(update={"dataset": padded})
    cells: Any = [SimpleNamespace(cell=cell, defaults=own) for cell in (shallow, deep, padded)]
    first, second, third = names_of(cells)
    assert first.startswith("dfa[frozen] · seed 42 · arch.depth=4")
    assert second == "dfa[penalty=0.01] · seed 7 · arch.depth=8"
    assert third == f"{second} · dataset.padding=black"
    assert names_of([]) == []
    options = {"zeta": 2, "penalty": 0.01, "alpha": 3, "freeze": "blocks"}
    mixed = run(params=options)
    one: Any = SimpleNamespace(cell=mixed.cell, defaults=own | {"zeta": 1, "alpha": 1})
    (name,) = names_of([one], seeds=False)
    defaults = {mixed.cell.method.name: one.defaults}
    assert (
        name
        == label(mixed.cell.method, [], defaults)
        == ("dfa[frozen, penalty=0.01, alpha=3, zeta=2]")
    )


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite with a cell that ran 5 of 100 epochs and a cell that waits."""
    folder = tmp_path / "results" / "long"
    begun = store.temporary(folder / A)
    begun.mkdir(parents=True)
    lines = [json.dumps(jsonable(row)) for row in rows(run(), 5)]
    (begun / "epochs.jsonl").write_text("\n".join(lines) + '\n{"epoch": 6, "lear')
    decision = {"action": "run", "why": "", "at": "2026-01-01", "epochs": 100}
    names = {A: "dfa · seed 42", B: "dfa · seed 123"}
    decisions = {identity: {**decision, "cell": name} for identity, name in names.items()}
    suite_folder.write(folder, {"name": "long", "decisions": decisions})
    return folder


def test_status_says_what_runs_and_what_waits(suite: Path) -> None:
    with locks.locked(suite / A):
        before = sorted(path.name for path in suite.iterdir())
        text = invoke("status", suite.parent)
        (state,) = json.loads(invoke("status", suite, "--json"))["suites"]
        assert sorted(path.name for path in suite.iterdir()) == before
    assert text.startswith(
        "long: 2 cells of the last `bench run` or `bench tune`: 1 running, 1 waiting"
    )
    assert "  running  dfa · seed 42 · epoch 5 of 100, accuracy .400 · for " in text
    assert state["counts"] == {"running": 1, "waiting": 1}
    running, waiting = state["cells"]
    assert (running["epoch"], running["epochs"], running["accuracy"]) == (5, 100, 0.4)
    assert (waiting["name"], waiting["state"]) == ("dfa · seed 123", "waiting")


def test_the_time_left_of_a_status_is_that_of_its_epochs(
    suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt that goes on after epoch 3 has written epochs 4 and 5 of its rows itself."""
    rows = store.temporary(suite / A) / "epochs.jsonl"
    held = store.resume_file(suite / A)
    for saved, at, began in (
        (None, 0.0, 0),
        ({"epoch": 3, "resumed": []}, 900.0, 3),
        ({"epoch": 4, "resumed": [1, 3]}, 1040.0, 3),  # it has saved again
        ({"epoch": 4, "resumed": []}, 1040.0, 0),
        ({"epoch": 20, "resumed": []}, 900.0, 0),  # it began anew
    ):
        held.parent.mkdir(parents=True, exist_ok=True)
        held.touch()
        os.utime(held, (at, at))
        monkeypatch.setattr(resumption, "saved_state", lambda path, _, s=saved: s)
        with locks.locked(suite / A):
            os.utime(suite / f".lock-{A}", (1000.0, 1000.0))
            os.utime(rows, (1050.0, 1050.0))
            (state,) = sweeps.sweeps([suite])
        epoch = 50.0 / (5 - began)
        assert state.seconds_left == pytest.approx(95 * epoch + 100 * epoch)
        assert state.cells[0].pid in (os.getpid(), None)


def test_the_time_left_of_a_status_counts_what_is_saved_of_waiting_cells(
    suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A takes 10 s an epoch and has 95 left, B has 75 of its 100 saved."""
    monkeypatch.setattr(
        sweeps, "saved_state", lambda path, sealed: {suite / B: {"epoch": 75}}.get(path)
    )
    rows = store.temporary(suite / A) / "epochs.jsonl"
    with locks.locked(suite / A):
        os.utime(suite / f".lock-{A}", (1000.0, 1000.0))
        os.utime(rows, (1050.0, 1050.0))
        (state,) = sweeps.sweeps([suite])
    assert [(cell.state, cell.epoch) for cell in state.cells] == [("running", 5), ("waiting", 75)]
    assert state.seconds_left == pytest.approx(95 * 10.0 + 25 * 10.0)


def test_a_killed_sweep_says_how_to_continue(suite: Path) -> None:
    text = invoke("status", suite)
    assert text.startswith(f"long: 2 {OF_THE_LAST}: 2 waiting\n")
    assert "the same command continues" in text
    (suite / f".lock-{A}").touch()  # its process was killed
    assert ": 1 elsewhere or stopped, 1 waiting" in invoke("status", suite)
    (state,) = sweeps.sweeps([suite])
    assert state.seconds_left is not None  # another machine may train it
    os.utime(suite / f".lock-{A}", (1000.0, 1000.0))
    os.utime(store.temporary(suite / A) / "epochs.jsonl", (1050.0, 1050.0))
    (state,) = sweeps.sweeps([suite])
    assert state.seconds_left is None


def test_a_cell_whose_process_of_this_machine_is_gone_has_stopped(suite: Path) -> None:
    lock = suite / f".lock-{A}"
    script = "import os, sys, pathlib; from bench_core.results import locks; "
    script += "locks.lock(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", script, suite / A], check=False)
    assert killed.returncode == -9
    text = invoke("status", suite)
    assert text.startswith(
        "long: 2 cells of the last `bench run` or `bench tune`: 1 stopped, 1 waiting\n"
    )
    assert "no process of this machine is at work here" in text
    assert sweeps.sweeps([suite])[0].seconds_left is None
    number, _, machine = lock.read_text().partition(" ")
    for content in (
        f"{number} {machine} of another",
        f"{os.getpid()} {machine}",
        f"-1 {machine}",
        f"{'9' * 400} {machine}",
    ):
        lock.write_text(content)
        assert ": 1 elsewhere or stopped, 1 waiting" in invoke("status", suite)
    with locks.locked(suite / A):  # a lock that was left is signed anew
        assert lock.read_text() == f"{os.getpid()} {machine}"


def test_ended_cells_have_the_status_of_their_runs(finished: Finished, tmp_path: Path) -> None:
    assert invoke("status", finished.results).startswith(f"tiny: 4 {OF_THE_LAST}: 4 done\n")
    (state,) = sweeps.sweeps([finished.folder])
    assert {cell.name for cell in state.cells} >= {"dfa · seed 1", "bp[frozen] · seed 1"}
    again = tmp_path / "again"  # to be run anew: the runs from before do not count
    shutil.copytree(finished.folder, again)
    content = suite_folder.read(again) or {}
    later = {"action": "run", "at": "9999-01-01"}
    decisions = {name: {**each, **later} for name, each in content["decisions"].items()}
    suite_folder.write(again, {**content, "decisions": decisions})
    assert ": 4 waiting\n" in invoke("status", again)
    ended, old = state.cells[0].identity, tmp_path / "old/tiny"
    for name in (ended, A):  # without suite.json; the copy under another name cannot be read
        shutil.copytree(state.folder / ended, old / name)
    assert invoke("status", tmp_path / "old") == "tiny: 1 done\n"
    (tmp_path / "results").mkdir()
    assert "no runs yet" in invoke("status", tmp_path / "results")


def test_a_status_takes_the_time_of_the_cells_of_a_rule_as_the_run_does(
    finished: Finished, tmp_path: Path
) -> None:
    """With its options or without; a penalty does not make an epoch longer."""
    again = tmp_path / "again"
    shutil.copytree(finished.folder, again)
    content = suite_folder.read(again) or {}
    known = {item.record.identity: item.record.cell for item in scan([finished.folder]).runs}
    decisions = content["decisions"]
    assert {name: decisions[name]["rule"] for name in known} == {
        name: rule_of(cell) for name, cell in known.items()
    }
    dfa = next(name for name in known if decisions[name]["cell"].startswith("dfa ·"))
    waits = {**decisions[dfa], "cell": "dfa[penalty=0.01] · seed 1", "epochs": 3}
    suite_folder.write(again, {**content, "decisions": {**decisions, A: waits}})
    (state,) = sweeps.sweeps([again])
    (waiting,) = (cell for cell in state.cells if cell.identity == A)
    (ended,) = (cell for cell in state.cells if cell.identity == dfa)
    assert waiting.progress.rule == ended.progress.rule
    every = [waiting.progress, *(cell.progress for cell in state.cells if cell != waiting)]
    assert seconds_left(every) == pytest.approx(3 * ended.progress.seconds)


@pytest.mark.parametrize(
    "decisions",
    [[], 3, {"x": 3}, {"../../etc": {"cell": "\x1b[31m"}}, {A: {"epochs": "many", "cell": 7}}],
)
def test_an_odd_suite_file_is_no_bug(tmp_path: Path, decisions: Any) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    suite_folder.write(folder, {"name": "odd", "decisions": decisions})
    assert "\x1b" not in invoke("status", tmp_path)


def test_the_trials_of_a_search_are_told_from_its_suite(tmp_path: Path) -> None:
    decisions = {A: {"action": "run", "at": "2026", "cell": "dfa"}}
    for folder in (tmp_path / "s", tmp_path / "s" / "trials" / "s"):
        folder.mkdir(parents=True)
        suite_folder.write(folder, {"name": "s", "decisions": decisions})
    lines = [line for line in invoke("status", tmp_path).splitlines() if "1 cell" in line]
    assert [line.partition(":")[0] for line in lines] == ["s", "s (trials)"]


def test_an_unknown_number_of_epochs_is_not_said() -> None:
    assert progress.reached(3, 30, 0.4121) == "epoch 3 of 30, accuracy .412"
    assert progress.reached(3, 0, None) == "epoch 3"
