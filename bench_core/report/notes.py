"""The lines around a leaderboard: which recipe, why methods were walked back, what is missing, how to read the figures.

All functions return raw text; each format escapes it. Lines depend on the records only, never on their order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from bench_core.analysis.early_stop import savings
from bench_core.analysis.judge import NOT_IN_USE, Settings, alignment, label
from bench_core.analysis.leaderboard import Group, Row, is_finished
from bench_core.report.columns import COLUMNS, further
from bench_core.report.criteria import criteria
from bench_core.report.numbers import NOT_FINITE, signed
from bench_core.report.rows import OTHER, PASSPORT, gamma, passport, trust, value_of, why
from bench_core.results.hashing import canonical
from bench_core.results.marks import ORDER

CITATION = "arXiv:2606.21126"
NOTHING = "No runs yet: nothing to show."
AGAINST = -0.5
_SHOWN = 6  # names in a list before "and k more"


def listed(names: Iterable[str]) -> str:
    every = list(names)
    rest = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + rest


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {path: value}
    return {
        k: v
        for key, item in value.items()
        for k, v in _flat(item, f"{path}.{key}" if path else str(key)).items()
    }


def _recipe(group: Group) -> dict[str, Any]:
    cell = group.records[0].cell
    return _flat(
        {
            "arch": cell.arch.params,
            "dataset": cell.dataset.params,
            "data": cell.data,
            "training": cell.training,
        }
    )


def headers(groups: Sequence[Group]) -> list[str]:
    """One line per recipe: arch, dataset, epochs and seeds, and every further setting in which the recipes differ."""
    recipes = [_recipe(group) for group in groups]
    keys = sorted({key for flat in recipes for key in flat})
    named = {"training.epochs", "training.stop_after"}
    differing = [
        k for k in keys if k not in named and len({canonical(flat.get(k)) for flat in recipes}) > 1
    ]
    lines = []
    for group, flat in zip(groups, recipes, strict=True):
        cell = group.records[0].cell
        parts = [cell.arch.short, cell.dataset.short]
        if flat.get("training.epochs") is not None:
            stop = flat.get("training.stop_after")
            epochs = flat["training.epochs"]
            parts.append(
                f"{epochs} epoch{'s' * (epochs != 1)}"
                + (f" stopped after {stop}" if stop is not None else "")
            )
        seeds = [str(seed) for seed in group.seeds]
        parts.append(("seed " if len(seeds) == 1 else "seeds ") + listed(seeds))
        lines.append(" · ".join(parts + [f"{key}={flat[key]}" for key in differing if key in flat]))
    return lines


def _failures(group: Group) -> list[str]:
    lines, seeds = [], set(group.seeds)
    for row in group.rows:
        broken = [run.record for run in row.runs if not is_finished(run.record)]
        if broken:
            told = [
                f"seed {item.cell.seed} {item.status if item.status != 'done' else 'without a usable accuracy'}"
                + (f": {item.reason}" if item.reason else "")
                for item in broken[:3]
            ]
            rest = f"; and {len(broken) - 3} more" if len(broken) > 3 else ""
            lines.append(
                f"{row.label}: {len(broken)} of {len(row.runs)} runs not done ({'; '.join(told)}{rest})"
            )
        absent = sorted(seeds - {run.record.cell.seed for run in row.runs})
        if absent:
            lines.append(f"{row.label}: no run of seed {listed(str(seed) for seed in absent)}")
    return lines


def _gathered(group: Group) -> list[str]:
    """Remarks that several methods share, one line per remark."""
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
        found = gamma(row)
        if found.not_diagnostic is not None:
            struck[found.not_diagnostic].append(row.label)
        elif found.estimate is not None and found.estimate.mean < AGAINST:
            against.append(row.label)
        if not found.in_use:
            warming.append(row.label)
        if NOT_FINITE in (value_of(row, letter).note for letter in letters):
            unbounded.append(row.label)
    lines = [
        f"† Γ means nothing for {listed(names)}: {reason}"
        for reason, names in sorted(struck.items())
    ]
    if against:
        lines.append(
            f"Γ deep of {listed(against)} is under {AGAINST}: such credit points against the gradient; is its sign right?"
        )
    lines += [f"‡ Γ of {listed(warming)}: {NOT_IN_USE}"] if warming else []
    lines += [
        f"{k} not diagnostic for {listed(sorted(v))}: {reason}"
        for (k, reason), v in sorted(silent.items())
    ]
    lines += [
        f"d not measured for {listed(sorted(names))}: {reason}"
        for reason, names in sorted(floors.items())
    ]
    if unbounded:
        lines.append(f"A measurement of {listed(unbounded)} is not finite, and such a value fires")
    return lines


def _readouts(group: Group) -> list[str]:
    """Γ deep of the further read-outs that rules have of their credit (ep: displacement), where it means something."""
    told = []
    for row in group.rows:
        read = [
            item
            for run in row.finished
            if (item := alignment(run.record, run.judgement)) is not None
        ]
        for name in (
            read[0].readouts if read and all(item.not_diagnostic is None for item in read) else ()
        ):
            values = [
                v for item in read if (v := item.readouts.get(name)) is not None and v != item.deep
            ]
            told += [f"{row.label} {name} {signed(fmean(values), 3)}"] if values else []
    return [f"Γ deep by further read-outs: {listed(told)}"] if told else []


def _relied_on(group: Group, settings: Settings) -> list[str]:
    """How many runs were checked or replicated by somebody, and of which methods; nothing where all are only posted."""
    by_state: dict[str, Counter[str]] = defaultdict(Counter)
    for row in group.rows:
        for run in row.runs:
            by_state[trust(run, settings)][row.label] += 1
    if by_state.keys() <= {"posted"}:
        return []
    parts = []
    for state in (state for state in ORDER if state in by_state):
        names = listed(f"{name} {count}" for name, count in sorted(by_state[state].items()))
        parts.append(
            f"{by_state[state].total()} {state}" + (f" ({names})" if state != "posted" else "")
        )
    total = sum(map(Counter.total, by_state.values()))
    return [f"Of {total} run{'s' * (total != 1)}: {'; '.join(parts)}"]


def of_group(group: Group, settings: Settings) -> list[str]:
    """What must be said about the runs of one recipe."""
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
            f"{group.set_aside} further records of these cells set aside: a seed counts once, its latest done"
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


def _stopped(groups: Sequence[Group]) -> list[str]:
    """What `stop_when` saved and cost, a line per recipe and method."""
    records = [record for group in groups for record in group.records]
    peers = [record.cell.method for record in records]
    every = savings(records)
    systems = {found.system for found in every}
    lines = []
    for found in every:
        at = ", ".join(str(epoch) for epoch in found.at.values())
        spared = f"{found.epochs} epoch{'s' * (found.epochs != 1)}" + (
            f", about {found.seconds:.0f} s," if found.seconds is not None else ""
        )
        cost = "what it cost in accuracy is not known: the same cells were not trained to their end"
        if found.cost is not None:
            half = f" ± {found.cost.half_width:.1f}" if found.cost.half_width is not None else ""
            cost = f"accuracy {signed(found.cost.mean)}{half} pp against the same cells trained to their end (n={found.cost.n})"
        name = label(found.method, peers) + (f" ({found.system})" if len(systems) > 1 else "")
        lines.append(
            f"{name} ended by {found.diagnostic} after epoch {at} of {found.planned}: {spared} saved; {cost}"
        )
    return lines


def of_all(groups: Sequence[Group], settings: Settings, columns: Iterable[str]) -> list[str]:
    """How to read the tables; legends only for the columns that are shown."""
    shown = set(columns)
    rows: list[Row] = [row for group in groups for row in group.rows]
    lines = [
        "±: 95 % interval, Student t over seeds (n finished runs). A rank is 1 + how many are better by a"
        " difference paired by seed whose interval excludes 0 (= where several share it); floors and single seeds have none (–).",
        f"d is judged against {_judged_by(settings)}; margins (Δ; Δ pp: over the matched floor, Δ bp: over bp with frozen"
        " blocks) are percentage points,"
        " paired by seed where both have finished the same seeds, else without interval.",
    ]
    of_letter = {item.letter: item for item in criteria(rows)}
    medians = [
        of_letter[column.letter]
        for column in (*COLUMNS, *further(rows))
        if column.key in shown and column.letter in of_letter
    ]
    if medians:
        names = " and ".join(f"{item.heading} ({item.letter})" for item in medians)
        per_sample = [
            f"; {item.heading} is per sample, divided by N={item.item.batch}"
            for item in medians
            if item.item.batch
        ]
        lines.append(f"{names}: median over finished runs{''.join(per_sample)}")
    if "gamma" in shown:
        lines.append("Γ deep: mean over finished runs of the cosine to the reference gradient")
    if "passport" in shown:
        codes = {code for row in rows for code in passport(row).split()}
        legend = [f"{code} {text}" for code, text in [*PASSPORT.values(), OTHER] if code in codes]
        if "local" in codes:
            legend.append("local: none of what a passport lists")
        if legend:
            lines.append("Uses: " + ", ".join(legend))
    lines += _stopped(groups)
    lines.append("The last epoch counts, never the best. The test set is also the probe.")
    lines.append(f"Protocol: {CITATION}")
    return lines
