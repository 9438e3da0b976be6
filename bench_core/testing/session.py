"""`bench check`: the checks of a component carried out in a process of their own, so that a plugin that hangs or crashes there is
a failed check.

The request is JSON on the child's standard input; on a duplicate of its standard output it says which check it turns to and what
came of it. A check has `seconds` from its start. Where the child ends, the check that it was at failed; the rest goes on in
another child.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench_core.errors import BenchError, UsageError
from bench_core.printable import last_line
from bench_core.processes.groups import end_groups
from bench_core.registry.discovery import examine, lines
from bench_core.registry.entry_points import Door
from bench_core.registry.plugins import doors
from bench_core.registry.registry import Installed, Registry
from bench_core.testing.kit import Outcome

SECONDS = 120.0


@dataclass(frozen=True)
class Request:
    """What is to be checked: a component by its full name with its parameters, and which of its checks."""

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
    """The outcomes of all checks, as they come. Raises UsageError where the component cannot be checked at all."""
    done = 0
    while True:
        answers = _child(request, done, seconds)
        for outcome in answers:
            if outcome is None:
                return
            done += 1
            yield outcome


def _child(request: Request, skip: int, seconds: float) -> Iterator[Outcome | None]:
    """What one child says: outcomes from the `skip`-th on, then None, or the failure that ended it."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "bench_core.testing.session"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    errors = bytearray()
    at: dict[str, Any] | None = None
    how = f"it did not end within {seconds:g} s"
    try:
        assert child.stdin is not None
        child.stdin.write(json.dumps({**asdict(request), "skip": skip}).encode())
        child.stdin.close()
        for line in lines(child, seconds, errors):
            told = json.loads(line)
            if "error" in told:
                raise UsageError(told["error"])
            if "end" in told:
                yield None
                return
            if "outcome" in told:
                at = None
                yield Outcome(**told["outcome"])
            elif "at" in told:
                at = told["at"]
        child.wait()
        code = child.returncode
        how = f"it ended the process ({f'killed by {signal.Signals(-code).name}' if code < 0 else f'exit code {code}'})"
        how += f": {last}" if (last := last_line(bytes(errors))) else ""
    except TimeoutError:
        pass
    finally:
        end_groups([child])
    if at is None:
        raise UsageError(f"{request.kind} {request.name}: import: {how}")
    yield Outcome(at["check"], at["category"], "failed", at["law"], how)


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


def main() -> None:
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what plugins print must not spoil the answer
    request = json.load(sys.stdin)

    def say(**more: Any) -> None:
        channel.write(json.dumps(more) + "\n")
        channel.flush()

    say(ready=True)
    from bench_core.registry.plugins import load_for
    from bench_core.testing.kit import checks, run

    try:
        bound = list(
            checks(
                f"{request['kind']}:{request['name']}", options=request["options"], category=request["category"],
                only=request["only"], registry=load_for([request["name"]]),
            )
        )  # fmt: skip
    except BenchError as error:
        say(error=str(error))
        os._exit(0)
    first: dict[tuple[str, str], str] = {}
    for each in bound[request["skip"] :]:
        say(at={"check": each.name, "category": each.category, "law": each.check.law})
        say(outcome=asdict(said_once(run(each), first)))
    say(end=True)
    os._exit(0)  # a plugin's threads or exit handlers have no say


if __name__ == "__main__":
    main()
