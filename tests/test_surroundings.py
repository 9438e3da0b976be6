"""Check that a sweep survives its surroundings: refused system calls, broken plugins, a freeze.

A broken plugin ends its own cell, a broken observer is not called again; the other cells run.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    HANG,
    REAL_CLOCK,
    TINY,
    Finished,
    Here,
    alive,
    fake_dist,
    leftovers,
    runs,
    wait_until,
)

from bench_core.errors import StoreError
from bench_core.execution import listeners
from bench_core.processes import groups
from bench_core.results import store

pytestmark = pytest.mark.processes

# pidfd_open; chmod, fchmod, fchmodat, fchmodat2; unshare
REFUSED = (434, 90, 91, 268, 452, 272)


def refuse() -> None:
    """Let the kernel answer EPERM to these system calls of this process and of its children."""
    load, jump_if_equal, give_back = 0x20, 0x15, 0x06
    program = [(load, 0, 0, 0)]
    for call in REFUSED:
        program += [(jump_if_equal, 0, 1, call), (give_back, 0, 0, 0x00050001)]
    program.append((give_back, 0, 0, 0x7FFF0000))
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    filters = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(buffer)))
    prctl, new_privileges, seccomp = ctypes.CDLL(None, use_errno=True).prctl, 38, 22
    if prctl(new_privileges, 1, 0, 0, 0) or prctl(seccomp, 2, filters, 0, 0):
        raise OSError(ctypes.get_errno(), "no filter of system calls")


@pytest.mark.long
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86_64")
@pytest.mark.parametrize("fork", ["1", "0"])
def test_a_run_needs_no_system_call_that_a_container_may_refuse(bench: Any, fork: str) -> None:
    """A real filter: older container profiles refuse pidfd_open, some file systems chmod."""
    (bench.cwd / "tiny.yaml").write_text(TINY + "floors: false\n")
    run = bench("run", "tiny.yaml", preexec_fn=refuse, env={"BENCH_FORK": fork})
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert len(runs(bench.cwd / "results" / "tiny")) == 1
    merged = bench("merge", "results", "--into", "other", preexec_fn=refuse)
    assert merged.returncode == 0, merged.stderr
    assert leftovers(bench.cwd / "other" / "tiny") == []


@pytest.mark.long
@pytest.mark.parametrize(("kilobytes", "works"), [(8_000_000, False), (200_000_000, True)])
def test_a_figure_within_a_limit_of_address_space_is_drawn_or_says_what_it_needs(
    bench: Any, finished: Finished, kilobytes: int, works: bool
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (kilobytes << 10, kilobytes << 10))

    drawn = bench("figure", "alignment", finished.results, "-o", "a.svg", preexec_fn=limit)
    if works:
        assert drawn.returncode == 0, drawn.stderr
        assert (bench.cwd / "a.svg").read_text().startswith("<svg")
        return
    assert drawn.returncode == 2
    assert "`ulimit -v` allows 8000000 kB; raise that limit" in drawn.stderr
    assert drawn.stderr.count("\n") == 1
    assert list(bench.cwd.glob("*.svg")) == []


# ----------------------------------------------------------------------------------- broken plugins

HOOKS = """
from bench_core.api import Component, hookimpl

@hookimpl
def bench_methods():
    names = ("deletes", "limits", "masks", "pipes", "shoots")
    return [Component(name, f"broken_rules:{name.title()}") for name in names]
"""
RULES = """
import os, resource, shutil, signal
from pathlib import Path
from bench_plugins.methods.bp import Backprop

def folders():
    return Path(os.environ["RESULTS"]).glob(".tmp-*")

class Broken(Backprop):
    broken = False
    def step(self, x, y, epoch):
        if not self.broken:
            self.broken = True
            self.breaks()
        return super().step(x, y, epoch)

class Deletes(Broken):
    def breaks(self):
        for folder in folders():
            shutil.rmtree(folder)

