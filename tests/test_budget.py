"""Budgets: a cell over its limit is ended with all that it started, its row says why, and the next cell has a clean slot."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import leftovers

from bench_core.execution import devices
from bench_core.execution.executors import local
from bench_core.processes import groups
from bench_core.results import logs
from bench_core.results.status import is_reused
from bench_core.suite.budget import Budget

IGNORES = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
NOTE = "open({path!r}, 'a').write(str(os.getpid()) + chr(10))\n"
OVERRUNS = {
    "sleeps": "import time\n{note}time.sleep(600)",
    "computes": "{note}\nwhile True: pass",
    "ignores SIGTERM": IGNORES + "{note}time.sleep(600)",
    "forks": IGNORES + "os.fork()\n{note}time.sleep(600)",
    "starts a daemon": "import time\nif os.fork() == 0:\n    os.setsid()\n    os.fork()\n{note}time.sleep(600)",
    "stops itself": "{note}\nimport signal\nos.kill(os.getpid(), signal.SIGSTOP)",
}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("how", OVERRUNS)
def test_whatever_overruns_its_time_is_gone_within_five_seconds_of_the_deadline(
    execute: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The deadline is part of the promise, so here a duration is measured: from the start, which is before the budget's."""
    if how != "ignores SIGTERM":
        monkeypatch.setattr(groups, "GRACE", 0.3)
    pids = tmp_path / "pids"
    started = time.monotonic()
    events = execute(
        OVERRUNS[how].format(note=NOTE.format(path=str(pids))), budget={"seconds": 0.5}, slots=1
    )
    took = time.monotonic() - started
    record = events[-1]["record"]
    assert (record.status, record.reason) == ("timeout", "over its budget of 0.5 s after epoch 0")
    assert record.budget == {"seconds": 0.5}
    assert record.seconds >= 0.5
    assert took < 0.5 + 5.0
    started_pids = [int(line) for line in pids.read_text().split()]
    assert started_pids
    assert not any(alive(pid) for pid in started_pids)
    assert leftovers(tmp_path / "s") == []
    assert "timeout: over its budget" in (tmp_path / "s" / record.identity / "log.txt").read_text()


def test_a_deaf_worker_does_not_keep_another_over_its_time(execute: Any) -> None:
    """Four at once, none of which listens: all are ended together, not one after the other."""
    started = time.monotonic()
    events = execute(IGNORES + "time.sleep(600)", cells=4, budget={"seconds": 0.5}, slots=4)
    assert [event["record"].status for event in events if event["event"] == "end"] == [
        "timeout"
    ] * 4
    assert time.monotonic() - started < 0.5 + 5.0


def test_a_cell_that_grows_over_its_memory_is_oom_and_the_next_on_its_slot_is_not(
    execute: Any,
) -> None:
    grows = """
import time
if final.name.endswith("0"):
    kept = []
    while True:
        kept.append(bytearray(8 << 20)); time.sleep(0.02)
finish()
"""
    events = execute(grows, cells=2, budget={"memory_mb": 200}, slots=1)
    first, second = [event["record"] for event in events if event["event"] == "end"]
    assert first.status == "oom"
    assert "over its budget of 200 MiB, after epoch 0" in first.reason
    assert second.status == "done"


def test_pages_that_processes_share_count_once(execute: Any) -> None:
    """150 MiB that two processes share are under 250."""
    code = """
import time
block = bytearray(150 << 20)
if os.fork() == 0:
    time.sleep(600)
time.sleep(0.8)
finish()
"""
    assert execute(code, budget={"memory_mb": 250}, slots=1)[-1]["record"].status == "done"


def test_memory_of_a_child_counts(execute: Any) -> None:
    code = """
import time
if os.fork() == 0:
    block = bytearray(300 << 20)
    time.sleep(600)
time.sleep(60)
"""
    assert execute(code, budget={"memory_mb": 250}, slots=1)[-1]["record"].status == "oom"


def test_who_the_system_killed_for_want_of_memory_is_oom(
    execute: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's counter is emulated: a real one needs a machine without memory."""
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
    """64 times its limit, in bursts; looked at from inside the worker after every burst."""
    monkeypatch.setattr(logs, "LARGEST", 1 << 14)
    loud = """
import time
os.write(2, b"first words\\n")
log = store.temporary(final) / "log.txt"
largest = 0
for burst in range(64):
    os.write(2, bytes([0xff, 27]) + b"[2J" + b"x" * (1 << 14))
    time.sleep(0.03)
    largest = max(largest, log.stat().st_size)
os.write(2, f"largest {largest}\\n".encode())
os._exit(9)
"""
    record = execute(loud, slots=1)[-1]["record"]
    text = (tmp_path / "s" / record.identity / "log.txt").read_bytes().decode()  # it is UTF-8
    assert text.startswith("first words")
    assert "crashed: the worker ended with exit code 9" in text
    assert "the middle of this log was left out" in text
    assert all(c.isprintable() or c == "\n" for c in text)
    largest = int(text.rpartition("largest ")[2].split()[0])
    assert largest < 64 * (1 << 14) / 2


def test_cells_for_which_a_sweep_has_no_time_are_skipped_rows(execute: Any, tmp_path: Path) -> None:
    events = execute("import time; time.sleep(0.6); finish()", cells=3, slots=1, sweep_seconds=0.5)
    told = [
        (event["record"].status, event["record"].reason)
        for event in events
        if event["event"] == "end"
    ]
    assert told == [("done", None)] + [("skipped", "the sweep's budget of 0.5 s was spent")] * 2
    assert len(list((tmp_path / "s").glob("*/log.txt"))) == 3
    again = execute("finish()", cells=3, slots=1)
    assert [event["record"].status for event in again if event["event"] == "end"] == ["done"] * 3


# --------------------------------------------------------------------------------------------------------- accelerators


def test_slots_of_accelerators_are_leased_and_given_back(
    execute: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two devices with two slots each: never more than two workers on one, each sees one device, and all are used."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-b")
    devices.visible.cache_clear()
    code = """
import time
seen = os.environ["CUDA_VISIBLE_DEVICES"]
log = final.parent.parent / "leases"
open(log, "a").write(json.dumps(["take", seen, job["device"]]) + chr(10))
time.sleep(0.3)
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


# ------------------------------------------------------------------------------------------------------ reuse of results


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
    """Deaf workers and half a minute of patience: the second Ctrl-C ends the patience."""
    monkeypatch.setattr(groups, "GRACE", 30.0)

    def interrupted(*arguments: Any) -> None:
        while len(list((tmp_path / "s").glob(".tmp-*/ready"))) < 2:
            time.sleep(0.02)
        threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT)).start()
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "_listen", interrupted)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        execute(
            IGNORES + "(store.temporary(final) / 'ready').touch()\ntime.sleep(600)",
            cells=3,
            slots=2,
        )
    assert time.monotonic() - started < 15
    assert list((tmp_path / "s").iterdir()) == []
    assert Path(f"/proc/self/task/{os.getpid()}/children").read_text() == ""
