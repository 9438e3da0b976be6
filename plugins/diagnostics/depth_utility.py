"""d, depth utility: do the blocks help more than blocks left at random?"""

from __future__ import annotations

from bench_core.api import Control, Diagnostic, Measured
from bench_core.training.audit import Audit


class DepthUtility(Diagnostic):
    """100·(accuracy − mean accuracy of the floor) in percentage points. Fires below 2.0.

    The floor is the same architecture, data, recipe and seeds with frozen blocks
    (`depth_utility.floor` of the suite: matched, bp, a method's name, or a literal
    `floor_value`). It takes several runs, so `analysis/verdicts/leaderboard.py` computes the value
    from the stored accuracies; here only the run's own accuracy on the probe is noted.
    Source: arXiv:2606.21126.
    """

    letter, direction, threshold, unit, across = "d", "below", 2.0, "pp", "floor"
    title, heading = "accuracy over the floor", "margin"
    sentence = "blocks help {value} pp over {floor} (needs {limit})"

    def measure(self, audit: Audit) -> Measured:
        return Measured(None, {"probe_accuracy": audit.accuracy})

    def controls(self) -> list[Control]:
        """No controls on networks: tests/test_verdict.py judges runs 1.9 and 2.1 points above
        the floor.
        """
        return []
