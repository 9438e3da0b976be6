"""Tell the parts of runs in a comparison: rules, floors, ceilings and controls."""

from __future__ import annotations

from typing import Any, Literal

from bench_core.names import CEILING, LOCAL_CEILING, OURS
from bench_core.results.record import ComponentRef, RunRecord
from bench_core.suite.cells import CORE_DEFAULTS, FLOOR_OPTIONS

Role = Literal["method", "floor", "ceiling"]

BP, BP_HEADS = f"{OURS}/{CEILING}", f"{OURS}/{LOCAL_CEILING}"
CONTROLS = (f"{OURS}/noise_credit", f"{OURS}/random_credit", f"{OURS}/shuffled_credit")
# the options of every rule; the others of the core belong to local rules
EVERY_RULE = ("freeze", "train_last", "penalty", "random_targets", "block_scale")


def option(ref: ComponentRef, name: str) -> Any:
    """Return an option of the core, or its default if the method does not set it."""
    return ref.params.get(name, CORE_DEFAULTS[name])


def matched_floor(ref: ComponentRef) -> ComponentRef:
    """Return the matched floor of a method: its blocks frozen, and without a penalty."""
    return ref.model_copy(update={"params": {**ref.params, **FLOOR_OPTIONS}})


def unscaled(ref: ComponentRef) -> ComponentRef:
    """Return a method with its initial blocks as they were drawn."""
    drawn = {"block_scale": CORE_DEFAULTS["block_scale"]}
    return ref.model_copy(update={"params": {**ref.params, **drawn}})


def is_drawn(ref: ComponentRef) -> bool:
    """Decide whether a method begins with the blocks as they were drawn."""
    return bool(option(ref, "block_scale") == CORE_DEFAULTS["block_scale"])


def is_floor(record: RunRecord) -> bool:
    """Decide whether the blocks of a run kept their initial weights."""
    return record.cell.method.frozen


def is_ceiling(record: RunRecord) -> bool:
    """Decide whether a run is plain backpropagation, without an option of every rule."""
    ref = record.cell.method
    return ref.name == BP and all(option(ref, name) == CORE_DEFAULTS[name] for name in EVERY_RULE)


def is_local_ceiling(record: RunRecord) -> bool:
    """Decide whether a run is plain backpropagation with local heads."""
    params = record.cell.method.params
    options = (option(record.cell.method, name) == CORE_DEFAULTS[name] for name in EVERY_RULE)
    return record.cell.method.name == BP_HEADS and params.get("weight", 1.0) == 1.0 and all(options)


def is_control(record: RunRecord) -> bool:
    """Decide whether a run must fail, as its credit or targets know nothing of the task."""
    ref = record.cell.method
    return ref.name in CONTROLS or bool(option(ref, "random_targets"))


def role(record: RunRecord) -> Role:
    """Return the part of a run in a comparison."""
    return "floor" if is_floor(record) else "ceiling" if is_ceiling(record) else "method"
