"""Derive named random streams from a run's seed; drawing more from one never shifts another.

    init                 torch's global CPU generator, seeded with the seed itself
    feedback, auxiliary  a method's feedback matrices; its auxiliary networks with the noise and the
                         further passes of their training
    order, augmentation  the order of the training images; crops and flips
    random_targets       the control with random labels
    probe, nulls         draws of diagnostics; controls: the draws of their controls
    data                 a generated data set (`Dataset.generator`), whose seed is not the run's

All draws are made on the CPU and then moved, so a cell draws the same numbers on every device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Literal

import torch

Name = Literal[
    "feedback",
    "auxiliary",
    "order",
    "augmentation",
    "random_targets",
    "probe",
    "nulls",
    "controls",
    "data",
]


def stream(seed: int, name: Name) -> torch.Generator:
    """Make the CPU generator of the stream `name` of a run with this seed."""
    digest = blake2b(f"{name}:{seed}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


@contextmanager
def draws_from(generator: torch.Generator) -> Iterator[None]:
    """Seed torch's global generator, from which modules draw, by `generator`; restore it after."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(0, 2**62, (), generator=generator)))
        yield
