"""Mathematics: the laws that all rules obey, and those that a rule declares (`api.Laws`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from bench_core.testing.comparing import copies, distance
from bench_core.testing.kit import Failed, Function, Skipped, check
from bench_core.testing.nets import Dense, ProbeNet
from bench_core.testing.subjects import MethodSubject
from bench_core.testing.trials import BATCH, TRAINING, Trial
from bench_core.training.local_method import LocalMethod
from bench_core.training.loss import CrossEntropy
from bench_core.training.net import exact_gradients


def law(name: str, example: str = "True") -> Callable[[Function], Function]:
    """Register a check of a law; it is skipped if the rule does not declare the law."""

    def register(function: Function) -> Function:
        @check("method", "mathematics")
        @wraps(function)
        def declared(subject: MethodSubject) -> None:
            if getattr(subject.target.laws, name) in (None, False):
                raise Skipped(f"not declared: Laws({name}={example})")
            function(subject)

        return declared

    return register


@check("method", "mathematics")
def no_learning_rate_no_change(subject: MethodSubject) -> None:
    """With learning rate 0 a step leaves every weight of the network as it was."""
    trial = subject.trial(training={"learning_rate": 0.0})
    for name, change in trial.changes(2).items():
        if bool(change.any()):
            raise Failed(
                f"{name} changes at learning rate 0: the network's weights are tools.updater's "
                "to change"
            )


@check("method", "mathematics")
def the_penalty_reaches_the_blocks(subject: MethodSubject) -> None:
    """`penalty: λ` adds λ·mean_batch ‖f_l‖² to the loss of every block, or is refused."""
    try:
        subject.instance(penalty=1.0)
    except ValidationError as error:
        raise Skipped(f"it refuses a penalty: {error.errors()[0]['msg']}") from None
    for shape in subject.supported():
        trials = (subject.trial(shape, penalty=penalty) for penalty in (0.0, 1.0))
        without, given = (trial.plain_descent().changes() for trial in trials)
        blocks = [name for name in without if name.startswith("blocks.")]
        if all(torch.equal(without[name], given[name]) for name in blocks):
            raise Failed(
                f"penalty: 1.0 changes no block ({shape} network): a Method carries it out in its "
                "step, as in docs/protocol.md section 4, or refuses it in a validator of its Params"
            )


@check("method", "mathematics")
def the_credit_does_not_point_against_the_gradient(subject: MethodSubject) -> None:
    """The cosine of the credit to the gradient is at no state below 0 in networks of 16 seeds: a
    credit points where the loss increases.

    The cosine of random feedback scatters about 0. This fails where the mean over the networks lies
    six standard errors below 0, which random feedback reaches at a state once in 80,000 rules. A
    rule whose cosines are all positive in four networks is not asked for more.
    """
    every: list[dict[str, float]] = []
    for seed in range(16):
        every.append(_cosines(subject.trial(seed=seed).steps(2)))
        if seed == 3 and all(value > 0 for each in every for value in each.values()):
            return
    for name in every[0]:
        cosines = torch.tensor([cosine[name] for cosine in every])
        mean, error = cosines.mean(), cosines.std() / len(cosines) ** 0.5
        if mean < -6 * error:
            raise Failed(
                f"the cosine of the credit{name} to the gradient is {mean:.2f} in the mean of "
                f"{len(cosines)} networks: is its sign right? A credit points where the loss "
                "increases, as the gradient does"
            )


def _cosines(trial: Trial) -> dict[str, float]:
    """Map place → cosine of the credit to the gradient, mean over samples.

    The places are all states together and each of them, and the same of the credits that the blocks
    learn from where a rule gives them others.
    """
    states, y = trial.states()
    credits = trial.credits(states, y)
    g = exact_gradients(trial.net, states.h[0], y, credits.reduction)
    audited = zip(trial.net.sites, credits.audited, strict=True)
    own = {
        f" at h_{site}": F.cosine_similarity(a.flatten(1), g[site].flatten(1))
        for site, a in audited
    }
    found = {"": torch.stack([*own.values()]), **own}
    if credits.blocks is not None:
        blocks = enumerate(credits.blocks)
        own = {
            f" of block {block}": F.cosine_similarity(c.flatten(1), g[block + 1].flatten(1))
            for block, c in blocks
        }
        found |= {" of the blocks": torch.stack([*own.values()]), **own}
    return {name: float(cosines.detach().mean()) for name, cosines in found.items()}


@law("permutation")
def renamed_hidden_units_rename_their_updates(subject: MethodSubject) -> None:
    """Permuting the hidden units inside a block permutes the updates of their weights, and
    changes no other."""
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


class _Tripled(CrossEntropy):
    """Three times the cross-entropy."""

    def __call__(self, logits: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
        return 3 * super().__call__(logits, y, reduction)

    def error(self, logits: Tensor, y: Tensor) -> Tensor:
        return 3 * super().error(logits, y)


@law("linear_in_error")
def credit_is_linear_in_the_error(subject: MethodSubject) -> None:
    """k times the loss, and with it k times the output error, gives k times the credit."""
    subject.must_repeat_its_credit()
    for shape, trial in subject.trials():
        trial.steps(1)
        states, y = trial.states()
        one = trial.credits(states, y)
        trial.net.loss = _Tripled()
        states, y = trial.states()
        three = trial.credits(states, y)
        for number, (a, b) in enumerate(zip(one.audited, three.audited, strict=True)):
            if distance(b, 3 * a) > 1e-3:
                raise Failed(
                    f"3 times the error is not 3 times the credit of block {number} ({shape} "
                    "network)"
                )


@law("exact_top")
def the_top_credit_is_exact(subject: MethodSubject) -> None:
    """The last block is trained with ∂CE/∂h_L."""
    for shape, trial in subject.trained:
        states, y = trial.states()
        credits = trial.credits(states, y)
        exact = exact_gradients(trial.net, states.h[0], y, credits.reduction)[-1]
        if (miss := distance(credits.for_blocks[-1], exact)) > 1e-3:
            raise Failed(
                f"the credit of the last block misses ∂CE/∂h_L by {miss:.1%} of its norm "
                f"({shape} network)"
            )


@law("exact_with", "{…}")
def the_credit_tends_to_the_gradient(subject: MethodSubject) -> None:
    """With the options of `Laws.exact_with` the audited credit is the gradient, a_l = g_l, to 1
    % in float64."""
    for shape in subject.supported():
        trial = subject.trial(shape, dtype=torch.float64, **subject.target.laws.exact_with)
        states, y = trial.states()
        credits = trial.credits(states, y)
        g = exact_gradients(trial.net, states.h[0], y, credits.reduction)
        for number, (a, site) in enumerate(zip(credits.audited, trial.net.sites, strict=True)):
            if (miss := distance(a, g[site])) > 0.01:
                raise Failed(
                    f"the credit of block {number} misses the gradient by {miss:.1%} of its norm "
                    f"({shape} network)"
                )


def _feedback(subject: MethodSubject, trial: Trial) -> list[str]:
    """Return the keys of B_0 … B_{L−1}. Raises Failed if state_dict lacks their names or shapes."""
    pattern = subject.target.laws.feedback
    if pattern is None:
        raise Skipped('not declared: Laws(feedback="B_{layer}")')
    keys = [pattern.format(layer=layer) for layer in range(trial.net.depth)]
    state = trial.method.state_dict()
    for key, weight in zip(keys, _weights(trial), strict=True):
        shape, wanted = tuple(state[key].shape) if key in state else None, tuple(weight.shape)
        if shape != wanted:
            raise Failed(f"Laws.feedback: state_dict has {key}: {shape}; asked for is {wanted}")
    return keys


def _weights(trial: Trial) -> list[Tensor]:
    """W_l, from h_l to h_{l+1}, of the linear network."""
    return [layer.weight for layer in trial.net.blocks.modules() if isinstance(layer, Dense)]


@law("feedback", '"B_{layer}"')
def with_transposed_feedback_it_is_backpropagation(subject: MethodSubject) -> None:
    """On a linear network without residuals and normalisation, B_l = W_l gives the gradients of
    backpropagation."""
    plain: Any = {"normalize": "none"} if issubclass(subject.target, LocalMethod) else {}
    trial = subject.trial("linear", **plain)
    own = copies(dict(zip(_feedback(subject, trial), _weights(trial), strict=True)))
    trial.method.load_state_dict({**trial.method.state_dict(), **own})
    states, y = trial.states()
    factor = 1 / BATCH if trial.credits(states, y).reduction == "mean" else 1.0
    x, y = trial.batch()
    expected = torch.autograd.grad(
        F.cross_entropy(trial.net.states(x).logits, y), list(trial.net.parameters())
    )
    changes = trial.plain_descent(1.0).changes()
    for (name, change), gradient in zip(changes.items(), expected, strict=True):
        scale = 1.0 if name.startswith("readout") else factor
        if (miss := distance(change, -gradient * scale)) > 1e-3:
            raise Failed(
                f"with B_l = W_l the update of {name} misses backpropagation's by {miss:.1%} of "
                "its norm"
            )


@law("kolen_pollack")
def forward_weights_and_feedback_meet(subject: MethodSubject) -> None:
    """Kolen–Pollack: every step shrinks W_l − B_l by 1 − learning rate · weight decay."""
    trial = subject.trial("linear", training={"weight_decay": 5.0})
    keys = _feedback(subject, trial)
    rate = 1 - TRAINING["learning_rate"] * 5.0

    def gaps() -> list[Tensor]:
        state = trial.method.state_dict()
        pairs = zip(keys, _weights(trial), strict=True)
        return [weight.detach() - state[key] for key, weight in pairs]

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
