"""Finds plugins, records who brought what, and fences off the broken.

pluggy's own loader lets one bad import end the host, drops a second entry point of the same name without a word, and lets one
raising implementation abort a hook call. So every entry point is loaded, checked and asked on its own, with Exception and
SystemExit caught, and whatever goes wrong becomes a `Trouble` row: a warning where the suite does not use the plugin, an error
before any training where it does.

A module can also hang, or end the process that imports it, which nothing in that process can catch. So a command imports ours and
asks a child process about everybody else's (`bench_core.isolation`); what it hears is strings. Workers, which are processes
of their own, import the modules of the distributions that their cell uses (`load_for`), and nobody else's.

Built-ins come through the same door. They cannot be replaced: a short name means the built-in component if there is one; a
stranger's component of that name is reached as `distribution/name`, and said to clash.

BENCH_PLUGINS=NAME,NAME in the environment lets in these distributions only, beside the built-ins; empty: none.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module, metadata
from types import ModuleType
from typing import Any, Literal, get_args

import pluggy

from bench_core import hookspecs
from bench_core.api import API_VERSION, Component
from bench_core.errors import PluginError, UsageError, did_you_mean
from bench_core.logs import Harmless

GROUP = "bench_core.plugins"
OURS = "bench-core"
ALLOWED = "BENCH_PLUGINS"
NAME = re.compile(r"[a-z0-9]([a-z0-9_.-]{0,62}[a-z0-9])?")
MOST = 10_000

Kind = Literal["method", "arch", "dataset", "diagnostic", "executor"]
KINDS: tuple[Kind, ...] = get_args(Kind)
OBSERVERS = ("bench_suite_start", "bench_cell_start", "bench_epoch_end", "bench_cell_end", "bench_suite_end")


@dataclass(frozen=True)
class Installed:
    """A component and the distribution that brought it."""

    kind: Kind
    component: Component
    distribution: str
    version: str

    @property
    def full_name(self) -> str:
        return f"{self.distribution}/{self.component.name}"

    @property
    def short_name(self) -> str:
        return self.component.name if self.distribution == OURS else self.full_name


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
    arguments: tuple[str, ...]  # the subset of the hook's arguments that it takes, as everywhere in pluggy

    def __call__(self, **arguments: Any) -> None:
        function = next(each.function for each in hooks_of(self.door)[self.hook])
        function(*(arguments[name] for name in self.arguments))


@dataclass
class Registry:
    """Everything that the installed plugins bring."""

    components: list[Installed] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    observers: list[Observer] = field(default_factory=list)

    def of_kind(self, kind: Kind) -> list[Installed]:
        """The components of a kind, ours first, then by full name."""
        chosen = [item for item in self.components if item.kind == kind]
        return sorted(chosen, key=lambda item: (item.distribution != OURS, item.full_name))

    def find(self, kind: Kind, name: str) -> Installed:
        """The component of that name, short or full. Raises UsageError with near names, or with the plugin that broke."""
        items = self.of_kind(kind)
        full = [item for item in items if item.full_name == name]
        short = [item for item in items if item.component.name == name]
        if full:
            return full[0]
        if short and (len(short) == 1 or short[0].distribution == OURS):
            return short[0]
        if short:
            choices = ", ".join(item.full_name for item in short)
            raise UsageError(f"{kind} {name!r} is brought by several distributions; name one of {choices}")
        broken = "; ".join(f"broken plugin {trouble}" for trouble in self.troubles)
        known = {item.short_name for item in items} | {item.component.name for item in items}
        raise UsageError(f"unknown {kind} {name!r}; {did_you_mean(name, known)}" + (f"; {broken}" if broken else ""))

    def notify(self, hook: str, **arguments: Any) -> list[Trouble]:
        """Call an observer hook on every plugin; a raising one is reported and the others still hear. What it prints is cleaned."""
        troubles = []
        for observer in self.observers:
            if observer.hook != hook:
                continue
            try:
                with contextlib.redirect_stdout(Harmless(sys.stdout)), contextlib.redirect_stderr(Harmless(sys.stderr)):
                    observer(**arguments)
            except (Exception, SystemExit) as error:
                troubles.append(observer.door.trouble(f"{hook} raised {brief(error)}"))
        return troubles


def brief(error: BaseException) -> str:
    """An exception in one printable line, safe even where its own text raises."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "(its message cannot be printed)"
    return f"{type(error).__name__}: " + "".join(c if c.isprintable() else "?" for c in text[:300])


def load(*, isolated: bool = True, only: Iterable[str] | None = None) -> Registry:
    """Load every installed plugin, or those of the distributions `only`.

    isolated  strangers' modules are imported in a child process, and here only when an observer of theirs is called
    """
    from bench_core.isolation import examine

    registry = Registry()
    listed = doors(registry, only)
    strangers = []
    for door in listed:
        if isolated and door.distribution != OURS:
            strangers.append(door)
        else:
            ask(registry, door)
    if strangers:
        for heard in examine(strangers):
            registry.components += heard.components
            registry.troubles += heard.troubles
            registry.observers += heard.observers
    find_clashes(registry, listed)
    return registry


