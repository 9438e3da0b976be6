"""Say pydantic's faults in plain words, under the user's own keys.

pydantic reports every branch of a union and puts the branch's name into `loc`. `explain` drops the
names and keeps one branch: the one whose type the value has. Where no branch or several fit, one
line names the choices. A lower-case title such as "a share of the epochs" stands for the value's
type; pydantic's own titles are "Title Case" or class names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import partial
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, RootModel, ValidationError
from pydantic.fields import FieldInfo

from bench_core.errors import Problem, did_you_mean
from bench_core.suite.document import Document, KeyPath, printable
from bench_core.suite.yaml_reader import spaced

_EXTRA = ("extra_forbidden", "unexpected_keyword_argument")
_OF_A_KEY = ("missing", *_EXTRA)
_RANGE = ("greater_than_equal", "less_than_equal", "greater_than", "less_than")
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_OTHER_TYPE = re.compile(r"literal_error|enum|is_\w+_of|none_required|\w+_type|\w+_parsing\w*")
LARGEST = 2**63 - 1  # of a whole number of the machine: no limit that anyone states
_KEY = ("[key]",)  # so pydantic marks a key of a mapping in `loc`
_WHOLE: dict[str, Any] = {"type": "union_type", "loc": (), "msg": ""}
_TYPES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    **dict.fromkeys((list, tuple, set, frozenset, Sequence), "a list"),
    **dict.fromkeys((dict, Mapping), "a mapping"),
}
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


class _Option(NamedTuple):
    """One alternative of an annotation: its type, the bounds of its numbers, its author's words."""

    type: Any
    bounds: dict[str, Any]
    title: str


class _Place(NamedTuple):
    """A fault, the user's path to it, and the alternatives of the value (or of its mapping)."""

    fault: Mapping[str, Any]
    path: KeyPath
    options: list[_Option]


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
    options = _options(annotation)
    places = _locate([(tuple(fault["loc"]), fault) for fault in faults], options, value)
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


def _options(annotation: Any, metadata: Sequence[Any] = (), title: str = "") -> list[_Option]:
    """List the alternatives of an annotation, those of unions within it too."""
    annotation = getattr(annotation, "__value__", annotation)  # of a type alias
    if not isinstance(annotation, FieldInfo):
        annotation = FieldInfo.from_annotation(annotation)
    metadata, title = [*metadata, *annotation.metadata], title or annotation.title or ""
    kind = annotation.annotation
    if get_origin(kind) in (Union, UnionType):
        return [option for arg in get_args(kind) for option in _options(arg, metadata, title)]
    if _is_model(kind):
        if issubclass(kind, RootModel):
            return _options(kind.model_fields["root"], metadata, title)
        title = title or kind.model_config.get("title") or ""
    bounds = {
        name: bound
        for item in metadata
        for name in _BOUNDS
        if (bound := getattr(item, name, None)) is not None
    }
    return [_Option(kind, bounds, title if " " in title and title[0].islower() else "")]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _fields(options: Iterable[_Option]) -> list[tuple[str, FieldInfo]]:
    """List the keys of all models among the alternatives, with what they allow."""
    return [
        (str(field.validation_alias or name), field)
        for option in options
        if _is_model(option.type)
        for name, field in option.type.model_fields.items()
    ]


def _values(option: _Option) -> list[Any]:
    """List the values of a literal or an enumeration; none of other types."""
    if get_origin(option.type) is Literal:
        return list(get_args(option.type))
    is_enum = isinstance(option.type, type) and issubclass(option.type, Enum)
    return [member.value for member in option.type] if is_enum else []


def _below(options: Iterable[_Option], part: str | int) -> list[_Option]:
    """List the alternatives of a key or an item."""
    below = [inner for key, field in _fields(options) if key == part for inner in _options(field)]
    for option in options:
        kind, args = get_origin(option.type), get_args(option.type)
        words = _TYPES.get(kind)
        if words == "a mapping" and isinstance(part, str):
            below += _options(args[-1])
        elif words == "a list" and isinstance(part, int):
            one_by_one = kind is tuple and Ellipsis not in args and part < len(args)
            below += _options(args[part if one_by_one else 0])
    return below


