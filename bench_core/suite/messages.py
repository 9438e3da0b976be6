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
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bench_core.errors import did_you_mean
from bench_core.suite.schema_walk import EXTRA, MISSING, Node, Place, flat, values_of, walk
from bench_core.suite.yaml_reader import KeyPath, printable

Shown = Callable[[Any], str]

_RANGE = {"greater_than_equal", "less_than_equal", "greater_than", "less_than", "finite_number"}
_CHOICE = {"literal_error", "enum"}
_OTHER_TYPE = {"int_from_float", "is_instance_of", "is_subclass_of", "none_required"}
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
_PYTHON = {
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "str": "string",
    "string": "string",
}
_PYTHON |= dict.fromkeys(["decimal", "fraction"], "number")
_PYTHON |= dict.fromkeys(
    ["list", "tuple", "named_tuple", "set", "frozenset", "frozen_set", "deque"], "array"
)
_PYTHON |= dict.fromkeys(
    ["dict", "mapping", "model", "dataclass", "frozen_dict", "ordered_dict"], "object"
)
_PLAIN = (  # pydantic's words for Python types, in its messages
    (r"valid dictionary or (object to extract fields from|instance of .*)", "mapping"),
    (r"valid (\w*dict|\w*Dict|dictionary|Counter)\b", "mapping"),
    (r"(?:^|(?<=an ))instance of ", "object of the type "),
    (r"valid (tuple|set|frozenset|deque)\b", "list"),
    (r"an? valid integer", "a whole number"),
    (r"valid boolean", "true or false"),
    (r"a valid string", "text"),
    (r"\bNone\b", "null"),
)


class Explained(NamedTuple):
    """A fault under the user's own keys; `at_key`: it lies in the key, not in its value."""

    path: KeyPath
    what: str
    hint: str = ""
    at_key: bool = False


