"""`bench new`: a plugin package to begin from."""

from __future__ import annotations

from pathlib import Path

import click

from bench_core.commands.options import PATH, Choice


@click.command()
@click.argument("kind", type=Choice("bench_core.registry.scaffold:KINDS"))
@click.argument("name")
@click.option(
    "--into",
    default=".",
    show_default=True,
    type=PATH,
    help="Write the package into this folder.",
)
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
