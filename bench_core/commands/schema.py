"""`bench schema`: the JSON Schema of suite files."""

from __future__ import annotations

import click


@click.command()
def schema() -> None:
    """Print the JSON Schema of suite files, for editors."""
    import json

    from bench_core.suite.model import suite_schema

    click.echo(json.dumps(suite_schema(), indent=2))
