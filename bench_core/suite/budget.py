"""What a cell may use, and what a cell that used more is told.

A budget is a setting of a suite and no part of the identity of its cells: it decides whether a cell ends, never what its
numbers are. `seconds` counts the whole cell, earlier attempts that it was resumed from included; `memory_mb` is the resident
memory of its worker with everything that the worker started (pages that they share count once), looked at several times a
second: a cell may be above it for a moment.
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
