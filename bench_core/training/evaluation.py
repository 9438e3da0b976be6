"""Measure the accuracy and the loss of a network, in a copy that no rule has touched."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bench_core.errors import BenchError
from bench_core.training.data import Data, Held
from bench_core.training.net import Net, in_eval, tensors_of

LARGE_STATE = 16 * 2**20  # bytes of a state; above it the test set is evaluated in small batches


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


def reset_accuracy(net: Net, held: Held, bare: Net, initial: Mapping[str, Tensor]) -> float | None:
    """Compute the accuracy with all blocks put back to their initial weights, embedding and readout
    as trained; None if training has changed a buffer of a block.

    Such buffers are the statistics of BatchNorm: neither the initial nor the trained ones are those
    of a network with these weights, so that even blocks whose weights never moved seem to matter.

    bare     as in `evaluated`
    initial  parameters and buffers of the network before training
    """
    for name, value in net.named_buffers():
        before = initial.get(name)
        if name.startswith("blocks.") and (before is None or not torch.equal(before, value)):
            return None
    _give_tensors(net, bare)
    with torch.no_grad():
        for name, value in bare.named_parameters():
            if name.startswith("blocks."):
                value.copy_(initial[name])
    return evaluate(bare, held.opened())[0]


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
