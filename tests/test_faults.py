"""A fault of a plugin is one line with what is wrong, the author's own line, and a remedy."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from bench_plugins.archs.resmlp import ResMLP

from bench_core.api import (
    Credits,
    Diagnostic,
    Laws,
    LocalMethod,
    Measured,
    Method,
    Passport,
    draws_from,
)
from bench_core.errors import BenchError, CreditError
from bench_core.printable import brief
from bench_core.registry.faults import located, misfit
from bench_core.testing.subjects import MethodSubject
from bench_core.training.audit import Audit
from bench_core.training.net import Net


class Rule(LocalMethod):
    """Its credits are the states."""

    def credit(self, states: Any, y: Any, epoch: int) -> Credits:
        return Credits([states.h[site] for site in self.net.sites], embed=states.h[0])


def line(function: Any, below: int = 0) -> str:
    """The place in this file of the first line of a function, or of a line below it."""
    return f"test_faults.py:{inspect.getsourcelines(function)[1] + below}"


def raised(rule: type[Method]) -> BaseException:
    """What one training step of a rule raises, without this file's line in its traceback."""
    kinds = (AttributeError, RuntimeError, TypeError, ValueError, BenchError)
    with pytest.raises(kinds) as caught:
        MethodSubject(rule, {}).trial("residual").steps(1)
    trace = caught.value.__traceback__
    assert trace is not None
    return caught.value.with_traceback(trace.tb_next)


# ----------------------------------------------------------------------------------------- classes


def test_a_class_that_can_be_made_is_no_misfit() -> None:
    class More(Rule):
        def __init__(self, params: Any, more: int = 1) -> None:
            super().__init__(params)

    assert misfit(Rule, Method) == misfit(More, Method) == misfit(ResMLP, Net) == ""


def test_a_class_without_a_method_is_told_of_its_own_with_a_similar_name() -> None:
    class Typo(Method):
        def credits(self) -> None: ...

    place = line(Typo)
    assert misfit(Typo, Method) == (
        f"Typo has no `credit` ({place}); did you mean its `credits`?; Typo has no `step` ({place})"
    )


def test_a_constructor_with_other_arguments_is_told_those_of_its_base() -> None:
    class Narrow(Rule):
        def __init__(self) -> None: ...

    class Flat(ResMLP):
        def __init__(self, params: Any) -> None: ...

    assert misfit(Narrow, Method) == (
        f"Narrow.__init__ ({line(Narrow.__init__)}) must take params "
        "and call super().__init__(params)"
    )
    assert misfit(Flat, Net) == (
        f"Flat.__init__ ({line(Flat.__init__)}) must take params, shape, classes "
        "and call super().__init__(params, shape, classes)"
    )


@pytest.mark.parametrize(
    ("attribute", "value", "known"),
    [
        ("when", "end", "'final' or 'epochs'"),
        ("direction", "over", "'above' or 'below' or None"),
        ("across", "seeds", "'floor' or 'ceiling' or None"),
        ("axis", "lin", "'linear' or 'log'"),
        ("threshold", "50", "float or None"),
        ("letter", None, "str"),
        ("repeatable", 1, "bool"),
    ],
)
def test_an_attribute_of_a_diagnostic_has_one_of_its_values(
    attribute: str, value: Any, known: str
) -> None:
    """With another `when` it never measured, and no run said so."""

    class Own(Diagnostic):
        def measure(self, audit: Any) -> Measured:
            return Measured(1.0)

    assert misfit(Own, Diagnostic) == ""
    setattr(Own, attribute, value)
    told = f"{attribute} of Own ({line(Own)}) must be {known}, not {value!r}"
    assert misfit(Own, Diagnostic) == told
    Own.threshold, Own.direction = 50, "above"  # type: ignore[assignment]
    Own.batch, Own.unit = np.int64(128), property(lambda own: "x")  # type: ignore[assignment]
    setattr(Own, attribute, getattr(Diagnostic, attribute))
    assert misfit(Own, Diagnostic) == ""


# -------------------------------------------------------------------------------------- exceptions


