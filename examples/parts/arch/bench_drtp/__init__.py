"""What this package brings: a table of strings. Every `bench` command reads it, so it imports
nothing heavy."""

from bench_core.api import Component, hookimpl

BENCH_API = (1, 0)  # the plugin interface that this was written for


@hookimpl
def bench_archs() -> list[Component]:
    return [Component("drtp", "bench_drtp.net:TanhNet", "residual blocks W·tanh(h)")]
