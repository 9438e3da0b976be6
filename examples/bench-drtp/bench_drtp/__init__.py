"""The table of components of this package.

Many `bench` commands read it, so it imports nothing heavy.
"""

from bench_core.api import Component, hookimpl

BENCH_API = (1, 0)  # the version of the plugin interface


@hookimpl
def bench_methods() -> list[Component]:
    return [
        Component(
            "drtp",
            "bench_drtp.rule:RandomTargetProjection",
            "direct random target projection: the label through fixed random matrices",
        )
    ]
