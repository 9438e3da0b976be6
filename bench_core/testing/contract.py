"""Contract of a learning rule: the properties that the core relies on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from bench_core.testing.kit import check
from bench_core.testing.outcomes import Failed, Skipped
from bench_core.testing.subjects import LAST, MethodSubject, distance, equal
from bench_core.training.method import Credits
from bench_core.training.net import States


def lists(
    credits: Credits, states: States, sites: tuple[int, ...]
) -> dict[str, tuple[Sequence[Tensor], list[Tensor]]]:
    """Name → (credits, their states, one by one)."""
    at_sites = [states.h[site] for site in sites]
    found = {"audited": (credits.audited, at_sites), "blocks": (credits.for_blocks, list(states.f))}
    found["embed (default: audited[0])"] = ([credits.for_embed], [states.h[0]])
    return found | {
        f"readouts[{name!r}]": (readout, at_sites) for name, readout in credits.readouts.items()
    }


def pairs(
    credits: Credits, states: States, sites: tuple[int, ...]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the name, the credit and the state of the same shape of every credit."""
    for name, (found, like) in lists(credits, states, sites).items():
        yield from (
            (f"credits.{name}[{number}]", a, h)
            for number, (a, h) in enumerate(zip(found, like, strict=False))
        )


@check("method", "contract")
def credits_have_the_shapes_of_their_states(subject: MethodSubject) -> None:
    """One credit per block, each of the shape of the state that it belongs to, with and without
    residual."""
    for shape, trial in subject.trials():
        states, y = trial.states()
        credits = trial.credits(states, y)
        for name, (found, like) in lists(credits, states, trial.net.sites).items():
            if len(found) != len(like):
                raise Failed(f"credits.{name} has {len(found)} tensors for {len(like)} blocks")
        for what, a, h in pairs(credits, states, trial.net.sites):
            if tuple(a.shape) != tuple(h.shape):
                raise Failed(
                    f"{what} has shape {tuple(a.shape)}, its state {tuple(h.shape)} ({shape} "
                    "network)"
                )


@check("method", "contract")
def credits_have_the_type_of_their_states(subject: MethodSubject) -> None:
    """Credits have the dtype and lie on the device of their states, and are finite."""
    for shape, trial in subject.trials():
        states, y = trial.steps(1).states()
        for what, a, h in pairs(trial.credits(states, y), states, trial.net.sites):
            if (a.dtype, a.device) != (h.dtype, h.device):
                raise Failed(
                    f"{what} is {a.dtype} on {a.device}, its state {h.dtype} on {h.device} "
                    f"({shape} network)"
                )
            if not bool(a.isfinite().all()):
                raise Failed(f"{what} is not finite ({shape} network)")


@check("method", "contract")
def runs_on_an_accelerator(subject: MethodSubject) -> None:
    """Set up with a network on an accelerator, a step and a credit stay there."""
    if not torch.cuda.is_available():
        raise Skipped("no accelerator here")
    trial = subject.trial(device="cuda")
    states, y = trial.steps(2).states()
    for what, a, h in pairs(trial.credits(states, y), states, trial.net.sites):
        if a.device != h.device:
            raise Failed(f"{what} is on {a.device}, its state on {h.device}")
    for name, tensor in trial.method.state_dict().items():
        if tensor.device.type != "cuda":
            raise Failed(f"{name} of state_dict is on {tensor.device}")


@check("method", "contract")
def state_dict_holds_all_that_the_credit_needs(subject: MethodSubject) -> None:
    """A method of another seed that loads the state and the network gives the same credits, so
    that a checkpoint can be audited."""
    trial = subject.trial(seed=0).steps(2)
    state = trial.method.state_dict()
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise Failed(f"state_dict()[{name!r}] is of type {type(tensor).__name__}, not a tensor")
    other = subject.trial(seed=1)
    other.net.load_state_dict(trial.net.state_dict())
    other.method.load_state_dict({name: tensor.detach().clone() for name, tensor in state.items()})
    if lost := equal(state, other.method.state_dict()):
        raise Failed(f"{lost} of state_dict is another one after load_state_dict")
    states, y = trial.states()
    found = []
    for each in (trial, other):
        each.seed_draws()
        found.append(each.credits(states, y))
    for number, (a, b) in enumerate(zip(found[0].audited, found[1].audited, strict=True)):
        if not torch.equal(a, b):
            raise Failed(
                f"the credit of block {number} is another one after load_state_dict: what it "
                "needs is not stored"
            )


