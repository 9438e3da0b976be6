"""Fork children from a server that has imported torch, instead of starting interpreters.

A fresh interpreter imports torch for seconds; a fork of the server begins in milliseconds. The
server is one single-threaded process per caller, environment and limits. It imports torch and the
modules of its children, but no plugin; it has no thread pool and no CUDA; it ends with its caller.
A child is as isolated as one that was started: a session, descriptors, environment and folder of
its own, and an exit code. Each child gets the import path that its caller has when it starts the
child.

The standard library's fork server is not used: its children import the caller's main script, and
they take neither descriptors nor a session of their own.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import errno
import fcntl
import gc
import importlib
import json
import os
import random
import re
import resource
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from importlib.metadata import MetadataPathFinder
from pathlib import Path
from typing import IO, Any, NoReturn

SWITCH = "BENCH_FORK"  # 0 in the environment: start an interpreter for every child
MARK = "BENCH_WORKER"  # environment variable of a worker and of all processes that it starts
UNMARKED = "0" * 16
# variables that an interpreter, torch or a library for arrays reads when it is loaded
EARLY = re.compile(
    "PYTHON|LD_|LANG|LC_|TZ|MALLOC_|OMP_|GOMP_|KMP_|MKL_|DNNL_|ONEDNN_|OPENBLAS_|NUMEXPR_|ATEN_|TORCH|"
    "PYTORCH|CUDA|NVIDIA_|THP_"
)
MESSAGE = 1 << 17  # bytes of a request at most
# a program that runs a module as `python -m` does, with another import path
RUN = "import json, runpy, sys; _, path, module = sys.argv[:3]; sys.path[:] = json.loads(path); "
RUN += "del sys.argv[:2]; runpy.run_module(module, run_name='__main__', alter_sys=True)"


class Forked:
    """A forked child, with the interface of `subprocess.Popen` that its callers use.

    parent              process id of the server
    killed_with_server  whether the server ended before the child, which the kernel then killed
    """

    def __init__(self, server: Server, pid: int, status: int, pipes: Sequence[int]) -> None:
        self.server, self.parent, self.pid = server, server.process.pid, pid
        self.status: int = status
        self.returncode: int | None = None
        self.killed_with_server = False
        self.stdin: IO[bytes] | None = os.fdopen(pipes[0], "wb")
        self.stdout: IO[bytes] | None = os.fdopen(pipes[1], "rb")
        self.stderr: IO[bytes] | None = os.fdopen(pipes[2], "rb") if len(pipes) > 2 else None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the child runs."""
        if self.returncode is None and select.select([self.status], [], [], 0)[0]:
            code = os.read(self.status, 16)
            os.close(self.status)
            self.server.children.discard(self)
            self.killed_with_server = not code
            self.returncode = -signal.SIGKILL if self.killed_with_server else int(code)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code. Raises subprocess.TimeoutExpired."""
        if self.returncode is None and not select.select([self.status], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        code = self.poll()
        assert code is not None
        return code

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *error: object) -> None:
        for pipe in (self.stdout, self.stderr, self.stdin):
            if pipe is not None:
                pipe.close()
        self.wait()


class Server:
    """The caller's side of a fork server.

    children  those that have not been seen to end
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.children: set[Forked] = set()
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                command(__name__, str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[theirs.fileno()],
                env={**environ, MARK: UNMARKED, "PYTHONUNBUFFERED": "1"},
            )

    def fork(self, request: bytes, descriptors: list[int]) -> int:
        """Return the process id of a new child. Raises OSError."""
        try:
            socket.send_fds(self.socket, [request], descriptors)
            answer = int(self.socket.recv(16) or 0)
        except BaseException:  # an interrupt too: it must leave no child that nobody knows
            self.close()
            raise
        if answer <= 0:
            raise OSError(-answer, os.strerror(-answer))
        return answer

    def close(self) -> None:
        """End the server and its children."""
        self.socket.close()
        self.process.kill()
        self.process.wait()


_servers: dict[Any, Server] = {}
_lock = threading.Lock()


def import_path() -> list[str]:
    """Return this process's `sys.path`, then PYTHONPATH, for a process in another folder.

    An entry that is no path is a mark of an import hook and stays as it is.
    """
    later = os.environ.get("PYTHONPATH", "").split(os.pathsep)  # it may be set for children only
    entries = [entry for entry in sys.path if isinstance(entry, str)] + [*filter(None, later)]
    hooks = [entry for entry in entries if entry and not os.path.exists(entry)]
    paths = [entry if entry in hooks else os.path.abspath(entry) for entry in entries]
    return list(dict.fromkeys(paths))


def command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module in an interpreter with this process's import path."""
    return [sys.executable, "-P", "-c", RUN, json.dumps(import_path()), module, *arguments]


def possible(environ: Mapping[str, str]) -> bool:
    """Test whether children can be forked here."""
    return sys.platform == "linux" and environ.get(SWITCH) != "0"


