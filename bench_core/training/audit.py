"""Compute the inputs of all diagnostics of one network: probe, states, gradients and credits.

The probe is the first 1,280 test samples in file order, as 10 batches of 128, with the model in
eval mode; a smaller test set gives fewer. The batches are computed once and kept. Batches that are
large together are computed anew whenever they are read, with the same draws; small figures of each
batch (`Diagnostic.per_batch`) are kept, and one pass computes those of several diagnostics.

The reference gradients g_l are per sample (sum-reduced CE). A ‖g‖ under the batch-mean CE, as
publications print it, is this divided by N. Credits that carry 1/N (`reduction: mean`) are
multiplied by N for the comparison.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from typing import Any, Literal, overload

import torch
from torch import Tensor

from bench_core.errors import ChangedByDiagnostic, CreditError
from bench_core.training.credit import as_credits
from bench_core.training.data import Data
from bench_core.training.diagnostic import Diagnostic, Measured
from bench_core.training.method import Credits, Method
from bench_core.training.net import Net, States, copied, exact_gradients, in_eval
from bench_core.training.rng import generators, set_to, stream

PROBE = 1280
BATCH = 128
LARGE = 128 * 2**20  # bytes of all probe batches; above it they are not kept
PART = 4 * 2**20  # bytes of the inputs of one part of `by_parts`
FLOOR = 1e-7  # ‖g_L‖ under a batch mean at N = 128; smaller is rounding (diagnostic b)


@dataclass(frozen=True)
class ProbeBatch:
    """A probe batch of N samples (128; the last one may be smaller). All tensors are detached.

    y        labels, (N,)
    states   states.h[l], (N, *shape of h_l), for l = 0 … L; states.f, the outputs of the blocks;
             states.logits and states.output_error, (N, classes)
    g        g[l] = ∂CE/∂h_l per sample, of the shape of states.h[l], for l = 0 … L
    credits  the method's `Credits` as it gave them; None without a method
    audited  credits a_l at the sites, audited[k] of the shape of states.h[net.sites[k]]
    """

    y: Tensor
    states: States
    g: tuple[Tensor, ...]
    credits: Credits | None

    @property
    def audited(self) -> list[Tensor]:
        """The credits a_l at the sites, in the units of g; empty where the method has no credit."""
        return [] if self.credits is None else [self.per_sample(a) for a in self.credits.audited]

    def per_sample(self, credit: Tensor) -> Tensor:
        """Convert a credit into the units of g."""
        mean = self.credits is not None and self.credits.reduction == "mean"
        return credit * len(self.y) if mean else credit

    def marks(self) -> dict[str, tuple[int, int, bool]]:
        """Map each tensor to its identity, the number of writes into it that torch counted, and
        whether it has a gradient."""
        states, credits = self.states, self.credits
        named = {"x": states.x, "y": self.y, "the logits": states.logits}
        named |= {} if states.error is None else {"the output error": states.error}
        lists: dict[str, Sequence[Tensor]] = {"h": states.h, "f": states.f, "g": self.g}
        if credits is not None:
            lists |= {"a": credits.audited, "the credit of block": credits.blocks or ()}
            lists |= {f"the read-out {name}": own for name, own in credits.readouts.items()}
        for word, tensors in lists.items():
            named |= {f"{word}_{number}": tensor for number, tensor in enumerate(tensors)}
        return {
            name: (id(each), 0 if each.is_inference() else each._version, each.requires_grad)
            for name, each in named.items()
        }

    @property
    def nbytes(self) -> int:
        """The bytes of all tensors, each counted once."""
        tensors = [*self.states.h, *self.states.f, *self.g]
        if self.credits is not None:
            credits = self.credits
            further = [credits.blocks or (), *credits.readouts.values()]
            tensors += [*credits.audited, *chain.from_iterable(further)]
        return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())


@dataclass(frozen=True)
class Summary:
    """Small figures of a probe batch: labels, logits, ‖g_L‖ per sample, and about its credits.

    has_credit, in_use  whether there are audited credits, and whether they train the blocks
    """

    y: Tensor
    logits: Tensor
    top: Tensor
    has_credit: bool
    in_use: bool


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


def _copied(credits: Credits) -> Credits:
    """Copy the credits, each tensor once: a rule may write its next ones into the same memory."""
    copies: dict[tuple[Any, ...], Tensor] = {}

    def copy(tensor: Tensor) -> Tensor:
        place = tensor.data_ptr(), tensor.shape, tensor.stride()
        if place not in copies:
            copies[place] = tensor.detach().clone()
        return copies[place]

    return replace(
        credits,
        audited=[copy(each) for each in credits.audited],
        blocks=None if credits.blocks is None else [copy(each) for each in credits.blocks],
        readouts={name: [copy(each) for each in own] for name, own in credits.readouts.items()},
    )


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
    edit_credits  a function by which a control replaces the credits: it gets the `Credits` and
                  g_0 … g_L of a batch, and returns other `Credits`; None: they stay
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
                yield batch
                del batch  # before the next one is computed

        self._reduce(first_time(), self.due)
        if len(kept) < len(places):
            return Replayed(self, places)
        self._marks = [batch.marks() for batch in kept]
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
        """Compute a probe batch of these inputs and labels."""
        with in_eval(self.net):
            with torch.no_grad():
                states = self.net.states(x).detach(y)
            g = tuple(gradient.detach() for gradient in exact_gradients(self.net, states.h[0], y))
            credits = self.method.credit(states, y, self.epoch) if self.method else None
        if credits is not None:
            try:
                credits = as_credits(credits, self.net, states.h, trains=False)
            except (TypeError, ValueError) as error:  # it would be measured broadcast
                raise CreditError(str(error)) from None
            credits = _copied(credits)
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


def by_parts(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Apply a function of single samples to a few samples at a time, and join the results.

    A float64 convolution unfolds its whole input, nine times the memory for a 3×3 kernel.
    """
    rows = max(1, PART * len(inputs[0]) // max(each.nbytes for each in inputs))
    parts = zip(*(torch.split(each, rows) for each in inputs), strict=True)
    return torch.cat([function(*part) for part in parts])


def release_freed_memory() -> None:
    """Give freed memory back to the system, where the C library can.

    Small figures that lie between freed states keep glibc from using the states' memory again.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def read_part(net: Net, h: Tensor) -> Tensor:
    """Mark the part of a state that per-sample figures read by 1, the rest by 0; shape (1, …).

    `Net.flat` reads all of a state, or the CLS token of a token stream.
    """
    one = torch.ones_like(h[:1], requires_grad=True)
    with torch.enable_grad():
        (read,) = torch.autograd.grad(net.flat(one).sum(), one)
    return (read != 0).to(h)


def credits_become(what: Literal["exact", "opposite", "noise", "zero"]) -> Callable[[Audit], None]:
    """Make a control whose credits are the reference gradients, their opposites, noise or zeros."""

    def change(audit: Audit) -> None:
        draws = stream(0, "controls")

        def edited(credits: Credits, g: tuple[Tensor, ...]) -> Credits:
            exact = [g[site] for site in audit.net.sites]
            new = {
                "exact": exact,
                "opposite": [-a for a in exact],
                "noise": [torch.randn(a.shape, generator=draws).to(a) for a in exact],
                "zero": [torch.zeros_like(a) for a in exact],
            }
            return replace(credits, audited=new[what], reduction="sum")

        audit.edit_credits = edited

    return change


def deep_mean(sites: Sequence[int], values: Sequence[float], depth: int) -> float | None:
    """Average over the deep layers, the sites 1 ≤ l ≤ L−1; None if there are none."""
    deep = [value for site, value in zip(sites, values, strict=True) if 1 <= site <= depth - 1]
    return sum(deep) / len(deep) if deep else None


def layered(
    audit: Audit, values: Sequence[float], reasons: Mapping[int, str], **details: Any
) -> Measured:
    """Pack a figure per site; its value is the deep mean, or without deep layers the mean.

    reasons  site → why its figure means nothing; then a mean that contains it means nothing
    """
    sites, depth = audit.net.sites, audit.net.depth
    deep, mean = deep_mean(sites, values, depth), sum(values) / len(values)
    counted = [site for site in sites if deep is None or 1 <= site <= depth - 1]
    why = because({site: reasons[site] for site in counted if site in reasons})
    details |= {"sites": list(sites), "layers": list(values), "mean": mean, "deep": deep}
    details["not_diagnostic"] = {str(site): reason for site, reason in reasons.items()}
    return Measured(mean if deep is None else deep, details, why)


def because(reasons: Mapping[int, str]) -> str | None:
    """Join the distinct reasons, each with its layers; None if there are none."""
    layers: dict[str, list[str]] = {}
    for site, reason in reasons.items():
        layers.setdefault(reason, []).append(str(site))
    texts = [f"{reason} (l = {', '.join(sites)})" for reason, sites in layers.items()]
    return "; ".join(texts) or None


def median(values: Tensor) -> float:
    """Compute the median, for an even count the mean of the middle two; NaN if any value is NaN."""
    if bool(values.isnan().any()):
        return float("nan")
    return float(values.double().quantile(0.5))
