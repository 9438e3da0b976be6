"""The built-in diagnostics: a table of descriptors, without torch."""

from bench_core.api import Component, hookimpl

SOURCE = "arXiv:2606.21126"


@hookimpl
def bench_diagnostics() -> list[Component]:
    here = "bench_plugins.diagnostics"
    return [
        Component("scale_growth", f"{here}.scale_growth:ScaleGrowth",
                  "a: the residual stream explodes in one block", SOURCE),
        Component("reference_floor", f"{here}.reference_floor:ReferenceFloor",
                  "b: the reference gradient is at the numerical floor", SOURCE),
        Component("batch_stability", f"{here}.batch_stability:BatchStability",
                  "c: every batch has the same gradient direction", SOURCE),
        Component("depth_utility", f"{here}.depth_utility:DepthUtility",
                  "d: the blocks help less than blocks left at random", SOURCE),
        Component("alignment", f"{here}.alignment:Alignment",
                  "Γ: cosine of the credit to the backprop gradient, per layer", SOURCE),
    ]  # fmt: skip
