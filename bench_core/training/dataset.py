"""Define the interface of a data set plugin; importing it loads no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bench_core.training.params import ParamsModel

if TYPE_CHECKING:
    from bench_core.training.data import Data


class Dataset(ABC):
    """A data set: the place of its files, their checksum, and how they become tensors.

    Known before loading: `shape` (of one input), `classes` (of a regression: the number of
    outputs), and whether it is a `regression`.
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
        """Check that the data are there and intact, and return their checksum.

        The checksum is part of the identity of a cell.

        folder  the data directory; None if the user gave none
        Raises `DataError` with one line that names the missing or corrupt file and the remedy.
        """

    @abstractmethod
    def load(self, folder: Path | None) -> Data:
        """Load the tensors to the CPU; called after `prepare` succeeded."""
