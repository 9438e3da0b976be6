"""Check budgets: a cell over its limit ends with all its processes.

Its row gives the reason, and the next cell gets a clean slot.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import alive, leftovers, lines, runs, wait_until, workers_of

from bench_core.execution import devices
from bench_core.execution.executors import local, supervise
from bench_core.processes import groups
from bench_core.results import locks, logs
from bench_core.results.status import is_reused
from bench_core.suite.budget import Budget

pytestmark = pytest.mark.processes

IGNORES = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
NOTE = "open({path!r}, 'a').write(str(os.getpid()) + chr(10))\n"
READY = "(store.temporary(final) / 'ready').touch()\ntime.sleep(600)"
# how a worker overruns its time: the processes that note their number, the code
OVERRUNS = {
    "sleeps": (1, "{note}time.sleep(600)"),
    "computes": (1, "{note}\nwhile True: pass"),
    "ignores SIGTERM": (1, IGNORES + "{note}time.sleep(600)"),
    "forks": (2, IGNORES + "os.fork()\n{note}time.sleep(600)"),
    "starts a daemon": (
        3,
        "if os.fork() == 0:\n    os.setsid()\n    os.fork()\n{note}time.sleep(600)",
    ),
    "stops itself": (1, "{note}\nimport signal\nos.kill(os.getpid(), signal.SIGSTOP)"),
}


def ready(tmp_path: Path, count: int) -> bool:
    """Return whether `count` workers have said that they are ready."""
    return len(list((tmp_path / "s").glob(".tmp-*/ready"))) == count


def test_a_training_that_begins_anew_has_its_whole_budget() -> None:
    """The seconds and epochs of the attempt that is thrown away are no part of it."""
    read, write = os.pipe()
    os.write(write, b'{"event": "anew", "reason": "the rule lost its feedback"}\n')
    os.close(write)
    with open(read, "rb", buffering=0) as pipe:
        process: Any = SimpleNamespace(stdout=pipe)
        worker = supervise.Worker({}, process, "", None, spent=5e5, kernel_kills=0, epochs=8)
        assert worker.seconds >= 5e5
        assert list(supervise.new_events(worker)) == [
            {"event": "anew", "reason": "the rule lost its feedback"}
        ]
    assert worker.seconds < 5e5
    assert worker.epochs == 0


@pytest.mark.parametrize("how", OVERRUNS)
def test_a_cell_over_its_time_is_ended_with_all_that_it_started(
    execute: Any, leap: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The clock passes the limit once every process of the cell has written its number."""
    monkeypatch.setattr(groups, "GRACE", 0.3)
    pids, (count, code) = tmp_path / "pids", OVERRUNS[how]
    leap(lambda: len(lines(pids)) == count)
    events = execute(
        code.format(note=NOTE.format(path=str(pids))), budget={"seconds": 600}, slots=1
    )
    wait_until(lambda: not any(alive(int(line)) for line in lines(pids)))
    record = events[-1]["record"]
    assert (record.status, record.reason) == ("timeout", "over its budget of 600 s after epoch 0")
    assert record.budget == {"seconds": 600}
    assert record.seconds >= 600
    assert leftovers(tmp_path / "s") == []
    assert "timeout: over its budget" in (tmp_path / "s" / record.identity / "log.txt").read_text()


