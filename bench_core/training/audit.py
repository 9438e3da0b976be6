"""Compute the inputs of all diagnostics of one network: probe, states, gradients and credits.

The batches of the probe (`bench_core.training.probe`) are computed once and kept. Batches that are
large together are computed anew whenever they are read, with the same draws; small figures of each
batch (`Diagnostic.per_batch`) are kept, and one pass computes those of several diagnostics.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, overload

import torch
from torch import Tensor

from bench_core.errors import ChangedByDiagnostic, CreditError
from bench_core.training.credit import as_credits, given
from bench_core.training.data import Data
from bench_core.training.diagnostic import Diagnostic
from bench_core.training.diagnostic_tools import median
from bench_core.training.method import Credits, Method
from bench_core.training.net import Net, copied, exact_gradients, in_eval
from bench_core.training.probe import BATCH, PROBE, ProbeBatch, Summary, copied_credits
from bench_core.training.rng import generators, set_to

LARGE = 128 * 2**20  # bytes of all probe batches; above it they are not kept
IN_PLACE = "in place, and the audit reads it too: change a copy (x.clone())"
FLOOR = 1e-7  # ‖g_L‖ under a batch mean at N = 128; smaller is rounding (diagnostic b)


class Replayed(Sequence[ProbeBatch]):
    """Probe batches that are computed anew whenever they are read, and not kept.

    places  the number of each batch in the probe, and the states of the generators before it was
            computed for the first time: it gets the same draws again, and moves no generator
    """

    def __init__(self, audit: Audit, places: Sequence[tuple[int, list[Tensor]]]) -> None:
        self.audit, self.places = audit, places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> ProbeBatch: ...
    @overload
    def __getitem__(self, index: slice) -> Replayed: ...
    def __getitem__(self, index: int | slice) -> ProbeBatch | Replayed:
        if isinstance(index, slice):
            return Replayed(self.audit, self.places[index])
        number, states = self.places[index]
        x, y = next(islice(self.audit.data.test_batches(BATCH, PROBE), number, None))
        release_freed_memory()
        with set_to(self.audit.generators, states):
            return self.audit.batch(x, y)

    def __iter__(self) -> Iterator[ProbeBatch]:
        return (self[place] for place in range(len(self)))  # an IndexError of a rule passes


def _unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return the first name whose value differs; "" if none does."""
    return next((name for name in {**one, **other} if one.get(name) != other.get(name)), "")


