"""The figures that `bench_core.suite.claim` names, read from one judged run and its epochs.

Whatever a run does not have raises `NotRun` with the reason, so that nothing is taken for a measurement that is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench_core.analysis.first_firing import firings
from bench_core.analysis.judge import AT_FLOOR, NOT_IN_USE, Settings, judged, threshold_of
from bench_core.analysis.leaderboard import Run
from bench_core.results.epochs import Epoch
from bench_core.results.record import Measurement, RunRecord, fires
from bench_core.suite.claim import Figure

Epochs = Callable[[RunRecord], Sequence[Epoch]]


class NotRun(Exception):  # noqa: N818 - an outcome, not an error
    """Why a figure is not there."""


def read(
    figure: Figure, epoch: int | None, run: Run, settings: Settings, epochs: Epochs
) -> tuple[float, str | None]:
    """The figure of one run, and why it means nothing, if it does. Raises `NotRun` where the run does not have it."""
    record, judgement = run.record, run.judgement
    if figure.kind == "verdict":
        return float(judgement.kind == "walked back"), None
    if figure.kind == "margin" or (figure.name == "depth_utility" and not figure.path):
        margins = {"margin.matched": judgement.margin_matched, "margin.bp": judgement.margin_bp}
        return _have(
            margins.get(figure.name, judgement.margin), "its floor has no finished run"
        ), None
    if figure.kind in ("ever_fires", "first_epoch"):
        return _firing(figure, run, settings, epochs), None
    row = None
    if epoch is not None:
        row = next((row for row in epochs(record) if row.epoch == epoch), None)
        if row is None:
            raise NotRun(f"it has no epoch {epoch}")
    if figure.kind == "field":
        return _have(
            getattr(record if row is None else row, figure.name), f"it has no {figure.name}"
        ), None
    measurements = record.measurements if row is None else row.measurements
    if figure.kind == "fires":
        return _fires(figure.name, measurements, run, settings, at_end=row is None), None
    return _measured(figure, measurements, run, at_end=row is None)


def _have(value: float | None, reason: str) -> float:
    if value is None:
        raise NotRun(reason)
    return float(value)


def _firing(figure: Figure, run: Run, settings: Settings, epochs: Epochs) -> float:
    """The first epoch, infinite where it never fired; or whether it ever did. Of a run that was ended early, only if it fired."""
    keys, rows = {}, epochs(run.record)
    for firing in firings(rows, settings.thresholds, run.judgement):
        keys[firing.key] = firing
        keys.setdefault(firing.name, firing)
    found = keys.get(figure.name.rpartition("/")[2])
    if found is None:
        raise NotRun(f"{figure.name} was not measured after every epoch")
    if found.not_diagnostic is not None:
        raise NotRun(f"{figure.name} is not diagnostic: {found.not_diagnostic}")
    if found.epoch is None and rows[-1].epoch < run.record.cell.training.get("epochs", 0):
        raise NotRun(
            f"{figure.name} had not fired when the run ended, after epoch {rows[-1].epoch}"
        )
    if figure.kind == "ever_fires":
        return float(found.epoch is not None)
    return math.inf if found.epoch is None else float(found.epoch)


def _fires(
    name: str, measurements: Mapping[str, Measurement], run: Run, settings: Settings, at_end: bool
) -> float:
    short = name.rpartition("/")[2]
    for letter, (known, item) in judged(measurements).items():
        if short not in (letter, known):
            continue
        silent = dict(run.judgement.not_diagnostic).get(letter) or item.not_diagnostic
        if silent is not None:
            raise NotRun(f"{name} is not diagnostic: {silent}")
        if at_end:
            if letter in run.judgement.missing:
                raise NotRun(f"{name} was not measured")
            return float(letter in run.judgement.fired)
        if item.value is None:
            raise NotRun(f"{name} was not measured")
        return float(fires(item, threshold_of(known, item, settings.thresholds)))
    raise NotRun(f"{name} was not measured")


def _measured(
    figure: Figure, measurements: Mapping[str, Measurement], run: Run, at_end: bool
) -> tuple[float, str | None]:
    item = measurements.get(figure.name.rpartition("/")[2])
    if item is None:
        raise NotRun(f"{figure.name} was not measured")
    value: Any = item.details if figure.path else item.value
    for step in figure.path:
        try:
            value = value[step]
        except (LookupError, TypeError):
            known = f"; known: {', '.join(map(str, value))}" if isinstance(value, dict) else ""
            raise NotRun(f"{figure.name} has no part {step!r}{known}") from None
    if value in ("inf", "-inf", "nan"):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NotRun(
            item.not_diagnostic or f"{figure.name} was not measured"
            if value is None
            else "it is no number"
        )
    floor = (
        AT_FLOOR if figure.name == "alignment" and at_end and "b" in run.judgement.fired else None
    )
    unused = NOT_IN_USE if item.details.get("in_use") is False else None
    return float(value), floor or item.not_diagnostic or unused
