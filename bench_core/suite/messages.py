"""Say pydantic's faults in plain words, under the user's own keys.

Contract: `explain` takes the faults of `ValidationError.errors()`, the annotation (a model, as a
rule) that was validated and the value. Where the annotation does not say what was wanted,
pydantic's own message is reworded. Results are plain values and may go through JSON.

Unions. pydantic reports every branch of a union and puts the branch's name into `loc`. `explain`
drops the names and keeps one branch: the one whose type the value has. Where no branch or several
fit, one line names the choices. A lower-case title such as "a share of the epochs" stands for the
value's type; pydantic's own titles are "Title Case" or class names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, RootModel, ValidationError
from pydantic.fields import FieldInfo

from bench_core.errors import Problem, did_you_mean
from bench_core.suite.yaml_reader import Document, KeyPath, printable

_EXTRA = ("extra_forbidden", "unexpected_keyword_argument")
_OF_A_KEY = ("missing", *_EXTRA)
_RANGE = ("greater_than_equal", "less_than_equal", "greater_than", "less_than")
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_OTHER_TYPE = re.compile(r"literal_error|enum|is_\w+_of|none_required|\w+_type|\w+_parsing\w*")
_TYPES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    **dict.fromkeys((list, tuple, set, frozenset, Sequence), "a list"),
    **dict.fromkeys((dict, Mapping), "a mapping"),
}
_PLAIN = (  # pydantic's words for Python types, in its messages
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
    """A fault with the user's path to it and the alternatives that are allowed there.

    options  alternatives of the value; of the mapping if the fault is a missing or unknown key
    unions   for each branch name in `loc`: its position, and the fault of that union as a whole
    """

    fault: Mapping[str, Any]
    path: KeyPath
    options: list[_Option]
    unions: tuple[tuple[int, _Place], ...] = ()


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
    places = [_locate(fault, annotation, value) for fault in faults]
    return list(dict.fromkeys(_explain(place, shown) for place in _meant(places, 0)))


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
    if isinstance(annotation, FieldInfo):
        metadata, title = [*metadata, *annotation.metadata], title or annotation.title or ""
        return _options(annotation.annotation, metadata, title)
    inner, *rest = get_args(annotation) or (None,)
    if get_origin(annotation) is Annotated:
        for item in rest:
            field = item if isinstance(item, FieldInfo) else FieldInfo()
            metadata, title = [*metadata, item, *field.metadata], title or field.title or ""
        return _options(inner, metadata, title)
    if get_origin(annotation) in (Union, UnionType):
        return [option for arg in (inner, *rest) for option in _options(arg, metadata, title)]
    if _is_model(annotation):
        if issubclass(annotation, RootModel):
            return _options(annotation.model_fields["root"], metadata, title)
        title = title or annotation.model_config.get("title") or ""
    bounds = {
        name: bound
        for item in metadata
        for name in _BOUNDS
        if (bound := getattr(item, name, None)) is not None
    }
    return [_Option(annotation, bounds, title if " " in title and title[0].islower() else "")]


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


def _named(options: list[_Option], tag: str | None) -> list[_Option]:
    """Choose the alternative that pydantic calls `tag`: its class, list[int], its discriminator."""

    def has_name(option: _Option) -> bool:
        if not _is_model(option.type):
            return str(option.type).replace(" ", "") == tag
        fields = [inner for _, field in _fields([option]) for inner in _options(field)]
        name = rf"(.*\W)?{option.type.__name__}\]*"  # in function-after[check(), Name]
        return bool(re.fullmatch(name, str(tag))) or any(tag in _values(inner) for inner in fields)

    return [option for option in options if tag is not None and has_name(option)] or options


def _locate(fault: Mapping[str, Any], annotation: Any, value: Any) -> _Place:
    """Follow a fault's `loc` through annotation and value; tell keys from branch names."""
    loc, tag = tuple(fault["loc"]), None
    if loc[-1:] == ("[key]",):  # so pydantic marks a key of a mapping
        loc = loc[:-1]
    options, path, unions = _options(annotation), KeyPath(), list[tuple[int, _Place]]()
    for i, part in enumerate(loc):
        branches = _named(options, tag)
        if i == len(loc) - 1 and fault["type"] in _OF_A_KEY:
            return _Place(fault, (*path, part), branches, tuple(unions))
        below = _below(branches, part)
        is_union = sum(option.type is not NoneType for option in options) > 1
        exists = isinstance(value, dict | list) and part in (
            value if isinstance(value, dict) else range(len(value))
        )
        if (is_union and tag is None) or not (below or exists):
            whole = {"type": "union_type", "loc": loc[:i], "input": value, "msg": ""}
            unions.append((i, _Place(whole, path, options, tuple(unions))))
            tag = str(part)
        else:
            options, path, tag = below, (*path, part), None
            value = value[part] if exists else None
    is_key = len(loc) < len(fault["loc"])
    return _Place(fault, path, [] if is_key else options, tuple(unions))