class Limits(Broken):
    def breaks(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

class Masks(Broken):
    def breaks(self):
        os.umask(0o777)

class Pipes(Broken):
    def breaks(self):
        for folder in folders():
            output = folder.with_name(folder.name.replace("tmp", "log"))
            output.unlink()
            os.mkfifo(output)
            (folder / "epochs.jsonl").unlink()
            (folder / "epochs.jsonl").mkdir()

class Shoots(Broken):
    def breaks(self):
        os.kill(os.getppid(), signal.SIGKILL)
        signal.pause()
"""


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Return a folder with a package of rules that break what is around them."""
    fake_dist(tmp_path / "site", "x-broken", "broken_hooks", HOOKS)
    (tmp_path / "site" / "broken_rules.py").write_text(RULES)
    return tmp_path / "site"


@pytest.mark.long
def test_a_rule_that_breaks_its_surroundings_loses_its_own_cell_alone(
    here: Here, broken: Path
) -> None:
    """A deleted folder, a limit of files, a umask, a FIFO as log, the death of its parent."""
    rules = ("deletes", "limits", "masks", "pipes", "shoots")
    listed = ", ".join(f"x-broken/{rule}" for rule in rules)
    text = TINY.replace("methods: [dfa]", f"methods: [{listed}, dfa]") + "floors: false\n"
    (here.cwd / "tiny.yaml").write_text(text)
    folder = here.cwd / "results" / "tiny"
    run = here("run", "tiny.yaml", "--workers", 1, path=[broken], env={"RESULTS": str(folder)})
    assert run.returncode == 1, run.stderr
    ended = {
        record["cell"]["method"]["name"].rpartition("/")[2]: record
        for record in runs(folder).values()
    }
    assert {rule: record["status"] for rule, record in ended.items()} == {
        "deletes": "crashed",
        "limits": "crashed",
        "masks": "done",
        "pipes": "crashed",
        "shoots": "crashed",
        "dfa": "done",
    }
    for rule in ("deletes", "limits", "pipes"):
        assert "could not write its run after epoch" in ended[rule]["reason"]
    assert "File too large" in ended["limits"]["reason"]
    assert "its parent process" in ended["shoots"]["reason"]
    masked = folder / ended["masks"]["identity"]
    modes = {path.name: path.stat().st_mode & 0o777 for path in masked.iterdir()}
    assert modes == dict.fromkeys(modes, 0o666 & ~umask())
    assert len(modes) == 5
    assert leftovers(folder) == []


def umask() -> int:
    """Return the umask of this process."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.long
def test_a_started_worker_that_kills_its_parent_does_not_end_the_runner(
    here: Here, broken: Path
) -> None:
    """As on a GPU, where workers are not forked from a server."""
    text = TINY.replace("methods: [dfa]", "methods: [x-broken/shoots, dfa]") + "floors: false\n"
    (here.cwd / "tiny.yaml").write_text(text)
    run = here("run", "tiny.yaml", "--workers", 1, path=[broken], env={"BENCH_FORK": "0"})
    statuses = {record["status"] for record in runs(here.cwd / "results" / "tiny").values()}
    assert run.returncode == 1
    assert statuses == {"crashed", "done"}


ROW = {"epoch": 0, "learning_rate": 0.1, "accuracy": 0.5}
NO_EVENTS = [
    {"event": "epoch", "row": 5},
    {"event": "epoch"},
    {"event": "epoch", "row": {"epoch": 1}},
    {"event": "epoch", "row": {**ROW, "epoch": "1"}},
    {"event": "epoch", "row": {**ROW, "epoch": 1.0}},
    {"event": "epoch", "row": {**ROW, "accuracy": [1]}},
    {"event": ["epoch"]},
    {"event": "unwritable", "reason": {}},
    [1],
    None,
]


def test_what_is_no_event_is_left_out(execute: Any) -> None:
    """Also a row that came already, one that is nested 100,000 deep, and one of 8 MiB."""
    texts = [json.dumps(value) for value in [*NO_EVENTS, *[{"event": "epoch", "row": ROW}] * 2]]
    code = f"""
for text in {texts!r}:
    os.write(1, text.encode() + b"\\n")
for text in (b"[" * 100_000, b"x" * (8 << 20)):
    while text:
        text = text[os.write(1, text):]
    os.write(1, b"\\n")
finish()
"""
    events = execute(code)
    assert [event["event"] for event in events] == ["start", "epoch", "end"]
    assert events[1]["row"] == ROW
    assert events[-1]["record"].status == "done"


@pytest.mark.parametrize("line", ['{"event": "epoch", "row": 5}\n', "x"])
def test_a_worker_that_floods_the_pipe_is_ended_at_its_limit(
    execute: Any, leap: Any, tmp_path: Path, line: str
) -> None:
    code = f"""
flood = {line!r}.encode() * (1 << 16)
os.write(1, flood)
(final.parent.parent / "floods").touch()
while True:
    os.write(1, flood)
"""
    leap((tmp_path / "floods").exists)
    record = execute(code, budget={"seconds": 600})[-1]["record"]
    assert record.status == "timeout"


@pytest.mark.parametrize(
    ("number", "stops"), [(28, True), (5, True), (27, False), (2, False), (None, False)]
)
def test_only_a_fault_of_the_disk_stops_the_sweep(
    execute: Any, tmp_path: Path, number: int | None, stops: bool
) -> None:
    event = {"event": "unwritable", "reason": "no way", "errno": number}
    code = f"os.write(1, {json.dumps(event)!r}.encode() + b'\\n'); os._exit(74)"
    if stops:
        with pytest.raises(StoreError, match="no way"):
            execute(code, cells=2)
        return
    ended = [event["record"] for event in execute(code, cells=2) if event["event"] == "end"]
    reason = "the worker could not write its run after epoch 0: no way"
    assert [(record.status, record.reason) for record in ended] == [("crashed", reason)] * 2


def test_a_run_that_a_plugin_spoils_once_it_is_there_is_a_row(execute: Any, tmp_path: Path) -> None:
    record = execute("finish(); (final / 'run.json').write_text('{')")[-1]["record"]
    assert record.status == "crashed"
    assert record.reason.startswith("its run cannot be read right after it was written: ")
    assert store.read(tmp_path / "s" / record.identity) == record


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGRTMIN + 1])
def test_any_signal_can_end_a_worker(execute: Any, number: int) -> None:
    record = execute(f"os.kill(os.getpid(), {int(number)})")[-1]["record"]
    assert record.reason == f"the worker ended with {groups.signal_name(number)} after epoch 0"


def test_the_time_of_a_cell_stands_still_while_the_machine_does(
    execute: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The clock goes an hour forward between two looks, as it does when a container is frozen."""
    ready, frozen = tmp_path / "ready", tmp_path / "frozen"

    def clock() -> float:
        if ready.exists():
            frozen.touch()
        return REAL_CLOCK() + 3600.0 * frozen.exists()

    monkeypatch.setattr(time, "monotonic", clock)
    code = f"open({str(ready)!r}, 'w')\nwait_until(pathlib.Path({str(frozen)!r}).exists)\nfinish()"
    record = execute(code, budget={"seconds": 600})[-1]["record"]
    assert record.status == "done"
    assert frozen.exists()


@pytest.mark.parametrize("fork", ["1", "0"])
def test_a_child_ends_with_the_process_that_started_it(tmp_path: Path, fork: str) -> None:
    """`plan`, `audit`, `check` and `run` start children in this one place; servers end too."""
    (tmp_path / "waits.py").write_text(
        "import os, time\ndef main():\n    os.write(1, b'%d ' % os.getpid())\n    time.sleep(600)\n"
    )
    code = (
        "import os, subprocess\n"
        "from bench_core.processes import child\n"
        "process = child.start('waits', env=child.environment(), fork=True, stderr=2)\n"
        "pids = process.pid, getattr(process, 'parent', process.pid)\n"
        "print(*pids, os.read(process.stdout.fileno(), 20).decode(), flush=True)\n"
        "process.wait()"
    )
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    env = {**os.environ, "PYTHONPATH": path, "BENCH_FORK": fork}
    caller = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env)
    with caller:
        assert caller.stdout is not None
        pids = [int(word) for word in caller.stdout.readline().split()]
        assert [alive(pid) for pid in pids] == [True, True, True]
        caller.kill()
        wait_until(lambda: not any(map(alive, pids)))


