"""The table of components of this package.

Every `bench` command reads it, so it imports nothing heavy.
"""

from bench_core.api import Component, hookimpl

BENCH_API = (1, 1)  # the version of the plugin interface


@hookimpl
def bench_diagnostics() -> list[Component]:
    return [
        Component(
            "drtp",
            "bench_drtp.measure:SignAgreement",
            "share of signs of the gradient in the credit",
        )
    ]
