"""teacher: a synthetic task with a dial for its non-linearity."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from bench_core.api import Data, Dataset, ParamsModel

WIDTH, BLOCKS = 128, 4
TRAIN, TEST = 50_000, 10_000


class Teacher(Dataset):
    """Inputs x ~ N(0, I_128); labels y = argmax(H·h_4) of a fixed random residual network

        h_0 = x,   h_{l+1} = h_l + W_l·φ_α(LN(h_l)),   φ_α(z) = (1−α)·z + α·tanh(z),   W_l ~ N(0,
                   1/128),   H ~ N(0, 1/128).

    50,000 training and 10,000 test inputs, drawn from a stream of the data set's own (numerics 2;
    before, a student with seed 0 began with the teacher's weights).
    Source: arXiv:2606.21126.
    """

    numerics = 2

    class Params(ParamsModel):
        """Parameters of teacher."""

        alpha: float = Field(1.0, ge=0.0, le=1.0, description="α: 0 linear, 1 tanh")
        classes: int = Field(10, ge=2, le=1000, description="number of classes")

    shape = (WIDTH,)

    @property
    def classes(self) -> int:  # type: ignore[override]
        return int(self.params.classes)

    def prepare(self, folder: Path | None) -> str:
        return "generated"  # the code and the parameters are in a cell's identity

    def load(self, folder: Path | None) -> Data:
        draws = self.generator()
        scale = WIDTH**-0.5
        blocks = [scale * torch.randn(WIDTH, WIDTH, generator=draws) for _ in range(BLOCKS)]
        head = scale * torch.randn(WIDTH, self.classes, generator=draws)
        x = torch.randn(TRAIN + TEST, WIDTH, generator=draws)
        y = self.label(x, blocks, head)
        return Data(x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:], self.classes)

    def label(self, x: Tensor, blocks: list[Tensor], head: Tensor) -> Tensor:
        alpha, h = self.params.alpha, x
        for W in blocks:
            z = F.layer_norm(h, h.shape[1:])
            h = h + ((1 - alpha) * z + alpha * z.tanh()) @ W
        return (h @ head).argmax(1)
