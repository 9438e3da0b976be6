"""Options that several commands share, and the steps that most commands begin and end with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from bench_core.errors import UsageError

if TYPE_CHECKING:
    from bench_core.analysis.gather import SuiteResults
    from bench_core.execution.plan import Plan
    from bench_core.registry.registry import Registry

Command = TypeVar("Command", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)
WORKERS = click.IntRange(1, 1024)
SECONDS = click.FloatRange(0.1, 3600)


class Choice(click.Choice):  # type: ignore[type-arg]  # generic since click 8.4
    """A choice between the names that a module lists, imported when the names are needed.

    names  `module:name` of a Literal, of names, or of a function that returns them
    """

    def __init__(self, names: str) -> None:
        self.names, self.case_sensitive = names, True

    @cached_property
    def choices(self) -> tuple[str, ...]:  # type: ignore[override]
        from pkgutil import resolve_name

        names = resolve_name(self.names)
        return get_args(names) or tuple(names() if callable(names) else names)


def repeatable(
    option: str, name: str, metavar: str, help: str, **more: Any
) -> Callable[[Command], Command]:
    """Return an option that may be given several times."""
    help = f"{help}; repeatable."
    return click.option(option, name, multiple=True, metavar=metavar, help=help, **more)


def format_option(
    names: click.Choice[str], default: str | None = "table", help: str = "Write in this format."
) -> Callable[[Command], Command]:
    return click.option("--format", "form", type=names, default=default, help=help)


def output_option(
    default: str | None = None, help: str = "Write to this file."
) -> Callable[[Command], Command]:
    return click.option("-o", "--output", default=default, type=PATH, help=help)


results_argument = click.argument("results", nargs=-1, type=PATH)
data_dir_option = click.option(
    "--data-dir",
    envvar="BENCH_DATA_DIR",
    show_envvar=True,
    type=PATH,
    help="Folder with the data files.  [default: data]",
)
SUITE_OPTIONS = (
    click.argument("suite"),
    repeatable(
        "--set", "overrides", "KEY=VALUE", "Set a key of the suite, such as training.epochs=5"
    ),
    repeatable("--method", "methods", "NAME", "Run only this method, NAME or NAME[option=value]"),
    click.option("--dataset", metavar="NAME", help="Use this data set."),
    click.option("--arch", metavar="NAME", help="Use this architecture."),
    repeatable("--seed", "seeds", "N", "Run only this seed", type=int),
    click.option("--epochs", type=int, metavar="N", help="Train for N epochs."),
    click.option("--device", metavar="NAME", help="Train on cpu, cuda, cuda:1, …"),
    click.option(
        "--results", default="results", type=PATH, help="Keep the run folders in this folder."
    ),
    data_dir_option,
    click.option(
        "--strict-plugins", is_flag=True, help="Stop if any plugin is broken, used or not."
    ),
    click.option("--retry-failed", is_flag=True, help="Run the cells again that failed."),
)


def suite_options(command: Any) -> Any:
    """Give a command the argument SUITE and the options that change the suite."""
    for option in reversed(SUITE_OPTIONS):
        command = option(command)
    return command


def warn(lines: Iterable[object]) -> None:
    """Print warnings to standard error, one line each."""
    for line in lines:
        click.echo(f"warning: {line}", err=True)


def terminal_width() -> int:
    """Return the columns of the terminal (or COLUMNS), 100 if there is no terminal."""
    import shutil

    return shutil.get_terminal_size((100, 24)).columns


def gathered(roots: tuple[Path, ...]) -> tuple[list[SuiteResults], list[str]]:
    """Read the results under the given folders (default: results).

    Also returns what could not be read, a line each; these lines are printed as warnings.
    """
    from bench_core.analysis.gather import gather

    suites, troubles = gather(list(roots) or [Path("results")])
    warn(troubles)
    return suites, troubles


def planned(suite: str, options: dict[str, Any]) -> tuple[Plan, Registry]:
    """Load the suite and the plugins, make the plan, and warn of broken plugins it does not use."""
    from bench_core.execution.plan import make_plan
    from bench_core.registry import plugins
    from bench_core.suite.load import load_suite

    keys = ("methods", "seeds", "dataset", "arch", "epochs", "device")
    loaded = load_suite(suite, options["overrides"], **{key: options[key] for key in keys})
    registry = plugins.load()
    broken = [f"plugin {trouble}" for trouble in registry.troubles]
    if options["strict_plugins"] and broken:
        raise UsageError(f"--strict-plugins: {'; '.join(broken)}")
    plan = make_plan(
        loaded, registry, options["results"], options["data_dir"], options["retry_failed"]
    )
    warn([*broken, *plan.troubles])
    return plan, registry


def deliver(text: str, output: Path | None, coloured: bool) -> None:
    """Write the text to the file and print its path; without a file print the text."""
    from bench_core.report.terminal import say
    from bench_core.results.files import replace_file

    if output is not None:
        replace_file(output, text)
        click.echo(output)
    elif coloured:
        say(text)
    else:
        click.echo(text, nl=False)


def component(option: str, text: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of a component given as NAME or NAME[option=value].

    option  the option that holds the text, for error messages
    """
    from bench_core.suite.component import component_option

    value = component_option(option, text, ()).value
    options = dict(value) if isinstance(value, dict) else {"name": value}
    return options.pop("name"), options


def faults(answer: dict[str, Any]) -> list[str]:
    """Return what is wrong with the options of a component, as `validate.ask` answered."""
    return [
        f"{'.'.join(map(str, path))}: {fault}" + (f"; {hint}" if hint else "")
        for path, fault, hint, _ in answer.get("invalid", ())
    ]
