"""Checks of data sets: the properties that the loop and the identity of a cell rely on."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from bench_core.errors import DataError
from bench_core.testing.global_state import preserved
from bench_core.testing.kit import check
from bench_core.testing.outcomes import Failed, Skipped
from bench_core.testing.subjects import DatasetSubject, equal
from bench_core.training.data import Data
from bench_core.training.dataset import Dataset

LEAK = 0.01  # share of test inputs that may occur in the training set, bit by bit


def folder() -> Path | None:
    """The data directory of the user, or None."""
    return Path(os.environ["BENCH_DATA_DIR"]) if os.environ.get("BENCH_DATA_DIR") else None


def made(subject: DatasetSubject) -> Dataset:
    found: Dataset = subject.target(subject.target.Params.model_validate(subject.options))
    return found


@cache
def _loaded(target: type, options: str) -> tuple[Dataset, str, Data]:
    import json

    dataset = made(DatasetSubject(target, json.loads(options)))
    try:
        checksum = dataset.prepare(folder())
    except DataError as error:
        raise Skipped(f"the data are not here: {error}") from None
    return dataset, checksum, dataset.load(folder())


def loaded(subject: DatasetSubject) -> tuple[Dataset, str, Data]:
    """Return data set, checksum and tensors, loaded once. Raises Skipped if files are missing."""
    import json

    return _loaded(subject.target, json.dumps(subject.options, sort_keys=True))


def tensors(data: Data) -> dict[str, Tensor]:
    return {name: getattr(data, name) for name in ("train_x", "train_y", "test_x", "test_y")}


@check("dataset", "contract")
def shape_and_classes_are_known_before_loading(subject: DatasetSubject) -> None:
    """`shape` and `classes` of the class are those of the tensors."""
    dataset, _, data = loaded(subject)
    for name in ("train_x", "test_x"):
        shape = tuple(getattr(data, name).shape[1:])
        if shape != tuple(dataset.shape):
            raise Failed(
                f"{name} has inputs of shape {shape}; the data set says {tuple(dataset.shape)}"
            )
    if data.classes != dataset.classes:
        raise Failed(
            f"the tensors have {data.classes} classes; the data set says {dataset.classes}"
        )


@check("dataset", "contract")
def tensors_are_ready_for_the_loop(subject: DatasetSubject) -> None:
    """Inputs are uint8 images with mean and std, or floats that are finite; one label per input;
    on the CPU."""
    _, _, data = loaded(subject)
    for part in ("train", "test"):
        x, y = getattr(data, f"{part}_x"), getattr(data, f"{part}_y")
        if len(x) != len(y) or len(x) == 0:
            raise Failed(f"{part}: {len(x)} inputs and {len(y)} labels")
        if x.device.type != "cpu" or y.device.type != "cpu":
            raise Failed(
                f"{part}: the tensors are on {x.device}: leave them on the CPU, the core moves them"
            )
        if x.dtype == torch.uint8 and (
            x.dim() != 4 or len(data.mean) != x.shape[1] or len(data.std) != x.shape[1]
        ):
            raise Failed(
                f"{part}_x is uint8, which needs (N, channels, height, width) and a mean and std "
                "per channel"
            )
        if x.dtype not in (torch.uint8, torch.float32):
            raise Failed(f"{part}_x is {x.dtype}, not uint8 or float32")
        if x.dtype == torch.float32 and not bool(x.isfinite().all()):
            raise Failed(f"{part}_x is not finite everywhere")


@check("dataset", "contract")
def labels_are_classes(subject: DatasetSubject) -> None:
    """Labels are int64 in 0 … classes−1 and every class occurs in both parts; or floats where
    the loss is a regression's."""
    _, _, data = loaded(subject)
    if not data.loss.classes:
        if not data.train_y.is_floating_point():
            raise Failed(f"the loss is {data.loss.name}, and the targets are {data.train_y.dtype}")
        return
    for part in ("train_y", "test_y"):
        y = getattr(data, part)
        if y.dtype != torch.int64 or y.dim() != 1:
            raise Failed(f"{part} is {y.dtype} of shape {tuple(y.shape)}, not int64 (N,)")
        found = set(y.unique().tolist())
        if found != set(range(data.classes)):
            raise Failed(f"{part} has the classes {sorted(found)[:12]}, not 0 … {data.classes - 1}")


@check("dataset", "determinism")
def loading_again_gives_the_same_bits(subject: DatasetSubject) -> None:
    """The same tensors and checksum every time, for all global seeds."""
    _, checksum, data = loaded(subject)
    torch.manual_seed(12345)
    again = made(subject)
    if again.prepare(folder()) != checksum:
        raise Failed("prepare() returns another checksum the second time")
    if name := equal(tensors(data), tensors(again.load(folder()))):
        raise Failed(
            f"{name} differs when it is loaded again: draw from a generator with a seed of its own"
        )


@check("dataset", "honesty")
def test_inputs_are_not_in_the_training_set(subject: DatasetSubject) -> None:
    """At most 1 % of the test inputs occur in the training set bit by bit."""
    _, _, data = loaded(subject)
    seen = {bytes(row) for row in data.train_x.flatten(1).numpy()}
    found = sum(bytes(row) in seen for row in data.test_x.flatten(1).numpy())
    if found > LEAK * len(data.test_x):
        raise Failed(f"{found} of {len(data.test_x)} test inputs are in the training set")


@check("dataset", "honesty")
def loading_changes_no_global_state(subject: DatasetSubject) -> None:
    """Preparing and loading leaves seeds, dtype, folder and environment as they were."""
    with preserved() as changed:
        loaded(subject)
        dataset = made(subject)
        dataset.prepare(folder())
        dataset.load(folder())
    if changed.names:
        raise Failed(f"loading changes global state: {', '.join(changed.names[:3])}")


@check("dataset", "honesty")
def missing_files_are_one_line(subject: DatasetSubject) -> None:
    """Without its files prepare() raises DataError with one line, or it needs none."""
    import tempfile

    with tempfile.TemporaryDirectory() as empty:
        blocked = Path(empty) / "file"
        blocked.write_text("not a folder")
        try:
            made(subject).prepare(blocked)
        except DataError as error:
            if len(str(error).splitlines()) != 1:
                raise Failed("the DataError for missing files has several lines") from None
