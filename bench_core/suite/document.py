"""Hold a parsed suite: plain values, each with the position at which it was written.

So a message about any value names file, line and column, and options of the command line edit the
values before they are validated.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench_core.errors import Problem, SuiteError
from bench_core.printable import plain

KeyPath = tuple[str | int, ...]


def printable(text: str, limit: int = 60) -> str:
    """Fit user text into one line of a terminal: escape invisible characters, cut long text."""
    shown = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown
    )


def show_path(path: KeyPath) -> str:
    """Write `("methods", 2, "penalty")` as `methods[2].penalty`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else ("." if text else "") + printable(part)
    return text


def parse_path(text: str) -> KeyPath | None:
    """Invert `show_path`; keys of `matrix` contain dots. Return None if the text is no path."""
    prefix: KeyPath = ()
    names = text.split(".")
    if names[0] == "matrix" and len(names) > 1:
        prefix, names = ("matrix",), [text.removeprefix("matrix.")]
    path: list[str | int] = [*prefix]
    for name in names:
        match = re.fullmatch(r"([^\[\]]+)((?:\[[0-9]{1,6}\])*)", name.strip())
        if not match:
            return None
        path += [match[1], *(int(n) for n in re.findall(r"[0-9]+", match[2]))]
    return tuple(path)


@dataclass(frozen=True, slots=True)
class Position:
    """The place at which a key or value was written.

    line, column  counted from 1, in characters; line 0 for an option, whose text is then `file`
    path          its path there; an edit may have moved it since
    text          a number as written, for messages
    """

    file: str
    line: int
    column: int
    path: KeyPath
    text: str = ""

    def problem(self, what: str, hint: str = "", below: KeyPath = ()) -> Problem:
        path = show_path(self.path + below)
        return Problem(self.file, self.line, self.column, path, what, hint)

    def error(self, what: str, hint: str = "") -> SuiteError:
        return SuiteError([self.problem(what, hint)])


@dataclass
class Document:
    """Plain values with the positions of keys and values by path.

    broken    paths whose fault is reported already
    problems  faults that were found so far
    """

    file: str
    value: Any = None
    values: dict[KeyPath, Position] = field(default_factory=dict)
    keys: dict[KeyPath, Position] = field(default_factory=dict)
    broken: set[KeyPath] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    @classmethod
    def of(cls, value: Any, file: str, base: KeyPath) -> Document:
        """Make a document of a command-line value that needs no parsing, to be put at `base`."""
        return cls(file, plain(value), {(): Position(file, 0, 0, base, str(value))})

    def at(self, path: KeyPath) -> Any:
        """Return the value at `path`, or None."""
        node = self.value
        for part in path:
            if not isinstance(node, dict | list):
                return None
            try:
                node = node[part]  # type: ignore[index]
            except (LookupError, TypeError):
                return None
        return node

    def is_broken(self, path: KeyPath) -> bool:
        return any(path[:n] in self.broken for n in range(len(path) + 1))

    def problem(self, path: KeyPath, what: str, hint: str = "", *, at_key: bool = False) -> Problem:
        """Make a problem at the value (or key) of `path`, else at its nearest written parent."""
        if at_key and path in self.keys:
            return self.keys[path].problem(what, hint)
        for n in range(len(path), -1, -1):
            position = self.values.get(path[:n])
            if position is not None:
                rest = path[n:]
                if rest == ("name",) and not isinstance(self.at(path[:n]), dict):
                    rest = ()  # a component written as a bare name
                return position.problem(what, hint, rest)
        return Problem(self.file, 1, 1, show_path(path), what, hint)

    def report(self, path: KeyPath, what: str, hint: str = "", *, at_key: bool = False) -> None:
        self.problems.append(self.problem(path, what, hint, at_key=at_key))

    def subtree(self, path: KeyPath) -> Document:
        """Return the part under `path`, with relative paths and the positions of the file."""
        n = len(path)
        return Document(
            self.file,
            self.at(path),
            {p[n:]: position for p, position in self.values.items() if p[:n] == path},
            {p[n:]: position for p, position in self.keys.items() if p[:n] == path},
            {p[n:] for p in self.broken if p[:n] == path},
        )

    def drop(self, path: KeyPath) -> None:
        """Remove a key of a mapping."""
        self._forget(path)
        parent = self.at(path[:-1])
        if isinstance(parent, dict):
            parent.pop(path[-1], None)

    def put(self, path: KeyPath, part: Document) -> None:
        """Set the value at `path`, whose parent must exist; an index may be the list's length."""
        self._forget(path)
        parent, last = self.at(path[:-1]), path[-1]
        if isinstance(parent, list) and last == len(parent):
            parent.append(part.value)
        else:
            parent[last] = part.value
        self.values.update({path + p: position for p, position in part.values.items()})
        self.keys.update({path + p: position for p, position in part.keys.items()})
        self.broken.update(path + p for p in part.broken)
        self.problems += part.problems
        if () in part.values:
            self.keys.setdefault(path, part.values[()])

    def put_list(self, path: KeyPath, parts: Sequence[Document], position: Position) -> None:
        """Set a list of parts that keep their positions."""
        self.put(path, Document(self.file, [], {(): position}))
        for i, part in enumerate(parts):
            self.put((*path, i), part)

    def _forget(self, path: KeyPath) -> None:
        n = len(path)
        for positions in (self.values, self.keys):
            for p in [p for p in positions if p[:n] == path]:
                del positions[p]
        self.broken = {p for p in self.broken if p[:n] != path}
