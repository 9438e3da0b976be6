"""Options that several commands share, and the steps that most commands begin and end with."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import click

from bench_core.errors import BenchError, Exit, UsageError, similar
from bench_core.printable import brief, few
from bench_core.report.text.terminal import OUTPUT, echo

if TYPE_CHECKING:
    from bench_core.analysis.gather import SuiteResults
    from bench_core.results.record import RunRecord

Command = TypeVar("Command", bound=Callable[..., Any])

Paths = tuple[Path, ...]
SHIPPED = "reference"  # `reference/NAME` names a suite of the reference
WORKERS = THREADS = click.IntRange(1, 1024)


class PathOption(click.Path):
    """A path that is not empty; `~` is the home folder.

    output  what the command writes there: nothing, a file, or a folder
    """

    def __init__(self, output: Literal["", "file", "folder"] = "") -> None:
        super().__init__(path_type=Path)
        self.output = output

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        """Return the path. Raises UsageError in one line."""
        path = Path(os.path.expanduser(value))
        given = f"{param.opts[0] if param.opts[0].startswith('-') else param.name.upper()} {value}"
        if not os.fspath(value):
            remedy = f"name a {self.output}" if self.output else "give a path, or . for this folder"
            raise UsageError(f"{given.strip()}: is empty; {remedy}")
        if self.output:
            _refuse_reference(given, path, f"name a {self.output} of yours")
        if self.output != "file":
            return path
        if os.path.isdir(path):
            raise UsageError(f"{given}: is a folder; name a file in it")
        in_dev = os.path.abspath(path.parent) in ("/dev", "/dev/fd")  # /dev/stdout may be a link
        if in_dev or (path.exists() and not path.is_file()):
            raise UsageError(f"{given}: is a device or a pipe; name a file")
        if not os.path.isdir(path.parent):
            raise UsageError(f"{given}: there is no folder {path.parent}")
        return path


def _refuse_reference(given: object, path: Path, remedy: str) -> None:
    """Raise UsageError if the path lies in the folder of the reference."""
    from bench_core.results import reference

    home = reference.folder()
    if home is not None and path.resolve().is_relative_to(home.resolve()):
        place = "" if str(path) in str(given) else f" ({path})"
        where = f"belongs to the shipped reference{place}, in which no command writes"
        raise UsageError(f"{given}: {where}; {remedy}")


PATH, FILE = PathOption(), PathOption("file")
# of an option's value
TYPES = {
    "PATH": PATH,
    "FOLDER": PathOption("folder"),
    "FILE": FILE,
    "N": int,
    "SECONDS": click.FloatRange(0.1, 3600),
}


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


def option(
    usage: str, help: str, name: str | None = None, **more: Any
) -> Callable[[Command], Command]:
    """Return an option, written as in the help: `--workers N`; without a value it is a flag.

    name  of the function's parameter, where it differs; of several values it is a plural
    """
    *names, value = usage.split()
    if value.startswith("-"):
        names, more = [*names, value], more if "type" in more else {"is_flag": True, **more}
    else:
        more = {"metavar": value, "type": TYPES.get(value), **more}
    return click.option(*names, *([name] if name else []), help=help, **more)


NOTHING = "no runs yet, so nothing is written: `bench run SUITE` makes some"
ENDINGS = {"markdown": "md", "latex": "tex", "table": "txt"}  # of formats with another name


def format_option(names: click.Choice[str], default: str = "table") -> Callable[[Command], Command]:
    """Add --format; `form_of` finds the format of a command that writes a file."""
    text = f"Write in this format.  [default: the ending of the file, else {default}]"
    return option("--format", text, "form", type=names)


def form_of(form: str | None, output: Path | None, names: Collection[str], default: str) -> str:
    """Return the format that is asked for, or that of the ending of the file, or the default.

    Raises UsageError for an ending of no format, and if the two differ. A file without an ending,
    or of plain text, may hold any format.
    """
    ending = output.suffix.lower() if output else ""
    by_ending = {f".{ENDINGS.get(name, name)}": name for name in names}
    if form is None and ending and ending not in by_ending:
        raise UsageError(f"-o {output}: must end in {', '.join(by_ending)}, or --format be given")
    stated = by_ending.get(ending)
    if form and stated not in (None, form, "table"):
        raise UsageError(f"-o {output}: ends in {ending}, and --format is {form}")
    return form or stated or default


json_option = option("--json", "Print JSON.", "as_json")
results_argument = click.argument("results", nargs=-1, type=PATH)
data_dir_option = option(
    "--data-dir PATH",
    "Folder with the data files.  [default: data]",
    envvar="BENCH_DATA_DIR",
    show_envvar=True,
)


def warn(lines: Iterable[object]) -> None:
    """Print warnings to standard error, one line each, and none twice in a command."""
    context = click.get_current_context(silent=True)
    printed = context.meta.setdefault(__name__, set()) if context else set()
    for line in map(str, lines):
        if line not in printed:
            printed.add(line)
            echo(f"warning: {line}", err=True)


@contextlib.contextmanager
def spared(what: str) -> Iterator[None]:
    """Turn a fault of the block, which prints what has been computed, into a warning.

    A standard output that is lost costs one warning, and none if its reader closed a pipe.
    """
    try:
        yield
    except Exception as error:
        reason = str(error) if isinstance(error, BenchError) else brief(error)
        text = f"no {what}: {reason}"
        if isinstance(error, OSError) and error.filename == OUTPUT:
            text = (
                f"cannot write to {OUTPUT} ({error.strerror}): printing stops, the results are kept"
            )
        if not isinstance(error, BrokenPipeError):
            warn([text])


@contextlib.contextmanager
def interruptible(rest: str) -> Iterator[None]:
    """End the command tidily if the block is interrupted: by Ctrl-C, SIGTERM or SIGHUP.

    rest  says which results are kept, and which command makes the others
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        echo(f"\ninterrupted: {rest}", err=True)
        sys.exit(Exit.INTERRUPTED)


