"""The command `bench`: its commands, the order in which help lists them, and its exit codes.

Exit codes: 0 everything is done · 1 some cells or checks failed · 2 usage error · 3 bug of bench ·
130 interrupted.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

import click

from bench_core import __version__
from bench_core.errors import DISK, BenchError, Exit, UsageError, did_you_mean
from bench_core.printable import any_encoding
from bench_core.report.text.terminal import echo

COMMANDS = {
    "run": "run:run",
    "plan": "plan:plan",
    "tune": "tune:tune",
    "status": "status:status",
    "leaderboard": "results:leaderboard",
    "report": "report:report",
    "figure": "report:figure",
    "compare": "results:compare",
    "cost": "results:cost",
    "show": "one_run:show",
    "why": "one_run:why",
    "claims": "results:claims",
    "audit": "audit:audit",
    "site": "report:site",
    "export": "results:export",
    "cite": "results:cite",
    "merge": "sharing:merge",
    "verify": "sharing:verify",
    "replicate": "sharing:replicate",
    "submit": "sharing:submit",
    "clean": "clean:clean",
    "list": "listing:list_",
    "info": "listing:info",
    "plugins": "plugins:plugins",
    "check": "plugins:check",
    "new": "plugins:new",
    "schema": "plugins:schema",
}  # name → module of bench_core.commands and function, in the order in which a newcomer meets them
MEANT = {
    "check": ("test", "validate", "lint"),
    "clean": ("delete", "prune", "remove", "rm"),
    "info": ("describe", "doc", "explain", "help"),
    "leaderboard": ("results", "table", "top"),
    "figure": ("draw", "plot"),
    "list": ("ls", "methods", "rules", "suites"),
    "new": ("create", "init", "start"),
    "report": ("html", "page"),
    "run": ("start", "train", "sweep"),
    "status": ("progress", "ps", "watch"),
}  # command → other words for it, for which no spelling is near
UNWRITABLE = (*DISK, errno.EFBIG)  # faults of the disk, or a limit of the file's size; no bugs


class Commands(click.Group):
    """The commands of `COMMANDS`, each imported when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> Any:
        from pkgutil import resolve_name

        if name in COMMANDS:
            return resolve_name(f"bench_core.commands.{COMMANDS[name]}")
        if not ctx.resilient_parsing:  # as while a shell completes a line
            meant = " or ".join(command for command, words in MEANT.items() if name in words)
            hint = f"did you mean {meant}?" if meant else did_you_mean(name, set(COMMANDS))
            ctx.fail(f"No such command {name!r}; {hint}")
        return None


CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True}


@click.group(cls=Commands, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="bench")
def bench() -> None:
    """Audit learning rules that replace or approximate backpropagation.

    Start with: bench run quickstart
    """


def _open_standard_streams() -> None:
    """Open the null device for every standard stream that is closed.

    The next file that is opened would otherwise take the number of the stream and receive all that
    is printed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _check_working_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:
        what = "the working folder was deleted or cannot be read"
        raise UsageError(f"{what} ({error.strerror}): cd to another one") from None


def main() -> None:
    """Run the command line: print an error for people in one line, a bug as a traceback."""
    try:
        _open_standard_streams()
        for stream in (sys.stdout, sys.stderr):
            any_encoding(stream)
        _check_working_folder()
        bench.main(standalone_mode=False)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        echo(shown.getvalue().replace("\n\t", "\n  "), err=True, nl=False)  # click's lists
        sys.exit(Exit.USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(Exit.INTERRUPTED)
    except BenchError as error:
        echo(f"error: {error}", err=True)
        sys.exit(Exit.USAGE)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            place = error.filename or "the output"
            echo(f"error: cannot write {place}: {error.strerror}", err=True)
            os._exit(Exit.USAGE)  # without the flush that would fail again
        import traceback

        from pydantic_core import SchemaError

        if isinstance(error, SchemaError) and "KeyboardInterrupt" in str(error):
            sys.exit(Exit.INTERRUPTED)  # pydantic has wrapped it
        echo(traceback.format_exc(), err=True, nl=False)
        echo("this is a bug of bench: please report it with the lines above", err=True)
        sys.exit(Exit.BUG)
