"""cifar10 and cifar100: torchvision's files, read by `bench_plugins.datasets.cifar_files`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from bench_plugins.datasets import cifar_files
from bench_plugins.datasets.cifar_files import Source
from pydantic import Field, ValidationInfo, field_validator

from bench_core.api import LATER, Data, Dataset, ParamsModel

CLASSES = {"fine": 100, "coarse": 20}  # of CIFAR-100
HOME = "https://www.cs.toronto.edu/~kriz/"


class Cifar10(Dataset):
    """50,000 training and 10,000 test images (3, 32, 32), uint8, in 10 classes.

    They are normalised with mean (.4914, .4822, .4465) and std (.2470, .2435, .2616). Training
    augmentation: random crop after padding 4, horizontal flip.

    The crops are padded with the mean colour (zeros after normalisation). The published penalty
    study seems to have padded with black, before normalisation: with `padding: black` bp ends at
    .526 with penalty and .583 without (published .530 and .585), with the mean colour at .566
    and .586 (benchmarks/RESULTS.md).

    Files: `DIR/cifar-10-batches-py/`, DIR being --data-dir or BENCH_DATA_DIR, default `data`.
    Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """

    class Params(ParamsModel):
        """Parameters of the CIFAR data sets."""

        padding: Literal["mean", "black"] = Field("mean", description="colour around the crops")

    shape = (3, 32, 32)
    classes = 10
    labels: ClassVar[str] = "labels"
    train_files: ClassVar[tuple[str, ...]] = tuple(f"data_batch_{i}" for i in range(1, 6))
    test_files: ClassVar[tuple[str, ...]] = ("test_batch",)
    source: ClassVar[Source] = Source(
        "CIFAR-10",
        HOME + "cifar-10-python.tar.gz",
        "cifar-10-python.tar.gz",
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        "cifar-10-batches-py",
        {
            "batches.meta": "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb",
            "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
            "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
            "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
            "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
            "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
            "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
        },
    )

    def prepare(self, folder: Path | None) -> str:
        cifar_files.ensure(self.source, folder or Path("data"))
        return self.source.checksum

    def load(self, folder: Path | None) -> Data:
        root = folder or Path("data")
        cifar_files.ensure(self.source, root)
        train_x, train_y = self.read(root / self.source.folder, self.train_files)
        test_x, test_y = self.read(root / self.source.folder, self.test_files)
        return Data(
            train_x, train_y, test_x, test_y, self.classes, augment=True,
            mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616),
            padding=self.params.padding,
        )  # fmt: skip

    def read(self, home: Path, names: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Read the files one after another into the same two arrays."""
        images, labels = np.empty((0, *self.shape), np.uint8), np.empty(0, np.int64)
        for name in names:
            for whole, part in zip(
                (images, labels), cifar_files.read(home / name, self.labels), strict=True
            ):
                whole.resize((len(whole) + len(part), *whole.shape[1:]), refcheck=False)
                whole[len(whole) - len(part) :] = part
        return torch.from_numpy(images), torch.from_numpy(labels)


class Cifar100(Cifar10):
    """50,000 training and 10,000 test images (3, 32, 32), uint8, in 100 fine classes.

    Normalisation and augmentation are those of cifar10 (with the statistics of CIFAR-10, so that
    the two data sets share a recipe).

    `labels: coarse` gives the 20 superclasses of five fine classes each, on the same images.
    `classes: k` keeps the images with the labels 0 … k−1: 500 training and 100 test images of a
    fine class, 2,500 and 500 of a coarse one. So the number of images grows with k; `data.limit`
    holds it fixed.

    Files: `DIR/cifar-100-python/`. The SHA-256 sums were gathered from independent public records,
    which agree with each other and with the archive's, not computed from our own download.
    Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """

    class Params(Cifar10.Params):
        """Parameters of cifar100."""

        labels: Annotated[Literal["fine", "coarse"], LATER] = Field(
            "fine", description="coarse: 20 superclasses"
        )
        classes: Annotated[int | None, LATER] = Field(
            None, ge=2, le=100, description="the first k classes; null: all"
        )

        @field_validator("classes")
        @classmethod
        def _below_all(cls, value: int | None, info: ValidationInfo) -> int | None:
            labels = info.data.get("labels", "fine")
            if value is not None and value > CLASSES[labels]:
                raise ValueError(f"must be at most {CLASSES[labels]} with labels: {labels}")
            return None if value == CLASSES[labels] else value  # all of them: the same cell

    classes = 100
    labels = "fine_labels"
    train_files = ("train",)
    test_files = ("test",)
    source = Source(
        "CIFAR-100",
        HOME + "cifar-100-python.tar.gz",
        "cifar-100-python.tar.gz",
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        "cifar-100-python",
        {
            "meta": "a5d4786345c961390f865e93b434dbd5c6904ce880667e0cb888c97d449f28b9",
            "test": "4b67687d9933c4db8f0831104447f15b93774f4f464bd0516f0f0f2ac83b7864",
            "train": "735e79b04f092ca3d2e6d07f368c0a7d70d48c48d28865950cc24454cf45129b",
        },
    )

    def __init__(self, params: ParamsModel) -> None:
        super().__init__(params)
        self.labels = f"{self.params.labels}_labels"
        self.classes = self.params.classes or CLASSES[self.params.labels]

    def load(self, folder: Path | None) -> Data:
        data = super().load(folder)
        train, test = data.train_y < self.classes, data.test_y < self.classes
        return replace(
            data, train_x=data.train_x[train], train_y=data.train_y[train],
            test_x=data.test_x[test], test_y=data.test_y[test],
        )  # fmt: skip
