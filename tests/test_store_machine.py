"""The store under any sequence of what can happen to it, against a model of what must be there
(hypothesis' state machine), and runs in which the n-th write, fsync or rename fails, wherever it
is."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forged
import pytest
from conftest import leftovers
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from records import run

from bench_core.analysis.gather import gather
from bench_core.errors import StoreError
from bench_core.execution.executors import Options, local
from bench_core.results import locks, store, suite_folder
from bench_core.results.scan import scan
from bench_core.sharing import merge

pytestmark = pytest.mark.processes

IDENTITIES = st.sampled_from([letter * 32 for letter in "abc"])
SUITES = st.sampled_from(["s", "t"])


class Machine(RuleBasedStateMachine):
    """`model` maps (suite, identity) to the accuracy of the run that must be read there;
    `broken` are folders that must not be."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="bench-machine-"))
        self.results = self.home / "results"
        self.model: dict[tuple[str, str], float] = {}
        self.broken: set[tuple[str, str]] = set()
        self.alive: dict[tuple[str, str], int] = {}  # locks of runners at work

    def teardown(self) -> None:
        for descriptor in self.alive.values():
            os.close(descriptor)
        shutil.rmtree(self.home)

    def final(self, suite: str, identity: str) -> Path:
        return suite_folder.create(self.results, suite) / identity

    def reads(self, final: Path) -> float | None:
        """The accuracy of the run that stands there whole."""
        try:
            return store.read(final, sums=True).accuracy
        except store.Unreadable:
            return None

    @rule(suite=SUITES, identity=IDENTITIES)
    def begin(self, suite: str, identity: str) -> None:
        """A runner takes a cell; where another is at work on it, it does not get it."""
        final = self.final(suite, identity)
        lock = locks.lock(final)
        if (suite, identity) in self.alive:
            assert lock is None
            return
        assert lock is not None
        (store.clear_temporary(final) / "half").write_text("half")
        self.alive[suite, identity] = lock

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), accuracy=st.floats(0, 1))
    def commit(self, data: st.DataObject, accuracy: float) -> None:
        key = data.draw(st.sampled_from(sorted(self.alive)))
        final = self.final(*key)
        record = run(accuracy=accuracy).model_copy(update={"identity": key[1], "suite": key[0]})
        store.commit(record, final)
        locks.unlock(final, self.alive.pop(key))
        self.model[key] = accuracy
        self.broken.discard(key)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """SIGKILL: the lock goes, and everything else stays as it was."""
        key = data.draw(st.sampled_from(sorted(self.alive)))
        os.close(self.alive.pop(key))

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), fails=st.integers(1, 6))
    def commit_fails(self, data: st.DataObject, fails: int) -> None:
        """The n-th fsync of a commit fails; the worker gives up and its runner cleans up."""
        key = data.draw(st.sampled_from(sorted(self.alive)))
        final, real, calls = self.final(*key), os.fsync, iter(range(1, 100))

        def fsync(descriptor: int) -> None:
            if next(calls) == fails:
                raise OSError(28, "No space left on device")
            real(descriptor)

        record = run(accuracy=0.5).model_copy(update={"identity": key[1], "suite": key[0]})
        os.fsync = fsync
        try:
            store.commit(record, final)
            done = True
        except StoreError:  # the old run is there still, or all of the new one
            done = self.reads(final) == 0.5
        finally:
            os.fsync = real
        store.remove_temporary(final)
        locks.unlock(final, self.alive.pop(key))
        if done:
            self.model[key] = 0.5
            self.broken.discard(key)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), how=st.sampled_from(["truncate", "delete", "edit"]))
    def damage(self, data: st.DataObject, how: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.model)))
        path = self.final(*key) / "run.json"
        text = path.read_text()
        if how == "delete":
            path.unlink()
        else:
            path.write_text(
                text[: len(text) // 2]
                if how == "truncate"
                else text.replace('"seed": 42', '"seed": 43')
            )
        del self.model[key]
        self.broken.add(key)

    @precondition(lambda self: self.broken)
    @rule(data=st.data())
    def quarantine(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.broken)))
        assert store.quarantine(self.final(*key), "damaged").exists()
        self.broken.discard(key)

    @rule(suite=SUITES)
    def tidy(self, suite: str) -> None:
        """Another runner starts: what the dead left goes, what the living hold stays."""
        folder = suite_folder.create(self.results, suite)
        store.tidy(folder)
        held = {f".tmp-{identity}" for name, identity in self.alive if name == suite}
        held |= {f".lock-{identity}" for name, identity in self.alive if name == suite}
        assert set(leftovers(folder)) == held

    @rule()
    def merge(self) -> None:
        """Into an empty folder: exactly what can be read arrives."""
        if not self.results.is_dir():
            return
        into = self.home / "into"
        # these runs hold nothing that `bench verify` could call plausible
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                merge,
                "faults",
                lambda run: [] if self.reads(run.folder) is not None else ["damaged"],
            )
            done = merge.merge([self.results], into)
        assert len(done.troubles) == len(self.broken)
        arrived = scan([into]).runs if into.is_dir() else []
        assert {
            (each.folder.parent.name, each.record.identity): each.record.accuracy
            for each in arrived
        } == self.model
        shutil.rmtree(into, ignore_errors=True)

    @invariant()
    def what_is_read_is_what_was_written(self) -> None:
        if not self.results.is_dir():
            return
        suites, troubles = gather([self.results])
        found = {
            (suite.name, each.identity): each.accuracy for suite in suites for each in suite.records
        }
        counted = {key: self.model[key] for key in found}
        assert found == counted
        scanned = scan([self.results])
        assert {(run.folder.parent.name, run.record.identity) for run in scanned.runs} == set(
            self.model
        )
        assert len(troubles) == len(self.broken)


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=25)
TestStore = pytest.mark.long(Machine.TestCase)


