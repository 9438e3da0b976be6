"""Find the first epoch at which a diagnostic fired: pure functions of the rows of epochs.jsonl.

A diagnostic fires first at the first t ≥ 1 after which it lies beyond its threshold
(`bench_core.results.record.fires`: a value that is not finite fires, one that is not diagnostic
does not). As in a verdict, a diagnostic that already fires on the untrained network (t = 0) is
not diagnostic. Stopping at t would have saved the epochs after t. It would have cost the accuracy
after the last epoch minus that after t.

b depends on the batch that the gradient is averaged over: the stored ‖g_L‖ is per sample, its
threshold 1e-7·N. It is read at N = 128, as in every verdict, and also at N = 1024, as in the
published temporal study, where it fires earlier.
Source: arXiv:2606.21126.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from bench_core.analysis.verdicts.judge import (
    UNTRAINED,
    Judgement,
    deciding,
    letter_order,
    threshold_of,
)
from bench_core.analysis.verdicts.rows import Row
from bench_core.analysis.verdicts.settings import Settings, Thresholds
from bench_core.results.epochs import Epoch, ReadCurve
from bench_core.results.record import fires

N_TEMPORAL = 1024  # batch size of the published temporal study


@dataclass(frozen=True)
class Firing:
    """The first firing of one diagnostic in one run.

    key              the letter (or name), "b@1024" for b read at N = 1024
    batch            N, where the reading depends on it
    threshold        per-sample threshold that was applied
    epoch            t, or None: it never fired
    since            the measurement before t: it fired first in since + 1 … t
    not_diagnostic   why it could not fire, or None
    epochs_saved     epochs after t
    accuracy_change  last accuracy less that after t, percentage points: the cost of stopping at t
    """

    key: str
    name: str
    batch: int | None
    threshold: float
    epoch: int | None = None
    since: int | None = None
    not_diagnostic: str | None = None
    epochs_saved: int | None = None
    accuracy_change: float | None = None


def firings(
    rows: Sequence[Epoch], thresholds: Thresholds | None = None, judgement: Judgement | None = None
) -> tuple[Firing, ...]:
    """Find the first firing of each diagnostic measured after every epoch, in order of letters.

    thresholds  thresholds that replace the stored ones (`Settings.thresholds`)
    judgement   of the run: a diagnostic that fires on an untrained network of the recipe is not
                diagnostic here either
    """
    if not any(row.measurements for row in rows):
        return ()
    reasons = dict(judgement.not_diagnostic) if judgement else {}
    measured = [row for row in rows if row.measurements]
    everywhere = set.intersection(*(set(row.measurements) for row in measured))
    by_letter = deciding(measured[-1].measurements)
    result = []
    for letter in sorted(by_letter, key=letter_order):
        name, item = by_letter[letter]
        limit = threshold_of(name, item, thresholds or {})
        if name not in everywhere or item.across or limit is None:
            continue
        readings = [(letter, item.batch, limit)]
        if item.batch is not None:
            at = f"{letter}@{N_TEMPORAL}"
            readings.append((at, N_TEMPORAL, limit * N_TEMPORAL / item.batch))
        for key, batch, threshold in readings:
            if reasons.get(letter) == UNTRAINED:  # then also at the larger threshold
                result.append(Firing(key, name, batch, threshold, not_diagnostic=UNTRAINED))
            else:
                result.append(_first(rows, key, name, batch, threshold))
    return tuple(result)


def _first(rows: Sequence[Epoch], key: str, name: str, batch: int | None, limit: float) -> Firing:
    untrained, *later = [row for row in rows if row.measurements]
    if fires(untrained.measurements[name], limit):
        return Firing(key, name, batch, limit, not_diagnostic=UNTRAINED)
    last = rows[-1]
    for before, row in pairwise([untrained, *later]):
        if fires(row.measurements[name], limit):
            change = None
            if last.accuracy is not None and row.accuracy is not None:
                change = 100.0 * (last.accuracy - row.accuracy)
            return Firing(
                key, name, batch, limit,
                epoch=row.epoch,
                since=before.epoch,
                epochs_saved=last.epoch - row.epoch,
                accuracy_change=change,
            )  # fmt: skip
    reasons = [row.measurements[name].not_diagnostic for row in later]
    silent = reasons[-1] if reasons and None not in reasons else None  # no epoch could be judged
    return Firing(key, name, batch, limit, not_diagnostic=silent)


def of_row(row: Row, epochs: ReadCurve, settings: Settings) -> dict[str, dict[int, Firing]]:
    """Map key → seed → first firing for the runs of a leaderboard row.

    epochs  reads the rows of a run; those of one run are in memory at a time

    Runs that are not done count with the epochs that they have: a diverged run may have fired.
    """
    by_key: dict[str, dict[int, Firing]] = {}
    for run in row.runs:
        for firing in firings(epochs(run.record), settings.thresholds, run.judgement):
            by_key.setdefault(firing.key, {})[run.record.cell.seed] = firing
    return by_key