def _named(options: list[_Option], tag: str) -> list[_Option]:
    """Choose the alternative that pydantic calls `tag`: its class, list[int], its discriminator."""

    def has_name(option: _Option) -> bool:
        if not _is_model(option.type):
            return str(option.type).replace(" ", "") == tag
        fields = [inner for _, field in _fields([option]) for inner in _options(field)]
        name = rf"(.*\W)?{option.type.__name__}\]*"  # in function-after[check(), Name]
        return bool(re.fullmatch(name, tag)) or any(tag in _values(inner) for inner in fields)

    return [option for option in options if has_name(option)] or options


def _locate(
    faults: Iterable[tuple[KeyPath, Mapping[str, Any]]],
    options: list[_Option],
    value: Any,
    path: KeyPath = (),
    in_branch: bool = False,
) -> list[_Place]:
    """Follow faults down through annotation and value, and keep one branch of every union.

    faults     each with the part of its `loc` below `path`
    in_branch  the name of a branch came last in `loc`
    """
    groups: dict[tuple[KeyPath, bool], list[tuple[KeyPath, Mapping[str, Any]]]] = {}
    for loc, fault in faults:
        ends = loc[:1] in ((), _KEY) or (len(loc) == 1 and fault["type"] in _OF_A_KEY)
        groups.setdefault((loc[:1], ends), []).append((loc[1:], fault))
    is_union = sum(option.type is not NoneType for option in options) > 1
    places: list[_Place] = []
    branches: list[list[_Place]] = []
    for (head, ends), group in groups.items():
        if ends and head == _KEY:
            places += [_Place(fault, path, []) for _, fault in group]
        elif ends:
            places += [_Place(fault, path + head, options) for _, fault in group]
        else:
            [part] = head
            below = _below(options, part)
            inside = isinstance(value, dict) and part in value
            inside |= isinstance(value, list) and part in range(len(value))
            if (is_union and not in_branch) or not (below or inside):
                branches.append(_locate(group, _named(options, str(part)), value, path, True))
            else:
                places += _locate(group, below, value[part] if inside else None, path + head)
    return places + _chosen(branches, _Place(_WHOLE | {"input": value}, path, options))


def _chosen(branches: list[list[_Place]], whole: _Place) -> list[_Place]:
    """Choose the branch whose type the value has, else one fault of the union as a whole."""
    if len(branches) < 2:
        return [place for branch in branches for place in branch]

    def other_type(place: _Place) -> bool:
        return place.path == whole.path and bool(_OTHER_TYPE.fullmatch(place.fault["type"]))

    fitting = sorted((b for b in branches if not any(map(other_type, b))), key=len)
    of_keys = [any(place.fault["type"] in _OF_A_KEY for place in branch) for branch in fitting]
    if len(fitting) > 1 and len(fitting[0]) == len(fitting[1]) and all(of_keys):
        fitting = []
    return fitting[0] if fitting else [whole]


def _outside(options: list[_Option], value: Any, path: KeyPath) -> str:
    """Say where a key belongs that a mapping around its own knows but lacks; "" if none does.

    An item of a list is another thing than the mappings around the list, so none of these counts.
    """
    hint = ""
    for depth, part in enumerate(path[:-1]):
        lacks_it = isinstance(value, dict) and path[-1] not in value
        if isinstance(part, int):
            hint = ""
        elif lacks_it and any(key == path[-1] for key, _ in _fields(options)):
            right = ".".join(map(str, (*path[:depth], path[-1])))
            hint = f"write it outside of {printable(str(path[-2]))}, as {printable(right)}"
        options = _below(options, part)
        value = value.get(part) if isinstance(value, dict) else None
    return hint


def _as_a_value(options: list[_Option], word: str) -> str:
    """Return a hint if an unknown key is a value of a known one: `log` of `scale`."""
    for key, field in _fields(options):
        if word in (value for option in _options(field) for value in _values(option)):
            return f"write {key}: {printable(word)}"
    return ""