def load_for(names: Iterable[str]) -> Registry:
    """The plugins that bring the components of these full names, imported into this process: for workers."""
    return load(isolated=False, only={name.partition("/")[0] for name in names})


def doors(registry: Registry, only: Iterable[str] | None = None) -> list[Door]:
    """The entry points of all distributions that are let in, ours first. One whose metadata cannot be read is a trouble; of
    one that is found twice on the path the first counts, as for imports."""
    allowed = _allowed()
    found: dict[str, list[Door]] = {}
    for distribution in metadata.distributions():
        try:
            points = distribution.entry_points.select(group=GROUP)
            listed = [Door(*distribution_of(point), point.name, point.value) for point in points]
        except Exception as error:
            where = str(getattr(distribution, "_path", "unknown"))
            registry.troubles.append(Trouble(where, "?", "?", f"its metadata cannot be read: {brief(error)}"))
            continue
        if listed and listed[0].distribution == OURS and not _is_ours(distribution):
            what = f"calls itself {OURS}, but its entry point is {listed[0].value[:80]!r}; not loaded"
            registry.troubles.append(listed[0].trouble(what))
        elif listed and (only is None or listed[0].distribution in only):
            found.setdefault(listed[0].distribution, listed)
    if allowed is not None and only is None:
        for name in sorted(allowed - found.keys()):
            registry.troubles.append(Trouble(name, "?", "?", f"{ALLOWED} names it, but it brings no plugin here"))
    let_in = [d for name, each in found.items() if name == OURS or allowed is None or name in allowed for d in each]
    return sorted(let_in, key=lambda d: (d.distribution != OURS, d.distribution, d.version, d.name, d.value))


def _allowed() -> set[str] | None:
    """The distributions that BENCH_PLUGINS lets in; None where it is not set."""
    listed = os.environ.get(ALLOWED)
    return None if listed is None else {normalised(name.strip()) for name in listed.split(",") if name.strip()}


def packages_of(distribution: metadata.Distribution) -> set[str]:
    """The top-level packages and modules that a distribution installed."""
    tops = (distribution.read_text("top_level.txt") or "").split() or [f.parts[0] for f in distribution.files or ()]
    return {top.removesuffix(".py") for top in tops}


def _is_ours(distribution: metadata.Distribution) -> bool:
    """Whether a distribution of our name is the one that this code came with."""
    return __name__.partition(".")[0] in packages_of(distribution)


@cache
def our_packages() -> frozenset[str]:
    """The packages of our own distribution, the built-in plugins' among them."""
    found = {__name__.partition(".")[0]}
    for distribution in metadata.distributions(name=OURS):
        with contextlib.suppress(Exception):
            if _is_ours(distribution):
                found |= packages_of(distribution)
    return frozenset(found)


def distribution_of(point: metadata.EntryPoint) -> tuple[str, str]:
    """Normalised name and version of the distribution behind an entry point."""
    if point.dist is None:
        return "unknown", "0"
    about = point.dist.metadata
    name, version = (str(about[key]) if key in about else "" for key in ("Name", "Version"))
    return normalised(name or "unknown"), "".join(version.split()) or "0"


def normalised(distribution: str) -> str:
    """The one spelling of a distribution's name."""
    return re.sub(r"[^a-z0-9]+", "-", distribution.lower())


def _refusal(module: Any, distribution: str) -> str | None:
    """Why a plugin module cannot be used by this bench: it was made for another interface."""
    asked = getattr(module, "BENCH_API", None)
    if asked is None:
        return None
    if not (isinstance(asked, tuple) and len(asked) == 2 and all(type(number) is int for number in asked)):
        return f"BENCH_API must be (major, minor), such as {API_VERSION}"
    wanted, ours = (".".join(map(str, version)) for version in (asked, API_VERSION))
    if asked[0] < API_VERSION[0]:
        return f"made for interface {wanted}, this bench has {ours}: pip install --upgrade {distribution}"
    if asked > API_VERSION:
        return f"made for interface {wanted}, this bench has {ours}: pip install --upgrade {OURS}"
    return None


def ask(registry: Registry, door: Door) -> None:
    """Import one plugin module here, check its hooks and take its components; whatever goes wrong is a trouble."""

    def trouble(what: str) -> None:
        registry.troubles.append(door.trouble(what))

    try:
        refusal = _refusal(door.module(), door.distribution)
    except (Exception, SystemExit) as error:
        trouble(f"cannot be imported: {brief(error)}")
        return
    if refusal:
        trouble(refusal)
        return
    try:
        hooks = hooks_of(door)
    except Exception as error:
        trouble(_misfit(door.module()) or brief(error))
        return
    if not hooks:
        trouble("implements no hook: is @hookimpl missing?")
    for kind in KINDS:
        for implementation in hooks.get(f"bench_{kind}s", ()):
            try:
                _take(registry, kind, implementation.function(), door, trouble)
            except (Exception, SystemExit) as error:
                trouble(f"bench_{kind}s() raised {brief(error)}")
    for name in OBSERVERS:
        for implementation in hooks.get(name, ()):
            registry.observers.append(Observer(name, door, tuple(implementation.argnames)))


