"""Faults that pydantic found, in plain words and under the user's own keys.

Contract: `explain_all` turns the faults of one `ValidationError.errors()` into what to tell the user. It needs no more
than `type`, `loc`, `msg` and `input` of each, which may have gone through JSON, and `Model.model_json_schema()`: the
faults of components come from another process, without their model. Any schema and any fault will do; where the schema
does not say what was wanted, pydantic's own message is reworded.

Unions. pydantic reports every branch of a union and puts the branch's name into `loc`. Here the names are dropped, and
of the branches only the one that the user meant is reported; where none can be told, one line names the choices.
An author's title such as "a share of the epochs" stands for a value's type: pydantic's own are "Title Case" or Names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bench_core.errors import did_you_mean
from bench_core.strict_yaml import KeyPath, printable

Node = dict[str, Any]
Shown = Callable[[Any], str]

_MISSING = {"missing", "missing_argument", "missing_keyword_only_argument", "missing_positional_only_argument"}
_EXTRA = {"extra_forbidden", "unexpected_keyword_argument"}
_RANGE = {"greater_than_equal", "less_than_equal", "greater_than", "less_than", "finite_number"}
_CHOICE = {"literal_error", "enum"}
_OTHER_TYPE = {"int_from_float", "is_instance_of", "is_subclass_of", "none_required", "invalid_key"}
_SIZES = {
    "too_short": ("at least", "minItems", "minProperties", "entry", "entries"),
    "too_long": ("at most", "maxItems", "maxProperties", "entry", "entries"),
    "string_too_short": ("at least", "minLength", "", "character", "characters"),
    "string_too_long": ("at most", "maxLength", "", "character", "characters"),
}
_WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
_PYTHON = {"int": "integer", "float": "number", "bool": "boolean", "str": "string", "string": "string"}
_PYTHON |= dict.fromkeys(["decimal", "fraction"], "number")
_PYTHON |= dict.fromkeys(["list", "tuple", "named_tuple", "set", "frozenset", "frozen_set", "deque"], "array")
_PYTHON |= dict.fromkeys(["dict", "mapping", "model", "dataclass", "frozen_dict", "ordered_dict"], "object")
_PLAIN = (  # pydantic's words for Python types, in its messages
    (r"valid dictionary or (object to extract fields from|instance of .*)", "mapping"),
    (r"valid (\w*dict|\w*Dict|dictionary|Counter)\b", "mapping"),
    (r"(?:^|(?<=an ))instance of ", "object of the type "),
    (r"valid (tuple|set|frozenset|deque)\b", "list"),
    (r"an? valid integer", "a whole number"),
    (r"valid boolean", "true or false"),
    (r"a valid string", "text"),
)


class Explained(NamedTuple):
    """A fault under the user's own keys; `at_key`: it lies in the key, not in its value."""

    path: KeyPath
    what: str
    hint: str = ""
    at_key: bool = False


