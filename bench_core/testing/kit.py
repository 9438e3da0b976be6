"""Checks, their subjects and their outcomes.

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
from pathlib import Path
from typing import Any, Literal, get_args

from bench_core.errors import UsageError, did_you_mean
from bench_core.printable import brief
from bench_core.registry.plugins import load_for
from bench_core.registry.registry import KINDS, Installed, Kind, Registry, resolve
from bench_core.testing.outcomes import Failed, Skipped

Category = Literal["contract", "determinism", "mathematics", "passport", "honesty"]
CATEGORIES: tuple[Category, ...] = get_args(Category)
Status = Literal["passed", "failed", "skipped", "expected"]

MODULES = {  # kind of component → where its checks are; the order is that of the report
    "method": ("contract", "determinism", "mathematics", "passport", "honesty"),
    "arch": ("archs",),
    "dataset": ("datasets",),
    "diagnostic": ("diagnostics",),
    "executor": (),
}


@dataclass(frozen=True)
class Check:
    """A law for one kind of component."""

    name: str
    category: Category
    kind: str
    law: str
    function: Callable[[Any], None]


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


REGISTERED: dict[str, list[Check]] = {kind: [] for kind in (*KINDS, "distribution")}


def check(
    kind: str, category: Category
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register a function as a check of this kind of component."""

    def register(function: Callable[[Any], None]) -> Callable[[Any], None]:
        law = " ".join((function.__doc__ or "").split("\n\n")[0].split())
        REGISTERED[kind].append(Check(function.__name__, category, kind, law, function))
        return function

    return register


@dataclass(frozen=True)
class BoundCheck:
    """A check with its subject; calling it raises `Failed` or `Skipped`."""

    check: Check
    subject: str
    expected: str | None
    make: Callable[[], Any]

    @property
    def name(self) -> str:
        return self.check.name

    @property
    def category(self) -> Category:
        return self.check.category

    def __call__(self) -> None:
        """Run the check in a test file: fail as pytest fails, skip as pytest skips."""
        import pytest

        outcome = run(self)
        if outcome.status == "skipped":
            pytest.skip(outcome.reason)
        if outcome.status == "expected":
            pytest.xfail(outcome.reason)
        if outcome.status == "failed":
            pytest.fail(
                f"{self.name}: {outcome.law}\n{outcome.reason}\n{outcome.trace}".rstrip(),
                pytrace=False,
            )


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
            bound.check.function(bound.make())
    except Skipped as skipped:
        status, reason = "skipped", str(skipped)
    except Failed as failed:
        status, reason = "failed", str(failed)
    except (Exception, SystemExit) as error:
        status, reason, where = "failed", f"it raised {brief(error)}", _where(error)
        reason += f" at {where}" if where else ""
        trace = "".join(traceback.format_exception(error))
    if bound.expected is not None and status == "failed":
        status, reason = "expected", f"{bound.expected} ({reason})"
    elif bound.expected is not None and status == "passed":
        status, reason = (
            "failed",
            f"was expected to fail ({bound.expected}) and passes: take it off the list",
        )
    seconds = round(time.perf_counter() - started, 3)
    return Outcome(
        bound.name, bound.category, status, bound.check.law, reason, where, trace, seconds
    )


def _where(error: BaseException) -> str:
    """Return the plugin's own line in which the traceback ends: neither ours nor torch's."""
    ours = str(Path(__file__).resolve().parent.parent)
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if not f.filename.startswith(("<", ours))
    ]
    frames = [f for f in frames if "/torch/" not in f.filename] or frames
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def kind_of(target: type) -> Kind:
    """Return the kind of component that a class is. Raises UsageError if it is none."""
    from bench_core.registry.registry import base_class

    for kind in KINDS:
        base = base_class(kind)
        if base is not None and issubclass(target, base):
            return kind
    raise UsageError(f"{target.__name__} is no Method, Net, Dataset or Diagnostic")


def checks(
    subject: str | type,
    *,
    options: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    category: str | None = None,
    only: str | None = None,
    registry: Registry | None = None,
) -> Iterator[BoundCheck]:
    """The checks of a component (its name or its class), category by category.

    options            parameters of the component, as in a suite; default: none
    expected_failures  name of a check → why it is known to fail
    category, only     of this category; the check of this name
    Raises UsageError for a name that is not there.
    """
    expected = dict(expected_failures or {})
    if isinstance(subject, str):
        item = find(subject, registry)
        kind, name = item.kind, item.short_name
        target: Any = resolve(item, _base(kind))
    else:
        target, kind, name = subject, kind_of(subject), subject.__name__
    for module in MODULES[kind]:
        import_module(f"bench_core.testing.{module}")
    found = REGISTERED[kind]
    names = {each.name for each in found}
    for wanted in (*expected, *([only] if only else [])):
        if wanted not in names:
            raise UsageError(
                f"no check of a {kind} is called {wanted!r}; {did_you_mean(wanted, names)}"
            )
    subject_of = import_module("bench_core.testing.subjects").SUBJECTS[kind]
    for each in found:
        if category in (None, each.category) and only in (None, each.name):
            yield BoundCheck(
                each, name, expected.get(each.name), lambda: subject_of(target, dict(options or {}))
            )


def _base(kind: Kind) -> type | None:
    from bench_core.registry.registry import base_class

    return base_class(kind)


def find(name: str, registry: Registry | None = None) -> Installed:
    """Find the component of that name among all kinds; `kind:name` if kinds share the name.

    Raises UsageError.
    """
    from bench_core.registry.plugins import load

    kind, _, rest = name.rpartition(":")
    registry = registry or (load_for([rest]) if "/" in rest else load())
    hits: list[Installed] = []
    failures: list[UsageError] = []
    for each in KINDS:
        if kind in ("", each):
            try:
                hits.append(registry.find(each, rest))
            except UsageError as error:
                failures.append(error)
    if len(hits) == 1:
        return hits[0]
    if hits:
        choices = " or ".join(f"{hit.kind}:{rest}" for hit in hits)
        raise UsageError(f"{rest!r} is several components: say {choices}")
    several = next((error for error in failures if "several distributions" in str(error)), None)
    if several is not None:
        raise several
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
    return pytest.mark.parametrize(
        "check", bound, ids=[f"{each.category}-{each.name}" for each in bound]
    )