def _meant(places: list[_Place], level: int) -> list[_Place]:
    """Keep the faults of the branches that the user meant, from the union `level` of a `loc` on."""
    groups: dict[Any, list[_Place]] = {}
    for i, place in enumerate(places):
        in_union = len(place.unions) > level
        key = tuple(place.fault["loc"][: place.unions[level][0]]) if in_union else i
        groups.setdefault(key, []).append(place)
    kept: list[_Place] = []
    for key, group in groups.items():
        if isinstance(key, int):
            kept += group
            continue
        branches: dict[Any, list[_Place]] = {}
        for place in group:
            branches.setdefault(place.fault["loc"][len(key)], []).append(place)
        candidates = [_meant(branch, level + 1) for branch in branches.values()]
        kept += candidates[0] if len(candidates) == 1 else _chosen(candidates, level)
    return kept


def _chosen(branches: list[list[_Place]], level: int) -> list[_Place]:
    """Choose the branch whose type the value has, else one fault of the union as a whole."""

    def other_type(place: _Place) -> bool:  # of the union's own value
        tags = len(place.unions) - level
        ends_here = len(place.fault["loc"]) - place.unions[level][0] == tags
        return ends_here and bool(_OTHER_TYPE.fullmatch(place.fault["type"]))

    fitting = sorted((b for b in branches if not any(map(other_type, b))), key=len)
    of_keys = [any(place.fault["type"] in _OF_A_KEY for place in branch) for branch in fitting]
    if len(fitting) > 1 and len(fitting[0]) == len(fitting[1]) and all(of_keys):
        fitting = []
    return fitting[0] if fitting else [branches[0][0].unions[level][1]]


def _explain(place: _Place, shown: Callable[[KeyPath, Any], str]) -> Fault:
    fault, path, options, _ = place
    kind, value, ctx = fault["type"], fault["input"], fault.get("ctx") or {}
    if kind == "missing":
        return Fault(path, "is missing")
    if kind in _EXTRA:
        known = {key for key, _ in _fields(options)}
        closed = any(_is_model(option.type) for option in options)
        hint = did_you_mean(printable(str(path[-1])) if path else "", known)
        return Fault(path, "unknown key", hint or ("no keys are allowed here" * closed), True)
    if kind == "invalid_key":
        return Fault(path, "a key must be text", at_key=True)
    if kind == "bench" and ctx.get("at") is not None:
        path = (*path, ctx["at"])
    if kind.startswith("union_tag"):  # the key that tells the branches of a union apart
        key, tags = str(ctx.get("discriminator", "")).strip("'"), ctx.get("expected_tags")
        what = f"must be one of {tags}".replace("'", "") if tags else "is missing"
        return Fault((*path, key), printable(what, 300))
    what, hint = "", ""
    if kind in _RANGE:
        bounds = next((o.bounds for o in options if ctx.items() <= o.bounds.items()), ctx)
        what = f"must be {_range(bounds)}"
    elif _OTHER_TYPE.fullmatch(kind):
        what, hint = _type_wanted(options, value)
    if not what:
        what = _reworded(str(fault["msg"]))
        if isinstance(value, list | dict):  # the rule says what is wrong in it
            return Fault(path, what, hint)
    if what.startswith("must "):
        what += f", not {shown(path, value)}"
    return Fault(path, what, hint, fault["loc"][-1:] == ("[key]",))


def _type_wanted(options: list[_Option], value: Any) -> tuple[str, str]:
    """Return ("must be …", hint) for a value of another type, ("", "") if no annotation tells."""
    words = [word for option in options for word in _words(option)]
    if not words or not all(words):
        return "", ""
    wanted = "must be " + _or(sorted(dict.fromkeys(words), key=lambda word: word == "null"))
    types = {get_origin(option.type) or option.type for option in options} - {NoneType}
    values = [item for option in options for item in _values(option)]
    listed = isinstance(value, list) and types & {tuple, set, frozenset}
    if listed or (isinstance(value, str) and value in values):
        hint = f"its author should let it accept {wanted.removeprefix('must be ')}"
        return "needs a Python type that nothing written in YAML has", hint
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
    if "ge" in bounds and "le" in bounds:
        return f"between {_number(bounds['ge'])} and {_number(bounds['le'])}"
    parts = [
        f"{words} {_number(bounds[name])}" for name, words in _BOUNDS.items() if name in bounds
    ]
    return " and ".join(parts)


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
        text = re.sub(
            r",? (unable to|got|error:|input is|after validation|following the rules)\b.*",
            "",
            own[1],
        )
        for pattern, plain in _PLAIN:
            text = re.sub(pattern, plain, text)
        text = f"must {text}"
    text = text.rstrip(" ,:") or "is not allowed"
    return text[0].lower() + text[1:] if text[1:2].islower() else text
