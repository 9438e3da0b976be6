"""Find the place of pydantic's faults under the user's own keys.

pydantic reports every branch of a union and puts the branch's name into `loc`. `locate` drops the
names and keeps one branch: the one whose type the value has. Where no branch or several fit, one
fault stands for the union. A lower-case title such as "a share of the epochs" stands for the
value's type; pydantic's own titles are "Title Case" or class names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, RootModel
from pydantic.fields import FieldInfo

from bench_core.suite.document import KeyPath

EXTRA = ("extra_forbidden", "unexpected_keyword_argument")
_OF_A_KEY = ("missing", *EXTRA)
OTHER_TYPE = re.compile(r"literal_error|enum|is_\w+_of|none_required|\w+_type|\w+_parsing\w*")
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
KEY = ("[key]",)  # so pydantic marks a key of a mapping in `loc`
_WHOLE: dict[str, Any] = {"type": "union_type", "loc": (), "msg": ""}
TYPES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    **dict.fromkeys((list, tuple, set, frozenset, Sequence), "a list"),
    **dict.fromkeys((dict, Mapping), "a mapping"),
}


class Option(NamedTuple):
    """One alternative of an annotation: its type, the bounds of its numbers, its author's words."""

    type: Any
    bounds: dict[str, Any]
    title: str


class Place(NamedTuple):
    """A fault, the user's path to it, and the alternatives of the value (or of its mapping)."""

    fault: Mapping[str, Any]
    path: KeyPath
    options: list[Option]


def options_of(annotation: Any, metadata: Sequence[Any] = (), title: str = "") -> list[Option]:
    """List the alternatives of an annotation, those of unions within it too."""
    annotation = getattr(annotation, "__value__", annotation)  # of a type alias
    if not isinstance(annotation, FieldInfo):
        annotation = FieldInfo.from_annotation(annotation)
    metadata, title = [*metadata, *annotation.metadata], title or annotation.title or ""
    kind = annotation.annotation
    if get_origin(kind) in (Union, UnionType):
        return [option for arg in get_args(kind) for option in options_of(arg, metadata, title)]
    if is_model(kind):
        if issubclass(kind, RootModel):
            return options_of(kind.model_fields["root"], metadata, title)
        title = title or kind.model_config.get("title") or ""
    bounds = {
        name: bound
        for item in metadata
        for name in BOUNDS
        if (bound := getattr(item, name, None)) is not None
    }
    return [Option(kind, bounds, title if " " in title and title[0].islower() else "")]


def is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def fields_of(options: Iterable[Option]) -> list[tuple[str, FieldInfo]]:
    """List the keys of all models among the alternatives, with what they allow."""
    return [
        (str(field.validation_alias or name), field)
        for option in options
        if is_model(option.type)
        for name, field in option.type.model_fields.items()
    ]


def values_of(option: Option) -> list[Any]:
    """List the values of a literal or an enumeration; none of other types."""
    if get_origin(option.type) is Literal:
        return list(get_args(option.type))
    is_enum = isinstance(option.type, type) and issubclass(option.type, Enum)
    return [member.value for member in option.type] if is_enum else []


def options_below(options: Iterable[Option], part: str | int) -> list[Option]:
    """List the alternatives of a key or an item."""
    below = [
        inner for key, field in fields_of(options) if key == part for inner in options_of(field)
    ]
    for option in options:
        kind, args = get_origin(option.type), get_args(option.type)
        words = TYPES.get(kind)
        if words == "a mapping" and isinstance(part, str):
            below += options_of(args[-1])
        elif words == "a list" and isinstance(part, int):
            one_by_one = kind is tuple and Ellipsis not in args and part < len(args)
            below += options_of(args[part if one_by_one else 0])
    return below


def _named(options: list[Option], tag: str) -> list[Option]:
    """Choose the alternative that pydantic calls `tag`: its class, list[int], its discriminator."""

    def has_name(option: Option) -> bool:
        if not is_model(option.type):
            return str(option.type).replace(" ", "") == tag
        fields = [inner for _, field in fields_of([option]) for inner in options_of(field)]
        name = rf"(.*\W)?{option.type.__name__}\]*"  # in function-after[check(), Name]
        return bool(re.fullmatch(name, tag)) or any(tag in values_of(inner) for inner in fields)

    return [option for option in options if has_name(option)] or options


def locate(
    faults: Iterable[tuple[KeyPath, Mapping[str, Any]]],
    options: list[Option],
    value: Any,
    path: KeyPath = (),
    in_branch: bool = False,
) -> list[Place]:
    """Follow faults down through annotation and value, and keep one branch of every union.

    faults     each with the part of its `loc` below `path`
    in_branch  the name of a branch came last in `loc`
    """
    groups: dict[tuple[KeyPath, bool], list[tuple[KeyPath, Mapping[str, Any]]]] = {}
    for loc, fault in faults:
        ends = loc[:1] in ((), KEY) or (len(loc) == 1 and fault["type"] in _OF_A_KEY)
        groups.setdefault((loc[:1], ends), []).append((loc[1:], fault))
    is_union = sum(option.type is not NoneType for option in options) > 1
    places: list[Place] = []
    branches: list[list[Place]] = []
    for (head, ends), group in groups.items():
        if ends and head == KEY:
            places += [Place(fault, path, []) for _, fault in group]
        elif ends:
            places += [Place(fault, path + head, options) for _, fault in group]
        else:
            [part] = head
            below = options_below(options, part)
            inside = isinstance(value, dict) and part in value
            inside |= isinstance(value, list) and part in range(len(value))
            if (is_union and not in_branch) or not (below or inside):
                branches.append(locate(group, _named(options, str(part)), value, path, True))
            else:
                places += locate(group, below, value[part] if inside else None, path + head)
    return places + _chosen(branches, Place(_WHOLE | {"input": value}, path, options))


def _chosen(branches: list[list[Place]], whole: Place) -> list[Place]:
    """Choose the branch whose type the value has, else one fault of the union as a whole."""
    if len(branches) < 2:
        return [place for branch in branches for place in branch]

    def other_type(place: Place) -> bool:
        return place.path == whole.path and bool(OTHER_TYPE.fullmatch(place.fault["type"]))

    fitting = sorted((b for b in branches if not any(map(other_type, b))), key=len)
    of_keys = [any(place.fault["type"] in _OF_A_KEY for place in branch) for branch in fitting]
    if len(fitting) > 1 and len(fitting[0]) == len(fitting[1]) and all(of_keys):
        fitting = []
    return fitting[0] if fitting else [whole]
