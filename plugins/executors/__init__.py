"""The built-in executors: where cells run."""

from __future__ import annotations

from bench_core.api import Component, hookimpl


@hookimpl
def bench_executors() -> list[Component]:
    return [
        Component("local", "bench_core.executors.local:execute", "worker processes on this machine"),
    ]
