"""drtp: a synthetic data set of Gaussian clouds."""

import torch
from pydantic import Field

from bench_core.api import Data, Dataset, ParamsModel

FEATURES, CLASSES, TRAIN, TEST = 16, 5, 2000, 1280


class Blobs(Dataset):
    """Inputs x = m_y + N(0, I_16) around class means m_c ~ N(0, spread²·I); labels y uniform.

    2,000 inputs for training and 1,280 for testing. They are drawn from a stream of their own, so
    that neither the data nor the initial weights depend on each other's seed. A data set that reads
    files returns their checksum from `prepare`. If they are missing or corrupt it raises
    `bench_core.errors.DataError` with one line.
    """

    shape = (FEATURES,)
    classes = CLASSES

    class Params(ParamsModel):
        """Parameters of drtp: part of a cell's identity."""

        spread: float = Field(1.0, ge=0.0, le=100.0, description="deviation of the class means")

    def prepare(self, folder):
        return "generated"  # the code and the parameters are in a cell's identity

    def load(self, folder):
        draws = self.generator()
        means = self.params.spread * torch.randn(CLASSES, FEATURES, generator=draws)
        y = torch.randint(CLASSES, (TRAIN + TEST,), generator=draws)
        x = means[y] + torch.randn(TRAIN + TEST, FEATURES, generator=draws)
        return Data(x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:], CLASSES)
