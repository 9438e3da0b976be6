"""Limit what a cell may use: no part of a cell's identity, because it never changes numbers.

`seconds` counts the whole cell, with the attempts that it was resumed from. `memory_mb` is the
resident memory of the worker and of all processes that it started, shared pages once; it is
sampled several times a second, so a cell may exceed the limit for a moment.
"""

from __future__ import annotations

from bench_core.suite.component import Model, setting


class Budget(Model):
    """Limits of a cell and of a whole sweep; null: none."""

    seconds: float | None = setting(
        None, "wall clock of a cell; then it is a timeout", gt=0, le=1e9
    )
    memory_mb: int | None = setting(
        None, "resident memory of a cell's processes in MiB; then it is oom", ge=1, le=10**9
    )
    gpu_memory_mb: int | None = setting(
        None, "memory of a cell on a CUDA device in MiB; then it is oom", ge=1, le=10**9
    )
    sweep_seconds: float | None = setting(
        None,
        "wall clock of a whole run; cells that did not start by then are skipped",
        gt=0,
        le=1e9,
    )

    def of_cell(self) -> dict[str, float | int]:
        """Return the limits of a cell that are set."""
        return self.model_dump(exclude={"sweep_seconds"}, exclude_none=True)
