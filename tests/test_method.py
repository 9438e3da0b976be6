"""Tests of `Method.kept`: what a rule puts there is saved and restored."""

from __future__ import annotations

from typing import Any

import torch
from bench_plugins.methods.dfa import DirectFeedbackAlignment
from torch import nn

from bench_core.testing.subjects import MethodSubject


class Keeper(DirectFeedbackAlignment):
    """A rule that keeps a tensor, a parameter, a module and another rule."""

    def setup(self, net: Any, task: Any, tools: Any) -> None:
        super().setup(net, task, tools)
        self.dfa = DirectFeedbackAlignment(self.params)
        self.dfa.setup(net, task, tools)
        self.weight = nn.Parameter(self.draw(3))
        self.part = nn.Linear(2, 1)
        self.kept |= {"weight": self.weight, "part": self.part, "dfa": self.dfa}

    def after_update(self, epoch: int) -> None:
        self.kept["late"] = torch.ones(())


def test_parts_of_kept_are_saved_under_their_names() -> None:
    method = MethodSubject(Keeper, {}).trial("residual").method
    own = {f"B_{layer}" for layer in range(3)}
    parts = {"weight", "part.weight", "part.bias", *(f"dfa.{name}" for name in own)}
    assert set(method.state_dict()) == own | parts
    assert not any(value.requires_grad for value in method.state_dict().values())


def test_kept_is_restored_in_place_where_an_optimiser_may_hold_it() -> None:
    trained = MethodSubject(Keeper, {}).trial("residual", seed=0).steps(1).method
    fresh = MethodSubject(Keeper, {}).trial("residual", seed=1).method
    fresh.load_state_dict(trained.state_dict())
    assert fresh.state_dict().keys() == trained.state_dict().keys() | {"late"}
    for name, value in trained.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value)
    assert fresh.kept["weight"] is fresh.weight
    assert torch.equal(fresh.weight, trained.weight)
    assert torch.equal(fresh.part.weight, trained.part.weight)
    assert torch.equal(fresh.dfa.state_dict()["B_0"], trained.dfa.state_dict()["B_0"])
