"""Contract of a learning rule: the properties that the core relies on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from bench_core.errors import BenchError
from bench_core.registry.card import SECTIONS, split
from bench_core.testing.comparing import copies, differs, distance
from bench_core.testing.kit import Failed, Skipped, check
from bench_core.testing.subjects import MethodSubject
from bench_core.testing.trials import BATCH, BATCHES, EPOCHS, LAST, Trial, copied
from bench_core.training.method import Credits
from bench_core.training.net import States
from bench_core.training.saved_state import part, storable


def lists(trial: Trial) -> dict[str, tuple[Sequence[Tensor], Sequence[Tensor]]]:
    """Name → (credits of a batch, their states, one by one)."""
    states, y = trial.states()
    credits = trial.credits(states, y)
    at_sites = [states.h[site] for site in trial.net.sites]
    return {
        "audited": (credits.audited, at_sites),
        "blocks": (credits.for_blocks, states.f),
        "embed (default: audited[0])": ([credits.for_embed], [states.h[0]]),
        **{f"readouts[{name!r}]": (own, at_sites) for name, own in credits.readouts.items()},
    }


def pairs(trial: Trial) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the name, the credit and the state of the same shape of every credit of a batch."""
    for name, (own, like) in lists(trial).items():
        for number, (a, h) in enumerate(zip(own, like, strict=False)):
            yield f"credits.{name}[{number}]", a, h


@check("method", "contract")
def credits_have_the_shapes_of_their_states(subject: MethodSubject) -> None:
    """One credit per block, each of the shape of the state that it belongs to, with and without
    residual."""
    for shape, trial in subject.trials():
        for name, (own, like) in lists(trial).items():
            if len(own) != len(like):
                raise Failed(f"credits.{name} has {len(own)} tensors for {len(like)} blocks")
        for name, a, h in pairs(trial):
            if a.shape != h.shape:
                shapes = f"shape {tuple(a.shape)}, its state {tuple(h.shape)}"
                raise Failed(f"{name} has {shapes} ({shape} network)")


@check("method", "contract")
def credits_have_the_type_of_their_states(subject: MethodSubject) -> None:
    """Credits have the dtype and lie on the device of their states, and are finite."""
    for shape, trial in subject.trained:
        for name, a, h in pairs(trial):
            if (a.dtype, a.device) != (h.dtype, h.device):
                types = f"{a.dtype} on {a.device}, its state {h.dtype} on {h.device}"
                raise Failed(f"{name} is {types} ({shape} network)")
            if not bool(a.isfinite().all()):  # before the training one bad credit is bad alone
                untrained = pairs(subject.trial(shape))
                first = next((one for one, b, _ in untrained if not b.isfinite().all()), name)
                raise Failed(f"{first} is not finite ({shape} network)")


@check("method", "contract")
def some_credit_is_not_zero(subject: MethodSubject) -> None:
    """Every block gets a credit in the first, in the last or in an epoch between: where it is zero
    for every sample, a block learns nothing."""
    for shape, _ in subject.trained:  # raises for a credit that fits no state, as others do
        trial = subject.trial(shape)
        if silent := _without_credit(trial):
            every = len(silent) == trial.net.depth
            blocks = "every block" if every else f"block {' and '.join(map(str, silent))}"
            result = (
                "trains the readout alone, and its blocks stay those of its floor"
                if every
                else "leaves random blocks among those that it trains"
            )
            raise Failed(
                f"the credit of {blocks} is zero in the epochs 0 to {LAST} that were tried, for "
                f"{BATCH * BATCHES} samples ({shape} network): then the rule {result}"
            )


