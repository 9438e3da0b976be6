"""Read a component as a suite names it: a name, a mapping, or `name[key=value,…]` as an option."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import PurePath
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from bench_core.errors import SuiteError
from bench_core.names import FILE, FROZEN, FULL_NAME, NAME_RULE
from bench_core.suite.document import Document, KeyPath, Position, printable
from bench_core.suite.yaml_reader import read_yaml


def fault(what: str, *, at: int | None = None, hint: str = "") -> PydanticCustomError:
    """Make a fault of pydantic in our words; "must …" gets the value. `at` is a list index."""
    return PydanticCustomError("bench", "{what}", {"what": what, "at": at, "hint": hint})


def no_twins(values: list[Any]) -> list[Any]:
    """Return a list whose values differ; raise a fault at the first that does not."""
    for i, value in enumerate(values):
        if value in values[:i]:
            raise fault("is listed twice", at=i)
    return values


def _component_name(value: str) -> str:
    if not re.fullmatch(FULL_NAME, value):
        if spelled := _spelled(value):
            raise fault("must be a name or a mapping", hint=spelled)
        raise fault(f"must be {NAME_RULE} (or dist/name)", hint=rule_file(value))
    return value


def _spelled(text: str) -> str:
    """Return a hint if a text has the form of an option, `dfa[penalty=0.1]`: the mapping for it."""
    try:
        value = component_option("", text, ()).value if "[" in text else None
    except SuiteError:
        return ""
    return f"write {printable(flow_text(value), 120)}" if isinstance(value, dict) else ""


def rule_file(text: str) -> str:
    """Return a hint for a text that is the path of a rule file, or lacks only its ending."""
    if not text.endswith(FILE):
        path = f"{text}{FILE}"
        return f"the rule of a file has its path: {printable(path, 300)}" * (
            "/" in text and os.path.isfile(path)
        )
    file = PurePath(printable(text, 300))
    return (
        f"a path stands only under methods and include of a suite file or in --method "
        f"{printable(text, 300)}; elsewhere write {file.name}/{file.stem}"
    )


def named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _with_name(value: Any) -> Any:
    """Turn a name into a mapping; raise a fault for a name as a key.

    That is `{dfa: {penalty: 0.1}}` or `{dfa, penalty: 0.1}`, in which `dfa` has no value.
    """
    if not isinstance(value, dict) or "name" in value:
        return named(value)
    first, inner = next(iter(value.items()), (None, ""))
    if not (inner is None or (isinstance(inner, dict) and len(value) == 1)):
        return value
    rest = {
        key: own for key, own in {**(inner or {}), **value}.items() if key not in (first, "name")
    }
    whole = {"name": first, **rest}
    raise fault("name is missing", hint=f"write {printable(flow_text(whole), 120)}")


def flow_text(value: Any) -> str:
    """Write a value in one line of YAML: `{name: dfa, penalty: 0.1}`."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf)
    return text.removesuffix("\n").removesuffix("\n...")


def or_text(pattern: str, description: str) -> Callable[[dict[str, Any]], None]:
    """Let the JSON Schema of a mapping allow a text too."""

    def add(schema: dict[str, Any]) -> None:
        kept = ("description", "title")
        plain = {key: schema.pop(key) for key in list(schema) if key not in kept}
        text = {"type": "string", "pattern": pattern, "description": description}
        schema["oneOf"] = [text, plain]

    return add


Name = Annotated[
    str,
    AfterValidator(_component_name),
    WithJsonSchema({"type": "string", "pattern": f"^{FULL_NAME}$"}),
]


_NAME_OR_FILE = rf"^({FULL_NAME}|.+\{FILE})$"


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def setting(default: Any, description: str, **bounds: Any) -> Any:
    """Make a field of a model; `bounds` are other arguments of `Field`."""
    return Field(default=default, description=description, **bounds)


class ComponentSpec(Model):
    """A component by name, with parameters of its own; `name` alone stands for `{name: name}`."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra=or_text(_NAME_OR_FILE, "its name alone"),
        title="a name, or a mapping with name",
    )

    name: Name = Field(
        description="name of the component, or dist/name where two distributions bring it; of a "
        "rule also its file ./my_rule.py",
        json_schema_extra={"pattern": _NAME_OR_FILE},
    )

    _from_name = model_validator(mode="before")(_with_name)

    def as_dict(self) -> dict[str, Any]:
        """`{"name": …, parameters…}`."""
        return self.model_dump()


def from_text(value: Any) -> Any:
    """Turn `dfa[penalty=0.01]` into a mapping; keep other values. Raises a fault for other text."""
    if not isinstance(value, str) or "[" not in value:
        return named(value)
    try:
        document = component_option("", value, ())
    except SuiteError as error:
        raise fault(error.problems[0].what) from None
    if document.problems:
        raise fault(f"'{printable(value)}': {document.problems[0].what}")
    return document.value


def component_option(flag: str, text: str, base: KeyPath) -> Document:
    """Read `dfa` or `dfa[penalty=0.01,normalize_eps={per_n: 1e-6}]`; each value is YAML.

    `dfa[frozen]`, as tables name a floor, is `dfa[freeze=blocks]`.
    """
    file = f"{flag} {printable(text)}"
    match = re.fullmatch(r"([^\[\]]+)(?:\[(.+)\])?", text.strip(), re.DOTALL)
    if not match:
        what = "must have the form name or name[key=value,…]"
        raise Position(file, 0, 0, base).error(what)
    if flag == "--method" and "," in match[1]:
        again = " ".join(f"{flag} {name.strip()}" for name in split_options(text))
        raise Position(file, 0, 0, base).error("names several rules", f"write {again}")
    document = Document.of(match[1], file, base)
    if match[2]:
        document.value = {"name": match[1]}
        for option in split_options(match[2]):
            option = "freeze=blocks" if option.strip() == FROZEN else option
            key, equals, value = option.partition("=")
            if not (equals and key.strip()):
                what = f"'{printable(option)}' must have the form key=value"
                raise document.values[()].error(what)
            if (key := key.strip()) in document.value:
                raise document.values[()].error(f"has two values for {key}", "give it one")
            document.put((key,), read_yaml(value, file, base=(*base, key)))
    return document


def split_options(text: str) -> list[str]:
    """Split at commas outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for c in text:
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        else:
            depth += (c in "[{") - (c in "]}")
        if c == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += c
    return parts
