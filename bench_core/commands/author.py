"""`bench check`, `bench new`, `bench schema`: for the authors of plugins and suites."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench_core.commands.options import PATH, SECONDS, Choice, component, faults
from bench_core.errors import Exit, UsageError

if TYPE_CHECKING:
    from bench_core.registry.registry import Installed, Registry
    from bench_core.testing.kit import Outcome

WORDS = {
    "passed": "passed",
    "failed": "failed",
    "expected": "failed as expected",
    "skipped": "skipped",
}


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="PLUGIN…")
@click.option(
    "--category",
    type=Choice("bench_core.testing:CATEGORIES"),
    help="Run only the checks of this category.",
)
@click.option("--only", metavar="CHECK", help="Run only the check of this name.")
@click.option("--trace", is_flag=True, help="Print the traceback of every failed check.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one outcome per line.")
@click.option(
    "--timeout", type=SECONDS, default=120.0, metavar="SECONDS", help="Give each check this long."
)
def check(
    names: tuple[str, ...],
    category: str | None,
    only: str | None,
    trace: bool,
    as_json: bool,
    timeout: float,
) -> None:
    """Check that a plugin holds what bench relies on.

    PLUGIN is a component (dfa, my_rule, kind:name, or name[option=value]) or a distribution with
    all that it brings. The exit code is 1 if a check fails, else 0.
    """
    from dataclasses import asdict

    from bench_core.registry import plugins
    from bench_core.testing import session

    registry = plugins.load()
    chosen = [pair for name in names for pair in _chosen(name, registry)]
    total: Counter[str] = Counter()
    for item, options in chosen:
        request = session.Request(item.kind, item.full_name, dict(options), category, only)
        outcomes: list[Outcome] = []
        if only is None and category in (None, "contract"):
            outcomes += session.distribution(item, timeout)
        outcomes += session.carry_out(request, timeout)
        total.update(outcome.status for outcome in outcomes)
        if as_json:
            about = {"component": item.full_name, "kind": item.kind}
            lines = [json.dumps(about | asdict(outcome)) for outcome in outcomes]
        else:
            lines = list(_report(item, outcomes, trace))
        for line in lines:
            click.echo(line)
    if len(chosen) > 1 and not as_json:
        click.echo(f"\n{len(chosen)} components: {_counted(total)}")
    sys.exit(Exit.SOME_FAILED if total["failed"] else Exit.DONE)


def _chosen(name: str, registry: Registry) -> Iterator[tuple[Installed, Mapping[str, Any]]]:
    """Yield the component of that name with its options, or every component of a distribution."""
    from bench_core.execution import validate
    from bench_core.registry.distributions import normalised
    from bench_core.testing.kit import find

    brought = [item for item in registry.components if item.distribution == normalised(name)]
    if brought and "/" not in name:
        yield from ((item, {}) for item in brought if item.kind != "executor")
        return
    kind, colon, rest = name.partition(":")
    short, options = component("PLUGIN", rest if colon else name)
    if any(trouble.distribution == normalised(short) for trouble in registry.troubles):
        raise UsageError("; ".join(map(str, registry.troubles)))
    item = find(f"{kind}:{short}" if colon else short, registry)
    if options:
        request = {"components": [[item.kind, item.full_name, options]], "trios": []}
        (answer,) = validate.ask(request)["components"]
        if lines := [f"{item.component.name}.{line}" for line in faults(answer)]:
            raise UsageError("\n".join(lines))
    yield item, options


def _counted(counts: Counter[str]) -> str:
    """Return `12 passed, 0 failed, 1 skipped`."""
    shown = [key for key in WORDS if counts[key] or key in ("passed", "failed")]
    return ", ".join(f"{counts[key]} {WORDS[key]}" for key in shown)


def _report(item: Installed, outcomes: list[Outcome], trace: bool) -> Iterator[str]:
    """Yield the lines about one component."""
    from bench_core.report.escape import visible
    from bench_core.testing import CATEGORIES

    counts: Counter[str] = Counter(outcome.status for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    yield f"{item.full_name} {item.version} ({item.kind}): {_counted(counts)} · {seconds:.1f} s"
    for category in CATEGORIES:
        listed = [outcome for outcome in outcomes if outcome.category == category]
        if listed:
            yield f"\n  {category}"
        for outcome in listed:
            name, reason = outcome.check.replace("_", " "), visible(outcome.reason)
            if outcome.status != "failed":
                yield f"    {outcome.status:8} {name}" + (f" ({reason})" if reason else "")
                continue
            yield f"    FAILED   {name}"
            details = [reason, f"it must hold: {outcome.law}"]
            if trace:
                details += map(visible, outcome.trace.splitlines())
            elif outcome.trace:
                details.append(f"see: bench check {item.full_name} --only {outcome.check} --trace")
            yield from (f"             {line}" for line in details)


@click.command()
@click.argument("kind", type=Choice("bench_core.registry.scaffold:KINDS"))
@click.argument("name")
@click.option("--into", default=".", type=PATH, help="Write the package into this folder.")
def new(kind: str, name: str, into: Path) -> None:
    """Write a plugin package to begin from.

    The package works and passes its own tests.
    """
    from bench_core.registry import plugins, scaffold

    registry = plugins.load()
    taken = {item.component.name for item in registry.components if item.kind == kind}
    place = scaffold.new(kind, name, into, taken)
    words = scaffold.KINDS[kind][0]
    article = "an" if words[0] == "a" else "a"
    module = scaffold.module(kind, name)
    click.echo(f"{place}: {article} {words} that works; make it yours in {module}")
    click.echo(f"  pip install -e '{place}[test]'")
    click.echo(f"  bench check {place.name}")
    click.echo(f"  {scaffold.command(kind, name)}")


@click.command()
def schema() -> None:
    """Print the JSON Schema of suite files, for editors."""
    from bench_core.suite.model import suite_schema

    click.echo(json.dumps(suite_schema(), indent=2))
