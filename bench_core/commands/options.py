"""Options that several commands share, and the plan that the options of a suite make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench_core.errors import UsageError

if TYPE_CHECKING:
    from bench_core.analysis.gather import SuiteResults
    from bench_core.execution.plan import Plan
    from bench_core.registry.registry import Registry

PATH = click.Path(path_type=Path)
results_argument = click.argument("results", nargs=-1, type=PATH)


def gathered(roots: tuple[Path, ...]) -> tuple[list[SuiteResults], list[str]]:
    """The results under the given folders, by default `results`; what could not be read is a warning line each."""
    from bench_core.analysis.gather import gather

    suites, troubles = gather(list(roots) or [Path("results")])
    for line in troubles:
        click.echo(f"warning: {line}", err=True)
    return suites, troubles


def terminal_width() -> int:
    """Columns of the terminal (or COLUMNS), 100 where there is none."""
    import shutil

    return shutil.get_terminal_size((100, 24)).columns


def suite_options(command: Any) -> Any:
    """The options that say which suite, changed how, with which data and results."""
    options = [
        click.argument("suite"),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override, such as training.epochs=5."),
        click.option("--method", "methods", multiple=True, metavar="NAME", help="Only this method, or name[option=value]."),
        click.option("--dataset", metavar="NAME", help="Another data set."),
        click.option("--arch", metavar="NAME", help="Another architecture."),
        click.option("--seed", "seeds", multiple=True, type=int, metavar="N", help="Only this seed (repeatable)."),
        click.option("--epochs", type=int, metavar="N", help="Another length of the schedule."),
        click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, …"),
        click.option("--results", default="results", show_default=True, type=PATH, help="Where run folders are kept."),
        click.option("--data-dir", envvar="BENCH_DATA_DIR", show_envvar=True, type=PATH, help="Where data files lie [data]."),
        click.option("--strict-plugins", is_flag=True, help="Stop where a plugin is broken, used or not."),
        click.option("--retry-failed", is_flag=True, help="Run cells again whose run failed."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def planned(suite: str, options: dict[str, Any]) -> tuple[Plan, Registry]:
    """Load the suite and the plugins and make the plan; broken plugins that it does not use are one warning line each."""
    from bench_core.execution.plan import make_plan
    from bench_core.registry import plugins
    from bench_core.suite.load import load_suite

    short = {
        key: options[key] for key in ("methods", "seeds", "dataset", "arch", "epochs", "device")
    }
    loaded = load_suite(suite, options["overrides"], **short)
    registry = plugins.load()
    if options["strict_plugins"] and registry.troubles:
        raise UsageError(
            "--strict-plugins: " + "; ".join(f"plugin {trouble}" for trouble in registry.troubles)
        )
    plan = make_plan(
        loaded, registry, options["results"], options["data_dir"], options["retry_failed"]
    )
    for trouble in registry.troubles:
        click.echo(f"warning: plugin {trouble}", err=True)
    for line in plan.troubles:
        click.echo(f"warning: {line}", err=True)
    return plan, registry
