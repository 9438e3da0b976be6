"""Checks of data sets: the properties that the loop and the identity of a cell rely on."""

from __future__ import annotations

import builtins
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from bench_core.errors import DataError
from bench_core.testing.comparing import differs, must_preserve
from bench_core.testing.global_state import Changes, preserved
from bench_core.testing.kit import Failed, Skipped, check
from bench_core.testing.subjects import Subject
from bench_core.training.data import TENSORS, Data

LEAK = 0.01  # share of test inputs that may occur in the training set, bit by bit


def folder() -> Path | None:
    """Return the data directory of the user, or None."""
    return Path(os.environ["BENCH_DATA_DIR"]) if os.environ.get("BENCH_DATA_DIR") else None


@cache
def loaded(subject: Subject) -> tuple[Any, str, Data]:
    """Return data set, checksum and tensors, loaded once. Raises Skipped if files are missing."""
    dataset = subject.instance()
    try:
        checksum = dataset.prepare(folder())
    except DataError as error:
        raise Skipped(f"not reached: the data are not here: {error}") from None
    return dataset, checksum, dataset.load(folder())


@cache
def loaded_again(subject: Subject) -> tuple[str, str | None, Changes]:
    """Load the data again, with other global seeds.

    Return the checksum, the name of the first tensor that differs, and the changes of global state.
    """
    data = loaded(subject)[2]
    torch.manual_seed(12345)
    with preserved() as changes:
        dataset = subject.instance()
        checksum = dataset.prepare(folder())
        again = dataset.load(folder())
    one, other = ({name: getattr(d, name) for name in TENSORS} for d in (data, again))
    return checksum, differs(one, other), changes


@contextmanager
def opened(within: Path) -> Iterator[set[Path]]:
    """Collect the files inside a folder that Python's `open` opens meanwhile."""
    files: set[Path] = set()
    plain = builtins.open

    def watched(file: Any, *arguments: Any, **options: Any) -> Any:
        stream = plain(file, *arguments, **options)
        if isinstance(file, str | os.PathLike):
            path = Path(file).absolute()
            files.update({path} if path.is_relative_to(within.absolute()) else ())
        return stream

    with patch.object(builtins, "open", watched), patch.object(io, "open", watched):
        yield files


def with_a_changed_byte(file: Path, home: Path, away: Path) -> None:
    """Make `away` a folder like `home`, of links, but with another byte in the middle of a file."""
    inside = file.relative_to(home.absolute())
    for depth in range(len(inside.parts)):
        level = Path(*inside.parts[:depth])
        (away / level).mkdir(exist_ok=True)
        for entry in (home / level).iterdir():
            if entry.name != inside.parts[depth]:
                (away / level / entry.name).symlink_to(entry.absolute())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    (away / inside).write_bytes(content)


@check("dataset", "contract")
def the_checksum_is_that_of_the_files(subject: Subject) -> None:
    """With one byte of a file changed, prepare() raises DataError or returns another checksum."""
    checksum, home = loaded(subject)[1], folder()
    if home is None:
        return
    with opened(home) as files:
        subject.instance().load(home)
    sizes = {file: file.stat().st_size for file in files if file.is_file()}
    largest = max(sizes, key=lambda file: (sizes[file], str(file)), default=None)
    if largest is None or not sizes[largest]:
        return
    with tempfile.TemporaryDirectory() as away:
        with_a_changed_byte(largest, home, Path(away))
        try:
            again = subject.instance().prepare(Path(away))
        except DataError:
            return
    if again == checksum:
        raise Failed(
            f"prepare() returns the same checksum although a byte of {largest.name} changed: runs "
            "on other data would count as the same cell; return a digest of the files"
        )


@check("dataset", "contract")
def shape_and_classes_are_known_before_loading(subject: Subject) -> None:
    """`shape` and `classes` of the class are those of the tensors."""
    dataset, _, data = loaded(subject)
    if fault := data.wrong_shape(dataset.shape, dataset.classes):
        raise Failed(fault)


@check("dataset", "contract")
def tensors_are_ready_for_the_loop(subject: Subject) -> None:
    """Inputs are uint8 images with mean and std, or floats that are finite; one label per input;
    on the CPU."""
    _, _, data = loaded(subject)
    if fault := data.wrong_form():
        raise Failed(fault)


@check("dataset", "contract")
def labels_are_classes(subject: Subject) -> None:
    """Labels are int64 in 0 … classes−1 and every class occurs in both parts; or floats where
    the loss is a regression's."""
    _, _, data = loaded(subject)
    if fault := data.wrong_labels():
        raise Failed(fault)
    for part in ("train_y", "test_y") if data.loss.classes else ():
        labels = getattr(data, part).unique().tolist()  # sorted
        if labels != list(range(data.classes)):
            raise Failed(f"{part} has the classes {labels[:12]}, not 0 … {data.classes - 1}")


@check("dataset", "determinism")
def loading_again_gives_the_same_bits(subject: Subject) -> None:
    """The same tensors and checksum every time, for all global seeds."""
    checksum, name, _ = loaded_again(subject)
    if checksum != loaded(subject)[1]:
        raise Failed("prepare() returns another checksum the second time")
    if name:
        raise Failed(
            f"{name} differs when it is loaded again: draw from a generator with a seed of its own"
        )


@check("dataset", "honesty")
def test_inputs_are_not_in_the_training_set(subject: Subject) -> None:
    """At most 1 % of the test inputs occur in the training set bit by bit."""
    _, _, data = loaded(subject)
    train = {bytes(row) for row in data.train_x.flatten(1).numpy()}
    count = sum(bytes(row) in train for row in data.test_x.flatten(1).numpy())
    if count > LEAK * len(data.test_x):
        raise Failed(f"{count} of {len(data.test_x)} test inputs are in the training set")


@check("dataset", "honesty")
def loading_changes_no_global_state(subject: Subject) -> None:
    """Preparing and loading leaves seeds, dtype, folder and environment as they were."""
    own = "draw with a torch.Generator of its own"
    must_preserve(loaded_again(subject)[2], "loading", remedy=own)


@check("dataset", "honesty")
def missing_files_are_one_line(subject: Subject) -> None:
    """Without its files prepare() raises DataError with one line, or it needs none."""
    with tempfile.TemporaryDirectory() as empty:
        blocked = Path(empty) / "file"
        blocked.write_text("not a folder")
        try:
            subject.instance().prepare(blocked)
        except DataError as error:
            if len(str(error).splitlines()) != 1:
                raise Failed("the DataError for missing files has several lines") from None
