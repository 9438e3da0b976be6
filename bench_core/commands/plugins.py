"""`bench plugins`, `bench check` and `bench new`: what is installed, whether it holds, and how to begin."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench_core.commands.options import PATH, terminal_width
from bench_core.errors import Exit, UsageError

if TYPE_CHECKING:
    from bench_core.registry.discovery import Heard
    from bench_core.registry.registry import Installed, Registry
    from bench_core.testing.kit import Outcome

CATEGORIES = ["contract", "determinism", "mathematics", "passport", "honesty"]


@click.command()
@click.option(
    "--check",
    is_flag=True,
    help="Import every plugin and its components, each in a process of its own.",
)
@click.option("--timeout", type=click.FloatRange(0.1, 3600), metavar="SECONDS",
              help="With --check: what one plugin may take.  [default: BENCH_PLUGIN_SECONDS, else 60]")  # fmt: skip
@click.option("--strict-plugins", is_flag=True, help="Exit with 2 where anything is wrong.")
def plugins(check: bool, timeout: float | None, strict_plugins: bool) -> None:
    """List the distributions that bring plugins, and their faults."""
    from bench_core.registry import plugins as installed

    if check:
        troubled = _check_all(timeout)
        sys.exit(Exit.SOME_FAILED if troubled else Exit.DONE)
    registry = installed.load()
    counts: dict[tuple[str, str], Counter[str]] = {}
    for item in registry.components:
        counts.setdefault((item.distribution, item.version), Counter())[item.kind] += 1
    listeners = {(o.door.distribution, o.door.version) for o in registry.observers}
    broken = {(trouble.distribution, trouble.version) for trouble in registry.troubles}
    rows = []
    for name, version in sorted(counts.keys() | listeners | broken):
        brings = _brings(counts.get((name, version), Counter()), (name, version) in listeners)
        rows.append(
            [name, version, brings or "–", "trouble" if (name, version) in broken else "ok"]
        )
    _say_table(rows, ["distribution", "version", "brings", "state"])
    for trouble in registry.troubles:
        click.echo(f"trouble: {trouble}")
    if strict_plugins and registry.troubles:
        sys.exit(Exit.USAGE)


def _say_table(rows: list[list[str]], heads: list[str]) -> None:
    """A table that wraps what a distribution brings where the terminal is narrow."""
    from tabulate import tabulate

    from bench_core.report.compared import limits

    widths = limits(rows, heads, terminal_width(), [(heads.index("brings"), 16)])
    click.echo(tabulate(rows, headers=heads, disable_numparse=True, maxcolwidths=widths))


def _brings(found: Counter[str], listens: bool = False) -> str:
    parts = [f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in found.items()]
    return ", ".join([*parts, *(["observers"] if listens else [])])


def _check_all(timeout: float | None) -> bool:
    """Print how the import of every plugin went and what is wrong with all of them together; True where something is."""
    from bench_core.registry import plugins as installed
    from bench_core.registry.discovery import examine, limit
    from bench_core.registry.registry import Registry

    seconds = limit(60.0) if timeout is None else timeout
    registry = Registry()
    doors = installed.doors(registry)
    heard: list[Heard] = []
    for door in doors:
        heard += examine([door], seconds, targets=True)
    for each in heard:
        registry.components += each.components
        registry.troubles += each.troubles
    installed.find_clashes(registry, doors)
    troubled = {(trouble.distribution, trouble.version) for trouble in registry.troubles}
    rows = []
    for each in heard:
        took = "–" if each.seconds is None else f"{each.seconds:.2f} s"
        broken = (each.door.distribution, each.door.version) in troubled
        state = "trouble" if broken else "loads torch" if each.torch else "ok"
        brings = _brings(Counter(item.kind for item in each.components), bool(each.observers))
        rows.append(
            [each.door.distribution, each.door.version, each.door.name, brings or "–", took, state]
        )
    _say_table(rows, ["distribution", "version", "entry point", "brings", "import", "state"])
    for trouble in registry.troubles:
        click.echo(f"trouble: {trouble}")
    for each in heard:
        if each.torch:
            click.echo(
                f"note: {each.door.distribution}: importing {each.door.value} loads torch, in every bench command"
            )
    return bool(registry.troubles)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="PLUGIN…")
@click.option("--category", type=click.Choice(CATEGORIES), help="Only these checks.")
@click.option("--only", metavar="CHECK", help="Only the check of this name.")
@click.option("--trace", is_flag=True, help="Print the traceback of what a plugin raised.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: one outcome per line.")
@click.option("--timeout", type=click.FloatRange(0.1, 3600), default=120.0, show_default=True, metavar="SECONDS",
              help="What one check may take.")  # fmt: skip
def check(
    names: tuple[str, ...],
    category: str | None,
    only: str | None,
    trace: bool,
    as_json: bool,
    timeout: float,
) -> None:
    """Check what bench relies on in a plugin. PLUGIN is a component (dfa, my_rule, kind:name, or name[option=value]) or a
    distribution with all that it brings.

    Exit code 0 where nothing fails, 1 where a check fails.
    """
    import json
    from dataclasses import asdict

    from bench_core.registry import plugins as installed
    from bench_core.testing import session

    registry = installed.load()
    wanted = [each for name in names for each in _wanted(name, registry)]
    total: Counter[str] = Counter()
    for item, options in wanted:
        request = session.Request(item.kind, item.full_name, dict(options), category, only)
        outcomes: list[Outcome] = []
        if only is None and category in (None, "contract"):
            outcomes += session.distribution(item, timeout)
        for outcome in session.carry_out(request, timeout):
            outcomes.append(outcome)
        total.update(outcome.status for outcome in outcomes)
        if as_json:
            for outcome in outcomes:
                click.echo(
                    json.dumps({"component": item.full_name, "kind": item.kind, **asdict(outcome)})
                )
        else:
            click.echo("\n".join(_graded(item, outcomes, trace)))
    if len(wanted) > 1 and not as_json:
        click.echo(f"\n{len(wanted)} components: {_grade(total)}")
    sys.exit(Exit.SOME_FAILED if total["failed"] else Exit.DONE)


def _wanted(name: str, registry: Registry) -> Iterator[tuple[Installed, Mapping[str, Any]]]:
    """The component of that name with the options given, or every component of the distribution of that name."""
    from bench_core.registry.distributions import normalised
    from bench_core.suite.component import component_option
    from bench_core.testing.kit import find

    brought = [item for item in registry.components if item.distribution == normalised(name)]
    if brought and "/" not in name:
        yield from ((item, {}) for item in brought if item.kind != "executor")
        return
    kind, colon, rest = name.partition(":")
    value = component_option("PLUGIN", rest if colon else name, ()).value
    entry: Mapping[str, Any] = value if isinstance(value, dict) else {"name": value}
    if any(trouble.distribution == normalised(entry["name"]) for trouble in registry.troubles):
        raise UsageError("; ".join(map(str, registry.troubles)))
    item = find(f"{kind}:{entry['name']}" if colon else entry["name"], registry)
    options = {key: value for key, value in entry.items() if key != "name"}
    if options:
        _require_taken(item, options)
    yield item, options


def _require_taken(item: Installed, options: Mapping[str, Any]) -> None:
    """Raises UsageError with everything that a component says against these options."""
    from bench_core.execution import validate

    asked = {
        "components": [[item.kind, item.full_name, options]],
        "trios": [],
        "data_dir": None,
        "devices": [],
    }
    (told,) = validate.ask(asked)["components"]
    wrong = [
        f"{item.component.name}.{'.'.join(map(str, path))}: {what}" + (f"; {hint}" if hint else "")
        for path, what, hint, _ in told.get("invalid", ())
    ]
    if wrong:
        raise UsageError("\n".join(wrong))


def _grade(counts: Counter[str]) -> str:
    words = {
        "passed": "passed",
        "failed": "failed",
        "expected": "failed as expected",
        "skipped": "skipped",
    }
    return ", ".join(
        f"{counts[key]} {word}"
        for key, word in words.items()
        if counts[key] or key in ("passed", "failed")
    )


def _graded(item: Installed, outcomes: list[Outcome], trace: bool) -> Iterator[str]:
    """The lines of the report on one component."""
    from bench_core.report.escape import visible

    counts: Counter[str] = Counter(outcome.status for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    yield f"{item.full_name} {item.version} ({item.kind}): {_grade(counts)} · {seconds:.1f} s"
    for category in CATEGORIES:
        listed = [outcome for outcome in outcomes if outcome.category == category]
        if listed:
            yield f"\n  {category}"
        for outcome in listed:
            name = outcome.check.replace("_", " ")
            if outcome.status == "failed":
                yield f"    FAILED   {name}"
                yield f"             {visible(outcome.reason)}"
                yield f"             it must hold: {outcome.law}"
                if outcome.trace and not trace:
                    yield f"             see: bench check {item.full_name} --only {outcome.check} --trace"
                if trace and outcome.trace:
                    yield from (
                        f"             {visible(line)}" for line in outcome.trace.splitlines()
                    )
            else:
                reason = f" ({visible(outcome.reason)})" if outcome.reason else ""
                yield f"    {outcome.status:8} {name}{reason}"


@click.command()
@click.argument("kind", type=click.Choice(["method", "arch", "dataset", "diagnostic"]))
@click.argument("name")
@click.option(
    "--into",
    default=".",
    show_default=True,
    type=PATH,
    help="The folder in which the package is written.",
)
def new(kind: str, name: str, into: Path) -> None:
    """Write a plugin package to begin from. It passes its own tests: a learning rule, an architecture, …"""
    from bench_core.registry import plugins as installed
    from bench_core.registry import scaffold

    registry = installed.load()
    taken = {item.component.name for item in registry.components if item.kind == kind}
    place = scaffold.new(kind, name, into, taken)
    command = scaffold.KINDS[kind][2].format(name=name)
    words = scaffold.KINDS[kind][1]
    click.echo(
        f"{place}: {'an' if words[0] == 'a' else 'a'} {words} that works; make it yours in {scaffold.module(kind, name)}"
    )
    click.echo(f"  pip install -e '{place}[test]'\n  bench check {place.name}\n  {command}")