# --------------------------------------------------------------------------------- broken observers

OBSERVER = """
import os, time
from pathlib import Path
from bench_core.api import hookimpl

calls = []

@hookimpl
def bench_cell_start(identity):
    calls.append(identity)
    if len(calls) == 1:
        end = time.monotonic() + 60
        while len(list(Path(os.environ["RESULTS"]).glob("*/run.json"))) < 2:
            time.sleep(0.02)
            assert time.monotonic() < end, "the sweep waits for its observer"
    os.chdir("/")
    os.umask(0o777)

@hookimpl
def bench_cell_end(record):
    raise KeyboardInterrupt

@hookimpl
def bench_suite_end(records):
    print("cells:", len(calls), len(records))
"""


@pytest.mark.long
def test_a_sweep_waits_for_no_observer_and_is_not_moved_by_one(here: Here, tmp_path: Path) -> None:
    """It hangs until both cells have ended, changes folder and umask, and raises an interrupt."""
    fake_dist(tmp_path / "site", "x-slow", "slow_observer", OBSERVER)
    (here.cwd / "tiny.yaml").write_text(TINY.replace("seeds: [1]", "seeds: [1, 2]\nfloors: false"))
    folder = here.cwd / "results" / "tiny"
    options = {"path": [tmp_path / "site"], "env": {"RESULTS": str(folder)}}
    run = here("run", "tiny.yaml", "--workers", 1, **options)
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("warning: ") == 1
    assert "x-slow 1.0 (it): bench_cell_end raised KeyboardInterrupt" in run.stderr
    assert "cells: 2 2" in run.stdout
    assert len(runs(folder)) == 2
    assert {path.stat().st_mode & 0o777 for path in folder.glob("*/run.json")} == {0o666 & ~umask()}


