"""Finds plugins, records who brought what, and fences off the broken.

pluggy's own loader lets one bad import end the host, drops a second entry point of the same name without a word, and lets one raising
implementation abort a hook call. So every entry point is loaded, checked and asked on its own, with Exception and SystemExit
caught, and whatever goes wrong becomes a `Trouble` row: a warning where the suite does not use the plugin, an error before any
training where it does.

Built-ins come through the same door. They cannot be replaced: a short name means the built-in component if there is one; a stranger's
component of that name is reached as `distribution/name`, and said to clash.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module, metadata
from typing import Any, Literal, get_args

import pluggy

from bench_core import hookspecs
from bench_core.api import Component
from bench_core.errors import PluginError, UsageError, did_you_mean

GROUP = "bench_core.plugins"
OURS = "bench-core"
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


@dataclass
class Registry:
    """Everything that the installed plugins bring."""

    components: list[Installed] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    observers: list[tuple[str, str, str, Callable[..., Any]]] = field(default_factory=list)

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
        """Call an observer hook on every plugin; a raising one is reported and the others still hear."""
        troubles = []
        for distribution, version, entry_point, function in self.observers:
            if getattr(function, "__name__", "") != hook:
                continue
            try:
                # an implementation takes any subset of the hook's arguments, as everywhere in pluggy
                function(**{name: arguments[name] for name in inspect.signature(function).parameters})
            except (Exception, SystemExit) as error:
                troubles.append(Trouble(distribution, version, entry_point, f"{hook} raised {brief(error)}"))
        return troubles


def brief(error: BaseException) -> str:
    """An exception in one line, safe even where its own text raises."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "(its message cannot be printed)"
    return f"{type(error).__name__}: {text[:300]}"


def load(entry_points: Iterable[metadata.EntryPoint] | None = None) -> Registry:
    """Load every installed plugin (or the entry points given)."""
    registry = Registry()
    seen: dict[tuple[str, str], None] = {}
    points = list(metadata.entry_points(group=GROUP) if entry_points is None else entry_points)
    for point in sorted(points, key=lambda p: (distribution_of(p)[0] != OURS, *distribution_of(p), p.name)):
        distribution, version = distribution_of(point)
        if (distribution, point.name) in seen:  # the same distribution found twice on the path
            continue
        seen[distribution, point.name] = None
        clash = [other for other, name in seen if name == point.name and other != distribution]

        def trouble(what: str, at: tuple[str, str, str] = (distribution, version, point.name)) -> None:
            registry.troubles.append(Trouble(*at, what))

        if clash:
            trouble(f"entry point {point.name!r} is also brought by {', '.join(clash)}; both were loaded")
        try:
            module = point.load()
        except (Exception, SystemExit) as error:
            trouble(f"cannot be imported: {brief(error)}")
            continue
        _ask(registry, module, distribution, version, point.name, trouble)
    _find_clashes(registry)
    return registry


def distribution_of(point: metadata.EntryPoint) -> tuple[str, str]:
    """Normalised name and version of the distribution behind an entry point."""
    if point.dist is None:
        return "unknown", "0"
    return re.sub(r"[-_.]+", "-", point.dist.name).lower(), point.dist.version


def _ask(
    registry: Registry, module: Any, distribution: str, version: str, point: str, trouble: Callable[[str], None]
) -> None:
    """Check the hooks of one plugin module and take its components."""
    manager = pluggy.PluginManager("bench_core")
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module, name=point)
        manager.check_pending()
    except Exception as error:
        trouble(f"{brief(error)}; the hooks and their arguments are listed in bench_core/hookspecs.py")
        return
    for kind in KINDS:
        try:
            answers = getattr(manager.hook, f"bench_{kind}s")()
        except (Exception, SystemExit) as error:
            trouble(f"bench_{kind}s() raised {brief(error)}")
            continue
        for answer in answers:
            _take(registry, kind, answer, distribution, version, trouble)
    for name in OBSERVERS:
        for implementation in getattr(manager.hook, name).get_hookimpls():
            registry.observers.append((distribution, version, point, implementation.function))


def _take(
    registry: Registry, kind: Kind, answer: Any, distribution: str, version: str, trouble: Callable[[str], None]
) -> None:
    hook = f"bench_{kind}s() -> list[Component]"
    if not isinstance(answer, (list, tuple)):
        trouble(f"{hook} returned {type(answer).__name__}")
        return
    if len(answer) > MOST:
        trouble(f"{hook} returned {len(answer):,} items; the limit is {MOST:,}")
        return
    for item in answer:
        if not isinstance(item, Component):
            trouble(f"{hook} returned an item of type {type(item).__name__}")
        elif not NAME.fullmatch(item.name):
            trouble(f"{hook}: {item.name[:80]!r} is no component name (lower case, digits, _ . -, at most 64)")
        elif not re.fullmatch(r"[\w.]+:\w+", item.target):
            trouble(f"{hook}: {item.name}: target {item.target[:80]!r} is not of the form 'package.module:Class'")
        elif any(
            (other.kind, other.full_name) == (kind, f"{distribution}/{item.name}") for other in registry.components
        ):
            trouble(f"{hook}: {kind} {item.name!r} twice in this distribution; the first counts")
        else:
            registry.components.append(Installed(kind, item, distribution, version))


def _find_clashes(registry: Registry) -> None:
    """A short name that several distributions bring: said once for each stranger."""
    for item in registry.components:
        others = [
            other.distribution
            for other in registry.components
            if other.kind == item.kind and other.component.name == item.component.name and other is not item
        ]
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
