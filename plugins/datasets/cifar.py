"""cifar10: the files that torchvision reads, opened only after our own SHA-256 of them agrees.

The batch files are pickles. torchvision checks an MD5 and then unpickles; here each file must first match the table of
SHA-256 sums, which is a class attribute, so that tests can bring tiny files. Files that are there and right are never
downloaded again. The archive is checked the same way before it is opened, and unpacked with tarfile's `data` filter.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from bench_core.api import Data, Dataset, ParamsModel
from bench_core.errors import DataError


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Cifar10(Dataset):
    """50,000 training and 10,000 test images (3, 32, 32), uint8, normalised with mean (.4914, .4822, .4465) and std
    (.2470, .2435, .2616); training augmentation: random crop after padding 4, horizontal flip.

    The crops are padded with the mean colour (zeros after normalisation). The published penalty study seems to have padded with
    black, before normalisation: with `padding: black` bp ends at .526 with penalty and .583 without (published .530 and .585),
    with the mean colour at .566 and .586 (benchmarks/RESULTS.md).

    Files: `DIR/cifar-10-batches-py/`, DIR being --data-dir or BENCH_DATA_DIR, default `data`.
    Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """

    class Params(ParamsModel):
        """Parameters of the CIFAR data sets."""

        padding: Literal["mean", "black"] = Field("mean", description="colour around the crops")

    shape = (3, 32, 32)
    classes = 10
    folder_name: ClassVar[str] = "cifar-10-batches-py"
    archive: ClassVar[str] = "cifar-10-python.tar.gz"
    archive_sum: ClassVar[str] = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
    sums: ClassVar[Mapping[str, str]] = {
        "batches.meta": "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb",
        "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
        "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
        "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
        "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
        "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
        "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
    }

    def prepare(self, folder: Path | None) -> str:
        root = folder or Path("data")
        home = root / self.folder_name
        missing = [name for name in self.sums if not (home / name).is_file()]
        if missing:
            self.download(root, f"{home}: {', '.join(missing)} missing")
        for name, expected in self.sums.items():
            try:
                found = sha256(home / name)
            except OSError as error:
                raise DataError(f"{home / name}: cannot be read: {error.strerror}") from None
            if found != expected:
                raise DataError(
                    f"{home / name}: corrupt: SHA-256 is {found[:12]}…, not {expected[:12]}…; it was not opened; "
                    "remove the file and put the original in its place, or remove the folder to download it again"
                )
        return hashlib.sha256("".join(self.sums.values()).encode()).hexdigest()[:32]

    def download(self, root: Path, why: str) -> None:
        """Fetch the archive and unpack the batch files; one line and nothing left behind where that fails."""
        from torchvision.datasets import CIFAR10
        from torchvision.datasets.utils import download_url

        hint = (
            f"put torchvision's CIFAR-10 files into {root / self.folder_name}, or name the folder that holds "
            f"{self.folder_name}/ with --data-dir or BENCH_DATA_DIR"
        )
        fresh = not root.exists()
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as temporary:
                download_url(CIFAR10.url, temporary, self.archive)
                path = Path(temporary) / self.archive
                if sha256(path) != self.archive_sum:
                    raise DataError(f"{why}; the downloaded archive is not the original (SHA-256 differs); {hint}")
                with tarfile.open(path) as archive:
                    archive.extractall(temporary, filter="data")
                (root / self.folder_name).mkdir(exist_ok=True)
                for name in self.sums:
                    os.replace(Path(temporary) / self.folder_name / name, root / self.folder_name / name)
        except (OSError, RuntimeError, tarfile.TarError) as error:
            if fresh:
                with contextlib.suppress(OSError):  # the folder that we made, if nothing is in it
                    root.rmdir()
            reason = " ".join(str(getattr(error, "reason", None) or error).split())
            raise DataError(f"{why}, and the download failed ({reason}); {hint}") from None

    def load(self, folder: Path | None) -> Data:
        root = folder or Path("data")
        train_x, train_y = self.read(root, train=True)
        test_x, test_y = self.read(root, train=False)
        return Data(train_x, train_y, test_x, test_y, self.classes, mean=(0.4914, 0.4822, 0.4465),
                    std=(0.2470, 0.2435, 0.2616), augment=True, padding=self.params.padding)  # fmt: skip

    def read(self, root: Path, train: bool) -> tuple[torch.Tensor, torch.Tensor]:
        from torchvision.datasets import CIFAR10

        self.prepare(root)

        class Verified(CIFAR10):
            """torchvision's reader without its MD5 and class names: the SHA-256 sums above were checked."""

            train_list: ClassVar[Any] = [[name, ""] for name in self.sums if name.startswith("data_batch")]
            test_list: ClassVar[Any] = [["test_batch", ""]]
            base_folder = self.folder_name

            def _check_integrity(self) -> bool:
                return True

            def _load_meta(self) -> None:
                pass

        files = Verified(root, train=train)
        images = np.ascontiguousarray(files.data.transpose(0, 3, 1, 2))
        return torch.from_numpy(images), torch.tensor(files.targets)