def _misfit(module: ModuleType) -> str | None:
    """Which implementation fits no hook, and what there is instead."""
    names = {f"bench_{kind}s" for kind in KINDS} | set(OBSERVERS)
    known = {name: value for name, value in vars(hookspecs).items() if name in names}
    for name, value in vars(module).items():
        if not hasattr(value, "bench_core_impl"):
            continue
        if name not in known:
            return f"{name} is no hook: {did_you_mean(name, set(known))} docs/hooks.md lists them"
        wanted, found = (list(inspect.signature(each).parameters) for each in (known[name], value))
        if not set(found) <= set(wanted):
            ours = f"{name}({', '.join(wanted)})"
            return f"{name}({', '.join(found)}) does not fit the hook {ours}: it may leave out arguments, and add none"
    return None


@cache
def hooks_of(door: Door) -> dict[str, list[pluggy.HookImpl]]:
    """Hook → its implementations in the plugin's module. Raises PluginValidationError where one is misspelt."""
    manager = pluggy.PluginManager("bench_core")
    manager.add_hookspecs(hookspecs)
    module = door.module()
    manager.register(module, name=door.name)
    manager.check_pending()
    return {caller.name: caller.get_hookimpls() for caller in manager.get_hookcallers(module) or ()}


def _take(registry: Registry, kind: Kind, answer: Any, door: Door, trouble: Callable[[str], None]) -> None:
    """Add the components that a hook returned, each checked on its own."""
    distribution, version = door.distribution, door.version
    hook = f"bench_{kind}s() -> list[Component]"
    if not isinstance(answer, (list, tuple)):
        trouble(f"{hook} returned {type(answer).__name__}")
        return
    if len(answer) > MOST:
        trouble(f"{hook} returned {len(answer):,} items; the limit is {MOST:,}")
        return
    taken = {other.full_name for other in registry.components if other.kind == kind}
    for item in answer:
        if not isinstance(item, Component):
            trouble(f"{hook} returned an item of type {type(item).__name__}")
        elif not all(isinstance(text, str) for text in (item.name, item.target, item.summary, item.cite)):
            trouble(f"{hook}: a component's name, target, summary and cite must be strings")
        elif not NAME.fullmatch(item.name):
            trouble(
                f"{hook}: {item.name[:80]!a} is no component name (lower case letters, digits and inside it _ . -, at most 64)"
            )
        elif not re.fullmatch(r"[\w.]+:\w+", item.target):
            trouble(f"{hook}: {item.name}: target {item.target[:80]!a} is not of the form 'package.module:Class'")
        elif f"{distribution}/{item.name}" in taken:
            trouble(f"{hook}: {kind} {item.name!r} twice in this distribution; the first counts")
        else:
            taken.add(f"{distribution}/{item.name}")
            registry.components.append(Installed(kind, item, distribution, version))


def find_clashes(registry: Registry, listed: Iterable[Door]) -> None:
    """A name of an entry point, or short name of a component, that several distributions bring: said once for each stranger. A
    diagnostic is measured under its short name, so a stranger's that bears the name of one of ours is not taken."""
    brought: dict[str, str] = {}
    for door in listed:
        if brought.setdefault(door.name, door.distribution) != door.distribution:
            what = f"entry point {door.name!r} is also brought by {brought[door.name]}; both were loaded"
            registry.troubles.append(door.trouble(what))
    ours = {item.component.name for item in registry.of_kind("diagnostic") if item.distribution == OURS}
    for item in registry.of_kind("diagnostic"):
        if item.distribution != OURS and item.component.name in ours:
            what = f"diagnostic {item.component.name!r} has the name of a built-in and is not taken: rename it"
            registry.troubles.append(Trouble(item.distribution, item.version, item.component.target, what))
            registry.components.remove(item)
    owners: dict[tuple[Kind, str], list[str]] = {}
    for item in registry.components:
        owners.setdefault((item.kind, item.component.name), []).append(item.distribution)
    for item in registry.components:
        others = [name for name in owners[item.kind, item.component.name] if name != item.distribution]
        if others and item.distribution != OURS:
            what = f"{item.kind} {item.component.name!r} is also brought by {', '.join(sorted(others))}"
            use = f"name this one {item.full_name!r} in a suite"
            registry.troubles.append(Trouble(item.distribution, item.version, item.component.target, f"{what}; {use}"))


def resolve(item: Installed, base: type | None = None) -> Any:
    """Import a component's target. Raises PluginError that names distribution, version, component and phase."""

    def broken(phase: str, reason: str) -> PluginError:
        return PluginError(item.distribution, item.version, f"{item.kind} {item.component.name}", phase, reason)

    module, _, attribute = item.component.target.partition(":")
    try:
        target = getattr(import_module(module), attribute)
    except (Exception, SystemExit) as error:
        raise broken("import", brief(error)) from error
    if base is not None and not (isinstance(target, type) and issubclass(target, base)):
        raise broken("import", f"{item.component.target} is not a subclass of {base.__name__}")
    return target
