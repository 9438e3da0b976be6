"""The part of a JSON schema that a fault of pydantic's is about, and the user's own keys that lead there.

Contract: `walk` follows a fault's `loc` through `Model.model_json_schema()`. pydantic puts the names of a union's
branches into `loc` ("float", "PerN", "list[int]", a discriminator's value): they are told from keys by the schema and
left out of `Place.path`. Schemas come from strangers: what cannot be followed is an empty schema, not an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from bench_core.suite.yaml_reader import KeyPath

Node = dict[str, Any]

MISSING = {
    "missing",
    "missing_argument",
    "missing_keyword_only_argument",
    "missing_positional_only_argument",
}
EXTRA = {"extra_forbidden", "unexpected_keyword_argument"}


class Place(NamedTuple):
    """Where a fault lies.

    node   the schema of the value; of the mapping, where the fault is a key that is missing or not known
    wider  the union, where the fault lies in the very value that the union describes
    tags   the positions in `loc` at which the names of branches stand
    """

    path: KeyPath
    node: Node
    wider: Node | None
    tags: tuple[int, ...]
    at_key: bool
    root: Mapping[str, Any]


def walk(fault: Mapping[str, Any], root: Mapping[str, Any]) -> Place:
    """Follow a fault's `loc` (and `type`, which says whether the last part is a key not in the schema) from the top."""
    loc, kind = tuple(fault["loc"]), fault["type"]
    at_key = bool(loc) and loc[-1] == "[key]"  # pydantic's mark for a key of a mapping
    loc = loc[:-1] if at_key else loc
    end = len(loc) - 1 if kind in MISSING | EXTRA else len(loc)
    node, path, tags = _plain(root, root), list[str | int](), list[int]()
    wider: Node | None = None
    for i, part in enumerate(loc[:end]):
        below = None
        if "choices" in node and isinstance(part, str):
            branch = _branch(node, part, root)
            below = None if branch else _child(node, part, root)
            if below is None:  # a branch's name, known or not
                tags.append(i)
                wider = wider or node
                node = _plain(branch, root) if branch else node
                continue
        path.append(part)
        node, wider = _child(node, part, root) or {}, None
    if at_key:
        node = {"type": "string"}
    return Place((*path, *loc[end:]), node, wider, tuple(tags), at_key, root)


def _plain(node: Mapping[str, Any], root: Mapping[str, Any]) -> Node:
    """A schema without references: `null` says that it may be null, `choices` are two or more other alternatives."""
    found = dict(node)
    for _ in range(100):  # references of a stranger's schema may form a circle
        options = found.get("anyOf") or found.get("oneOf") or found.get("allOf")
        if "$ref" in found:
            target = root.get("$defs", {}).get(found.pop("$ref").rpartition("/")[2], {})
            found = {**target, **found}
        elif options and "choices" not in found:
            others = [
                option
                for option in options
                if isinstance(option, dict) and option.get("type") != "null"
            ]
            null = {"null": True} if {"type": "null"} in options else {}
            if len(others) != 1:
                return {**found, **null, "choices": others}
            rest = {
                key: value for key, value in found.items() if key not in ("anyOf", "oneOf", "allOf")
            }
            found = {**rest, **null, **others[0]}
        else:
            break
    return found


def _child(node: Node, part: str | int, root: Mapping[str, Any]) -> Node | None:
    """The schema of a key or an item, or None where the schema does not tell."""
    for option in flat(node, root):
        below = option.get("properties", {}).get(part) if isinstance(part, str) else None
        if below is None and isinstance(part, int):
            first = option.get("prefixItems", [])
            below = first[part] if part < len(first) else option.get("items")
        below = option.get("additionalProperties") if below is None else below
        if below is None and (patterns := option.get("patternProperties")):
            below = next(iter(patterns.values()))
        if isinstance(below, dict):
            return _plain(below, root)
    return None


def flat(node: Node, root: Mapping[str, Any], depth: int = 8) -> Iterator[Node]:
    """The alternatives of a plain schema, those of unions within it too, or the schema itself."""
    if "choices" not in node:
        yield node
        return
    for choice in node["choices"]:
        option = _plain(choice, root)
        if "choices" not in option:
            yield option
        elif depth and option["choices"] != node["choices"]:  # references may form a circle
            yield from flat(option, root, depth - 1)


def _branch(node: Node, tag: str, root: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The alternative that pydantic calls `tag`: a model's name, a type such as list[int], or a tag."""
    if ref := node.get("discriminator", {}).get("mapping", {}).get(tag):
        return {"$ref": ref}
    while wrapped := re.fullmatch(r"(?:function-\w+\[.*?\(\), |nullable\[)(.*)\]", tag):
        tag = wrapped[1]
    tag = tag.removeprefix("constrained-")
    names = [(choice, _tag(choice, root)) for choice in node["choices"]]
    exact = [choice for choice, name in names if name == tag]
    near = [
        choice for choice, name in names if name and name.partition("[")[0] == tag.partition("[")[0]
    ]
    return next(iter(exact or near), None)


def _tag(choice: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """What pydantic calls an alternative, as far as its schema tells."""
    if "$ref" in choice:
        name: str = choice["$ref"].rpartition("/")[2]
        return str(root.get("$defs", {}).get(name, {}).get("title", name))
    if "const" in choice or "enum" in choice:
        return f"literal[{','.join(repr(value) for value in values_of(dict(choice)))}]"
    if choice.get("type") == "array" and isinstance(choice.get("items"), dict):
        return f"list[{_tag(choice['items'], root)}]"
    if choice.get("type") == "object":
        below = choice.get("additionalProperties")
        return f"dict[str,{_tag(below, root) if isinstance(below, dict) else 'any'}]"
    return {"integer": "int", "number": "float", "boolean": "bool", "string": "str"}.get(
        choice.get("type", ""), ""
    )


def values_of(node: Node) -> list[Any]:
    """The values of a literal or an enumeration; none for other schemas."""
    return list(node.get("enum", [node["const"]] if "const" in node else []))
