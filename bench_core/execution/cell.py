"""Turn a stored cell into objects: look its components up, build them, run its diagnostics."""

from __future__ import annotations

import json
import platform
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_core.errors import BenchError, CreditError
from bench_core.printable import brief
from bench_core.registry.registry import Registry, resolve
from bench_core.results.record import Cell, Measurement
from bench_core.training.diagnostic import Diagnostic, Measured

if TYPE_CHECKING:
    from bench_core.training.audit import Audit
    from bench_core.training.build import Built


def build_cell(
    registry: Registry, cell: Cell, training: dict[str, Any], data_dir: str | None
) -> Built:
    """Look the cell's components up and build them.

    training  the cell's settings, with the device
    Raises BenchError where the rule keeps a value that is no tensor.
    """
    from bench_core.training.build import Parts, build

    parts = Parts(
        *(
            make(registry, kind, ref.name, ref.params)
            for kind, ref in (
                ("method", cell.method),
                ("arch", cell.arch),
                ("dataset", cell.dataset),
            )
        )
    )
    folder = Path(data_dir) if data_dir else None
    built = build(parts, training, cell.data["limit"], cell.seed, folder)
    for name, value in built.method.state_dict().items():
        if not hasattr(value, "detach"):
            raise BenchError(
                f"state_dict() of {cell.method.short} holds {name!r}, of type "
                f"{type(value).__name__}: only tensors can be kept"
            )
    return built


def make(registry: Registry, kind: Any, name: str, params: dict[str, Any]) -> tuple[Any, Any]:
    """A component's class and its validated parameters."""
    target = resolve(registry.find(kind, name))
    return target, target.Params.model_validate_json(json.dumps(params))


def diagnostics(
    registry: Registry, entries: Iterable[Mapping[str, Any]]
) -> list[tuple[str, Diagnostic]]:
    """(short name, diagnostic) of each `{"name": …, "params": …}`."""
    found = []
    for entry in entries:
        kind, params = make(registry, "diagnostic", entry["name"], entry["params"])
        found.append((entry["name"].rpartition("/")[2], kind(params)))
    return found


def _attributes(diagnostic: Any) -> dict[str, Any]:
    """Return the attributes of a diagnostic's class that are stored with its value."""
    fields = Measurement.model_fields.keys() - {"value", "not_diagnostic", "details"}
    return {name: getattr(diagnostic, name) for name in fields}


def measure(diagnostic: Diagnostic, audit: Audit) -> Measurement:
    """Run one diagnostic and pack what it found with the rule by which it fires."""
    found: Measured = diagnostic.measure(audit)
    return Measurement(
        **_attributes(diagnostic),
        value=found.value,
        not_diagnostic=found.not_diagnostic,
        details=found.details,
    )


def attempt(name: str, diagnostic: Any, run: Callable[[], Measurement]) -> Measurement:
    """A diagnostic that raises loses its own measurement, not the training. Raises CreditError: that is the rule's fault."""
    try:
        measurement = run()
        measurement.model_dump_json()  # what cannot be stored is the diagnostic's fault too
        return measurement
    except CreditError:
        raise
    except Exception as error:
        traceback.print_exc()
        return Measurement(
            **_attributes(diagnostic), details={"error": f"{name} raised {brief(error)}"}
        )


def environment(device: str, training: dict[str, Any]) -> dict[str, Any]:
    """Versions and device: what may differ where the same cell gives other bits. No user, host or path."""
    import numpy
    import torch

    from bench_core.training import processor

    found: dict[str, Any] = {
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
        found["matmul"] = processor.matmul_library()
    if device.startswith("cuda"):
        found |= {"device_name": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return found
