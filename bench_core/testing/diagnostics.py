"""Checks of diagnostics: right answers on known cases, and no change to the measured network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from bench_core.execution.worker.cell import measure, stored
from bench_core.execution.worker.untouched import PROBE_DRAWS
from bench_core.names import OURS
from bench_core.registry import plugins
from bench_core.results.record import Measurement, fires
from bench_core.suite.protocol import LETTERS
from bench_core.testing.comparing import copies, must_equal, must_preserve
from bench_core.testing.global_state import preserved
from bench_core.testing.kit import Failed, Skipped, check
from bench_core.testing.nets import ProbeNet
from bench_core.testing.subjects import Subject
from bench_core.testing.trials import TRAINING
from bench_core.training.audit import Audit
from bench_core.training.data import TENSORS, Data
from bench_core.training.diagnostic import Measured
from bench_core.training.local_method import LocalMethod
from bench_core.training.method import Credits, Task, Tools
from bench_core.training.net import Net, States, in_eval
from bench_core.training.setup import set_up

WIDTH, FEATURES, CLASSES, TRAIN, TEST = 64, 12, 5, 256, 1280


class RandomDirect(LocalMethod):
    """a_l = e·B_l with a fixed random B_l: a rule to measure."""

    def setup(self, net: Net, task: Task, tools: Tools) -> None:
        super().setup(net, task, tools)
        for site in net.sites:
            self.kept[f"B_{site}"] = self.draw(task.classes, task.features(site))

    def credit(self, states: States, y: Tensor, epoch: int) -> Credits:
        return Credits(audited=[states.output_error @ B for B in self.kept.values()])


def audited(seed: int = 0) -> Audit:
    """Return a fresh audit of an untrained network of width 64 under a random rule.

    1,280 Gaussian test inputs are labelled by a linear map.
    """
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(TRAIN + TEST, FEATURES, generator=draws)
    y = (x @ torch.randn(FEATURES, CLASSES, generator=draws)).argmax(1)
    data = Data(x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:], CLASSES)
    torch.manual_seed(seed)
    net = ProbeNet(ProbeNet.Params(width=WIDTH), (FEATURES,), CLASSES)
    method = RandomDirect(RandomDirect.Params.model_validate({}))
    set_up(method, net, data, TRAINING, seed)
    audit = Audit(net, method, data, seed, 3, initial=copies(net.state_dict()))
    audit.history = []
    return audit


def controls(subject: Subject) -> Sequence[Any]:
    """Return its controls. Raises Skipped for a diagnostic that has none and needs none."""
    answer, target = list(subject.instance().controls()), subject.target
    if not answer and target.across:
        raise Skipped("it compares runs (across), so its value is made of stored accuracies")
    if not answer and target.direction is None and not target.repeatable:
        raise Skipped("it never fires and is not repeatable: the right answer is known nowhere")
    return answer


def some_controls(subject: Subject) -> Sequence[Any]:
    """Return its controls. Raises Skipped if there is none."""
    answer = controls(subject)
    if not answer:
        raise Skipped("not reached: controls() returns none; mend it_has_controls first")
    return answer


@cache
def measured_controls(subject: Subject) -> list[tuple[Any, Measured, Measurement]]:
    """Return every control, and what the diagnostic measures on the network that it changed."""
    measured = []
    for control in some_controls(subject):
        audit, diagnostic = audited(), subject.instance()
        control.change(audit)
        with in_eval(audit.net):
            result = diagnostic.measure(audit)
        measured.append((control, result, stored(diagnostic, result)))
    return measured


@cache
def measurement(subject: Subject, seed: int) -> Measurement:
    """Measure the untrained network, after seeding torch's global generator."""
    audit = audited()
    torch.manual_seed(seed)
    return measure(subject.instance(), audit)


@check("diagnostic", "contract")
def it_has_controls(subject: Subject) -> None:
    """At least two situations in which the answer is known: one positive, one negative."""
    count = len(controls(subject))
    if count < 2:
        raise Failed(
            f"controls() returns {count}; at least a positive and a negative one are needed"
        )


@check("diagnostic", "contract")
def its_controls_behave(subject: Subject) -> None:
    """Every control gives the answer that it expects."""
    for control, measured, _ in measured_controls(subject):
        if not control.expect(measured):
            answer = f"measured {measured.value}, which is not what it expects"
            raise Failed(f"control {control.name!r}: {answer}")


