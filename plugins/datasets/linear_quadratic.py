"""linear_quadratic: a linear regression with squared error, the task of linear_lq."""

from __future__ import annotations

from pathlib import Path

import torch

from bench_core.api import SQUARED_ERROR, Data, Dataset

TRAIN, TEST = 51_200, 1_280


class LinearQuadratic(Dataset):
    """Inputs x ~ N(0, I_64), targets y = T·x with a fixed random T (10, 64), entries N(0, 1/64);
    loss ½‖o − y‖² per sample.

    51,200 training inputs (400 batches of 128: the published 8,000 steps are 20 epochs) and
    1,280 test inputs (the probe), drawn from a stream of the data set's own (numerics 2; before,
    it began like a network with seed 0). Accuracy is the share of the targets' variance that is
    explained.
    Source: arXiv:2606.21126 (the toy problem); sizes and the target's scale are our choice.
    """

    numerics = 2
    shape = (64,)
    classes = 10
    regression = True

    def prepare(self, folder: Path | None) -> str:
        return "generated"  # by this code, which is in a cell's identity

    def load(self, folder: Path | None) -> Data:
        draws = self.generator()
        (width,) = self.shape
        target = width**-0.5 * torch.randn(width, self.classes, generator=draws)
        x = torch.randn(TRAIN + TEST, width, generator=draws)
        y = x @ target
        return Data(x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:], self.classes, loss=SQUARED_ERROR)
