"""Child processes in sessions of their own: how they are ended, and what their output said last."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence

GRACE = 3.0  # seconds between asking a process group to end and killing it


def end_groups(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End whole process groups, all asked at once, those that are still there after a moment killed, and reap their leaders.

    An interrupt meanwhile (a second Ctrl-C) ends the patience, not the ending.
    """
    alive = [process for process in processes if _signal(process, signal.SIGTERM)]
    try:
        deadline = time.monotonic() + GRACE
        while alive and time.monotonic() < deadline:
            time.sleep(0.02)
            for process in alive:
                process.poll()  # a zombie counts as a member of its group
            alive = [process for process in alive if _signal(process, 0)]
    except KeyboardInterrupt:
        pass
    for process in alive:
        _signal(process, signal.SIGKILL)
    for process in processes:
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> bool:
    """Send a signal to the group; False where there is nobody left."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def last_line(output: bytes) -> str:
    """The last line of an output, where Python puts what went wrong, in printable characters."""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return "".join(c if c.isprintable() else "?" for c in lines[-1])[:200] if lines else ""
