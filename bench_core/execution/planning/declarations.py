"""Read options and declarations from the class of a component, in a child process.

The class is imported there, so a component that loads torch, hangs or exits costs no command.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bench_core.errors import UsageError
from bench_core.processes import child
from bench_core.registry import plugins
from bench_core.registry.registry import base_class, resolve

if TYPE_CHECKING:
    from bench_core.registry.registry import Installed

SECONDS = 60.0
# of a diagnostic
DECLARED = ("letter", "title", "unit", "direction", "threshold", "when", "repeatable")


def ask(item: Installed) -> dict[str, Any]:
    """Return what the class of a component says of itself.

    {"options": {name: {"default", "description"}}, "passport": {line: bool}, "laws": {name: value},
     "declares": {attribute: value}}; the last three where the kind has them
    Raises UsageError with the reason if the class cannot be imported.
    """
    request = {"kind": item.kind, "name": item.full_name}
    try:
        (answer,) = child.ask(__name__, request, SECONDS)
    except child.ChildError as error:
        raise UsageError(f"{item.full_name}: its import {error}") from None
    return dict(answer)


def serve(request: dict[str, Any], say: Callable[[Any], None]) -> None:
    """Import the component of the request and describe it."""
    registry = plugins.load_for([request["name"]])
    item = registry.find(request["kind"], request["name"])
    say(described(item.kind, resolve(item, base_class(item.kind))))


def described(kind: str, target: Any) -> dict[str, Any]:
    """Return the answer of `ask` for a class."""
    from bench_core.results.hashing import jsonable

    answer: dict[str, Any] = {"options": {}}
    model: Any = getattr(target, "Params", None)
    if model is not None:
        defaults = model.model_construct().model_dump(mode="json", warnings=False)
        answer["options"] = {
            name: {"default": defaults.get(name), "description": field.description or ""}
            for name, field in model.model_fields.items()
        }
    if kind == "method":
        answer["passport"] = target(model.model_construct()).passport.as_dict()
        answer["laws"] = {key: value for key, value in vars(target.laws).items() if value}
    if kind == "diagnostic":
        answer["declares"] = {name: getattr(target, name) for name in DECLARED}
    return dict(jsonable(answer))


def main() -> None:
    child.serve(serve)
