"""Read the figure that a claim names from one judged run and its epochs.

`bench_core.suite.claim` lists the figures. A figure that the run lacks raises `NotRun` with the
reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bench_core.analysis.first_firing import firings
from bench_core.analysis.verdicts.alignment import NOT_IN_USE, unsettled
from bench_core.analysis.verdicts.judge import deciding, threshold_of
from bench_core.analysis.verdicts.kinds import FLOOR
from bench_core.analysis.verdicts.rows import Run
from bench_core.analysis.verdicts.settings import Settings
from bench_core.names import bare_name
from bench_core.printable import few
from bench_core.results.epochs import ReadCurve
from bench_core.results.migrate import described
from bench_core.results.record import Measurement, fires
from bench_core.suite.claim import ClaimedFigure
from bench_core.suite.protocol import AT_FLOOR


class NotRun(Exception):  # noqa: N818 - an outcome, not an error
    """The reason why a run has no such figure."""


def read(
    figure: ClaimedFigure, epoch: int | None, run: Run, settings: Settings, epochs: ReadCurve
) -> tuple[float, str | None]:
    """Read the figure of one run, and the reason if it is not diagnostic. Raises `NotRun`."""
    record, judgement = run.record, run.judgement
    if figure.kind == "verdict" and run.judgement.kind == FLOOR:
        raise NotRun("a floor has no verdict")
    if figure.kind == "verdict":
        return float(bool(judgement.fired)), None
    if is_margin(figure):
        margins = {"margin.matched": judgement.margin_matched, "margin.bp": judgement.margin_bp}
        margin = margins.get(figure.name, judgement.margin)
        silent = None if figure.name in margins else dict(judgement.not_diagnostic).get("d")
        return _present(margin, "its floor has no finished run"), silent
    if figure.kind in ("ever_fires", "first_epoch"):
        return _firing(figure, run, settings, epochs), None
    row = None
    if epoch is not None:
        row = next((row for row in epochs(record) if row.epoch == epoch), None)
        if row is None:
            raise NotRun(f"it has no epoch {epoch}")
    if figure.kind == "field":
        value = getattr(record if row is None else row, figure.name)
        return _present(value, f"it has no {figure.name}"), None
    measurements = record.measurements if row is None else row.measurements
    if figure.kind == "fires":
        return _fires(figure.name, measurements, run, settings, at_end=row is None), None
    return _measured(figure, measurements, run, at_end=row is None)


def is_margin(figure: ClaimedFigure) -> bool:
    """Decide whether a figure is a margin over a floor; that of the suite is depth utility."""
    return figure.kind == "margin" or (figure.name == "depth_utility" and not figure.path)


def _present(value: float | None, reason: str) -> float:
    if value is None:
        raise NotRun(reason)
    return float(value)


def _firing(figure: ClaimedFigure, run: Run, settings: Settings, epochs: ReadCurve) -> float:
    """Return the first firing epoch (infinite: never), or whether the diagnostic ever fired.

    A run that was ended early has the figure only if the diagnostic fired.
    """
    by_key, rows = {}, epochs(run.record)
    for item in firings(rows, settings.thresholds, run.judgement):
        by_key[item.key] = item
        by_key.setdefault(item.name, item)
    firing = by_key.get(bare_name(figure.name))
    if firing is None:
        raise NotRun(f"{figure.name} was not measured after every epoch")
    if firing.not_diagnostic is not None:
        raise NotRun(f"{figure.name} is not diagnostic: {firing.not_diagnostic}")
    planned = run.record.cell.training.get("epochs", 0)
    every = run.record.diagnose_every
    if every > 1 and (figure.kind == "first_epoch" or firing.epoch is None):
        raise NotRun(f"{figure.name} was measured with diagnose_every {every}: this needs 1")
    if firing.epoch is None and (last := rows[-1].epoch) < planned:
        raise NotRun(f"{figure.name} had not fired when the run ended, after epoch {last}")
    if figure.kind == "ever_fires":
        return float(firing.epoch is not None)
    return math.inf if firing.epoch is None else float(firing.epoch)


def _fires(
    name: str, measurements: Mapping[str, Measurement], run: Run, settings: Settings, at_end: bool
) -> float:
    short = bare_name(name)
    for letter, (diagnostic, item) in deciding(measurements).items():
        if short not in (letter, diagnostic):
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
        return float(fires(item, threshold_of(diagnostic, item, settings.thresholds)))
    raise NotRun(f"{name} was not measured")


def _parts(value: Any) -> str:
    """Say of a value that is no number how its parts are named."""
    if isinstance(value, list):
        return f"has a list of {len(value)} there: name one, as in [0]"
    known = f": name one of its parts, {few([*map(str, value)])}" if isinstance(value, dict) else ""
    return f"has no number there{known}"


def _measured(
    figure: ClaimedFigure, measurements: Mapping[str, Measurement], run: Run, at_end: bool
) -> tuple[float, str | None]:
    name = bare_name(figure.name)
    item = measurements.get(name)
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
        missing = item.not_diagnostic or f"{figure.name} was not measured"
        if figure.path and item.value is not None and item.not_diagnostic is None:
            part = ".".join(map(str, figure.path))
            missing = f"{figure.name} has no value {part!r} in a network like this"
        raise NotRun(
            missing
            if value is None
            else f"{'.'.join(map(str, [figure.name, *figure.path]))} {_parts(value)}"
        )
    if math.isnan(value) and item.not_diagnostic is not None:  # undefined: no value to count
        raise NotRun(f"{figure.name} is not diagnostic: {item.not_diagnostic}")
    at_floor = at_end and "b" in run.judgement.fired and described(name, item).needs_reference
    lost = unsettled(measurements) if name == "alignment" else None
    unused = NOT_IN_USE if item.details.get("in_use") is False else None
    return float(value), (AT_FLOOR if at_floor else None) or item.not_diagnostic or lost or unused
