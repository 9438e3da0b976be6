"""Compute Γ by layer over the seeds of a method, for the table and the figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench_core.analysis.judge import alignment
from bench_core.analysis.leaderboard import Group, Row
from bench_core.analysis.stats import Estimate, estimate
from bench_core.report.rows import gamma
from bench_core.report.view import name_of


@dataclass(frozen=True)
class Layer:
    """Γ_l over the finished runs, and the median of ‖a_l‖/‖g_l‖."""

    site: int
    gamma: Estimate | None
    ratio: float | None


@dataclass(frozen=True)
class Layers:
    """The alignment of a method. With `not_diagnostic`, show every number struck out, with it."""

    label: str
    layers: tuple[Layer, ...]
    not_diagnostic: str | None
    floor: bool


def layers(group: Group, most: int) -> list[Layers]:
    """Return the audited rows among the first `most` of a recipe: methods first, then floors."""
    rows = sorted(group.rows, key=lambda row: row.role == "floor")[:most]
    return [made for row in rows if (made := _row(row)) is not None]


def _row(row: Row) -> Layers | None:
    found = [
        (run, item)
        for run in row.finished
        if (item := alignment(run.record, run.judgement)) and item.layers
    ]
    if not found:
        return None
    depth = max(len(item.layers) for _, item in found)
    sites = next(
        (
            s
            for run, item in found
            if len(s := _sites(run.record.measurements["alignment"].details)) == depth
        ),
        (),
    )
    made = []
    for index in range(depth):
        values = [
            v
            for _, item in found
            if index < len(item.layers) and (v := item.layers[index]) is not None
        ]
        ratios = [
            v
            for _, item in found
            if index < len(item.ratio) and (v := item.ratio[index]) is not None
        ]
        made.append(
            Layer(
                sites[index] if sites else index,
                estimate(values) if values else None,
                median(ratios) if ratios else None,
            )
        )
    return Layers(name_of(row), tuple(made), gamma(row).not_diagnostic, row.role == "floor")


def _sites(details: dict[str, object]) -> Sequence[int]:
    sites = details.get("sites")
    return [s for s in sites if isinstance(s, int)] if isinstance(sites, list) else []
