"""Write the lines around a leaderboard: its recipe, why methods are walked back, and legends.

All functions return raw text, which each format escapes. Lines depend on the set of records only,
not on their order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from bench_core.analysis.early_stop import Saving, savings
from bench_core.analysis.judge import NOT_IN_USE, Settings, label
from bench_core.analysis.leaderboard import Group, Row, is_finished
from bench_core.report.columns import COLUMNS, further
from bench_core.report.criteria import criteria
from bench_core.report.numbers import NOT_FINITE, signed, with_interval
from bench_core.report.rows import (
    OTHER,
    PASSPORT,
    alignments,
    gamma,
    passport,
    trust,
    value_of,
    why,
)
from bench_core.report.text import flat, listed
from bench_core.results.hashing import canonical
from bench_core.results.marks import ORDER
from bench_core.results.record import RunRecord

CITATION = "arXiv:2606.21126"
NOTHING = "No runs yet: nothing to show."
AGAINST = -0.5


def _recipe(group: Group) -> dict[str, Any]:
    cell = group.records[0].cell
    parts = {"arch": cell.arch.params, "dataset": cell.dataset.params}
    return flat({**parts, "data": cell.data, "training": cell.training})


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' * (count != 1)}"


def headers(groups: Sequence[Group]) -> list[str]:
    """Describe each recipe in a line.

    That is arch, dataset, epochs, seeds, and every further setting in which the recipes differ.
    """
    recipes = [_recipe(group) for group in groups]
    keys = sorted({key for values in recipes for key in values})
    differing = [
        key
        for key in keys
        if key not in ("training.epochs", "training.stop_after")
        and len({canonical(values.get(key)) for values in recipes}) > 1
    ]
    lines = []
    for group, values in zip(groups, recipes, strict=True):
        cell = group.records[0].cell
        parts = [cell.arch.short, cell.dataset.short]
        if (epochs := values.get("training.epochs")) is not None:
            stop = values.get("training.stop_after")
            parts.append(_epochs(epochs) + (f" stopped after {stop}" if stop is not None else ""))
        parts.append(
            ("seed " if len(group.seeds) == 1 else "seeds ") + listed(map(str, group.seeds))
        )
        parts += [f"{key}={values[key]}" for key in differing if key in values]
        lines.append(" · ".join(parts))
    return lines


def _failure(record: RunRecord) -> str:
    status = record.status if record.status != "done" else "without a usable accuracy"
    reason = f": {record.reason}" if record.reason else ""
    return f"seed {record.cell.seed} {status}{reason}"


def _failures(group: Group) -> list[str]:
    lines = []
    for row in group.rows:
        broken = [run.record for run in row.runs if not is_finished(run.record)]
        if broken:
            failures = [_failure(record) for record in broken[:3]]
            failures += [f"and {len(broken) - 3} more"] if len(broken) > 3 else []
            count = f"{len(broken)} of {len(row.runs)} runs not done"
            lines.append(f"{row.label}: {count} ({'; '.join(failures)})")
        absent = sorted(set(group.seeds) - {run.record.cell.seed for run in row.runs})
        if absent:
            lines.append(f"{row.label}: no run of seed {listed(map(str, absent))}")
    return lines


def _gathered(group: Group) -> list[str]:
    """Write a line for each remark that one or more methods share."""
    silent: dict[tuple[str, str], set[str]] = defaultdict(set)
    floors: dict[str, set[str]] = defaultdict(set)
    struck: dict[str, list[str]] = defaultdict(list)
    unbounded, warming, against = [], [], []
    letters = [column.letter for column in (*COLUMNS, *further(group.rows)) if column.letter]
    for row in group.rows:
        for run in row.runs:
            for letter, reason in run.judgement.not_diagnostic:
                silent[letter, reason].add(row.label)
        if row.role != "floor" and row.finished and row.floor.mean is None:
            floors[row.floor.reason].add(row.label)
        deep = gamma(row)
        if deep.not_diagnostic is not None:
            struck[deep.not_diagnostic].append(row.label)
        elif deep.estimate is not None and deep.estimate.mean < AGAINST:
            against.append(row.label)
        if not deep.in_use:
            warming.append(row.label)
        if NOT_FINITE in (value_of(row, letter).note for letter in letters):
            unbounded.append(row.label)
    lines = [f"† Γ means nothing for {listed(v)}: {k}" for k, v in sorted(struck.items())]
    if against:
        lines.append(
            f"Γ deep of {listed(against)} is under {AGAINST}: such credit points against the"
            " gradient; is its sign right?"
        )
    lines += [f"‡ Γ of {listed(warming)}: {NOT_IN_USE}"] if warming else []
    lines += [
        f"{letter} not diagnostic for {listed(sorted(names))}: {reason}"
        for (letter, reason), names in sorted(silent.items())
    ]
    lines += [f"d not measured for {listed(sorted(v))}: {k}" for k, v in sorted(floors.items())]
    if unbounded:
        lines.append(f"A measurement of {listed(unbounded)} is not finite, and such a value fires")
    return lines


def _readouts(group: Group) -> list[str]:
    """Write Γ deep of further read-outs of the credit (ep: displacement), if it is diagnostic."""
    values = []
    for row in group.rows:
        read = alignments(row)
        if not read or any(item.not_diagnostic is not None for item in read):
            continue
        for name in read[0].readouts:
            own = [(item.readouts.get(name), item.deep) for item in read]
            others = [value for value, deep in own if value is not None and value != deep]
            values += [f"{row.label} {name} {signed(fmean(others), 3)}"] if others else []
    return [f"Γ deep by further read-outs: {listed(values)}"] if values else []


def _relied_on(group: Group, settings: Settings) -> list[str]:
    """Count the runs that were checked or replicated, by method; no line if all are posted."""
    by_state: dict[str, Counter[str]] = defaultdict(Counter)
    for row in group.rows:
        for run in row.runs:
            by_state[trust(run, settings)][row.label] += 1
    if by_state.keys() <= {"posted"}:
        return []
    parts = []
    for state in (state for state in ORDER if state in by_state):
        names = listed(f"{name} {count}" for name, count in sorted(by_state[state].items()))
        methods = f" ({names})" if state != "posted" else ""
        parts.append(f"{by_state[state].total()} {state}{methods}")
    total = sum(map(Counter.total, by_state.values()))
    return [f"Of {total} run{'s' * (total != 1)}: {'; '.join(parts)}"]


def of_group(group: Group, settings: Settings) -> list[str]:
    """Write the remarks on the runs of one recipe."""
    lines = [
        f"{row.label} walked back: {', '.join(reasons)}"
        for row in group.rows
        if (reasons := why(row, settings))
    ]
    lines += _gathered(group) + _readouts(group) + _failures(group) + _relied_on(group, settings)
    single = [row.label for row in group.rows if row.accuracy is not None and row.accuracy.n == 1]
    if single:
        lines.append(f"n=1: no interval for {listed(single)}")
    floors, ceilings = (
        [row.label for row in group.rows if row.role == role] for role in ("floor", "ceiling")
    )
    lines.append(f"Floors: {listed(floors) or 'none'}. Ceiling: {listed(ceilings) or 'none'}.")
    if group.set_aside:
        lines.append(
            f"{group.set_aside} further records of these cells set aside: a seed counts once,"
            " its latest done"
        )
    if len({record.data_checksum for record in group.records if record.data_checksum}) > 1:
        lines.append("Warning: these runs did not all read the same data (different checksums)")
    return lines


def _judged_by(settings: Settings) -> str:
    depth = settings.depth_utility
    if depth.floor_value is not None:
        return f"a given accuracy of {depth.floor_value:g}"
    words = {
        "matched": "the matched floor (same method, blocks frozen)",
        "bp": "bp with frozen blocks",
    }
    return words.get(depth.floor, f"{depth.floor} with frozen blocks")


def _saved(item: Saving, name: str) -> str:
    after = ", ".join(map(str, item.at.values()))
    seconds = f", about {item.seconds:.0f} s," if item.seconds is not None else ""
    cost = "what it cost in accuracy is not known: the same cells were not trained to their end"
    if item.cost is not None:
        cost = (
            f"accuracy {with_interval(item.cost)} pp against the same cells trained to their end"
            f" (n={item.cost.n})"
        )
    return (
        f"{name} ended by {item.diagnostic} after epoch {after} of {item.planned}:"
        f" {_epochs(item.epochs)}{seconds} saved; {cost}"
    )


def _stopped(groups: Sequence[Group]) -> list[str]:
    """Write what `stop_when` saved and cost, a line per recipe and method."""
    records = [record for group in groups for record in group.records]
    peers = [record.cell.method for record in records]
    every = savings(records)
    several = len({item.system for item in every}) > 1
    return [
        _saved(item, label(item.method, peers) + (f" ({item.system})" if several else ""))
        for item in every
    ]


def of_all(groups: Sequence[Group], settings: Settings, columns: Iterable[str]) -> list[str]:
    """Explain how to read the tables; only the columns that are shown have a legend."""
    shown = set(columns)
    rows: list[Row] = [row for group in groups for row in group.rows]
    lines = [
        "±: 95 % interval, Student t over seeds (n finished runs). A rank is 1 + how many are"
        " better by a difference paired by seed whose interval excludes 0 (= where several share"
        " it); floors and single seeds have none (–).",
        f"d is judged against {_judged_by(settings)}; margins (Δ; Δ pp: over the matched floor,"
        " Δ bp: over bp with frozen blocks) are percentage points, paired by seed where both have"
        " finished the same seeds, else without interval.",
    ]
    of_letter = {item.letter: item for item in criteria(rows)}
    medians = [
        of_letter[column.letter]
        for column in (*COLUMNS, *further(rows))
        if column.key in shown and column.letter in of_letter
    ]
    if medians:
        names = " and ".join(f"{item.heading} ({item.letter})" for item in medians)
        batches = [(item.heading, item.item.batch) for item in medians if item.item.batch]
        per_sample = [f"; {name} is per sample, divided by N={n}" for name, n in batches]
        lines.append(f"{names}: median over finished runs{''.join(per_sample)}")
    if "gamma" in shown:
        lines.append("Γ deep: mean over finished runs of the cosine to the reference gradient")
    if "passport" in shown:
        codes = {code for row in rows for code in passport(row).split()}
        legend = [f"{code} {text}" for code, text in [*PASSPORT.values(), OTHER] if code in codes]
        if "local" in codes:
            legend.append("local: none of what a passport lists")
        lines += ["Uses: " + ", ".join(legend)] if legend else []
    lines += _stopped(groups)
    lines.append("The last epoch counts, never the best. The test set is also the probe.")
    lines.append(f"Protocol: {CITATION}")
    return lines
