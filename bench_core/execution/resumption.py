"""Save a training every few epochs, and continue a later attempt from the saved state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_core.results.files import writing
from bench_core.training.checkpoint import Training

if TYPE_CHECKING:
    from torch import Generator

    from bench_core.training.method import Method
    from bench_core.training.net import Net


class CannotResume(Exception):  # noqa: N818
    """A saved state does not fit the training: the cell's objects must be built anew.

    A method's `load_state_dict` raised, or the number of updaters differs between starts.
    """


class Keeper:
    """Keep the state of a training in a file (`bench_core.training.loop.Resumption`).

    every     epochs between saves; None: never
    remember  returns the worker's own state as JSON values; `recall` takes it back, with the epoch
    """

    def __init__(
        self, path: Path, identity: str, every: int | None, net: Net, method: Method,
        remember: Callable[[], dict[str, Any]], recall: Callable[[dict[str, Any]], None],
    ) -> None:  # fmt: skip
        self.path, self.identity, self.every = path, identity, every
        self.net, self.method, self.remember, self.recall = net, method, remember, recall

    def begin(self, streams: dict[str, Generator]) -> int:
        """Restore the saved state; return its epoch, 0 if none is saved. Raises CannotResume."""
        self.training = Training(self.net, self.method, streams)
        try:
            state = self.training.load(self.path, self.identity)
        except Exception as error:
            raise CannotResume(str(error)) from error
        if state is None:
            return 0
        self.recall(state)
        return int(state["epoch"])

    def passed(self, epoch: int) -> None:
        """Save after every `every`-th epoch. Raises StoreError."""
        if self.every and epoch % self.every == 0:
            with writing(self.path):
                self.training.save(self.path, epoch, self.identity, self.remember())
