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
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.reader import Reader

from bench_core.errors import SuiteError
from bench_core.suite.document import Document, KeyPath, Position, printable

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


def spaced(line: str) -> str:
    """Return a hint for a line such as `epochs:3`, where YAML sees no key; "" for other lines."""
    match = _TIGHT.fullmatch(line)
    return printable(f"write a space after the colon: {match[1]}: {match[2]}") if match else ""


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
    flow: bool = False
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
            rest = self.lines[at.line][at.column :]
            if "got '['" in what and re.match(r"\[\s*\w+\s*=", rest):
                hint = "write a rule with options as a mapping: {name: dfa, penalty: 0.1}"
            if "block end" in what or "mapping values are not allowed" in what:
                hint = "is the indentation that of the lines around it?"
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
        listed = frame and (isinstance(frame.container, list) or step == "name")
        if listed and path is not None and frame and not frame.flow:
            self._check_indentation(event, path)
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
            self.stack.append(_Frame(value, path, flow=bool(event.flow_style)))

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

    def _check_indentation(self, event: Any, path: KeyPath) -> None:
        """Report an entry of a list that is indented too far: YAML adds it to the one above."""
        if getattr(event, "style", "") is not None:  # no plain text
            return
        for line in range(event.start_mark.line + 1, event.end_mark.line + 1):
            text = self.lines[line].strip()
            if text.startswith("- "):
                what = f"{printable(text)!r} is read as a part of the entry above it"
                place = self._position(line, self.lines[line].index("-"), path)
                self._report(event, path, what, "indent it like that entry", place)
                self.document.broken.add(path)
                return

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

    def _report(
        self, event: Any, path: KeyPath | None, what: str, hint: str, place: Position | None = None
    ) -> None:
        if len(self.document.problems) == MAX_PROBLEMS:
            raise self._fatal(event, path, "too many faults; the rest of the file was not read")
        self.document.problems.append((place or self._at(event, path)).problem(what, hint))


def _not_allowed(control: re.Match[str]) -> str:
    return f"the control character U+{ord(control[0]):04X} is not allowed"
