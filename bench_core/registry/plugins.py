"""Load the installed plugins into a registry.

Each module is imported and checked on its own, because pluggy's loader stops at the first broken
one. A fault becomes a `Trouble`: a warning, or an error before any training if the suite uses the
plugin. Commands import modules of other distributions in a child process
(`bench_core.registry.loading`); workers import those that their cell uses. A short name means the
built-in component if there is one; others of that name are reached as `distribution/name`.
"""

from __future__ import annotations

from collections.abc import Iterable

from bench_core.names import FILE, OURS, distribution_of
from bench_core.registry import entry_points
from bench_core.registry.card import Card, card
from bench_core.registry.entry_points import EntryPoint, Trouble
from bench_core.registry.loading import examine, take
from bench_core.registry.registry import Installed, Kind, Registry


def load(
    *, isolated: bool = True, only: Iterable[str] | None = None, files: Iterable[str] = ()
) -> Registry:
    """Load every installed plugin, or the plugins of the distributions `only`.

    isolated  import modules of other distributions in a child process
    files     names of rule files on the import path, taken besides (those in `only` are, too)
    """
    registry = Registry()
    only = None if only is None else set(only)
    points, registry.troubles = entry_points.installed(only)
    named = {name for name in (*(only or ()), *files) if name.endswith(FILE)}
    points += map(entry_points.of_file, sorted(named))
    strangers = [point for point in points if isolated and point.distribution != OURS]
    for point in points:
        if point not in strangers:
            take(registry, point)
    rules = [point for point in strangers if point.is_file]
    strangers = [point for point in strangers if not point.is_file]
    for result in [*examine(strangers), *examine(rules, fork=True)]:
        registry.add(result)
    find_clashes(registry, points)
    return registry


def load_for(names: Iterable[str]) -> Registry:
    """Load the plugins that bring the components of these full names into this process."""
    return load(isolated=False, only={distribution_of(name) for name in names})


def cards(names: Iterable[str]) -> dict[str, Card]:
    """Return the cards of the installed learning rules among these full names."""
    names = set(names)
    brought = load(only={distribution_of(name) for name in names}).of_kind("method")
    return {item.full_name: card(item.component) for item in brought if item.full_name in names}


def find_clashes(registry: Registry, points: Iterable[EntryPoint]) -> None:
    """Report names of entry points and short names of components that several distributions bring.

    A diagnostic is measured under its short name, so one with the name of a built-in is removed. Of
    a file and the package that was made from it one line says which name is whose.
    """
    first: dict[str, str] = {}
    for point in (point for point in points if not point.is_file):
        other = first.setdefault(point.name, point.distribution)
        if other != point.distribution:
            reason = f"entry point {point.name!r} is also brought by {other}; both were loaded"
            registry.fault(point, reason)

    def fault(item: Installed, reason: str) -> None:
        trouble = Trouble(item.distribution, item.version, item.component.target, reason)
        registry.troubles.append(trouble)

    diagnostics = registry.of_kind("diagnostic")
    ours = {item.component.name for item in diagnostics if item.distribution == OURS}
    for item in diagnostics:
        name = item.component.name
        if item.distribution != OURS and name in ours:
            reason = f"diagnostic {name!r} has the name of a built-in and is not taken: rename it"
            fault(item, reason)
            registry.components.remove(item)
    owners: dict[tuple[Kind, str], set[str]] = {}
    for item in registry.components:
        owners.setdefault((item.kind, item.component.name), set()).add(item.distribution)
    for item in registry.components:
        others = owners[item.kind, item.component.name] - {item.distribution}
        files = {name for name in others if name.endswith(FILE)}
        if item.distribution.endswith(FILE) and others - files:
            theirs = ", ".join(sorted(f"{name}/{item.component.name}" for name in others - files))
            name, both = item.component.name, f"that of the package {theirs}"
            fault(item, f"{item.kind} {name!r} is here {item.full_name}, and not {both}")
        elif others - files and item.distribution != OURS:
            clash = f"is also brought by {', '.join(sorted(others - files))}"
            remedy = f"name this one {item.full_name!r} in a suite"
            fault(item, f"{item.kind} {item.component.name!r} {clash}; {remedy}")
