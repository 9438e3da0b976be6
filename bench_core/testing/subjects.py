"""Subjects of checks: a component with its parameters, and for a method small cells to try it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench_core.execution.global_state import TORCH_DRAWS
from bench_core.printable import few
from bench_core.testing.draws import Draws, name_of
from bench_core.testing.global_state import Changes
from bench_core.testing.kit import Failed, Skipped
from bench_core.testing.nets import Log, ProbeNet
from bench_core.training.credit import as_credits
from bench_core.training.data import Data
from bench_core.training.local_method import LocalMethod
from bench_core.training.loop import set_up
from bench_core.training.loss import CROSS_ENTROPY, Loss
from bench_core.training.method import Credits, Method
from bench_core.training.net import States
from bench_core.training.params import read
from bench_core.training.rng import generators_of, stream

FEATURES, CLASSES, BATCH, BATCHES, TEST, EPOCHS = 6, 4, 16, 6, 32, 100
# the remedy for a rule whose draws are not the cell's
DRAW = (
    "torch's global generator draws the weights of nn.Linear and other modules: make them in "
    "`with draws_from(tools.aux_generator):` (bench_core.api); draw other numbers by self.draw(…) "
    "or with generator=tools.generator"
)
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
    """A method set up on a probe network, ready for its first step."""

    method: Method
    net: ProbeNet
    data: Data
    seed: int
    epoch: int = LAST  # that its steps are taken and its credits asked for in
    noted: Log = field(
        default_factory=lambda: Log([])
    )  # `trained`: rows of the last step, all leaks

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
        own = {
            name: value for name, value in vars(self.method).items() if isinstance(value, Tensor)
        }
        return copies({**own, **self.method.state_dict()})

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

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=self.param_groups[0]["lr"])


@dataclass(frozen=True, eq=False)
class Subject:
    """A component and its parameters."""

    target: Any
    options: dict[str, Any]

    def instance(self, *arguments: Any, **more: Any) -> Any:
        """Build the component with these parameters and `more`; an architecture takes arguments."""
        return self.target(read(self.target.Params, self.options | more), *arguments)


@dataclass(frozen=True, eq=False)
class MethodSubject(Subject):
    """A learning rule and its options, tried in an epoch of its training."""

    epoch: int = LAST

    def trial(
        self, shape: str | None = None, seed: int = 0, dtype: torch.dtype = torch.float32,
        training: dict[str, Any] | None = None,
        before: Callable[[ProbeNet], None] = lambda net: None, device: str = "cpu",
        labels: int = 0, loss: Loss = CROSS_ENTROPY, **options: Any,
    ) -> Trial:  # fmt: skip
        """Return a fresh cell: network, data and streams from the seed.

        shape   residual, plain or linear; default: the first that the method supports
        before  change of the network before the method is set up on it
        labels  by how much every label of the training set is moved on before setup
        loss    the loss of the cell, from setup on
        Raises Skipped where the method does not support the network.
        """
        method = self.instance(**options)
        data = replace(toy_data(dtype=dtype), loss=loss)
        data.train_y.add_(labels).remainder_(CLASSES)
        net = probe_net(shape or self.supported()[0], seed, dtype)
        before(net)
        reason = method.unsupported(net)
        if reason is not None:
            raise Skipped(f"the method does not support the {shape} probe network: {reason}")
        if device != "cpu":
            net, data = net.to(device), data.to(device)
        recipe: dict[str, Any] = {**TRAINING, **(training or {}), "device": device}
        set_up(method, net, data, recipe, seed)
        method.tools.updaters[0].follow(recipe["learning_rate"])
        trial = Trial(method, net, data, seed, self.epoch)
        FIRST_DRAWS.setdefault(self.target, trial.drawn())
        return trial

    def supported(self) -> list[str]:
        """residual, plain or both. Raises Skipped where the method supports neither."""
        fitting = [shape for shape, reason in self._refusals.items() if reason is None]
        if not fitting:
            listed = "; ".join(f"{shape}: {reason}" for shape, reason in self._refusals.items())
            raise Skipped(f"the method does not support the probe networks ({listed})")
        return fitting

    @cached_property
    def _refusals(self) -> dict[str, str | None]:
        """Probe network → why the method does not support it, or None."""
        method = self.instance()
        return {shape: method.unsupported(probe_net(shape)) for shape in ("residual", "plain")}

    def trials(self) -> list[tuple[str, Trial]]:
        return [(shape, self.trial(shape)) for shape in self.supported()]

    @cached_property
    def trained(self) -> list[tuple[str, Trial]]:
        """One trial on every network that it supports after two steps, shared by the checks."""
        trials = self.trials()
        for _, trial in trials:
            trial.seed_draws()
            log = trial.steps(1).net.log
            log.rows[:] = [0] * trial.net.depth
            trial.steps(1, first=1)
            trial.noted = Log(list(log.rows), set(log.leaks))
        return trials

    @cached_property
    def straight(self) -> dict[str, Tensor]:
        """Copies of all that four steps leave in a cell of seed 3."""
        seed_globally(0)  # as a worker has them at the start
        return self.trial(seed=3).steps(4).bits()

    @cached_property
    def asked_twice(self) -> tuple[list[str], bool]:
        """Ask for the credit of a batch twice: the generators that it draws from, and whether the
        draws make it another one.

        Both times the streams of the method are in the same state.
        """
        trial = self.trial(seed=3).steps(1)
        batches = [trial.states() for _ in range(2)]  # the rule may change one in place
        own = list(trial.streams.values())
        credits: list[list[Tensor]] = []
        trial.seed_draws()
        before, memory = trial.generators(), trial.memory()
        with Draws(own) as draws:
            for states, y in batches:
                trial.seed_draws()
                answer = trial.method.credit(states, y, trial.epoch)
                credits.append([] if answer is None else list(trial.fitted(answer, states).audited))
        after = trial.generators()
        moved = [name for name in after if not torch.equal(after[name], before.get(name, EMPTY))]
        other = any(distance(b, a) > 1e-5 for a, b in zip(*credits, strict=True))
        if other:
            foreign = [each.generator for each in draws.noted]
            names = [name_of(each, trial.method) for each in foreign]
            moved = list(dict.fromkeys([*moved, *names]))
            if not moved and not differs(memory, trial.memory()):
                moved = ["the credit of the same samples"]
        return moved, other and bool(moved)

    def must_repeat_its_credit(self) -> None:
        """Raise Skipped if draws make the credit of the same samples another one."""
        what, other = self.asked_twice
        if other:
            raise Skipped(
                f"not reached: the same samples get another credit, and that changes {few(what)}; "
                "mend an_audit_draws_nothing first"
            )

    @cached_property
    def first(self) -> MethodSubject:
        """The same, tried in the first epoch."""
        return replace(self, epoch=0)

    @cached_property
    def begins_otherwise(self) -> bool:
        """Whether steps, credits or forward passes of the first epoch differ in a bit."""
        return any(
            differs(_traces(last), _traces(first))
            for (_, last), (_, first) in zip(self.trained, self.first.trained, strict=True)
        )


def _traces(trial: Trial) -> dict[str, Tensor]:
    """Return what the steps of a trial left and noted, and its credits with their leaks."""
    traces, log = trial.bits(), trial.net.log
    states, y = trial.states(2)
    trial.seed_draws()
    log.leaks.clear()
    if trial.method.credit(states, y, trial.epoch) is not None:
        credits = trial.credits(states, y)
        parts = {"audited": credits.audited, "blocks": credits.for_blocks, **credits.readouts}
        traces |= {f"{name}[{i}]": a for name, part in parts.items() for i, a in enumerate(part)}
    leaks = sorted(trial.noted.leaks | log.leaks)
    return traces | {"rows": torch.tensor(trial.noted.rows), "leaks": torch.tensor(leaks)}


EMPTY = torch.empty(0)
FIRST_DRAWS: dict[type, list[bool]] = {}  # of each method's first cell: did its setup draw?


def probe_net(shape: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> ProbeNet:
    seed_torch(seed)
    net = ProbeNet(ProbeNet.Params(**SHAPES[shape]), (FEATURES,), CLASSES)
    return net if dtype is torch.float32 else net.to(dtype)


def subject(kind: str, target: type, options: Mapping[str, Any] | None) -> Subject:
    return (MethodSubject if kind == "method" else Subject)(target, dict(options or {}))


# ------------------------------------------------------------------------------------- comparing


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def differs(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that differs in a bit (or is missing), or None."""
    for name in sorted(one.keys() | other.keys()):
        if name not in one or name not in other or not _same(one[name], other[name]):
            return name
    return None


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())