def explain_all(faults: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> list[Explained]:
    """All faults that one validation found, those of a union's branches as one."""
    kept = _collapsed([(fault, walk(fault, schema)) for fault in faults], 0)
    found = [Explained(place.path, *_explain(fault, place, show_value)) for fault, place in kept]
    return list(dict.fromkeys(found))


def explain(
    fault: Mapping[str, Any], schema: Mapping[str, Any], shown: Shown | None = None
) -> tuple[str, str, bool]:
    """(what is wrong, a hint or "", whether the key is at fault and not its value) of one fault.

    shown  how the value is shown, by default `show_value`
    """
    return _explain(fault, walk(fault, schema), shown or show_value)


def clean_loc(fault: Mapping[str, Any], schema: Mapping[str, Any]) -> KeyPath:
    """Where a fault lies: `loc` without the names of a union's branches."""
    return walk(fault, schema).path


def show_value(value: Any) -> str:
    """A value, or what kind of value it is, as one would write it in YAML."""
    if isinstance(value, str):
        return f"the text '{printable(value)}'"
    if isinstance(value, list | tuple | dict):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    return (
        "null"
        if value is None
        else printable(str(value).lower() if isinstance(value, bool) else str(value))
    )


# --------------------------------------------------------------------------------------------------------------- unions

_Found = tuple[Mapping[str, Any], Place]


def _collapsed(found: list[_Found], level: int) -> list[_Found]:
    """Without the faults of branches that the user did not mean; `level` unions of every `loc` are decided already."""
    unions: dict[KeyPath, dict[str, list[_Found]]] = {}
    groups: list[dict[str, list[_Found]]] = []
    for fault, place in found:
        if len(place.tags) <= level:
            groups.append({"": [(fault, place)]})
            continue
        at = place.tags[level]
        where = tuple(fault["loc"][:at])
        if where not in unions:
            unions[where] = {}
            groups.append(unions[where])
        unions[where].setdefault(fault["loc"][at], []).append((fault, place))
    kept: list[_Found] = []
    for branches in groups:
        if "" not in branches:
            branches = {name: _collapsed(inner, level + 1) for name, inner in branches.items()}
        kept += next(iter(branches.values())) if len(branches) == 1 else _meant(branches, level)
    return kept


def _meant(branches: dict[str, list[_Found]], level: int) -> list[_Found]:
    """The faults of the branch whose type the value has, else one fault of the union as a whole."""

    def whole(
        fault: Mapping[str, Any], place: Place
    ) -> bool:  # the union's own value is of another type
        end = len(fault["loc"]) - place.tags[level] == len(place.tags) - level
        return end and _is_type(fault["type"])

    everything = [item for found in branches.values() for item in found]
    fitting = sorted(
        (found for found in branches.values() if not any(whole(*item) for item in found)), key=len
    )
    vague = all(any(fault["type"] in MISSING | EXTRA for fault, _ in found) for found in fitting)
    if fitting and (len(fitting) == 1 or len(fitting[0]) < len(fitting[1]) or not vague):
        return fitting[0]
    for item in everything:
        if whole(*item):
            return [item]
    # Several mappings could be meant: say what there is to choose from.
    fault, place = everything[0]
    end = place.tags[level] + 1
    value = (
        {"input": fault["input"]}
        if fault["type"] in MISSING and len(fault["loc"]) == end + 1
        else {}
    )
    above = {"type": "model_type", "loc": tuple(fault["loc"][:end]), "msg": "", **value}
    return [(above, walk(above, place.root))]


def _is_type(kind: str) -> bool:
    """Whether a fault says that a value is of another type altogether."""
    return kind in _OTHER_TYPE | _CHOICE or kind.endswith("_type") or "_parsing" in kind


# ---------------------------------------------------------------------------------------------------------------- words


def _explain(fault: Mapping[str, Any], place: Place, shown: Shown) -> tuple[str, str, bool]:
    kind, node, message = fault["type"], place.node, str(fault.get("msg", ""))
    if kind in MISSING:
        return "is missing", "", False
    if kind in EXTRA:
        known = {key for option in flat(node, place.root) for key in option.get("properties", {})}
        key = printable(str(place.path[-1])) if place.path else ""
        closed = any(option.get("type") == "object" for option in flat(node, place.root))
        hint = did_you_mean(key, known) or ("no keys are allowed here" if closed else "")
        return "unknown key", hint, True
    if kind == "invalid_key":
        return "a key must be text", "", True
    if kind in _SIZES and (size := _size(kind, node)):
        return size, "", place.at_key
    what, hint = _requirement(kind, place, fault, shown)
    value, told = fault.get("input"), "input" in fault
    if not what:
        what = _reworded(message)
        told = told and not isinstance(
            value, list | dict
        )  # a rule on the whole says what is wrong in it
    if told and what.startswith("must "):
        what += f", not {_against(value, place, shown)}"
    return what, hint, place.at_key


def _requirement(
    kind: str, place: Place, fault: Mapping[str, Any], shown: Shown
) -> tuple[str, str]:
    """("must be …", hint) where the schema tells what was wanted, else ("", "")."""
    root, value = place.root, fault.get("input")
    node = place.wider if place.wider is not None and _is_type(kind) else place.node
    number = isinstance(value, int | float) and not isinstance(value, bool)
    options = list(flat(node, root))
    values = [value for option in options for value in values_of(option)]
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tags = node.get("discriminator", {})
        if names := list(tags.get("mapping", {})):
            return f"its key {tags['propertyName']} must be {_or(names)}", ""
        return (f"must be {words}", "") if (words := _words(node, root)) else ("", "")
    if kind in _RANGE:
        return (f"must be {bounds}", "") if (bounds := _bounds(node)) else ("", "")
    if kind == "multiple_of" and "multipleOf" in node:
        return f"must be a multiple of {_number(node['multipleOf'])}", ""
    if kind == "string_pattern_mismatch" and "pattern" in node:
        return f"must match the pattern {printable(node['pattern'], 120)}", ""
    if not _is_type(kind):
        return "", ""
    if kind in _CHOICE or values:
        near = (
            did_you_mean(value, {str(v) for v in values})
            if isinstance(value, str) and values
            else ""
        )
        hint = near if near.startswith("did") else ""
        if value not in values or isinstance(value, bool):
            words = _words(node, root)
            return f"must be {words}" if words else "", hint
    if number and len(options) == 1 and node.get("type") in ("integer", "number"):
        # 1.5 or .nan where a whole number is due, or an integer that no float can hold
        bounds = _bounds(node)
        if node["type"] == "integer":
            bounds = (
                "a whole number"
                + (" of" if bounds.startswith("at") else "")
                + (bounds and f" {bounds}")
            )
        return f"must be {bounds}", ""
    python = re.sub(r"_(exact_)?(type|parsing(_size)?)$", "", kind)
    words = _words(node, root) or _WORDS.get(_PYTHON.get(python, ""), "")
    if not words:
        return "", ""
    if place.wider is None and any(_has_type(value, option) for option in options):
        # A strict tuple or enum: written as it should be, but no value of YAML is of that Python type.
        return (
            "needs a Python type that nothing written in YAML has",
            f"its author should let it accept {words}",
        )
    return f"must be {words}", _type_hint({str(option.get("type")) for option in options}, value)


def _words(node: Node, root: Mapping[str, Any]) -> str:
    """What a schema describes: "a number or a mapping with per_n"; empty where it does not tell."""
    title = str(node.get("title", ""))
    if " " in title and title[0].islower():
        return title + (" or null" if "null" in node else "")
    parts: list[str] = []
    if key := node.get("discriminator", {}).get("propertyName"):
        return f"a mapping with {printable(key)}" + (" or null" if "null" in node else "")
    for option in flat(node, root):
        name = str(option.get("title", ""))
        required = option.get("required", [])
        if " " in name and name[0].islower():
            parts.append(name)
        elif values := values_of(option):
            parts += [_literal(value) for value in values]
        elif 0 < len(required) <= 4 and option.get("type") == "object":
            parts.append("a mapping with " + _list([printable(key) for key in required], "and"))
        elif isinstance(option.get("type"), str):
            parts.append(_WORDS.get(option["type"], ""))
        else:
            return ""
    return _or([*dict.fromkeys(parts), *(["null"] if "null" in node else [])]) if all(parts) else ""


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return printable(value) if value else "''"
    return show_value(value)


def _list(words: Sequence[str], word: str) -> str:
    return f" {word} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _or(words: Sequence[str]) -> str:
    return _list(words, "or")


def _against(value: Any, place: Place, shown: Shown) -> str:
    """The value as shown; a mapping with its keys where the union wants another mapping."""
    if isinstance(value, dict) and place.wider is not None:
        keys = [printable(str(key)) for key in value]
        mappings = any(option.get("type") == "object" for option in flat(place.wider, place.root))
        if mappings and keys:
            return "a mapping with " + _list(
                keys if len(keys) < 4 else [*keys[:3], "others"], "and"
            )
    return shown(value)


def _has_type(value: Any, node: Node) -> bool:
    if values := values_of(node):
        return value in values
    types = {"string": str, "array": list, "object": dict, "boolean": bool}
    wanted = types.get(str(node.get("type")))
    return wanted is not None and isinstance(value, wanted)


def _type_hint(wanted: set[str], value: Any) -> str:
    if wanted & {"integer", "number"} and isinstance(value, str):
        return (
            "write it without quotes"
            if re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?", value)
            else ""
        )
    if wanted == {"boolean"} and isinstance(value, str):
        return "write true or false, in lower case and without quotes"
    return (
        "put it in quotes" if wanted == {"string"} and isinstance(value, bool | int | float) else ""
    )


def _number(value: float) -> str:
    return (
        f"{int(value):,}"
        if float(value).is_integer() and (isinstance(value, int) or abs(value) < 1e15)
        else f"{value}"
    )


def _bounds(node: Node) -> str:
    """The range of a number. Numbers of a suite and of its components are finite."""
    low, high = node.get("minimum"), node.get("maximum")
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"between {_number(low)} and {_number(high)}"
    parts = (
        [f"at least {_number(low)}"]
        if low is not None
        else [f"above {_number(above)}"]
        if above is not None
        else []
    )
    parts += (
        [f"at most {_number(high)}"]
        if high is not None
        else [f"below {_number(below)}"]
        if below is not None
        else []
    )
    if len(parts) == 1 and node.get("type") == "number":
        return f"{parts[0]}, and finite"
    return " and ".join(parts) or ("a finite number" if node.get("type") == "number" else "")


def _size(kind: str, node: Node) -> str:
    bound, key, other, one, many = _SIZES[kind]
    n = node.get(key, node.get(other))
    if n is None:
        return ""
    return f"must have {bound} {'one' if n == 1 else f'{n:,}'} {one if n == 1 else many}"


def _reworded(message: str) -> str:
    """pydantic's own message, or the words of a model's author, as one of our sentences."""
    text = printable(" ".join(message.split()), 300)
    if said := re.match(r"(Value error|Assertion failed), ?(.*)", text):
        return said[2] if said[2] not in ("", "None") else "is not allowed"
    if said := re.match(
        r"(?:\w+ input|Input|String|List|Set|Tuple|Dictionary|URL|Data|Date|Keys)?\b ?should (.*)",
        text,
    ):
        text = re.sub(
            r",? (unable to|got|error:|input is|after validation|following the rules)\b.*",
            "",
            said[1],
        )
        for pattern, plain in _PLAIN:
            text = re.sub(pattern, plain, text)
        text = f"must {text}"
    text = text.rstrip(" ,:") or "is not allowed"
    return text[0].lower() + text[1:] if text[1:2].islower() else text
