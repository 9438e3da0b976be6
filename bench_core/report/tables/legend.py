"""Explain how to read the leaderboards; the text is raw."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from bench_core.analysis.early_stop import savings
from bench_core.analysis.verdicts.kinds import VERDICTS
from bench_core.analysis.verdicts.labels import label
from bench_core.analysis.verdicts.rows import Group, Row
from bench_core.analysis.verdicts.settings import Settings
from bench_core.report.tables.columns import COLUMNS, further, hardware
from bench_core.report.tables.notes import SCORED_ON
from bench_core.report.text.layout import listed
from bench_core.report.text.numbers import NONE, plural, with_interval
from bench_core.report.text.numbers import share as written
from bench_core.report.words.cite import CITATION
from bench_core.report.words.criteria import criteria
from bench_core.report.words.criteria import further as further_criteria
from bench_core.report.words.rows import OTHER, PASSPORT, passport
from bench_core.suite.protocol import STANDARD

MEASURED = {**SCORED_ON, "test": "test images"}
PROTOCOL = f"Protocol: {CITATION}"
THREE = f"D1 D2 D3: the verdict as {CITATION} writes it, where " + ", ".join(
    f"{v.three} is {v.name} ({k})" for k, v in STANDARD.items() if v.three
)
GAMMA = (
    "Γ deep: cosine of the rule's credit, its signal for a block, to the gradient of "
    "backpropagation, mean over the states between two blocks: 1 same direction, 0 none in common"
)
FLOORS = (
    "own floor: the same rule with random blocks, where only embedding and readout train; bp "
    "floor: backpropagation with random blocks. Margins over them are percentage points, paired by "
    "seed unless a line says otherwise."
)
TRAININGS = (
    "trials: trainings with other values, from which the recipe and the options of the row were "
    "chosen; on another seed, without a look at these runs"
)
TRUST = (
    "checked: your `bench verify` found no fault. replicated: your `bench replicate` trained it "
    "again and it agrees; disputed: it does not agree. posted: none of these. as they say: only "
    "the word of another user."
)


def _own_floor(settings: Settings) -> str:
    """Name the floor that verdicts use."""
    depth = settings.depth_utility
    if depth.floor_value is not None:
        return f"a given accuracy of {depth.floor_value:g}"
    return "its own floor" if depth.floor == "matched" else f"{depth.floor} with random blocks"


def _verdicts(rows: Sequence[Row], settings: Settings) -> list[str]:
    """Explain the verdicts that these rows have."""
    kinds = {row.verdict.kind for row in rows}
    every = {c.limit(settings.thresholds) for c in criteria(rows) if c.margin}
    limits = sorted(value for value in every if value is not None)
    limit = " or ".join(f"{value:g}" for value in limits)
    usual = f"{STANDARD['d'].threshold:g}"
    floor = _own_floor(settings)
    replaced = any(row.replaced for row in rows)
    floor += " (where its interval reaches chance, over that of bp)" * replaced
    judged = {
        letter
        for run in (run for row in rows if row.role != "floor" for run in row.finished)
        for letter in run.deciding.keys() - {letter for letter, _ in run.judgement.not_diagnostic}
    }
    names = ", ".join(
        item.short for item in criteria(rows) if not item.margin and item.letter in judged
    )
    scaled = any(row.rescaled.floor for row in rows)
    own = ", and as many over its own random blocks of another scale, where such were trained"
    also = {"names": f" ({names})" if names else "", "scales": own * scaled}
    texts = [
        f"{name}: {kind.meaning.format(limit=limit or usual, floor=floor, **also)}"
        for name, kind in VERDICTS.items()
        if name in kinds
    ]
    return texts


def medians(rows: Sequence[Row], shown: Collection[str]) -> list[str]:
    """Explain the columns of diagnostics: the criterion, the letter, and N where it is divided."""
    of_letter = {item.letter: item for item in [*criteria(rows), *further_criteria(rows)]}
    columns = [*COLUMNS, *further(rows)]
    letters = [c.letter for c in columns if c.key in shown and c.letter in of_letter]
    medians = [of_letter[letter] for letter in letters]
    if not medians:
        return []
    names = ", ".join(
        f"{item.heading} ({item.letter})" if item.letter != item.name else item.heading
        for item in medians
    )
    batches = [(item.heading, item.item.batch) for item in medians if item.item.batch]
    remarks = [f"; {name} is per sample, divided by N={n}" for name, n in batches]
    items = [m for row in rows for run in row.finished for m in run.record.measurements.values()]
    endless = any(m.value is not None and math.isnan(m.value) for m in items)
    remarks += ["; in a median a value that is not a number counts as the largest"] * endless
    cells = (c.cell(row) for c in columns if c.letter in letters for row in rows)
    remarks += ["; †: not diagnostic, for the reason above"] * any(cell.struck for cell in cells)
    return [f"{names}: median over finished runs; claims compare means{''.join(remarks)}"]


def _uses(rows: Sequence[Row]) -> list[str]:
    """Explain the codes of the passports that these rows have."""
    declared = [passport(row) for row in rows]
    codes = {code for text in declared for code in text.split()}
    texts = [f"{code} {text}" for code, text in [*PASSPORT.values(), OTHER] if code in codes]
    if "local" in codes:
        texts.append("local: nothing else")
    if "" in declared:
        texts.append(f"{NONE}: not declared")
    beyond = "uses, as its author declares, beyond a block's own activity and the output error"
    return [f"{beyond}: {'; '.join(texts)}"] * bool(texts)


def _samples(read: Collection[str], words: Mapping[str, str]) -> str:
    """Name the samples that the runs read for their figures."""
    return " or ".join(words[name] for name in words if name in read) or words["test"]


def _stopped(groups: Sequence[Group], settings: Settings) -> list[str]:
    """Write what `stop_when` saved and cost, a line per recipe and method."""
    records = [record for group in groups for record in group.records]
    peers = [record.cell.method for record in records]
    every = savings(records)
    several = len({item.system for item in every}) > 1
    lines = []
    for item in every:
        name = label(item.method, peers, settings.defaults)
        name += f" ({item.system})" if several else ""
        after = ", ".join(map(str, item.at.values()))
        seconds = f", about {item.seconds:.0f} s," if item.seconds is not None else ""
        saved = f"{plural(item.epochs, 'epoch')}{seconds} saved"
        cost = "what it cost in accuracy is not known: the same cells were not trained to their end"
        if item.cost is not None:
            compared = f"against the same cells trained to their end (n={item.cost.n})"
            cost = f"accuracy {with_interval(item.cost)} points {compared}"
        end = f"{name} ended by {item.diagnostic} after epoch {after} of {item.planned}"
        lines.append(f"{end}: {saved}; {cost}")
    return lines


def accuracy(rows: Sequence[Row]) -> str:
    """Explain the column of accuracies and its ±."""
    scores = {run.record.explained for row in rows for run in row.finished}
    share = "share of the targets' variance that is explained, " if scores == {True} else ""
    rules = [row for row in rows if row.role != "floor"] or rows
    means = [row.accuracy for row in rules if row.accuracy is not None]
    cut = any("[" in written(mean.mean, mean.half_width) for mean in means)
    return (
        f"accuracy: {share}on {_samples(_read(rows), SCORED_ON)} after the last epoch, never the "
        "best; mean over the finished seeds ± 95 % interval (Student t)"
        f"{', or [its ends] where it is cut off at 0 or 1' * cut}."
    )


def _ranks(rows: Sequence[Row]) -> str:
    """Explain the column of ranks."""
    rules = {row.rank is None for row in rows if row.role != "floor" and row.finished}
    among = "; the others are ranked among themselves" if len(rules) > 1 else ""
    return (
        "#: the ranks that hold for all rules at once, with 95 % if seeds scatter normally; more "
        "rules, or one that scatters, widen them (`bench compare A B` compares two alone); –: no "
        f"rank, for too few finished seeds or rules{among}."
    )


def _read(rows: Sequence[Row]) -> list[str]:
    """Return the samples that each run read for its figures."""
    return [run.record.cell.data.get("evaluate_on", "test") for row in rows for run in row.runs]


def of_all(
    groups: Sequence[Group], settings: Settings, keys: Collection[str] | None = None
) -> list[str]:
    """Explain how to read the tables.

    keys  of the columns that are shown: only these have a legend; None: all
    """
    rows: list[Row] = [row for group in groups for row in group.rows]
    columns = [*COLUMNS, *further(rows)] if rows else []
    shown = {column.key for column in columns} if keys is None else set(keys)
    lines = [*_verdicts(rows, settings), FLOORS]
    lines += [accuracy(rows), _ranks(rows)]
    lines += [GAMMA] if "gamma" in shown else []
    if "seconds" in shown:
        shipped = {run.record.shipped for row in rows for run in row.runs}
        other = " The reference was trained on other machines." if len(shipped) > 1 else ""
        text = "seconds a run: of one seed without its floor, with all evaluations and diagnostics "
        text += "(`bench cost` has the training alone). Other work on the"
        lines.append(f"{text} machine makes it longer.{other}")
    if shown & {"seconds", "memory"} and any(len(hardware(group.rows)) > 1 for group in groups):
        lines.append(
            f"seconds and memory compare within one machine alone: these runs are of "
            f"{listed(hardware(rows))}; {NONE}: the row's own runs are of several."
        )
    lines += _uses(rows) if "passport" in shown else []
    lines += medians(rows, shown)
    if texts := [column.about for column in columns if column.about and column.key in shown]:
        lines.append("; ".join(texts))
    if any(row.trials is not None for row in rows):
        lines.append(TRAININGS)
    if "three_diagnostics" in shown:
        lines.append(THREE)
    standings = settings.standings.values()
    lines += [TRUST] if any(item.trust != "posted" or item.said for item in standings) else []
    lines += _stopped(groups, settings)
    lines.append(
        f"Diagnostics measure on {_samples(_read(rows), MEASURED)}, with which no step is made."
    )
    return [*lines, PROTOCOL]


def of_group(groups: Sequence[Group], settings: Settings) -> list[str]:
    """Explain the columns of the leaderboard, for the place below a table of the page."""
    rows = [row for group in groups for row in group.rows]
    words = [*_verdicts(rows, settings), FLOORS]
    return [*words, accuracy(rows), _ranks(rows), GAMMA, *_uses(rows)]
