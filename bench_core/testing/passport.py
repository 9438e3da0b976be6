"""Passport: the information that a rule uses, probed and compared with its declaration.

Each probe changes one kind of information and holds the rest; a credit or an update that then
changes depends on it. A rule fails if it uses undeclared information. It may declare more than it
uses here, since options and larger networks may use it. The probes catch accidents, not malice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, wraps
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from bench_core.testing.comparing import copies, distance, must_equal
from bench_core.testing.kit import Failed, Function, Skipped, check
from bench_core.testing.nets import ProbeNet
from bench_core.testing.subjects import MethodSubject
from bench_core.testing.trials import BATCH, CLASSES, LAST, Trial, noisy
from bench_core.training.local_method import LocalMethod
from bench_core.training.loss import CrossEntropy

Updates = dict[str, Tensor]
SEEN = 1e-2  # relative change that is no rounding
ABOVE = "or above beyond the forward pass: declare Passport(weight_transport=True)"
STEPS = 2
RATE = 0.05


def probe(*uses: str) -> Callable[[Function], Function]:
    """Register a check that is skipped if the passport declares one of `uses`.

    It runs in the last epoch, and in the first if the rule does anything else there: a rule may
    warm up with other credits.
    """

    def register(function: Function) -> Function:
        @check("method", "passport")
        @wraps(function)
        def both(subject: MethodSubject) -> None:
            for use in uses:
                if getattr(subject.instance().passport, use):
                    raise Skipped(f"declared: Passport({use}=True)")
            function(subject)
            if subject.begins_otherwise:
                function(subject.first)

        return both

    return register


def below(block: int, names: Iterable[str]) -> list[str]:
    """Return the parameters that belong to the embedding or to a block under `block`."""
    lower = ("embed.", *(f"blocks.{number}." for number in range(block)))
    return [name for name in names if name.startswith(lower)]


def must_agree(one: Updates, other: Updates, names: Iterable[str], information: str) -> None:
    """Raise Failed if the update of one of these parameters differs between two trials."""
    for name in names:
        if distance(other[name], one[name]) > SEEN:
            raise Failed(f"the update of {name} depends on {information}")


def pair(
    subject: MethodSubject,
    mask: Callable[[ProbeNet], None],
    frozen: Callable[[ProbeNet], nn.Module],
) -> list[Trial]:
    """Train two cells that differ in the mask alone, by plain descent.

    The `frozen` part keeps its weights in both: masked layers would learn differently by
    themselves, and then the forward passes would differ.
    """

    def freeze(net: ProbeNet) -> None:
        frozen(net).requires_grad_(False)

    def freeze_and_mask(net: ProbeNet) -> None:
        freeze(net)
        mask(net)

    changes = (freeze, freeze_and_mask)
    return [subject.trial(before=change).plain_descent(RATE) for change in changes]


@lru_cache(maxsize=6)  # the blocks of a subject in two epochs
def masked_above(subject: MethodSubject, block: int) -> list[tuple[Trial, Updates]]:
    """Train a pair that differs in the weights of blocks `block` … L−1; return its updates too."""
    trials = pair(subject, lambda net: net.mask_blocks(block), lambda net: net.blocks[block:])
    return [(trial, trial.changes(STEPS)) for trial in trials]


@probe("weight_transport", "exact_hidden_gradients")
def the_audited_credit_transports_weights_only_if_declared(subject: MethodSubject) -> None:
    """a_l does not change when the weights of the blocks above are noise in everything but the
    forward pass."""
    subject.must_repeat_its_credit()
    for block in (1, 2):
        credits = []
        for trial, _ in masked_above(subject, block):
            states, y = trial.states(STEPS)
            trial.seed_draws()
            credits.append(trial.credits(states, y))
        for number in range(block):
            if distance(credits[1].audited[number], credits[0].audited[number]) > SEEN:
                information = f"the weights of block {block} {ABOVE}"
                raise Failed(f"the credit of block {number} depends on {information}")


@probe("weight_transport", "exact_hidden_gradients")
def updates_depend_on_weights_above_only_if_declared(subject: MethodSubject) -> None:
    """The update of a block does not change when the weights of later blocks are noise in
    everything but the forward pass.
    """
    subject.must_repeat_its_credit()
    for block in range(3):
        (_, one), (_, other) = masked_above(subject, block)
        must_agree(one, other, below(block, one), f"the weights of block {block} {ABOVE}")


@probe("exact_hidden_gradients")
def autograd_flows_between_blocks_only_if_declared(subject: MethodSubject) -> None:
    """No gradient passes out of a block into the block below, in a step or in a credit."""
    for shape, trial in subject.trained:
        states, y = trial.states()
        trial.net.log.leaks.clear()
        trial.method.credit(states, y, trial.epoch)
        if leaks := trial.noted.leaks | trial.net.log.leaks:
            block = max(leaks)
            raise Failed(
                f"a gradient passes from block {block} into block {block - 1} ({shape} network): "
                "detach the states, or declare Passport(exact_hidden_gradients=True)"
            )


class _Fixed(CrossEntropy):
    """⟨logits, E⟩ per sample with a constant E: loss and output error depend on no labels.

    For the logits of a local head it is the cross-entropy: there the labels count.
    """

    name = "fixed"

    def __init__(self, error: Tensor) -> None:
        self.constant = error
        self.outputs: list[Tensor] = []  # of the readout; held to keep their places in memory
        self.head: set[int] = set()

    def watch(self, net: ProbeNet) -> None:
        """Know the network's own logits."""
        self.head = {id(parameter) for parameter in net.readout.parameters()}
        net.readout.register_forward_hook(
            lambda module, inputs, output: self.outputs.append(output)
        )

    def foreign(self, logits: Tensor) -> bool:
        """Test whether logits with a graph come from another module than the readout."""
        if logits.grad_fn is None:
            return False
        try:
            if any(output.data_ptr() == logits.data_ptr() for output in self.outputs):
                return False
        except RuntimeError:  # inside torch.func there is no memory to compare
            return False
        seen: set[Any] = set()
        waiting: list[Any] = [logits.grad_fn]
        while waiting:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if id(getattr(node, "variable", None)) in self.head:
                return False
            waiting += [function for function, _ in node.next_functions]
        return True

    def repeated(self, count: int) -> Tensor:
        return self.constant.repeat(-(-count // len(self.constant)), 1)[:count]

    def __call__(self, logits: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
        if self.foreign(logits):
            return super().__call__(logits, y, reduction)
        each = (logits * self.repeated(len(logits)).to(logits)).sum(1)
        return each if reduction == "none" else each.sum() if reduction == "sum" else each.mean()

    def error(self, logits: Tensor, y: Tensor) -> Tensor:
        return self.repeated(len(logits)).to(logits)


@probe("labels_below_head")
def labels_reach_the_blocks_only_if_declared(subject: MethodSubject) -> None:
    """With the network's loss and output error held fixed, other labels change no update of
    embedding and blocks."""
    subject.must_repeat_its_credit()
    changes = []
    for shift in (0, 1):
        fixed = _Fixed(torch.randn(BATCH, CLASSES, generator=torch.Generator().manual_seed(9)))
        trial = subject.trial(labels=shift, loss=fixed, before=fixed.watch).plain_descent(RATE)
        changes.append(trial.changes(STEPS))
    one, other = changes
    must_agree(
        one,
        other,
        below(3, one),
        "the labels beyond the network's own loss; a local head uses them too: declare "
        "Passport(labels_below_head=True), or use net.loss of the logits and states.output_error",
    )


@probe("exact_top_credit", "exact_hidden_gradients")
def the_head_is_read_backward_only_if_declared(subject: MethodSubject) -> None:
    """Credits and updates of blocks do not change when the head's weight is noise in everything
    but the forward pass."""
    subject.must_repeat_its_credit()
    # the norm before the head
    two = pair(subject, lambda net: net.mask_readout(), lambda net: net.readout[:-1])
    one, other = (trial.changes(STEPS) for trial in two)
    remedy = "declare Passport(exact_top_credit=True)"
    must_agree(one, other, below(3, one), f"the head's weight: {remedy}")


@probe()
def forward_passes_are_counted(subject: MethodSubject) -> None:
    """`forward_passes` is how many batches run through the busiest block in a step; more than
    one is declared."""
    for shape, trial in subject.trained:
        runs = ceil(max(trial.noted.rows) / BATCH)
        if runs > 1 and not subject.instance().passport.extra_forward_passes:
            raise Failed(
                f"a step runs {runs} batches through a block ({shape} network): declare "
                f"Passport(extra_forward_passes=True), and state the number: {_passes(runs)}"
            )
        # the dearest phase counts, and that is not always the first
        most = trial.method.forward_passes
        if runs > most or (runs != most and subject.epoch == LAST):
            raise Failed(
                f"a step runs {runs} batches through a block ({shape} network); forward_passes "
                f"says {most}: {_passes(runs)}, or a property that computes it from self.net"
            )


def _passes(runs: int) -> str:
    return f"`forward_passes = {runs}` in the class"


@probe("learned_feedback")
def feedback_is_learned_only_if_declared(subject: MethodSubject) -> None:
    """Training changes nothing in state_dict but counters (integers), and asks for no auxiliary
    optimiser."""
    trial = subject.trial()

    def feedback() -> dict[str, Tensor]:
        state = trial.method.state_dict().items()
        return copies({name: value for name, value in state if value.is_floating_point()})

    before = feedback()
    trial.steps(STEPS)
    must_equal(
        before,
        feedback(),
        "{} changes in training: declare Passport(learned_feedback=True), which stands for all "
        "that a rule learns or remembers beside the network's weights, a momentum or a running "
        "mean too",
    )


@probe("non_local_state", "exact_hidden_gradients")
def other_blocks_states_are_read_only_if_declared(subject: MethodSubject) -> None:
    """Credit and update of block l do not change when the states of other blocks become noise to
    learn() and credit() (its own, and h_L of the head, kept)."""
    subject.must_repeat_its_credit()
    remedy = "declare Passport(non_local_state=True)"
    for shape, trial in subject.trained:
        information = f"the states of other blocks ({shape} network): {remedy}"
        states, y = trial.states()
        trial.seed_draws()
        true = trial.credits(states, y).for_blocks
        kept = [(block, block + 1, trial.net.depth) for block in range(trial.net.depth)]
        for block, keep in enumerate(kept):
            trial.seed_draws()
            if (
                distance(trial.credits(noisy(states, keep), y).for_blocks[block], true[block])
                > SEEN
            ):
                raise Failed(f"the credit of block {block} depends on {information}")
        if not isinstance(trial.method, LocalMethod):
            continue  # its step is given no states that could be replaced
        one = _one_step(subject.trial(shape), None)
        for block, keep in enumerate(kept):
            other = _one_step(subject.trial(shape), keep)
            own = [name for name in one if name.startswith(f"blocks.{block}.")]
            must_agree(one, other, own, information)


def _one_step(trial: Trial, keep: Sequence[int] | None) -> dict[str, Tensor]:
    """Changes of a step in which noise replaces all states that the rule sees but `keep`."""
    method: Any = trial.plain_descent(RATE).method
    if keep is not None:
        learn, credit = method.learn, method.credit
        method.learn = lambda states, *rest, **more: learn(noisy(states, keep), *rest, **more)
        method.credit = lambda states, *rest, **more: credit(noisy(states, keep), *rest, **more)
    return trial.changes()
