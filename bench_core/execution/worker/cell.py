"""Turn a stored cell into objects: look its components up, build them, run its diagnostics."""

from __future__ import annotations

import platform
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from bench_core.errors import BenchError, ChangedByDiagnostic, CreditError, UsageError
from bench_core.execution.planning.examination import option_faults
from bench_core.names import OURS, bare_name
from bench_core.printable import plain
from bench_core.registry.faults import located
from bench_core.registry.registry import Registry, resolve
from bench_core.results.record import STEP, Cell, Measurement, checked
from bench_core.suite.messages import explain
from bench_core.training.diagnostic import Diagnostic, Measured
from bench_core.training.net import in_eval
from bench_core.training.params import read

if TYPE_CHECKING:
    from bench_core.training.audit import Audit
    from bench_core.training.build import Built
    from bench_core.training.method import Method

NUMBERS = (int, float, type(None))
PLAIN = (*NUMBERS, str)


def build_cell(
    registry: Registry, cell: Cell, training: dict[str, Any], data_dir: str | None
) -> Built:
    """Look the cell's components up and build them.

    training  the cell's settings, with the device
    """
    from bench_core.training.build import build

    parts = [make(registry, kind, ref.name, ref.params) for kind, ref in cell.refs.items()]
    folder = Path(data_dir) if data_dir else None
    return build(parts, training, cell.data, cell.seed, folder)


def make(registry: Registry, kind: Any, name: str, params: dict[str, Any]) -> tuple[Any, Any]:
    """Return a component's class and its validated parameters.

    Raises UsageError for parameters that the installed class does not take.
    """
    target = resolve(registry.find(kind, name))
    try:
        return target, read(target.Params, params)
    except ValidationError as error:
        found = explain(error.errors(include_url=False), target.Params, params)
        faults = ", ".join(option_faults({"invalid": found}))
        raise UsageError(f"the installed {name} has other parameters: {faults}") from None


def diagnostics(
    registry: Registry, entries: Iterable[Mapping[str, Any]]
) -> list[tuple[str, Diagnostic]]:
    """Return (short name, diagnostic) of each `{"name": …, "params": …}`.

    One that cannot be made raises its error when it measures, and not before the training.
    """
    listed: list[tuple[str, Any]] = []
    for entry in entries:
        name, target = entry["name"], cast(Any, Diagnostic)
        try:
            target = resolve(registry.find("diagnostic", name))
            diagnostic = target(read(target.Params, entry["params"]))
        except (Exception, SystemExit) as error:
            diagnostic = _Unmade(target, error)
        listed.append((bare_name(name), diagnostic))
    return listed


def unasked(
    registry: Registry, method: Method, listed: Iterable[tuple[str, Diagnostic]]
) -> list[tuple[str, Diagnostic]]:
    """Return what is measured after training though the suite does not list it: projected_step.

    A rule may train its blocks by another credit than the one that it shows to `alignment`: in a
    step of its own, in `learn`, or in train mode alone. So where Γ is measured, the step is
    compared with the gradient too.
    """
    names = {name for name, _ in listed}
    if method.params.freeze or "alignment" not in names or STEP in names:
        return []
    return diagnostics(registry, [{"name": f"{OURS}/{STEP}", "params": {}}])


class _Unmade:
    """A diagnostic that could not be made: it has the attributes of its class."""

    def __init__(self, target: Any, error: BaseException) -> None:
        self.target, self.error = target, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)

    def measure(self, audit: Audit) -> Measured:
        raise BenchError(f"it could not be made: {located(self.error)}") from self.error


def measure(diagnostic: Diagnostic, audit: Audit) -> Measurement:
    """Run one diagnostic with the network in eval mode; return its value with the rule by which it
    fires.
    """
    with in_eval(audit.net):
        return stored(diagnostic, diagnostic.measure(audit))


def attempt(name: str, diagnostic: Diagnostic, audit: Audit) -> Measurement:
    """Run one diagnostic; if it raises, keep its error.

    Raises CreditError, the rule's fault, and ChangedByDiagnostic.
    """
    try:
        measurement = measure(diagnostic, audit)
        measurement.model_dump_json()  # raises if a value cannot be stored
        checked({name: measurement})
        return measurement
    except (CreditError, ChangedByDiagnostic):
        raise
    except Exception as error:
        traceback.print_exc()
        return stored(diagnostic, Measured(None, {"error": f"{name} raised {located(error)}"}))


def stored(diagnostic: Diagnostic, result: Measured) -> Measurement:
    """Join a result with the attributes of its diagnostic that are stored beside it.

    Raises BenchError for a result that JSON cannot hold.
    """
    if fault := _foreign(result.details, "details") or _foreign(result.value, "value", NUMBERS):
        raise BenchError(f"it cannot be stored: {fault}")
    own = {name: getattr(result, name) for name in ("value", "details", "not_diagnostic")}
    others = Measurement.model_fields.keys() - own.keys()
    return Measurement(**own, **{name: getattr(diagnostic, name) for name in others})


def _foreign(value: Any, place: str, kinds: tuple[type, ...] = PLAIN) -> str | None:
    """Say which part of a result is of another type than these, and what to give in its place."""
    value = plain(value)
    if kinds is PLAIN and isinstance(value, dict):
        allowed = (str,) if place == "details" else (str, int)
        keys = (_foreign(key, f"a key of {place}", allowed) for key in value)
        items = (_foreign(item, f"{place}[{key!r}]") for key, item in value.items())
        return next(filter(None, (*keys, *items)), None)
    if kinds is PLAIN and isinstance(value, list | tuple):
        return next(filter(None, (_foreign(x, f"{place}[{i}]") for i, x in enumerate(value))), None)
    if isinstance(value, kinds):
        return None
    give = (
        "one number" if kinds is NUMBERS else "numbers, texts, lists or dicts, such as x.tolist()"
    )
    return f"{place} is of type {type(value).__name__}; give {give}"


def environment(device: str, training: dict[str, Any]) -> dict[str, Any]:
    """Return versions and device: why a cell may give other bits. No user, host or path."""
    import numpy
    import torch

    from bench_core.training import processor

    values: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "device": device,
        "device_name": processor.name(),
        "threads": training["threads"],
        "deterministic": training["deterministic"],
    }
    if device == "cpu":
        values["matmul"] = processor.matmul_library()
        values["instructions"] = torch.backends.cpu.get_cpu_capability()
    if training["compile"]:
        values["compiled"] = processor.compiler_fault(device) is None
    if device.startswith("cuda"):
        values |= {"device_name": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return values