# ------------------------------------------------------------------------------- the n-th write

FAULTY = """
from bench_core.errors import StoreError
calls = 0
def failing(real, writes=lambda *a, **k: True):
    def call(*arguments, **options):
        global calls
        if writes(*arguments, **options):
            calls += 1
            if calls == {n}:
                raise OSError(28, "No space left on device")
        return real(*arguments, **options)
    return call
for name in ("fsync", "rename", "replace", "mkdir", "write"):
    setattr(os, name, failing(getattr(os, name)))
try:
    (store.temporary(final) / "curve").write_text("curve")
    finish()
    if calls < {n}:
        (final.parent.parent / "through").touch()
except (StoreError, OSError) as error:
    message = json.dumps({{"event": "unwritable", "reason": str(error), "errno": 28}}).encode()
    calls = 10 ** 6
    os.write(1, message + b"\\n")
    os._exit(74)
"""


@pytest.mark.long
def test_whichever_write_of_a_worker_fails_the_sweep_stops_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """n = 1, 2, 3 … until a worker gets through; the first cell's run is there all along, and
    the next run does the rest."""
    execute = forged.runner(tmp_path, monkeypatch)
    execute("finish()", cells=1)
    first = tmp_path / "s" / ("0" * 32)
    before = (first / "run.json").read_bytes()
    said: list[str] = []
    for n in range(1, 60):
        second = forged.cell(tmp_path / "s" / f"{1:032x}")
        shutil.rmtree(second.folder, ignore_errors=True)
        script = tmp_path / "worker"
        script.write_text(f"#!{forged.PYTHON}\n{forged.FORGED}\n{FAULTY.format(n=n)}")
        monkeypatch.setattr(sys, "executable", str(script))
        (tmp_path / "through").unlink(missing_ok=True)
        try:
            local.execute([second], forged.job, lambda c, event: None, Options(1))
        except StoreError as error:
            said.append(str(error))
        assert leftovers(tmp_path / "s") == []
        assert (first / "run.json").read_bytes() == before
        assert not second.folder.exists() or store.read(second.folder, sums=True).status == "done"
        if (tmp_path / "through").exists():
            break
    assert (tmp_path / "through").exists()
    assert len(said) >= 5
    assert all("No space left on device" in line and "\n" not in line for line in said)


@pytest.mark.long
def test_whichever_write_of_the_runner_fails_it_is_one_line_and_the_next_run_does_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same in the process that starts workers and writes the rows of those that crash."""
    forged.runner(tmp_path, monkeypatch)("os._exit(9)", cells=0)
    said: list[str] = []
    for n in range(1, 60):
        cell = forged.cell(suite_folder.create(tmp_path, "s") / f"{n:032x}")
        with monkeypatch.context() as patch:
            calls = failing(n, patch)
            try:
                local.execute([cell], forged.job, lambda c, event: None, Options(1))
            except StoreError as error:
                said.append(str(error))
        assert leftovers(tmp_path / "s") == []
        if len(calls) < n:
            break
        again: list[str] = []
        local.execute(
            [cell], forged.job, lambda c, event, to=again: to.append(event["event"]), Options(1)
        )
        assert again[-1] in ("end", "reused")
        assert store.read(cell.folder, sums=True).status == "crashed"
    assert len(calls) < n
    assert len(said) >= 5
    assert all("No space left on device" in line and "\n" not in line for line in said)


def failing(n: int, patch: pytest.MonkeyPatch) -> list[str]:
    """Let the n-th system call that writes fail as on a full disk; the calls that were made."""
    calls: list[str] = []

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls.append(name)
            if len(calls) == n:
                raise OSError(28, "No space left on device")
            return real(*arguments, **options)

        return call

    for name in ("fsync", "rename", "replace", "mkdir"):
        patch.setattr(os, name, wrapped(name, getattr(os, name)))
    return calls
