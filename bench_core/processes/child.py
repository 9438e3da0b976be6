"""Run a Python module as a child process: one JSON request in, JSON lines of answers out.

The parent starts an interpreter in a session of its own, or forks one that has imported torch
(`bench_core.processes.forking`). The child has the parent's import path, so a plugin that a script
or a notebook found is found there too. The parent writes the request to standard input and reads
answers with a deadline (`ask`). `serve` is the child's side: it answers on a duplicate of standard
output and sends prints to standard error, whose end the parent keeps. The last line of a child is
either "end" or "problem", a user's mistake. A child that hangs or ends without such a line is a
`ChildError`. A child is always ended together with the processes that it started.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from bench_core.errors import BenchError, UsageError
from bench_core.printable import last_line
from bench_core.processes import forking, groups
from bench_core.units import MIB

GUARD = "bench_core.processes.guard"
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # torch asks for huge pages for tensors of 2 MiB and more
START = 60.0  # seconds for the interpreter and the module's own imports
LOOK = 0.2  # seconds between looks at the memory of a child
KEPT = 4096  # bytes of standard error, for the last line


class ChildError(Exception):
    """A child that hung or ended too early; the text reads "ended the process (exit code 3): …"."""


class ChildTimeoutError(ChildError):
    """A child that did not end within its time limit."""


def environment(threads: int = 1) -> dict[str, str]:
    """Return this process's environment for a child whose libraries use so many threads."""
    number = str(threads)
    return {
        HUGE_PAGES: "1",
        **os.environ,
        "OMP_NUM_THREADS": number,
        "MKL_NUM_THREADS": number,
        "PYTHONUNBUFFERED": "1",
    }


def start(
    module: str, *, env: Mapping[str, str], fork: bool = False, **options: Any
) -> groups.Process:
    """Start a module as a child in a session of its own; `options` go to `subprocess.Popen`.

    fork  the child needs torch, and not CUDA: fork it where that is possible

    The kernel kills the child when this process ends, or the thread that started it. The child's
    parent is a fork server or a guard (`bench_core.processes.guard`), never this process.
    """
    if fork and forking.possible(env):
        with contextlib.suppress(OSError):
            return forking.start(module, env=env, **options)
    return subprocess.Popen(
        forking.command(GUARD, str(os.getpid()), module), env=env,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, **options,
    )  # fmt: skip


def send(process: groups.Process, request: Any) -> None:
    """Write the request to the child's standard input; a child that has ended is no error here."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write(json.dumps(request).encode())


def ask(
    module: str,
    request: Any,
    seconds: float,
    *,
    each: bool = False,
    fork: bool = True,
    memory_mb: float | None = None,
) -> Iterator[Any]:
    """Run a module on a request and yield its answers.

    seconds    limit for the whole run; with `each`, for each answer after the one before it
    fork       as in `start`
    memory_mb  limit of its resident memory in MiB, with all that it started
    Raises ChildError if the child hangs or ends before its last line, UsageError if it sends a
    problem.
    """
    with start(module, env=environment(), fork=fork, stderr=subprocess.PIPE) as process:
        try:
            _must_fit(process, memory_mb)  # it lives until it has its request
            send(process, request)
            output = _Output(process, seconds, each, memory_mb)
            for line in output.lines():
                try:
                    kind, content = json.loads(line)
                except (ValueError, TypeError):
                    continue  # written by a plugin that guessed the descriptor
                if kind == "answer":
                    yield content
                elif kind == "problem":
                    raise UsageError(content)
                elif kind == "end":
                    return
            code = process.wait(seconds)
            assert process.stderr is not None
            os.set_blocking(process.stderr.fileno(), False)
            last = last_line(output.errors + (process.stderr.read() or b""))
            how = f"ended the process ({how_it_ended(code)})"
            raise ChildError(f"{how}: {last}" if last else how)
        except (TimeoutError, subprocess.TimeoutExpired):
            raise ChildTimeoutError(f"did not end within {seconds:g} s") from None
        finally:
            groups.end_groups([process])


def _must_fit(process: groups.Process, memory_mb: float | None) -> None:
    if memory_mb and groups.resident(process.pid) > memory_mb * MIB:
        raise ChildError(f"used more than {memory_mb:g} MiB of memory")


class _Output:
    """Read what a child prints until its standard output ends, or until its deadline.

    errors  the end of its standard error so far
    """

    def __init__(
        self, process: groups.Process, seconds: float, each: bool, memory_mb: float | None
    ) -> None:
        """Take the limits of `ask`."""
        self.process, self.seconds, self.each, self.memory_mb = process, seconds, each, memory_mb
        self.deadline = time.monotonic() + (START if each else seconds)
        self.errors = b""

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of standard output; with `each`, every line moves the deadline.

        Raises TimeoutError at the deadline, ChildError for too much memory.
        """
        rest = b""
        for chunk in self._chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line
                if self.each:
                    self.deadline = time.monotonic() + self.seconds

    def _chunks(self) -> Iterator[bytes]:
        with selectors.DefaultSelector() as selector:
            for pipe in (self.process.stdout, self.process.stderr):
                assert pipe is not None
                selector.register(pipe, selectors.EVENT_READ)
            while True:
                for key in self._ready(selector):
                    chunk = os.read(key.fd, 1 << 16)
                    if key.fileobj is self.process.stdout:
                        if not chunk:
                            return
                        yield chunk
                        continue
                    self.errors = (self.errors + chunk)[-KEPT:]
                    if not chunk:
                        selector.unregister(key.fileobj)

    def _ready(self, selector: selectors.BaseSelector) -> list[selectors.SelectorKey]:
        """Wait for output, and return the pipes that have some."""
        left = max(0.0, self.deadline - time.monotonic())
        ready = selector.select(left if self.memory_mb is None else min(left, LOOK))
        if time.monotonic() > self.deadline or not (ready or self.memory_mb):
            raise TimeoutError
        _must_fit(self.process, self.memory_mb)
        return [key for key, _ in ready]


def how_it_ended(code: int) -> str:
    """Describe a return code: "exit code 3" or "killed by SIGSEGV"."""
    return f"killed by {groups.signal_name(-code)}" if code < 0 else f"exit code {code}"


def channel() -> Callable[[Any], None]:
    """Return a function that sends the parent a line of JSON; redirect prints to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(value: Any) -> None:
        out.write(json.dumps(value) + "\n")
        out.flush()

    return say


def serve(work: Callable[[Any, Callable[[Any], None]], None]) -> NoReturn:
    """Carry out the parent's request in this child process, then exit.

    work  called with the request and a function that sends one answer; its BenchError becomes the
          parent's UsageError
    """
    say = channel()
    say(("ready", None))
    try:
        work(json.load(sys.stdin), lambda answer: say(("answer", answer)))
        say(("end", None))
    except BenchError as error:
        say(("problem", str(error)))
    os._exit(0)  # a plugin's threads and exit handlers must not hold it up
