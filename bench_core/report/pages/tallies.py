"""Make the rows of the small tables of the page; the first text of a row names it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import fmean

from bench_core.analysis import first_firing, utility
from bench_core.analysis.sensitivity import Sensitivity
from bench_core.analysis.verdicts.rows import Group
from bench_core.report.text.numbers import NONE, compact, signed
from bench_core.report.view import View, name_of
from bench_core.report.words.criteria import band_text, criterion_of
from bench_core.results.details import finite
from bench_core.results.epochs import Epoch
from bench_core.results.record import RunRecord

MOST_SHOWN = 400  # methods in the table of strategies
MOST_READ = 100  # methods of a recipe whose epochs are read


Rows = list[tuple[str, ...]]


def _epoch(item: first_firing.Firing | None) -> str:
    if item is None:
        return NONE
    if item.epoch is not None:
        since = item.since or 0
        return str(item.epoch) if item.epoch == since + 1 else f"{since + 1}–{item.epoch}"
    return "not diagnostic" if item.not_diagnostic else "never"


def _epochs(firings: dict[int, first_firing.Firing], seeds: Iterable[int]) -> str:
    """Write the first firings by seed, `8 / 11 / never`, or once if all seeds agree."""
    words = [_epoch(firings.get(seed)) for seed in seeds]
    return words[0] if len(set(words)) == 1 else " / ".join(words)


def _stopping(firings: dict[int, first_firing.Firing], lengths: dict[int, int]) -> tuple[str, str]:
    """Write the epochs that stopping at the firings would have saved, and the accuracy change."""
    fired = {seed: item for seed, item in firings.items() if item.epoch is not None}
    if not fired:
        return NONE, NONE
    saved = sum(item.epochs_saved or 0 for item in fired.values())
    share = 100 * (saved / sum(lengths[seed] for seed in fired))
    every = (finite(item.accuracy_change) for item in fired.values())
    changes = [change for change in every if change is not None]
    return f"{share:.0f} %", f"{signed(fmean(changes))} pp" if changes else NONE


def first_firings(shown: View, group: Group) -> Rows:
    """List first firings, and the epochs that stopping there would have saved."""
    rows: Rows = []
    for row in group.competing[:MOST_READ]:
        records = [run.record for run in row.runs]
        lengths: dict[int, int] = {}

        def read(record: RunRecord, lengths: dict[int, int] = lengths) -> tuple[Epoch, ...]:
            rows = shown.epochs(record)
            lengths[record.cell.seed] = len(rows) - 1
            return rows

        whole = {record.cell.seed for record in records if not record.stopped_by}

        for key, firings in first_firing.of_row(row, read, shown.settings).items():
            diagnostic = key.replace("@", " at N = ")
            every = max(record.diagnose_every for record in records)
            diagnostic += f" (with diagnose_every {every})" if every > 1 else ""
            uncut = {seed: item for seed, item in firings.items() if seed in whole}
            stopping = _stopping(uncut, lengths)  # another line says what `stop_when` saved
            rows.append((name_of(row), diagnostic, _epochs(firings, lengths), *stopping))
    return rows


def of_most(group: Group) -> str:
    """Say of how many rules `first_firings` has rows; empty if of all."""
    every = len(group.competing)
    return f"The first {MOST_READ} of {every} rules." if every > MOST_READ else ""


def _gap(item: Sensitivity) -> str:
    if item.gap is None:
        return "only one kind"
    if not item.gap.separated:
        return "they overlap"
    criterion = criterion_of(item)
    if item.gap.ratio is not None and criterion.log:
        return f"{compact(item.gap.ratio)}x"
    if math.isinf(item.gap.difference):
        return "without bound"
    return criterion.with_unit(criterion.shown(item.gap.difference)).removeprefix("+")


def bands(shown: View) -> Rows:
    """List the bands without a changed verdict, and the gaps between the kinds of runs."""
    rows: Rows = []
    for item in shown.sensitivities:
        criterion = criterion_of(item)
        sign = ">" if item.direction == "above" else "<"
        name = item.name if item.letter == item.name else f"{item.letter} · {item.name}"
        fires = f"{sign} {compact(criterion.shown(item.threshold))}"
        rows.append((name, fires, band_text(item), _gap(item), str(item.n)))
    return rows


def walked_back(shown: View) -> Rows:
    """List the runs of each method that each strategy walks back."""

    def line(name: str, item: utility.Decisions) -> tuple[str, ...]:
        return name, str(item.n), *(str(item.walked_back[key]) for key in utility.STRATEGIES)

    many = len(shown.groups) > 1
    rows = [
        line(f"{item.label} ({header})" if many else item.label, item)
        for header, group in shown.recipes
        for item in utility.of_group(group)
    ]
    return rows and [*rows[:MOST_SHOWN], line("all", utility.total(shown.groups))]
