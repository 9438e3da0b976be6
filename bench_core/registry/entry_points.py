"""Describe the entry points of plugins and the hooks that their modules implement."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

import pluggy

from bench_core.registry import hookspecs

GROUP = "bench_core.plugins"


OBSERVERS = (
    "bench_suite_start",
    "bench_cell_start",
    "bench_epoch_end",
    "bench_cell_end",
    "bench_suite_end",
)


@dataclass(frozen=True)
class Trouble:
    """What is wrong with a plugin; it does not stop the others."""

    distribution: str
    version: str
    entry_point: str
    what: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version} ({self.entry_point}): {self.what}"


@dataclass(frozen=True)
class Door:
    """An entry point and the distribution that brought it."""

    distribution: str
    version: str
    name: str
    value: str

    def module(self) -> Any:
        """Import it. Raises whatever its code raises."""
        return metadata.EntryPoint(self.name, self.value, GROUP).load()

    def trouble(self, what: str) -> Trouble:
        return Trouble(self.distribution, self.version, self.name, what)


@dataclass(frozen=True)
class Observer:
    """One implementation of an observer hook; its module is imported when it is first called."""

    hook: str
    door: Door
    # the subset of the hook's arguments that it takes, as everywhere in pluggy
    arguments: tuple[str, ...]

    def __call__(self, **arguments: Any) -> None:
        function = next(each.function for each in hooks_of(self.door)[self.hook])
        function(*(arguments[name] for name in self.arguments))


@cache
def hooks_of(door: Door) -> dict[str, list[pluggy.HookImpl]]:
    """Hook → its implementations in the plugin's module. Raises PluginValidationError where one is misspelt."""
    manager = pluggy.PluginManager("bench_core")
    manager.add_hookspecs(hookspecs)
    module = door.module()
    manager.register(module, name=door.name)
    manager.check_pending()
    return {caller.name: caller.get_hookimpls() for caller in manager.get_hookcallers(module) or ()}
