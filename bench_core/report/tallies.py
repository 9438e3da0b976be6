"""Make the small tables of the page: first firings, bands of thresholds, ways of reporting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench_core.analysis import first_firing, utility
from bench_core.analysis.leaderboard import Group
from bench_core.analysis.sensitivity import Sensitivity
from bench_core.report.criteria import criterion_of
from bench_core.report.curves import read_rows
from bench_core.report.figures.sensitivity import in_words
from bench_core.report.numbers import NONE, compact, signed
from bench_core.report.view import View, competing, name_of

MOST_SHOWN = 400  # methods in the table of strategies
MOST_ROWS = 40  # methods of a recipe whose epochs are read


@dataclass(frozen=True)
class Table:
    """A table of texts; the first column names the row."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def _epochs(found: dict[int, first_firing.Firing], seeds: Sequence[int]) -> str:
    """Write the first firings by seed, `8 / 11 / never`, or once if all seeds agree."""
    words = []
    for seed in seeds:
        item = found.get(seed)
        if item is None:
            words.append(NONE)
        elif item.epoch is not None:
            words.append(str(item.epoch))
        else:
            words.append("not diagnostic" if item.not_diagnostic else "never")
    return words[0] if len(set(words)) == 1 else " / ".join(words)


def firing_table(found: View, group: Group) -> Table | None:
    """Make the table of first firings, and of the epochs that stopping there would have saved."""
    rows = []
    for row in competing(group)[:MOST_ROWS]:
        epochs = {
            run.record.identity: read_rows(found.results.run_folder(run.record)) for run in row.runs
        }
        lengths = {run.record.cell.seed: len(epochs[run.record.identity]) - 1 for run in row.runs}
        for key, by_seed in first_firing.of_row(row, epochs, found.settings).items():
            fired = {seed: item for seed, item in by_seed.items() if item.epoch is not None}
            saved = cost = NONE
            if fired:
                share = sum(item.epochs_saved or 0 for item in fired.values()) / sum(
                    lengths[seed] for seed in fired
                )
                saved = f"{100 * share:.0f} %"
                changes = [
                    c
                    for i in fired.values()
                    if (c := i.accuracy_change) is not None and math.isfinite(c)
                ]
                cost = f"{signed(sum(changes) / len(changes))} pp" if changes else NONE
            rows.append(
                (
                    name_of(row),
                    key.replace("@", " at N = "),
                    _epochs(by_seed, list(lengths)),
                    saved,
                    cost,
                )
            )
    if not rows:
        return None
    heads = (
        "method",
        "diagnostic",
        "first fires at epoch",
        "epochs saved by stopping there",
        "accuracy change since",
    )
    caption = "Epoch of the first firing, seed by seed where they differ; savings and changes are means over the runs that fired."
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


def sensitivity_table(found: View) -> Table | None:
    """Make the table of bands without a changed verdict, and of gaps between the kinds of runs."""
    made = found.sensitivities
    if not made:
        return None
    rows = tuple(
        (
            item.name if item.letter == item.name else f"{item.letter} · {item.name}",
            f"{'>' if item.direction == 'above' else '<'} {compact(criterion_of(item).shown(item.threshold))}",
            in_words(item),
            _gap(item),
            str(item.n),
        )
        for item in made
    )
    heads = ("diagnostic", "fires", "no verdict changes over", "gap, healthy to degenerate", "n")
    return Table(f"Bands of thresholds; b at N = 128. Mind: {made[0].circular}.", heads, rows)


def utility_table(found: View) -> Table | None:
    """Make the table of runs that each strategy walks back, per method."""
    many = len(found.groups) > 1
    rows = []
    for number, group in enumerate(found.groups):
        for item in utility.of_group(group)[0]:
            name = f"{item.label} ({found.headers[number]})" if many else item.label
            rows.append(
                (name, str(item.n), *(str(item.walked_back[key]) for key in utility.STRATEGIES))
            )
    if not rows:
        return None
    rows = rows[:MOST_SHOWN]
    total = utility.total(found.groups)
    rows.append(("all", str(total.n), *(str(total.walked_back[key]) for key in utility.STRATEGIES)))
    said = "; ".join(f"{key} {words}" for key, words in utility.WORDS.items())
    heads = ("method", "runs", *utility.STRATEGIES)
    return Table(
        f"Finished runs that each way of reporting walks back: {said}.", heads, tuple(rows)
    )
