"""Strangers' plugin modules, imported in a process of their own: one that hangs, exits or crashes costs a line, not the command.

The request is JSON on the child's standard input: the entry points and this process's import path. On a duplicate of its
standard output the child says, line by line, that it is ready, which entry point it turns to, and what it brings; what plugins
print goes to standard error. Every entry point has `limit` seconds from the moment at which the child turns to it. Where the
child ends or is ended, what it was at is to blame, and another child takes up the rest.

Not before BENCH_PLUGIN_SECONDS (default 10) does a module count as hanging. What is heard are strings (components, the names
of observers), so that the asking process has run nothing of a stranger's; an observer's module is imported when it is called.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench_core.errors import PluginError, UsageError
from bench_core.printable import last_line
from bench_core.processes.groups import end_groups
from bench_core.registry.component import Component
from bench_core.registry.entry_points import Door, Observer, Trouble
from bench_core.registry.reading import ask
from bench_core.registry.registry import Installed, Registry, resolve

SECONDS = "BENCH_PLUGIN_SECONDS"
START = 60.0  # seconds for Python itself to start
KEPT = 4096  # bytes of standard error, for the last line


@dataclass
class Heard:
    """What came of one entry point.

    seconds  that its import took; None where it did not end
    torch    whether importing the module loaded torch, which makes every `bench` command slow
    """

    door: Door
    components: list[Installed] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    observers: list[Observer] = field(default_factory=list)
    seconds: float | None = None
    torch: bool = False


def limit(default: float = 10.0) -> float:
    """Seconds that the import of a plugin may take. Raises UsageError where the environment has no number."""
    told = os.environ.get(SECONDS, str(default))
    try:
        seconds = float(told)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise UsageError(f"{SECONDS}={told!r} is no positive number of seconds")
    return seconds


def examine(
    doors: Sequence[Door], seconds: float | None = None, targets: bool = False
) -> list[Heard]:
    """Import each plugin module in a child process and hear what it brings.

    seconds  for each; default: BENCH_PLUGIN_SECONDS, else 10
    targets  import what the components name as well
    """
    allowed = limit() if seconds is None else seconds
    heard: list[Heard] = []
    while len(heard) < len(doors):
        heard += _examine(doors[len(heard) :], allowed, targets)
    return heard


def _examine(doors: Sequence[Door], seconds: float, targets: bool) -> list[Heard]:
    """What one child says of the first of `doors`: all of them, or as far as it gets and why it ended there."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "bench_core.registry.discovery"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    errors = bytearray()
    heard: list[Heard] = []
    how = f"did not finish its import within {seconds:g} s"
    try:
        assert child.stdin is not None
        request = {"path": sys.path, "doors": [asdict(door) for door in doors], "targets": targets}
        try:
            child.stdin.write(json.dumps(request).encode())
            child.stdin.close()
        except BrokenPipeError:
            pass  # it ended at once: its exit code and last words are told below
        for line in lines(child, seconds, errors):
            told = json.loads(line)
            if "door" in told:
                heard.append(_heard(doors[len(heard)], told))
        if len(heard) < len(doors):
            child.wait()
            code = child.returncode
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            how = f"ended the process that imported it ({how})"
            how += f": {last}" if (last := last_line(bytes(errors))) else ""
    except TimeoutError:
        pass
    finally:
        end_groups([child])  # and whatever a plugin started there
    if len(heard) < len(doors):
        door = doors[len(heard)]
        hint = f"leave it out with BENCH_PLUGINS=…, or pip uninstall {door.distribution}"
        heard.append(Heard(door, troubles=[door.trouble(f"{how}; {hint}")]))
    return heard


def lines(child: subprocess.Popen[bytes], seconds: float, errors: bytearray) -> Iterator[str]:
    """The lines of the child's standard output until it ends; `errors` keeps the end of the other.

    Raises TimeoutError where no line came for `seconds`.
    """
    assert child.stdout is not None
    assert child.stderr is not None
    with selectors.DefaultSelector() as waiting:
        waiting.register(child.stdout, selectors.EVENT_READ)
        waiting.register(child.stderr, selectors.EVENT_READ)
        deadline = time.monotonic() + START
        rest = b""
        while waiting.get_map():
            ready = waiting.select(max(0.0, deadline - time.monotonic()))
            if not ready or time.monotonic() > deadline:
                raise TimeoutError
            for key, _ in ready:
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    waiting.unregister(key.fileobj)
                    if key.fileobj is child.stdout:
                        return
                elif key.fileobj is child.stderr:
                    errors += chunk
                    del errors[:-KEPT]
                else:
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        deadline = time.monotonic() + seconds
                        yield line.decode()


def _heard(door: Door, told: dict[str, Any]) -> Heard:
    return Heard(
        door,
        [
            Installed(kind, Component(**given), door.distribution, door.version)
            for kind, given in told["components"]
        ],
        [Trouble(**each) for each in told["troubles"]],
        [Observer(hook, door, tuple(arguments)) for hook, arguments in told["observers"]],
        told["seconds"],
        told["torch"],
    )


def main() -> None:
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what plugins print must not spoil the answer
    request = json.load(sys.stdin)
    sys.path[:] = request["path"]

    def say(**more: Any) -> None:
        channel.write(json.dumps(more) + "\n")
        channel.flush()

    say(ready=True)
    for given in request["doors"]:
        door, registry = Door(**given), Registry()
        started = time.perf_counter()
        before = "torch" in sys.modules
        ask(registry, door)
        seconds, torch = time.perf_counter() - started, not before and "torch" in sys.modules
        for item in registry.components if request["targets"] else ():
            from bench_core.registry.registry import base_class

            try:
                resolve(item, base_class(item.kind))
            except PluginError as error:
                registry.troubles.append(
                    door.trouble(f"{item.kind} {item.component.name}: {error.reason}")
                )
        say(
            door=door.name,
            components=[(item.kind, asdict(item.component)) for item in registry.components],
            troubles=[asdict(trouble) for trouble in registry.troubles],
            observers=[(observer.hook, observer.arguments) for observer in registry.observers],
            seconds=round(seconds, 3),
            torch=torch,
        )
    os._exit(0)  # a plugin's threads or exit handlers have no say


if __name__ == "__main__":
    main()