def _explain(
    place: _Place, shown: Callable[[KeyPath, Any], str], outside: Callable[[KeyPath], str]
) -> Fault:
    """Explain a fault.

    outside  says where an unknown key belongs
    """
    fault, path, options = place
    kind, value, ctx = fault["type"], fault["input"], fault.get("ctx") or {}
    if kind == "missing":
        return Fault(path, "is missing")
    if kind in _EXTRA:
        known = {key for key, _ in _fields(options)}
        closed = any(_is_model(option.type) for option in options)
        before = "".join(f"{step}." for step in path[:-1])
        deeper = [
            f"{before}{key}.{inner}"
            for key, field in _fields(options)
            for inner, _ in _fields(_options(field))
        ]
        key = str(path[-1]) if path else ""
        hint = spaced(key) or outside(path) or _as_a_value(options, key)
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
    elif _OTHER_TYPE.fullmatch(kind):
        what, hint = _type_wanted(options, value)
    if not what:
        what = _reworded(str(fault["msg"]))
        if isinstance(value, list | dict):  # the rule says what is wrong in it
            return Fault(path, what, hint)
    if what.startswith("must "):
        what += f", not {shown(path, value)}"
        hint = hint or (spaced(value) if isinstance(value, str) else "")
    return Fault(path, what, hint, tuple(fault["loc"][-1:]) == _KEY)


def _type_wanted(options: list[_Option], value: Any) -> tuple[str, str]:
    """Return ("must be …", hint) for a value of another type, ("", "") if no annotation tells."""
    words = [word for option in options for word in _words(option)]
    if not words or not all(words):
        return "", ""
    wanted = "must be " + _or(sorted(dict.fromkeys(words), key=lambda word: word == "null"))
    types = {get_origin(option.type) or option.type for option in options} - {NoneType}
    values = [item for option in options for item in _values(option)]
    if types == {float} and isinstance(value, int) and not isinstance(value, bool):
        return "must be a smaller number", ""
    hint = ""
    if isinstance(value, str) and values:
        near = did_you_mean(value, {str(item) for item in values})
        hint = near if near.startswith("did") else ""
    elif isinstance(value, str) and types & {int, float}:
        is_number = re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?", value)
        hint = "write it without quotes" if is_number else ""
    elif isinstance(value, str) and types == {bool}:
        hint = "write true or false, in lower case and without quotes"
    elif isinstance(value, bool | int | float) and types == {str}:
        hint = "put it in quotes"
    return wanted, hint


def _words(option: _Option) -> list[str]:
    """Name one alternative, such as "a mapping with per_n"; "" if its type has no plain name."""
    if option.type in (None, NoneType):
        return ["null"]
    if option.title:
        return [option.title]
    if values := _values(option):
        return [
            printable(value) or "''" if isinstance(value, str) else show_value(value)
            for value in values
        ]
    if _is_model(option.type):
        required = [printable(key) for key, field in _fields([option]) if field.is_required()]
        return [_mapping(required if len(required) <= 4 else [])]
    word, bounds = _TYPES.get(get_origin(option.type) or option.type, ""), _range(option.bounds)
    if option.type in (int, float) and bounds:
        word += f" of {bounds}" if bounds.startswith("at ") else f" {bounds}"
    return [word]


def _mapping(keys: list[str]) -> str:
    return f"a mapping with {_or(keys, 'and')}" if keys else "a mapping"


def _or(words: Sequence[str], word: str = "or") -> str:
    return f" {word} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _range(bounds: Mapping[str, Any]) -> str:
    shown = {name: _number(bounds[name]) for name in _BOUNDS if name in bounds}
    if "ge" in shown and "le" in shown:
        if bounds["le"] == LARGEST:
            return f"at least {shown['ge']}"
        return f"between {shown['ge']} and {shown['le']}"
    return " and ".join(f"{_BOUNDS[name]} {number}" for name, number in shown.items())


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
