"""What a suite's components turn out to be, found out in a process of its own before any training.

Resolving a component imports its code, and with it torch, and runs what a stranger wrote. So `bench run` and `bench plan` ask a
child process: it imports the targets, validates the parameters by the components' own models, makes sure that the data are
there, checks that each method can train each network, and digests the code. Whatever breaks there, an import that raises,
exits, crashes or never returns, is one line before any training, and the asking process stays free of torch.

The request is JSON on the child's standard input. On a duplicate of its standard output it says, line by line, which component
it turns to, so that a crash has a name, and last the answer; what plugins print goes to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_core.errors import BenchError, UsageError
from bench_core.printable import last_line
from bench_core.processes.groups import end_groups
from bench_core.registry.registry import base_class, resolve
from bench_core.training.params import resolved

if TYPE_CHECKING:
    from bench_core.registry.registry import Registry

TIMEOUT = 300.0  # seconds; a data set may be downloaded in this time


def ask(request: dict[str, Any], timeout: float = TIMEOUT) -> dict[str, Any]:
    """Have a child process answer `request`. Raises UsageError where it cannot.

    request  {"components": [[kind, full name, params], …], "trios": [[method, arch, dataset], …] (indices), "data_dir": …,
              "devices": […]}
    answer   {"components": [{"params", "defaults", "passport", "modules", "checksum"} or {"error"} or {"invalid", "schema"}, …],
              "trios": [{"at": "arch" or "method", "why"} or null, …], "absent": {device: why}}
    """
    names = ", ".join(name for _, name, _ in request["components"])
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "bench_core.execution.validate"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = child.communicate(json.dumps(request).encode(), timeout)
    except subprocess.TimeoutExpired:
        raise UsageError(
            f"importing the components took over {timeout:.0f} s and was ended; asked for: {names}"
        ) from None
    finally:
        end_groups([child])  # and whatever a plugin started there
    lines = out.decode("utf-8", "replace").splitlines()
    try:
        answer: dict[str, Any] = json.loads(lines[-1])["answer"]
    except (IndexError, ValueError, KeyError, TypeError):
        at = next((line for line in reversed(lines) if "/" in line), "loading the plugins")
        code = child.returncode
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        last = last_line(err)
        raise UsageError(
            f"{at}: import: ended the process that imported it ({how})"
            + (f": {last}" if last else "")
        ) from None
    return answer


def answer(
    request: dict[str, Any], registry: Registry, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """The child's side: resolve every component, then check every method against every network."""
    data_dir = Path(request["data_dir"]) if request.get("data_dir") else None
    from bench_core.execution import devices, fingerprint

    built = []
    files_of = cache(lambda module, brought_by: fingerprint.code_files([module], brought_by))
    for kind, name, params in request["components"]:
        say(f"{kind} {name}")
        built.append(_component(registry, kind, name, params, data_dir, files_of))
    say("checking each method/network pair")
    trios = [_unsupported(*(built[index][1] for index in trio)) for trio in request["trios"]]
    missing = {
        device: why for device in request.get("devices", ()) if (why := devices.absent(device))
    }
    return {"components": [public for public, _ in built], "trios": trios, "absent": missing}


def _component(
    registry: Registry,
    kind: Any,
    name: str,
    params: dict[str, Any],
    data_dir: Path | None,
    files_of: Callable[[str, str], dict[str, str]],
) -> tuple[dict[str, Any], Any]:
    """(what to tell the parent, the target with its validated parameters or None)."""
    from pydantic import ValidationError

    from bench_core.errors import PluginError
    from bench_core.printable import brief
    from bench_core.results.hashing import digest
    from bench_core.training.method import Passport

    item = None
    try:
        item = registry.find(kind, name)
        target = resolve(item, base_class(kind))
        if misfit := _misfit(target):
            raise PluginError(
                item.distribution, item.version, f"{kind} {name}", "preparation", misfit
            )
        try:
            validated = target.Params.model_validate(params)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False)
            known = {"type", "loc", "msg", "input"}
            return {
                "invalid": [
                    {key: fault[key] for key in known}
                    for fault in json.loads(json.dumps(faults, default=str))
                ],
                "schema": target.Params.model_json_schema(),
            }, None
        told: dict[str, Any] = {
            "name": item.full_name,
            "params": resolved(validated),
            "numerics": target.numerics,
        }
        if kind == "method":
            passport = target(validated).passport
            if not isinstance(passport, Passport):
                raise TypeError(
                    f"its passport is a {type(passport).__name__}: write passport = Passport(…)"
                )
            told["passport"] = passport.as_dict()
            told["defaults"] = target.Params.model_construct().model_dump(
                mode="json", warnings=False
            )
        if kind == "diagnostic":
            told |= {"when": target.when, "direction": target.direction, "across": target.across}
        if kind == "dataset":
            told["checksum"] = target(validated).prepare(data_dir)
        if kind != "diagnostic":
            module = item.component.target.partition(":")[0]
            told |= {"distribution": item.distribution, "version": item.version, "module": module}
            told["files"] = files_of(module, item.distribution)
            told["digest"] = digest(told["files"])
        return told, (target, validated)
    except BenchError as error:
        return {"error": str(error)}, None
    except (Exception, SystemExit) as error:
        version = item.version if item is not None else "?"
        fault = PluginError(
            name.partition("/")[0], version, f"{kind} {name}", "preparation", brief(error)
        )
        return {"error": str(fault)}, None


