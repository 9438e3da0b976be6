"""Read YAML files of strangers: a position for every value, no execution, bounded time and memory.

`read_yaml` returns a `Document` or raises `SuiteError`. Faults that leave the rest readable
(duplicate keys, anchors, tags, …) are kept in `Document.problems`; faults after which nothing can
be trusted (syntax, depth, size) are raised at once, together with those found before.

The tree is built from PyYAML's events, because PyYAML's composer recurses and expands the targets
of an alias bomb. So scalars are resolved here: YAML 1.2 booleans and decimal numbers only. `1e-3`
is a float; `on`, `off`, `yes`, `no`, `0x10`, `1_000` and `010` are text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.reader import Reader

from bench_core.errors import Problem, SuiteError
from bench_core.printable import plain

KeyPath = tuple[str | int, ...]

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_VALUES = 20_000  # pure Python reads some 20,000 values a second
MAX_PROBLEMS = 50
MAX_NUMBER = 400  # characters; int() refuses more than 4,300 digits with an error of its own

# YAML's own list, and line breaks that editors do not count: later line numbers would be wrong
_FORBIDDEN = re.compile(f"{Reader.NON_PRINTABLE.pattern}|[\x85\u2028\u2029]")
_BREAK = re.compile(r"\r\n|\r|\n")
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+")
_INF = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")
_TIGHT = re.compile(r"\s*(?:- +)?([A-Za-z_][\w.]*):([^\s:/].*)")  # not of https://
_HASH = "\ue000"  # stands for # in an option, so that PyYAML sees no comment


def printable(text: str, limit: int = 60) -> str:
    """Fit user text into one line of a terminal: escape invisible characters, cut long text."""
    shown = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown
    )


def spaced(line: str) -> str:
    """Return a hint for a line such as `epochs:3`, where YAML sees no key; "" for other lines."""
    match = _TIGHT.fullmatch(line)
    return printable(f"write a space after the colon: {match[1]}: {match[2]}") if match else ""


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


def read_yaml(data: bytes | str, file: str, *, base: KeyPath | None = None) -> Document:
    """Read one YAML document.

    file  name of the file in messages
    base  the path at which the text of an option will be put; its positions have no line, and it
          has no comments: `run # 3` is a text
    """
    document = Document(file)
    try:
        _Builder(document, base).build(data)
    except SuiteError as fatal:
        raise SuiteError([*document.problems, *fatal.problems]) from None
    return document


@dataclass
class _Frame:
    """An open mapping or list. Under a refused key `path` is None, and the values are dropped."""

    container: Any
    path: KeyPath | None
    has_key: bool = False
    key: str | None = None


class _Builder:
    """Builds the tree of a document from PyYAML's events."""

    def __init__(self, document: Document, base: KeyPath | None) -> None:
        self.document, self.base = document, base
        self.stack: list[_Frame] = []
        self.count = 0
        self.lines: list[str] = []

    def build(self, data: bytes | str) -> None:
        text = self._decode(data)
        self.lines = _BREAK.split(text)
        loader = yaml.SafeLoader(text)
        documents = 0
        try:
            while not isinstance(event := self._event(loader), yaml.StreamEndEvent):
                if isinstance(event, yaml.DocumentStartEvent):
                    documents += 1
                    if documents > 1:
                        what = "a second document starts here"
                        raise self._fatal(event, None, what, "a file holds one document")
                elif isinstance(event, yaml.NodeEvent):
                    self._node(event)
                elif isinstance(event, yaml.CollectionEndEvent):
                    self.stack.pop()
        finally:
            loader.dispose()
        if not documents:
            self.document.values[()] = self._position(0, 0)

    def _decode(self, data: bytes | str) -> str:
        """Decode UTF-8, without its byte order mark; refuse long data and control characters."""

        def fail(before: str, what: str, hint: str = "") -> SuiteError:
            *_, last = _BREAK.split(before)
            return self._position(len(_BREAK.findall(before)), len(last)).error(what, hint)

        if len(data) > MAX_BYTES:
            raise fail("", "the file is larger than 1 MB", "a suite is a few kilobytes")
        try:
            text = data.decode("utf-8") if isinstance(data, bytes) else data
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode("utf-8").removeprefix("\ufeff")
            what = f"invalid UTF-8 (byte 0x{error.object[error.start]:02x})"
            raise fail(before, what, "save the file as UTF-8") from None
        text = text.removeprefix("\ufeff")
        if self.base is not None:
            text = text.replace("#", _HASH)
        if bad := _FORBIDDEN.search(text):
            raise fail(text[: bad.start()], _not_allowed(bad))
        return text

    def _event(self, loader: yaml.SafeLoader) -> Any:
        try:
            event = loader.get_event()  # type: ignore[no-untyped-call]
            if isinstance(event, yaml.ScalarEvent) and self.base is not None:
                event.value = event.value.replace(_HASH, "#")
            return event
        except yaml.MarkedYAMLError as error:
            at = error.problem_mark or error.context_mark or loader.get_mark()
            what = printable(error.problem or error.context or "cannot be read", 120)
            hint = printable(error.context, 120) if error.context and error.problem else ""
            if "'\\t'" in what:
                what, hint = "a tab is not allowed here", "use spaces"
            begin = error.context_mark or at
            for line in sorted({begin.line, max(0, at.line - 1), at.line}):
                if tight := spaced(self.lines[line]):
                    raise self._position(line, 0).error("not valid YAML", tight) from None
            at = begin if "simple key" in hint else at
        except (ValueError, OverflowError):  # the escape "\UFFFFFFFF", a version of 5,000 digits
            at, what, hint = loader.get_mark(), "cannot be read", ""
        raise self._position(at.line, at.column).error(f"not valid YAML: {what}", hint)

    def _node(self, event: Any) -> None:
        self.count += 1
        if self.count > MAX_VALUES:
            raise self._fatal(event, None, f"more than {MAX_VALUES:,} values in one file")
        frame = self.stack[-1] if self.stack else None
        if frame and isinstance(frame.container, dict) and not frame.has_key:
            frame.key, frame.has_key = self._key(event, frame), True
            return
        path: KeyPath | None = ()
        if frame:
            step = len(frame.container) if isinstance(frame.container, list) else frame.key
            path = None if frame.path is None or step is None else (*frame.path, step)
        value = self._value(event, path)
        if frame is None:
            self.document.value = value
        elif isinstance(frame.container, list):
            frame.container.append(value)
        else:
            if frame.key is not None:
                frame.container[frame.key] = value
            frame.has_key = False
        if path is not None:
            is_number = isinstance(event, yaml.ScalarEvent) and not isinstance(value, str)
            number = event.value[:80] if is_number else ""
            self.document.values[path] = self._at(event, path, number)
        if isinstance(event, yaml.CollectionStartEvent):
            if len(self.stack) == MAX_DEPTH:
                raise self._fatal(event, (path or ())[:1], f"nested deeper than {MAX_DEPTH} levels")
            self.stack.append(_Frame(value, path))

    def _key(self, event: Any, frame: _Frame) -> str | None:
        """Read a key; return None if it is refused."""
        if isinstance(event, yaml.CollectionStartEvent):
            raise self._fatal(event, frame.path, "a key must be text, not a list or mapping")
        if not self._refuse(event, frame.path):
            key, path = self._scalar(event, frame.path), frame.path
            if event.style is None and key == "<<":
                self._report(event, path, "merge keys (<<) are not allowed", "write the keys out")
            elif not isinstance(key, str):
                what = f"a key must be text, not {printable(event.value) or 'empty'}"
                self._report(event, path, what, "put it in quotes")
            elif path is not None:
                path = (*path, key)
                if key not in frame.container:
                    self.document.keys[path] = self._at(event, path)
                    return key
                first = self.document.keys[path].line
                hint = f"first on line {first}" if first else ""
                self._report(event, path, "duplicate key", hint)
        return None

    def _value(self, event: Any, path: KeyPath | None) -> Any:
        if self._refuse(event, path) and path is not None:
            self.document.broken.add(path)
        if isinstance(event, yaml.AliasEvent):
            return None
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        return [] if isinstance(event, yaml.SequenceStartEvent) else {}

    def _refuse(self, event: Any, path: KeyPath | None) -> bool:
        """Report anchors, aliases and tags, which this reader does not support."""
        if event.anchor is not None:
            what = "anchors and aliases (& and *) are not allowed"
            self._report(event, path, what, "write the value out")
        elif event.tag is not None:
            self._report(event, path, f"tags are not allowed ({printable(event.tag)})", "remove it")
        return event.anchor is not None or event.tag is not None

    def _scalar(self, event: yaml.ScalarEvent, path: KeyPath | None) -> Any:
        text: str = event.value
        if bad := _FORBIDDEN.search(text):  # written as an escape in double quotes
            raise self._fatal(event, path, _not_allowed(bad))
        if event.style is not None:
            return text
        if text in ("", "~", "null"):
            return None
        if text in ("true", "false"):
            return text == "true"
        if text[0] not in "+-.0123456789":
            return text
        is_int, is_float = _INT.fullmatch(text), _FLOAT.fullmatch(text)
        if (is_int or is_float) and len(text) > MAX_NUMBER:
            raise self._fatal(event, path, f"a number of more than {MAX_NUMBER} characters")
        if is_int:
            return int(text)
        if is_float:
            return float(text)
        if match := _INF.fullmatch(text):
            return float(f"{match[1]}inf")
        return float("nan") if _NAN.fullmatch(text) else text

    def _position(
        self, line: int, column: int, path: KeyPath | None = None, text: str = ""
    ) -> Position:
        """Make a position from PyYAML's line and column, which count from 0."""
        place = (line + 1, column + 1) if self.base is None else (0, 0)
        return Position(self.document.file, *place, (self.base or ()) + (path or ()), text)

    def _at(self, event: Any, path: KeyPath | None, text: str = "") -> Position:
        return self._position(event.start_mark.line, event.start_mark.column, path, text)

    def _fatal(self, event: Any, path: KeyPath | None, what: str, hint: str = "") -> SuiteError:
        return self._at(event, path).error(what, hint)

    def _report(self, event: Any, path: KeyPath | None, what: str, hint: str) -> None:
        if len(self.document.problems) == MAX_PROBLEMS:
            raise self._fatal(event, path, "too many faults; the rest of the file was not read")
        self.document.problems.append(self._at(event, path).problem(what, hint))


def _not_allowed(control: re.Match[str]) -> str:
    return f"the control character U+{ord(control[0]):04X} is not allowed"