@check("method", "contract")
def a_step_returns_the_loss_of_its_forward_pass(subject: MethodSubject) -> None:
    """step() returns the loss of the batch before the update: a tensor without dimensions and
    without a graph."""
    for shape, trial in subject.trials():
        x, y = trial.batch()
        with torch.no_grad():
            expected = trial.net.loss(trial.net.states(x).logits, y)
        loss = trial.method.step(x, y, LAST)
        if not isinstance(loss, Tensor) or loss.dim() != 0:
            what = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise Failed(
                f"step() returned {what}, not a tensor without dimensions ({shape} network)"
            )
        if loss.requires_grad:
            raise Failed(
                "the loss that step() returned carries a graph, which keeps every batch in "
                "memory: .detach() it"
            )
        if distance(loss, expected) > 1e-4:
            raise Failed(
                f"step() returned {float(loss):.6g}; the loss of its forward pass is "
                f"{float(expected):.6g}"
            )


@check("method", "contract")
def a_step_does_not_wait_for_the_device(subject: MethodSubject) -> None:
    """A training step reads no value on the host (.item(), float(), if tensor:, nonzero, .cpu(),
    …): each read stalls a GPU."""
    trial = subject.trial().steps(1)
    x, y = trial.batch(1)
    with _no_reads() as reads:
        trial.method.step(x, y, LAST)
    if reads:
        raise Failed(f"step() reads from the device: {', '.join(sorted(set(reads)))}")


@check("method", "contract")
def frozen_blocks_stay_as_they_are(subject: MethodSubject) -> None:
    """With `freeze: blocks` the blocks keep their initial weights, and embedding and readout
    still train."""
    for shape in subject.supported():
        trial = subject.trial(shape, freeze="blocks")
        changed = {
            name.partition(".")[0]
            for name, change in trial.changes(2).items()
            if bool((change != 0).any())
        }
        if "blocks" in changed:
            raise Failed(
                f"`freeze: blocks` leaves the blocks trained ({shape} network): update them by "
                "tools.updater alone"
            )
        if "readout" not in changed:
            raise Failed(
                f"with `freeze: blocks` the readout is not trained either ({shape} network)"
            )


# ----------------------------------------------------------------------------- reads on the host

_READS = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "is_nonzero",
    "unique",
    "_unique2",
    "aten.equal",
)
_METHODS = (
    "item",
    "tolist",
    "numpy",
    "cpu",
    "__bool__",
    "__float__",
    "__int__",
    "__index__",
    "__array__",
)


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Note every operation for whose result the host must wait."""

    def __init__(self, seen: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen, self.paused = seen, False

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if not self.paused and any(read in str(function) for read in _READS):
            self.seen.append(str(function).removeprefix("aten.").removesuffix(".default"))
        return function(*args, **(kwargs or {}))


@contextmanager
def _no_reads() -> Iterator[list[str]]:
    """Collect the operations that read a value on the host.

    one_hot with a number of classes reads on a CPU only, and does not count.
    """
    seen: list[str] = []
    mode = _Reads(seen)
    originals: dict[str, Callable[..., Any]] = {name: getattr(Tensor, name) for name in _METHODS}
    one_hot = F.one_hot

    def noted(name: str) -> Callable[..., Any]:
        def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
            if not mode.paused:
                seen.append(f"Tensor.{name}")
            return originals[name](self, *args, **kwargs)

        return method

    def quiet(tensor: Tensor, num_classes: int = -1) -> Tensor:
        mode.paused = num_classes >= 0
        try:
            return one_hot(tensor, num_classes)
        finally:
            mode.paused = False

    for name in _METHODS:
        setattr(Tensor, name, noted(name))
    nn.functional.one_hot = quiet
    try:
        with mode:
            yield seen
    finally:
        nn.functional.one_hot = one_hot
        for name, original in originals.items():
            setattr(Tensor, name, original)
