"""A cell made into things that run: data, network and method, as its worker had them before the first step.

The same function serves training and late audits, so that a checkpoint is loaded into exactly what was trained.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench_core import plugins, processor
from bench_core.api import Diagnostic, Method
from bench_core.data import Data
from bench_core.errors import BenchError
from bench_core.net import Net
from bench_core.record import Cell
from bench_core.train import set_up


@dataclass(frozen=True)
class Built:
    """What a cell is made of.

    initial  the network's parameters and buffers before training, copies
    sums     of the data set's tensors as they were loaded
    """

    net: Net
    method: Method
    data: Data
    initial: Mapping[str, Tensor]
    sums: Mapping[str, str]


def make(registry: plugins.Registry, kind: Any, name: str, params: dict[str, Any]) -> tuple[Any, Any]:
    """A component's class and its validated parameters."""
    target = plugins.resolve(registry.find(kind, name))
    return target, target.Params.model_validate_json(json.dumps(params))


def build(registry: plugins.Registry, cell: Cell, training: dict[str, Any], data_dir: Path | None) -> Built:
    """Load the data, draw the network, set the method up. Sets threads, determinism and matrix products of this process.

    training  the cell's, with the device
    """
    if training["device"] == "cpu":
        processor.matmul_library()
    torch.set_num_threads(training["threads"])
    torch.use_deterministic_algorithms(training["deterministic"])
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    dataset, dataset_params = make(registry, "dataset", cell.dataset.name, cell.dataset.params)
    arch, arch_params = make(registry, "arch", cell.arch.name, cell.arch.params)
    rule, rule_params = make(registry, "method", cell.method.name, cell.method.params)
    device = training["device"]
    data = dataset(dataset_params).load(data_dir).limit(cell.data["limit"]).to(device)
    if len(data.train_y) < training["batch_size"]:
        raise BenchError(
            f"{len(data.train_y)} training samples do not fill one batch of {training['batch_size']}; "
            "use a smaller training.batch_size or a larger data.limit"
        )
    sums = data.sums()
    torch.manual_seed(cell.seed)
    net = arch(arch_params, data.train_x.shape[1:], data.classes).to(device)
    method = rule(rule_params)
    set_up(method, net, data, training, cell.seed)
    for name, value in method.state_dict().items():
        if not isinstance(value, Tensor):
            raise BenchError(
                f"state_dict() of {cell.method.short} holds {name!r}, of type {type(value).__name__}: only tensors can be kept"
            )
    initial = {name: value.detach().clone() for name, value in net.state_dict().items()}
    return Built(net, method, data, initial, sums)


def diagnostics(registry: plugins.Registry, entries: Iterable[Mapping[str, Any]]) -> list[tuple[str, Diagnostic]]:
    """(short name, diagnostic) of each `{"name": …, "params": …}`."""
    found = []
    for entry in entries:
        kind, params = make(registry, "diagnostic", entry["name"], entry["params"])
        found.append((entry["name"].rpartition("/")[2], kind(params)))
    return found