def start(
    module: str,
    *,
    env: Mapping[str, str],
    stderr: int | IO[bytes],
    pass_fds: Sequence[int] = (),
    cwd: str | None = None,
) -> Forked:
    """Call `main()` of a module in a forked child. Leaves nothing if it raises OSError.

    The options are those of `subprocess.Popen`; standard input and output are pipes.
    """
    targets = [0, 1, 2, *pass_fds]
    content = {
        "module": module,
        "env": dict(env),
        "path": import_path(),
        "cwd": cwd or os.getcwd(),
        "to": targets,
    }
    request = json.dumps(content).encode()
    if len(request) > MESSAGE:  # the environment of some clusters
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
    with _lock:
        server = _server(env)
        pipes = [os.pipe() for _ in range(4 if stderr == subprocess.PIPE else 3)]
        ours = [pipes[0][0], pipes[1][1], *(read for read, _ in pipes[2:])]
        theirs = [pipes[0][1], pipes[1][0], *(write for _, write in pipes[2:])]
        error = theirs[3] if stderr == subprocess.PIPE else stderr
        error = error if isinstance(error, int) else error.fileno()
        sent = [theirs[0], theirs[1], theirs[2], error, *pass_fds]
        try:
            pid = server.fork(request, sent)
        except BaseException:
            for descriptor in ours:
                os.close(descriptor)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        child = Forked(server, pid, ours[0], ours[1:])
        server.children.add(child)
        return child


def _server(environ: Mapping[str, str]) -> Server:
    """Return the server of this process for an environment; end those that have nothing to do."""
    early = {name: value for name, value in environ.items() if EARLY.match(name)}
    key = (os.getpid(), sys.executable, _inherited(), *sorted(early.items()))
    server = _servers.get(key)
    if server is not None and server.process.poll() is None:
        return server
    for other, idle in list(_servers.items()):
        if other[0] == os.getpid() and not any(c.poll() is None for c in list(idle.children)):
            _servers.pop(other).close()
    if not _servers:
        atexit.register(_close_all)
    _servers[key] = Server(environ)
    return _servers[key]


def _inherited() -> tuple[Any, ...]:
    """Return what a server had from this process when it began: umask, limits, cores, priority."""
    status = Path("/proc/self/status").read_text()
    umask = next((line for line in status.splitlines() if line.startswith("Umask")), "")
    kinds = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
    limits = tuple(resource.getrlimit(kind) for kind in kinds)
    cores = tuple(sorted(os.sched_getaffinity(0)))
    return umask, limits, cores, os.getpriority(os.PRIO_PROCESS, 0)


def _close_all() -> None:
    for key, server in _servers.items():
        if key[0] == os.getpid():
            server.close()


# ------------------------------------------------------------------------------ the server's side


def main() -> NoReturn:
    """Fork a child for every request until the caller is gone."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    ended, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    import torch  # noqa: F401

    statuses: dict[int, int] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == ended:
                    os.read(ended, 4096)
                    _report(statuses)
                    continue
                message, descriptors, *_ = socket.recv_fds(connection, MESSAGE, 32)
                if not message:
                    os._exit(0)
                pid = _fork(json.loads(message), descriptors)
                if pid > 0:
                    statuses[pid] = descriptors[0]
                connection.send(str(pid).encode())


def _report(statuses: dict[int, int]) -> None:
    """Send the exit codes of the children that have ended; process id → descriptor."""
    for pid in list(statuses):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            descriptor = statuses.pop(pid)
            with contextlib.suppress(OSError):  # nobody may read it any more
                os.write(descriptor, str(os.waitstatus_to_exitcode(status)).encode())
            os.close(descriptor)


def _fork(request: dict[str, Any], descriptors: list[int]) -> int:
    """Return the child's process id, or the negative number of an error."""
    server = os.getpid()
    pipe: tuple[int, ...] = ()
    try:
        if request["module"] not in sys.modules:
            importlib.import_module(request["module"])
            gc.freeze()  # a collection in a child would copy the pages that it marks
        pipe = begun, mine = os.pipe()
        pid = os.fork()
    except (Exception, SystemExit) as error:  # the caller will start an interpreter, which says it
        for descriptor in pipe:
            os.close(descriptor)
        return -(getattr(error, "errno", None) or errno.ENOEXEC)
    if pid == 0:
        _run(request, descriptors[1:], server, mine)
    os.close(mine)
    os.read(begun, 1)  # until the child leads its group: before, no signal to the group reaches it
    for descriptor in (begun, *descriptors[1:]):
        os.close(descriptor)
    return pid


def _run(request: dict[str, Any], descriptors: list[int], server: int, begun: int) -> NoReturn:
    """Call the module's `main` in this new child, and exit.

    begun  closed when the child leads a session
    """
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.close(begun)
        _place(descriptors, request["to"])
        die_with(server)
        _set_environment(request["env"])
        os.chdir(request["cwd"])
        sys.path[:] = request["path"]
        sys.argv[:] = [sys.modules[request["module"]].__file__ or ""]
        _draw_anew()
        importlib.invalidate_caches()
        # before Python 3.12 that leaves archives whose descriptors `_place` has closed
        MetadataPathFinder().invalidate_caches()
        sys.modules[request["module"]].main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _place(descriptors: list[int], targets: list[int]) -> None:
    """Give the descriptors their numbers, and close all others."""
    above = max(targets) + 1
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, above) for descriptor in descriptors]
    for descriptor, target in zip(moved, targets, strict=True):
        os.dup2(descriptor, target)
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in targets:
            try:
                os.close(int(name))
            except OSError:
                continue  # the listing's own


def _set_environment(variables: dict[str, str]) -> None:
    """Replace the environment; write the mark where the kernel shows it in /proc."""
    mark = variables.get(MARK, UNMARKED).encode()
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    ctypes.memmove(getenv(MARK.encode()), mark, len(UNMARKED))
    os.environ.clear()
    os.environ.update(variables)


def _draw_anew() -> None:
    """Give the global generators other states than the server's, as in a fresh interpreter."""
    import numpy
    import torch

    random.seed()
    numpy.random.seed()
    torch.seed()


def die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends; Linux only."""
    if sys.platform != "linux":
        return
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call
        os._exit(1)


if __name__ == "__main__":
    main()
