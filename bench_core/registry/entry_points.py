"""List the entry points of installed plugins, and the hooks that their modules implement."""

from __future__ import annotations

import inspect
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

import pluggy

from bench_core.errors import did_you_mean
from bench_core.names import FILE, GROUP, OURS
from bench_core.printable import brief
from bench_core.registry import hookspecs
from bench_core.registry.distributions import is_ours, name_and_version, normalised, titled

ALLOWED = "BENCH_PLUGINS"


@dataclass(frozen=True)
class Trouble:
    """A fault of one plugin; the other plugins still work."""

    distribution: str
    version: str
    entry_point: str
    reason: str

    def __str__(self) -> str:
        if not self.version:  # of a name that no distribution has
            return f"{self.distribution}: {self.reason}"
        return f"{titled(self.distribution, self.version)} ({self.entry_point}): {self.reason}"


@dataclass(frozen=True)
class EntryPoint:
    """An entry point of the group `bench_core.plugins`, and the distribution that brought it."""

    distribution: str
    version: str
    name: str
    value: str

    @property
    def is_file(self) -> bool:
        """Whether a rule file stands for the distribution (`bench_core.registry.rule_files`)."""
        return self.distribution.endswith(FILE)

    @property
    def module_name(self) -> str:
        return self.value.partition(":")[0].partition("[")[0].strip()

    def module(self) -> Any:
        """Import the plugin module. Raises whatever its code raises."""
        return metadata.EntryPoint(self.name, self.value, GROUP).load()

    def trouble(self, reason: str) -> Trouble:
        return Trouble(self.distribution, self.version, self.name, reason)


@dataclass(frozen=True)
class Observer:
    """One implementation of an observer hook; its module is imported at the first call.

    arguments  the hook's arguments that it takes; as everywhere in pluggy, it may leave out some
    place      among the implementations of the hook in its module
    """

    hook: str
    entry_point: EntryPoint
    arguments: tuple[str, ...]
    place: int = 0

    def __call__(self, **arguments: Any) -> str | None:
        """Call it; return what is wrong with its answer (`never_run`)."""
        implementation = hooks_of(self.entry_point)[self.hook][self.place]
        return never_run(implementation.function(*(arguments[name] for name in self.arguments)))


def never_run(answer: Any) -> str | None:
    """Say that a hook returned a coroutine or a generator, and the form that works."""
    if not (
        inspect.isawaitable(answer) or inspect.isgenerator(answer) or inspect.isasyncgen(answer)
    ):
        return None
    if inspect.iscoroutine(answer):
        answer.close()  # Python would print that nobody awaited it
    kind, form = (
        type(answer).__name__,
        "write a plain function that has done its work when it returns",
    )
    return f"returned a {kind}, whose body never runs: {form}"


@cache
def hooks_of(point: EntryPoint) -> dict[str, list[pluggy.HookImpl]]:
    """Import a plugin module and return hook → implementations.

    Raises pluggy's PluginValidationError if an implementation fits no hook.
    """
    manager = pluggy.PluginManager("bench_core")
    manager.add_hookspecs(hookspecs)
    module = point.module()
    manager.register(module, name=point.name)
    manager.check_pending()
    return {caller.name: caller.get_hookimpls() for caller in manager.get_hookcallers(module) or ()}


def of_file(name: str) -> EntryPoint:
    """Return the entry point that stands for a rule file of this name on the import path."""
    module = name.removesuffix(FILE)
    return EntryPoint(name, "0", module, module)


def installed(only: Iterable[str] | None = None) -> tuple[list[EntryPoint], list[Trouble]]:
    """Return the entry points of allowed distributions, ours first, and the faults of metadata.

    only  normalised names of distributions; None: all that BENCH_PLUGINS allows
    A distribution that stands on the path twice counts once, at its first place, as for imports.
    """
    points: dict[str, list[EntryPoint]] = {}
    troubles = []
    for distribution in metadata.distributions():
        try:
            own = [
                EntryPoint(*name_and_version(point), point.name, point.value)
                for point in distribution.entry_points.select(group=GROUP)
            ]
        except Exception as error:
            place = str(getattr(distribution, "_path", "unknown"))
            reason = f"its metadata cannot be read: {brief(error)}"
            troubles.append(Trouble(place, "?", "?", reason))
            continue
        if not own:
            continue
        name = own[0].distribution
        if name == OURS and not is_ours(distribution):
            value = own[0].value[:80]
            reason = f"calls itself {OURS}, but its entry point is {value!r}; not loaded"
            troubles.append(own[0].trouble(reason))
        elif only is None or name in only:
            points.setdefault(name, own)
    allowed = _allowed()
    if allowed is not None:
        missing = sorted(allowed - points.keys()) if only is None else []
        troubles += [Trouble(name, "", "", _lacking(name, points.keys())) for name in missing]
        points = {name: own for name, own in points.items() if name in allowed | {OURS}}
    listed = [point for own in points.values() for point in own]
    listed.sort(key=lambda p: (p.distribution != OURS, p.distribution, p.version, p.name, p.value))
    return listed, troubles


def _lacking(name: str, known: Collection[str]) -> str:
    """Say that a name in BENCH_PLUGINS is no distribution with plugins, and which may be meant."""
    own = sorted(set(known) - {OURS})
    near = next((each for each in own if each.removeprefix("bench-") == name), "")
    hint = f"did you mean {near}?" if near else did_you_mean(name, own)
    text = f"{ALLOWED} names it, but no installed distribution of this name has a plugin"
    return "; ".join(filter(None, [text, hint]))


def _allowed() -> set[str] | None:
    """Return the distributions that BENCH_PLUGINS names; None if it is not set."""
    names = os.environ.get(ALLOWED)
    if names is None:
        return None
    return {normalised(name.strip()) for name in names.split(",") if name.strip()}
