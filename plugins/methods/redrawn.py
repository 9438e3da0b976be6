"""Noise that is fresh in every step and repeated between steps, so that audits see the noise in
use.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

MIX = 0x9E3779B97F4A7C15  # odd: seeds of different steps differ


class Redrawn:
    """Generators seeded from a run's generator and the number of the step.

    `next` turns to the next step. The numbers of the stream itself are not used up.
    """

    def __init__(self, generator: torch.Generator, device: str) -> None:
        self.device = device
        self.seed, self.step = generator.initial_seed() % 2**62, 0

    def next(self) -> None:
        self.step += 1

    def generator(self) -> torch.Generator:
        """A new CPU generator: equal draws until `next`."""
        return torch.Generator().manual_seed((self.seed + MIX * self.step) % 2**62)

    def state_dict(self) -> dict[str, Tensor]:
        return {"seed_and_step": torch.tensor([self.seed, self.step], device=self.device)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.seed, self.step = state["seed_and_step"].tolist()
