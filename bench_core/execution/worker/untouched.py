"""Find what a measurement changes in the training beside it.

The identity of a cell does not say whether its network is measured, by what and how often. So
measuring must leave the training as it is, bit by bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import blake2b
from itertools import chain
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from bench_core.errors import BenchError, ChangedByDiagnostic, CreditError
from bench_core.execution.worker.continuity import named_credits
from bench_core.execution.worker.global_state import ARITHMETIC, GENERATORS, read, unlike
from bench_core.training.audit import IN_PLACE, Audit
from bench_core.training.credit import given
from bench_core.training.net import in_eval
from bench_core.training.saved_state import TrainingState

CREDIT = "the credit of the same samples"
SAMPLES = 16  # of the batch whose credit is computed twice
PROBE_DRAWS = 'draw by stream(audit.seed, "probe") of bench_core.api'  # the remedy for a diagnostic
PLAIN = (bool, int, float, complex, str, bytes, type(None))
CODE = (type, ModuleType, FunctionType, MethodType, BuiltinFunctionType)


class Untouched:
    """The state of a training at one moment: network, rule, optimisers, generators, settings."""

    def __init__(self, training: TrainingState) -> None:
        self.training, self.settings = training, read(ARITHMETIC)
        self.before = {
            name: value.detach().clone() if isinstance(value, Tensor) else value
            for name, value in self._now()
        }

    def _now(self) -> Iterator[tuple[str, Any]]:
        net, method = self.training.net, self.training.method
        yield from chain(net.named_parameters("net"), net.named_buffers("net"))
        yield from ((f"method.{name}", value) for name, value in method.state_dict().items())
        yield from self.training.moments()
        yield "the mode (train or eval) of the network", net.training
        yield "requires_grad of its parameters", [each.requires_grad for each in net.parameters()]
        yield from self._generators()

    def _generators(self) -> Iterator[tuple[str, Any]]:
        for name, stream in self.training.streams.items():
            yield f"the random stream {name}", stream.get_state()
        for name, generator in self.training.generators().items():
            yield f"the generator {name} of the rule", generator.get_state()
        yield from read(GENERATORS).items()
        if torch.cuda.is_available():
            yield "torch's generator on the GPU", torch.cuda.get_rng_state()

    def changed(self) -> list[str]:
        """Name the parts of the state that have changed since, but not the settings."""
        now = dict(self._now())
        return [
            name
            for name in {**self.before, **now}
            if name not in now
            or name not in self.before
            or not _equal(self.before[name], now[name])
        ]

    def changes(self) -> str:
        """Name what has changed since; empty if nothing has."""
        return "; ".join(filter(None, [", ".join(self.changed()[:3]), unlike(self.settings)]))

    def check(self, diagnostic: str, audit: Audit) -> None:
        """Raise ChangedByDiagnostic if the diagnostic that has just measured changed anything."""
        if what := self.changes():
            draws = not {name for name, _ in self._generators()}.isdisjoint(self.changed())
            raise ChangedByDiagnostic(diagnostic, what, PROBE_DRAWS if draws else "mend it")
        if what := audit.changed():
            raise ChangedByDiagnostic(diagnostic, what)


def _equal(one: Any, other: Any) -> bool:
    """Decide whether two values are equal, tensors bit by bit."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return bool(one == other)
    if (one.shape, one.dtype, one.device) != (other.shape, other.dtype, other.device):
        return False
    return torch.equal(one, other) or _bits(one) == _bits(other)  # NaN is not equal to NaN