def _without_credit(trial: Trial) -> list[int]:
    """Return the blocks that get no credit for any sample, in a few epochs."""
    depth = trial.net.depth
    silent = [*range(depth)]
    turns = [(2 * block + 1) * EPOCHS // (2 * depth) for block in silent]  # of layer-wise rules
    for trial.epoch in (0, 1, *turns, LAST):
        for number in range(BATCHES):
            states, y = trial.states(number)
            credits = trial.credits(states, y).for_blocks
            silent = [block for block in silent if not bool(credits[block].any())]
            if not silent:
                return []
        trial.steps(1)
    return silent


@check("method", "contract")
def the_docstring_is_a_card(subject: MethodSubject) -> None:
    """The docstring has the sections Source, Ours (deviations) and Verified; if not, a hint."""
    texts = split(docstring := type(subject.instance()).__doc__ or "")
    if not docstring:
        raise Skipped("hint: it has no docstring; `bench info dfa` shows a card")
    if missing := [
        name for name, field in SECTIONS.items() if field not in {*texts, "selected_on"}
    ]:
        sections = " and ".join(f"`{name}:`" for name in missing)
        raise Skipped(f"hint: it has no section {sections}; `bench info dfa` shows a card")


@check("method", "contract")
def runs_on_an_accelerator(subject: MethodSubject) -> None:
    """Set up with a network on an accelerator, a step and a credit stay there."""
    if not torch.cuda.is_available():
        raise Skipped("no accelerator here")
    trial = subject.trial(device="cuda").steps(2)
    for name, a, h in pairs(trial):
        if a.device != h.device:
            raise Failed(f"{name} is on {a.device}, its state on {h.device}")
    for name, tensor in trial.method.state_dict().items():
        if tensor.device.type != "cuda":
            raise Failed(f"{name} of state_dict is on {tensor.device}")


@check("method", "contract")
def state_dict_holds_all_that_the_credit_needs(subject: MethodSubject) -> None:
    """A method of another seed that loads the state and the network gives the same credits, so
    that a checkpoint can be audited."""
    trial = subject.trial(seed=0).steps(2)
    try:
        state = part(storable(trial.net, trial.method), "method.")
    except BenchError as error:
        raise Failed(str(error)) from None
    subject.must_repeat_its_credit()
    other = subject.trial(seed=1)
    other.net.load_state_dict(trial.net.state_dict())
    other.method.load_state_dict(copies(state))
    if lost := differs(state, other.method.state_dict()):
        raise Failed(f"{lost} of state_dict is another one after load_state_dict")
    states, y = trial.states()
    credits = []
    for owner in (trial, other):
        owner.seed_draws()
        credits.append(owner.credits(states, y).audited)
    for number, (a, b) in enumerate(zip(*credits, strict=True)):
        if not torch.equal(a, b):
            raise Failed(
                f"the credit of block {number} is another one after load_state_dict: what it "
                "needs is not stored: keep it in self.kept, or write state_dict and "
                "load_state_dict"
            )


@check("method", "contract")
def an_audit_sees_the_credit_that_trains(subject: MethodSubject) -> None:
    """credit() gives the same answer with the network in eval mode, in which audits ask for it, as
    in train mode. The probe networks compute the same in both. In a step too: asked a second time
    for the same states, as an audit asks, credit() answers as it has just answered the step."""
    subject.must_repeat_its_credit()
    where = "with the network in eval mode, in which an audit asks for it"
    for shape, trial in subject.trained:
        states, y = trial.states()
        was_training = trial.net.training
        answers = {}
        for training in (True, False):
            trial.net.train(training)
            trial.seed_draws()
            answers[training] = _named(trial.credits(states, y))
        trial.net.train(was_training)
        _must_be_alike(answers[True], answers[False], f"{where} ({shape} network)")
    for shape, trial in subject.trials():
        for first, second in _asked_in_a_step(trial):
            _must_be_alike(first, second, f"when it is asked again in a step ({shape} network)")


def _named(credits: Credits) -> dict[str, Tensor]:
    """Return the credits by their names in a message."""
    parts = {"audited": credits.audited, "blocks": credits.for_blocks}
    named = {f"credits.{part}[{i}]": a for part, own in parts.items() for i, a in enumerate(own)}
    return named | {"credits.embed": credits.for_embed}


def _must_be_alike(learnt: dict[str, Tensor], seen: dict[str, Tensor], where: str) -> None:
    for name, value in learnt.items():
        if distance(seen[name], value) > 1e-3:
            wrong = f"{name} is another one {where}"
            raise Failed(f"{wrong}: Γ would be that of a credit that trains nothing")


def _asked_in_a_step(trial: Trial) -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Return the credits with which the third step trains, each with the answer to an audit that
    asks right after it."""
    answers: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
    method, net, ask = trial.method, trial.net, trial.method.credit

    def credit(states: States, *rest: Any, **named: Any) -> Any:
        same = copied(states)
        trial.seed_draws()
        answer = ask(states, *rest, **named)
        if answer is not None:
            was_training = net.training
            net.eval()
            trial.seed_draws()
            again = ask(same, *rest, **named)
            net.train(was_training)
            first, second = (_named(trial.fitted(own, states)) for own in (answer, again))
            answers.append((first, second))
        return answer

    trial.steps(2)
    method.credit = credit  # type: ignore[method-assign]
    trial.steps(1, first=2)
    del method.credit
    return answers


@check("method", "contract")
def a_step_returns_the_loss_of_its_forward_pass(subject: MethodSubject) -> None:
    """step() returns the loss of the batch before the update: a tensor without dimensions and
    without a graph."""
    for shape, trial in subject.trials():
        x, y = trial.batch()
        with torch.no_grad():
            expected = trial.net.loss(trial.net.states(x).logits, y)
        loss = trial.method.step(x, y, LAST)
        if not isinstance(loss, Tensor) or loss.dim() != 0:
            kind = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise Failed(
                f"step() returned {kind}, not a tensor without dimensions ({shape} network)"
            )
        if loss.requires_grad:
            raise Failed(
                "the loss that step() returned carries a graph, which keeps every batch in "
                "memory: .detach() it"
            )
        if distance(loss, expected) > 1e-4:
            own, wanted = f"{float(loss):.6g}", f"{float(expected):.6g}"
            raise Failed(f"step() returned {own}; the loss of its forward pass is {wanted}")


@check("method", "contract")
def a_step_does_not_wait_for_the_device(subject: MethodSubject) -> None:
    """A training step reads no value on the host (.item(), float(), if tensor:, nonzero, .cpu(),
    …): each read stalls a GPU."""
    trial = subject.trial().steps(1)
    x, y = trial.batch(1)
    names: set[str] = set()
    with _Operations(names) as operations, _Methods(names, operations):
        trial.method.step(x, y, LAST)
    if names:
        raise Failed(f"step() reads from the device: {', '.join(sorted(names))}")


@check("method", "contract")
def weights_change_by_the_recipe_alone(subject: MethodSubject) -> None:
    """Every weight that changes is changed by a step of `tools.updater`: all rules of a table share
    one optimiser, with its learning rate, clipping and weight decay."""
    for shape, trial in subject.trials():
        updater = trial.method.tools.updaters[0]
        with updater.watched():
            changes = trial.changes(2)
        remedy = (
            f"({shape} network): hand a change of your own over as a gradient, by "
            "tools.updater.descend(parameters, gradients)"
        )
        for name, parameter in trial.net.named_parameters():
            if bool(changes[name].any()) and not updater.taken(parameter):
                raise Failed(f"{name} changes, and `tools.updater` takes no step on it {remedy}")
        if updater.others:
            raise Failed(
                "weights, or moments of the optimiser, change beside the steps of `tools.updater` "
                f"{remedy}"
            )


@check("method", "contract")
def frozen_blocks_stay_as_they_are(subject: MethodSubject) -> None:
    """With `freeze: blocks` the blocks keep their initial weights, and embedding and readout
    still train."""
    for shape in subject.supported():
        changes = subject.trial(shape, freeze="blocks").changes(2)
        changed = {n.partition(".")[0] for n, change in changes.items() if bool(change.any())}
        if "blocks" in changed:
            raise Failed(
                f"`freeze: blocks` leaves the blocks trained ({shape} network): update them by "
                "tools.updater alone"
            )
        if "readout" not in changed:
            raise Failed(
                f"with `freeze: blocks` the readout is not trained either ({shape} network)"
            )


@check("method", "contract")
def a_floor_trains_embedding_and_readout_as_the_rule_does(subject: MethodSubject) -> None:
    """With `freeze: blocks` the first step on embedding and readout is that of the rule: else its
    margin over the floor is that of another training of these two, and not of its blocks."""
    for shape in subject.supported():
        own, floor = (subject.trial(shape, freeze=freeze) for freeze in (None, "blocks"))
        changes, of_floor = own.changes(1), floor.changes(1)
        if differs(own.generators(), floor.generators()):
            raise Skipped("the rule draws other numbers where blocks are frozen")
        for name in (name for name in changes if not name.startswith("blocks.")):
            if distance(of_floor[name], changes[name]) > 0.01:
                raise Failed(
                    f"with `freeze: blocks` the first step on {name} is another one ({shape} "
                    "network): compute the credit of frozen blocks as well, the updater leaves "
                    "them as they are"
                )


# ----------------------------------------------------------------------------- reads on the host

_READS = re.compile("_local_scalar_dense|nonzero|masked_select|unique|aten.equal")
_METHODS = re.compile("item|tolist|numpy|cpu|__(bool|float|int|index|array)__")


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Note every operation for whose result the host must wait."""

    def __init__(self, names: set[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names, self.paused = names, False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Leave torch's compiler out: importing it takes a second."""
        return False

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if not self.paused and _READS.search(str(function)):
            self.names.add(str(function).removeprefix("aten.").removesuffix(".default"))
        return function(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    """Note every method of a tensor that reads its values on the host.

    one_hot with a number of classes reads on a CPU only, and does not count.
    """

    def __init__(self, names: set[str], operations: _Operations) -> None:
        super().__init__()
        self.names, self.operations = names, operations

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        if _METHODS.fullmatch(name):
            self.names.add(f"Tensor.{name}")
        options = {"num_classes": args[1] if len(args) > 1 else -1} | (kwargs or {})
        self.operations.paused = name == "one_hot" and options["num_classes"] >= 0
        try:
            return function(*args, **(kwargs or {}))
        finally:
            self.operations.paused = False
