"""The record of a run: the schema of `run.json`, read and written by everything that deals with results.

Reading a record imports neither torch nor any plugin: a measurement carries its letter, direction and threshold with it.
Numbers that JSON cannot hold are the strings "inf", "-inf" and "nan".
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

SCHEMA = 2  # what changed since each older one: bench_core.migrate

Status = Literal["done", "diverged", "failed", "crashed", "oom", "timeout", "interrupted", "skipped"]
ENDED: tuple[Status, ...] = ("done", "diverged", "failed")  # outcomes that the same code on the same cell would repeat


def _parse(value: Any) -> Any:
    return float(value) if value in ("inf", "-inf", "nan") else value


def jsonable(value: Any) -> Any:
    """`value` with every non-finite float replaced by its name, recursively."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return value


Number = Annotated[float, BeforeValidator(_parse), PlainSerializer(jsonable)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Measurement(_Frozen):
    """What a diagnostic stored about one network, with the rule by which a threshold judges it."""

    value: Number | None = None
    letter: str = ""
    direction: Literal["above", "below"] | None = None
    threshold: float | None = None
    unit: str = ""
    across: Literal["floor", "ceiling"] | None = None
    not_diagnostic: str | None = None
    details: Annotated[dict[str, Any], PlainSerializer(jsonable)] = Field(default_factory=dict)


class ComponentRef(_Frozen):
    """A component with all its parameters resolved."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)

    @property
    def short(self) -> str:
        """The name without its distribution where that is ours."""
        return self.name.removeprefix("bench-core/")


class Cell(_Frozen):
    """One training run, resolved to plain values. Two equal cells must give equal numbers on one machine."""

    method: ComponentRef
    arch: ComponentRef
    dataset: ComponentRef
    data: dict[str, Any]
    training: dict[str, Any]
    seed: int


class FileSum(_Frozen):
    """Size and checksum of a sibling of run.json."""

    bytes: int
    blake2b: str


class RunRecord(_Frozen):
    """Everything about one run, written once as `run.json`."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    identity: str
    suite: str
    cell: Cell
    status: Status
    reason: str | None = None
    why: str = ""  # why it was run, as the plan said
    budget: dict[str, float | int] = Field(default_factory=dict)  # the limits that it ran under
    resumed: list[int] = Field(default_factory=list)  # epochs that earlier attempts had finished when it went on
    epochs: int = 0
    seconds: float = 0.0  # of all attempts
    seconds_per_epoch: float | None = None
    peak_memory_bytes: int | None = None
    forward_passes: int | None = None
    accuracy: Number | None = None
    train_loss: Number | None = None
    stopped_by: str | None = None  # the diagnostic that ended the training before its last epoch
    initial: dict[str, Measurement] = Field(default_factory=dict)
    measurements: dict[str, Measurement] = Field(default_factory=dict)
    passport: dict[str, bool] = Field(default_factory=dict)
    environment: dict[str, Any] = Field(default_factory=dict)
    code: dict[str, Any] = Field(default_factory=dict)
    data_checksum: str = ""
    finished: str = ""
    files: dict[str, FileSum] = Field(default_factory=dict)
    checksum: str | None = None  # digest of all the rest, given when the run is committed

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def to_json(self) -> str:
        """Canonical text: sorted keys, so that equal records are equal bytes."""
        import json

        return json.dumps(self.model_dump(by_alias=True, mode="json"), sort_keys=True, indent=1, allow_nan=False) + "\n"