def must_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor], failure: str) -> None:
    """Raise Failed if a tensor differs; `{}` in its text stands for the name of the tensor."""
    if name := differs(one, other):
        raise Failed(failure.format(name))


def must_preserve(changes: Changes, action: str, *, but: str = "", remedy: str = DRAW) -> None:
    """Raise Failed if the action changed global state, other than the state `but`.

    remedy  for draws from torch's global generator
    """
    names = [name for name in changes.names if name != but]
    hint = f"; {remedy}" if TORCH_DRAWS in names else ""
    if names:
        raise Failed(f"{action} changes global state: {few(names)}{hint}")


def distance(tensor: Tensor, expected: Tensor) -> float:
    """‖tensor − expected‖ / ‖expected‖, float64; ‖tensor‖ if expected is zero."""
    tensor, expected = tensor.detach().double(), expected.detach().double()
    norm = float(expected.norm())
    return float((tensor - expected).norm()) / norm if norm > 0 else float(tensor.norm())


def seed_globally(seed: int) -> None:
    """Seed the global generators: only the check of global state shall report their use."""
    seed_torch(seed)
    random.seed(seed)
    np.random.seed(seed)


def seed_torch(seed: int) -> None:
    """Seed torch's generator of the CPU, which draws every probe network.

    `torch.manual_seed` would also keep a call with its stack for every kind of accelerator.
    """
    torch.default_generator.manual_seed(seed)


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
