"""Keep the components, observers and faults of all installed plugins; find a component by name."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Literal, get_args

from bench_core.errors import PluginError, UnknownName, UsageError, did_you_mean, similar
from bench_core.names import FILE, OURS, distribution_of
from bench_core.printable import Harmless, brief
from bench_core.registry.distributions import normalised, titled
from bench_core.registry.entry_points import EntryPoint, Observer, Trouble
from bench_core.registry.faults import located, misfit
from bench_core.registry.hookspecs import Component
from bench_core.registry.ownership import stranger
from bench_core.suite.component import rule_file

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
    def origin(self) -> str:
        """Name and version of the distribution, or the file of a rule."""
        return titled(self.distribution, self.version)

    @property
    def short_name(self) -> str:
        return self.component.name if self.distribution == OURS else self.full_name


@dataclass
class Registry:
    """The components, observers and faults of the installed plugins.

    calling  the observer and the hook that were called last
    """

    components: list[Installed] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    observers: list[Observer] = field(default_factory=list)
    calling: str = ""

    def add(self, other: Registry) -> None:
        """Add the components, observers and faults of another registry."""
        self.components += other.components
        self.troubles += other.troubles
        self.observers += other.observers

    def fault(self, point: EntryPoint, reason: str) -> None:
        """Keep a fault of the plugin behind an entry point."""
        self.troubles.append(point.trouble(reason))

    def of_kind(self, kind: Kind) -> list[Installed]:
        """Return the components of a kind, ours first, then by full name."""
        chosen = [item for item in self.components if item.kind == kind]
        return sorted(chosen, key=lambda item: (item.distribution != OURS, item.full_name))

    def find(self, kind: Kind, name: str) -> Installed:
        """Return the component of that name, short or full.

        Raises UsageError with similar names and the faults of broken plugins.
        """
        items = self.matches(kind, name)
        if len(items) == 1:
            return items[0]
        if items:
            choices = ", ".join(item.full_name for item in items)
            raise UsageError(
                f"{kind} {name!r} is brought by several distributions; name one of {choices}"
            )
        if kind == "method" and f"{FILE}/" in name:
            file = distribution_of(name)
            folder = "." if Path(file).is_file() else f"FOLDER_OF_{file}"
            remedy = f"begin the command like this: `PYTHONPATH={folder}:$PYTHONPATH bench …`"
            option = f"or where there is that option, give --method {'./' * (folder == '.')}{file}"
            raise UsageError(f"method {name!r}: no file {file} on PYTHONPATH; {remedy}, {option}")
        if kind == "method" and (remedy := rule_file(name)):
            raise UsageError(f"unknown method {name!r}; {remedy}")
        raise self.unknown(f"unknown {kind} {name!r}", name, self.of_kind(kind))

    def matches(self, kind: Kind, name: str) -> list[Installed]:
        """Return the component of that full name, or those of that short name; ours goes first."""
        items = self.of_kind(kind)
        full = [item for item in items if item.full_name == name]
        short = [item for item in items if item.component.name == name]
        return full or (short[:1] if short and short[0].distribution == OURS else short)

    def unknown(self, fault: str, name: str, items: Iterable[Installed]) -> UnknownName:
        """Return an error with names of `items` like `name` and the faults of broken plugins.

        The summary of a diagnostic may begin with its letter, by which tables name it.
        """
        items = list(items)
        names = {item.short_name for item in items}
        known = names | {item.component.name for item in items}
        broken = [f"broken plugin {trouble}" for trouble in self.troubles]
        hint = _here(name.partition("[")[0])
        letters = (item.component for item in items)
        meant = [own.name for own in letters if own.summary.startswith(f"{name}: ")]
        hint = hint or "".join(f"{name} is {own}" for own in meant[:1])
        bare, bracket, _ = name.partition("[")
        hint = hint or f"write {bare}, without options" * bool(bracket and bare in known)
        near = similar(name, known) or self._not_installed(name) + did_you_mean(name, names)
        return UnknownName("; ".join([fault, hint or near, *broken]))

    def _not_installed(self, name: str) -> str:
        """Say that nothing of the distribution in a full name is installed; "" if it is."""
        brought = normalised(distribution_of(name)) if "/" in name else ""
        here = {item.distribution for item in self.components}
        here |= {trouble.distribution for trouble in self.troubles}
        absent = brought and brought not in set(map(normalised, here))
        return f"no plugin of the distribution {brought} is installed here; " * bool(absent)

    def notify(self, hook: str, **arguments: Any) -> list[Trouble]:
        """Call an observer hook on every plugin and return the faults of the observers.

        Control characters are removed from their prints.
        """
        troubles = []
        for observer in self.observers:
            if observer.hook != hook:
                continue
            self.calling = str(observer.entry_point.trouble(hook))
            try:
                with (
                    contextlib.redirect_stdout(Harmless(sys.stdout)),
                    contextlib.redirect_stderr(Harmless(sys.stderr)),
                ):
                    fault = observer(**arguments)
            except BaseException as error:  # an interrupt comes in another thread
                fault = f"raised {brief(error)}"
            if fault:
                troubles.append(observer.entry_point.trouble(f"{hook} {fault}"))
        return troubles


def _here(name: str) -> str:
    """Return a hint if an unknown name has a file or a package in the working folder."""
    file, package = f"{name}{FILE}", f"bench-{name.replace('_', '-')}"
    if name.endswith((".yaml", ".yml")) and os.path.isfile(name):
        return f"it is a suite file: `bench plan {name}` checks it, `bench run {name}` trains it"
    if os.path.isfile(file):
        return f"the rule of a file has its path: ./{file}"
    if os.path.isfile(os.path.join(package, "pyproject.toml")) and not _is_installed(package):
        return f"the package {package} is here but not installed: `pip install -e {package}`"
    return ""


def _is_installed(package: str) -> bool:
    try:
        return bool(metadata.distribution(package))
    except metadata.PackageNotFoundError:
        return False


def resolve(item: Installed, base: type | None = None) -> Any:
    """Import a component's target.

    Raises PluginError if it is missing, raises, is another distribution's, is no `base` or cannot
    be made like one.
    """

    def broken(reason: str) -> PluginError:
        return PluginError(item.origin, f"{item.kind} {item.component.name}", reason)

    module, _, attribute = item.component.target.partition(":")
    if fault := stranger(module, item.distribution):
        raise broken(fault)
    try:
        target = getattr(import_module(module), attribute)
    except (Exception, SystemExit) as error:
        raise broken(f"import: {located(error)}") from error
    if base is not None:
        if not (isinstance(target, type) and issubclass(target, base)):
            raise broken(f"{item.component.target} is not a subclass of {base.__name__}")
        if fault := misfit(target, base):
            raise broken(fault)
    return target


def base_class(kind: str) -> type | None:
    """Return the class from which components of this kind must derive; None: any callable."""
    from bench_core.training.dataset import Dataset
    from bench_core.training.diagnostic import Diagnostic
    from bench_core.training.method import Method
    from bench_core.training.net import Net

    return {"method": Method, "arch": Net, "dataset": Dataset, "diagnostic": Diagnostic}.get(kind)
