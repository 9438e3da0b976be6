"""`bench list` and `bench plugins`: the installed components and their distributions."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

import click

from bench_core.commands.options import Choice, terminal_width, warn
from bench_core.errors import Exit

if TYPE_CHECKING:
    from bench_core.registry.loading import ImportResult
    from bench_core.registry.registry import Installed, Registry


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

    def described(item: Installed) -> str:
        part = item.component
        return visible(part.summary + (f" ({part.cite})" if part.cite else ""))

    rows = [
        [item.kind, item.short_name, described(item), f"{item.distribution} {item.version}"]
        for name in KINDS
        for item in registry.of_kind(name)
        if kind in (None, f"{name}s")
    ]
    if kind in (None, "suites"):
        rows += [
            ["suite", name, visible(title_of(name)), "bench-core"] for name in installed_suites()
        ]
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
    type=click.FloatRange(0.1, 3600),
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
    counts: dict[tuple[str, str], Counter[str]] = {}
    for item in registry.components:
        counts.setdefault((item.distribution, item.version), Counter())[item.kind] += 1
    observing = {(o.entry_point.distribution, o.entry_point.version) for o in registry.observers}
    broken = {(trouble.distribution, trouble.version) for trouble in registry.troubles}
    rows = []
    for distribution in sorted(counts.keys() | observing | broken):
        brings = _brings(counts.get(distribution, Counter()), distribution in observing)
        rows.append([*distribution, brings, "trouble" if distribution in broken else "ok"])
    _print_table(rows, ["distribution", "version", "brings", "state"], "brings", 16)
    _print_troubles(registry)
    if strict_plugins and registry.troubles:
        sys.exit(Exit.USAGE)


def _print_troubles(registry: Registry) -> None:
    for trouble in registry.troubles:
        click.echo(f"trouble: {trouble}")


def _brings(counts: Counter[str], observes: bool) -> str:
    """Return `2 methods, 1 arch, observers`."""
    parts = [f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in counts.items()]
    return ", ".join([*parts, *(["observers"] if observes else [])]) or "–"


def _check_all(timeout: float | None) -> bool:
    """Import every plugin, print how that went, and return whether any of them is broken."""
    from bench_core.registry import entry_points, loading
    from bench_core.registry import plugins as installed
    from bench_core.registry.registry import Registry

    seconds = loading.limit(60.0) if timeout is None else timeout
    registry = Registry()
    points, registry.troubles = entry_points.installed()
    answers: list[ImportResult] = [
        answer for point in points for answer in loading.examine([point], seconds, targets=True)
    ]
    for answer in answers:
        registry.components += answer.components
        registry.troubles += answer.troubles
    installed.find_clashes(registry, points)
    broken = {(trouble.distribution, trouble.version) for trouble in registry.troubles}
    rows = []
    for answer in answers:
        point = answer.entry_point
        brings = _brings(Counter(item.kind for item in answer.components), bool(answer.observers))
        took = "–" if answer.seconds is None else f"{answer.seconds:.2f} s"
        state = "loads torch" if answer.torch else "ok"
        if (point.distribution, point.version) in broken:
            state = "trouble"
        rows.append([point.distribution, point.version, point.name, brings, took, state])
    heads = ["distribution", "version", "entry point", "brings", "import", "state"]
    _print_table(rows, heads, "brings", 16)
    _print_troubles(registry)
    for point in (answer.entry_point for answer in answers if answer.torch):
        click.echo(
            f"note: {point.distribution}: importing {point.value} loads torch "
            "in every bench command"
        )
    return bool(registry.troubles)
