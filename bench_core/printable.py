"""Make text of plugins and child processes safe to print, their numbers plain, and lists short."""

from __future__ import annotations

import codecs
import io
import math
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from numbers import Real
from pathlib import PurePath
from types import FrameType
from typing import Any, TextIO

LARGEST = 2 << 20  # bytes; of a longer log the beginning and the end are kept
LONGEST = 1000  # letters of a line about another user's run
CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffd]"
)

# stand-ins of one character, so that the columns of a table keep their widths
PLAIN = {"Γ": "G", "Δ": "D", "λ": "l", "‖": "|", "–": "-", "−": "-", "·": ".", "±": "~"}
PLAIN |= {"×": "x", "→": ">", "†": "+", "‡": "+", "…": "."}


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(PLAIN.get(letter, "?") for letter in letters), error.end


codecs.register_error("bench-plain", _plain)


def any_encoding(stream: Any) -> None:
    """Let a text stream write stand-ins for the letters that its encoding lacks (latin-1: Γ)."""
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="bench-plain")


def plain(value: Any) -> Any:
    """Return one number of numpy or torch as a number of Python, and every other value as it is.

    An array or a tensor of one element is one number.
    """
    if hasattr(value, "item") and math.prod(getattr(value, "shape", (0,))) == 1:
        value = value.item()
        if hasattr(value, "dtype") and isinstance(value, Real):  # longdouble has no plain form
            value = float(value)
    return value


def brief(error: BaseException) -> str:
    """Return an exception as one printable line, even if its own `__str__` raises."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "(its message cannot be printed)"
    text = text if len(text) <= 300 else f"{text[:299]}…"
    return f"{type(error).__name__}: {_printable(text)}"


def origin(error: BaseException) -> str:
    """Return `FILE.py:LINE` of the plugin's own line in which a traceback ends; "" without one."""
    return own_line(traceback.walk_tb(error.__traceback__))


def own_line(calls: Iterable[tuple[FrameType, int]]) -> str:
    """Return `FILE.py:LINE` of the last of these calls that lies in a plugin; "" without one."""
    others = {"bench_core", "__main__", "torch", "numpy", "pydantic", *sys.stdlib_module_names}
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in calls
        if str(frame.f_globals.get("__name__")).partition(".")[0] not in others
    ]
    files = [f"{PurePath(file).name}:{line}" for file, line in frames if not file.startswith("<")]
    return files[-1] if files and files[-1].isprintable() else ""


def few(names: Sequence[str], by: str = ", ") -> str:
    """Name the first three, and the number of the others."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{by.join(names[:3])}{more}"


def cut(text: str) -> str:
    """Return a line of a message, without the rest of one that is too long to be read."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def last_line(output: bytes) -> str:
    """Return the last line of an output, where Python names an exception, as printable text."""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return _printable(lines[-1])[:200] if lines else ""


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


class Harmless(io.TextIOBase):
    """A text stream that passes on printable text, up to LARGEST characters."""

    def __init__(self, out: TextIO) -> None:
        self.out, self.left = out, LARGEST

    def write(self, text: str) -> int:
        passed = CONTROL.sub("", text.encode("utf-8", "replace").decode("utf-8"))[: self.left]
        self.left -= len(passed)
        self.out.write(passed)
        return len(text)

    def flush(self) -> None:
        self.out.flush()
