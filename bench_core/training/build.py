"""Build the data, the network and the learning rule of a cell, as they are before the first step.

Training and late audits share this function, so a checkpoint fits the network that was trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench_core.errors import BenchError
from bench_core.training import processor
from bench_core.training.data import Data, Held, loaded
from bench_core.training.method import Method
from bench_core.training.net import Net, tensors_of
from bench_core.training.params import ParamsModel
from bench_core.training.saved_state import part, storable
from bench_core.training.setup import set_up_beside_copy, trained_blocks

Part = tuple[Any, ParamsModel]  # the class of a component and its validated parameters


@dataclass(frozen=True)
class Built:
    """A cell before its first step.

    initial  copies of the network's parameters and buffers
    sums     checksums of the data set's tensors, as loaded
    bare     a copy of the network from before the rule's `setup`, for evaluations
    """

    net: Net
    method: Method
    data: Held
    initial: Mapping[str, Tensor]
    sums: Mapping[str, str]
    bare: Net

    def steps_per_batch(self, epochs: int) -> tuple[float, float] | None:
        """Return the recipe's fewest and most steps a batch, over the parameters that changed.

        The recipe takes one step a batch. The fewest is 0 where a rule changes a parameter by other
        means than `tools.updater`: the watched steps show it (`training.loop`), or the lack of any
        step. It is below 1 where a rule takes turns. None for an unchanged network.
        """
        batches = epochs * self.method.task.steps_per_epoch
        updater = self.method.tools.updaters[0]
        taken = [
            updater.taken(parameter) / batches
            for name, parameter in self.net.named_parameters()
            if batches and not torch.equal(parameter, self.initial.get(name, parameter))
        ]
        return (0.0 if updater.others else min(taken), max(taken)) if taken else None

    def blocks_changed(self) -> tuple[int, int]:
        """Return how many blocks have a changed parameter, and how many the options let train.

        Blocks without a parameter are not counted.
        """
        first = self.net.depth - trained_blocks(self.method, self.net)
        changed = [
            any(
                not torch.equal(value, self.initial.get(f"blocks.{i}.{name}", value))
                for name, value in block.named_parameters()
            )
            for i, block in enumerate(self.net.blocks)
            if i >= first and any(True for _ in block.parameters())
        ]
        return sum(changed), len(changed)


def build(
    parts: Sequence[Part],
    training: dict[str, Any],
    options: Mapping[str, Any],
    seed: int,
    data_dir: Path | None,
) -> Built:
    """Load the data, draw the network and set the rule up.

    Sets the threads, the determinism, the matrix library and the precision of float32 products of
    this process. Raises BenchError if the data do not fill a batch, or if a checkpoint cannot hold
    the network or the rule.

    parts     of the rule, the architecture and the data set
    training  the cell's settings, with the device
    options   the cell's `data` (`selected`)
    """
    device = training["device"]
    if device == "cpu":
        processor.matmul_library()
    torch.set_num_threads(training["threads"])
    # as use_deterministic_algorithms, which would import torch's compiler: 1.2 s of CPU
    torch.set_deterministic_debug_mode("error" if training["deterministic"] else "default")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # torch's default for convolutions on a GPU is TF32: it keeps 10 of the 23 bits of a factor
    torch.backends.cudnn.allow_tf32 = False
    (rule_class, rule_params), (net_class, net_params), (data_class, data_params) = parts
    held = Held(selected(loaded(data_class(data_params), data_dir), options).to(device))
    data = held.training
    count, batch = len(data.train_y), training["batch_size"]
    if count < batch:
        raise BenchError(
            f"{count} training samples do not fill one batch of {batch}; "
            "use a smaller training.batch_size, a larger data.limit or a smaller data.validation"
        )
    sums = held.opened().sums()
    torch.manual_seed(seed)
    net = net_class(net_params, data.train_x.shape[1:], data.classes).to(device)
    rule = rule_class(rule_params)
    bare = set_up_beside_copy(rule, net, data, training, seed)
    initial = part(storable(net, rule), "net.")
    initial = {**initial, **tensors_of(net)}  # also those that are in no state_dict
    initial = {name: value.detach().clone() for name, value in initial.items()}
    if training["compile"]:
        if fault := processor.compiler_fault(device):
            print(f"training.compile: the blocks are not compiled: {fault}")
        else:
            torch._dynamo.config.suppress_errors = True  # a block that does not compile runs as is
            for block in (*net.blocks, *bare.blocks):
                block.compile()
    return Built(net, rule, held, initial, sums, bare)


def selected(data: Data, options: Mapping[str, Any]) -> Data:
    """Return the part of a data set that a cell uses. Raises BenchError.

    validation   training samples to hold out (`Data.hold_out`), before the limit
    limit        the first N of the other training samples; None: all
    evaluate_on  validation: these samples take the place of the test set, which is dropped
    """
    if count := options.get("validation"):
        try:
            data = data.hold_out(count)
        except ValueError as error:
            raise BenchError(f"data.validation: {error}") from None
    if options.get("evaluate_on") == "validation":
        data = data.validated() or data
    return data.limit(options["limit"])