def print_json(value: Any) -> None:
    """Print a value as JSON; numbers that JSON cannot hold become their names."""
    import json

    from bench_core.results.hashing import jsonable

    echo(json.dumps(jsonable(value), indent=1, allow_nan=False))


def terminal_width() -> int:
    """Return the columns of the terminal (or COLUMNS), 100 if there is no terminal."""
    import shutil

    return shutil.get_terminal_size((100, 24)).columns


def gathered(roots: Paths) -> tuple[list[SuiteResults], list[str]]:
    """Read the results that a command shows (default: results), as `beside_reference` does.

    Also returns what could not be read, a line each; these lines are printed as warnings.
    """
    from bench_core.analysis.joined import beside_reference

    folders = shown_folders(roots)
    suites, troubles = beside_reference(folders)
    warn(troubles)
    for folder in folders if not suites else ():
        if deeper := _results_in(folder):
            echo(f"note: {folder} has no runs; name a folder in it: {deeper}", err=True)
    for root, folder in zip(roots, folders, strict=False):
        if not suites and folder != root and is_shipped(root):
            echo(f"note: {folder} has no finished run; {SHIPPED}/{root} is the reference", err=True)
        own = [suite for suite in suites if suite.folder == folder != root]
        _say_own(root, [record for suite in own for record in suite.records])
    return suites, troubles


def _say_own(root: Path, records: list[RunRecord]) -> None:
    """Print that a suite's name stands for the user's own runs, without any of the reference."""
    own = records and not any(record.shipped for record in records)
    if own and is_shipped(root):
        beside = f"{SHIPPED}/{root} is the reference, which they do not fit"
        echo(f"note: {root} is results/{root}, your own runs; {beside}", err=True)


def is_shipped(root: Path) -> bool:
    """Decide whether the reference has runs of a suite of this name."""
    from bench_core.results.reference import installed

    shipped = installed()
    return bool(shipped and shipped.suite(str(root)))


def shown_folders(roots: Paths) -> list[Path]:
    """Return the folders that a command shows.

    Raises UsageError for a suite without results, and if a folder is missing where the reference,
    which may have it, cannot be used.
    """
    folders = [shown_folder(root) for root in roots] or [Path("results")]
    for folder in folders:
        if not os.path.lexists(folder):
            _refuse_missing(str(folder))
    return folders


