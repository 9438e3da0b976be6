"""Checks and their outcomes.

A check is a function of one subject, found by its name; its docstring states the law in one
line. It raises `Failed` or `Skipped` with a reason. Every other exception comes from the plugin
and is a failure too.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, get_args

from bench_core.errors import UsageError, did_you_mean
from bench_core.printable import origin
from bench_core.registry import plugins
from bench_core.registry.faults import located
from bench_core.registry.registry import KINDS, Installed, Registry, base_class, resolve
from bench_core.suite.load import installed_suites

Category = Literal["contract", "determinism", "mathematics", "passport", "honesty"]
CATEGORIES: tuple[Category, ...] = get_args(Category)
Status = Literal["passed", "failed", "expected", "skipped"]  # in the order of a report
Function = Callable[[Any], None]

MODULES = {  # kind of component → where its checks are; the order is that of the report
    "method": ("contract", "determinism", "mathematics", "passport", "honesty"),
    "arch": ("archs",),
    "dataset": ("datasets",),
    "diagnostic": ("diagnostics",),
    "executor": (),
}


class Failed(AssertionError):  # noqa: N818 - an outcome, not an error
    """The subject breaks the law of a check; the message states the observation."""


class Skipped(Exception):  # noqa: N818 - an outcome, not an error
    """The check does not apply; the message gives the reason and, if there is one, the remedy."""


@dataclass(frozen=True)
class Check:
    """A law for one kind of component."""

    name: str
    category: Category
    law: str
    function: Function


@dataclass(frozen=True)
class Outcome:
    """Outcome of a check, with the reason: passed, failed, skipped, or failed as expected.

    where  the plugin's own line in which it ended, file:line
    trace  the traceback of an unexpected exception
    """

    check: str
    category: Category
    status: Status
    law: str
    reason: str = ""
    where: str = ""
    trace: str = ""
    seconds: float = 0.0


MOST_MEANT = 5  # names of checks in a hint
REGISTERED: dict[str, list[Check]] = {kind: [] for kind in KINDS}


def check(kind: str, category: Category) -> Callable[[Function], Function]:
    """Register a function as a check of this kind of component."""

    def register(function: Function) -> Function:
        law = " ".join((function.__doc__ or "").split("\n\n")[0].split())
        REGISTERED[kind].append(Check(function.__name__, category, law, function))
        return function

    return register


@dataclass(frozen=True)
class BoundCheck(Check):
    """A check with the name of its subject, the subject, and why it is known to fail."""

    subject: str
    component: Any
    expected: str | None

    def __call__(self) -> None:
        """Run the check in a test file: fail as pytest fails, skip as pytest skips."""
        import pytest

        outcome = run(self)
        if outcome.status == "skipped":
            pytest.skip(outcome.reason)
        if outcome.status == "expected":
            pytest.xfail(outcome.reason)
        if outcome.status == "failed":
            text = f"{self.name}: {self.law}\n{outcome.reason}\n{outcome.trace}"
            pytest.fail(text.rstrip(), pytrace=False)


def run(bound: BoundCheck) -> Outcome:
    """Run a check. No exception of the plugin escapes, and changed global state is restored."""
    import torch

    from bench_core.testing.global_state import preserved

    started = time.perf_counter()
    status: Status = "passed"
    reason = where = trace = ""
    try:
        with preserved():
            torch.set_num_threads(1)  # as in a worker
            bound.function(bound.component)
    except Skipped as skipped:
        status, reason = "skipped", str(skipped)
    except Failed as failed:
        status, reason = "failed", str(failed)
    except (Exception, SystemExit) as error:
        status, reason, where = "failed", f"it raised {located(error)}", origin(error)
        trace = "".join(traceback.format_exception(error))
    if bound.expected is not None and status == "failed":
        status, reason = "expected", f"{bound.expected} ({reason})"
    elif bound.expected is not None and status == "passed":
        status = "failed"
        reason = f"was expected to fail ({bound.expected}) and passes: take it off the list"
    seconds = round(time.perf_counter() - started, 3)
    return Outcome(bound.name, bound.category, status, bound.law, reason, where, trace, seconds)


def checks(
    subject: str | type,
    *,
    options: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    category: str | None = None,
    only: str | None = None,
    registry: Registry | None = None,
) -> Iterator[BoundCheck]:
    """Return the checks of a component (its name or its class), category by category.

    options            parameters of the component, as in a suite; default: none
    expected_failures  name of a check → why it is known to fail
    category, only     of this category; the check of this name, written with _ or with spaces
    Raises UsageError for a name that is not there.
    """
    expected = dict(expected_failures or {})
    if isinstance(subject, str):
        item = find(subject, registry)
        kind, name, target = item.kind, item.short_name, resolve(item, base_class(item.kind))
    else:
        bases = {kind: base_class(kind) for kind in KINDS}
        kinds = [kind for kind, base in bases.items() if base and issubclass(subject, base)]
        if not kinds:
            raise UsageError(f"{subject.__name__} is no Method, Net, Dataset or Diagnostic")
        kind, name, target = kinds[0], subject.__name__, subject
    for module in MODULES[kind]:
        import_module(f"bench_core.testing.{module}")
    names = {check.name for check in REGISTERED[kind]}
    only = "_".join(only.split()) if only else None  # as the report writes it
    for wanted in (*expected, *([only] if only else [])):
        if wanted not in names:
            one = "an" if kind[0] in "aeiou" else "a"
            hint = _meant(wanted, names)
            raise UsageError(f"no check of {one} {kind} is called {wanted!r}; {hint}")
    component = import_module("bench_core.testing.subjects").subject(kind, target, options)
    for check in REGISTERED[kind]:
        if category in (None, check.category) and only in (None, check.name):
            yield BoundCheck(
                **vars(check), subject=name, component=component, expected=expected.get(check.name)
            )


def _meant(wanted: str, names: set[str]) -> str:
    """Return a hint for a name that no check has: those that contain it, or are like it."""
    containing = sorted(name for name in names if wanted in name)
    if 0 < len(containing) <= MOST_MEANT:
        return f"did you mean {' or '.join(containing)}?"
    return did_you_mean(wanted, names)


def find(name: str, registry: Registry | None = None) -> Installed:
    """Find the component of that name among all kinds; `kind:name` if kinds share the name.

    Raises UsageError.
    """
    kind, _, rest = name.rpartition(":")
    registry = registry or (plugins.load_for([rest]) if "/" in rest else plugins.load())
    kinds = [each for each in KINDS if kind in ("", each) and registry.matches(each, rest)]
    if len(kinds) == 1:
        return registry.find(kinds[0], rest)
    if kinds:
        choices = " or ".join(f"{each}:{rest}" for each in kinds)
        raise UsageError(f"{rest!r} is several components: say {choices}")
    if rest in installed_suites():
        remedy = f"`bench plan {rest}` lists its cells, `bench run {rest}` trains them"
        raise UsageError(f"{rest!r} is a suite, not a component: {remedy}")
    raise registry.unknown(f"no component is called {rest!r}", rest, registry.components)


def conformance(
    subject: str | type,
    *,
    options: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> Any:
    """Decorator: the test gets every check of the component in turn as its argument `check`."""
    import pytest

    bound = list(checks(subject, options=options, expected_failures=expected_failures))
    ids = [f"{check.category}-{check.name}" for check in bound]
    return pytest.mark.parametrize("check", bound, ids=ids)
