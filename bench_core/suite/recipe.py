"""Define the recipe of a cell: the settings of its training, and the part of the data it uses."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, WithJsonSchema, field_validator

from bench_core.suite.component import Model, fault, setting
from bench_core.training.params import LATER

MAX_EPOCHS = 100_000
DEVICES = ("cpu", "cuda", "mps", "xpu")
_DEVICE = rf"({'|'.join(DEVICES)})(:[0-9]{{1,2}})?"
_KNOWN = f"{', '.join(DEVICES[:-1])} or {DEVICES[-1]}, or one with an index such as cuda:0"


def _device(value: str) -> str:
    if not re.fullmatch(_DEVICE, value):
        raise fault(f"must be {_KNOWN}")
    return value


class TrainingOptions(Model):
    """The recipe; all values are part of a cell's identity. Defaults: docs/protocol.md (4)."""

    epochs: int = setting(100, "epochs of the schedule", ge=1, le=MAX_EPOCHS)
    stop_after: int | None = setting(
        None, "end after so many epochs; the schedule stays that of `epochs`", ge=1, le=MAX_EPOCHS
    )
    batch_size: int = setting(
        128, "samples in a step; the last partial batch is dropped", ge=1, le=1_000_000
    )
    learning_rate: float = setting(1e-3, "AdamW's learning rate at the start", ge=0, le=1000)
    weight_decay: float = setting(0.01, "AdamW's weight decay, on all parameters", ge=0, le=1000)
    clip_norm: float | None = setting(
        1.0, "gradient norm each group is clipped to; null: no clipping", gt=0, le=1_000_000
    )
    schedule: Literal["cosine", "constant"] = setting("cosine", "learning rate over the epochs")
    threads: int = setting(1, "CPU threads of a worker", ge=1, le=1024)
    device: Annotated[
        str, AfterValidator(_device), WithJsonSchema({"type": "string", "pattern": f"^{_DEVICE}$"})
    ] = setting("cpu", _KNOWN)
    deterministic: bool = setting(True, "deterministic algorithms only; a missing one is an error")
    precision: Literal["float32", "bfloat16"] = setting(
        "float32", "of the products in a training step; all else is float32"
    )
    compile: bool = setting(False, "use torch.compile, where a compiler works")

    @field_validator("stop_after")
    @classmethod
    def _within_schedule(cls, value: int | None, info: Any) -> int | None:
        epochs = info.data.get("epochs")
        if value is not None and epochs is not None and value > epochs:
            raise fault(f"must be at most training.epochs ({epochs:,})")
        return value

    @field_validator("precision")
    @classmethod
    def _on_device(cls, value: str, info: Any) -> str:
        device = info.data.get("device", "cpu")
        if value != "float32" and device.partition(":")[0] not in ("cpu", "cuda"):
            raise fault(f"must be float32 on {device}: bfloat16 needs cpu or cuda")
        return value


class DataOptions(Model):
    """What part of the data is used, and for what; all values are part of a cell's identity."""

    limit: int | None = setting(None, "the first N training images; null: all", ge=1, le=2**63 - 1)
    validation: Annotated[int | None, LATER] = setting(
        None,
        "training images held out, stratified by class, before `limit`; null: none",
        ge=1,
        le=2**63 - 1,
    )
    evaluate_on: Annotated[Literal["test", "validation"], LATER] = setting(
        "test", "validation: the validation images take the place of the test set"
    )

    @field_validator("evaluate_on")
    @classmethod
    def _has_validation(cls, value: str, info: Any) -> str:
        if value == "validation" and info.data.get("validation") is None:
            raise fault("needs data.validation, the number of images to hold out")
        return value


RECIPE: dict[str, type[Model]] = {"training": TrainingOptions, "data": DataOptions}
