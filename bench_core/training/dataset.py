"""The interface of a data set plugin. Loads no torch: `Data` is imported where tensors are made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bench_core.training.params import ParamsModel

if TYPE_CHECKING:
    from bench_core.training.data import Data


class Dataset(ABC):
    """A data set: where its files lie, what their checksum is, and how they become tensors.

    `shape` (of one input), `classes` and whether it is a regression (then `classes` counts the outputs) are known before
    anything is loaded.
    """

    shape: tuple[int, ...]
    classes: int
    regression: ClassVar[bool] = False
    numerics: ClassVar[int] = 1

    class Params(ParamsModel):
        """Parameters of the data set; part of the identity of a cell."""

    def __init__(self, params: ParamsModel) -> None:
        self.params: Any = params

    @abstractmethod
    def prepare(self, folder: Path | None) -> str:
        """Make sure that the data are there and intact, and return their checksum (part of the identity of a cell).

        folder  the data directory, or None where the user gave none.
        Raises `DataError` with one line that says what is missing or corrupt and what to do.
        """

    @abstractmethod
    def load(self, folder: Path | None) -> Data:
        """The tensors, on the CPU. Called after `prepare` succeeded."""
