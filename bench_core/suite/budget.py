"""Limit what a cell may use.

A budget is a setting of a suite and no part of the identity of its cells: it decides whether a
cell ends, never its numbers. `seconds` counts the whole cell, with the earlier attempts that it
was resumed from. `memory_mb` is the resident memory of the worker and of all processes that it
started; shared pages count once. The memory is sampled several times a second, so a cell may
exceed the limit for a moment.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

MIB = 1 << 20


class Budget(BaseModel):
    """Limits of a cell and of a whole sweep; null: none."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    seconds: float | None = Field(
        default=None, gt=0, le=1e9, description="wall clock of a cell; then it is a timeout"
    )
    memory_mb: int | None = Field(
        default=None,
        ge=1,
        le=10**9,
        description="resident memory of a cell's processes in MiB; then it is oom",
    )
    gpu_memory_mb: int | None = Field(
        default=None,
        ge=1,
        le=10**9,
        description="memory of a cell on a CUDA device in MiB; then it is oom",
    )
    sweep_seconds: float | None = Field(
        default=None,
        gt=0,
        le=1e9,
        description="wall clock of a whole run; cells that did not start by then are skipped",
    )

    def of_cell(self) -> dict[str, float | int]:
        """The limits of a cell that are set."""
        return self.model_dump(exclude={"sweep_seconds"}, exclude_none=True)
