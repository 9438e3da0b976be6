"""Take one training step on a copy of the network and its rule, and keep the update."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from bench_plugins.methods.bp import Backprop
from torch import Tensor

from bench_core.api import Method, Net
from bench_core.training.audit import Audit
from bench_core.training.copies import copies
from bench_core.training.optimizer import AdamW
from bench_core.training.probe import ProbeBatch

BATCHES = 4  # probe batches on which a step is taken


@dataclass(frozen=True)
class Update:
    """The update of one step on one batch, by the names of the network's parameters.

    raw       −(the gradient that the rule gives), before clipping and optimiser
    adamw     change by the optimiser of the training, clipped, with its moments; None: the network
              comes from a checkpoint, which holds no moments
    gradient  ∂/∂θ of the batch-mean loss by backpropagation, in the mode of the training
    """

    raw: dict[str, Tensor]
    adamw: dict[str, Tensor] | None
    gradient: dict[str, Tensor]


def one_update(audit: Audit, batch: ProbeBatch) -> Update:
    """Carry out one step of the rule on a probe batch, on copies. Raises CannotCopy.

    The step and the reference gradient get the same draws, such as the masks of dropout.
    Weights, moments, streams and auxiliary networks of the training stay as they are. Parts that an
    updater trains learn nothing before the credit is used, so it is the one that the audit sees,
    but for rules that draw in every step (noise_credit, node_perturbation) or change such parts
    themselves (error_decorrelation): of those it is the next credit.
    """
    method = audit.method
    assert method is not None
    with copies(method) as (own, net), torch.random.fork_rng(), torch.enable_grad():
        own.step(batch.states.x, batch.y, audit.epoch)
    with torch.random.fork_rng(), torch.enable_grad():
        raw = {name: -_grad(p) for name, p in net.named_parameters() if p.requires_grad}
        adamw = _by_optimiser(method, own, net)
        net.zero_grad()
        loss = net.loss(net.states(batch.states.x, statistics=False).logits, batch.y)
        names, parameters = zip(
            *[(n, p) for n, p in net.named_parameters() if n in raw], strict=True
        )
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return Update(raw, adamw, dict(zip(names, gradients, strict=True)))


def _grad(parameter: Tensor) -> Tensor:
    return (
        torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.detach().clone()
    )


def _by_optimiser(method: Method, own: Method, net: Net) -> dict[str, Tensor] | None:
    """Return the change of the parameters by the training's optimiser; None without moments."""
    trained = method.tools.updater
    if not trained.optimiser.state:
        return None
    groups, options = own.tools.updater.groups, trained.optimiser.param_groups[0]
    everything = [p for parameters in groups.values() for p in parameters]
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimiser = AdamW(
        everything, lr=options["lr"], weight_decay=options["weight_decay"], fused=True
    )
    optimiser.load_state_dict(copy.deepcopy(trained.optimiser.state_dict()))
    if trained.clip_norm is not None:
        own.tools.updater.clip(trained.clip_norm)
    optimiser.step()
    change = {n: p.detach() - before[n] for n, p in net.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(before[name])
    return change


def by_group(net: Net, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join the values of each group (embed, block_l, readout) into one vector, in float64."""
    groups: dict[str, list[Tensor]] = {}
    for name, value in values.items():
        part, _, rest = name.partition(".")
        group = f"block_{rest.partition('.')[0]}" if part == "blocks" else part
        groups.setdefault(group, []).append(value.detach().double().flatten())
    return {name: torch.cat(parts) for name, parts in groups.items()}


class _Signed(Backprop):
    """Backpropagation up or down the loss."""

    sign = 1.0

    def step(self, x: Tensor, y: Tensor, epoch: int) -> Tensor:
        loss = self.net.loss(self.net.states(x).logits, y)
        self.tools.updater.descend(self.sign * loss)
        return loss.detach()


def steps_become(sign: float) -> Callable[[Audit], None]:
    """Make a control in which the rule is backpropagation (1) or its opposite (−1)."""

    def change(audit: Audit) -> None:
        assert audit.method is not None
        rule = _Signed(Backprop.Params())
        rule.sign = sign
        rule.setup(audit.net, audit.method.task, audit.method.tools)
        audit.method = rule

    return change
