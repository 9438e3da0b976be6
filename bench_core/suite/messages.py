"""Say pydantic's faults in plain words, under the user's own keys.

`places` finds where they lie. Where a value fits no branch of a union, or several, one line names
the choices.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import NoneType
from typing import Any, NamedTuple, get_origin

from pydantic import ValidationError

from bench_core.errors import Problem, did_you_mean, similar
from bench_core.suite.document import Document, KeyPath, printable
from bench_core.suite.places import (
    BOUNDS,
    EXTRA,
    KEY,
    OTHER_TYPE,
    TYPES,
    Option,
    Place,
    fields_of,
    is_model,
    locate,
    options_below,
    options_of,
    values_of,
)
from bench_core.suite.yaml_reader import spaced

_RANGE = ("greater_than_equal", "less_than_equal", "greater_than", "less_than")
LARGEST = 2**63 - 1  # of a whole number of the machine: no limit that anyone states
_PLAIN = (  # pydantic's words for Python types, in its messages
    (r",? (unable to|got|error:|input is|after validation|following the rules)\b.*", ""),
    (r"valid (dictionary or .*|\w*[dD]ict(ionary)?\b|Counter)", "mapping"),
    (r"(?:^|(?<=an ))instance of ", "object of the type "),
    (r"valid (tuple|set|frozenset|deque)\b", "list"),
    (r"an? valid integer", "a whole number"),
    (r"an integer, float, string or \w+ object", "a number"),
    (r"valid boolean", "true or false"),
    (r"a valid string", "text"),
    (r"\bNone\b", "null"),
)


class Fault(NamedTuple):
    """A fault under the user's own keys; `at_key`: it lies in the key, not in its value."""

    path: KeyPath
    what: str
    hint: str = ""
    at_key: bool = False


def explain(
    faults: Iterable[Mapping[str, Any]],
    annotation: Any,
    value: Any,
    shown: Callable[[KeyPath, Any], str] = lambda path, value: show_value(value),
) -> list[Fault]:
    """Explain all faults of one validation, those of a union's branches as one.

    faults  `ValidationError.errors()`
    shown   how a message shows the value at a path
    """
    options = options_of(annotation)
    places = locate([(tuple(fault["loc"]), fault) for fault in faults], options, value)
    outside = partial(_outside, options, value)
    return list(dict.fromkeys(_explain(place, shown, outside) for place in places))


def problems_of(
    document: Document,
    error: ValidationError,
    annotation: Any,
    value: Any,
    place: Callable[[KeyPath], KeyPath] = lambda path: path,
) -> list[Problem]:
    """Explain the faults of a part of a document, which lies at `place` of the document."""

    def as_written(path: KeyPath, value: Any) -> str:
        position = document.values.get(place(path))
        if position is not None and position.text and not isinstance(value, str | list | dict):
            return printable(position.text)
        return "empty" if value is None else show_value(value)

    faults = explain(error.errors(include_url=False), annotation, value, as_written)
    return [
        document.problem(place(path), what, hint, at_key=at_key)
        for path, what, hint, at_key in faults
        if not document.is_broken(place(path))
    ]


def show_value(value: Any) -> str:
    """Show a value, or which kind of value it is, as one would write it in YAML."""
    if isinstance(value, str):
        return f"the text '{printable(value)}'"
    if isinstance(value, dict):
        keys = [printable(str(key)) for key in value]
        return _mapping(keys if len(keys) < 4 else [*keys[:3], "others"])
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    if value is None:
        return "null"
    return printable(str(value).lower() if isinstance(value, bool) else str(value))


def _outside(options: list[Option], value: Any, path: KeyPath) -> str:
    """Say where a key belongs that a mapping around its own knows but lacks; "" if none does.

    An item of a list is another thing than the mappings around the list, so none of these counts.
    """
    hint = ""
    for depth, part in enumerate(path[:-1]):
        lacks_it = isinstance(value, dict) and path[-1] not in value
        if isinstance(part, int):
            hint = ""
        elif lacks_it and any(key == path[-1] for key, _ in fields_of(options)):
            right = ".".join(map(str, (*path[:depth], path[-1])))
            hint = f"write it outside of {printable(str(path[-2]))}, as {printable(right)}"
        options = options_below(options, part)
        value = value.get(part) if isinstance(value, dict) else None
    return hint


def _as_a_value(options: list[Option], word: str) -> str:
    """Return a hint if an unknown key is a value of a known one: `log` of `scale`."""
    for key, field in fields_of(options):
        if word in (value for option in options_of(field) for value in values_of(option)):
            return f"write {key}: {printable(word)}"
    return ""


def _around(word: str, value: Any, known: Iterable[str]) -> str:
    """Return a hint if an unknown key has known ones below it: `options: {penalty: 0.1}`."""
    if not isinstance(value, dict) or not value or not value.keys() <= set(known):
        return ""
    return f"write {', '.join(map(printable, value))} outside of {printable(word)}"


