"""Small cells on which checks try a learning rule: toy data, a trial, noisy states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from bench_core.testing.comparing import copies
from bench_core.testing.draws import name_of, seed_globally
from bench_core.testing.kit import Failed, Skipped
from bench_core.testing.nets import Log, ProbeNet
from bench_core.training.credit import as_credits
from bench_core.training.data import Data
from bench_core.training.local_method import LocalMethod
from bench_core.training.method import Credits, Method
from bench_core.training.net import States
from bench_core.training.rng import generators_of, stream

FEATURES, CLASSES, BATCH, BATCHES, TEST, EPOCHS = 6, 4, 16, 6, 32, 100
LAST = EPOCHS - 1  # the epoch that steps are taken in: warm-ups are over
SHAPES: dict[str, dict[str, Any]] = {
    "residual": {},
    "plain": {"residual": False},
    "linear": {"residual": False, "linear": True},
}
TRAINING: dict[str, Any] = {
    "epochs": EPOCHS, "stop_after": None, "batch_size": BATCH, "learning_rate": 1e-2,
    "weight_decay": 0.01, "clip_norm": 1.0, "schedule": "cosine", "device": "cpu",
    "precision": "float32",
}  # fmt: skip


def toy_data(seed: int = 0, dtype: torch.dtype = torch.float32) -> Data:
    """Gaussian inputs (6,) labelled by a random linear map: 4 classes; 96 to train, 32 to test."""
    draws = torch.Generator().manual_seed(seed)
    n = BATCH * BATCHES
    x = torch.randn(n + TEST, FEATURES, generator=draws, dtype=torch.float32).to(dtype)
    y = (x @ torch.randn(FEATURES, CLASSES, generator=draws).to(dtype)).argmax(1)
    return Data(x[:n].clone(), y[:n].clone(), x[n:].clone(), y[n:].clone(), CLASSES)


@dataclass
class Trial:
    """A method set up on a probe network, ready for its first step.

    epoch  that its steps are taken and its credits asked for in
    noted  of `trained`: the rows of the last step, and all leaks
    """

    method: Method
    net: ProbeNet
    data: Data
    seed: int
    epoch: int = LAST
    noted: Log = field(default_factory=lambda: Log([]))

    def batch(self, number: int = 0) -> tuple[Tensor, Tensor]:
        """Copies of a training batch."""
        rows = slice(BATCH * number, BATCH * (number + 1))
        return self.data.train_x[rows].clone(), self.data.train_y[rows].clone()

    def steps(self, count: int, first: int = 0, after: Callable[[], None] = lambda: None) -> Trial:
        """Train on the batches `first` …, at the constant learning rate."""
        for number in range(first, first + count):
            self.method.step(*self.batch(number % BATCHES), self.epoch)
            after()
        return self

    def states(self, number: int = 0) -> tuple[States, Tensor]:
        """Return the detached states of a batch with the output error, and its labels."""
        x, y = self.batch(number)
        with torch.no_grad():
            return self.net.states(x).detach(y), y

    def credits(self, states: States, y: Tensor) -> Credits:
        """Return the method's credits. Raises Failed if they fit no states, Skipped without any."""
        answer = self.method.credit(copied(states), y, self.epoch)
        if answer is None and not isinstance(self.method, LocalMethod):
            raise Skipped("the method has no credit to audit")
        return self.fitted(answer, states)

    def fitted(self, answer: Any, states: States) -> Credits:
        """Return what credit() answered as credits. Raises Failed if they fit no states."""
        local = isinstance(self.method, LocalMethod)
        if answer is not None and not isinstance(answer, Credits | Sequence):
            kind = type(answer).__name__
            raise Failed(f"credit() returned a {kind}; it returns Credits(audited=[…])")
        try:
            return as_credits(answer, self.net, states.h, trains=local)
        except (TypeError, ValueError) as error:
            raise Failed(str(error)) from None

    @property
    def streams(self) -> dict[str, torch.Generator]:
        """The random streams that the method draws from."""
        tools = self.method.tools
        return {"tools.generator": tools.generator, "tools.aux_generator": tools.aux_generator}

    def generators(self) -> dict[str, Tensor]:
        """Return the states of its streams, and of the generators that are the method's own."""
        own = {name_of(each, self.method): each for each in generators_of(self.method).values()}
        return {name: each.get_state() for name, each in {**own, **self.streams}.items()}

    def memory(self) -> dict[str, Tensor]:
        """Copies of the method's state and of the tensors that are its attributes."""
        return copies({**vars(self.method), **self.method.state_dict()})

    def drawn(self) -> list[bool]:
        """Return whether setup drew from the feedback stream, and from the auxiliary one."""
        fresh = [stream(self.seed, name).get_state() for name in ("feedback", "auxiliary")]
        own = [generator.get_state() for generator in self.streams.values()]
        return [not torch.equal(a, b) for a, b in zip(own, fresh, strict=True)]

    def seed_draws(self) -> None:
        """Give the method's generators the same state, so that two trials draw the same."""
        for generator in self.streams.values():
            generator.manual_seed(1)
        seed_globally(1)

    def plain_descent(self, rate: float = 1.0) -> Trial:
        """Replace clipped AdamW by θ ← θ − rate·gradient."""
        updater = self.method.tools.updater
        updater.clip_norm = updater.recipe = None
        updater.optimiser = _Descent(updater.optimiser, rate)  # type: ignore[assignment]
        return self

    def changes(self, count: int = 1) -> dict[str, Tensor]:
        """Return the change of every parameter in `count` steps."""
        before = copies(dict(self.net.named_parameters()))
        seed_globally(1)
        self.steps(count)
        return {name: value.detach() - before[name] for name, value in self.net.named_parameters()}

    def bits(self) -> dict[str, Tensor]:
        """Copies of the network, the feedback and the auxiliary networks."""
        tensors = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        tensors |= {f"method.{name}": value for name, value in self.method.state_dict().items()}
        return copies(tensors)


class _Descent:
    """θ ← θ − rate·gradient, on the parameters of another optimiser."""

    def __init__(self, optimiser: torch.optim.Optimizer, rate: float) -> None:
        self.parameters = optimiser.param_groups[0]["params"]
        self.param_groups = [{"params": self.parameters, "lr": rate, "weight_decay": 0.0}]
        self.state: dict[torch.nn.Parameter, Any] = {}  # it has no moments

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=self.param_groups[0]["lr"])


def copied(states: States) -> States:
    """Return states that a rule may change in place; a check of its own finds that it does."""
    h, f = tuple(t.clone() for t in states.h), tuple(t.clone() for t in states.f)
    x, logits = states.x.clone(), states.logits.clone()
    error = None if states.error is None else states.error.clone()
    return replace(states, x=x, h=h, f=f, logits=logits, error=error)


def noisy(states: States, keep: Sequence[int], seed: int = 0) -> States:
    """Return the states with noise of the same size in place of every h_l outside `keep`."""
    draws = torch.Generator().manual_seed(seed)
    h = list(states.h)
    for layer, value in enumerate(h):
        if layer not in keep:
            h[layer] = torch.randn(value.shape, generator=draws).to(value) * value.std()
    return replace(states, h=tuple(h))
