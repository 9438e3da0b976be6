"""Cost of a step: the products that a rule computes, and the activations that it keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from bench_plugins.diagnostics.expect import value_is
from bench_plugins.methods.bp import Backprop
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bench_core.api import Control, Diagnostic, Measured, Method, Net
from bench_core.training.audit import Audit
from bench_core.training.copies import CannotCopy, copies

PHASES = ("forward", "credit", "update")


class Flops(TorchDispatchMode):
    """Count the operations of products and convolutions by torch's formulas, phase by phase.

    It sees each operator below autograd, so also those of `autograd.grad` and of the backward pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self.phase, self.count = "credit", Counter[str]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func.overloadpacket):
            self.count[self.phase] += formula(*args, **(kwargs or {}), out_val=result)
        return result

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Count what is computed inside under this phase, unless an outer phase is counted."""
        outer = self.phase
        self.phase = phase if outer == "credit" else outer
        try:
            yield
        finally:
            self.phase = outer


class Stored:
    """Add up the bytes that autograd keeps for a backward pass, each memory once.

    known   tensors that exist anyway: parameters, buffers, the batch
    peak    the most bytes that were kept at one time
    """

    def __init__(self, known: Iterator[Tensor]) -> None:
        self.known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.uses, self.now, self.peak = Counter[int](), 0, 0

    def hooks(self) -> saved_tensors_hooks:
        stored = self

        class Kept:
            def __init__(self, tensor: Tensor) -> None:
                self.tensor, self.storage = tensor, tensor.untyped_storage()
                stored.add(self.storage, 1)

            def __del__(self) -> None:
                stored.add(self.storage, -1)

        return saved_tensors_hooks(Kept, lambda kept: kept.tensor)

    def add(self, storage: torch.UntypedStorage, uses: int) -> None:
        place = storage.data_ptr()
        if place not in self.known:
            before = self.uses[place]
            self.uses[place] += uses
            self.now += storage.nbytes() * (bool(self.uses[place]) - bool(before))
            self.peak = max(self.peak, self.now)


class StepCost(Diagnostic):
    """The floating-point operations of one training step, in multiples of bp's.

    The step is taken on n samples of the probe: a batch of the training's size, at most 128.

    Counted are products and convolutions, by torch's formulas (a product of (n, k) and (k, m) takes
    2nkm), on a copy of the network and the rule. `forward` is the first pass through `Net.states`;
    `update` the backward pass of the network's updater; `credit` everything else, such as
    relaxations, further passes, and the learning of auxiliary networks. Backpropagation itself has
    forward and update alone. Elementwise operations, norms, clipping and AdamW are not counted.
    Attention is computed by its two products, not by a fused kernel of the device, of which torch
    has no formula on a CPU.

        forward, credit, update   operations of a step;   bp   of a step of backpropagation
        stored_bytes     the most bytes that autograd keeps for backward passes at one time, without
                         the network's parameters and the inputs of the batch; labels (8 bytes a
                         sample) and weights of auxiliary networks count;   bp_stored_bytes   of bp
        bp_checkpointed_bytes   of bp that keeps the input of each block alone and computes the
                         block again: Σ_l |h_l| + the largest block's + embedding's and readout's,
                         without what the loss keeps (4NC + 8N + 4 bytes of C classes)
        steps_per_epoch  of the training

    A rule that updates block by block could keep less than it does here. value = (forward + credit
    + update) / bp.
    Source: the definitions are ours; the formulas are those of `torch.utils.flop_counter`.
    """

    unit = "x"
    title, heading = "operations of a step, in multiples of bp's", "FLOPs / bp"

    def measure(self, audit: Audit) -> Measured:
        if audit.method is None:
            return Measured(None, not_diagnostic="there is no rule to take a step")
        batch = audit.batches[0]
        n = min(len(batch.y), audit.method.task.batch_size)
        x, y = batch.states.x[:n].clone(), batch.y[:n].clone()
        try:
            with sdpa_kernel(SDPBackend.MATH):
                own, kept = step(audit.method, x, y, audit.epoch)
                reference, bp_kept = step(backprop(audit.method), x, y, audit.epoch)
                states = [h[:n].clone() for h in batch.states.h]
                with copies(audit.method) as (_, net):
                    checkpoints = checkpointed(net, x, states)
        except CannotCopy as error:
            return Measured(None, not_diagnostic=str(error))
        details = {
            **{phase: own[phase] for phase in PHASES},
            "bp": reference.total(),
            "stored_bytes": kept,
            "bp_stored_bytes": bp_kept,
            "bp_checkpointed_bytes": checkpoints,
            "n": n,
            "steps_per_epoch": audit.method.task.steps_per_epoch,
        }
        if not reference.total():
            return Measured(None, details, "no operation of bp has a known formula")
        return Measured(own.total() / reference.total(), details)

    def controls(self) -> list[Control]:
        def become(times: int) -> Callable[[Audit], None]:
            def change(audit: Audit) -> None:
                assert audit.method is not None
                audit.method = backprop(audit.method, _Repeated)
                audit.method.times = times  # type: ignore[attr-defined]

            return change

        return [
            Control("backpropagation", become(1), value_is(lambda v: v == 1)),
            Control("three of its steps", become(3), value_is(lambda v: v == 3)),
        ]


class _Repeated(Backprop):
    """Backpropagation that computes each step several times."""

    times = 1

    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        for _ in range(self.times):
            loss = super().step(x, y, epoch)
        return loss


def backprop(method: Method, kind: type[Backprop] = Backprop) -> Method:
    """Make backpropagation on the network of a rule, with its frozen blocks and its penalty."""
    rule = kind(Backprop.Params(penalty=method.params.penalty))
    tools = replace(method.tools, updaters=[method.tools.updater])
    rule.setup(method.net, method.task, tools)
    return rule


def step(method: Method, x: Tensor, y: Tensor, epoch: int) -> tuple[Counter[str], int]:
    """Take a step on copies; return the operations by phase, and the most bytes kept."""
    with copies(method) as (own, net):
        flops, states, descend = Flops(), net.states, own.tools.updater.descend
        passes = iter(["forward"])

        def counted_states(*arguments: Any, **options: Any) -> Any:
            with flops.during(next(passes, "credit")):
                return states(*arguments, **options)

        def counted_descend(*arguments: Any, **options: Any) -> None:
            with flops.during("update"):
                descend(*arguments, **options)

        net.states = counted_states  # type: ignore[method-assign]
        own.tools.updater.descend = counted_descend  # type: ignore[method-assign]
        stored = Stored(iter([x, *net.parameters(), *net.buffers()]))
        with torch.random.fork_rng(), torch.enable_grad(), stored.hooks(), flops:
            own.step(x, y, epoch)
        return flops.count, stored.peak


def checkpointed(net: Net, x: Tensor, h: Sequence[Tensor]) -> int:
    """Compute the bytes that bp keeps if it computes each block again in its backward pass."""
    states = [each.detach().requires_grad_() for each in h]
    exists = [x, *states[:-1], *net.parameters(), *net.buffers()]

    def kept(call: Callable[[], Tensor]) -> int:
        stored = Stored(iter(exists))
        with torch.enable_grad(), stored.hooks():
            result = call()  # which holds the graph; itself it is one of the states
        own = result.untyped_storage()
        return stored.peak - (own.nbytes() if stored.uses[own.data_ptr()] else 0)

    with torch.random.fork_rng():
        blocks = [kept(lambda b=b: net.advance(states[b], b)[0]) for b in range(net.depth)]
        ends = kept(lambda: net.embed(x)) + kept(lambda: net.readout(states[-1]))
    return sum(each.nbytes for each in states[:-1]) + max(blocks, default=0) + ends
