"""Honesty: a rule changes the network, its own state, and nothing else; and it learns from the
training set alone."""

from __future__ import annotations

import gc
from dataclasses import fields
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn

from bench_core.testing.comparing import copies, must_equal, must_preserve
from bench_core.testing.global_state import preserved
from bench_core.testing.kit import Failed, check
from bench_core.testing.subjects import MethodSubject
from bench_core.testing.trials import Trial, toy_data
from bench_core.training.data import TENSORS
from bench_core.training.net import in_eval


def audit(trial: Trial, shift: int = 0) -> None:
    """Ask for the credit on the test set, as an audit does, with its labels or with others."""
    data = trial.data
    y = (data.test_y + shift) % data.classes
    with in_eval(trial.net):
        with torch.no_grad():
            states = trial.net.states(data.test_x)
        trial.method.credit(states.detach(y), y, trial.epoch)


@check("method", "honesty")
def audits_teach_nothing(subject: MethodSubject) -> None:
    """The inputs and labels of the test set, which an audit shows the rule, train nothing."""
    subject.must_repeat_its_credit()
    alone = subject.trial(seed=3).steps(4).bits()
    trial = subject.trial(seed=3)
    shifts = cycle((0, 1))
    must_equal(
        alone,
        trial.steps(4, after=lambda: audit(trial, next(shifts))).bits(),
        "{} is another one where credit() was called in an audit between the steps, with "
        "inputs and labels of the test set: let credit() change nothing, and do in learn() "
        "what a step changes",
    )


@check("method", "honesty")
def data_stay_as_they_are(subject: MethodSubject) -> None:
    """Neither the batch of a step, nor the states given to credit(), nor the data set are
    changed in place."""
    trial = subject.trial().steps(1)
    x, y = trial.batch()
    states, labels = trial.states()
    audit(trial)
    given = {"x of a step": x, "y of a step": y, "y of a credit": labels}
    for field in fields(states):
        value, name = getattr(states, field.name), f"states.{field.name}"
        if isinstance(value, Tensor):
            given["states.output_error" if field.name == "error" else name] = value
        elif isinstance(value, tuple):
            given |= {f"{name}[{i}]": tensor for i, tensor in enumerate(value)}
    before = copies(given)
    trial.method.step(x, y, trial.epoch)
    trial.method.credit(states, labels, trial.epoch)
    audit(trial)
    loaded = toy_data()  # as it was before setup and the first step
    before |= {name: getattr(loaded, name) for name in TENSORS}
    given |= {name: getattr(trial.data, name) for name in TENSORS}
    must_equal(before, given, "{} is changed in place: change a copy, by x = x + 1 and not x += 1")


@check("method", "honesty")
def no_batches_are_kept(subject: MethodSubject) -> None:
    """The tensors that the method holds do not grow from step to step, and from audit to audit."""
    trial = subject.trial()
    before, after = (
        _held(trial.steps(3, first=first, after=lambda: audit(trial)).method) for first in (0, 3)
    )
    if after > before:
        raise Failed(
            f"the method holds {before:,} bytes of tensors after 3 steps and {after:,} after 6: "
            "it keeps batches"
        )


def _held(root: Any) -> int:
    """Bytes of the distinct tensors that can be reached from `root`."""
    seen: set[int] = set()
    waiting, total = [root], 0
    kinds = (dict, list, tuple, set, Tensor, nn.Module, type(root))

    def followed(part: Any) -> bool:
        own = hasattr(part, "__dict__") and type(part).__module__ != "builtins"
        return isinstance(part, kinds) or (own and not isinstance(part, type))

    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            total += item.untyped_storage().nbytes()
        waiting += filter(followed, gc.get_referents(item))
    return total


@check("method", "honesty")
def global_state_stays_as_it_is(subject: MethodSubject) -> None:
    """Seeds, default dtype, backend flags, grad mode, threads, working folder, environment, and
    the functions of torch and of the core are the same after training as before."""
    with preserved() as changes:
        trial = subject.trial(before=lambda net: changes.start())
        audit(trial.steps(3))
    must_preserve(changes, "training")
