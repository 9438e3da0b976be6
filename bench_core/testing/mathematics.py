"""Mathematics: the laws that every rule obeys, and those that a rule declares
(`bench_core.api.Laws`)."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from bench_core.testing.kit import check
from bench_core.testing.nets import Dense, ProbeNet
from bench_core.testing.outcomes import Failed, Skipped
from bench_core.testing.subjects import BATCH, TRAINING, MethodSubject, Trial, distance
from bench_core.training.local_method import LocalMethod
from bench_core.training.loss import Loss
from bench_core.training.net import exact_gradients


def declared(subject: MethodSubject, law: str, example: str) -> Any:
    """Return the declared value of a law. Raises Skipped if the rule does not declare it."""
    value = getattr(subject.target.laws, law)
    if value is None or value is False:
        raise Skipped(f"not declared: Laws({law}={example})")
    return value


@check("method", "mathematics")
def no_learning_rate_no_change(subject: MethodSubject) -> None:
    """With learning rate 0 a step leaves every weight of the network as it was."""
    trial = subject.trial(training={"learning_rate": 0.0})
    for name, change in trial.changes(2).items():
        if bool((change != 0).any()):
            raise Failed(
                f"{name} changes at learning rate 0: the network's weights are tools.updater's "
                "to change"
            )


@check("method", "mathematics")
def the_penalty_reaches_the_blocks(subject: MethodSubject) -> None:
    """`penalty: λ` adds λ·mean_batch ‖f_l‖² to the loss of every block, or is refused."""
    try:
        subject.method(penalty=1.0)
    except ValidationError as error:
        raise Skipped(f"it refuses a penalty: {error.errors()[0]['msg']}") from None
    for shape in subject.supported():
        without, given = (
            subject.trial(shape, penalty=penalty).plain_descent().changes()
            for penalty in (0.0, 1.0)
        )
        blocks = [name for name in without if name.startswith("blocks.")]
        if all(torch.equal(without[name], given[name]) for name in blocks):
            raise Failed(
                f"penalty: 1.0 changes no block ({shape} network): a Method carries it out in "
                "its step, as in docs/protocol.md "
                "section 4, or refuses it in a validator of its Params"
            )


@check("method", "mathematics")
def renamed_hidden_units_rename_their_updates(subject: MethodSubject) -> None:
    """Permuting the hidden units inside a block permutes the updates of their weights, and
    changes no other."""
    declared(subject, "permutation", "True")
    order = torch.randperm(16, generator=torch.Generator().manual_seed(5))

    def rename(net: ProbeNet) -> None:
        with torch.no_grad():
            for block in net.blocks:
                up, down = (layer for layer in block.modules() if isinstance(layer, Dense))
                up.weight.copy_(up.weight[order])
                up.bias.copy_(up.bias[order])
                down.weight.copy_(down.weight[:, order])

    shape = subject.supported()[0]
    plain = subject.trial(shape).plain_descent(0.1).changes()
    renamed = subject.trial(shape, before=rename).plain_descent(0.1).changes()
    for name, change in plain.items():
        expected = change
        if ".layers.0." in name:
            expected = change[order]
        elif name.endswith(".layers.1.weight"):
            expected = change[:, order]
        if distance(renamed[name], expected) > 1e-3:
            raise Failed(
                f"{name} is updated otherwise when the hidden units of the blocks are renamed"
            )


class _Scaled:
    """k times a loss."""

    def __init__(self, loss: Loss, factor: float) -> None:
        self.loss, self.factor, self.name, self.classes = loss, factor, loss.name, loss.classes

    def __call__(self, logits: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
        return self.factor * self.loss(logits, y, reduction)

    def error(self, logits: Tensor, y: Tensor) -> Tensor:
        return self.factor * self.loss.error(logits, y)

    def score(self, logits: Tensor, y: Tensor) -> float:
        return self.loss.score(logits, y)


@check("method", "mathematics")
def credit_is_linear_in_the_error(subject: MethodSubject) -> None:
    """k times the loss, and with it k times the output error, gives k times the credit."""
    declared(subject, "linear_in_error", "True")
    for shape, trial in subject.trials():
        trial.steps(1)
        states, y = trial.states()
        one = trial.credits(states, y)
        trial.net.loss = _Scaled(trial.net.loss, 3.0)
        states, y = trial.states()
        three = trial.credits(states, y)
        for number, (a, b) in enumerate(zip(one.audited, three.audited, strict=True)):
            if distance(b, 3 * a) > 1e-3:
                raise Failed(
                    f"3 times the error is not 3 times the credit of block {number} ({shape} "
                    "network)"
                )


@check("method", "mathematics")
def the_top_credit_is_exact(subject: MethodSubject) -> None:
    """The last block is trained with ∂CE/∂h_L."""
    declared(subject, "exact_top", "True")
    for shape, trial in subject.trials():
        states, y = trial.steps(2).states()
        credits = trial.credits(states, y)
        exact = exact_gradients(trial.net, states.h[0], y, credits.reduction)[-1]
        if (miss := distance(credits.for_blocks[-1], exact)) > 1e-3:
            raise Failed(
                f"the credit of the last block misses ∂CE/∂h_L by {miss:.1%} of its norm "
                f"({shape} network)"
            )


@check("method", "mathematics")
def the_credit_tends_to_the_gradient(subject: MethodSubject) -> None:
    """With the options of `Laws.exact_with` the audited credit is the gradient, a_l = g_l, to 1
    % in float64."""
    options = declared(subject, "exact_with", "{…}")
    for shape in subject.supported():
        trial = subject.trial(shape, dtype=torch.float64, **options)
        states, y = trial.states()
        credits = trial.credits(states, y)
        g = exact_gradients(trial.net, states.h[0], y, credits.reduction)
        for number, (a, site) in enumerate(zip(credits.audited, trial.net.sites, strict=True)):
            if (miss := distance(a, g[site])) > 0.01:
                raise Failed(
                    f"the credit of block {number} misses the gradient by {miss:.1%} of its norm "
                    f"({shape} network)"
                )


def _options(subject: MethodSubject) -> dict[str, Any]:
    """Switch normalisation off, if the rule has one."""
    return {"normalize": "none"} if issubclass(subject.target, LocalMethod) else {}


def _feedback(subject: MethodSubject, trial: Trial) -> list[str]:
    """The keys of B_0 … B_{L−1}. Raises Failed if state_dict lacks their names or shapes."""
    pattern = declared(subject, "feedback", '"B_{layer}"')
    keys = [pattern.format(layer=layer) for layer in range(trial.net.depth)]
    state = trial.method.state_dict()
    for key, weight in zip(keys, _weights(trial), strict=True):
        shape = tuple(state[key].shape) if key in state else None
        if shape != tuple(weight.shape):
            raise Failed(
                f"Laws.feedback: state_dict has {key}: {shape}; asked for is {tuple(weight.shape)}"
            )
    return keys


def _weights(trial: Trial) -> list[Tensor]:
    """W_l, from h_l to h_{l+1}, of the linear network."""
    return [
        layer.weight
        for block in trial.net.blocks
        for layer in block.modules()
        if isinstance(layer, Dense)
    ]


@check("method", "mathematics")
def with_transposed_feedback_it_is_backpropagation(subject: MethodSubject) -> None:
    """On a linear network without residuals and normalisation, B_l = W_l gives the gradients of
    backpropagation."""
    declared(subject, "feedback", '"B_{layer}"')
    trial = subject.trial("linear", **_options(subject))
    keys = _feedback(subject, trial)
    own = {key: weight.detach().clone() for key, weight in zip(keys, _weights(trial), strict=True)}
    trial.method.load_state_dict({**trial.method.state_dict(), **own})
    states, y = trial.states()
    factor = 1 / BATCH if trial.credits(states, y).reduction == "mean" else 1.0
    x, y = trial.batch()
    expected = torch.autograd.grad(
        F.cross_entropy(trial.net.states(x).logits, y), list(trial.net.parameters())
    )
    found = trial.plain_descent(1.0).changes()
    for (name, change), gradient in zip(found.items(), expected, strict=True):
        if (
            miss := distance(change, -gradient * (1.0 if name.startswith("readout") else factor))
        ) > 1e-3:
            raise Failed(
                f"with B_l = W_l the update of {name} misses backpropagation's by {miss:.1%} of "
                "its norm"
            )


@check("method", "mathematics")
def forward_weights_and_feedback_meet(subject: MethodSubject) -> None:
    """Kolen–Pollack: every step shrinks W_l − B_l by 1 − learning rate · weight decay."""
    declared(subject, "kolen_pollack", "True")
    trial = subject.trial("linear", training={"weight_decay": 5.0})
    keys = _feedback(subject, trial)
    rate = 1 - TRAINING["learning_rate"] * 5.0

    def gaps() -> list[Tensor]:
        state = trial.method.state_dict()
        return [
            (weight - state[key]).detach().clone()
            for key, weight in zip(keys, _weights(trial), strict=True)
        ]

    for _ in range(3):
        before = gaps()
        trial.steps(1)
        for layer, (old, new) in enumerate(zip(before, gaps(), strict=True)):
            if distance(new, rate * old) > 1e-4:
                shrunk = float(new.norm() / old.norm())
                raise Failed(
                    f"‖W_{layer} − B_{layer}‖ becomes {shrunk:.4f} times itself in a step; the "
                    f"law says {rate:.4f}"
                )
