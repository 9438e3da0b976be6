"""digits: the 8×8 handwritten digits that ship inside scikit-learn."""

from __future__ import annotations

from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from bench_core.api import Data, Dataset

SPLIT_SEED = 0
TRAIN = 1437


class Digits(Dataset):
    """1,797 real images of handwritten digits, (1, 8, 8), split 1,437 / 360 by a fixed seed.

    Pixels are scaled to mean 0 and deviation 1 over the training set (one mean, one deviation).
    No augmentation.

    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 1998,
    doi:10.24432/C50P49, as in sklearn.datasets.load_digits.
    """

    shape = (1, 8, 8)
    classes = 10

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return images, (1797, 8, 8), and labels; the import of sklearn would take 1.7 s."""
        sklearn = find_spec("sklearn")
        assert sklearn is not None
        assert sklearn.origin is not None
        table = np.loadtxt(
            Path(sklearn.origin).parent / "datasets/data/digits.csv.gz", delimiter=","
        )
        table = table[np.random.RandomState(SPLIT_SEED).permutation(len(table))]
        return table[:, :64].reshape(-1, 8, 8).astype(np.float32), table[:, 64].astype(np.int64)

    def prepare(self, folder: Path | None) -> str:
        images, labels = self.arrays()
        return blake2b(images.tobytes() + labels.tobytes(), digest_size=16).hexdigest()

    def load(self, folder: Path | None) -> Data:
        images, labels = self.arrays()
        train = images[:TRAIN]
        x = torch.from_numpy((images - train.mean()) / train.std()).unsqueeze(1)
        y = torch.from_numpy(labels)
        return Data(x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:], self.classes)