class Uncalled(Rule):
    def __init__(self, params: Any) -> None:
        self.scale = 1


class Unset(Rule):
    def setup(self, net: Any, task: Any, tools: Any) -> None:
        self.scale = 1


class Drawn(Rule):
    def setup(self, net: Any, task: Any, tools: Any) -> None:
        self.draw(3)
        super().setup(net, task, tools)


class Early(Rule):
    def unsupported(self, net: Any) -> Any:
        return self.task.classes


class Misspelt(Rule):
    def credit(self, states: Any, y: Any, epoch: int) -> Any:
        return self.nte


SETUP = "must call super().setup(net, task, tools) first"


@pytest.mark.parametrize(
    ("rule", "name", "place", "remedy"),
    [
        (
            Uncalled,
            "params",
            "",
            f"; Uncalled.__init__ ({line(Uncalled.__init__)}) "
            "must call super().__init__(params) first",
        ),
        (Unset, "tools", "", f"; Unset.setup ({line(Unset.setup)}) {SETUP}"),
        (
            Drawn,
            "net",
            f" (at {line(Drawn.setup, 1)})",
            f"; Drawn.setup ({line(Drawn.setup)}) {SETUP}",
        ),
        (
            Early,
            "task",
            f" (at {line(Early.unsupported, 1)})",
            "; setup(net, task, tools) sets it, and is called later",
        ),
        (Misspelt, "nte", f" (at {line(Misspelt.credit, 1)})", ""),
    ],
)
def test_an_attribute_that_the_base_sets_names_the_method_that_must_call_it(
    rule: type[Method], name: str, place: str, remedy: str
) -> None:
    told = f"AttributeError: '{rule.__name__}' object has no attribute '{name}'{place}{remedy}"
    assert located(raised(rule)) == told


class WrongOption(Rule):
    def credit(self, states: Any, y: Any, epoch: int) -> Any:
        return self.params.penalti  # type: ignore[attr-defined]


def test_an_option_that_the_rule_does_not_have_is_told_at_its_line() -> None:
    told = located(raised(WrongOption))
    place = f" (at {line(WrongOption.credit, 1)})"
    assert told.startswith("AttributeError: 'Params' object has no attribute 'penalti'")
    assert told.endswith(f"{place}; did you mean penalty?")


class Detached(Rule):
    def credit(self, states: Any, y: Any, epoch: int) -> Any:
        return torch.autograd.grad(self.net.readout(states.h[-1]).sum(), states.h)


class Listed(Rule):
    def setup(self, net: Any, task: Any, tools: Any) -> None:
        super().setup(net, task, tools)
        tools.auxiliary([*torch.nn.Linear(2, 2).parameters()])


class DrawsFromTools(Rule):
    def setup(self, net: Any, task: Any, tools: Any) -> None:
        super().setup(net, task, tools)
        with draws_from(tools):
            torch.nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (
            Detached,
            "are detached: inside `with torch.enable_grad():` begin a graph at h = states.h",
        ),
        (Listed, "tools.auxiliary() takes groups of parameters by name: tools.auxiliary({"),
        (DrawsFromTools, "draws_from() takes a generator, such as tools.aux_generator, no Tools"),
    ],
)
def test_a_wrong_call_of_the_interface_is_told_with_its_remedy(
    rule: type[Method], told: str
) -> None:
    assert told in located(raised(rule))


class Forgetful(Rule):
    def credit(self, states: Any, y: Any) -> Any: ...


def test_a_method_with_other_arguments_is_told_those_that_it_is_called_with() -> None:
    with pytest.raises(TypeError) as caught:
        MethodSubject(Forgetful, {}).trial("residual").steps(1)
    trace = caught.value.__traceback__
    assert trace is not None
    assert located(caught.value.with_traceback(trace.tb_next)) == (  # without this file's line
        "TypeError: Forgetful.credit() takes 3 positional arguments but 4 were given; "
        "bench calls credit(states, y, epoch): define it with these arguments"
    )


