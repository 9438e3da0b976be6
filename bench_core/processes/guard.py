"""Stand between a started child and its starter: `guard STARTER MODULE` runs its `main` in a fork.

A plugin that kills its parent process kills this one, not the command. If this process or its
starter is killed, the kernel kills the child. Its end is this process's: the same exit code or
signal.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import signal
import sys
from typing import NoReturn

from bench_core.processes.forking import die_with


def main() -> None:
    starter, name = int(sys.argv[1]), sys.argv[2]
    die_with(starter)
    guard = os.getpid()
    if child := os.fork():
        _wait(child)
    die_with(guard)
    module = importlib.import_module(name)
    sys.argv[:] = [module.__file__ or ""]
    module.main()


def _wait(child: int) -> NoReturn:
    """Wait for the child without holding its descriptors, and end as it does."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the child has them, too, and time to end
    proc = "/proc/self/fd"
    for name in os.listdir(proc) if os.path.isdir(proc) else map(str, range(256)):
        with contextlib.suppress(OSError):
            os.close(int(name))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the child has left its own
        with contextlib.suppress(OSError, ValueError):  # of SIGKILL there is no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 1)


if __name__ == "__main__":
    main()