def test_what_a_call_changes_of_its_process_is_restored(tmp_path: Path) -> None:
    warnings: list[str] = []
    kind, folder, mask = resource.RLIMIT_CORE, os.getcwd(), umask()
    soft, hard = resource.getrlimit(kind)
    limit = 0 if soft else min(4096, hard) if hard >= 0 else 4096
    seen: list[Any] = []
    with listeners.Listener(lambda: "it", warnings.append) as listener:
        listener.call(lambda: resource.setrlimit(kind, (limit, hard)))
        listener.call(lambda: os.chdir("/"))
        listener.call(lambda: os.umask(0o77))
        listener.call(lambda: 1 / 0)
        listener.call(lambda: seen.extend([os.getcwd(), umask(), resource.getrlimit(kind)]))
    assert seen == [folder, mask, (soft, hard)]
    assert [os.getcwd(), umask(), resource.getrlimit(kind)] == seen
    assert warnings == ["it raised ZeroDivisionError: division by zero"]


def test_an_observer_that_does_not_return_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is back no more calls are made. Few epochs wait for it."""
    monkeypatch.setattr(listeners, "MOST", 3)
    warnings: list[str] = []
    calls: list[int] = []
    back = threading.Event()
    with listeners.Listener(lambda: "x-hung: bench_epoch_end", warnings.append, 0.2) as listener:
        listener.call(lambda: back.wait(HANG))
        for number in range(9):
            listener.call(lambda number=number: calls.append(number), may_be_left_out=True)
    back.set()
    listener.thread.join(HANG)
    assert calls == []
    assert warnings == [
        "x-hung: bench_epoch_end is 3 events behind; it does not get every epoch",
        "x-hung: bench_epoch_end did not return within 0.2 s; left behind",
    ]
