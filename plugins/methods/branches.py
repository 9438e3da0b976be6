"""The auxiliary credits of blend: the variants of vec's fit, by branch."""

from __future__ import annotations

from typing import Any

import torch
from bench_plugins.methods.loss_change import LossChangeFit
from bench_plugins.methods.perlayer_vector import LayerVectors
from torch import Generator, Tensor

from bench_core.api import Net, Task, Tools


def shuffled(changes: Tensor, draws: Generator) -> Tensor:
    """Permute the changes of each state over the batch."""
    orders = [torch.randperm(row.numel(), generator=draws) for row in changes]
    return changes.gather(1, torch.stack(orders).to(changes.device))


def fresh(changes: Tensor, draws: Generator) -> Tensor:
    """Draw Gaussian noise with the rms of the changes of each state."""
    noise = torch.randn(changes.shape, generator=draws).to(changes)
    return noise * changes.square().mean(1, keepdim=True).sqrt()


def branch_fit(branch: str, net: Net, task: Task, tools: Tools, params: Any) -> LossChangeFit:
    """Return vec's fit with the network, inputs and targets of the branch."""
    vectors = branch == "perlayer_vector"
    fit = LossChangeFit(
        net,
        task,
        tools,
        params,
        (lambda width: LayerVectors(net.depth, width)) if vectors else None,
    )
    zero = torch.zeros_like

    match branch:
        case "time_only":
            fit.sees = lambda h, t, s: (zero(h), t, zero(s))
        case "constant_input":
            fit.sees = lambda h, t, s: (zero(h), zero(t), zero(s))
        case "shuffled_trainable":
            fit.target = shuffled
        case "fresh_random_target":
            fit.target = fresh
        case "zero_target":
            fit.target = None
    return fit
