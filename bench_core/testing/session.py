"""Carry out the checks of a component in a child process (`bench check`).

A plugin that hangs or ends the child fails the check that was running; another child carries out
the remaining checks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench_core.errors import UsageError
from bench_core.processes import child
from bench_core.registry import entry_points
from bench_core.registry.card import other_source
from bench_core.registry.loading import examine
from bench_core.registry.plugins import load_for
from bench_core.registry.registry import Installed
from bench_core.testing.kit import Outcome, Status, checks, run

SECONDS = 120.0
CITED = "the_table_cites_the_source_of_the_docstring"
CITED_LAW = "`cite` of the component and `Source:` of its docstring name the same works."
# if FINITE fails so, STATE and all checks beside the contract mean nothing and are left out
FINITE = "credits_have_the_type_of_their_states"
STATE = "state_dict_holds_all_that_the_credit_needs"
MODULE_LAWS = {
    "the_plugin_module_is_taken_without_trouble": "The module of the entry point imports, and its "
    "hooks and components are well-formed.",
    "the_plugin_module_imports_no_torch": "The module of the entry point loads no torch: every "
    "`bench` command imports it.",
}


@dataclass(frozen=True)
class Request:
    """A component (full name and parameters) and its checks: all, a category, or only one."""

    kind: str
    name: str
    options: dict[str, Any]
    category: str | None = None
    only: str | None = None


def distribution(item: Installed, seconds: float) -> Iterator[Outcome]:
    """Check the table that brings a component, its module imported alone in a fresh process."""
    points, _ = entry_points.installed({item.distribution})
    own = [point for point in points if point.distribution == item.distribution]
    for result in examine(own, seconds):
        names = {brought.component.name for brought in result.components}
        if item.component.name not in names and not result.troubles:
            continue
        heavy = (
            "it loads torch: import torch in the module that a target names, or inside a function"
        )
        faults = ("; ".join(t.reason for t in result.troubles), heavy if result.torch else "")
        for (check, law), fault in zip(MODULE_LAWS.items(), faults, strict=True):
            point = result.entry_point
            reason = f"{point.name} = {point.value}: {fault}" if fault else ""
            yield Outcome(check, "contract", "failed" if fault else "passed", law, reason)
    if cite := item.component.cite:
        source = other_source(item.component)
        reason = f"cite is {cite!r}, the docstring has {source!r}: correct one, or leave out cite"
        status: Status = "failed" if source else "passed"
        yield Outcome(CITED, "contract", status, CITED_LAW, reason if source else "")


def carry_out(request: Request, seconds: float = SECONDS) -> Iterator[Outcome]:
    """Yield the outcomes of all checks. Raises UsageError if the component cannot be checked."""
    done, ended = 0, False
    while not ended:
        check: dict[str, Any] | None = None
        job = {**asdict(request), "skip": done}
        try:
            for answer in child.ask(__name__, job, seconds, each=True):
                if "outcome" in answer:
                    check, done = None, done + 1
                    yield Outcome(**answer["outcome"])
                else:
                    check = answer
            ended = True
        except child.ChildError as error:
            if check is None:
                raise UsageError(f"{request.kind} {request.name}: import: it {error}") from None
            done += 1
            yield Outcome(**check, status="failed", reason=f"it {error}")


def said_once(outcome: Outcome, first: dict[tuple[str, str], str]) -> Outcome:
    """Return the outcome, or a skip if an earlier check failed for the same reason.

    first  (line, type) of an exception, the plugin's own line if there is one, and the reason
           of a failure without one → the check that met it first; extended here
    """
    if outcome.status != "failed":
        return outcome
    if not outcome.trace:
        first.setdefault(("", outcome.reason), outcome.check)
        return outcome
    raised = outcome.where or re.findall(r"^  File .*", outcome.trace, re.MULTILINE)[-1]
    kind = re.findall(r"^[^\s:]+", outcome.trace, re.MULTILINE)[-1]
    reason = re.sub(r" \(at [^()]*\)$", "", outcome.reason)  # `located` adds the line of `credit`
    said = first.get(("", reason.removeprefix(f"it raised {kind}: ")))
    met = said or first.setdefault((raised, kind), outcome.check)
    if met == outcome.check:
        return outcome
    remedy = f"mend {met} first" if said else f"{kind} as in {met}; mend that first"
    reason = f"not reached: {remedy}"
    return replace(outcome, status="skipped", reason=reason, trace="")


def serve(request: dict[str, Any], say: Callable[[Any], None]) -> None:
    """Carry out the checks from the `skip`-th on; send each check, then its outcome."""
    kind, name, skip = (request.pop(key) for key in ("kind", "name", "skip"))
    bound = list(checks(f"{kind}:{name}", registry=load_for([name]), **request))
    met: dict[tuple[str, str], str] = {}
    fault = ""
    for check in bound[skip:]:
        say({"check": check.name, "category": check.category, "law": check.law})
        if fault and (check.category != "contract" or check.name == STATE):
            reason = f"not reached: {fault}; mend that first"
            outcome = Outcome(check.name, check.category, "skipped", check.law, reason)
        else:
            outcome = said_once(run(check), met)
        if check.name == FINITE and " is not finite" in outcome.reason:
            fault = outcome.reason
        say({"outcome": asdict(outcome)})


def main() -> None:
    child.serve(serve)
