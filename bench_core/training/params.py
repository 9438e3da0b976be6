"""Base classes of parameter models: every component validates its parameters with pydantic."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import core_schema

# pydantic's words for types that YAML and JSON write as a list, a text or a mapping
_WRITTEN_OTHERWISE = {
    "tuple", "set", "frozenset", "enum", "bytes", "date", "time", "datetime", "timedelta",
    "decimal", "uuid", "url", "dataclass", "lax-or-strict",
}  # fmt: skip


def _accept_written_forms(schema: Any, handler: GetCoreSchemaHandler) -> None:
    """Set `strict` off in the parts of a schema whose values YAML cannot write as such."""
    if isinstance(schema, list | tuple):
        for part in schema:
            _accept_written_forms(part, handler)
    elif isinstance(schema, dict) and schema.get("type") == "definition-ref":
        with suppress(LookupError):  # of a model inside itself, which comes here by itself
            own = handler.resolve_ref_schema(cast(Any, schema))
            if own["type"] in _WRITTEN_OTHERWISE and "strict" not in own:
                _accept_written_forms(own, handler)
    elif isinstance(schema, dict):
        for key, part in schema.items():
            if key != "default":
                _accept_written_forms(part, handler)
        if schema.get("type") in _WRITTEN_OTHERWISE:
            schema["strict"] = False
        if schema.get("type") == "enum":
            inner, names = {**schema}, partial(_by_name, schema["cls"])
            outer = {"ref": inner.pop("ref")} if "ref" in inner else {}
            schema.clear()
            schema |= core_schema.no_info_before_validator_function(names, cast(Any, inner)) | outer


def _by_name(enum: type[Enum], value: Any) -> Any:
    by_name = isinstance(value, str) and value not in [member.value for member in enum]
    return enum.__members__.get(value, value) if by_name else value


class ParamsModel(BaseModel):
    """Base of every parameter model: refuses unknown keys, coercions, non-finite numbers.

    Lists are accepted for tuples and sets, and an enum's values and names for its members, because
    suites and workers' requests have no other form of them.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> Any:
        schema = handler(source)
        _accept_written_forms(schema, handler)
        return schema


class PerN(ParamsModel):
    """`normalize_eps: {per_n: 1e-6}`: an eps that scales like a gradient of the batch-mean loss."""

    per_n: float = Field(gt=0.0)


@dataclass(frozen=True)
class Later:
    """Mark a parameter that was added after results had been published.

        gain: Annotated[float, LATER] = Field(1.0, description="…")

    Left at its default it is no part of a cell, so that earlier results stay valid. The default
    must give the numbers that the component gave before.
    """


LATER = Later()

Model = TypeVar("Model", bound=BaseModel)


def _same(one: Any, other: Any) -> bool:
    """Compare two values of a parameter; a nan is no value that a rule can have."""
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # of an array, which is no truth value
        return False


def _integer(text: str) -> int:
    if not -(2**63) <= (value := int(text)) < 2**63:
        raise ValueError("an integer of more than 64 bits")
    return value


def read(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Return the parameters as a worker gets them: validated, written as JSON and read back.

    Raises ValidationError for wrong `values`, ValueError for a parameter whose value changes on
    that way, such as a default that its own type refuses.
    """
    given = model.model_validate(values)
    fault = _fault(given)
    if fault is None:
        return model.model_validate(json.loads(given.model_dump_json()))
    name, reason = fault
    value = getattr(given, name.partition(".")[0], None)
    raise ValueError(
        f"parameter {name} does not reach a worker, as JSON, with its value {value!r}: {reason}; "
        "give it a value that its own type accepts, or None for no value"
    )


def _fault(given: BaseModel) -> tuple[str, str] | None:
    """Return the parameter that does not survive the way to a worker, and why not."""
    model = type(given)
    for name in model.model_fields:
        try:
            json.loads(given.model_dump_json(include={name}), parse_int=_integer)
        except Exception as error:
            return name, str(error)
    before = given.model_dump(mode="json")
    try:
        arrived = model.model_validate(json.loads(given.model_dump_json()))
    except ValidationError as error:
        first = error.errors()[0]
        return ".".join(map(str, first["loc"])), first["msg"]
    after = arrived.model_dump(mode="json")
    lost = [n for n in model.model_fields if not _same(getattr(arrived, n), getattr(given, n))]
    lost += [name for name, value in before.items() if after[name] != value]
    if lost:
        return lost[0], f"it comes back as {getattr(arrived, lost[0], after.get(lost[0]))!r}"
    json.dumps(after, allow_nan=False)
    return None


def resolved(params: BaseModel) -> dict[str, Any]:
    """Return the parameters as plain values, without the `LATER` ones that have their default."""
    plain = params.model_dump(mode="json")
    for name, field in type(params).model_fields.items():
        default = field.get_default(call_default_factory=True)
        if LATER in field.metadata and getattr(params, name) == default:
            del plain[name]
    return plain