class Audit:
    """Share the measurements of one network among its diagnostics.

    batches       the probe batches, a sequence of `ProbeBatch`: at most 10, of 128 samples
    figures       `figures(self)` lists what `per_batch` of a diagnostic returned for each batch
    net, method   the network in eval mode, and the method whose credits are audited (None: none)
    epoch         the epoch of the credits, counted from 0
    initial       the network's parameters and buffers before training, if they are known
    history       the rows of epochs.jsonl so far; the last one's measurements may be incomplete
    edit_credits  edit_credits(credits, g) → `Credits`, by which a control replaces the credits of a
                  batch; g: its gradients g_0 … g_L; None: they stay
    due           the diagnostics that will be measured: one pass computes their `per_batch`
    """

    def __init__(
        self,
        net: Net,
        method: Method | None,
        data: Data,
        seed: int,
        epoch: int,
        initial: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.net, self.method, self.data, self.seed, self.epoch = net, method, data, seed, epoch
        self.initial = initial
        self.history: Sequence[Mapping[str, Any]] = ()
        self.edit_credits: Callable[[Credits, tuple[Tensor, ...]], Credits] | None = None
        self.due: Sequence[Diagnostic] = ()

    @cached_property
    def batches(self) -> Sequence[ProbeBatch]:
        """The probe batches: a list of them, or `Replayed` if they are large together."""
        places: list[tuple[int, list[Tensor]]] = []
        kept: list[ProbeBatch] = []
        self._figures: dict[int, tuple[Diagnostic, list[Any]]] = {}
        self._summaries: list[Summary] = []
        self._marks: list[dict[str, tuple[int, int, bool]]] = []

        def first_time() -> Iterator[ProbeBatch]:
            for number, (x, y) in enumerate(self.data.test_batches(BATCH, PROBE)):
                if number > len(kept):  # the batch before this one is large
                    release_freed_memory()
                places.append((number, [each.get_state() for each in self.generators]))
                batch = self.batch(x, y)
                self._summaries.append(self._summary(batch))
                if len(kept) == number and batch.nbytes * (self.samples / len(y)) <= LARGE:
                    kept.append(batch)
                    self._marks.append(batch.marks())
                yield batch
                del batch  # before the next one is computed

        self._reduce(first_time(), self.due)
        if len(kept) < len(places):
            return Replayed(self, places)
        for batch, marks in zip(kept, self._marks, strict=True):
            if name := _unlike(batch.marks(), marks):
                rule = f"{type(self.method).__name__}.credit changes {name} of an earlier batch"
                raise CreditError(f"{rule} {IN_PLACE}")
        return kept

    def changed(self) -> str:
        """Name a tensor of the kept probe batches that was written to; "" if none was.

        Torch counts writes in place; those through `.data` or numpy are not seen.
        """
        batches = self.__dict__.get("batches", ())
        marks = self._marks if batches else []
        for number, (batch, before) in enumerate(zip(batches, marks, strict=False)):
            if name := _unlike(batch.marks(), before):
                return f"{name} of probe batch {number}"
        return ""

    @property
    def generators(self) -> list[torch.Generator]:
        """The generators from which a credit can draw."""
        tools = getattr(self.method, "tools", None)
        return generators(*(each for each in (self.method, tools) if each is not None))

    @property
    def samples(self) -> int:
        """The number of probe samples."""
        return min(PROBE, len(self.data.test_y))

    @property
    def large_batches(self) -> int:
        """The number of probe batches of 64 samples or more, at least 1: the last one may be small,
        and a mean over batches must not give a few samples the weight of 128.
        """
        return max(1, (self.samples + BATCH // 2) // BATCH)

    def figures(self, diagnostic: Diagnostic) -> list[Any]:
        """Return `per_batch` of a diagnostic for each probe batch."""
        batches, key = self.batches, id(diagnostic)
        if key not in self._figures and diagnostic in self.due:
            self._reduce(batches, self.due)
        if key not in self._figures:  # not due, or it raises, which it now does again
            figures = [diagnostic.per_batch(self, batch) for batch in batches]
            self._figures[key] = (diagnostic, figures)
        return self._figures[key][1]

    def _reduce(self, batches: Iterable[ProbeBatch], due: Sequence[Diagnostic]) -> None:
        """Read the batches once; keep the figures of these diagnostics, but of one that raises.

        Raises ChangedByDiagnostic if one writes into a batch, which the next one would read.
        """
        figures: dict[int, tuple[Diagnostic, list[Any]]] = {id(each): (each, []) for each in due}
        for number, batch in enumerate(batches):
            marks = batch.marks()
            for key, (diagnostic, rows) in list(figures.items()):
                try:
                    rows.append(diagnostic.per_batch(self, batch))
                except Exception:
                    del figures[key]
                if name := _unlike(batch.marks(), marks):
                    place = f"{name} of probe batch {number}"
                    raise ChangedByDiagnostic(type(diagnostic).__name__, place)
            del batch
        self._figures |= figures

    def batch(self, x: Tensor, y: Tensor) -> ProbeBatch:
        """Compute a probe batch of these inputs and labels.

        Raises CreditError for credits that do not fit the states, and for a rule that writes into
        what it was given: the diagnostics read it too.
        """
        with in_eval(self.net):
            with torch.no_grad():
                states = self.net.states(x).detach(y)
            g = tuple(gradient.detach() for gradient in exact_gradients(self.net, states.h[0], y))
            writes = {name: tensor._version for name, tensor in given(states, y).items()}
            credits = self.method.credit(states, y, self.epoch) if self.method else None
        now = {name: tensor._version for name, tensor in given(states, y).items()}
        if name := _unlike(now, writes):
            raise CreditError(f"{type(self.method).__name__}.credit changes {name} {IN_PLACE}")
        if credits is not None:
            try:
                credits = as_credits(credits, self.net, states.h, trains=False)
            except (TypeError, ValueError) as error:  # it would be measured broadcast
                raise CreditError(str(error)) from None
            credits = copied_credits(credits)
            if self.edit_credits is not None:
                credits = self.edit_credits(credits, g)
        return ProbeBatch(y, states, g, credits)

    @cached_property
    def double(self) -> Net:
        """A float64 copy in eval mode, because float32 cannot resolve loss changes of 1e-9."""
        return copied(self.net, self.seed).double().eval()

    def norms(self, tensors: Callable[[ProbeBatch], Tensor]) -> Tensor:
        """Compute L2 norms per probe sample of a tensor of every batch."""
        return torch.cat([self.sample_norms(tensors(batch)) for batch in self.batches])

    def sample_norms(self, tensor: Tensor) -> Tensor:
        """Compute L2 norms per sample; in float64, because float32 squares underflow."""
        norms: Tensor = self.net.flat(tensor).double().norm(dim=1)
        return norms

    def _summary(self, batch: ProbeBatch) -> Summary:
        top, credits = self.sample_norms(batch.g[-1]), batch.credits
        in_use = credits is not None and credits.in_use
        return Summary(batch.y, batch.states.logits, top, bool(batch.audited), in_use)

    @property
    def summaries(self) -> list[Summary]:
        """A summary of every batch, which costs no further reading."""
        return self._summaries if self.batches else []

    @property
    def has_credit(self) -> bool:
        """Whether the method has a credit to audit."""
        return self.summaries[0].has_credit

    @cached_property
    def at_floor(self) -> bool:
        """Whether diagnostic b fires (default threshold): then no cosine to g means anything."""
        return median(torch.cat([each.top for each in self.summaries])) < FLOOR * BATCH

    @cached_property
    def accuracy(self) -> float:
        """The accuracy on the probe."""
        logits = torch.cat([each.logits for each in self.summaries])
        return self.net.loss.score(logits, torch.cat([each.y for each in self.summaries]))


def release_freed_memory() -> None:
    """Give freed memory back to the system, where the C library can.

    Small figures that lie between freed states keep glibc from using the states' memory again.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
