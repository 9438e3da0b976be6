"""Make the small tables of the page: first firings, bands of thresholds, ways of reporting."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from bench_core.analysis import first_firing, utility
from bench_core.analysis.leaderboard import Group
from bench_core.analysis.sensitivity import CIRCULAR, Sensitivity
from bench_core.report.criteria import criterion_of
from bench_core.report.curves import read_rows
from bench_core.report.figures.sensitivity import in_words
from bench_core.report.numbers import NONE, compact, signed
from bench_core.report.view import View, competing, finite, name_of

MOST_SHOWN = 400  # methods in the table of strategies
MOST_ROWS = 40  # methods of a recipe whose epochs are read


@dataclass(frozen=True)
class Table:
    """A table of texts; the first column names the row."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def _epoch(item: first_firing.Firing | None) -> str:
    if item is None:
        return NONE
    if item.epoch is not None:
        return str(item.epoch)
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


def firing_table(shown: View, group: Group) -> Table | None:
    """Make the table of first firings, and of the epochs that stopping there would have saved."""
    rows = []
    for row in competing(group)[:MOST_ROWS]:
        epochs = {
            run.record.identity: read_rows(shown.results.run_folder(run.record)) for run in row.runs
        }
        lengths = {run.record.cell.seed: len(epochs[run.record.identity]) - 1 for run in row.runs}
        for key, firings in first_firing.of_row(row, epochs, shown.settings).items():
            diagnostic = key.replace("@", " at N = ")
            stopping = _stopping(firings, lengths)
            rows.append((name_of(row), diagnostic, _epochs(firings, lengths), *stopping))
    if not rows:
        return None
    heads = (
        "method",
        "diagnostic",
        "first fires at epoch",
        "epochs saved by stopping there",
        "accuracy change since",
    )
    caption = (
        "Epoch of the first firing, seed by seed where they differ; savings and changes are means"
        " over the runs that fired."
    )
    return Table(caption, heads, tuple(rows))


def _gap(item: Sensitivity) -> str:
    if item.gap is None:
        return "only one kind"
    if not item.gap.separated:
        return "they overlap"
    criterion = criterion_of(item)
    if item.gap.ratio is not None and criterion.log:
        return f"{item.gap.ratio:.3g}x"
    if math.isinf(item.gap.difference):
        return "without bound"
    return f"{criterion.shown(item.gap.difference):.3g}"


def sensitivity_table(shown: View) -> Table | None:
    """Make the table of bands without a changed verdict, and of gaps between the kinds of runs."""
    rows = []
    for item in shown.sensitivities:
        criterion = criterion_of(item)
        sign = ">" if item.direction == "above" else "<"
        name = item.name if item.letter == item.name else f"{item.letter} · {item.name}"
        fires = f"{sign} {compact(criterion.shown(item.threshold))}"
        rows.append((name, fires, in_words(item), _gap(item), str(item.n)))
    if not rows:
        return None
    heads = ("diagnostic", "fires", "no verdict changes over", "gap, healthy to degenerate", "n")
    caption = f"Bands of thresholds; b at N = 128. Mind: {CIRCULAR}."
    return Table(caption, heads, tuple(rows))


def utility_table(shown: View) -> Table | None:
    """Make the table of runs that each strategy walks back, per method."""

    def line(name: str, item: utility.Decisions) -> tuple[str, ...]:
        return name, str(item.n), *(str(item.walked_back[key]) for key in utility.STRATEGIES)

    many = len(shown.groups) > 1
    rows = [
        line(f"{item.label} ({header})" if many else item.label, item)
        for header, group in zip(shown.headers, shown.groups, strict=True)
        for item in utility.of_group(group)
    ]
    if not rows:
        return None
    rows = [*rows[:MOST_SHOWN], line("all", utility.total(shown.groups))]
    words = "; ".join(f"{key} {text}" for key, text in utility.WORDS.items())
    caption = f"Finished runs that each way of reporting walks back: {words}."
    return Table(caption, ("method", "runs", *utility.STRATEGIES), tuple(rows))
