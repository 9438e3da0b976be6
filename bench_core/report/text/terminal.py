"""Print for people: text of results never controls a terminal, and verdicts have a colour.

All commands print by `echo` and `say`, which write out every invisible character (an escape
sequence in the name of a folder, a suite or a measurement). Colours are only ours; the words alone
say the same.

Bold red, green, blue and magenta stay readable on light and dark backgrounds; yellow, cyan and
white do not. No colour without a terminal, with TERM=dumb, or with NO_COLOR (no-color.org).
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from typing import Any

import click

from bench_core.analysis.verdicts.kinds import KINDS, brief
from bench_core.report.text.escape import visible
from bench_core.results.status import STATUSES

OUTPUT = "standard output"  # the file name of its errors
TONES = {"good": "green", "bad": "red", "mid": "blue"}
OF_STATUS = TONES | {"bad": "magenta"}  # a run that failed is no verdict
COLOURS = (
    {word: TONES[kind.tone] for name, kind in KINDS.items() for word in (name, brief(name))}
    | {"fired": TONES["bad"]}
    | {name: OF_STATUS[status.tone] for name, status in STATUSES.items() if status.tone}
)
_WORDS = re.compile(rf"(?<![\w-])({'|'.join(COLOURS)})(?![\w-])( \d+/\d+)?")


def coloured() -> bool:
    """Return whether standard output takes colour."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return sys.stdout is not None and sys.stdout.isatty()


def paint(text: str) -> str:
    """Colour the verdicts of a text; its columns keep their widths."""
    return _WORDS.sub(lambda word: click.style(word[0], fg=COLOURS[word[1]], bold=True), text)


def harmless(text: str) -> str:
    """Write out every invisible character of a text but its line breaks."""
    return "\n".join(map(visible, text.split("\n")))


def echo(text: object = "", err: bool = False, nl: bool = True) -> None:
    """Print text of any origin, to standard error with `err`."""
    _print(harmless(str(text)), err, nl)


def say(text: str) -> None:
    """Print text that ends with a newline, in colour if the terminal takes it."""
    text = harmless(text)
    _print(paint(text) if coloured() else text, err=False, nl=False)


def _print(text: str, err: bool, nl: bool) -> None:
    """Print a text. A stream that takes none any more (a full disk) is given the null device.

    Raises the OSError of standard output; what standard error loses cannot be told.
    """
    try:
        click.echo(text, err=err, nl=nl)
    except OSError as error:
        silence(sys.stderr if err else sys.stdout)
        if not err:
            error.filename = OUTPUT
            raise


def silence(stream: Any) -> None:
    """Let a stream write to the null device from now on."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), stream.fileno())
