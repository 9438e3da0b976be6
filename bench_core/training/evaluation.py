"""Measure the accuracy and the loss of a network, in a copy that no rule has touched."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, islice

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from bench_core.errors import BenchError
from bench_core.training.data import Data, Held
from bench_core.training.net import Net, in_eval, tensors_of
from bench_core.training.rng import draws_from, stream

LARGE_STATE = 16 * 2**20  # bytes of a state; above it the test set is evaluated in small batches
PASSES = 100  # forward passes that measure statistics anew: those of BatchNorm forget in about 50


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


def evaluated(net: Net, held: Held, bare: Net | None = None) -> dict[str, float | None]:
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


def reset_accuracies(
    net: Net, held: Held, bare: Net, initial: Mapping[str, Tensor], batch_size: int
) -> dict[str, float | None]:
    """Return two accuracies whose difference is worth the training of the blocks.

        reset_accuracy         all blocks put back to their initial weights, embedding and readout
                               as trained
        recalibrated_accuracy  all weights as trained; None where the accuracy itself serves

    Statistics that training has moved (the buffers of BatchNorm) are those of the trained blocks,
    and of weights that were still moving. In blocks and readout both networks measure them anew,
    from their initial values, by `PASSES` forward passes in training mode over batches as in
    training. Both are None if training has changed a buffer there that these passes do not write,
    or its shape: its value for the initial weights is not known.

    bare        as in `evaluated`; its layers of BatchNorm keep the mean of all passes
    initial     parameters and buffers of the network before training
    batch_size  of the training
    """
    _give_tensors(net, bare)
    data, recalibrated = held.opened(), None
    upper = {k: v for k, v in bare.named_buffers() if k.startswith(("blocks.", "readout."))}
    if any(k not in initial or initial[k].shape != v.shape for k, v in upper.items()):
        return {"reset_accuracy": None, "recalibrated_accuracy": None}  # a cache that has grown
    moved = {k: initial[k] for k, v in upper.items() if not torch.equal(initial[k], v)}
    if moved:
        if not _recalibrate(bare, moved, data, batch_size):
            return {"reset_accuracy": None, "recalibrated_accuracy": None}
        recalibrated = evaluate(bare, data)[0]
    with torch.no_grad():
        for name, value in bare.named_parameters():
            if name.startswith("blocks."):
                value.copy_(initial[name])
    if moved:
        _recalibrate(bare, moved, data, batch_size)
    return {"reset_accuracy": evaluate(bare, data)[0], "recalibrated_accuracy": recalibrated}


def _recalibrate(net: Net, moved: Mapping[str, Tensor], data: Data, batch_size: int) -> bool:
    """Put statistics of blocks and readout back, and let forward passes move them.

    Returns whether the passes wrote each of them, if only with the value that it had.
    """
    for name, value in moved.items():
        net.get_buffer(name).copy_(value)
    norms = {k: module for k, module in net.named_modules() if isinstance(module, _BatchNorm)}
    for module in norms.values():
        module.momentum = None  # the mean of all passes, however slowly it would follow them
    before = {name: net.get_buffer(name) for name in moved}
    versions = {name: value._version for name, value in before.items()}
    order, augmentation = stream(0, "order"), stream(0, "augmentation")
    epochs = (data.epoch(batch_size, order, augmentation) for _ in range(PASSES))
    with in_eval(net), torch.no_grad(), draws_from(stream(0, "controls")):
        net.blocks.train()
        net.readout.train()
        for x, _ in islice(chain.from_iterable(epochs), PASSES):
            net.states(x)

    def written(name: str) -> bool:
        now = net.get_buffer(name)
        counted = name.rpartition(".")[0] in norms  # whose kernel leaves `_version` as it is
        return counted or now is not before[name] or now._version != versions[name]

    return all(map(written, moved))


def _give_tensors(net: Net, bare: Net) -> None:
    """Copy the parameters and buffers of a network into another one."""
    own = tensors_of(net)
    with torch.no_grad():
        for name, value in tensors_of(bare).items():
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
