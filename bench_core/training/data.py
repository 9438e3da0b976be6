"""Hold a data set as tensors on a device and cut batches from it.

There is no DataLoader. The whole set lies on the device as one uint8 (images) or float tensor. A
batch is cut out, normalised and augmented there, all its images at once. Order, crops and flips of
an epoch are drawn before the epoch starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bench_core.errors import BenchError
from bench_core.training.loss import CROSS_ENTROPY, Loss
from bench_core.training.rng import stream

if TYPE_CHECKING:
    from bench_core.training.dataset import Dataset

PAD = 4
ALIGNED = 64  # bytes: torch begins every tensor at a multiple of this
TENSORS = ("train_x", "train_y", "test_x", "test_y")
HELD_OUT = ("validation_x", "validation_y")


@dataclass(frozen=True)
class Data:
    """A training set and a test set, and validation samples if some are held out (`hold_out`).

    train_x, test_x  uint8 (N, channels, height, width) with `mean` and `std` per channel (in 0 …
                     1); or float32, finite and ready for use
    train_y, test_y  int64 (N,) in 0 … classes−1, or float32 targets (N, classes) of a regression
    validation_x, validation_y  of the same form
    loss             the minimised loss: y are class labels, or float targets (N, C) of a squared
                     error
    augment          random crop after padding by 4 and random flip, drawn per image; uint8 only
    padding          "mean": with zeros after normalisation, the mean colour; "black": before it,
                     like torchvision's RandomCrop
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    augment: bool = False
    padding: Literal["mean", "black"] = "mean"
    loss: Loss = CROSS_ENTROPY
    validation_x: Tensor | None = None
    validation_y: Tensor | None = None

    def wrong_shape(self, shape: Sequence[int], classes: int) -> str:
        """Say how inputs and classes differ from those that the data set declares; "" if not."""
        for name in ("train_x", "test_x"):
            if (found := tuple(getattr(self, name).shape[1:])) != tuple(shape):
                return f"{name} has inputs of shape {found}; the data set says {tuple(shape)}"
        if self.classes != classes:
            return f"the tensors have {self.classes} classes; the data set says {classes}"
        return ""

    def wrong_form(self) -> str:
        """Say why the tensors are not ready for a training; "" if they are."""
        for part in self._parts():
            x, y = getattr(self, f"{part}_x"), getattr(self, f"{part}_y")
            if not (isinstance(x, Tensor) and isinstance(y, Tensor)):
                kinds = f"{type(x).__name__} and {type(y).__name__}"
                return f"{part}_x and {part}_y are {kinds}, not tensors of torch"
            if not (x.dim() and y.dim()) or len(x) != len(y) or x.numel() == 0:
                return f"{part}: inputs of shape {tuple(x.shape)} and labels of {tuple(y.shape)}"
            if x.device.type != "cpu" or y.device.type != "cpu":
                remedy = "leave them on the CPU, the core moves them"
                return f"{part}: the tensors are on {x.device}: {remedy}"
            if x.dtype == torch.uint8:
                if x.dim() != 4 or {len(self.mean), len(self.std)} != {x.shape[1]}:
                    need = "(N, channels, height, width) and a mean and std per channel"
                    return f"{part}_x is uint8, which needs {need}"
            elif x.dtype != torch.float32:
                return f"{part}_x is {x.dtype}, not uint8 or float32"
            elif not _is_finite(x):
                return f"{part}_x is not finite everywhere"
        return ""

    def wrong_labels(self) -> str:
        """Say why the loss cannot take the labels or targets; "" if it can."""
        for name in (f"{part}_y" for part in self._parts()):
            y = getattr(self, name)
            shape = f"{y.dtype} of shape {tuple(y.shape)}"
            if not self.loss.classes:
                if y.dtype != torch.float32 or y.shape != (len(y), self.classes):
                    return f"{name} is {shape}; {self.loss.name} takes float32 (N, {self.classes})"
                if not _is_finite(y):
                    return f"{name} is not finite everywhere"
            elif y.dtype != torch.int64 or y.dim() != 1:
                return f"{name} is {shape}, not int64 (N,)"
            elif not 0 <= int(y.min()) <= int(y.max()) < self.classes:
                labels = f"{int(y.min())} … {int(y.max())}"
                return f"{name} has the classes {labels}, not 0 … {self.classes - 1}"
        return ""

    def _parts(self) -> list[str]:
        held_out = self.validation_x is not None or self.validation_y is not None
        return ["train", "test", *["validation"] * held_out]

    def limit(self, count: int | None) -> Data:
        """Keep only the first `count` training samples."""
        return replace(self, train_x=self.train_x[:count], train_y=self.train_y[:count])

    def hold_out(self, count: int) -> Data:
        """Move `count` training samples to the validation set.

        The split is drawn from the stream `validation` with seed 0, so it depends on the labels in
        file order and on `count` alone: every rule, seed and machine holds out the same samples.
        It is stratified: of a class with n_c of the n samples, ⌊count·n_c/n⌋ are held out, and one
        more of the classes with the largest remainders until there are `count`. A regression has
        no classes: `count` of all samples are held out. Both sets keep the order of the file.

        Raises ValueError if the validation set or the training set lacks a class, or is empty.
        """
        y, total = self.train_y.cpu(), len(self.train_y)
        if count >= total:
            raise ValueError(f"must be below the {total:,} training samples, not {count:,}")
        labels = torch.zeros(total, dtype=torch.int64) if y.is_floating_point() else y
        sizes = torch.bincount(labels).tolist()
        shares = [count * size // total for size in sizes]
        order = sorted(range(len(sizes)), key=lambda c: (-(count * sizes[c] % total), c))
        for label in order[: count - sum(shares)]:
            shares[label] += 1
        for label, (share, size) in enumerate(zip(shares, sizes, strict=True)):
            if size and not 0 < share < size:
                lacking = "validation" if share == 0 else "training"
                raise ValueError(f"{count:,} leaves class {label} without a {lacking} sample")
        draws = stream(0, "validation")
        held = torch.zeros(total, dtype=torch.bool)
        for label, share in enumerate(shares):
            members = (labels == label).nonzero().flatten()
            held[members[torch.randperm(len(members), generator=draws)[:share]]] = True
        held = held.to(self.train_y.device)
        return replace(
            self, train_x=self.train_x[~held], train_y=self.train_y[~held],
            validation_x=self.train_x[held], validation_y=self.train_y[held],
        )  # fmt: skip

    def validated(self) -> Data | None:
        """Return the data with the validation samples in the place of the test set, if any."""
        if self.validation_x is None or self.validation_y is None:
            return None
        x, y = self.validation_x, self.validation_y
        return replace(self, test_x=x, test_y=y, validation_x=None, validation_y=None)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors that there are, by name."""
        named = {name: getattr(self, name) for name in (*TENSORS, *HELD_OUT)}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def to(self, device: str) -> Data:
        moved = {name: value.to(device).contiguous() for name, value in self.tensors.items()}
        return replace(self, **moved)  # type: ignore[arg-type]

    def sums(self) -> dict[str, str]:
        """Return the BLAKE2b of each tensor's bytes; 0.15 s for CIFAR-10."""
        sums = {}
        for name, tensor in self.tensors.items():
            flat = tensor.detach().cpu().contiguous().view(-1)
            sums[name] = blake2b(flat.view(torch.uint8).numpy().data, digest_size=16).hexdigest()
        return sums

    @property
    def chance(self) -> float | None:
        """The accuracy of always naming the commonest class of the test set; None for targets."""
        if self.test_y.is_floating_point():
            return None
        return int(torch.bincount(self.test_y.flatten()).max()) / len(self.test_y)

    def normalise(self, x: Tensor) -> Tensor:
        """Compute (x/255 − mean)/std per channel of uint8 images; return floats unchanged."""
        if x.dtype != torch.uint8:
            return x
        scales = [1 / (255 * s) for s in self.std]
        shifts = [-m / s for m, s in zip(self.mean, self.std, strict=True)]
        scale, shift = torch.tensor([scales, shifts], device=x.device).view(2, 1, -1, 1, 1)
        return x.float().mul_(scale).add_(shift)

    def test_batches(self, size: int, count: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the first `count` test samples (default: all) in file order."""
        count = len(self.test_y) if count is None else min(count, len(self.test_y))
        for start in range(0, count, size):
            stop = min(start + size, count)
            yield self.normalise(self.test_x[start:stop]), self.test_y[start:stop]

    def epoch(
        self, batch_size: int, order: torch.Generator, augmentation: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch in a fresh order, without a partial last batch."""
        n, device = len(self.train_y), self.train_x.device
        permutation = torch.randperm(n, generator=order).to(device)
        if self.augment:
            shifts = torch.randint(0, 2 * PAD + 1, (2, n, 1), generator=augmentation).to(device)
            flips = (torch.rand(n, 1, generator=augmentation) < 0.5).to(device)
        for start in range(0, n - batch_size + 1, batch_size):
            rows = permutation[start : start + batch_size]
            x = self.train_x.index_select(0, rows)
            if not self.augment or self.padding == "mean":
                x = self.normalise(x)
            if self.augment:
                span = slice(start, start + batch_size)
                down, right = shifts[:, span]
                x = crop_and_flip(x, down, right, flips[span])
            yield self.normalise(x), self.train_y[rows]  # which leaves floats unchanged


def _is_finite(values: Tensor) -> bool:
    """Test a tensor without a copy of it: extremes are NaN if one value is."""
    return all(bool(end.isfinite()) for end in values.aminmax())


def loaded(dataset: Dataset, folder: Path | None) -> Data:
    """Load a data set. Raises BenchError with one line if a training cannot take its tensors."""
    data = dataset.load(folder)
    name = type(dataset).__name__
    if not isinstance(data, Data):
        raise BenchError(f"{name}.load() returned {type(data).__name__}, not bench_core.api.Data")
    wrong = data.wrong_form() or data.wrong_labels()
    if fault := wrong or data.wrong_shape(dataset.shape, dataset.classes):
        raise BenchError(f"{name}.load(): {fault}")
    return data


class Held:
    """A data set whose test and validation samples become tensors for an evaluation alone.

    A rule trains in this process. Between evaluations these samples are plain bytes, so no tensor
    holds them: a rule finds none among all objects, nor in the variables of its callers. This hides
    the test set and does not lock it: a rule can read the data files, or call `opened`.

    training      the data set without its test and validation samples
    chance        that of the data set
    test_samples  number of them
    """

    def __init__(self, data: Data) -> None:
        self.chance, self.test_samples = data.chance, len(data.test_y)
        self._device = data.test_x.device
        hidden = {k: value for k, value in data.tensors.items() if not k.startswith("train")}
        self._kept = {name: _kept(tensor) for name, tensor in hidden.items()}
        empty = {name: tensor[:0].clone() for name, tensor in hidden.items()}
        self.training = replace(data, **empty)  # type: ignore[arg-type]

    def opened(self) -> Data:
        """Return the whole data set; its hidden samples are gone with the last reference to it."""
        samples = {name: read().to(self._device) for name, read in self._kept.items()}
        return replace(self.training, **samples)  # type: ignore[arg-type]


def _kept(tensor: Tensor) -> Callable[[], Tensor]:
    """Copy a tensor's bytes to memory that begins as torch's does; return how to view them."""
    flat = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
    room = np.empty(len(flat) + ALIGNED, np.uint8)
    start = -room.ctypes.data % ALIGNED
    content, dtype, shape = room[start : start + len(flat)], tensor.dtype, tensor.shape
    content[:] = flat
    return lambda: torch.from_numpy(content).view(dtype).view(shape)


def crop_and_flip(x: Tensor, down: Tensor, right: Tensor, flip: Tensor) -> Tensor:
    """Shift and mirror every image by its own draws, in one gather.

    x            (N, C, H, W); the padded zeros are the mean colour if x is normalised, black if not
    down, right  (N, 1) offsets of the window in the image padded by 4 on each side, 0 … 8
    flip         (N, 1) bool, horizontal
    """
    n, channels, height, width = x.shape
    row = down + torch.arange(height, device=x.device)
    column = torch.arange(width, device=x.device).expand(n, -1)
    column = right + torch.where(flip, width - 1 - column, column)
    pixel = (row.unsqueeze(2) * (width + 2 * PAD) + column.unsqueeze(1)).view(n, 1, height * width)
    padded = F.pad(x, (PAD,) * 4).view(n, channels, -1)
    return padded.gather(2, pixel.expand(-1, channels, -1)).view_as(x)
