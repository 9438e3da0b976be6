"""The built-in architectures: a table of descriptors, without torch."""

from bench_core.api import Component, hookimpl

PAPER = "Hao, Wan, Zhai 2026, arXiv:2606.21126"


@hookimpl
def bench_archs() -> list[Component]:
    return [
        Component("resmlp", "bench_plugins.archs.resmlp:ResMLP", "residual MLP with a terminal LayerNorm", PAPER),
    ]
