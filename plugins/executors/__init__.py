"""The built-in executors: where cells run."""

from __future__ import annotations

from bench_core.api import Component, hookimpl


@hookimpl
def bench_executors() -> list[Component]:
    return [
        Component(
            "local",
            "bench_core.execution.executors.local:execute",
            "worker processes on this machine",
        ),
        Component(
            "ray",
            "bench_core.execution.executors.ray:execute",
            "tasks of a Ray cluster, or of one started here (bench-core[ray])",
        ),
        Component(
            "slurm",
            "bench_core.execution.executors.slurm:execute",
            "an array of Slurm jobs through submitit (bench-core[slurm])",
        ),
    ]
