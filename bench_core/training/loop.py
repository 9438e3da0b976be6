"""Train one network: the loop, and nothing but the loop.

The loop cuts batches from a tensor on the device, reads no value from the device inside an epoch
but in the two steps that it watches, and looks at the losses when the epoch is over. `observe` is
called before training and after every epoch, and ends the training by returning True. It draws from
no stream of the training, so measurements cannot change the training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from bench_core.errors import BenchError
from bench_core.training.checkpoint import storable
from bench_core.training.data import Data, Held
from bench_core.training.method import Method, Task, Tools
from bench_core.training.net import Net, copied, in_eval
from bench_core.training.optimizer import Updater, cosine
from bench_core.training.precision import products_in
from bench_core.training.rng import stream

AUXILIARY_LR = 1e-3
NOT_EVALUATED: dict[str, float | None] = {"accuracy": None, "test_loss": None}
LARGE_STATE = 16 * 2**20  # bytes of a state; above it the test set is evaluated in small batches


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


def set_up(method: Method, net: Net, data: Data, training: dict[str, Any], seed: int) -> Net:
    """Freeze the frozen blocks, and give the method its task, its streams and its optimiser.

    Returns a copy of the network from before the method's `setup`, in which its accuracy is
    measured. The network has seen a sample before, so that it has all of its tensors.
    """
    if method.params.freeze == "blocks" or method.params.train_last is not None:
        net.freeze_blocks(method.params.train_last or 0)
    net.loss = data.loss
    if shared := net.shared_parameter():
        raise BenchError(f"{shared} belongs to two of embed, blocks and readout")
    if method.params.random_targets and not net.loss.classes:
        loss = f"(its loss is {net.loss.name})"
        raise BenchError(f"random_targets draws classes, and this data set has none {loss}")
    device = training["device"]
    x = data.normalise(data.train_x[:1])
    with in_eval(net), torch.no_grad():
        states = net.states(x)
    if net.loss.classes and states.logits.shape != (1, data.classes):
        given = tuple(states.logits.shape[1:])
        raise BenchError(
            f"the readout of the network gives outputs of shape {given} for each input, and the "
            f"data set has {data.classes} classes"
        )
    shapes = tuple(tuple(h.shape[1:]) for h in states.h)
    task = Task(
        classes=data.classes,
        epochs=training["epochs"],
        steps_per_epoch=len(data.train_y) // training["batch_size"],
        batch_size=training["batch_size"],
        shapes=shapes,
        device=device,
        tokens=net.tokens,
        input_shape=tuple(x.shape[1:]),
    )
    clip = training["clip_norm"]
    updaters = [Updater(net.groups(), training["learning_rate"], training["weight_decay"], clip)]

    def auxiliary(groups: Mapping[str, Sequence[torch.nn.Parameter]]) -> Updater:
        if not isinstance(groups, Mapping):
            raise BenchError(
                "tools.auxiliary() takes groups of parameters by name: "
                "tools.auxiliary({'predictor': list(self.predictor.parameters())})"
            )
        updaters.append(Updater(groups, AUXILIARY_LR, 0.0, clip))
        return updaters[-1]

    draws = stream(seed, "auxiliary")

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in data.epoch(training["batch_size"], draws, draws):
            yield x, random_classes(data, y, draws) if method.params.random_targets else y

    feedback = stream(seed, "feedback")
    parameters = dict(net.named_parameters())
    drawn = {name: value.detach().clone() for name, value in _tensors(net).items()}
    bare = copied(net, seed)
    method.setup(net, task, Tools(updaters[0], auxiliary, feedback, draws, batches, updaters))
    _must_be_its_network(net, parameters, drawn)
    frozen = net.depth - _trained(method, net)
    with torch.no_grad():  # a floor has the random blocks of its seed, also if `setup` changed them
        for name, value in _tensors(net).items():
            before = drawn.get(name, value)
            inside = name.startswith(tuple(f"blocks.{i}." for i in range(frozen)))
            if inside and before.shape == value.shape:  # a cache may have another one
                value.copy_(before)
    return bare


def _tensors(net: Net) -> dict[str, Tensor]:
    return {**dict(net.named_parameters()), **dict(net.named_buffers())}


def _trained(method: Method, net: Net) -> int:
    """Return the number of blocks, the last ones, that the options of the rule let train."""
    trained = 0 if method.params.freeze else method.params.train_last
    return net.depth if trained is None else min(trained, net.depth)


def _must_be_its_network(
    net: Net, parameters: Mapping[str, Tensor], drawn: Mapping[str, Tensor]
) -> None:
    """Raise BenchError if a rule has changed the parameters of the network, or a shape or a type.

    The optimiser has the old ones, so new ones would never train. Buffers may be added, and those
    that no checkpoint holds may change: they are caches.

    drawn  the parameters and buffers before `setup`
    """
    trained, now = dict(net.named_parameters()), _tensors(net)
    caches = now.keys() - net.state_dict().keys()
    for name in sorted({*trained, *drawn} - caches):
        kept = name in drawn and trained.get(name) is parameters.get(name) and name in now
        if not kept or (now[name].shape, now[name].dtype) != (drawn[name].shape, drawn[name].dtype):
            raise BenchError(
                f"setup() replaces {name} of the network, and another network cannot be compared "
                "with those of other rules; change its values in place, make it an architecture, "
                "or keep modules of the rule in the rule (docs/hooks.md)"
            )


def random_classes(data: Data, y: Tensor, draws: torch.Generator) -> Tensor:
    """Draw uniform random labels in the place of y."""
    return torch.randint(data.classes, y.shape, generator=draws).to(y.device)


def evaluate(net: Net, data: Data) -> tuple[float, float]:
    """Compute accuracy (the score of the loss) and mean loss on the test set, in eval mode.

    Raises BenchError for a score outside 0 … 1, because such a score must not enter a mean.
    """
    with in_eval(net), torch.no_grad():
        one = net.states(next(data.test_batches(1))[0])
        size = 1000 if 1000 * max(h.nbytes for h in one.h) <= LARGE_STATE else 100
        # allocated first: small tensors kept between large ones would keep the allocator from
        # using the memory of the large ones again
        logits = one.logits.new_empty(len(data.test_y), *one.logits.shape[1:])
        for number, (x, _) in enumerate(data.test_batches(size)):
            logits[number * size : number * size + len(x)] = net.resume(net.embed(x), 0)
        loss = net.loss(logits.double(), data.test_y)
    score = net.loss.score(logits, data.test_y)
    if not 0.0 <= score <= 1.0:
        name = net.loss.name
        raise BenchError(f"the score of the data set's loss ({name}) is {score:g}, not in 0 … 1")
    return score, float(loss)


def _evaluated(net: Net, held: Held, bare: Net | None = None) -> dict[str, float | None]:
    """Return the figures of an epoch on the test set and on the validation samples.

    bare  a copy of the network from before `setup`, which is evaluated in its place with its
          parameters and buffers: hooks of a rule, or another `forward`, have no part in a figure
    """
    data = held.opened()
    if bare is not None:
        _give_tensors(net, bare)
        _must_compute_alike(net, bare, next(data.test_batches(100))[0])
        net = bare
    accuracy, loss = evaluate(net, data)
    validation = data.validated()
    on_validation = evaluate(net, validation)[0] if validation is not None else None
    return {"accuracy": accuracy, "test_loss": loss, "validation_accuracy": on_validation}


def _give_tensors(net: Net, bare: Net) -> None:
    """Copy the parameters and buffers of a network into another one."""
    own = _tensors(net)
    with torch.no_grad():
        for name, value in _tensors(bare).items():
            if name in own and own[name].shape == value.shape:
                value.copy_(own[name])
            elif name in own:  # a cache that has grown
                home, _, leaf = name.rpartition(".")
                setattr(bare.get_submodule(home), leaf, own[name].clone())


def _must_compute_alike(net: Net, bare: Net, x: Tensor) -> None:
    """Raise BenchError if two networks with the same tensors give other outputs."""

    def logits(one: Net) -> Tensor:
        with in_eval(one), torch.no_grad():
            return one.resume(one.embed(x), 0).double()

    here, again, alone = logits(net), logits(net), logits(bare)
    if not torch.equal(here.nan_to_num(), again.nan_to_num()) and x.device.type == "cpu":
        raise BenchError(
            "in eval mode the network gives other outputs for the same inputs again: it draws, and "
            "its accuracy would be one draw of many"
        )
    size = float(alone.nan_to_num(0.0, 0.0, 0.0).abs().max())
    if not torch.allclose(here, alone, rtol=0.0, atol=1e-3 * size, equal_nan=True):
        raise BenchError(
            "in eval mode the network gives other outputs than a new network with its parameters "
            "and buffers: a rule leaves a hook or another forward in it, or the architecture keeps "
            "state outside of its tensors; the accuracy would be that of another network"
        )


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


def _frozen(method: Method, net: Net) -> dict[str, Tensor]:
    """Return the parameters of the blocks that the options of the rule freeze."""
    return {
        f"blocks.{i}.{name}": value.detach()
        for i, block in enumerate(net.blocks[: net.depth - _trained(method, net)])
        for name, value in block.named_parameters()
    }


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
    `bare` is a copy of the network from before `setup` (`_evaluated`).
    """
    held = data if isinstance(data, Held) else Held(data)
    data = held.training
    order, augmentation = stream(seed, "order"), stream(seed, "augmentation")
    random_targets = stream(seed, "random_targets")
    epochs, batch_size = training["epochs"], training["batch_size"]
    steps = len(data.train_y) // batch_size
    losses = torch.zeros(max(steps, 1), device=data.train_y.device)
    drawn = torch.randint(max(steps, 1), (epochs,), generator=stream(seed, "watched")).tolist()
    first, last = 0, training["stop_after"] or epochs
    if resumption is not None:
        streams = {"order": order, "augmentation": augmentation, "random_targets": random_targets}
        first = resumption.begin(streams)
    shapes = {name: value.shape for name, value in storable(net, method).items()}
    frozen = {name: value.clone() for name, value in _frozen(method, net).items()}
    row = EpochRow(
        first, training["learning_rate"], None, seconds=0.0, **_evaluated(net, held, bare)
    )
    if first == 0:
        observe(row)
    for epoch in range(first, last):
        lr = training["learning_rate"]
        lr = cosine(lr, epoch, epochs) if training["schedule"] == "cosine" else lr
        method.tools.updater.follow(lr)
        started = time.perf_counter()
        with products_in(training["precision"], training["device"]):
            for step, (x, y) in enumerate(data.epoch(batch_size, order, augmentation)):
                if method.params.random_targets:
                    y = random_classes(data, y, random_targets)
                watch = step in (0, drawn[epoch])
                with method.tools.updaters[0].watched() if watch else nullcontext():
                    losses[step] = method.step(x, y, epoch)
                if (epoch, step) == (first, 0):
                    _must_fit(storable(net, method), shapes)
        finite = losses.isfinite().tolist()
        seconds = time.perf_counter() - started
        _must_be_finite(net, finite, epoch + 1)
        _must_be_equal(_frozen(method, net), frozen, epoch + 1)
        wanted = epoch + 1 == last or (epoch + 1) % evaluate_every == 0
        figures = _evaluated(net, held, bare) if wanted else NOT_EVALUATED
        train_loss = float(losses.double().mean())
        row = EpochRow(epoch + 1, lr, train_loss, seconds=seconds, **figures)
        if observe(row):
            break
        if resumption is not None and epoch + 1 < last:
            resumption.passed(epoch + 1)
    return row
