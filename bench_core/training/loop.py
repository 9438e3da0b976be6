"""Train one network, epoch by epoch.

The loop cuts batches from a tensor on the device, reads no value from the device inside an epoch
but in the steps that it watches, and looks at the losses when the epoch is over. `observe` is
called before training and after every epoch, and ends the training by returning True. It draws from
no stream of the training, so measurements cannot change the training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from bench_core.errors import BenchError
from bench_core.training.data import Data, Held
from bench_core.training.evaluation import evaluated
from bench_core.training.method import Method
from bench_core.training.net import Net
from bench_core.training.optimizer import cosine
from bench_core.training.precision import products_in
from bench_core.training.rng import stream
from bench_core.training.saved_state import storable
from bench_core.training.setup import frozen_parameters, must_have_its_gradients, random_classes

NOT_EVALUATED: dict[str, float | None] = {"accuracy": None, "test_loss": None}


class Diverged(Exception):  # noqa: N818 - an outcome, not an error
    """A loss or a weight is not finite; the message says where this was seen first."""


@dataclass(frozen=True)
class EpochRow:
    """The results of one epoch; epoch 0 is the untrained network."""

    epoch: int
    learning_rate: float
    train_loss: float | None
    accuracy: float | None  # None: not evaluated after this epoch
    test_loss: float | None
    seconds: float  # of the training alone
    validation_accuracy: float | None = None  # None: no samples are held out, or not evaluated


class Resumption(Protocol):
    """The checkpoint interface of the training loop.

    begin   restores a saved training, with its streams; returns the epochs that it has trained
    passed  saves the state after `epoch` epochs; called while further epochs remain
    """

    def begin(self, streams: dict[str, torch.Generator]) -> int: ...

    def passed(self, epoch: int) -> None: ...


def _must_fit(tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> None:
    """Raise BenchError if a step changed the network's state so that no new network can load it."""
    for name in sorted({*tensors, *shapes}):
        before, now = shapes.get(name), tensors[name].shape if name in tensors else None
        if name.startswith("net.") and before != now:
            shown = [list(shape) if shape is not None else None for shape in (before, now)]
            raise BenchError(
                f"a step changes {name.removeprefix('net.')} in state_dict() of the network from "
                f"shape {shown[0]} to {shown[1]}, so its checkpoint fits no network; "
                "register_buffer(…, persistent=False) keeps it out"
            )


def _must_be_finite(net: Net, finite: Sequence[bool], epoch: int) -> None:
    """Raise `Diverged` for a loss or a parameter that is not finite; `finite` is by step."""
    if not all(finite):
        first = f"step {finite.index(False) + 1} of epoch {epoch}"
        raise Diverged(f"the training loss is not finite from {first}")
    for name, value in net.named_parameters():
        if not bool(value.isfinite().all()):
            raise Diverged(f"{name} is not finite after epoch {epoch}")


def _must_be_equal(now: Mapping[str, Tensor], before: Mapping[str, Tensor], epoch: int) -> None:
    """Raise BenchError for a frozen parameter that has changed."""
    for name, value in now.items():
        if not torch.equal(value, before[name]):
            raise BenchError(
                f"{name} is frozen and changed in epoch {epoch}, so this network is no floor: a "
                "rule changes weights by tools.updater alone"
            )


def train(
    method: Method,
    net: Net,
    data: Data | Held,
    training: dict[str, Any],
    seed: int,
    observe: Callable[[EpochRow], bool] = lambda row: False,
    resumption: Resumption | None = None,
    evaluate_every: int = 1,
    bare: Net | None = None,
) -> EpochRow:
    """Train `net` by `method` (already set up) and return the last row. Raises `Diverged`.

    Learning rate of epoch i of E, from 0: lr·½(1 + cos(π·i/E)), or constant. `stop_after` ends the
    schedule of `epochs` early. The test and validation sets are evaluated after every
    `evaluate_every`-th epoch and after the last. Only then are their samples tensors (`Held`).
    `bare` is a copy of the network from before `setup` (`evaluation.evaluated`).
    """
    held = data if isinstance(data, Held) else Held(data)
    data = held.training
    streams = {name: stream(seed, name) for name in ("order", "augmentation", "random_targets")}
    epochs, batch_size = training["epochs"], training["batch_size"]
    steps, updater = len(data.train_y) // batch_size, method.tools.updaters[0]
    losses = torch.zeros(max(steps, 1), device=data.train_y.device)
    drawn = torch.randint(max(steps, 1), (epochs,), generator=stream(seed, "watched")).tolist()
    loss = net.loss
    first = resumption.begin(streams) if resumption is not None else 0
    last = training["stop_after"] or epochs
    shapes = {name: value.shape for name, value in storable(net, method).items()}
    frozen = {name: value.clone() for name, value in frozen_parameters(method, net).items()}
    row = EpochRow(
        first, training["learning_rate"], None, seconds=0.0, **evaluated(net, held, bare)
    )
    if first == 0:
        observe(row)
    for epoch in range(first, last):
        lr = training["learning_rate"]
        lr = cosine(lr, epoch, epochs) if training["schedule"] == "cosine" else lr
        updater.follow(lr)
        started = time.perf_counter()
        with products_in(training["precision"], training["device"]):
            batches = data.epoch(batch_size, streams["order"], streams["augmentation"])
            for step, (x, y) in enumerate(batches):
                if method.params.random_targets:
                    y = random_classes(data, y, streams["random_targets"])
                watch = updater.suspect or step in (0, drawn[epoch], steps - 1)
                with updater.watched() if watch else nullcontext():
                    losses[step] = method.step(x, y, epoch)
                if (epoch, step) == (first, 0):
                    _must_fit(storable(net, method), shapes)
        finite = losses.isfinite().tolist()
        seconds = time.perf_counter() - started
        _must_be_finite(net, finite, epoch + 1)
        _must_be_equal(frozen_parameters(method, net), frozen, epoch + 1)
        must_have_its_gradients(net, loss)
        wanted = epoch + 1 == last or (epoch + 1) % evaluate_every == 0
        figures = evaluated(net, held, bare) if wanted else NOT_EVALUATED
        train_loss = float(losses.double().mean())
        row = EpochRow(epoch + 1, lr, train_loss, seconds=seconds, **figures)
        if observe(row):
            break
        if resumption is not None and epoch + 1 < last:
            resumption.passed(epoch + 1)
    return row
