"""The errors of bench and the exit codes.

* A user's mistake (`UsageError`, `SuiteError`, `DataError`, `StoreError`): one line each, exit 2.
* A plugin's fault (`PluginError`): what brought it, the component and the reason, exit 2.
* Any other exception is a bug of bench: a traceback, exit 3.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import IntEnum
from pathlib import Path


class Exit(IntEnum):
    """Exit codes of the `bench` command."""

    DONE = 0
    SOME_FAILED = 1
    USAGE = 2
    BUG = 3
    INTERRUPTED = 130


class BenchError(Exception):
    """An error that is printed as one message, without a traceback."""


class UsageError(BenchError):
    """A request that cannot be carried out as it was written."""


class UnknownName(UsageError):  # noqa: N818
    """A name that no installed component has."""


class DataError(UsageError):
    """A data file that is missing, corrupt or out of reach."""


class ChangedByDiagnostic(BenchError):  # noqa: N818
    """A training, or the states that are measured, which a diagnostic has changed."""

    def __init__(self, diagnostic: str, what: str, remedy: str = "mend it") -> None:
        super().__init__(
            f"the diagnostic {diagnostic} changes {what}; measuring must leave all as it is: "
            f"{remedy}, or take it out of diagnostics"
        )


class CreditError(BenchError):
    """A rule's credit that does not fit the network's states; no diagnostic can measure it."""


class NoDevice(BenchError):  # noqa: N818
    """A device that this machine lacks; another machine may have it."""


class StoreError(BenchError):
    """A results folder that cannot be read or written (disk full, read-only, not a folder)."""


@dataclass(frozen=True)
class Problem:
    """One fault of a suite file: `file:line:col: key: what; hint`.

    Of a command-line option `file` is the option as written, and `line` is 0.
    """

    file: str
    line: int
    column: int
    key: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        key, place = self.key, f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        if place.startswith("--method "):  # the option names the entry
            key = re.sub(r"^methods\[\d+\]\.?", "", key)
        if place.startswith(f"--{key} "):
            key = ""
        key = f"{key}: " if key else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{place}: {key}{self.what}{hint}"


class SuiteError(UsageError):
    """All faults of a suite file at once."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class PluginError(BenchError):
    """A fault of a component outside a cell: at import, at validation, at a capability check.

    origin  the distribution with its version, or the file of a rule
    """

    def __init__(self, origin: str, component: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{origin}: {component}: {reason}")


# faults of a disk or of its mount: no bugs, and every other file would meet them too
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)
MOST_LISTED = 40  # of the known names: components of all kinds together are more


def similar(word: str, known: Collection[str], deeper: Iterable[str] = ()) -> str:
    """Return "did you mean NAME?" for a misspelt name; "" if no name is similar.

    deeper  dotted names, of which one may be meant by its last part. Any name may be meant by its
            first letters or by the initials of its words: batch, lr
    """
    near = sorted(name for name in known if name.lower() == word.lower())
    near = near or get_close_matches(word, sorted(known), n=3, cutoff=0.65)
    pairs = (name for name in known if len(name) == len(word) == 2)
    near = near or sorted(name for name in pairs if sum(map(str.__eq__, name, word)) == 1)
    near = near or sorted(name for name in known if len(word) > 2 and name.startswith(word))
    near = near or sorted(name for name in {*known, *deeper} if _is_short_for(word, name))
    return f"did you mean {' or '.join(near)}?" if near else ""


def did_you_mean(word: str, known: Collection[str], deeper: Iterable[str] = ()) -> str:
    """Return a hint for a misspelt name: the similar names, or else the known ones (`similar`)."""
    if near := similar(word, known, deeper):
        return near
    if len(known) > MOST_LISTED:
        return "`bench list` shows the known names"
    return "known: " + ", ".join(sorted(known)) if known else ""


def _is_short_for(word: str, name: str) -> bool:
    last = name.rpartition(".")[2]
    initials = "".join(part[:1] for part in last.split("_"))
    alike = bool(get_close_matches(word, [last], cutoff=0.8))
    return alike or (word == initials and len(word) > 1)


def by_reason(faults: Iterable[tuple[Path, str]]) -> list[str]:
    """Write a line for each reason, with the first folder that it concerns and their number."""
    folders: dict[str, list[Path]] = {}
    for folder, reason in faults:
        folders.setdefault(reason, []).append(folder)
    more = {reason: f" and {len(own) - 1} more" * (len(own) > 1) for reason, own in folders.items()}
    return [f"{own[0]}{more[reason]}: {reason}" for reason, own in folders.items()]