def _misfit(target: Any) -> str | None:
    """Say what is wrong with a component class: its `numerics`, or the options of a rule."""
    if type(target.numerics) is not int or target.numerics < 1:
        return f"its numerics is {target.numerics!r}: it counts changes of its numbers, from 1"
    from bench_core.training.local_method import LocalMethod
    from bench_core.training.method import Method

    if not issubclass(target, Method):
        return None
    base = LocalMethod if issubclass(target, LocalMethod) else Method
    if issubclass(target.Params, base.Params):
        return None
    return f"its Params must derive from {base.__name__}.Params, which has freeze, penalty and the other options of every rule"


@contextmanager
def _without_draws() -> Iterator[None]:
    """A network on the meta device has no values to draw; drawing them all the same would load torch's compiler, which takes
    longer than all the rest of a plan."""
    import torch

    for name in ("normal_", "uniform_"):
        setattr(torch.Tensor, name, lambda self, *arguments, **options: self)
    try:
        yield
    finally:
        for name in ("normal_", "uniform_"):
            delattr(torch.Tensor, name)


def _unsupported(method: Any, arch: Any, dataset: Any) -> dict[str, str] | None:
    """Why this method cannot train this network on this data, and which part says so ("arch" or "method"), or None.

    The network is built on the meta device.
    """
    if method is None or arch is None or dataset is None:
        return None  # said already, where it broke
    import torch

    from bench_core.printable import brief
    from bench_core.training.loss import CROSS_ENTROPY, SQUARED_ERROR

    (rule, rule_params), (net_class, net_params), (data_class, data_params) = method, arch, dataset
    try:
        data = data_class(data_params)
        with torch.device("meta"), _without_draws():
            net = net_class(net_params, data.shape, data.classes)
            net.loss = SQUARED_ERROR if data.regression else CROSS_ENTROPY
        if len(net.blocks) == 0:
            return {
                "at": "arch",
                "why": "it has no blocks: there is nothing for a learning rule to train",
            }
    except ValueError as error:  # how an architecture says that the inputs do not suit it
        return {"at": "arch", "why": brief(error).partition(": ")[2]}
    except (Exception, SystemExit) as error:
        return {
            "at": "arch",
            "why": f"it cannot be built for inputs of shape {data_class.shape}: {brief(error)}",
        }
    if data.regression and getattr(rule_params, "random_targets", False):
        return {"at": "method", "why": "random_targets draws classes, and this data set has none"}
    if (rule_params.train_last or 0) > net.depth:
        why = f"train_last: {rule_params.train_last} asks for more blocks than the {net.depth} that there are"
        return {"at": "method", "why": why}
    try:
        reason = rule(rule_params).unsupported(net)
    except (Exception, SystemExit) as error:
        reason = f"it cannot say whether it supports this network: {brief(error)}"
    if reason is not None and not isinstance(reason, str):
        reason = f"unsupported() returned {brief(TypeError(reason)).partition(': ')[2]}, not the reason as a text, or None"
    return None if reason is None else {"at": "method", "why": reason}


def main() -> None:
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what plugins print must not spoil the answer
    from bench_core.registry import plugins

    def say(line: str) -> None:
        channel.write(line + "\n")
        channel.flush()

    request = json.load(sys.stdin)
    used = [name for _, name, _ in request["components"]]
    reply = answer(request, plugins.load_for(used), say)
    say(json.dumps({"answer": reply}))
    os._exit(0)  # a plugin's threads or exit handlers have no say


if __name__ == "__main__":
    main()