@check("diagnostic", "contract")
def its_controls_can_fail(subject: Subject) -> None:
    """No control accepts every answer: each refuses at least one of none, ±infinity, 0, ±1e30
    and NaN."""
    values = (None, float("inf"), float("-inf"), 0.0, 1e30, -1e30, float("nan"))
    for control in some_controls(subject):
        if all(_accepts(control, value) for value in values):
            raise Failed(f"control {control.name!r} accepts whatever is measured")


def _accepts(control: Any, value: float | None) -> bool:
    try:
        return bool(control.expect(Measured(value)))
    except Exception:
        return False


@check("diagnostic", "contract")
def a_rule_that_fires_fires_on_its_controls(subject: Subject) -> None:
    """With a threshold it fires on at least one control and stays silent on at least one."""
    target = subject.target
    if target.direction is None or target.across:
        raise Skipped("it never fires on a network")
    if target.threshold is None:
        raise Failed(f"direction is {target.direction!r} and there is no threshold")
    firing = {fires(measurement) for _, _, measurement in measured_controls(subject)}
    if firing != {True, False}:
        often = "all fire" if firing == {True} else "never fire"
        raise Failed(f"its controls {often} by direction and threshold")


@check("diagnostic", "contract")
def what_decides_a_verdict_is_repeatable(subject: Subject) -> None:
    """With a direction it is repeatable: a verdict rests on values that a second run confirms."""
    target = subject.target
    if target.direction is not None and not target.repeatable:
        raise Failed(f"direction is {target.direction!r} and repeatable is False: leave one out")


@check("diagnostic", "contract")
def its_letter_is_free(subject: Subject) -> None:
    """Its letter is none of a, b, c, d: these belong to the built-in diagnostics."""
    letter, own = subject.target.letter, subject.target
    built_in = plugins.load(only={OURS}).of_kind("diagnostic")
    ours = f"{own.__module__}:{own.__qualname__}" in {item.component.target for item in built_in}
    if letter in LETTERS and not ours:
        raise Failed(f"the letter {letter} belongs to {LETTERS[letter]}: choose another, or none")


@check("diagnostic", "contract")
def what_it_measures_can_be_stored(subject: Subject) -> None:
    """The value is a number or None, the details are plain data; networks that are not finite
    are no crash."""
    measurement(subject, 0).model_dump_json()
    audit = audited()
    with torch.no_grad():
        next(audit.net.blocks[1].parameters()).fill_(float("nan"))
    measure(subject.instance(), audit).model_dump_json()


@check("diagnostic", "determinism")
def measuring_again_gives_the_same(subject: Subject) -> None:
    """The same network gives the same measurement, for all states of the global generator."""
    if not subject.target.repeatable:
        raise Skipped("it is not repeatable: its values depend on more than the network")
    one, other = (measurement(subject, seed).model_dump_json() for seed in (0, 1))
    if one != other:
        raise Failed(
            f"two measurements of the same network differ: {PROBE_DRAWS}; a diagnostic that reads "
            "a clock or a meter says `repeatable = False`"
        )


@check("diagnostic", "honesty")
def measuring_leaves_what_it_measures(subject: Subject) -> None:
    """Network, data, states and credits are the same afterwards, and so is everything global."""
    audit = audited()
    method: Any = audit.method
    kept = {f"net.{name}": value for name, value in audit.net.state_dict().items()}
    kept |= {name: getattr(audit.data, name) for name in TENSORS}
    kept |= method.state_dict()
    for number, batch in enumerate(audit.batches):
        kept |= {f"g_{layer} of probe batch {number}": g for layer, g in enumerate(batch.g)}
        kept |= {f"h_{layer} of probe batch {number}": h for layer, h in enumerate(batch.states.h)}
        kept |= {f"a_{i} of probe batch {number}": a for i, a in enumerate(batch.credits.audited)}  # type: ignore[union-attr]
    before = copies(kept)

    def draws() -> list[list[int]]:
        tools = method.tools
        return [g.get_state().tolist() for g in (tools.generator, tools.aux_generator)]

    streams = draws()
    with preserved() as changes, in_eval(audit.net):
        subject.instance().measure(audit)
        in_training = audit.net.training
    must_equal(before, kept, "measuring changes {}")
    if in_training:
        raise Failed("measuring leaves the network in another mode (train or eval)")
    if draws() != streams:
        raise Failed("measuring draws from the method's generators, and so changes what is trained")
    must_preserve(changes, "measuring", remedy=PROBE_DRAWS)
