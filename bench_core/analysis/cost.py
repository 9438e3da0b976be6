"""Compute the cost of a rule: operations, memory, and time and operations to a target accuracy.

Pure functions of records and curves. A figure of a row is the median over its finished runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from bench_core.analysis.stats import median_of
from bench_core.analysis.verdicts.roles import is_ceiling
from bench_core.analysis.verdicts.rows import Group, Row
from bench_core.names import bare_name
from bench_core.results.epochs import Epoch, ReadCurve
from bench_core.results.record import RunRecord

SHARE = 0.9  # of the ceiling's mean accuracy: the target if no other is given
PHASES = ("forward", "credit", "update")


@dataclass(frozen=True)
class Cost:
    """The cost of a row; None: not known.

    counted                finished runs whose operations were counted; their medians are of these
    flops_over_bp          operations of a step in multiples of bp's
    flops_per_step         operations of a step;  `forward`, `credit`, `update` are its parts
    stored_bytes           activations that are kept for backward passes
    bp_stored_bytes        the same of bp;  `bp_checkpointed_bytes`: of bp that computes blocks anew
    peak_memory_bytes      of the process
    seconds_per_epoch      of training, without measurements
    seconds_spread         that of the slowest run over that of the fastest
    energy_joules          of the machine during the training, where its hardware counts them
    training_flops         operations of the whole training, each step as after the last epoch
    reached                the number of runs that reach the target
    seconds_to_target      of training until the target is reached, if every finished run reaches it
    flops_to_target        operations until then
    efficient              every run has trained to its last epoch, and no other such rule is at
                           least as accurate with fewer operations of training
    """

    row: Row
    counted: int
    flops_over_bp: float | None
    flops_per_step: float | None
    forward: float | None
    credit: float | None
    update: float | None
    stored_bytes: float | None
    bp_stored_bytes: float | None
    bp_checkpointed_bytes: float | None
    peak_memory_bytes: float | None
    seconds_per_epoch: float | None
    seconds_spread: float | None
    energy_joules: float | None
    training_flops: float | None
    reached: int
    seconds_to_target: float | None
    flops_to_target: float | None
    efficient: bool = False


def step_cost(record: RunRecord) -> dict[str, Any]:
    """Return the details of the diagnostic `step_cost`, with its value; empty without them."""
    for name, item in record.measurements.items():
        if bare_name(name) == "step_cost" and item.value is not None:
            counted = [item.details[phase] for phase in PHASES if phase in item.details]
            total = sum(counted) if len(counted) == len(PHASES) else None
            return {**item.details, "value": item.value, "total": total}
    return {}


def middle(row: Row, key: str) -> float | None:
    """Return the median of a figure of `step_cost` over the finished runs."""
    return median_of([step_cost(run.record).get(key) for run in row.finished])


def target_of(group: Group) -> float | None:
    """Return `SHARE` of the mean accuracy of bp; None without a finished run of bp."""
    means = [
        row.accuracy.mean
        for row in group.rows
        if row.accuracy is not None and is_ceiling(row.runs[0].record)
    ]
    return SHARE * fmean(means) if means else None


def _to_target(
    record: RunRecord, curve: Sequence[Epoch], target: float
) -> tuple[float, float | None] | None:
    """Return seconds and operations until a run reaches the target; None if it does not."""
    seconds, per_epoch = 0.0, _flops_per_epoch(record)
    for epoch in curve:
        seconds += epoch.seconds
        if epoch.accuracy is not None and epoch.accuracy >= target:
            return seconds, None if per_epoch is None else per_epoch * epoch.epoch
    return None


def _flops_per_epoch(record: RunRecord) -> float | None:
    cost, batch = step_cost(record), record.cell.training.get("batch_size")
    if not (cost.get("total") and cost.get("steps_per_epoch") and cost.get("n") and batch):
        return None
    return float(cost["total"] * cost["steps_per_epoch"] * batch / cost["n"])


def _per_epoch(record: RunRecord, curve: Sequence[Epoch]) -> float | None:
    """Return the seconds of the median epoch: other work on the machine slows single ones."""
    return median_of([row.seconds for row in curve if row.epoch > 0]) or record.seconds_per_epoch


def cost(row: Row, curve: ReadCurve, target: float | None) -> Cost:
    """Compute the cost of one row."""
    records = [run.record for run in row.finished]
    curves = [(item, curve(item)) for item in records]
    reached = [_to_target(*pair, target) for pair in curves] if target else []
    hits = [hit for hit in reached if hit is not None]
    every = hits if len(hits) == len(records) else []
    per_epoch = [(item, _flops_per_epoch(item)) for item in records]
    seconds = [_per_epoch(*pair) for pair in curves]
    timed = [value for value in seconds if value]
    return Cost(
        row,
        counted=sum(bool(step_cost(item)) for item in records),
        flops_over_bp=middle(row, "value"),
        flops_per_step=middle(row, "total"),
        forward=middle(row, "forward"),
        credit=middle(row, "credit"),
        update=middle(row, "update"),
        stored_bytes=middle(row, "stored_bytes"),
        bp_stored_bytes=middle(row, "bp_stored_bytes"),
        bp_checkpointed_bytes=middle(row, "bp_checkpointed_bytes"),
        peak_memory_bytes=median_of([item.peak_memory_bytes for item in records]),
        seconds_per_epoch=median_of(seconds),
        seconds_spread=max(timed) / min(timed) if len(timed) > 1 else None,
        energy_joules=median_of([item.energy_joules for item in records]),
        training_flops=median_of([flops and flops * item.epochs for item, flops in per_epoch]),
        reached=len(hits),
        seconds_to_target=median_of([seconds for seconds, _ in every]),
        flops_to_target=median_of([flops for _, flops in every]),
    )


def costs(group: Group, curve: ReadCurve, target: float | None) -> list[Cost]:
    """Compute the costs of the rules of a recipe, without floors, and mark the efficient ones."""
    items = [cost(row, curve, target) for row in group.competing]
    return [_marked(item, items) for item in items]


def _marked(item: Cost, others: Sequence[Cost]) -> Cost:
    own = _point(item)
    points = [point for other in others if (point := _point(other)) is not None]
    if own is None:
        return item
    better = any(
        flops <= own[0] and accuracy >= own[1] and (flops, accuracy) != own
        for flops, accuracy in points
    )
    return replace(item, efficient=not better)


def _point(item: Cost) -> tuple[float, float] | None:
    ended = any(run.record.stopped_by for run in item.row.runs)  # a training cut short is cheap
    if item.training_flops is None or item.row.accuracy is None or not item.row.complete or ended:
        return None
    return item.training_flops, item.row.accuracy.mean
