"""Child processes in sessions of their own: what they use, how they are ended, and what their output said last.

A process that a worker started may leave its group (a daemon does). It is found by a mark in its environment, which a child
inherits; where there is no /proc, only the group is found.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

GRACE = 2.0  # seconds between asking a process group to end and killing it
MARK = "BENCH_WORKER"  # environment variable that a worker and whatever it starts carry
PROC = Path("/proc")


def end_groups(processes: Sequence[subprocess.Popen[bytes]], grace: float | None = None) -> bool:
    """End whole process groups, all asked at once, those that are still there after a moment killed, and reap their leaders.

    An interrupt meanwhile (a second Ctrl-C) ends the patience, not the ending. Returns whether there was none.
    """
    patient = True
    alive = [process for process in processes if signal_group(process, signal.SIGTERM)]
    try:
        deadline = time.monotonic() + (GRACE if grace is None else grace)
        while alive and time.monotonic() < deadline:
            time.sleep(0.02)
            for process in alive:
                process.poll()  # a zombie counts as a member of its group
            alive = [process for process in alive if signal_group(process, 0)]
    except KeyboardInterrupt:
        patient = False
    for process in alive:
        signal_group(process, signal.SIGKILL)
    for process in processes:
        process.wait()
    return patient


def signal_group(process: subprocess.Popen[bytes], number: int) -> bool:
    """Send a signal to the group; False where there is nobody left."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill_marked(mark: str) -> None:
    """Kill every process whose environment carries the mark, whatever group it is in by now, and see it go."""
    alive = _marked(mark)
    deadline = time.monotonic() + GRACE
    while alive and time.monotonic() < deadline:
        for pid in alive:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
        alive = _marked(mark)


def _marked(mark: str) -> list[int]:
    """Living processes with the mark; a zombie's environment is empty."""
    wanted, found = f"{MARK}={mark}".encode(), []
    with contextlib.suppress(OSError):
        for folder in PROC.iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    if wanted in (folder / "environ").read_bytes().split(b"\0"):
                        found.append(int(folder.name))
    return found


def resident(pid: int) -> int:
    """Resident bytes of a process and its descendants, shared pages once per process; 0 where that cannot be known."""
    page = os.sysconf("SC_PAGE_SIZE")
    return sum(_number(PROC / str(each) / "statm", 1) * page for each in family(pid))


def proportional(pid: int) -> int:
    """The same with shared pages divided among those who share them: exact, and slower to ask."""
    total = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            for line in (PROC / str(each) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total or resident(pid)


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            for task in (PROC / str(each) / "task").iterdir():
                with contextlib.suppress(OSError):
                    found += map(int, (task / "children").read_text().split())
    return found


def killed_by_kernel() -> int:
    """How often this machine, or the container we are in, killed a process for want of memory."""
    counts = 0
    for path in (PROC / "vmstat", Path("/sys/fs/cgroup/memory.events")):
        with contextlib.suppress(OSError):
            counts += sum(
                int(line.split()[1])
                for line in path.read_text().splitlines()
                if line.startswith("oom_kill ")
            )
    return counts


def _number(path: Path, field: int) -> int:
    try:
        return int(path.read_text().split()[field])
    except (OSError, ValueError, IndexError):
        return 0
