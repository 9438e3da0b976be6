"""Finds plugins, records who brought what, and fences off the broken.

pluggy's own loader lets one bad import end the host, drops a second entry point of the same name without a word, and lets one
raising implementation abort a hook call. So every entry point is loaded, checked and asked on its own, with Exception and
SystemExit caught, and whatever goes wrong becomes a `Trouble` row: a warning where the suite does not use the plugin, an error
before any training where it does.

A module can also hang, or end the process that imports it, which nothing in that process can catch. So a command imports ours and
asks a child process about everybody else's (`bench_core.registry.discovery`); what it hears is strings. Workers, which are processes
of their own, import the modules of the distributions that their cell uses (`load_for`), and nobody else's.

Built-ins come through the same door. They cannot be replaced: a short name means the built-in component if there is one; a
stranger's component of that name is reached as `distribution/name`, and said to clash.

BENCH_PLUGINS=NAME,NAME in the environment lets in these distributions only, beside the built-ins; empty: none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib import metadata

from bench_core.printable import brief
from bench_core.registry.distributions import OURS, distribution_of, is_ours, normalised
from bench_core.registry.entry_points import GROUP, Door, Trouble
from bench_core.registry.reading import ask
from bench_core.registry.registry import Kind, Registry

ALLOWED = "BENCH_PLUGINS"


def load(*, isolated: bool = True, only: Iterable[str] | None = None) -> Registry:
    """Load every installed plugin, or those of the distributions `only`.

    isolated  strangers' modules are imported in a child process, and here only when an observer of theirs is called
    """
    from bench_core.registry.discovery import examine

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
            registry.troubles.append(
                Trouble(where, "?", "?", f"its metadata cannot be read: {brief(error)}")
            )
            continue
        if listed and listed[0].distribution == OURS and not is_ours(distribution):
            what = (
                f"calls itself {OURS}, but its entry point is {listed[0].value[:80]!r}; not loaded"
            )
            registry.troubles.append(listed[0].trouble(what))
        elif listed and (only is None or listed[0].distribution in only):
            found.setdefault(listed[0].distribution, listed)
    if allowed is not None and only is None:
        for name in sorted(allowed - found.keys()):
            registry.troubles.append(
                Trouble(name, "?", "?", f"{ALLOWED} names it, but it brings no plugin here")
            )
    let_in = [
        d
        for name, each in found.items()
        if name == OURS or allowed is None or name in allowed
        for d in each
    ]
    return sorted(
        let_in, key=lambda d: (d.distribution != OURS, d.distribution, d.version, d.name, d.value)
    )


def _allowed() -> set[str] | None:
    """The distributions that BENCH_PLUGINS lets in; None where it is not set."""
    listed = os.environ.get(ALLOWED)
    return (
        None
        if listed is None
        else {normalised(name.strip()) for name in listed.split(",") if name.strip()}
    )


def find_clashes(registry: Registry, listed: Iterable[Door]) -> None:
    """A name of an entry point, or short name of a component, that several distributions bring: said once for each stranger. A
    diagnostic is measured under its short name, so a stranger's that bears the name of one of ours is not taken."""
    brought: dict[str, str] = {}
    for door in listed:
        if brought.setdefault(door.name, door.distribution) != door.distribution:
            what = f"entry point {door.name!r} is also brought by {brought[door.name]}; both were loaded"
            registry.troubles.append(door.trouble(what))
    ours = {
        item.component.name for item in registry.of_kind("diagnostic") if item.distribution == OURS
    }
    for item in registry.of_kind("diagnostic"):
        if item.distribution != OURS and item.component.name in ours:
            what = f"diagnostic {item.component.name!r} has the name of a built-in and is not taken: rename it"
            registry.troubles.append(
                Trouble(item.distribution, item.version, item.component.target, what)
            )
            registry.components.remove(item)
    owners: dict[tuple[Kind, str], list[str]] = {}
    for item in registry.components:
        owners.setdefault((item.kind, item.component.name), []).append(item.distribution)
    for item in registry.components:
        others = [
            name for name in owners[item.kind, item.component.name] if name != item.distribution
        ]
        if others and item.distribution != OURS:
            what = f"{item.kind} {item.component.name!r} is also brought by {', '.join(sorted(others))}"
            use = f"name this one {item.full_name!r} in a suite"
            registry.troubles.append(
                Trouble(item.distribution, item.version, item.component.target, f"{what}; {use}")
            )
