"""Layer-0 dominance: is the average alignment the first layer's alone?"""

from __future__ import annotations

from typing import Any

from bench_plugins.diagnostics.expect import value_is

from bench_core.api import Control, Diagnostic, Measured
from bench_core.suite.protocol import AT_FLOOR
from bench_core.training.audit import Audit


class Layer0Dominance(Diagnostic):
    """Γ_0 − Γ_deep at the epochs 1 and 2 and at the end.

    It reads the alignment that was measured after every epoch. A mean over all layers hides that
    only the embedding's credit is aligned. value = the difference at the end. Not diagnostic if
    no credit lives at h_0 or the alignment is not diagnostic itself.
    Source: arXiv:2606.21126.
    """

    needs_reference = True

    def measure(self, audit: Audit) -> Measured:
        rows = [(row["epoch"], row["measurements"].get("alignment")) for row in audit.history]
        found = [
            (epoch, measured)
            for epoch, measured in rows
            if measured is not None and "sites" in measured["details"]
        ]
        points = [point(epoch, measured["details"]) for epoch, measured in found]
        if not points:
            return Measured(None, not_diagnostic="the alignment was not measured after the epochs")
        if points[-1]["difference"] is None:
            return Measured(None, not_diagnostic="no credit at h_0, or no deep layer, to compare")
        kept = [entry for entry in points if entry["epoch"] in (1, 2)]
        kept += [] if kept and kept[-1] is points[-1] else points[-1:]
        nothing = AT_FLOOR if audit.at_floor else found[-1][1]["not_diagnostic"]
        return Measured(points[-1]["difference"], {"epochs": kept}, nothing)

    def controls(self) -> list[Control]:
        def measured(*layers: float) -> list[dict[str, Any]]:
            details = {
                "sites": list(range(len(layers))),
                "unclamped": list(layers),
                "deep": sum(layers[1:]) / (len(layers) - 1),
            }
            return [
                {
                    "epoch": 1,
                    "measurements": {"alignment": {"details": details, "not_diagnostic": None}},
                }
            ]

        def dominant(audit: Audit) -> None:
            audit.history = measured(0.5, 0.0, 0.0)

        def even(audit: Audit) -> None:
            audit.history = measured(0.5, 0.5, 0.5)

        return [
            Control("only layer 0 is aligned", dominant, value_is(lambda v: v == 0.5)),
            Control("all layers alike", even, value_is(lambda v: v == 0.0)),
        ]


def point(epoch: int, details: dict[str, Any]) -> dict[str, Any]:
    """One epoch's Γ_0, deep mean and their difference; None where the network has no such layer."""
    layer0 = details["unclamped"][0] if details["sites"][0] == 0 else None
    deep = details["deep"]
    return {
        "epoch": epoch,
        "layer0": layer0,
        "deep": deep,
        "difference": None if None in (layer0, deep) else layer0 - deep,
    }
