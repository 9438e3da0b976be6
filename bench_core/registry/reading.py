"""Import one plugin module, check its hooks and take its components."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

from bench_core.errors import did_you_mean
from bench_core.printable import brief
from bench_core.registry import hookspecs
from bench_core.registry.component import API_VERSION, Component
from bench_core.registry.distributions import OURS
from bench_core.registry.entry_points import OBSERVERS, Door, Observer, hooks_of
from bench_core.registry.registry import KINDS, Installed, Kind, Registry
from bench_core.suite.names import NAME

MOST = 10_000


def _refusal(module: Any, distribution: str) -> str | None:
    """Why a plugin module cannot be used by this bench: it was made for another interface."""
    asked = getattr(module, "BENCH_API", None)
    if asked is None:
        return None
    if not (
        isinstance(asked, tuple)
        and len(asked) == 2
        and all(type(number) is int for number in asked)
    ):
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


def _take(
    registry: Registry, kind: Kind, answer: Any, door: Door, trouble: Callable[[str], None]
) -> None:
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
        elif not all(
            isinstance(text, str) for text in (item.name, item.target, item.summary, item.cite)
        ):
            trouble(f"{hook}: a component's name, target, summary and cite must be strings")
        elif not re.fullmatch(NAME, item.name):
            trouble(
                f"{hook}: {item.name[:80]!a} is no component name (lower case letters, digits and inside it _ . -, at most 64)"
            )
        elif not re.fullmatch(r"[\w.]+:\w+", item.target):
            trouble(
                f"{hook}: {item.name}: target {item.target[:80]!a} is not of the form 'package.module:Class'"
            )
        elif f"{distribution}/{item.name}" in taken:
            trouble(f"{hook}: {kind} {item.name!r} twice in this distribution; the first counts")
        else:
            taken.add(f"{distribution}/{item.name}")
            registry.components.append(Installed(kind, item, distribution, version))
