"""`bench list` and `bench plugins`: the installed components and their distributions."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from bench_core.commands.options import SECONDS, Choice, terminal_width, warn
from bench_core.errors import Exit

if TYPE_CHECKING:
    from bench_core.registry.registry import Registry


def listed_kinds() -> list[str]:
    """Return the kinds that `bench list` lists."""
    from bench_core.registry.registry import KINDS

    return [*(f"{kind}s" for kind in KINDS), "suites"]


@click.command("list")
@click.argument("kind", required=False, type=Choice(f"{__name__}:listed_kinds"))
def list_(kind: str | None) -> None:
    """List the installed components and suites."""
    from bench_core.registry import plugins
    from bench_core.registry.registry import KINDS
    from bench_core.report.escape import visible
    from bench_core.suite.load import installed_suites, title_of

    registry = plugins.load()
    warn(f"plugin {trouble}" for trouble in registry.troubles)
    rows = []
    for item in (item for name in KINDS for item in registry.of_kind(name)):
        cite = f" ({item.component.cite})" if item.component.cite else ""
        summary = visible(item.component.summary + cite)
        rows.append([item.kind, item.short_name, summary, f"{item.distribution} {item.version}"])
    for name in installed_suites():
        rows.append(["suite", name, visible(title_of(name)), "bench-core"])
    rows = [row for row in rows if kind in (None, f"{row[0]}s")]
    _print_table(rows, ["kind", "name", "what it is", "from"], "what it is", 20)


def _print_table(rows: list[list[str]], heads: list[str], wide: str, least: int) -> None:
    """Print a table; on a narrow terminal wrap the column `wide`, to `least` characters or more."""
    from bench_core.report.text import tabulated

    narrow = [(heads.index(wide), least)]
    click.echo(tabulated(rows, heads, width=terminal_width(), narrow=narrow))


@click.command()
@click.option(
    "--check",
    is_flag=True,
    help="Import every plugin and its components, each in a process of its own.",
)
@click.option(
    "--timeout",
    type=SECONDS,
    metavar="SECONDS",
    help="Give each plugin this long to be imported.  [default: BENCH_PLUGIN_SECONDS, else 60]",
)
@click.option("--strict-plugins", is_flag=True, help="Exit with 2 if any plugin is broken.")
def plugins(check: bool, timeout: float | None, strict_plugins: bool) -> None:
    """List the distributions that bring plugins, and their faults."""
    from bench_core.registry import plugins as installed

    if check:
        sys.exit(Exit.SOME_FAILED if _check_all(timeout) else Exit.DONE)
    registry = installed.load()
    kinds: dict[tuple[str, str], list[str]] = {}
    for item in registry.components:
        kinds.setdefault((item.distribution, item.version), []).append(item.kind)
    observing = {(o.entry_point.distribution, o.entry_point.version) for o in registry.observers}
    broken = _broken(registry)
    rows = []
    for distribution in sorted(kinds.keys() | observing | broken):
        brings = _brings(kinds.get(distribution, []), distribution in observing)
        rows.append([*distribution, brings, "trouble" if distribution in broken else "ok"])
    _print_table(rows, ["distribution", "version", "brings", "state"], "brings", 16)
    _print_troubles(registry)
    if strict_plugins and registry.troubles:
        sys.exit(Exit.USAGE)


def _broken(registry: Registry) -> set[tuple[str, str]]:
    return {(trouble.distribution, trouble.version) for trouble in registry.troubles}


def _print_troubles(registry: Registry) -> None:
    for trouble in registry.troubles:
        click.echo(f"trouble: {trouble}")


def _brings(kinds: Iterable[str], observes: bool) -> str:
    """Return `2 methods, 1 arch, observers`."""
    parts = [f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in Counter(kinds).items()]
    return ", ".join([*parts, *(["observers"] if observes else [])]) or "–"


def _check_all(timeout: float | None) -> bool:
    """Import every plugin, print how that went, and return whether any of them is broken."""
    from bench_core.registry import entry_points, loading
    from bench_core.registry import plugins as installed
    from bench_core.registry.registry import Registry

    seconds = loading.limit(60.0) if timeout is None else timeout
    registry = Registry()
    points, registry.troubles = entry_points.installed()
    results = [r for point in points for r in loading.examine([point], seconds, targets=True)]
    for result in results:
        registry.add(result)
    installed.find_clashes(registry, points)
    broken = _broken(registry)
    rows = []
    for result in results:
        point = result.entry_point
        brings = _brings((item.kind for item in result.components), bool(result.observers))
        took = "–" if result.seconds is None else f"{result.seconds:.2f} s"
        state = "loads torch" if result.torch else "ok"
        if (point.distribution, point.version) in broken:
            state = "trouble"
        rows.append([point.distribution, point.version, point.name, brings, took, state])
    heads = ["distribution", "version", "entry point", "brings", "import", "state"]
    _print_table(rows, heads, "brings", 16)
    _print_troubles(registry)
    for point in (result.entry_point for result in results if result.torch):
        note = f"importing {point.value} loads torch in every bench command"
        click.echo(f"note: {point.distribution}: {note}")
    return bool(registry.troubles)
