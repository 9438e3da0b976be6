"""Define what a suite measures, and what it compares accuracies with."""

from __future__ import annotations

from bench_core.suite.component import ComponentSpec, Model, Name, setting
from bench_core.suite.protocol import STANDARD

DIAGNOSTICS = (*(item.name for item in STANDARD.values()), "alignment")  # by default


class DiagnosticSpec(ComponentSpec):
    """A diagnostic by name, with a threshold other than its default and parameters of its own."""

    threshold: float | None = setting(None, "threshold of this suite; null: the diagnostic's own")


class DepthUtility(Model):
    """What the accuracy of a cell is compared with by the diagnostic depth_utility."""

    floor: Name = setting(
        "matched", "matched (same method, frozen blocks), bp (frozen bp), or a method"
    )
    floor_value: float | None = setting(
        None, "a published accuracy to use instead of a floor", ge=0, le=1
    )
