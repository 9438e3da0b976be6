"""Collect the runs of a suite for a page or a figure, and read values of one run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.judge import Settings, alignment, threshold_of
from bench_core.analysis.leaderboard import Group, Row, Run, judge_all
from bench_core.analysis.sensitivity import Sensitivity, sensitivities
from bench_core.report import notes
from bench_core.report.criteria import Criterion
from bench_core.report.escape import visible
from bench_core.results.record import Measurement, RunRecord

State = Literal["healthy", "fired", "not judged"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class View:
    """The results of a suite, judged recipe by recipe; each recipe has a header."""

    results: SuiteResults
    groups: tuple[Group, ...]
    headers: tuple[str, ...]

    @property
    def settings(self) -> Settings:
        return self.results.settings

    @property
    def name(self) -> str:
        return visible(self.results.name)

    @cached_property
    def sensitivities(self) -> list[Sensitivity]:
        """Compute how much the verdicts depend on each threshold."""
        return sensitivities(self.groups, self.settings)

    @cached_property
    def runs(self) -> tuple[tuple[int, Row, Run], ...]:
        """Return every run that counts, with the number of its recipe and its row."""
        return tuple(
            (k, row, run)
            for k, group in enumerate(self.groups)
            for row in group.rows
            for run in row.runs
        )


def view(results: SuiteResults) -> View:
    groups = judge_all(results.records, results.settings)
    return View(results, tuple(groups), tuple(notes.headers(groups)))


def competing(group: Group) -> list[Row]:
    """Return the methods and the ceiling, in the order of the leaderboard."""
    return [row for row in group.rows if row.role != "floor"]


def name_of(row: Row) -> str:
    return visible(row.label)


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def finite(value: Any) -> float | None:
    """Return a finite number or None; stored details may hold words such as "nan"."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def rounded(value: float | None, digits: int = 5) -> float | None:
    """Round to significant digits, which saves bytes in the page."""
    return None if value is None else float(f"{value:.{digits}g}")


def state(run: Run, letter: str) -> State:
    """Return the state of a diagnostic in one run. Floors and failed runs are not judged."""
    judgement = run.judgement
    if letter in judgement.fired:
        return "fired"
    quiet = letter in judgement.missing or letter in dict(judgement.not_diagnostic)
    unjudged = quiet or judgement.status != "done" or judgement.role == "floor"
    return "not judged" if unjudged else "healthy"


def value(run: Run, letter: str) -> float | None:
    """Return a diagnostic's value in the units of `Criterion.shown`; it may be infinite or NaN."""
    if run.record.status != "done" or letter not in run.judged:
        return None
    criterion = Criterion(letter, *run.judged[letter])
    stored = run.judgement.margin if criterion.margin else criterion.item.value
    return None if stored is None else criterion.shown(stored)


def thresholds(group: Group, settings: Settings) -> dict[str, list[float]]:
    """Return the limits in force by letter, in the units of `value`.

    A letter has several limits only if runs were stored with different ones.
    """
    limits: dict[str, set[float]] = {}
    for row in competing(group):
        for run in row.finished:
            for letter, (name, item) in run.judged.items():
                limit = threshold_of(name, item, settings.thresholds)
                if limit is not None and math.isfinite(limit):
                    shown = Criterion(letter, name, item).shown(limit)
                    limits.setdefault(letter, set()).add(shown)
    return {letter: sorted(values) for letter, values in limits.items()}


def state_norm(record: RunRecord) -> float | None:
    """Return ‖h_L‖, the median per-sample norm of the last state after training."""
    return last_of(record.measurements.get("scale_growth"), "h")


def last_of(item: Measurement | None, detail: str) -> float | None:
    """Return the last entry of a list in the details of a measurement, if it is finite."""
    values = item.details.get(detail) if item is not None else None
    return finite(values[-1]) if isinstance(values, (list, tuple)) and values else None


def gamma_deep(run: Run) -> tuple[float | None, str | None]:
    """Return Γ deep of one run, and the reason if it means nothing."""
    item = alignment(run.record, run.judgement)
    return (None, None) if item is None else (item.deep, item.not_diagnostic)