def explain_all(faults: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> list[Explained]:
    """All faults that one validation found, those of a union's branches as one."""
    kept = _collapsed([(fault, _walk(fault, schema)) for fault in faults], 0)
    found = [Explained(place.path, *_explain(fault, place, show_value)) for fault, place in kept]
    return list(dict.fromkeys(found))


def explain(
    fault: Mapping[str, Any], schema: Mapping[str, Any], shown: Shown | None = None
) -> tuple[str, str, bool]:
    """(what is wrong, a hint or "", whether the key is at fault and not its value) of one fault.

    shown  how the value is shown, by default `show_value`
    """
    return _explain(fault, _walk(fault, schema), shown or show_value)


def clean_loc(fault: Mapping[str, Any], schema: Mapping[str, Any]) -> KeyPath:
    """Where a fault lies: `loc` without the names of a union's branches."""
    return _walk(fault, schema).path


def show_value(value: Any) -> str:
    """A value, or what kind of value it is, as one would write it in YAML."""
    if isinstance(value, str):
        return f"the text '{printable(value)}'"
    if isinstance(value, list | tuple | dict):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    return "null" if value is None else printable(str(value).lower() if isinstance(value, bool) else str(value))


# -------------------------------------------------------------------------------------------------- the schema at a loc


class _Place(NamedTuple):
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


def _walk(fault: Mapping[str, Any], root: Mapping[str, Any]) -> _Place:
    loc, kind = tuple(fault["loc"]), fault["type"]
    at_key = bool(loc) and loc[-1] == "[key]"  # pydantic's mark for a key of a mapping
    loc = loc[:-1] if at_key else loc
    end = len(loc) - 1 if kind in _MISSING | _EXTRA else len(loc)
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
    return _Place((*path, *loc[end:]), node, wider, tuple(tags), at_key, root)


def _plain(node: Mapping[str, Any], root: Mapping[str, Any]) -> Node:
    """A schema without references: `null` says that it may be null, `choices` are two or more other alternatives."""
    found = dict(node)
    for _ in range(100):  # references of a stranger's schema may form a circle
        options = found.get("anyOf") or found.get("oneOf") or found.get("allOf")
        if "$ref" in found:
            target = root.get("$defs", {}).get(found.pop("$ref").rpartition("/")[2], {})
            found = {**target, **found}
        elif options and "choices" not in found:
            others = [option for option in options if option.get("type") != "null"]
            null = {"null": True} if len(others) < len(options) else {}
            if len(others) != 1:
                return {**found, **null, "choices": others}
            rest = {key: value for key, value in found.items() if key not in ("anyOf", "oneOf", "allOf")}
            found = {**rest, **null, **others[0]}
        else:
            break
    return found


def _child(node: Node, part: str | int, root: Mapping[str, Any]) -> Node | None:
    """The schema of a key or an item, or None where the schema does not tell."""
    for option in _flat(node, root):
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


def _flat(node: Node, root: Mapping[str, Any]) -> Iterator[Node]:
    """The alternatives of a plain schema, or the schema itself."""
    if "choices" not in node:
        yield node
        return
    for choice in node["choices"]:
        option = _plain(choice, root)
        if "choices" in option:
            yield from _flat({**option, "choices": [c for c in option["choices"] if c != choice]}, root)
        else:
            yield option


def _branch(node: Node, tag: str, root: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The alternative that pydantic calls `tag`: a model's name, a type such as list[int], or a discriminator's value."""
    if ref := node.get("discriminator", {}).get("mapping", {}).get(tag):
        return {"$ref": ref}
    while wrapped := re.fullmatch(r"(?:function-\w+\[.*?\(\), |nullable\[)(.*)\]", tag):
        tag = wrapped[1]
    tag = tag.removeprefix("constrained-")
    names = [(choice, _tag(choice, root)) for choice in node["choices"]]
    exact = [choice for choice, name in names if name == tag]
    near = [choice for choice, name in names if name.partition("[")[0] == tag.partition("[")[0]]
    return next(iter(exact or near), None)


def _tag(choice: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """What pydantic calls an alternative, as far as its schema tells."""
    if "$ref" in choice:
        name: str = choice["$ref"].rpartition("/")[2]
        return str(root.get("$defs", {}).get(name, {}).get("title", name))
    if "const" in choice or "enum" in choice:
        return f"literal[{','.join(repr(value) for value in _values(dict(choice)))}]"
    if choice.get("type") == "array" and isinstance(choice.get("items"), dict):
        return f"list[{_tag(choice['items'], root)}]"
    if choice.get("type") == "object":
        return f"dict[str,{_tag(choice.get('additionalProperties') or {}, root)}]"
    return {"integer": "int", "number": "float", "boolean": "bool", "string": "str"}.get(choice.get("type", ""), "")


# --------------------------------------------------------------------------------------------------------------- unions

_Found = tuple[Mapping[str, Any], _Place]


def _collapsed(found: list[_Found], level: int) -> list[_Found]:
    """Without the faults of branches that the user did not mean; `level` unions of every `loc` are decided already."""
    unions: dict[Any, dict[str, list[_Found]]] = {}
    for fault, place in found:
        if len(place.tags) <= level:
            unions.setdefault(("no union", len(unions)), {"": []})[""].append((fault, place))
            continue
        at = place.tags[level]
        branches = unions.setdefault(tuple(fault["loc"][:at]), {})
        branches.setdefault(fault["loc"][at], []).append((fault, place))
    kept: list[_Found] = []
    for where, branches in unions.items():
        inner = branches if where[:1] == ("no union",) else {n: _collapsed(b, level + 1) for n, b in branches.items()}
        kept += next(iter(inner.values())) if len(inner) == 1 else _meant(inner, len(where))
    return kept


def _meant(branches: dict[str, list[_Found]], start: int) -> list[_Found]:
    """The faults of the branch whose type the value has, else one fault of the union as a whole."""

    def refused(found: list[_Found]) -> bool:
        return any(place.wider is not None and _is_type(fault["type"]) for fault, place in found)

    fitting = sorted((found for found in branches.values() if not refused(found)), key=len)
    if fitting and (len(fitting) == 1 or len(fitting[0]) < len(fitting[1])):
        return fitting[0]
    everything = [item for found in branches.values() for item in found]
    for fault, place in everything:
        if place.wider is not None and _is_type(fault["type"]):
            return [(fault, place)]
    # Several branches could be meant and none is refused as a whole: say what there is to choose from.
    fault, place = everything[0]
    value = {"input": fault["input"]} if fault["type"] in _MISSING and len(fault["loc"]) == start + 2 else {}
    above = {"type": "model_type", "loc": (*fault["loc"][: start + 1],), "msg": "", **value}
    return [(above, _walk(above, place.root))]


def _is_type(kind: str) -> bool:
    """Whether a fault says that a value is of another type altogether."""
    return kind in _OTHER_TYPE | _CHOICE or kind.endswith(("_type", "_parsing"))


# ---------------------------------------------------------------------------------------------------------------- words


def _explain(fault: Mapping[str, Any], place: _Place, shown: Shown) -> tuple[str, str, bool]:
    kind, node, message = fault["type"], place.node, str(fault.get("msg", ""))
    if kind in _MISSING:
        return "is missing", "", False
    if kind in _EXTRA:
        known = {key for option in _flat(node, place.root) for key in option.get("properties", {})}
        key = printable(str(place.path[-1])) if place.path else ""
        return "unknown key", did_you_mean(key, known) if known else "no keys are allowed here", True
    if kind in _SIZES and (size := _size(kind, node)):
        return size, "", place.at_key
    if kind in ("value_error", "assertion_error"):
        text = re.sub(r"^(Value error|Assertion failed), ?", "", message)
        return _line(text) if text not in ("", "None") else "is not allowed", "", place.at_key
    what, hint = _requirement(kind, place, fault, shown)
    if not what:
        what, hint = _reworded(message, kind), ""
    if "input" in fault and what.startswith("must ") and kind != "union_tag_not_found":
        what += f", not {_against(fault['input'], place, shown)}"
    return what, hint, place.at_key


def _requirement(kind: str, place: _Place, fault: Mapping[str, Any], shown: Shown) -> tuple[str, str]:
    """("must be …", hint) where the schema tells what was wanted, else ("", "")."""
    root, value = place.root, fault.get("input")
    node = place.wider if place.wider is not None and _is_type(kind) else place.node
    number = isinstance(value, int | float) and not isinstance(value, bool)
    options = list(_flat(node, root))
    values = [value for option in options for value in _values(option)]
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tags = node.get("discriminator", {})
        names = list(tags.get("mapping", {}))
        return (f"must have the key {tags['propertyName']}: {_or(names)}", "") if names else ("", "")
    if kind in _RANGE:
        return (f"must be {bounds}", "") if (bounds := _bounds(node)) else ("", "")
    if kind == "multiple_of" and "multipleOf" in node:
        return f"must be a multiple of {_number(node['multipleOf'])}", ""
    if kind == "string_pattern_mismatch" and "pattern" in node:
        return f"must match the pattern {printable(node['pattern'], 120)}", ""
    if not _is_type(kind):
        return "", ""
    if kind in _CHOICE or values:
        near = did_you_mean(value, {str(v) for v in values}) if isinstance(value, str) and values else ""
        hint = near if near.startswith("did") else ""
        if value not in values or isinstance(value, bool):
            words = _words(node, root)
            return f"must be {words}" if words else "", hint
    if number and len(options) == 1 and node.get("type") in ("integer", "number"):
        # 1.5 or .nan where a whole number is due, or an integer that no float can hold
        whole = "a whole number" if node["type"] == "integer" else ""
        return f"must be {' '.join(filter(None, [whole, _bounds(node, bare=bool(whole))]))}", ""
    words = _words(node, root) or _WORDS.get(_PYTHON.get(re.sub(r"_(exact_)?(type|parsing)$", "", kind), ""), "")
    if words and "input" in fault and place.wider is None and any(_has_type(value, option) for option in options):
        # A strict tuple or enum: written as it should be, but no value of YAML is of that Python type.
        return "needs a Python type that nothing written in YAML has", f"its author should let it accept {words}"
    return (f"must be {words}", _type_hint({str(option.get("type")) for option in options}, value)) if words else ("", "")


def _words(node: Node, root: Mapping[str, Any]) -> str:
    """What a schema describes: "a number or a mapping with per_n"; empty where it does not tell."""
    title = str(node.get("title", ""))
    if " " in title and title[0].islower():
        return title + (" or null" if "null" in node else "")
    parts: list[str] = []
    for option in _flat(node, root):
        name = str(option.get("title", ""))
        required = option.get("required", [])
        if " " in name and name[0].islower():
            parts.append(name)
        elif values := _values(option):
            parts += [_literal(value) for value in values]
        elif 0 < len(required) <= 4 and option.get("type") == "object":
            parts.append("a mapping with " + _list([printable(key) for key in required], "and"))
        elif isinstance(option.get("type"), str):
            parts.append(_WORDS.get(option["type"], ""))
        else:
            return ""
    return _or([*dict.fromkeys(parts), *(["null"] if "null" in node else [])]) if all(parts) else ""


def _values(node: Node) -> list[Any]:
    return list(node.get("enum", [node["const"]] if "const" in node else []))


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return printable(value) if value else "''"
    return show_value(value)


def _list(words: Sequence[str], word: str) -> str:
    return f" {word} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _or(words: Sequence[str]) -> str:
    return _list(words, "or")


def _against(value: Any, place: _Place, shown: Shown) -> str:
    """The value as shown; a mapping with its keys where the union wants another mapping."""
    if isinstance(value, dict) and place.wider is not None:
        keys = [printable(str(key)) for key in value]
        mappings = any(option.get("type") == "object" for option in _flat(place.wider, place.root))
        if mappings and keys:
            return "a mapping with " + _list(keys if len(keys) < 4 else [*keys[:3], "others"], "and")
    return shown(value)


def _has_type(value: Any, node: Node) -> bool:
    if values := _values(node):
        return value in values
    types = {"string": str, "array": list, "object": dict, "boolean": bool}
    wanted = types.get(str(node.get("type")))
    return wanted is not None and isinstance(value, wanted)


def _type_hint(wanted: set[str], value: Any) -> str:
    if wanted & {"integer", "number"} and isinstance(value, str):
        return "write it without quotes" if re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?", value) else ""
    if wanted == {"boolean"} and isinstance(value, str):
        return "write true or false, in lower case and without quotes"
    return "put it in quotes" if wanted == {"string"} and isinstance(value, bool | int | float) else ""


def _number(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() and (isinstance(value, int) or abs(value) < 1e15) else f"{value}"


def _bounds(node: Node, bare: bool = False) -> str:
    """The range of a number; `bare`: nothing where it has none. Numbers of a suite are finite."""
    low, high = node.get("minimum"), node.get("maximum")
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"between {_number(low)} and {_number(high)}"
    parts = [f"at least {_number(low)}"] if low is not None else [f"above {_number(above)}"] if above is not None else []
    parts += [f"at most {_number(high)}"] if high is not None else [f"below {_number(below)}"] if below is not None else []
    if len(parts) == 1 and node.get("type") == "number":
        return f"{parts[0]}, and finite"
    return " and ".join(parts) or ("a finite number" if node.get("type") == "number" and not bare else "")


def _size(kind: str, node: Node) -> str:
    bound, key, other, one, many = _SIZES[kind]
    n = node.get(key, node.get(other))
    if n is None:
        return ""
    return f"must have {bound} {'one' if n == 1 else f'{n:,}'} {one if n == 1 else many}"


def _line(text: str) -> str:
    return printable(" ".join(text.split()), 300)


def _reworded(message: str, kind: str) -> str:
    """pydantic's own message, or an author's, as one of our sentences."""
    text = _line(message)
    if said := re.match(r"(?:(\w+) )?[Ii]nput should (.*)", text):
        wanted = re.sub(r",? (unable to|got|error:|input is|found) ?.*", "", said[2])
        for pattern, plain in _PLAIN:
            wanted = re.sub(pattern, plain, wanted)
        return f"must {wanted.rstrip(' ,')}"
    text = re.sub(r"^(?:String|URL|Data|Date|Keys|Set items|Decimal input|\w+) should ", "must ", text)
    if not text or not message.isprintable():
        return text or f"is not allowed ({kind.replace('_', ' ')})"
    return text[0].lower() + text[1:] if text[1:2].islower() else text