def _refuse_missing(name: str) -> None:
    """Raise UsageError if the reference cannot be used, or lacks an installed suite of the name.

    Also for a name that is like that of an installed suite.
    """
    from bench_core.results.reference import installed
    from bench_core.suite.load import installed_suites

    shipped, suites = installed(), installed_suites()
    if shipped is not None and shipped.trouble:
        raise UsageError(f"{name}: no such results folder here; {shipped.trouble}")
    if name in suites:
        others = f", only of {', '.join(sorted(shipped.suites))}" if shipped else ""
        lacking = f"{name}: no results here, and the reference has no run of this suite{others}"
        raise UsageError(f"{lacking}; `bench run {name}` trains it")
    hint = similar(name, suites)
    if hint and name != "results":  # the default is no misspelling
        raise UsageError(f"{name}: no such results folder or suite; {hint}")


def refuse_empty(roots: Iterable[Path], what: str) -> None:
    """Raise UsageError for folders that hold no run; `what` says to which end a run is needed."""
    remedy = "name a folder that `bench run` or a submission made"
    if deeper := ", ".join(filter(None, map(_results_in, roots))):
        remedy = f"name a folder in it: {deeper}"
    raise UsageError(f"{', '.join(map(str, roots))}: no run {what}; {remedy}")


def _results_in(folder: Path) -> str:
    """Name the results folders that lie in a folder, such as the submissions in `submissions`."""
    return few(sorted({str(run.parents[2]) for run in folder.glob("*/*/*/run.json")}))


def own_folders(roots: Paths, remedy: str) -> list[Path]:
    """Return the folders in which a command writes. Raises UsageError for one of the reference.

    remedy  what to do instead; `{folder}` is the folder of the reference
    """
    folders = shown_folders(roots)
    for root, folder in zip(roots, folders, strict=False):  # no root: results
        _refuse_reference(root, folder, remedy.format(folder=folder))
    return folders


def shown_folder(root: Path) -> Path:
    """Return a folder that exists; of a suite's name its local results, else the reference.

    `reference/NAME` is always the reference's.
    """
    from bench_core.results.reference import installed

    if os.path.lexists(root):
        return root
    if root.parent == Path(SHIPPED):
        shipped = installed()
        return (shipped.suite(root.name) if shipped else None) or root
    local = Path("results") / root
    shipped = None if local.is_dir() else installed()
    of_suite = shipped.suite(str(root)) if shipped else None
    return of_suite or (local if local.is_dir() else root)


def deliver(text: str, output: Path | None, coloured: bool) -> None:
    """Write the text to the file and print its path; without a file print the text."""
    from bench_core.report.text.terminal import say
    from bench_core.results.files import replace_file

    if output is not None:
        replace_file(output, text, output=True)
        echo(output)
    elif coloured:
        say(text)
    else:
        echo(text, nl=False)


SCHEMA_FILE = "suite.schema.json"


def write_suite_file(path: Path, text: str) -> tuple[Path, Path]:
    """Write a suite file, and beside it the schema that its first line names for editors.

    Raises UsageError, and writes nothing, for a file that is there or with another ending.
    """
    import json
    import os

    from bench_core.results.files import replace_file
    from bench_core.suite.model import suite_schema

    if path.suffix not in (".yaml", ".yml"):
        raise UsageError(f"{path}: must end in .yaml or .yml")
    if os.path.lexists(path):
        raise UsageError(f"{path} is there already; remove it, or choose another name")
    schema = path.with_name(SCHEMA_FILE)
    replace_file(schema, json.dumps(suite_schema(), indent=2) + "\n", output=True)
    replace_file(path, f"# yaml-language-server: $schema={SCHEMA_FILE}\n{text}", output=True)
    return path, schema


def component(flag: str, text: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of a component given as NAME or NAME[option=value].

    flag  the option that holds the text, for error messages
    """
    from bench_core.suite.component import component_option

    value = component_option(flag, text, ()).value
    options = dict(value) if isinstance(value, dict) else {"name": value}
    return options.pop("name"), options
