"""Validate the components of a suite in a child process, before any training.

Validation imports torch and runs plugin code. The child (`answer`) validates the parameters by the
components' own models, prepares the data, checks that each method can train each network, and
digests the code. A component that raises, exits, crashes or hangs is an error of one line.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bench_core.errors import BenchError, PluginError, UsageError
from bench_core.execution.planning.examination import (
    Answer,
    Examined,
    Request,
    Selected,
)
from bench_core.execution.planning.fit import refusal
from bench_core.names import bare_name, distribution_of
from bench_core.processes import child
from bench_core.registry.distributions import titled
from bench_core.registry.faults import located
from bench_core.registry.registry import base_class, resolve
from bench_core.suite.messages import explain
from bench_core.training.params import read, resolved

if TYPE_CHECKING:
    from bench_core.registry.registry import Installed, Registry

TIMEOUT = 300.0  # seconds; a data set may be downloaded in this time

Files = Callable[[str, str], dict[str, str]]  # module, distribution → its modules and their digests


def ask(request: Request, timeout: float = TIMEOUT) -> Answer:
    """Validate the components of `request` in a child process.

    Raises UsageError if the child hangs or ends early; its text names the component.
    """
    line: Any = "loading the plugins"
    phase = line
    try:
        for line in child.ask(__name__, request, timeout, memory_mb=request.get("memory_mb")):
            phase = line if isinstance(line, str) else phase
    except child.ChildError as error:
        raise UsageError(f"{phase}: it {error}") from None
    return cast(Answer, line)


def serve(request: Request, say: Callable[[Any], None]) -> None:
    """Send each phase of the validation as a text, then the answer."""
    from bench_core.registry import plugins

    home = os.getcwd()
    registry = plugins.load_for(name for _, name, _ in request["components"])
    os.chdir(home)  # an import may have left it
    say(answer(request, registry, say))


def answer(
    request: Request, registry: Registry, say: Callable[[str], None] = lambda phase: None
) -> Answer:
    """Validate every component in this process, then check every method against every network."""
    from bench_core.execution import devices
    from bench_core.execution.planning import fingerprint

    place = request.get("data_dir")
    data_dir = Path(place) if place else None
    files_of = cache(lambda module, brought_by: fingerprint.code_files([module], brought_by))
    components, home = [], os.getcwd()
    for kind, name, params in request["components"]:
        say(f"{kind} {name}: import")
        os.chdir(home)
        components.append(_component(registry, kind, name, params, data_dir, files_of))
    say("checking each method/network pair")
    scaled = request.get("floors_scaled", False)
    trios = [
        refusal(components[method][1], components[arch][1], components[dataset][1], scaled)
        for method, arch, dataset in request.get("trios", ())
    ]
    selections = []
    for index, options in request.get("selections", ()):
        say(f"dataset {request['components'][index][1]}: counting its training samples")
        selections.append(_selected(components[index][1], options, data_dir))
    asked = request.get("devices", ())
    absent = {device: why for device in asked if (why := devices.absent(device))}
    public = [public for public, _ in components]
    return {"components": public, "trios": trios, "absent": absent, "selections": selections}


def _selected(dataset: Any, options: Any, data_dir: Path | None) -> Selected:
    """Count the training samples that a cell's `data` leaves, or say why that cannot be done."""
    from bench_core.training.build import selected
    from bench_core.training.data import loaded

    if dataset is None:  # known to be broken
        return {}
    data_class, params = dataset
    try:
        return {"count": len(selected(loaded(data_class(params), data_dir), options).train_y)}
    except BenchError as error:
        return {"why": str(error).removeprefix("data.validation: ")}
    except (Exception, SystemExit) as error:
        return {"why": f"{data_class.__name__} cannot be loaded: {located(error)}"}


def _component(
    registry: Registry, kind: Any, name: str, params: Any, data_dir: Path | None, files_of: Files
) -> tuple[Examined, Any]:
    """Return (its part of the answer, (class, validated parameters) or None)."""
    from pydantic import ValidationError

    brought_by, short = titled(distribution_of(name), "?"), bare_name(name)
    try:
        item = registry.find(kind, name)
        brought_by = item.origin
        target = resolve(item, base_class(kind))
        if misfit := _misfit(target):
            raise PluginError(brought_by, f"{kind} {short}", misfit)
        try:
            validated = read(target.Params, params)
        except ValidationError as error:
            faults = explain(error.errors(include_url=False), target.Params, params)
            return {"invalid": faults}, None
        return _prepared(item, target, validated, data_dir, files_of), (target, validated)
    except BenchError as error:
        return {"error": str(error)}, None
    except (Exception, SystemExit) as error:
        fault = PluginError(brought_by, f"{kind} {short}", located(error))
        return {"error": str(fault)}, None


def _prepared(
    item: Installed, target: Any, validated: Any, data_dir: Path | None, files_of: Files
) -> Examined:
    """Describe a valid component."""
    from bench_core.results.hashing import digest, jsonable
    from bench_core.training.method import Passport

    defaults = target.Params.model_construct().model_dump(mode="json", warnings=False)
    module = item.component.target.partition(":")[0]
    fields: Examined = {
        "name": item.full_name,
        "params": resolved(validated),
        "defaults": jsonable(defaults),
        "numerics": target.numerics,
        "distribution": item.distribution,
        "version": item.version,
        "module": module,
    }
    if item.kind == "diagnostic":
        target(validated)  # raises here and not in a worker
        fields["when"], fields["direction"] = target.when, target.direction
        fields["across"], fields["repeatable"] = target.across, target.repeatable
    if item.kind == "method":
        rule = target(validated)
        rule.params  # noqa: B018 - raises here, and not in a worker, where nothing set it
        passport = rule.passport
        if not isinstance(passport, Passport):
            kind = type(passport).__name__
            raise TypeError(f"its passport is a {kind}: write passport = Passport(…)")
        fields["passport"] = passport.as_dict()
    if item.kind == "dataset":
        fields["checksum"] = target(validated).prepare(data_dir)
    fields["files"] = files = files_of(module, item.distribution)
    return {**fields, "digest": digest(files)}


def _misfit(target: Any) -> str | None:
    """Say what is wrong with a component class: its `numerics`, or the options of a rule."""
    if type(target.numerics) is not int or target.numerics < 1:
        grows = "raise it by one when its numbers change"
        return f"numerics must be a whole number from 1, not {target.numerics!r}; {grows}"
    from bench_core.training.local_method import LocalMethod
    from bench_core.training.method import Method

    if not issubclass(target, Method):
        return None
    base = LocalMethod if issubclass(target, LocalMethod) else Method
    options = "freeze, penalty and the other options of every rule"
    misfit = f"its Params must derive from {base.__name__}.Params, which has {options}"
    return None if issubclass(target.Params, base.Params) else misfit


def main() -> None:
    child.serve(serve)
