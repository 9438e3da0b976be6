"""`bench list`, `bench info`: the installed components and suites, and the card of a component."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from bench_core.commands.options import json_option, print_json, terminal_width, warn
from bench_core.errors import BenchError, UnknownName, UsageError, similar
from bench_core.names import bare_name
from bench_core.report.text.terminal import echo

if TYPE_CHECKING:
    from bench_core.registry.registry import Installed, Registry


@click.command("list")
@click.argument("kind_or_name", required=False)
@json_option
def list_(kind_or_name: str | None, as_json: bool) -> None:
    """List the installed components and suites.

    A kind is methods, archs, datasets, diagnostics, executors or suites. With the name of a
    component this is `bench info`.
    """
    from bench_core.registry import plugins
    from bench_core.registry.registry import KINDS

    kinds = {name: kind for kind in (*KINDS, "suite") for name in (kind, f"{kind}s")}
    if kind_or_name is not None and kind_or_name not in kinds:
        try:
            return _print_card(kind_or_name, as_json)
        except UnknownName:
            if hint := similar(kind_or_name, {f"{kind}s" for kind in kinds.values()}):
                raise UsageError(f"{kind_or_name}: no such kind of component; {hint}") from None
            raise
    registry = plugins.load()
    warn(f"plugin {trouble}" for trouble in registry.troubles)
    wanted = kinds[kind_or_name] if kind_or_name else None
    items = [item for item in _items(registry) if wanted in (None, item["kind"])]
    if as_json:
        return print_json(items)
    for kind in dict.fromkeys(item["kind"] for item in items):
        rows = [[item["name"], _about(item)] for item in items if item["kind"] == kind]
        print_table(rows, [f"{kind}s", "what it is"], "what it is", 20)
        echo("")
    echo("`bench info NAME` shows the equations, the source and the options of a component")
    return None


@click.command()
@click.argument("name")
@json_option
def info(name: str, as_json: bool) -> None:
    """Show the card of a component.

    It has the definition, the source and the deviations from it, what was verified, the options
    with their defaults, and of a learning rule the passport and the declared laws. NAME is dfa,
    kind:name, or a file ./my_rule.py.
    """
    _print_card(name, as_json)


def _items(registry: Registry) -> Iterator[dict[str, Any]]:
    """Describe every component and suite by texts."""
    from bench_core.registry.card import card
    from bench_core.registry.registry import KINDS
    from bench_core.results.reference import installed
    from bench_core.suite.load import installed_suites, title_of

    for item in (item for kind in KINDS for item in registry.of_kind(kind)):
        yield {
            "kind": item.kind,
            "name": item.short_name,
            "summary": item.component.summary,
            "source": card(item.component).source,
            "from": item.origin,
        }
    shipped = installed()
    for name in installed_suites():
        about = {"summary": title_of(name), "source": "", "from": "bench-core"}
        held = shipped if shipped and name in shipped.suites else None
        version, runs = (held.version, held.count(name)) if held else ("", 0)
        yield {"kind": "suite", "name": name, **about, "reference": version, "runs": runs}


def _about(item: Mapping[str, Any]) -> str:
    from bench_core.names import OURS
    from bench_core.report.text.escape import visible
    from bench_core.report.text.numbers import plural

    more = "" if item["from"].startswith(OURS) else f" (from {item['from']})"
    if item.get("reference"):
        more = f" ({plural(item['runs'], 'run')} in reference {item['reference']})"
    return visible(item["summary"] + more)


def _print_card(text: str, as_json: bool) -> None:
    from dataclasses import asdict

    from bench_core.execution.planning import declarations
    from bench_core.registry import rule_files
    from bench_core.registry.card import card
    from bench_core.testing.kit import find

    registry, names = rule_files.load([text])
    if len(names) > 1:
        one = " or ".join(f"{text}/{bare_name(name)}" for name in names)
        raise UsageError(f"{text}: brings {len(names)} rules; name one: {one}")
    item = find(names[0], registry)
    shown, fault = card(item.component), ""
    try:
        declared = declarations.ask(item)
    except BenchError as error:
        declared, fault = {}, str(error)
    if as_json:
        head = {"kind": item.kind, "name": item.short_name, "target": item.component.target}
        origin = {"from": item.origin}
        return print_json({**head, **origin, **asdict(shown), **declared})
    if item.kind == "method":
        entries = shown.entries()
    else:
        entries = [("source", shown.source)] if shown.source else []
    echo("\n".join(_card_lines(item, [*entries, *_declarations(declared)])))
    warn([f"no options, passport and laws: {fault}"] if fault else [])
    return None


def _card_lines(item: Installed, entries: list[tuple[str, str]]) -> Iterator[str]:
    """Yield the lines of a card: a heading, the definition, and the entries below their titles."""
    from bench_core.registry.card import card
    from bench_core.report.text.escape import visible

    shown, width = card(item.component), max(20, min(terminal_width(), 100))
    yield f"{item.short_name}: {item.kind} of {item.origin}"
    if not shown.definition.startswith(shown.summary):
        yield visible(shown.summary)
    yield from map(visible, ["", *shown.definition.splitlines()])
    for title, text in entries:
        yield f"\n{title}"
        for line in text.splitlines():
            wrapped = textwrap.wrap(visible(line), width - 2, subsequent_indent="    ")
            yield from (f"  {part}" for part in wrapped)


def _declarations(declared: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield title and text of what a class says of itself (`declarations.ask`)."""
    from bench_core.results.hashing import line_text

    if passport := declared.get("passport"):
        used = [name for name, value in passport.items() if value]
        yield (
            "passport: it uses, besides the activity local to a block",
            ", ".join(used) or "nothing",
        )
    if laws := declared.get("laws"):
        texts = [k if value is True else f"{k} = {line_text(value)}" for k, value in laws.items()]
        yield "laws that `bench check` tests", ", ".join(texts)
    if declares := declared.get("declares"):
        words = {k: "no" if value is False else value for k, value in declares.items()}
        texts = [f"{k} {value}" for k, value in words.items() if value not in (None, "", True)]
        yield "declares", ", ".join(texts)
    if options := declared.get("options"):
        yield (
            "options and their defaults",
            "\n".join(
                f"{name} = {line_text(option['default'])}"
                + (f": {option['description']}" if option["description"] else "")
                for name, option in options.items()
            ),
        )


def print_table(rows: list[list[str]], heads: list[str], wide: str, least: int) -> None:
    """Print a table; on a narrow terminal wrap the column `wide`, to `least` characters or more."""
    from bench_core.report.text.layout import tabulated

    narrow = [(heads.index(wide), least)]
    echo(tabulated(rows, heads, width=terminal_width(), narrow=narrow))
