"""A clock that stands still while this machine sleeps, or this process is stopped or frozen."""

from __future__ import annotations

import time

LONGEST = 5.0  # seconds between two looks of a process that runs, on a busy machine too


class Clock:
    """Count the seconds from its start; of the time between two looks `LONGEST` at most.

    CLOCK_MONOTONIC alone does not do: it stands still in suspend, but not while a container is
    frozen, a virtual machine is halted or a process is stopped.
    """

    def __init__(self) -> None:
        self.seconds, self.looked = 0.0, time.monotonic()

    def __call__(self) -> float:
        """Look at the clock: return the seconds since its start."""
        now = time.monotonic()
        self.seconds += min(now - self.looked, LONGEST)
        self.looked = now
        return self.seconds
