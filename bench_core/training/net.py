"""Define a network as an embedding, blocks and a readout, with its hidden states.

    h_0 = embed(x),   h_{l+1} = h_l + f_l(h_l)   (residual)   or   f_l(h_l),   logits = readout(h_L)

The credit of a block lives at the block's input state in a residual network, and at its output
state otherwise (`sites`). In a residual stream both states have the same shape and nearly the same
gradient; elsewhere only the output has the shape of f_l.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench_core.training.loss import CROSS_ENTROPY, Loss
from bench_core.training.params import ParamsModel


@dataclass(frozen=True)
class States:
    """The states of one batch.

    x       input
    h       h_0 … h_L, each (N, …)
    f       f_0 … f_{L-1}, the outputs of the blocks' branches
    logits  (N, C)
    error   e = ∂loss/∂logits per sample, (N, C): softmax(logits) − onehot(y); None without labels
    loss    the loss of their network
    """

    x: Tensor
    h: tuple[Tensor, ...]
    f: tuple[Tensor, ...]
    logits: Tensor
    error: Tensor | None = None
    loss: Loss = CROSS_ENTROPY

    def detach(self, y: Tensor | None = None) -> States:
        """Return the same numbers without a graph and, given labels, with the output error."""
        logits = self.logits.detach()
        h, f = tuple(h.detach() for h in self.h), tuple(f.detach() for f in self.f)
        error = None if y is None else self.loss.error(logits, y)
        return replace(self, h=h, f=f, logits=logits, error=error)

    @property
    def output_error(self) -> Tensor:
        """The output error e; raises ValueError if the states carry none."""
        if self.error is None:
            raise ValueError("these states were computed without labels: no output error")
        return self.error


class Net(nn.Module):
    """The base of all networks.

    A subclass sets `embed`, `blocks` and `readout` in this order, which is the order of the random
    draws. A constructor raises ValueError for inputs that do not suit it; the pair is then refused
    before training.

    embed     h_0 from a batch of inputs as the data set gives them
    blocks    f_0 … f_{L-1}
    readout   logits from h_L: the terminal norm, if there is one, and the head
    residual  whether h_{l+1} = h_l + f_l(h_l)
    tokens    whether states are (N, tokens, features): credits are then normalised per token
    loss      the loss of the data set; set by the core
    """

    embed: nn.Module
    blocks: nn.ModuleList
    readout: nn.Module
    numerics: ClassVar[int] = 1
    residual: bool = True
    tokens: bool = False
    loss: Loss = CROSS_ENTROPY

    class Params(ParamsModel):
        """Parameters of the architecture; part of the identity of a cell."""

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        net = super().__new__(cls)
        object.__setattr__(net, "_built_from", (arguments, options))  # for `copied`
        return net

    def __init__(self, params: ParamsModel, shape: tuple[int, ...], classes: int) -> None:
        """shape: of one input, without the batch dimension."""
        super().__init__()
        self.__dict__["_input_shape"] = tuple(shape)

    @property
    def depth(self) -> int:
        """L, the number of blocks."""
        return len(self.blocks)

    @property
    def sites(self) -> tuple[int, ...]:
        """The indices of the states with credits: 0 … L-1 with residual blocks, 1 … L without."""
        first = 0 if self.residual else 1
        return tuple(range(first, first + self.depth))

    def advance(self, h: Tensor, block: int) -> tuple[Tensor, Tensor]:
        """Compute (h_{l+1}, f_l) from h_l."""
        f: Tensor = self.blocks[block](h)
        return (h + f if self.residual else f), f

    def states(self, x: Tensor, local: bool = False, statistics: bool = True) -> States:
        """Compute the forward pass.

        local  every block sees sg(h_l) and the readout sg(h_L): f_l carries a graph to block l
               alone, h_0 to the embedding alone, the logits to the readout alone

        In training mode only this function moves the running statistics of BatchNorm. `advance`,
        `resume`, relaxations and gradients normalise by the batch and leave the statistics alone. A
        rule with further forward passes in a step passes `statistics=False` to them, so that the
        statistics move once per step.
        """
        with self._running_statistics(statistics):
            h: Tensor = self.embed(x)
            hs, fs = [h], []
            for block in range(self.depth):
                h, f = self.advance(h.detach() if local else h, block)
                hs.append(h.detach() if local else h)
                fs.append(f)
            logits = self.readout(h.detach() if local else h)
        return States(x, tuple(hs), tuple(fs), logits, loss=self.loss)

    @contextmanager
    def _running_statistics(self, moving: bool) -> Iterator[None]:
        """Let BatchNorm's running statistics move inside (in training mode), and not afterwards."""
        norms = [module for module in self.modules() if isinstance(module, _BatchNorm)]
        for norm in norms:
            norm.track_running_stats = moving
        try:
            yield
        finally:
            for norm in norms:
                norm.track_running_stats = False

    def resume(self, h: Tensor, layer: int) -> Tensor:
        """Compute the logits from h_l, forward through blocks l … L-1."""
        for block in range(layer, self.depth):
            h, _ = self.advance(h, block)
        logits: Tensor = self.readout(h)
        return logits

    def flat(self, h: Tensor) -> Tensor:
        """Return the (N, features) over which per-sample norms and cosines are taken."""
        return h.flatten(1)

    def feedback(self, block: int) -> nn.Module | None:
        """Make a linear module of block l's own kind, without biases, from h_l to h_{l+1}.

        `fa` redraws its weights, keeps them fixed, and carries the credit of h_{l+1} down to h_l by
        its transpose. None: a dense matrix between the two states.
        """
        return None

    def costate(self, states: States, y: Tensor) -> tuple[Tensor, ...] | None:
        """Compute λ_0 … λ_L, the exact ∂loss/∂h_l per sample; None without a closed form."""
        return None

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the trainable parameters by name; each group is clipped on its own."""
        blocks = {f"block_{i}": block for i, block in enumerate(self.blocks)}
        modules = {"embed": self.embed, **blocks, "readout": self.readout}
        groups = {name: list(module.parameters()) for name, module in modules.items()}
        trainable = {name: [p for p in own if p.requires_grad] for name, own in groups.items()}
        return {name: own for name, own in trainable.items() if own}

    def shared_parameter(self) -> str | None:
        """Return the name of a trainable parameter that belongs to two groups, or None."""
        grouped = [id(p) for own in self.groups().values() for p in own]
        shared = (name for name, p in self.named_parameters() if grouped.count(id(p)) > 1)
        return next(shared, None)

    def freeze_blocks(self, train_last: int = 0) -> None:
        """Freeze all blocks but the last `train_last`; ValueError if there are fewer."""
        if train_last > self.depth:
            blocks = f"more blocks than the {self.depth} that there are"
            raise ValueError(f"train_last: {train_last} asks for {blocks}")
        for block in self.blocks[: self.depth - train_last]:
            block.requires_grad_(False)

    def scale_blocks(self, factor: float) -> None:
        """Multiply the last weight matrix of every block, and the bias of its module.

        The last matrix is that of the module which a block registers last. Where nothing but
        ReLU or pooling follows it, f_l is `factor` times as large. A norm behind it undoes that.
        Raises ValueError for a block without a weight matrix.
        """
        for number, block in enumerate(self.blocks):
            modules = [[*module.parameters(recurse=False)] for module in block.modules()]
            last = [own for own in modules if any(p.dim() > 1 for p in own)][-1:]
            if not last:
                raise ValueError(f"block {number} has no weight matrix to scale")
            with torch.no_grad():
                for parameter in last[0]:
                    parameter.mul_(factor)


def tensors_of(net: Net) -> dict[str, Tensor]:
    """Return the parameters and buffers of a network by name."""
    return {**dict(net.named_parameters()), **dict(net.named_buffers())}


def input_shape(net: Net) -> tuple[int, ...]:
    """Return the shape of one input, with which the network was built."""
    shape: tuple[int, ...] = net.__dict__["_input_shape"]
    return shape


def copied(net: Net, seed: int) -> Net:
    """Copy a network, also one that cannot be deep-copied, such as one that caches activations.

    Such a network is built anew from `seed`, the seed of its cell, as a resumed training builds it;
    its parameters and buffers are loaded.
    """
    try:
        return copy.deepcopy(net)
    except Exception:
        like = next(net.parameters(), torch.empty(0))
        arguments, options = net.__dict__["_built_from"]
        with torch.random.fork_rng([like.device] if like.is_cuda else []):
            torch.manual_seed(seed)
            other = type(net)(*arguments, **options).to(like)
        other.load_state_dict(net.state_dict())
        other.loss = net.loss
        for own, parameter in zip(other.parameters(), net.parameters(), strict=True):
            own.requires_grad_(parameter.requires_grad)
        return other.train(net.training)


@contextmanager
def in_eval(net: Net) -> Iterator[None]:
    """Put a network into eval mode inside, and back into its mode afterwards."""
    was_training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(was_training)


def exact_gradients(
    net: Net, h: Tensor, y: Tensor, reduction: str = "sum", layer: int = 0
) -> tuple[Tensor, ...]:
    """Compute g_l … g_L = ∂loss/∂h_l by backpropagation from h_l (h_0), in one backward pass.

    reduction  "sum": per sample; "mean": of the batch-mean loss, 1/N times that
    """
    with torch.enable_grad():
        h = h.detach().requires_grad_()
        hs = [h]
        for block in range(layer, net.depth):
            h, _ = net.advance(h, block)
            hs.append(h)
        return torch.autograd.grad(net.loss(net.readout(h), y, reduction), hs)


def top_gradient(net: Net, h_last: Tensor, y: Tensor, reduction: str = "sum") -> Tensor:
    """Compute g_L = ∂loss/∂h_L through the readout alone, in the units of `exact_gradients`."""
    return exact_gradients(net, h_last, y, reduction, net.depth)[0]
