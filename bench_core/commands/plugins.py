"""`bench plugins`, `check`, `new`, `schema`: installed plugins, and help for authors."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from bench_core.commands.listing import print_table
from bench_core.commands.options import (
    Choice,
    component,
    data_dir_option,
    json_option,
    option,
    print_json,
    write_suite_file,
)
from bench_core.errors import Exit, UsageError
from bench_core.report.text.terminal import echo

if TYPE_CHECKING:
    from bench_core.registry.registry import Installed, Registry
    from bench_core.registry.scaffold import Rule
    from bench_core.testing.kit import Outcome


@click.command()
@option("--check", "Import every plugin and its components, each in a process of its own.")
@option(
    "--timeout SECONDS",
    "Give each plugin this long to be imported.  [default: BENCH_PLUGIN_SECONDS, else 60]",
)
@option("--strict-plugins", "Exit with 2 if any plugin is broken.")
@json_option
def plugins(check: bool, timeout: float | None, strict_plugins: bool, as_json: bool) -> None:
    """List the distributions that bring plugins, and their faults."""
    from bench_core.registry import plugins as installed

    if check:
        sys.exit(Exit.SOME_FAILED if _check_all(timeout, as_json) else Exit.DONE)
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
    _print_plugins(rows, ["distribution", "version", "brings", "state"], registry, as_json)
    if strict_plugins and registry.troubles:
        raise UsageError(f"--strict-plugins: {'; '.join(f'plugin {t}' for t in registry.troubles)}")


def _broken(registry: Registry) -> set[tuple[str, str]]:
    return {(trouble.distribution, trouble.version) for trouble in registry.troubles}


def _print_plugins(
    rows: list[list[str]], heads: list[str], registry: Registry, as_json: bool
) -> None:
    """Print a row per plugin and every fault."""
    if as_json:
        listed = [dict(zip(heads, row, strict=True)) for row in rows]
        return print_json({"plugins": listed, "troubles": list(map(vars, registry.troubles))})
    print_table(rows, heads, "brings", 16)
    for trouble in registry.troubles:
        echo(f"trouble: {trouble}")
    return None


def _brings(kinds: Iterable[str], observes: bool) -> str:
    """Return `2 methods, 1 arch, observers`."""
    parts = [f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in Counter(kinds).items()]
    return ", ".join([*parts, *(["observers"] if observes else [])]) or "–"


def _check_all(timeout: float | None, as_json: bool) -> bool:
    """Import every plugin, print how that went, and return whether any of them is broken."""
    from bench_core.registry import entry_points, loading
    from bench_core.registry import plugins as installed
    from bench_core.registry.registry import Registry

    registry = Registry()
    points, registry.troubles = entry_points.installed()
    results = [r for point in points for r in loading.examine([point], timeout, targets=True)]
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
    _print_plugins(rows, heads, registry, as_json)
    for point in (r.entry_point for r in results if r.torch and not as_json):
        note = f"importing {point.value} loads torch in every bench command"
        echo(f"note: {point.distribution}: {note}")
    return bool(registry.troubles)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="PLUGIN…")
@option(
    "--category",
    "Run only the checks of this category.",
    type=Choice("bench_core.testing:CATEGORIES"),
)
@option("--only CHECK", "Run only the check of this name.")
@option("--trace", "Print the traceback of every failed check.")
@option("--json", "Print JSON, one outcome per line.", "as_json")
@option("--timeout SECONDS", "Give each check this long.", default=120.0)
@data_dir_option
def check(
    names: Sequence[str],
    category: str | None,
    only: str | None,
    trace: bool,
    as_json: bool,
    timeout: float,
    data_dir: Path | None,
) -> None:
    """Check that a plugin holds what bench relies on.

    PLUGIN is a component (dfa, my_rule, kind:name, or name[option=value]), a file ./my_rule.py, or
    a distribution with all that it brings. The exit code is 1 if a check fails, else 0.
    """
    from dataclasses import asdict

    from bench_core.registry import rule_files
    from bench_core.testing import session

    if data_dir is not None:  # the checks run in child processes
        os.environ["BENCH_DATA_DIR"] = str(data_dir)
    files = {Path(name.partition("[")[0]).name: name.partition("[")[0] for name in names}
    registry, names = rule_files.load(names)
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
            again = files.get(item.distribution, item.full_name)
            lines = list(_report(item, outcomes, trace, again))
        for line in lines:
            echo(line)
    if len(chosen) > 1 and not as_json:
        echo(f"\n{len(chosen)} components: {_counted(total)}")
    sys.exit(Exit.SOME_FAILED if total["failed"] else Exit.DONE)


def _chosen(name: str, registry: Registry) -> Iterator[tuple[Installed, Mapping[str, Any]]]:
    """Yield the component of that name with its options, or every component of a distribution."""
    from bench_core.execution.planning import validate
    from bench_core.execution.planning.examination import Request, option_faults
    from bench_core.registry.distributions import normalised
    from bench_core.testing.kit import find

    brought = [item for item in registry.components if item.distribution == normalised(name)]
    if brought and "/" not in name:
        yield from ((item, {}) for item in brought)
        return
    kind, colon, rest = name.partition(":")
    short, options = component("PLUGIN", rest if colon else name)
    if any(trouble.distribution == normalised(short) for trouble in registry.troubles):
        raise UsageError("; ".join(map(str, registry.troubles)))
    item = find(f"{kind}:{short}" if colon else short, registry)
    if options:
        request: Request = {"components": [[item.kind, item.full_name, options]]}
        (answer,) = validate.ask(request)["components"]
        if lines := [f"{item.component.name}.{line}" for line in option_faults(answer)]:
            raise UsageError("\n".join(lines))
    yield item, options


def _counted(counts: Counter[str]) -> str:
    """Return `12 passed, 0 failed, 1 skipped`."""
    from bench_core.testing.kit import Status

    shown = [key for key in get_args(Status) if counts[key] or key in ("passed", "failed")]
    words = {"expected": "failed as expected"}
    return ", ".join(f"{counts[key]} {words.get(key, key)}" for key in shown)


def _report(item: Installed, outcomes: list[Outcome], trace: bool, again: str) -> Iterator[str]:
    """Yield the lines about one component, which `bench check` takes as `again`."""
    from bench_core.report.text.escape import visible
    from bench_core.testing import CATEGORIES

    counts: Counter[str] = Counter(outcome.status for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    reached = Counter(o.reason for o in outcomes if o.reason.startswith("not reached: "))
    joined = {reason: count for reason, count in reached.items() if count > 1}
    yield f"{item.full_name}: {item.kind} of {item.origin} · {_counted(counts)} · {seconds:.1f} s"
    for category in CATEGORIES:
        listed = [o for o in outcomes if o.category == category and o.reason not in joined]
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
                details.append(f"see: bench check {again} --only {outcome.check} --trace")
            yield from (f"             {line}" for line in details)
    for reason, count in joined.items():
        yield f"\n  {count} checks {visible(reason)}"


@click.command()
@click.argument("kind", type=Choice("bench_core.registry.scaffold:NEW"))
@click.argument("name")
@option("--from PATH", "Make the package of the learning rule in this file.", "source")
@option("--into FOLDER", "Write it into this folder.", default=".")
def new(kind: str, name: str, source: Path | None, into: Path) -> None:
    """Write a plugin package, or a suite file, to begin from.

    The package works and passes its own tests. Beside a suite its schema is written, which
    editors read. `bench new method my_rule --from my_rule.py` makes the package of a rule.
    """
    from bench_core.registry import plugins, scaffold

    if source is not None and kind != "method":
        raise UsageError(f"--from {source}: a file brings a learning rule: bench new method {name}")
    if kind == "suite":
        place, schema_file = write_suite_file(*scaffold.suite(name, into))
        echo(f"{place}: a suite that runs; {schema_file.name} tells editors its keys")
        echo(f"  bench plan {place}")
        return
    registry = plugins.load()
    taken = {item.component.name for item in registry.components if item.kind == kind}
    rule = None if source is None else _rule_of(source)
    place = scaffold.new(kind, name, into, taken, rule)
    words = scaffold.KINDS[kind][0]
    article = "an" if words[0] == "a" else "a"
    module = scaffold.module(kind, name)
    begun = (
        f"{article} {words} that passes its tests; make it yours in {module}, and describe it in "
    )
    begun += scaffold.table(name)
    echo(f"{place}: {begun if rule is None else f'the rule of {source}, in {module}'}")
    echo(f"  pip install -e '{place}[test]'")
    echo(f"  bench check {place.name}")
    echo(f"  {scaffold.command(kind, name)}")


def _rule_of(source: Path) -> Rule:
    """Read the learning rule of a file."""
    from bench_core.names import FILE
    from bench_core.registry import rule_files, scaffold
    from bench_core.registry.scaffold import Rule
    from bench_core.report.text.numbers import plural

    registry, names = rule_files.load([str(source)])
    rules = [item for item in registry.of_kind("method") if item.distribution.endswith(FILE)]
    if len(rules) != 1 or not source.expanduser().is_file():
        remedy = "move each rule into a file of its own, and name the file"
        raise UsageError(
            f"{source}: of a file with {plural(len(rules), 'rule')}; a package begins with a file "
            f"of one: {remedy}"
        )
    component = registry.find("method", names[0]).component
    target = component.target.partition(":")[2]
    path = source.expanduser().absolute()
    text = path.read_text(encoding="utf-8")
    if beside := scaffold.neighbours(text, path):
        lacks = "from its own folder, which a package would lack: put that code into the file"
        raise UsageError(f"{source}: imports {', '.join(beside)} {lacks}")
    return Rule(path, text, target, component.summary)


@click.command()
@option("-o --output FILE", "Write to this file.")
def schema(output: Path | None) -> None:
    """Print the JSON Schema of suite files, for editors.

    A suite names it in its first line: # yaml-language-server: $schema=suite.schema.json
    """
    from bench_core.commands.options import deliver
    from bench_core.suite.model import suite_schema

    deliver(json.dumps(suite_schema(), indent=2) + "\n", output, coloured=False)
