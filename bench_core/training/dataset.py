"""Define the interface of a data set plugin; importing it loads no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bench_core.training.params import ParamsModel

if TYPE_CHECKING:
    from torch import Generator

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

    def generator(self, seed: int = 0) -> Generator:
        """Make the generator of a data set that is drawn, not read.

        Torch's own generator with this seed gives the numbers of a network whose run has the same
        seed: it would begin with weights that are in the data.
        """
        from bench_core.training.rng import stream

        return stream(seed, "data")

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
