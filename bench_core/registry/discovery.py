"""Strangers' plugin modules, imported in a process of their own: one that hangs, exits or crashes costs a line, not the command.

The request is JSON on the child's standard input: the entry points and this process's import path. On a duplicate of its
standard output the child says, line by line, that it is ready, which entry point it turns to, and what it brings; what plugins
print goes to standard error. Every entry point has `limit` seconds from the moment at which the child turns to it. Where the
child ends or is ended, what it was at is to blame, and another child takes up the rest.

Not before BENCH_PLUGIN_SECONDS (default 10) does a module count as hanging. What is heard are strings (components, the names
of observers), so that the asking process has run nothing of a stranger's; an observer's module is imported when it is called.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench_core.errors import PluginError, UsageError
from bench_core.processes import child
from bench_core.registry.component import Component
from bench_core.registry.entry_points import Door, Observer, Trouble
from bench_core.registry.reading import ask
from bench_core.registry.registry import Installed, Registry, base_class, resolve

SECONDS = "BENCH_PLUGIN_SECONDS"


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
    heard: list[Heard] = []
    request = {"path": sys.path, "doors": [asdict(door) for door in doors], "targets": targets}
    try:
        for answer in child.answers(__name__, request, seconds, each=True):
            heard.append(_heard(doors[len(heard)], answer))
    except child.ChildError as error:
        if len(heard) < len(doors):
            door = doors[len(heard)]
            hint = f"leave it out with BENCH_PLUGINS=…, or pip uninstall {door.distribution}"
            heard.append(Heard(door, troubles=[door.trouble(f"its import {error}; {hint}")]))
    return heard


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


def serve(request: dict[str, Any], say: Callable[[Any], None]) -> None:
    """Import the entry points of the request one by one; send what each brings."""
    sys.path[:] = request["path"]
    for given in request["doors"]:
        door, registry = Door(**given), Registry()
        started = time.perf_counter()
        before = "torch" in sys.modules
        ask(registry, door)
        seconds, torch = time.perf_counter() - started, not before and "torch" in sys.modules
        for item in registry.components if request["targets"] else ():
            try:
                resolve(item, base_class(item.kind))
            except PluginError as error:
                registry.troubles.append(
                    door.trouble(f"{item.kind} {item.component.name}: {error.reason}")
                )
        say(
            {
                "components": [(item.kind, asdict(item.component)) for item in registry.components],
                "troubles": [asdict(trouble) for trouble in registry.troubles],
                "observers": [
                    (observer.hook, observer.arguments) for observer in registry.observers
                ],
                "seconds": round(seconds, 3),
                "torch": torch,
            }
        )


if __name__ == "__main__":
    child.serve(serve)