def _explain(
    place: Place, shown: Callable[[KeyPath, Any], str], outside: Callable[[KeyPath], str]
) -> Fault:
    """Explain a fault.

    outside  says where an unknown key belongs
    """
    fault, path, options = place
    kind, value, ctx = fault["type"], fault["input"], fault.get("ctx") or {}
    if kind == "missing":
        return Fault(path, "is missing")
    if kind in EXTRA:
        known = {key for key, _ in fields_of(options)}
        closed = any(is_model(option.type) for option in options)
        before = "".join(f"{step}." for step in path[:-1])
        deeper = [
            f"{before}{key}.{inner}"
            for key, field in fields_of(options)
            for inner, _ in fields_of(options_of(field))
        ]
        key = str(path[-1]) if path else ""
        hint = spaced(key) or outside(path) or _as_a_value(options, key)
        hint = hint or _around(key, value, known)
        hint = hint or did_you_mean(printable(key), known, deeper)
        return Fault(path, "unknown key", hint or ("no keys are allowed here" * closed), True)
    if kind == "invalid_key":
        return Fault(path, "a key must be text", at_key=True)
    if kind == "bench" and ctx.get("at") is not None:
        path = (*path, ctx["at"])
    if kind.startswith("union_tag"):  # the key that tells the branches of a union apart
        key, tags = str(ctx.get("discriminator", "")).strip("'"), ctx.get("expected_tags")
        what = f"must be one of {tags}".replace("'", "") if tags else "is missing"
        return Fault((*path, key), printable(what, 300))
    what, hint = "", ctx.get("hint", "") if kind == "bench" else ""
    if kind in _RANGE:
        bounds = next((o.bounds for o in options if ctx.items() <= o.bounds.items()), ctx)
        what = f"must be {_range(ctx if ctx.get('le') == LARGEST else bounds)}"
    elif OTHER_TYPE.fullmatch(kind):
        what, hint = _type_wanted(options, value)
    if not what:
        what = _reworded(str(fault["msg"]))
        if isinstance(value, list | dict):  # the rule says what is wrong in it
            return Fault(path, what, hint)
    if what.startswith("must "):
        what += f", not {shown(path, value)}"
        hint = hint or (spaced(value) if isinstance(value, str) else "")
    return Fault(path, what, hint, tuple(fault["loc"][-1:]) == KEY)


def _type_wanted(options: list[Option], value: Any) -> tuple[str, str]:
    """Return ("must be …", hint) for a value of another type, ("", "") if no annotation tells."""
    words = [word for option in options for word in _words(option)]
    if not words or not all(words):
        return "", ""
    wanted = "must be " + _or(sorted(dict.fromkeys(words), key=lambda word: word == "null"))
    types = {get_origin(option.type) or option.type for option in options} - {NoneType}
    values = [item for option in options for item in values_of(option)]
    if types == {float} and isinstance(value, int) and not isinstance(value, bool):
        return "must be a smaller number", ""
    hint = ""
    if isinstance(value, str) and values:
        hint = similar(value, {str(item) for item in values})
    elif isinstance(value, str) and types & {int, float}:
        is_number = re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?", value)
        hint = "write it without quotes" if is_number else ""
    elif isinstance(value, str) and types == {bool}:
        hint = "write true or false, in lower case and without quotes"
    elif isinstance(value, bool | int | float) and types == {str}:
        hint = "put it in quotes"
    return wanted, hint


def _words(option: Option) -> list[str]:
    """Name one alternative, such as "a mapping with per_n"; "" if its type has no plain name."""
    if option.type in (None, NoneType):
        return ["null"]
    if option.title:
        return [option.title]
    if values := values_of(option):
        return [
            printable(value) or "''" if isinstance(value, str) else show_value(value)
            for value in values
        ]
    if is_model(option.type):
        required = [printable(key) for key, field in fields_of([option]) if field.is_required()]
        return [_mapping(required if len(required) <= 4 else [])]
    word, bounds = TYPES.get(get_origin(option.type) or option.type, ""), _range(option.bounds)
    if option.type in (int, float) and bounds:
        word += f" of {bounds}" if bounds.startswith("at ") else f" {bounds}"
    return [word]


def _mapping(keys: list[str]) -> str:
    return f"a mapping with {_or(keys, 'and')}" if keys else "a mapping"


def _or(words: Sequence[str], word: str = "or") -> str:
    return f" {word} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _range(bounds: Mapping[str, Any]) -> str:
    shown = {name: _number(bounds[name]) for name in BOUNDS if name in bounds}
    if "ge" in shown and "le" in shown:
        if bounds["le"] == LARGEST:
            return f"at least {shown['ge']}"
        return f"between {shown['ge']} and {shown['le']}"
    return " and ".join(f"{BOUNDS[name]} {number}" for name, number in shown.items())


def _number(value: Any) -> str:
    if isinstance(value, int) or (isinstance(value, float) and value % 1 == 0 and value < 1e15):
        return f"{int(value):,}"
    return printable(str(value))


def _reworded(message: str) -> str:
    """Turn pydantic's own message, or the words of a model's author, into one of our sentences."""
    text = printable(" ".join(message.split()), 300)
    if author := re.match(r"(Value error|Assertion failed), ?(.*)", text):
        return author[2] if author[2] not in ("", "None") else "is not allowed"
    subject = r"(?:\w+ input|Input|String|List|Set|Tuple|Dictionary|URL|Data|Date|Keys)?\b ?should "
    if own := re.match(f"{subject}(.*)", text):
        text = own[1]
        for pattern, plain in _PLAIN:
            text = re.sub(pattern, plain, text)
        text = f"must {text}"
    text = text.rstrip(" ,:") or "is not allowed"
    return text[0].lower() + text[1:] if text[1:2].islower() else text
