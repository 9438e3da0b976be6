"""Keep the components, observers and faults of all installed plugins; find a component by name."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal, get_args

from bench_core.errors import PluginError, UsageError, did_you_mean
from bench_core.printable import Harmless, brief
from bench_core.registry.component import Component
from bench_core.registry.distributions import OURS
from bench_core.registry.entry_points import Observer, Trouble

Kind = Literal["method", "arch", "dataset", "diagnostic", "executor"]


KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Installed:
    """A component and the distribution that brought it."""

    kind: Kind
    component: Component
    distribution: str
    version: str

    @property
    def full_name(self) -> str:
        return f"{self.distribution}/{self.component.name}"

    @property
    def short_name(self) -> str:
        return self.component.name if self.distribution == OURS else self.full_name


@dataclass
class Registry:
    """Everything that the installed plugins bring."""

    components: list[Installed] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    observers: list[Observer] = field(default_factory=list)

    def of_kind(self, kind: Kind) -> list[Installed]:
        """The components of a kind, ours first, then by full name."""
        chosen = [item for item in self.components if item.kind == kind]
        return sorted(chosen, key=lambda item: (item.distribution != OURS, item.full_name))

    def find(self, kind: Kind, name: str) -> Installed:
        """The component of that name, short or full. Raises UsageError with near names, or with the plugin that broke."""
        items = self.of_kind(kind)
        full = [item for item in items if item.full_name == name]
        short = [item for item in items if item.component.name == name]
        if full:
            return full[0]
        if short and (len(short) == 1 or short[0].distribution == OURS):
            return short[0]
        if short:
            choices = ", ".join(item.full_name for item in short)
            raise UsageError(
                f"{kind} {name!r} is brought by several distributions; name one of {choices}"
            )
        broken = "; ".join(f"broken plugin {trouble}" for trouble in self.troubles)
        known = {item.short_name for item in items} | {item.component.name for item in items}
        raise UsageError(
            f"unknown {kind} {name!r}; {did_you_mean(name, known)}"
            + (f"; {broken}" if broken else "")
        )

    def notify(self, hook: str, **arguments: Any) -> list[Trouble]:
        """Call an observer hook on every plugin; a raising one is reported and the others still hear. What it prints is cleaned."""
        troubles = []
        for observer in self.observers:
            if observer.hook != hook:
                continue
            try:
                with (
                    contextlib.redirect_stdout(Harmless(sys.stdout)),
                    contextlib.redirect_stderr(Harmless(sys.stderr)),
                ):
                    observer(**arguments)
            except (Exception, SystemExit) as error:
                troubles.append(observer.door.trouble(f"{hook} raised {brief(error)}"))
        return troubles


def resolve(item: Installed, base: type | None = None) -> Any:
    """Import a component's target. Raises PluginError that names distribution, version, component and phase."""

    def broken(phase: str, reason: str) -> PluginError:
        return PluginError(
            item.distribution, item.version, f"{item.kind} {item.component.name}", phase, reason
        )

    module, _, attribute = item.component.target.partition(":")
    try:
        target = getattr(import_module(module), attribute)
    except (Exception, SystemExit) as error:
        raise broken("import", brief(error)) from error
    if base is not None and not (isinstance(target, type) and issubclass(target, base)):
        raise broken("import", f"{item.component.target} is not a subclass of {base.__name__}")
    return target


def base_class(kind: str) -> type | None:
    """What a component of this kind must be a subclass of."""
    from bench_core.training.dataset import Dataset
    from bench_core.training.diagnostic import Diagnostic
    from bench_core.training.method import Method
    from bench_core.training.net import Net

    return {"method": Method, "arch": Net, "dataset": Dataset, "diagnostic": Diagnostic}.get(kind)
