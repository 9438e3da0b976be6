"""When a diagnostic fired first, and what stopping there would have saved: pure functions of the rows of epochs.jsonl.

The first firing epoch of a diagnostic is the first t ≥ 1 after which it lies beyond its threshold: `judgement.fires`, by which
a value that is not finite fires and one that is not diagnostic does not. A diagnostic that fires on the untrained network already
(t = 0) is not diagnostic, as in a verdict. Had the run stopped at t, it would have saved the epochs after t and their training
seconds; what that costs is the accuracy after the last epoch less that after t.

b depends on the batch that the gradient is averaged over: the stored ‖g_L‖ is per sample, its threshold 1e-7·N. It is read at
N = 128, as every verdict does, and beside it at N = 1024, as the published temporal study did, where it fires earlier.
Source: arXiv:2606.21126.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench_core.analysis.judge import (
    UNTRAINED,
    Judgement,
    Settings,
    Thresholds,
    judged,
    letter_order,
    threshold_of,
)
from bench_core.analysis.leaderboard import Row
from bench_core.results.epochs import Epoch
from bench_core.results.record import Measurement, fires

N_TEMPORAL = 1024  # batch size of the published temporal study


@dataclass(frozen=True)
class Firing:
    """The first firing of one diagnostic in one run.

    key              the letter (or name), "b@1024" for b read at N = 1024
    batch            N, where the reading depends on it
    threshold        per-sample threshold that was applied
    epoch            t, or None: it never fired
    not_diagnostic   why it could not fire, or None
    epochs_saved     epochs after t; seconds_saved their training time
    accuracy         of the test set after t
    accuracy_change  last accuracy less that after t, in percentage points: what stopping at t costs where positive
    """

    key: str
    name: str
    batch: int | None
    threshold: float
    epoch: int | None = None
    not_diagnostic: str | None = None
    epochs_saved: int | None = None
    seconds_saved: float | None = None
    accuracy: float | None = None
    accuracy_change: float | None = None


def firings(
    rows: Sequence[Epoch], thresholds: Thresholds | None = None, judgement: Judgement | None = None
) -> tuple[Firing, ...]:
    """The first firing of every diagnostic that was measured after every epoch, b at both batch sizes; in the order of letters.

    thresholds  those that replace the stored ones (`Settings.thresholds`)
    judgement   of the run: what fires on an untrained network of its recipe is not diagnostic here either
    """
    if not rows:
        return ()
    silent = {
        letter
        for letter, reason in (judgement.not_diagnostic if judgement else ())
        if reason == UNTRAINED
    }
    everywhere = set.intersection(*(set(row.measurements) for row in rows))
    found = []
    for letter, (name, item) in sorted(
        judged(rows[-1].measurements).items(), key=lambda pair: letter_order(pair[0])
    ):
        limit = threshold_of(name, item, thresholds or {})
        if name not in everywhere or item.across or limit is None:
            continue
        batch = item.batch
        if letter in silent:
            found.append(Firing(letter, name, batch, limit, not_diagnostic=UNTRAINED))
        else:
            found.append(_first(rows, letter, name, batch, limit))
        if batch is not None:
            temporal = limit * N_TEMPORAL / batch
            found.append(_first(rows, f"{letter}@{N_TEMPORAL}", name, N_TEMPORAL, temporal))
    return tuple(found)


def _first(rows: Sequence[Epoch], key: str, name: str, batch: int | None, limit: float) -> Firing:
    if fires(rows[0].measurements[name], limit):
        return Firing(key, name, batch, limit, not_diagnostic=UNTRAINED)
    last = rows[-1]
    for row in rows[1:]:
        if fires(row.measurements[name], limit):
            return Firing(
                key, name, batch, limit, row.epoch,
                epochs_saved=last.epoch - row.epoch,
                seconds_saved=math.fsum(later.seconds for later in rows if later.epoch > row.epoch),
                accuracy=row.accuracy,
                accuracy_change=100.0 * (last.accuracy - row.accuracy),
            )  # fmt: skip
    return Firing(
        key,
        name,
        batch,
        limit,
        not_diagnostic=_silent([row.measurements[name] for row in rows[1:]]),
    )


def _silent(items: Sequence[Measurement]) -> str | None:
    """The reason where no epoch could be judged at all."""
    return (
        items[-1].not_diagnostic
        if items and all(item.not_diagnostic is not None for item in items)
        else None
    )


def of_row(
    row: Row, epochs: Mapping[str, Sequence[Epoch]], settings: Settings
) -> dict[str, dict[int, Firing]]:
    """key → seed → first firing, for the runs of a leaderboard row; `epochs` maps a run's identity to its rows.

    Runs that did not end well count with the epochs that they have: a diverged run may well have fired before.
    """
    found: dict[str, dict[int, Firing]] = {}
    for run in row.runs:
        for firing in firings(
            epochs.get(run.record.identity, ()), settings.thresholds, run.judgement
        ):
            found.setdefault(firing.key, {})[run.record.cell.seed] = firing
    return found
