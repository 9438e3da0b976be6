"""Carry out the checks of a component in a child process (`bench check`).

A plugin that hangs or ends the child fails the check that was running; another child carries out the remaining checks.
Each check has its own time limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench_core.errors import UsageError
from bench_core.processes import child
from bench_core.registry.discovery import examine
from bench_core.registry.entry_points import Door
from bench_core.registry.plugins import doors
from bench_core.registry.registry import Installed, Registry
from bench_core.testing.kit import Outcome

SECONDS = 120.0


@dataclass(frozen=True)
class Request:
    """A component (full name and parameters) and the checks to carry out: a category, or only one."""

    kind: str
    name: str
    options: dict[str, Any]
    category: str | None = None
    only: str | None = None


def distribution(item: Installed, seconds: float) -> Iterator[Outcome]:
    """The checks of the module that brings a component, imported by itself in a fresh process."""
    found = [
        door
        for door in doors(Registry(), only={item.distribution})
        if door.distribution == item.distribution
    ]
    for heard in examine(found, seconds):
        if (
            all(each.component.name != item.component.name for each in heard.components)
            and not heard.troubles
        ):
            continue  # another module of the distribution, with nothing to say
        yield from of_door(heard.door, [str(t.what) for t in heard.troubles], heard.torch)


def of_door(door: Door, troubles: list[str], torch: bool) -> Iterator[Outcome]:
    """The two checks of one plugin module."""
    broken = "; ".join(troubles)
    yield Outcome(
        "the_plugin_module_is_taken_without_trouble", "contract", "failed" if troubles else "passed",
        "The module behind the entry point imports, and its hooks and components are well-formed.",
        f"{door.name} = {door.value}: {broken}" if troubles else "",
    )  # fmt: skip
    yield Outcome(
        "the_plugin_module_imports_no_torch", "contract", "failed" if torch else "passed",
        "Importing the module behind the entry point loads no torch: every `bench` command does it.",
        f"{door.name} = {door.value} loads torch: import it in the module that a target names, or inside a function"
        if torch else "",
    )  # fmt: skip


def carry_out(request: Request, seconds: float = SECONDS) -> Iterator[Outcome]:
    """Yield the outcomes of all checks. Raises UsageError if the component cannot be checked at all."""
    done, ended = 0, False
    while not ended:
        check: dict[str, Any] | None = None
        job = {**asdict(request), "skip": done}
        try:
            for answer in child.answers(__name__, job, seconds, each=True):
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
    """The outcome, or a skip where it is an exception that an earlier check met at the same line: one fault, one failure.

    first  where an exception was raised, and its type → the check that met it; added to
    """
    if outcome.status != "failed" or not outcome.trace:
        return outcome
    lines = outcome.trace.rstrip().splitlines()
    raised = next((line for line in reversed(lines) if line.startswith("  File ")), "")
    kind = next((line.partition(":")[0] for line in reversed(lines) if line[:1].strip()), "")
    met = first.setdefault((raised, kind), outcome.check)
    if met == outcome.check:
        return outcome
    return replace(
        outcome,
        status="skipped",
        reason=f"not reached: {kind} as in {met}; mend that first",
        trace="",
    )


def serve(request: dict[str, Any], say: Callable[[Any], None]) -> None:
    """Carry out the checks from the `skip`-th on; send each check before it runs and its outcome after it."""
    from bench_core.registry.plugins import load_for
    from bench_core.testing.kit import checks, run

    bound = checks(
        f"{request['kind']}:{request['name']}", options=request["options"], category=request["category"],
        only=request["only"], registry=load_for([request["name"]]),
    )  # fmt: skip
    met: dict[tuple[str, str], str] = {}
    for check in list(bound)[request["skip"] :]:
        say({"check": check.name, "category": check.category, "law": check.check.law})
        say({"outcome": asdict(said_once(run(check), met))})


if __name__ == "__main__":
    child.serve(serve)
