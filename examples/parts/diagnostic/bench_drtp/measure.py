"""drtp: the largest weight of the head."""

import torch

from bench_core.api import Control, Diagnostic, Measured


class HeadNorm(Diagnostic):
    """Largest |θ| over the parameters of the readout. Fires above 100."""

    direction, threshold = "above", 100.0

    def measure(self, audit):
        largest = max(float(p.detach().abs().max()) for p in audit.net.readout.parameters())
        return Measured(largest)

    def controls(self):
        def explode(audit):
            with torch.no_grad():
                for parameter in audit.net.readout.parameters():
                    parameter.mul_(1e4)

        return [
            Control(
                "a head times 10,000",
                explode,
                lambda found: found.value is not None and found.value > 100,
            ),
            Control(
                "random init",
                lambda audit: None,
                lambda found: found.value is not None and found.value <= 100,
            ),
        ]