def _bits(tensor: Tensor) -> bytes:
    """Return a digest of the bits of a tensor."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return blake2b(flat.numpy().tobytes(), digest_size=16).digest()


def check_credit(audit: Audit, training: TrainingState) -> None:
    """Compute the credit of a few samples twice. Raises BenchError if that changes the training.

    The first time it may fill caches and keep what it saw last. The second time, with the same
    samples, the credit must be the same, and every tensor that can be reached from the rule must
    stay as it is: a running mean does not. Counters and logs that no credit depends on may change,
    but none may gain a tensor of several numbers: a memory of batches would train on test samples.
    So must the states and labels that it is given, of which torch does not count every write; these
    are compared for `SAMPLES` samples alone. A credit that raises is left to the diagnostics. One
    that is not finite on the untrained network is refused, because after a step the loss would be
    blamed for it.
    """
    method: Any = audit.method
    rule = type(method).__name__
    x, y = next(audit.data.test_batches(SAMPLES, SAMPLES))
    state, tensors, infinite = Untouched(training), [], list[str]()
    read: dict[str, Tensor] = {}
    fresh = _states(audit, x, y)
    for _ in range(2):
        roots: dict[str, Any] = {"rule": method, "net": audit.net}
        with _credit_alone():
            batch = audit.batch(x.clone(), y.clone())
            read = {name: value.clone() for name, value in given(batch.states, batch.y).items()}
            if (credits := batch.credits) is not None:
                named = dict(named_credits(credits, audit.net.sites))
                roots[CREDIT] = list(named.values())
                wrong = [name for name, a in named.items() if not a.isfinite().all()]
                infinite = wrong if credits.in_use else []
        tensors.append(dict(_tensors(roots, method)))
    if name := _written(read, fresh, audit, x, y):
        raise BenchError(f"{rule}.credit changes {name} {IN_PLACE}")
    one, other = tensors
    names = sorted(name for name in one if name in other and one[name] != other[name])
    if not torch.are_deterministic_algorithms_enabled():
        names = []  # what the credit saw last may differ by rounding
    kept = (name for name, (shape, *_) in other.items() if name not in one and shape.numel() > 1)
    names += sorted(kept)
    rest = (
        "audits must not change a training: keep counts, means and draws for setup(), learn() or "
        "step(), out of credit() and of a forward pass in eval mode"
    )
    changes = state.changes()
    if not changes and any(name.startswith(CREDIT) for name in names):
        raise BenchError(
            f"credit() of {rule} returns another credit when it is asked for the same samples a "
            f"second time; {rest}"
        )
    if what := changes or ", ".join(names[:3]):
        raise BenchError(f"computing the credit of {rule} in an audit changes {what}; {rest}")
    if infinite and training_has_not_begun(audit):
        name = infinite[0]
        where = f"state h_{name}" if name.isdigit() else f"Credits.{name}"
        raise BenchError(
            f"the credit of {rule} is not finite on the untrained network ({where}): "
            "`bench check` shows where it begins"
        )


@contextmanager
def _credit_alone() -> Iterator[None]:
    """Let a credit that is refused pass on, and leave every other error to the diagnostics."""
    try:
        yield
    except CreditError:
        raise
    except Exception:
        return


def _states(audit: Audit, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Compute what `credit` is given for these samples, in tensors of its own."""
    own = x.clone(), y.clone()
    with in_eval(audit.net), torch.no_grad():
        return given(audit.net.states(own[0]).detach(own[1]), own[1])


def _written(
    read: Mapping[str, Tensor], fresh: Mapping[str, Tensor], audit: Audit, x: Tensor, y: Tensor
) -> str:
    """Name a tensor that the credit has written to, also where torch does not count it (`.data`).

    The network must give the same states twice. Where it may give other bits each time, inputs and
    labels alone are compared.

    read   the tensors after the credit;  fresh  those of the network before it
    """
    again = _states(audit, x, fresh["y"])
    exact = torch.are_deterministic_algorithms_enabled()
    compared = read.keys() & again.keys() & (read.keys() if exact else {"states.x", "y"})
    kept = (name for name in read if name in compared and _equal(fresh[name], again[name]))
    return next((name for name in kept if not _equal(read[name], fresh[name])), "")


def training_has_not_begun(audit: Audit) -> bool:
    """Decide whether the network of an audit is untrained."""
    return bool(audit.history) and audit.history[-1]["epoch"] == 0


def _tensors(roots: Mapping[str, Any], method: Any) -> Iterator[tuple[str, Any]]:
    """Yield place and digest of every tensor and generator that can be reached from objects.

    The tools of the method are left out: what they hold is compared by `Untouched`.
    """
    waiting = deque(roots.items())
    seen = {id(method.tools), id(method.task), id(method.params)}
    while waiting:
        place, item = waiting.popleft()
        if id(item) in seen or isinstance(item, PLAIN + CODE):
            continue
        seen.add(id(item))
        with suppress(Exception):
            if isinstance(item, Generator):
                item = item.get_state()
            elif isinstance(item, np.ndarray):
                item = torch.from_numpy(item)
            if isinstance(item, Tensor):
                yield place, (item.shape, item.dtype, _bits(item))
            elif isinstance(item, Mapping):
                waiting += (
                    (f"{place}[{key!r}]" if isinstance(key, str) else f"{place}[{number}]", each)
                    for number, (key, each) in enumerate(item.items())
                )
            elif isinstance(item, list | tuple | deque):
                waiting += ((f"{place}[{number}]", each) for number, each in enumerate(item))
            else:
                waiting += ((f"{place}.{key}", each) for key, each in vars(item).items())
