"""Call the observers and the display of a run in threads of their own, so that no cell waits.

The thread of the executor only puts the calls into a queue. An observer that is slow, or changes
the folder, the umask or the limits of its process, disturbs no other; one that does not return is
left behind at the end of the run.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import resource
import sys
import threading
import time
from collections.abc import Callable

from bench_core.printable import brief

MOST = 10_000  # calls that may wait; beyond, calls that may be left out are
PATIENCE = 600.0  # seconds for one call, once the run waits for it
HASTE = 2.0  # the same after an error or an interrupt
CLONE_FS = 0x200
LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]

Call = Callable[[], object]


class Listener:
    """A thread that makes calls in the order in which it gets them.

    name      returns the name of what is called, for warnings
    warn      gets a line for a call that raised and for calls that were left out
    patience  seconds that one call may take, once the run waits for it
    """

    def __init__(
        self, name: Callable[[], str], warn: Callable[[str], None], patience: float = PATIENCE
    ) -> None:
        self.name, self.warn, self.patience = name, warn, patience
        self.calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self.made = 0
        self.left_out = self.abandoned = False
        self.streams = sys.stdout, sys.stderr
        self.thread = threading.Thread(target=self._work, args=[_restorer()], daemon=True)

    def __enter__(self) -> Listener:
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Wait until all calls are made; raises nothing but KeyboardInterrupt."""
        patience = self.patience if kind is None else HASTE
        made, since = self.made, time.monotonic()
        self.calls.put(None)
        while self.thread.is_alive():
            self.thread.join(0.1)
            if self.made != made:
                made, since = self.made, time.monotonic()
            elif time.monotonic() - since > patience:
                self.abandoned = True
                sys.stdout, sys.stderr = self.streams  # the call may have redirected them
                self.warn(f"{self.name()} did not return within {patience:g} s; left behind")
                return

    def call(self, function: Call, may_be_left_out: bool = False) -> None:
        """Let the thread make a call."""
        if not may_be_left_out or self.calls.qsize() < MOST:
            self.calls.put(function)
        elif not self.left_out:
            self.left_out = True
            self.warn(f"{self.name()} is {MOST:,} events behind; it does not get every epoch")

    def _work(self, restore: Call) -> None:
        with contextlib.suppress(AttributeError, OSError):  # Linux has it, and may refuse it
            ctypes.CDLL(None).unshare(CLONE_FS)
        while (function := self.calls.get()) is not None and not self.abandoned:
            try:
                function()
            except BaseException as error:  # its own KeyboardInterrupt too
                self.warn(f"{self.name()} raised {brief(error)}")
            restore()
            self.made += 1


def _restorer() -> Call:
    """Return a function that restores the folder, the umask and the limits of this moment."""
    home, mask = os.getcwd(), os.umask(0)
    os.umask(mask)
    limits = {kind: resource.getrlimit(kind) for kind in LIMITS}

    def restore() -> None:
        os.umask(mask)
        with contextlib.suppress(OSError):
            os.chdir(home)
        for kind, limit in limits.items():
            with contextlib.suppress(OSError, ValueError):  # a hard limit that was lowered
                if resource.getrlimit(kind) != limit:
                    resource.setrlimit(kind, limit)

    return restore