def test_an_argument_of_a_call_in_the_plugin_itself_is_not_explained() -> None:
    class Own(Rule):
        def credit(self, states: Any, y: Any, epoch: int) -> Any:
            return Forgetful.credit(self, states, y, epoch)

    with pytest.raises(TypeError) as caught:
        MethodSubject(Own, {}).trial("residual").steps(1)
    assert "bench calls" not in located(caught.value)


@pytest.mark.parametrize(
    ("make", "meant"),
    [
        (lambda: Passport(learned=True), "did you mean learned_feedback?"),
        (lambda: Laws(exact=True), "did you mean exact_top or exact_with?"),
    ],
)
def test_an_unknown_field_is_told_the_one_that_is_meant(
    make: Callable[[], object], meant: str
) -> None:
    with pytest.raises(TypeError) as caught:
        make()
    assert located(caught.value).endswith(f"; {meant}")


class Learns(Rule):
    def learn(self, states: Any, y: Any, epoch: int) -> None:
        with torch.no_grad():
            self.net.readout[-1].weight.mul_(0.5)


class Scales(Rule):
    def credit(self, states: Any, y: Any, epoch: int) -> Credits:
        states.h[1][:, 0] *= 2
        return super().credit(states, y, epoch)


class Optimises(Rule):
    def credit(self, states: Any, y: Any, epoch: int) -> Credits:
        head = [*self.net.readout.parameters()]
        sum(weight.square().sum() for weight in head).backward()
        torch.optim.AdamW(head).step()
        return super().credit(states, y, epoch)


IN_PLACE = (
    "and the update needs it as it was: change a copy (x.clone()), "
    "or change weights after the update"
)


@pytest.mark.parametrize(
    ("rule", "change", "function", "below"),
    [
        (Learns, "Learns.learn changes readout.1.weight", Learns.learn, 2),
        (Scales, "Scales.credit changes states.h[1]", Scales.credit, 1),
        (Optimises, "Optimises.credit changes readout.0.weight", Optimises.credit, 3),
    ],
)
def test_a_change_in_place_is_found_after_the_step_has_raised(
    rule: type[Method], change: str, function: Callable[..., Any], below: int
) -> None:
    place = line(function, below)
    told = f"RuntimeError: {change} in place (at {place}), {IN_PLACE}"
    assert located(raised(rule)) == told


class Halves(Rule):
    def credit(self, states: Any, y: Any, epoch: int) -> Credits:
        states.f[0].mul_(0.5)
        return super().credit(states, y, epoch)


class Narrow(Rule):
    def credit(self, states: Any, y: Any, epoch: int) -> Credits:
        own = super().credit(states, y, epoch)
        return replace(own, audited=[a[:, :-1] for a in own.audited])


def test_a_credit_that_is_refused_is_located() -> None:
    """In a step by its function, as it has returned; in an audit by the line that writes."""
    assert located(raised(Narrow)).endswith(f" (at {line(Narrow.credit, 0)})")
    for rule, below in ((Narrow, 0), (Halves, 1)):
        trial = MethodSubject(rule, {}).trial("residual")
        x, y = next(trial.data.test_batches(8))
        with pytest.raises(CreditError) as caught:
            Audit(trial.net, trial.method, trial.data, 0, 0).batch(x, y)
        assert located(caught.value).endswith(f" (at {line(rule.credit, below)})")


def test_a_change_in_place_that_no_step_shows_again_is_explained_without_its_line() -> None:
    class Whole(Method):
        def credit(self, states: Any, y: Any, epoch: int) -> None: ...

        def step(self, x: Any, y: Any, epoch: int) -> Any:
            loss = self.net.loss(self.net.states(x).logits, y)
            with torch.no_grad():
                self.net.readout[-1].weight.mul_(0.5)
            self.tools.updater.descend(loss)
            return loss.detach()

    told = f"a weight or a state was changed in place (before {line(Whole.step, 4)})"
    assert located(raised(Whole)) == f"RuntimeError: {told}, {IN_PLACE}"


def test_a_long_message_ends_with_a_mark() -> None:
    assert brief(ValueError("x" * 300)) == "ValueError: " + "x" * 300
    assert brief(ValueError("x" * 301)) == "ValueError: " + "x" * 299 + "…"
