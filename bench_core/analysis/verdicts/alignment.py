"""Read the alignment Γ of a run, and say where it means nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench_core.analysis.stats import estimate
from bench_core.analysis.verdicts.judge import Judgement
from bench_core.results.details import finite
from bench_core.results.record import Measurement, RunRecord
from bench_core.suite.protocol import AT_FLOOR

UNSETTLED = "its inference ends further from its equilibrium than it began"
NO_CREDIT = "the method has no credit to audit"  # as the diagnostic says
NO_DIRECTION = 0.02  # Γ below which a credit has none: two draws of feedback differ by more
NOT_IN_USE = "not the credit in use: blocks learn from another one until warm-up ends"


@dataclass(frozen=True)
class Alignment:
    """Γ of one run.

    deep            unclamped Γ, mean over deep layers; None: it is not finite, or no layer is deep
    has_deep        False: no state lies between two blocks
    layers          unclamped Γ per layer
    ratio           ‖a‖/‖g‖ per layer
    not_diagnostic  why Γ means nothing; then it is printed struck through with this reason
    library         Γ per layer with each norm clamped at 1e-8
    in_use          False: Γ is that of a credit with which no block was trained yet
    step            cosine of the blocks' updates to the gradient (projected_step), if measured
    untried         why that cosine has no value though it was asked for; empty: it has, or was not
    readouts        Γ per layer of the rule's further read-outs by name (ep: displacement)
    blocks          Γ of the credit c_l that trains block l, l = 1 … L; empty: the deep ones are a_l
    blocks_deep     its mean over deep layers; None: c_l is a_l, or it is not finite
    """

    deep: float | None
    has_deep: bool
    layers: tuple[float | None, ...]
    ratio: tuple[float | None, ...]
    not_diagnostic: str | None
    library: tuple[float | None, ...]
    in_use: bool
    step: float | None
    untried: str
    readouts: Mapping[str, tuple[float | None, ...]]
    blocks: tuple[float | None, ...]
    blocks_deep: float | None


def unsettled(measurements: Mapping[str, Measurement]) -> str | None:
    """Return `UNSETTLED` if the inference of a rule has not come down (settledness), else None.

    Its slope at the end is no smaller than at its start: the credit is rounding, or its steps are
    too large.
    """
    item = measurements.get("settledness")
    slope = finite(item.details.get("residual")) if item else None
    return UNSETTLED if slope is not None and slope >= 1 else None


def alignment(record: RunRecord, judgement: Judgement) -> Alignment | None:
    """Read the stored alignment. It is not diagnostic if b fires: the reference is rounding."""
    item = record.measurements.get("alignment")
    if item is None:
        return None
    details, step = item.details, record.measurements.get("projected_step")

    def numbers(key: str) -> tuple[float | None, ...]:
        return tuple(finite(value) for value in details.get(key, ()))

    suffix = "_unclamped"
    further = [key.removesuffix(suffix) for key in sorted(details) if key.endswith(suffix)]
    return Alignment(
        finite(details.get("deep")),
        details.get("deep") is not None,
        numbers("unclamped"),
        numbers("ratio"),
        AT_FLOOR
        if "b" in judgement.fired
        else item.not_diagnostic or unsettled(record.measurements),
        numbers("library"),
        details.get("in_use") is not False,
        finite(step.value) if step and not step.not_diagnostic else None,
        (step.not_diagnostic or "") if step and step.value is None else "",
        {name: numbers(f"{name}{suffix}") for name in further},
        numbers("blocks"),
        finite(details.get("blocks_deep")),
    )


def without_direction(read: Sequence[Alignment]) -> bool:
    """Decide whether blocks are not known to learn from the direction of the gradient.

    Γ deep of the credit from which they learn, the mean over runs, is below `NO_DIRECTION`, or that
    of a run is and the mean lies within two standard errors of 0; or Γ means nothing in one of
    them, is not finite, or is that of a credit that is not in use, or the rule shows no credit.
    Without deep layers Γ of all layers counts. A block without a credit does not learn and does not
    count; the last one counts if no other has a credit. Where the updates themselves were compared
    with the gradient (projected_step, in every run that measures Γ), the smaller of the two cosines
    counts, and without a value nothing is known: the rule cannot be copied, say. Runs that did not
    measure Γ decide nothing.
    """
    values = [_direction(item) for item in read]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return True
    if not known:
        return False
    found = estimate(known)
    noise = 2 * (found.std or 0.0) / math.sqrt(found.n)
    return found.mean < NO_DIRECTION or (min(known) < NO_DIRECTION and found.mean < noise)


def _direction(item: Alignment) -> float | None:
    """Return the mean Γ of the credit from which the blocks of a run learn, if it is known."""
    if item.not_diagnostic or not item.in_use or item.untried:
        return None
    shown = _shown(item)
    return shown if shown is None or item.step is None else min(shown, item.step)


def _shown(item: Alignment) -> float | None:
    """Return the mean Γ of the credit that a rule shows for its blocks, if it is finite."""
    if item.has_deep and item.blocks:
        *deep, last = item.blocks
        learning = [value for value in deep if value != 0.0] or [last]  # 0 exactly: no credit
        finite_ones = [value for value in learning if value is not None]
        return math.fsum(finite_ones) / len(learning) if finite_ones == learning else None
    if item.has_deep:
        return item.deep if item.blocks_deep is None else item.blocks_deep
    values = [value for value in item.layers if value is not None]
    return math.fsum(values) / len(values) if len(values) == len(item.layers) > 0 else None