@pytest.mark.long
def test_a_deaf_worker_does_not_keep_another_over_its_time(
    execute: Any, leap: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four deaf workers at once: all are asked to end before the first is killed."""
    send, sent = groups.signal_group, []

    def noted(process: Any, number: int) -> bool:
        sent.append((number, process.pid))
        return send(process, number)

    monkeypatch.setattr(groups, "signal_group", noted)
    leap(lambda: ready(tmp_path, 4))
    events = execute(IGNORES + READY, cells=4, budget={"seconds": 600}, slots=4)
    assert [event["record"].status for event in events if event["event"] == "end"] == [
        "timeout"
    ] * 4
    first_kill = [number for number, _ in sent].index(signal.SIGKILL)
    assert len({pid for _, pid in sent[:first_kill]}) == 4


@pytest.mark.long
def test_a_cell_that_grows_over_its_memory_is_oom_and_the_next_on_its_slot_is_not(
    execute: Any,
) -> None:
    grows = """
if final.name.endswith("0"):
    kept = bytearray(400 << 20)
    time.sleep(600)
finish()
"""
    events = execute(grows, cells=2, budget={"memory_mb": 200}, slots=1)
    first, second = [event["record"] for event in events if event["event"] == "end"]
    assert first.status == "oom"
    assert "over its budget of 200 MiB, after epoch 0" in first.reason
    assert second.status == "done"


def test_pages_that_processes_share_count_once(
    execute: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """150 MiB that two processes share are under 250; the worker ends after it was looked at."""
    proportional, looks = groups.proportional, []

    def noted(pid: int) -> int:
        looks.append(proportional(pid))
        (tmp_path / "looked").touch()
        return looks[-1]

    monkeypatch.setattr(groups, "proportional", noted)
    code = """
block = bytearray(150 << 20)
if os.fork() == 0:
    time.sleep(600)
wait_until((final.parent.parent / "looked").exists)
finish()
"""
    assert execute(code, budget={"memory_mb": 250}, slots=1)[-1]["record"].status == "done"
    assert max(looks) >= 150 << 20


def test_memory_of_a_child_counts(execute: Any) -> None:
    code = """
if os.fork() == 0:
    block = bytearray(300 << 20)
time.sleep(600)
"""
    assert execute(code, budget={"memory_mb": 250}, slots=1)[-1]["record"].status == "oom"


def test_who_the_system_killed_for_want_of_memory_is_oom(
    execute: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell killed by the kernel for lack of memory is oom.

    The kernel's counter is emulated: a real one needs a machine without free memory.
    """
    counts = iter([7, 8])
    monkeypatch.setattr(groups, "killed_by_kernel", lambda: next(counts))
    record = execute("import signal; os.kill(os.getpid(), signal.SIGKILL)", slots=1)[-1]["record"]
    assert (record.status, record.reason) == (
        "oom",
        "killed by the system for want of memory after epoch 0",
    )


def test_a_log_is_cut_back_while_its_cell_prints(
    execute: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times over twice its limit; the worker prints again once its log was cut back."""
    monkeypatch.setattr(logs, "LARGEST", 1 << 14)
    loud = """
os.write(2, b"first words\\n")
size = lambda: store.output_file(final).stat().st_size
for _ in range(4):
    for _ in range(1000):
        if size() > 2 << 14:
            break
        os.write(2, bytes([0xff, 27]) + b"[2J" + b"x" * (1 << 14))
    wait_until(lambda: size() < 2 << 14)
os._exit(9)
"""
    record = execute(loud, slots=1)[-1]["record"]
    text = (tmp_path / "s" / record.identity / "log.txt").read_bytes().decode()  # it is UTF-8
    assert text.startswith("first words")
    assert "crashed: the worker ended with exit code 9" in text
    assert "the middle of this log was left out" in text
    assert all(c.isprintable() or c == "\n" for c in text)


@pytest.mark.long
def test_cells_for_which_a_sweep_has_no_time_are_skipped_rows(
    execute: Any, leap: Any, tmp_path: Path
) -> None:
    leap(lambda: bool(runs(tmp_path / "s")))
    events = execute("finish()", cells=3, slots=1, sweep_seconds=600)
    told = [
        (event["record"].status, event["record"].reason)
        for event in events
        if event["event"] == "end"
    ]
    assert (
        told
        == [("done", None)] + [("skipped", "the sweep's time (budget.sweep_seconds) was spent")] * 2
    )
    assert len(list((tmp_path / "s").glob("*/log.txt"))) == 3
    again = execute("finish()", cells=3, slots=1)
    assert [event["record"].status for event in again if event["event"] == "end"] == ["done"] * 3


@pytest.mark.long
def test_a_finished_run_outlives_a_training_that_is_cut_short(
    execute: Any, leap: Any, tmp_path: Path
) -> None:
    execute("finish()", slots=1)
    (before,) = runs(tmp_path / "s").values()
    leap(lambda: ready(tmp_path, 1))
    *_, ended = execute(READY, budget={"seconds": 600}, slots=1)
    assert ended["record"].status == "timeout"
    assert ended["record"].reason.endswith("; its done run stays")
    oom = """
event = {"event": "cut short", "status": "oom", "reason": "not enough memory"}
os.write(1, json.dumps(event).encode() + b"\\n")
"""
    *_, ended = execute(oom, slots=1)
    assert ended["record"].reason == "not enough memory; its done run stays"
    *_, ended = execute("os._exit(3)", slots=1)
    assert ended["record"].status == "crashed"
    (after,) = runs(tmp_path / "s").values()
    assert after == before
    assert leftovers(tmp_path / "s") == []


def test_a_sweep_without_time_leaves_the_run_of_a_cell_and_says_so(
    execute: Any, leap: Any, tmp_path: Path
) -> None:
    execute("os._exit(3)", slots=1)
    (before,) = runs(tmp_path / "s").values()
    leap(itertools.count().__next__)
    (told,) = [e["record"] for e in execute("finish()", sweep_seconds=600) if e["event"] == "end"]
    assert told.status == "skipped"
    assert told.reason == "the sweep's time (budget.sweep_seconds) was spent; its crashed run stays"
    (after,) = runs(tmp_path / "s").values()
    assert after == before


def test_a_sweep_without_time_does_not_wait_for_another_runner(
    execute: Any, leap: Any, tmp_path: Path
) -> None:
    execute("os._exit(3)", slots=1)
    ((identity, before),) = runs(tmp_path / "s").items()
    lock = locks.lock(tmp_path / "s" / identity)
    assert lock is not None
    leap(itertools.count().__next__)
    (told,) = [e["record"] for e in execute("finish()", sweep_seconds=600) if e["event"] == "end"]
    locks.unlock(tmp_path / "s" / identity, lock)
    assert (
        told.reason
        == "the sweep's time (budget.sweep_seconds) was spent; another runner is at work on it"
    )
    assert runs(tmp_path / "s") == {identity: before}


# ------------------------------------------------------------------------------------- accelerators


@pytest.mark.parametrize(
    ("named", "seen"),
    [("", ()), ("-1", ()), ("0, -1 ,GPU-b", ("0", "GPU-b")), (" 3 ,1", ("3", "1"))],
)
def test_a_device_that_is_hidden_is_not_leased(
    named: str, seen: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    devices.visible.cache_clear()
    try:
        assert devices.visible() == seen
    finally:
        devices.visible.cache_clear()


@pytest.mark.long
def test_slots_of_accelerators_are_leased_and_given_back(
    execute: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two devices with two slots each run four workers; each worker sees one device."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-b")
    devices.visible.cache_clear()
    code = """
seen = os.environ["CUDA_VISIBLE_DEVICES"]
log = final.parent.parent / "leases"
open(log, "a").write(json.dumps(["take", seen, job["device"]]) + chr(10))
wait_until(lambda: log.read_text().count("take") >= 4)
open(log, "a").write(json.dumps(["give", seen, job["device"]]) + chr(10))
finish()
"""
    try:
        events = execute(code, cells=8, device="cuda", per_gpu=2)
    finally:
        devices.visible.cache_clear()
    assert len([event for event in events if event["event"] == "end"]) == 8
    told = [json.loads(line) for line in (tmp_path / "leases").read_text().splitlines()]
    at_work = {"3": 0, "GPU-b": 0}
    for what, seen, device in told:
        assert device == "cuda"
        at_work[seen] += 1 if what == "take" else -1
        assert at_work[seen] <= 2
    assert {seen for _, seen, _ in told} == {"3", "GPU-b"}


def test_a_worker_finds_the_device_that_it_was_leased_under_its_only_name(
    execute: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one visible device there is no cuda:1; torch asks for the setting of cuBLAS."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-b")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    code = """
names = ["CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG"]
told = json.dumps([job["device"], *map(os.environ.get, names)])
(final.parent.parent / "told").write_text(told)
finish()
"""
    told = {}
    devices.visible.cache_clear()
    try:
        for device in ("cuda:1", "cpu"):
            execute(code, device=device)
            told[device] = json.loads((tmp_path / "told").read_text())
            shutil.rmtree(tmp_path / "s")
    finally:
        devices.visible.cache_clear()
    assert told == {"cuda:1": ["cuda", "GPU-b", ":4096:8"], "cpu": ["cpu", "3,GPU-b", None]}


def test_cells_at_once_are_as_many_as_have_cores_or_accelerators(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "cores", lambda: 8)
    monkeypatch.setattr(local, "visible", lambda: ("3", "GPU-b"))

    def slots(*threads: int, device: str = "cpu", per_gpu: int = 1) -> int:
        recipes = [SimpleNamespace(training={"threads": number}) for number in threads]
        cells: Any = [SimpleNamespace(device=device, cell=recipe) for recipe in recipes]
        return local.default_slots(cells, per_gpu)

    assert [slots(1), slots(1, 3), slots(8), slots(9)] == [8, 2, 1, 1]
    assert [slots(1, device="cuda"), slots(9, device="cuda", per_gpu=3)] == [2, 6]


def test_leases() -> None:
    leases = devices.Leases(2, ("3", "GPU-b"))
    taken = [leases.take("cuda") for _ in range(4)]
    assert taken == ["3", "GPU-b", "3", "GPU-b"]
    assert leases.take("cuda") is None
    leases.give("GPU-b")
    assert leases.take("cuda:0") is None
    assert leases.take("cuda:1") == "GPU-b"
    assert leases.take("cpu") == ""
    assert leases.take("cuda:7") == ""  # no such device: the worker says so
    assert devices.Leases(1, ()).take("cuda") == ""
    assert devices.environment("GPU-b") == {"CUDA_VISIBLE_DEVICES": "GPU-b"}
    assert devices.environment("") == {}


# --------------------------------------------------------------------------------- reuse of results


@pytest.mark.parametrize(
    ("status", "then", "now", "again"),
    [
        ("timeout", {"seconds": 10}, {"seconds": 10}, True),
        ("timeout", {"seconds": 10}, {"seconds": 9}, True),
        ("timeout", {"seconds": 10}, {"seconds": 11}, False),
        ("timeout", {"seconds": 10}, {}, False),
        ("timeout", {"seconds": 10, "memory_mb": 5}, {"seconds": 10}, True),
        ("oom", {"memory_mb": 10}, {"memory_mb": 10, "seconds": 1}, True),
        ("oom", {"memory_mb": 10}, {"memory_mb": 20}, False),
        ("oom", {}, {"memory_mb": 20}, False),
        (
            "oom",
            {"memory_mb": 10, "gpu_memory_mb": 10},
            {"memory_mb": 10, "gpu_memory_mb": 11},
            False,
        ),
        ("crashed", {"seconds": 10}, {"seconds": 10}, False),
    ],
)
def test_a_cell_over_its_budget_runs_again_when_it_gets_more(
    status: str, then: Any, now: Any, again: bool
) -> None:
    assert is_reused(status, then, now) is again


def test_only_limits_that_are_set_are_kept() -> None:
    assert Budget(seconds=5.0, sweep_seconds=9.0).of_cell() == {"seconds": 5.0}
    assert json.dumps(Budget().of_cell()) == "{}"
    assert os.sysconf("SC_PAGE_SIZE") <= groups.resident(os.getpid()) <= 1 << 40
    assert groups.proportional(os.getpid()) <= groups.resident(os.getpid())


def test_a_second_interrupt_kills_at_once_and_leaves_no_row(
    execute: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deaf workers and patience without end: the second Ctrl-C ends the patience."""
    monkeypatch.setattr(groups, "GRACE", 1e9)
    send, waited_for = groups.signal_group, []

    def interrupted(*arguments: Any) -> None:
        wait_until(lambda: ready(tmp_path, 2))
        raise KeyboardInterrupt

    def again(process: Any, number: int) -> bool:
        if number == 0 and not waited_for:  # asked to end, and now waited for
            waited_for.append(process.pid)
            signal.raise_signal(signal.SIGINT)
        return send(process, number)

    monkeypatch.setattr(local, "_listen", interrupted)
    monkeypatch.setattr(groups, "signal_group", again)
    with pytest.raises(KeyboardInterrupt):
        execute(IGNORES + READY, cells=3, slots=2)
    assert waited_for
    assert list((tmp_path / "s").iterdir()) == []
    assert workers_of(os.getpid()) == []
