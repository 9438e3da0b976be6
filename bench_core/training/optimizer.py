"""Optimise by AdamW with one clip per group and a cosine schedule (docs/protocol.md, section 4)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import unwrap
from typing import Any

import torch
from torch import Tensor, nn

from bench_core.errors import BenchError


class AdamW(torch.optim.AdamW):
    """torch's AdamW without the wrappers that import torch's compiler: 1.2 s of CPU per process."""

    add_param_group = unwrap(torch.optim.AdamW.add_param_group)
    load_state_dict = unwrap(torch.optim.AdamW.load_state_dict)
    state_dict = unwrap(torch.optim.AdamW.state_dict)
    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))
    zero_grad = unwrap(torch.optim.AdamW.zero_grad)


class Updater:
    """AdamW over named groups of parameters; each group's gradient is clipped on its own.

    groups      every block, the embedding, the readout; or one auxiliary network
    clip_norm   largest L2 norm of a group's gradient; None: no clipping
    trial       whether a step is only tried, on a copy of the rule: nothing learns, so a rule can
                leave out passes over the data that only teach (`bench_core.training.copies`)
    """

    trial = False

    def __init__(
        self,
        groups: Mapping[str, Sequence[nn.Parameter]],
        lr: float,
        weight_decay: float,
        clip_norm: float | None,
    ) -> None:
        self.groups = {name: list(parameters) for name, parameters in groups.items()}
        self.clip_norm = clip_norm
        self.recipe: dict[str, set[Any]] | None = None  # the settings that a step must have
        everything = [p for parameters in self.groups.values() for p in parameters]
        self.optimiser = AdamW(
            everything or [torch.zeros(())], lr=lr, weight_decay=weight_decay, fused=True
        )
        self.given = self._settings()
        self.others = False  # whether parameters or moments were seen to change by other means
        self.seen: list[Tensor] | None = None  # copies after the last step of a watched one
        # torch's count of the writes to each of them at that point: it misses `.data` and fused
        # optimisers
        self.written: list[int] | None = None
        self.suspect = False  # whether one was written since by other means, perhaps undone

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of an auxiliary network; that of the network follows the recipe."""
        for group in self.optimiser.param_groups:
            group["lr"] = lr

    def follow(self, lr: float) -> None:
        """Set the learning rate of the recipe for an epoch: `descend` refuses another one."""
        self.set_lr(lr)
        self.recipe = {**self.given, "lr": {_plain(lr)}}
        self.written = self._versions()  # measurements between epochs may write and undo it

    def _settings(self) -> dict[str, set[Any]]:
        """Return the values of each setting of the optimiser, and of the clipping, by name."""
        settings: dict[str, set[Any]] = {"clip_norm": {_plain(self.clip_norm)}}
        for group in self.optimiser.param_groups:
            for name, value in group.items():
                if name != "params":
                    settings.setdefault(name, set()).add(_plain(value))
        return settings

    def descend(
        self, tensors: Tensor | Sequence[Tensor], gradients: Sequence[Tensor | None] | None = None
    ) -> None:
        """Take one step down the gradient of `tensors`, or none if there is no parameter to train.

        tensors    a loss, or several tensors with the gradients that seed them
        """
        if not self.groups:
            return
        if self.recipe is not None and (settings := self._settings()) != self.recipe:
            name = min(n for n in settings | self.recipe if settings.get(n) != self.recipe.get(n))
            own, theirs = (
                " and ".join(sorted(map(_written, each.get(name, ())))) or "none"
                for each in (settings, self.recipe)
            )
            shown = {"lr": "learning rate"}.get(name, name.replace("_", " "))
            raise BenchError(
                f"a step of the network has the {shown} {own}, and the recipe has {theirs}: the "
                "suite's `training` is the same for all rules, and `bench tune` searches the "
                "learning rate and the weight decay of each"
            )
        watched = self.seen is not None
        self._compare()
        self.seen = None  # two copies at once would be too many
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(tensors, gradients)
        if self.clip_norm is not None:
            self.clip(self.clip_norm)
        self.optimiser.step()
        self.written = self._versions()
        if watched:
            self.seen = self._copies()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Set `others` if a parameter, or a moment of the optimiser, changes in the block by other
        means than `descend`."""
        self.seen = self._copies()
        try:
            yield
            self._compare()
        finally:
            self.seen = None

    def shares(self, other: Updater) -> bool:
        """Decide whether the two train a parameter in common."""
        own, theirs = (
            {id(p) for group in updater.groups.values() for p in group} for updater in (self, other)
        )
        return not own.isdisjoint(theirs)

    def _parameters(self) -> list[nn.Parameter]:
        return [p for own in self.groups.values() for p in own]

    def _moments(self) -> list[Tensor]:
        """Return the moments of the optimiser, once they exist."""
        states = (self.optimiser.state.get(p, {}) for p in self._parameters())
        return [v for own in states for v in own.values() if isinstance(v, Tensor)]

    def _copies(self) -> list[Tensor]:
        """Return copies of the parameters, and of each moment its sum and its norm."""
        return [p.detach().clone() for p in self._parameters()] + self._sums()

    def _sums(self) -> list[Tensor]:
        sums = []
        for v in self._moments():
            exact = torch.float32 if v.device.type == "mps" else torch.float64
            sums.append(torch.stack([v.sum(dtype=exact), torch.linalg.vector_norm(v, dtype=exact)]))
        return sums

    def _versions(self) -> list[int]:
        return [value._version for value in (*self._parameters(), *self._moments())]

    def _compare(self) -> None:
        self.suspect |= self.written is not None and self.written != self._versions()
        if self.seen is not None:
            now = [*(p.detach() for p in self._parameters()), *self._sums()]
            self.others |= len(now) != len(self.seen) or not all(map(_alike, now, self.seen))

    def taken(self, parameter: nn.Parameter) -> int:
        """Return the number of steps that this optimiser has taken on a parameter."""
        return int(self.optimiser.state.get(parameter, {}).get("step", 0))

    def clip(self, largest: float) -> None:
        """Scale the gradient G of each group by min(1, largest / (‖G‖ + 1e-6)).

        The same figures as `torch.nn.utils.clip_grad_norm_` per group, bit by bit, in two thirds of
        its time: the coefficients of all groups are computed together.
        """
        gradients = [[p.grad for p in own if p.grad is not None] for own in self.groups.values()]
        gradients = [own for own in gradients if own]
        if not gradients:
            return
        norms = iter(torch._foreach_norm([g for own in gradients for g in own]))
        group_norms = [
            torch.linalg.vector_norm(torch.stack([next(norms) for _ in own])) for own in gradients
        ]
        factors = (largest / (torch.stack(group_norms) + 1e-6)).clamp(max=1.0)
        for own, factor in zip(gradients, factors, strict=True):
            torch._foreach_mul_(own, factor)


def _alike(one: Tensor, other: Tensor) -> bool:
    """Decide whether two tensors are equal; NaN is equal to NaN."""
    return torch.equal(one, other) or torch.equal(one.nan_to_num(), other.nan_to_num())


def _plain(value: Any) -> Any:
    """Return a setting in one form: a rule may give a list, or a tensor of float32."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def cosine(lr: float, epoch: int, epochs: int) -> float:
    """Compute lr·½(1 + cos(π·epoch/epochs)), the learning rate of the epoch counted from 0."""
    return lr * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
