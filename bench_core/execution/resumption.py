"""Save a training every few epochs and let a later attempt go on from the saved state."""

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


class Keeper:
    """Lets a training go on from its saved state and saves it every `every` epochs (None: never): `train.Resumption`.

    remember  what the worker wants to have back, in JSON values
    recall    gives it back, with the epoch
    """

    def __init__(
        self, path: Path, identity: str, every: int | None, net: Net, method: Method,
        remember: Callable[[], dict[str, Any]], recall: Callable[[dict[str, Any]], None],
    ) -> None:  # fmt: skip
        self.path, self.identity, self.every = path, identity, every
        self.net, self.method, self.remember, self.recall = net, method, remember, recall

    def begin(self, streams: dict[str, Generator]) -> int:
        """Restore, if there is what to restore. Raises CannotGoOn."""
        tools = self.method.tools
        own = {"feedback": tools.generator, "auxiliary": tools.aux_generator}
        self.training = Training(self.net, self.method, tools.updaters, {**streams, **own})
        try:
            state = self.training.load(self.path, self.identity)
        except Exception as error:
            raise CannotGoOn(str(error)) from error
        if state is None:
            return 0
        self.recall(state)
        return int(state["epoch"])

    def passed(self, epoch: int) -> None:
        """Save after every `every`-th epoch. Raises StoreError."""
        if self.every and epoch % self.every == 0:
            with writing(self.path):
                self.training.save(self.path, epoch, self.identity, self.remember())


class CannotGoOn(Exception):  # noqa: N818
    """A saved state does not fit the training that it was saved from: a method's `load_state_dict` or a number of updaters
    that changes between two starts. What was being restored must be built anew."""
