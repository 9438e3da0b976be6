"""Determinism: a cell's numbers depend on the cell alone."""

from __future__ import annotations

import copy

import torch

from bench_core.testing.kit import Failed, check
from bench_core.testing.subjects import FIRST_DRAWS, MethodSubject, equal, reseed


@check("method", "determinism")
def the_same_seed_gives_the_same_bits(subject: MethodSubject) -> None:
    """Two cells of one seed end with the same weights, feedback and auxiliary networks, bit by bit."""
    ends = []
    for start in (0, 1):
        reseed()
        trial = subject.trial(seed=3)
        torch.manual_seed(start)  # the global generator is not the cell's once the network is drawn
        ends.append(trial.steps(4).bits())
    name = equal(*ends)
    if name is not None:
        raise Failed(
            f"{name} differs between two runs of the same seed: draw from tools.generator or tools.aux_generator"
        )


@check("method", "determinism")
def a_copy_goes_on_as_the_original_would(subject: MethodSubject) -> None:
    """Interrupted after two steps and taken up from a copy of method and network, a run ends as the straight one does."""
    straight = subject.trial(seed=3).steps(4).bits()
    trial = subject.trial(seed=3).steps(2)
    resumed = copy.deepcopy(trial)
    trial.steps(3, first=5)  # the original goes its own way: nothing of it may be shared with the copy
    name = equal(straight, resumed.steps(2, first=2).bits())
    if name is not None:
        raise Failed(
            f"{name} differs after taking up a copy: the rule keeps state outside of the method and the network"
        )


@check("method", "determinism")
def other_cells_do_not_matter(subject: MethodSubject) -> None:
    """What ran before in the same process, with another seed and another network, changes nothing."""
    alone = subject.trial(seed=3).steps(3).bits()
    other = subject.trial(seed=4)
    if FIRST_DRAWS[subject.target] != other.tools_drawn():
        raise Failed(
            "setup() drew from its generators in the first cell of the process, and does not now: what is kept?"
        )
    other.steps(3)
    name = equal(alone, subject.trial(seed=3).steps(3).bits())
    if name is not None:
        raise Failed(f"{name} differs when another cell ran before: the rule keeps state in its class or module")


@check("method", "determinism")
def an_audit_draws_nothing(subject: MethodSubject) -> None:
    """credit() leaves the training's random streams as they were, so that measuring more often trains nothing else."""
    trial = subject.trial(seed=3).steps(1)
    tools = trial.method.tools
    streams = {"tools.generator": tools.generator, "tools.aux_generator": tools.aux_generator}
    before = {name: generator.get_state() for name, generator in streams.items()}
    trial.method.credit(*trial.states(), 3)
    for name, generator in streams.items():
        if not torch.equal(before[name], generator.get_state()):
            raise Failed(
                f"credit() draws from {name}: draw in learn(), or from a generator of its own that it seeds anew"
            )
