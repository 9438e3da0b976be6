"""Subjects of checks: a component with its parameters; a method also with its trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bench_core.printable import few
from bench_core.testing.comparing import differs, distance
from bench_core.testing.draws import Draws, name_of, seed_globally, seed_torch
from bench_core.testing.kit import Skipped
from bench_core.testing.nets import Log, ProbeNet
from bench_core.testing.trials import CLASSES, FEATURES, LAST, SHAPES, TRAINING, Trial, toy_data
from bench_core.training.loss import CROSS_ENTROPY, Loss
from bench_core.training.params import read
from bench_core.training.setup import set_up


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
