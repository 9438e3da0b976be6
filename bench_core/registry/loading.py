"""Import and check plugin modules, in this process (`take`) or in a child process (`examine`).

In a child process, a module that hangs, exits or crashes costs one line of warning instead of the
command; another child imports the modules after it. The child sends strings only. An observer's
module is imported in the parent when it is called. Measured with `bench list methods` (median of
7; 2 cores, Python 3.11): 0.81 s instead of 0.52 s, and nothing with the built-ins alone.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from types import MethodType
from typing import Any

from bench_core.errors import PluginError, UsageError, did_you_mean
from bench_core.names import NAME, NAME_RULE, OURS
from bench_core.printable import brief
from bench_core.processes import child
from bench_core.registry import hookspecs
from bench_core.registry.entry_points import EntryPoint, Observer, hooks_of, never_run
from bench_core.registry.faults import located
from bench_core.registry.hookspecs import API_VERSION, Component
from bench_core.registry.ownership import stranger
from bench_core.registry.registry import KINDS, Installed, Kind, Registry, base_class, resolve

MARKER = f"{hookspecs.hookimpl.project_name}_impl"  # attribute of a marked function
WRAPPED = (staticmethod, classmethod, MethodType)
SECONDS = "BENCH_PLUGIN_SECONDS"
MOST = 10_000  # components of one hook
HOOKS = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("bench_")}
OBSERVERS = [name for name in HOOKS if name not in {f"bench_{kind}s" for kind in KINDS}]


# --------------------------------------------------------------------------- in a child process


@dataclass
class ImportResult(Registry):
    """What one plugin module brings, and how its import went.

    seconds  duration of the import; None if it did not end
    torch    whether the import loaded torch, which makes every `bench` command slow
    """

    entry_point: EntryPoint = field(kw_only=True)
    seconds: float | None = None
    torch: bool = False


def limit() -> float:
    """Return the time limit for one import: BENCH_PLUGIN_SECONDS, else 60.

    An import of torch alone takes half a minute on a busy machine or from a cold network folder.
    Raises UsageError if the environment has no number.
    """
    text = os.environ.get(SECONDS, "60")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise UsageError(f"{SECONDS}={text!r} is no positive number of seconds")
    return seconds


def examine(
    points: Sequence[EntryPoint],
    seconds: float | None = None,
    targets: bool = False,
    fork: bool = False,
) -> list[ImportResult]:
    """Import plugin modules in a child process and return what they bring.

    seconds  time limit for each; default: `limit()`
    targets  import the components' targets as well
    fork     the modules need torch, as rule files do: fork a child that has it
    """
    from pydantic import TypeAdapter

    results: list[ImportResult] = []
    option = f"{SECONDS}=" if seconds is None else "--timeout "
    while left := points[len(results) :]:
        seconds = limit() if seconds is None else seconds
        request = {"points": [asdict(point) for point in left], "targets": targets}
        try:
            for answer in child.ask(__name__, request, seconds, each=True, fork=fork):
                results.append(TypeAdapter(ImportResult).validate_python(answer))
        except child.ChildError as error:
            if len(results) < len(points):
                result = ImportResult(entry_point=points[len(results)])
                point = result.entry_point
                result.fault(
                    point, f"its import {error}{_remedy(point, error, f'{option}{2 * seconds:g}')}"
                )
                results.append(result)
    return results


def _remedy(point: EntryPoint, error: child.ChildError, longer: str) -> str:
    """Write what to do about a module whose import ended its process, or did not end.

    longer  gives it more time
    """
    remedies = []
    if isinstance(error, child.ChildTimeoutError):
        remedies += [f"give it longer with {longer}"]
    if not point.is_file:
        remedies += ["leave it out with BENCH_PLUGINS=…", f"pip uninstall {point.distribution}"]
    return f"; {', or '.join(remedies)}" if remedies else ""


def serve(request: dict[str, Any], say: Callable[[Any], None]) -> None:
    """Import the plugin modules of the request one by one; send what each brings."""
    for fields in request["points"]:
        result = ImportResult(entry_point=EntryPoint(**fields))
        before, started = "torch" in sys.modules, time.perf_counter()
        take(result, result.entry_point)
        result.seconds = round(time.perf_counter() - started, 3)
        result.torch = not before and "torch" in sys.modules
        for item in result.components if request["targets"] else ():
            try:
                resolve(item, base_class(item.kind))
            except PluginError as error:
                reason = f"{item.kind} {item.component.name}: {error.reason}"
                result.fault(result.entry_point, reason)
        say(asdict(result))


# ------------------------------------------------------------------------------ in this process


def take(registry: Registry, point: EntryPoint) -> None:
    """Import one plugin module, check its hooks and add its components; keep every fault."""
    try:
        if fault := stranger(point.module_name, point.distribution):
            return registry.fault(point, fault)
        module = point.module()
        refusal = _refusal(module, point.distribution)
    except (Exception, SystemExit) as error:
        return registry.fault(point, f"cannot be imported: {located(error)}")
    if refusal:
        return registry.fault(point, refusal)
    try:
        if misfit := _misfit(module):
            return registry.fault(point, misfit)
        hooks = hooks_of(point)
    except Exception as error:
        return registry.fault(point, brief(error))
    if point.is_file and "bench_methods" not in hooks:
        return _take_class(registry, module, point)
    if not hooks:
        registry.fault(point, "implements no hook: is @hookimpl missing?")
    for kind in KINDS:
        for implementation in hooks.get(f"bench_{kind}s", ()):
            try:
                _take_components(registry, kind, implementation.function(), point)
            except (Exception, SystemExit) as error:
                registry.fault(point, f"bench_{kind}s() raised {located(error)}")
    registry.observers += [
        Observer(name, point, tuple(implementation.argnames), place)
        for name in OBSERVERS
        for place, implementation in enumerate(hooks.get(name, ()))
    ]


def _take_class(registry: Registry, module: Any, point: EntryPoint) -> None:
    """Add the learning rule of a rule file without a hook: the one class that it defines."""
    base = base_class("method") or object
    classes = {item for item in vars(module).values() if inspect.isclass(item)}
    own = [item for item in classes if issubclass(item, base) and item.__module__ == point.value]
    names = sorted(item.__name__ for item in own if not item.__name__.startswith("_"))
    if len(names) != 1:
        brought = (
            f"{len(names)} learning rules: {', '.join(names)}" if names else "no learning rule"
        )
        remedy = (
            "define one class derived from LocalMethod or Method (the names of others begin with "
            "_), or name several in a bench_methods() hook"
        )
        return registry.fault(point, f"it has {brought}; {remedy}")
    own_text = vars(getattr(module, names[0])).get("__doc__") or ""  # and not that of its base
    summary = inspect.cleandoc(own_text).partition("\n")[0]
    component = Component(point.name, f"{point.value}:{names[0]}", summary)
    return _take_components(registry, "method", [component], point)


def _refusal(module: Any, distribution: str) -> str | None:
    """Say why this bench refuses a plugin module of another version of the interface."""
    version = getattr(module, "BENCH_API", None)
    if version is None:
        return None
    if not isinstance(version, tuple) or [type(part) for part in version] != [int, int]:
        return f"BENCH_API must be (major, minor), such as {API_VERSION}"
    older = version[0] < API_VERSION[0]
    if not older and version <= API_VERSION:
        return None
    wanted, ours = (".".join(map(str, pair)) for pair in (version, API_VERSION))
    upgrade = f"pip install --upgrade {distribution if older else OURS}"
    return f"made for interface {wanted}, this bench has {ours}: {upgrade}"


def _misfit(module: Any) -> str | None:
    """Name an implementation that fits no hook or would never run, and the form that works."""
    for name in dir(module):
        item = inspect.getattr_static(module, name, None)  # without an import by a lazy module
        inner = item.__func__ if isinstance(item, WRAPPED) else item
        options = inspect.getattr_static(inner, MARKER, None)
        if not isinstance(options, dict):
            if inspect.isclass(item) and item.__module__ == getattr(module, "__name__", None):
                for inside, function in vars(item).items():
                    if isinstance(inspect.getattr_static(function, MARKER, None), dict):
                        return f"{name}.{inside} never runs: write a function outside of the class"
            if name in HOOKS and inspect.isroutine(item) and item is not HOOKS[name]:
                return f"{name} never runs: it is not marked with @hookimpl"
            continue
        function = getattr(module, name)
        hook = options.get("specname") or name
        if hook not in HOOKS:
            if options.get("optionalhook"):
                continue
            return f"{hook} is no hook: {did_you_mean(hook, set(HOOKS))} docs/hooks.md lists them"
        wanted = list(inspect.signature(HOOKS[hook]).parameters)
        given = inspect.signature(function).parameters if callable(function) else {}
        if reason := _never_runs(function, options, given.values()):
            form = f"def {name}({', '.join(n for n in wanted if n in given) or ', '.join(wanted)})"
            return f"{name} {reason}: write a plain function, {form}"
        if not given.keys() <= set(wanted):
            return (
                f"{name}({', '.join(given)}) does not fit the hook {hook}({', '.join(wanted)}): "
                "it may leave out arguments, and add none"
            )
    return None


def _never_runs(
    function: Any, options: dict[str, Any], given: Iterable[inspect.Parameter]
) -> str | None:
    """Say why a call of an implementation would not run its body, or not fill its arguments."""
    if not inspect.isroutine(function):
        return "is no function, so it never runs"
    if options.get("wrapper") or options.get("hookwrapper"):
        return "is a wrapper, which never runs"
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return "is an async function, which never runs"
    if inspect.isgeneratorfunction(function):
        return "is a generator, whose body never runs"
    for argument in given:
        if argument.default is not argument.empty:
            return f"gives {argument.name} a default, so it never gets the value"
        if argument.kind not in (argument.POSITIONAL_ONLY, argument.POSITIONAL_OR_KEYWORD):
            return f"takes {argument}, which never gets a value"
    return None


def _take_components(registry: Registry, kind: Kind, answer: Any, point: EntryPoint) -> None:
    """Add the components that a hook returned, each checked on its own."""
    hook = f"bench_{kind}s() -> list[Component]"
    if fault := never_run(answer):
        return registry.fault(point, f"bench_{kind}s() {fault}")
    if not isinstance(answer, (list, tuple)):
        return registry.fault(point, f"{hook} returned {type(answer).__name__}")
    if len(answer) > MOST:
        count = f"{len(answer):,} items; the limit is {MOST:,}"
        return registry.fault(point, f"{hook} returned {count}")
    own = [i for i in registry.components if (i.kind, i.distribution) == (kind, point.distribution)]
    names = {item.component.name for item in own}
    for component in answer:
        fault = _fault(component)
        if fault is None and point.is_file:
            module, _, target = component.target.partition(":")
            if module != point.value:  # the file may be a renamed copy
                fault = f"{component.name}: the target {component.target} is not in this file"
                fault += f"; write {point.value}:{target}"
        if fault is None and component.name in names:
            fault = f"{kind} {component.name!r} twice in this distribution; the first counts"
        if fault is None:
            names.add(component.name)
            registry.components.append(
                Installed(kind, component, point.distribution, point.version)
            )
        else:
            registry.fault(point, f"{hook}: {fault}")
    return None


def _fault(component: Any) -> str | None:
    """Say what is wrong with an item that a hook returned."""
    if not isinstance(component, Component):
        return f"an item of type {type(component).__name__} is no Component"
    name, target = component.name, component.target
    if not all(isinstance(text, str) for text in (name, target, component.summary, component.cite)):
        return "a component's name, target, summary and cite must be strings"
    if not re.fullmatch(NAME, name):
        return f"{name[:80]!a} is no component name ({NAME_RULE})"
    if not re.fullmatch(r"[\w.]+:\w+", target):
        return f"{name}: target {target[:80]!a} is not of the form 'package.module:Class'"
    return None


def main() -> None:
    child.serve(serve)
