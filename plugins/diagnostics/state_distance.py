"""d_BP, state distance: how far do a rule's states lie from those of backpropagation?"""

from __future__ import annotations

from bench_core.api import Control, Diagnostic, Measured
from bench_core.training.audit import Audit


class StateDistance(Diagnostic):
    """d_l = median over the probe samples of ‖h_l − h_l^BP‖/‖h_l^BP‖, against plain bp of the
    same recipe and seed; value = d_L.

    It takes two runs, so the value is computed from the stored states by
    `bench_core.analysis.distance` when results are read; here only the probe is counted. A run
    stores the states of as many samples as fit into 64 MiB (small_cnn: 119 of 1,280). Their number
    is shown with the value.
    Source: arXiv:2606.21126.
    """

    across = "ceiling"

    def measure(self, audit: Audit) -> Measured:
        return Measured(None, {"probe": audit.samples})

    def controls(self) -> list[Control]:
        """No controls on networks: tests/test_distance.py compares a run with itself and a
        scaled one.
        """
        return []
