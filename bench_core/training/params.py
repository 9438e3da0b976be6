"""Base classes of parameter models: every component validates its parameters with pydantic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class ParamsModel(BaseModel):
    """Base of every parameter model: refuses unknown keys, coercions, non-finite numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


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


def resolved(params: BaseModel) -> dict[str, Any]:
    """Return the parameters as plain values, without the `LATER` ones that have their default."""
    plain = params.model_dump(mode="json")
    for name, field in type(params).model_fields.items():
        default = field.get_default(call_default_factory=True)
        if LATER in field.metadata and getattr(params, name) == default:
            del plain[name]
    return plain
