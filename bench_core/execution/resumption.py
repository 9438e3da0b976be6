"""Save a training every few epochs, and continue a later attempt from the saved state."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_core.results import author, files, store
from bench_core.training.checkpoint import Training, header

if TYPE_CHECKING:
    from torch import Generator

    from bench_core.training.method import Method
    from bench_core.training.net import Net


def saved_state(final: Path) -> dict[str, Any] | None:
    """Return the JSON part of a cell's saved state; None if no file can be trusted."""
    with suppress(OSError), files.tensors(store.resume_file(final), parts=1) as path:
        return header(path)
    return None


class CannotResume(Exception):  # noqa: N818
    """A saved state does not fit the training: the cell's objects must be built anew.

    A method's `load_state_dict` raised, or the number of updaters differs between starts.
    """


class Keeper:
    """Keep the state of a training in a file (`bench_core.training.loop.Resumption`).

    every     epochs between saves; None: never
    through   a folder for the unfinished file
    remember  returns the worker's own state as JSON values; `recall` takes it back, with the epoch
    """

    def __init__(
        self, path: Path, identity: str, every: int | None, net: Net, method: Method,
        remember: Callable[[], dict[str, Any]], recall: Callable[[dict[str, Any]], None],
        through: Path | None = None,
    ) -> None:  # fmt: skip
        self.path, self.identity, self.every = path, identity, every
        self.net, self.method, self.remember, self.recall = net, method, remember, recall
        self.through = through

    def begin(self, streams: dict[str, Generator]) -> int:
        """Restore the saved state; return its epoch, 0 if none is saved. Raises CannotResume."""
        self.training = Training(self.net, self.method, streams, author.secret())
        try:
            with files.tensors(self.path, parts=1) as path:
                state = self.training.load(path, self.identity)
        except OSError:
            return 0
        except Exception as error:
            raise CannotResume(str(error)) from error
        if state is None:
            return 0
        try:
            self.recall(state)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise CannotResume(f"its figures cannot be read: {type(error).__name__}") from error
        return int(state["epoch"])

    def passed(self, epoch: int) -> None:
        """Save after every `every`-th epoch. Raises StoreError."""
        if self.every and epoch % self.every == 0:
            content = self.training.dump(epoch, self.identity, self.remember())
            files.replace_file(self.path, content, through=self.through)
