"""Loss decrease: how much did the training loss fall?"""

from __future__ import annotations

from bench_plugins.diagnostics.expect import value_is

from bench_core.api import Control, Diagnostic, Measured
from bench_core.training.audit import Audit


class LossDecrease(Diagnostic):
    """Mean training loss of the first epoch minus that of the last.

    Measured at the end of training; not diagnostic before the second epoch.
    Source: arXiv:2606.21126.
    """

    def measure(self, audit: Audit) -> Measured:
        losses = [row["train_loss"] for row in audit.history if row.get("train_loss") is not None]
        if len(losses) < 2:
            return Measured(None, {"epochs": len(losses)}, "fewer than two epochs of training")
        return Measured(
            losses[0] - losses[-1], {"first": losses[0], "last": losses[-1], "epochs": len(losses)}
        )

    def controls(self) -> list[Control]:
        def losses(*values: float) -> list[dict[str, float]]:
            return [{"train_loss": value} for value in values]

        def falling(audit: Audit) -> None:
            audit.history = losses(2.0, 1.5, 1.25)

        def rising(audit: Audit) -> None:
            audit.history = losses(2.0, 2.5)

        return [
            Control("a falling loss", falling, value_is(lambda v: v == 0.75)),
            Control("a rising loss", rising, value_is(lambda v: v == -0.5)),
        ]
