"""Compute Γ by layer over the seeds of a method, for the table and the figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from bench_core.analysis.stats import Estimate, estimate
from bench_core.analysis.verdicts.alignment import alignment
from bench_core.analysis.verdicts.rows import Group, Row
from bench_core.report.view import name_of
from bench_core.report.words.rows import gamma


@dataclass(frozen=True)
class Layer:
    """Γ_l over the finished runs, and the median of ‖a_l‖/‖g_l‖."""

    site: int
    gamma: Estimate | None
    ratio: float | None


@dataclass(frozen=True)
class Layers:
    """The alignment of a method; with `not_diagnostic`, every number must be struck out."""

    label: str
    layers: tuple[Layer, ...]
    not_diagnostic: str | None
    floor: bool


def layers(group: Group, most: int) -> list[Layers]:
    """Return the audited rows among the first `most` of a recipe: methods first, then floors."""
    rows = sorted(group.rows, key=lambda row: row.role == "floor")[:most]
    return [item for row in rows if (item := _row(row)) is not None]


def _row(row: Row) -> Layers | None:
    every = [(run.record, alignment(run.record, run.judgement)) for run in row.finished]
    audited = [(record, item) for record, item in every if item and item.layers]
    if not audited:
        return None
    depth = max(len(item.layers) for _, item in audited)
    stored = (record.measurements["alignment"].details.get("sites") for record, _ in audited)
    known = (
        [s for s in sites if isinstance(s, int)] for sites in stored if isinstance(sites, list)
    )
    sites = next((sites for sites in known if len(sites) == depth), range(depth))
    by_layer = []
    for index, site in enumerate(sites):
        values = _at(index, (item.layers for _, item in audited))
        ratios = _at(index, (item.ratio for _, item in audited))
        mean = estimate(values) if values else None
        by_layer.append(Layer(site, mean, median(ratios) if ratios else None))
    return Layers(name_of(row), tuple(by_layer), gamma(row).not_diagnostic, row.role == "floor")


def _at(index: int, runs: Iterable[Sequence[float | None]]) -> list[float]:
    return [value for run in runs for value in run[index : index + 1] if value is not None]
