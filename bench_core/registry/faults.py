"""Say what is wrong with the class or with an exception of a plugin, and what its author can do.

Nothing here runs before a fault: a training step is not watched, but repeated once it has raised.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import PurePath
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from bench_core.errors import BenchError, CreditError, did_you_mean
from bench_core.printable import brief, cut, origin, own_line

if TYPE_CHECKING:
    from torch import Tensor

    from bench_core.training.local_method import LocalMethod

_FIELD = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")
_SIGNATURE = re.compile(r"(?:.*\.)?(\w+)\(\) (?:takes|missing|got) ")
IN_PLACE = "modified by an inplace operation"  # in the words of torch
NO_GRAPH = re.compile(r"does not require grad|not have been used in the graph")
DETACHED = (
    "the states that credit() gets are detached: inside `with torch.enable_grad():` begin a graph "
    "at h = states.h[l].detach().requires_grad_(), and compute the rest from it"
)


def misfit(target: type, base: type) -> str:
    """Say why the core cannot use a class derived from `base`; "" if it can."""
    lacking = []
    for name in sorted(getattr(target, "__abstractmethods__", ())):
        near = get_close_matches(name, vars(target), n=1)
        hint = f"; did you mean its `{near[0]}`?" if near else ""
        if name == "step" and "credit" in vars(target):
            hint = "; derive it from LocalMethod, which has one, or write it"
        lacking.append(f"{target.__name__} has no `{name}`{written(target)}{hint}")
    if lacking:
        return "; ".join(lacking)
    arguments = _arguments(base, "__init__")
    try:
        inspect.signature(target.__init__).bind(None, *arguments)  # type: ignore[misc]
    except TypeError:
        return _must(target, "__init__", "take {0} and call super().__init__({0})", arguments)
    except ValueError:  # it shows no signature
        pass
    return _excluded_value(target, base)


def _excluded_value(target: type, base: type) -> str:
    """Name an attribute of a diagnostic with a value of another type than `base` declares."""
    from pydantic import TypeAdapter, ValidationError

    from bench_core.training.diagnostic import Diagnostic

    if not issubclass(base, Diagnostic):
        return ""
    for name, declared in get_type_hints(base).items():
        (kind,) = get_args(declared)  # of ClassVar[…]
        value = getattr(target, name)
        if hasattr(value, "__get__"):  # a property: its value depends on the options
            continue
        plain = value.item() if hasattr(value, "item") else value  # a number of numpy
        try:
            TypeAdapter(kind).validate_python(plain, strict=True)
        except ValidationError:
            known, text = " or ".join(_choices(kind)), cut(repr(value))
            return f"{name} of {target.__name__}{written(target)} must be {known}, not {text}"
    return ""


def _choices(kind: Any) -> Iterator[str]:
    """Yield the values of a literal type, or the names of the types of a union."""
    if isinstance(kind, str):
        yield repr(kind)
    elif parts := get_args(kind):
        for part in parts:
            yield from _choices(part)
    else:
        yield "None" if kind is NoneType else kind.__name__


def located(error: BaseException) -> str:
    """Return an exception as one line, with the plugin's own line that raised it, and a remedy.

    A credit is refused after the rule has returned it, in the middle of a diagnostic.
    """
    text = str(error) if isinstance(error, BenchError) else brief(error)
    if isinstance(error, RuntimeError) and IN_PLACE in text:
        return _changed_in_place(error)
    place = _of_credit(error) or ("" if isinstance(error, CreditError) else origin(error))
    remedy = ""
    if isinstance(error, AttributeError):
        remedy = _unknown_option(error) or _not_measured(error) or _not_set_up(error)
    elif isinstance(error, TypeError):
        remedy = _other_field(error) or _other_signature(error)
    elif isinstance(error, RuntimeError) and NO_GRAPH.search(text):
        remedy = DETACHED
    return text + (f" (at {place})" if place else "") + (f"; {remedy}" if remedy else "")


def written(item: Any) -> str:
    """Return " (FILE.py:LINE)" of a class or a function; "" if no code shows it."""
    return f" ({place})" if (place := _first_line(item)) else ""


def _first_line(item: Any) -> str:
    try:
        return f"{PurePath(inspect.getfile(item)).name}:{inspect.getsourcelines(item)[1]}"
    except Exception:  # the file may have been edited since
        return ""


def _of_credit(error: BaseException) -> str:
    """Return the line of the `credit` that returned what the core refuses, or that changed what it
    was given; "" for other errors.
    """
    from bench_core.training.audit import Audit
    from bench_core.training.credit import as_credits, given
    from bench_core.training.local_method import LocalMethod

    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not any(frame.f_code is as_credits.__code__ for frame in frames) and not (
        isinstance(error, CreditError) and frames and frames[-1].f_code is Audit.batch.__code__
    ):
        return ""
    for frame in reversed(frames):
        own = frame.f_locals
        if frame.f_code is Audit.batch.__code__:
            audit = own["self"]
            states, y = own["states"], own["y"]
            found = _first_change(given(states, y), audit.method.credit, states, y, audit.epoch)
            return (found and found[1]) or _first_line(audit.method.credit)
        if frame.f_code is LocalMethod.step.__code__:
            return _first_line(own["self"].credit)
    return ""


def _arguments(base: type, method: str) -> list[str]:
    return list(inspect.signature(getattr(base, method)).parameters)[1:]


def _must(target: type, method: str, what: str, arguments: list[str]) -> str:
    place = written(getattr(target, method))
    return f"{target.__name__}.{method}{place} must {what.format(', '.join(arguments))}"


def _other_field(error: TypeError) -> str:
    """Return the fields of a class of `bench_core.api` that was given an unknown one; "" else."""
    from bench_core.training.diagnostic import Control, Measured
    from bench_core.training.method import Credits, Laws, Passport

    found = _FIELD.match(str(error))
    for known in (Passport, Laws, Credits, Measured, Control):
        if found and found[1] == known.__name__:
            return did_you_mean(found[2], list(inspect.signature(known).parameters))
    return ""


def _other_signature(error: TypeError) -> str:
    """Say with which arguments the core calls a method that does not take them; "" for others."""
    from bench_core.training.dataset import Dataset
    from bench_core.training.diagnostic import Diagnostic
    from bench_core.training.local_method import LocalMethod
    from bench_core.training.method import Method

    found = _SIGNATURE.match(str(error))
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    caller = str(frames[-1].f_globals.get("__name__")) if frames else ""
    if not found or not caller.startswith("bench_core."):
        return ""
    name = found[1]
    for base in (Method, LocalMethod, Dataset, Diagnostic):
        if inspect.isfunction(getattr(base, name, None)):
            arguments = ", ".join(_arguments(base, name))
            return f"bench calls {name}({arguments}): define it with these arguments"
    return ""


def _unknown_option(error: AttributeError) -> str:
    """Name the options of a plugin whose code reads one that it does not have; "" for others."""
    options = getattr(type(error.obj), "model_fields", None)
    return "" if not options or error.name is None else did_you_mean(error.name, options)


def _not_measured(error: AttributeError) -> str:
    """Say that measure() returned no `Measured`, whose fields the core reads; "" for others."""
    from bench_core.training.diagnostic import Diagnostic, Measured

    for frame, _ in traceback.walk_tb(error.__traceback__):
        given = frame.f_locals
        if (
            frame.f_code.co_name == "stored"
            and isinstance(given.get("diagnostic"), Diagnostic)
            and given.get("result") is error.obj
            and not isinstance(error.obj, Measured)
        ):
            return f"measure() returned a {type(error.obj).__name__}; it returns Measured(value)"
    return ""


def _not_set_up(error: AttributeError) -> str:
    """Say which method of the base sets a missing attribute, and why it has not; "" for others."""
    from bench_core.training.dataset import Dataset
    from bench_core.training.diagnostic import Diagnostic
    from bench_core.training.method import Method

    sets = (
        (Method, "__init__"),
        (Method, "setup"),
        (Dataset, "__init__"),
        (Diagnostic, "__init__"),
    )
    for base, method in sets:
        function: Any = getattr(base, method)
        target = type(error.obj)
        if not issubclass(target, base) or error.name not in function.__code__.co_names:
            continue
        arguments = _arguments(base, method)
        through = {frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)}
        early = method == "setup" and through & {"__init__", "unsupported"}
        if early or getattr(target, method) is function:
            return f"{method}({', '.join(arguments)}) sets it, and is called later"
        return _must(target, method, f"call super().{method}({{0}}) first", arguments)
    return ""


def _changed_in_place(error: RuntimeError) -> str:
    """Name the tensor that was changed in place before the update, and the line that did it."""
    from bench_core.training.local_method import LocalMethod

    change = ""
    with contextlib.suppress(Exception):  # the repeated step may raise too
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code is LocalMethod.step.__code__:
                change = _repeated(*(frame.f_locals[key] for key in ("self", "x", "y", "epoch")))
    if not change:
        place = origin(error)
        before = f" (before {place})" if place else ""
        change = f"a weight or a state was changed in place{before}"
    remedy = "change a copy (x.clone()), or change weights after the update"
    return f"RuntimeError: {change}, and the update needs it as it was: {remedy}"


def _repeated(rule: LocalMethod, x: Tensor, y: Tensor, epoch: int) -> str:
    """Ask a rule for the credits of a batch again; say what it changes first, "" for nothing."""
    from bench_core.training.credit import given

    states = rule.net.states(x, local=True).detach(y)
    watched = given(states, y) | dict(rule.net.named_parameters())
    for function in (rule.learn, rule.credit):
        if found := _first_change(watched, function, states, y, epoch):
            name, place = found
            at = f" (at {place})" if place else ""
            return f"{type(rule).__name__}.{function.__name__} changes {name} in place{at}"
    return ""


def _first_change(
    watched: Mapping[str, Tensor], function: Any, *arguments: Any
) -> tuple[str, str] | None:
    """Call a function; return the name of the tensor that it changes first, and its own line."""
    from torch.overrides import TorchFunctionMode

    versions = {name: tensor._version for name, tensor in watched.items()}
    changes: list[tuple[str, str]] = []

    class Watch(TorchFunctionMode):
        def __torch_function__(
            self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            answer = operation(*args, **(kwargs or {}))
            changed = [n for n, tensor in watched.items() if tensor._version != versions[n]]
            if changed and not changes:
                place = own_line(reversed([*traceback.walk_stack(sys._getframe())]))
                changes.append((changed[0], place))
            return answer

    with contextlib.suppress(Exception), Watch():
        function(*arguments)
    return changes[0] if changes else None
