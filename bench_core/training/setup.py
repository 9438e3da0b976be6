"""Set up a training before its first step: the network as the options of the rule want it.

The blocks that stay frozen, the task and the tools of the rule, and a copy of the network from
before the rule's own `setup`, in which its accuracy is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bench_core.errors import BenchError
from bench_core.training.data import Data
from bench_core.training.loss import Loss
from bench_core.training.method import Method, Task, Tools
from bench_core.training.net import Net, copied, in_eval, tensors_of
from bench_core.training.optimizer import Updater
from bench_core.training.rng import stream

AUXILIARY_LR = 1e-3


def set_up(method: Method, net: Net, data: Data, training: dict[str, Any], seed: int) -> None:
    """Prepare the blocks, and give the method its task, its streams and its optimiser."""
    _set_up(method, net, _prepared(method, net, data, training), data, training, seed)


def set_up_beside_copy(
    method: Method, net: Net, data: Data, training: dict[str, Any], seed: int
) -> Net:
    """Set a method up, and return a copy of the network from before the method's `setup`.

    The accuracy is measured in it. The network has seen a sample before, so that it has all of its
    tensors.
    """
    task = _prepared(method, net, data, training)
    bare = copied(net, seed)
    _set_up(method, net, task, data, training, seed)
    return bare


def _prepared(method: Method, net: Net, data: Data, training: dict[str, Any]) -> Task:
    """Scale the initial blocks, freeze the frozen ones, and return the task of the method."""
    if method.params.block_scale != 1.0:
        net.scale_blocks(method.params.block_scale)
    if method.params.freeze == "blocks" or method.params.train_last is not None:
        net.freeze_blocks(method.params.train_last or 0)
    net.loss = data.loss
    _must_be_trainable(method, net)
    return _task(net, data, training)


def _set_up(
    method: Method, net: Net, task: Task, data: Data, training: dict[str, Any], seed: int
) -> None:
    parameters = dict(net.named_parameters())
    drawn = {name: value.detach().clone() for name, value in tensors_of(net).items()}
    loss = net.loss
    method.setup(net, task, _tools(method, net, data, training, seed))
    _must_be_its_network(net, parameters, drawn)
    must_have_its_gradients(net, loss)
    frozen = net.depth - trained_blocks(method, net)
    with torch.no_grad():  # a floor has the random blocks of its seed, also if `setup` changed them
        for name, value in tensors_of(net).items():
            before = drawn.get(name, value)
            inside = name.startswith(tuple(f"blocks.{i}." for i in range(frozen)))
            if inside and before.shape == value.shape:  # a cache may have another one
                value.copy_(before)


def _must_be_trainable(method: Method, net: Net) -> None:
    """Raise BenchError for parts that share a parameter, and for random targets without classes."""
    if shared := net.shared_parameter():
        raise BenchError(f"{shared} belongs to two of embed, blocks and readout")
    if method.params.random_targets and not net.loss.classes:
        loss = f"(its loss is {net.loss.name})"
        raise BenchError(f"random_targets draws classes, and this data set has none {loss}")


def _task(net: Net, data: Data, training: dict[str, Any]) -> Task:
    """Return what a rule is told of the training; the network computes a sample for its shapes.

    Raises BenchError if the readout does not give an output for each class.
    """
    x = data.normalise(data.train_x[:1])
    with in_eval(net), torch.no_grad():
        states = net.states(x)
    if net.loss.classes and states.logits.shape != (1, data.classes):
        given = tuple(states.logits.shape[1:])
        raise BenchError(
            f"the readout of the network gives outputs of shape {given} for each input, and the "
            f"data set has {data.classes} classes"
        )
    return Task(
        classes=data.classes,
        epochs=training["epochs"],
        steps_per_epoch=len(data.train_y) // training["batch_size"],
        batch_size=training["batch_size"],
        shapes=tuple(tuple(h.shape[1:]) for h in states.h),
        device=training["device"],
        tokens=net.tokens,
        input_shape=tuple(x.shape[1:]),
    )


def _tools(method: Method, net: Net, data: Data, training: dict[str, Any], seed: int) -> Tools:
    """Return the optimiser of the network and the streams of a rule, and more of both on demand."""
    clip = training["clip_norm"]
    updaters = [Updater(net.groups(), training["learning_rate"], training["weight_decay"], clip)]

    def auxiliary(groups: Mapping[str, Sequence[torch.nn.Parameter]]) -> Updater:
        if not isinstance(groups, Mapping):
            raise BenchError(
                "tools.auxiliary() takes groups of parameters by name: "
                "tools.auxiliary({'predictor': list(self.predictor.parameters())})"
            )
        updaters.append(Updater(groups, AUXILIARY_LR, 0.0, clip))
        updaters[0].others |= updaters[0].shares(updaters[-1])
        return updaters[-1]

    auxiliary_draws = stream(seed, "auxiliary")

    def batches(draws: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in data.epoch(training["batch_size"], draws, draws):
            yield x, random_classes(data, y, draws) if method.params.random_targets else y

    feedback = stream(seed, "feedback")
    return Tools(updaters[0], auxiliary, feedback, auxiliary_draws, batches, updaters)


def trained_blocks(method: Method, net: Net) -> int:
    """Return the number of blocks, the last ones, that the options of a rule let train."""
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
    trained, now = dict(net.named_parameters()), tensors_of(net)
    caches = now.keys() - net.state_dict().keys()
    for name in sorted({*trained, *drawn} - caches):
        kept = name in drawn and trained.get(name) is parameters.get(name) and name in now
        if not kept or (now[name].shape, now[name].dtype) != (drawn[name].shape, drawn[name].dtype):
            raise BenchError(
                f"setup() replaces {name} of the network, and another network cannot be compared "
                "with those of other rules; change its values in place, make it an architecture, "
                "or keep modules of the rule in the rule (docs/hooks.md)"
            )


def must_have_its_gradients(net: Net, loss: Loss) -> None:
    """Raise BenchError if a rule has changed what the gradients of the network are.

    Every rule of a table is measured by the loss of its data set. A hook on the gradient of a
    parameter is lost by a copy of the network, so `projected_step` would compare another step.
    """
    if net.loss is not loss:
        raise BenchError(
            "a rule replaces net.loss, by whose gradient all rules are measured; scale or smooth "
            "inside credit() or step()"
        )
    for name, value in net.named_parameters():
        if value._backward_hooks or getattr(value, "_post_accumulate_grad_hooks", None):
            raise BenchError(
                f"a rule registers a hook on the gradient of {name}, which no audit of its step "
                "sees; change gradients inside credit() or step()"
            )


def frozen_parameters(method: Method, net: Net) -> dict[str, Tensor]:
    """Return the parameters of the blocks that the options of the rule freeze."""
    return {
        f"blocks.{i}.{name}": value.detach()
        for i, block in enumerate(net.blocks[: net.depth - trained_blocks(method, net)])
        for name, value in block.named_parameters()
    }


def random_classes(data: Data, y: Tensor, draws: torch.Generator) -> Tensor:
    """Draw uniform random labels in the place of y."""
    return torch.randint(data.classes, y.shape, generator=draws).to(y.device)
