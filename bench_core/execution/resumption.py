"""Save a training every few epochs, and continue a later attempt from the saved state."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_core.names import bare_name
from bench_core.results import author, files, store
from bench_core.training.saved_state import TYPES, TrainingState, header, seal

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from bench_core.execution.planning.job import Listed
    from bench_core.training.method import Method
    from bench_core.training.net import Net

PIECE = 1 << 20  # bytes that are read at once
CONTINUES = "continues after epoch"  # what the log of such a training begins with


def saved_state(final: Path, sealed: bool = True) -> dict[str, Any] | None:
    """Return the JSON part of a cell's saved state; None if this user saved none that is whole.

    sealed  False: whoever saved it, whole or not; a check reads the whole file
    """
    with suppress(OSError), files.tensors(store.resume_file(final), parts=1) as path:
        state = header(path)
        return state if state is not None and (not sealed or _is_mine(path)) else None
    return None


def _is_mine(path: str) -> bool:
    """Decide whether this user saved a state, by the sum of `TrainingState.load`, without torch."""
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            tensors = json.loads(file.read(size))
            metadata = tensors.pop("__metadata__")
            key = author.secret(create=False)

            def pieces(start: int, end: int) -> Iterator[bytes]:
                file.seek(8 + size + start)
                for place in range(start, end, PIECE):
                    yield file.read(min(PIECE, end - place))

            named = (
                (name, TYPES[about["dtype"]], about["shape"], pieces(*about["data_offsets"]))
                for name, about in sorted(tensors.items())
            )
            return bool(metadata["blake2b"] == seal(metadata["state"], named, key))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def reason_to_begin_anew(
    state: Mapping[str, Any], every: Mapping[str, int], diagnostics: Sequence[Listed]
) -> str:
    """Say why a training with these settings cannot continue from a saved state; "" if it can.

    every  `evaluate_every` and `diagnose_every`
    """
    for name, has in state.get("every", {}).items():
        wanted = every.get(name)
        if wanted is None or has < 1 or wanted % has:
            return f"its epochs have {name} {has}, not {wanted}"
    saved = state.get("diagnostics", {each["name"]: each for each in diagnostics})
    for each in diagnostics:
        if each["name"] not in saved:
            what = f"it did not measure {each['name']}, and the curve would lack its epochs"
            return (
                f"{what}; without that diagnostic it continues, and `bench audit` measures it then"
            )
        if saved[each["name"]] != each:
            what = f"the diagnostic {each['name']} has other code or options now"
            rest = "finished runs keep the figures of the other: `bench audit` measures them again"
            return f"{what}, and two of it cannot share a curve; {rest}"
    return ""


def thinned(
    state: Mapping[str, Any], every: Mapping[str, int], diagnostics: Sequence[Listed]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the rows and the measurements of a saved state without what a training with these
    settings does not record: a continued run is that of a straight one."""
    names = {bare_name(each["name"]) for each in diagnostics}

    def kept(measured: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in measured.items() if name in names}

    rows = []
    for row in state["rows"]:
        line = {**row, "measurements": kept(row["measurements"])}
        if row["epoch"] % every["evaluate_every"]:
            line |= {"accuracy": None, "test_loss": None}
            line.pop("validation_accuracy", None)
        if row["epoch"] % every["diagnose_every"]:
            line["measurements"] = {}
        rows.append(line)
    return rows, {key: kept(values) for key, values in state["measured"].items()}


def attempts(final: Path, epoch: int, started: float, sealed: bool = True) -> list[int]:
    """Return the epochs after which the attempt that runs, and those before it, continued; empty
    for a training from the start. A file of epochs holds those of earlier attempts too.

    epoch    its last one so far
    started  when it began
    sealed   as in `saved_state`
    """
    if (state := saved_state(final, sealed)) is None:
        return []
    resumed = [int(one) for one in state.get("resumed") or []]
    with suppress(OSError):
        if store.resume_file(final).stat().st_mtime > started:  # it has saved since it began
            return resumed
    return [*resumed, int(state["epoch"])] if state["epoch"] <= epoch else []


class CannotResume(Exception):  # noqa: N818
    """A saved state does not fit the training: the cell's objects must be built anew.

    A method's `load_state_dict` raised, or the number of updaters differs between starts.
    """


class Keeper:
    """Keep the state of a training in a file (`bench_core.training.loop.Resumption`).

    every     epochs between saves; None: never
    through   a folder for the unfinished file
    remember  returns the worker's own state as JSON values; `recall` takes it back, with the epoch
              and with what `witness` gave
    witness   computes tensors after so many epochs by which a restored rule can be told from
              another one (`continuity`)
    """

    def __init__(
        self, path: Path, identity: str, every: int | None, net: Net, method: Method,
        remember: Callable[[], dict[str, Any]],
        recall: Callable[[dict[str, Any], dict[str, Tensor]], None],
        through: Path | None = None,
        witness: Callable[[int], dict[str, Tensor]] = lambda epoch: {},
    ) -> None:  # fmt: skip
        self.path, self.identity, self.every = path, identity, every
        self.net, self.method, self.remember, self.recall = net, method, remember, recall
        self.through, self.witness = through, witness

    def begin(self, streams: dict[str, Generator]) -> int:
        """Restore the saved state; return its epoch, 0 if none is saved. Raises CannotResume."""
        self.training = TrainingState(self.net, self.method, streams, author.secret())
        try:
            with files.tensors(self.path, parts=1) as path:
                saved = self.training.load(path, self.identity)
        except OSError:
            return 0
        except Exception as error:
            raise CannotResume(str(error)) from error
        if saved is None:
            return 0
        state, before = saved
        try:
            self.recall(state, before)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise CannotResume(f"its figures cannot be read: {type(error).__name__}") from error
        return int(state["epoch"])

    def passed(self, epoch: int) -> None:
        """Save after every `every`-th epoch. Raises StoreError."""
        if self.every and epoch % self.every == 0:
            witness = self.witness(epoch)
            content = self.training.dump(epoch, self.identity, self.remember(), witness)
            files.replace_file(self.path, content, through=self.through)
