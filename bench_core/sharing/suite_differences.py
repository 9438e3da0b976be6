"""Say how runs differ from the installed suite of their name.

A board asks for that suite unchanged, with its seeds (docs/publish.md). A run is compared with the
nearest recipe of the suite. Options of a rule, and settings that `bench tune` may search, are free.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench_core.analysis import suite_file
from bench_core.analysis.claims.recipe import Recipe, compare, value_text
from bench_core.results import store, suite_folder
from bench_core.results.hashing import jsonable, plain_text
from bench_core.results.record import RunRecord, cell_key
from bench_core.results.status import FINAL
from bench_core.suite.cells import hashable
from bench_core.suite.load import installed_suites, load_suite
from bench_core.suite.model import Suite

LIMITS = ("thresholds", "depth_utility")


def unlike(records: Sequence[RunRecord]) -> list[str]:
    """Write a line for each installed suite from which runs of its name differ."""
    names, by_suite = installed_suites(), defaultdict[str, list[RunRecord]](list)
    for record in records:
        by_suite[record.suite].append(record)
    parts_of = {
        name: _parts(load_suite(name), by_suite[name]) for name in by_suite if name in names
    }
    return [f"differs from {name}: {'; '.join(parts)}" for name, parts in parts_of.items() if parts]


def unfinished(folder: Path, records: Sequence[RunRecord]) -> list[str]:
    """Say how many runs of a suite of one's own are not there, or did not end."""
    file = suite_file.described(folder, [], None).file
    cells = set(file.cells or ()) if file else set[str]()
    ended = cells & {cell_key(record.cell) for record in records if record.status in FINAL}
    if ended == cells or folder.resolve().name in installed_suites():
        return []
    return [
        f"{folder.resolve().name}: {len(ended)} of the {len(cells)} runs of its suite have ended "
        "and are here; the same `bench run` trains the others"
    ]


def judged_otherwise(folder: Path) -> list[str]:
    """Say where suite.json of a suite folder is missing, or judges unlike the installed suite.

    Claims are left out: those of the installed suite are held against its results.
    """
    path = folder / suite_folder.SUITE
    if not os.path.lexists(path):
        return [f"{path}: is missing, so nothing says by which limits its runs are judged"]
    try:
        stated = suite_folder.content(folder)
    except store.Unreadable as error:
        return [f"{path}: it {error}"]
    name = folder.resolve().name
    if stated.get("name", name) != name:
        return [f"{path}: is of another suite than its folder: {plain_text(stated['name'])}"]
    if name not in installed_suites():
        return []
    wanted = jsonable(load_suite(name).judging())
    keys = [key for key in ("title", *LIMITS) if stated.get(key) != wanted[key]]
    texts = (f"{key} {plain_text(stated.get(key))}, not {plain_text(wanted[key])}" for key in keys)
    return [f"{path}: is unlike the suite {name}: {'; '.join(texts)}"] if keys else []


def _parts(suite: Suite, records: Sequence[RunRecord]) -> list[str]:
    """Write each setting with another value, the seeds of which a rule has no run, and the
    diagnostics of the suite that a finished run lacks."""
    recipes: dict[Any, Recipe] = {}
    seeds: dict[Any, set[int]] = defaultdict(set)
    for cell in suite.cells():
        recipe = {part: getattr(cell, part) for part in ("arch", "dataset", "training", "data")}
        recipes[hashable(recipe)] = recipe
        seeds[hashable(recipe)].add(cell.seed)
    free = {key for key, _, _ in suite.search.space("")} if suite.search else set()
    free |= {"training.stop_when"} if suite.stop_when else set()
    settings: dict[str, None] = {}
    absent: dict[tuple[str, Any], set[int]] = {}
    for record in records:
        values = {
            name: compare(record, recipe, {}, record.defaults(), free).values
            for name, recipe in recipes.items()
        }
        nearest = min(values, key=lambda name: len(values[name]))
        for key, (own, wanted) in values[nearest].items():
            settings[f"{key} {value_text(own)}, not {value_text(wanted)}"] = None
        rule = (record.cell.method.short, nearest)
        absent[rule] = absent.get(rule, seeds[nearest]) - {record.cell.seed}
    rules: dict[str, dict[str, None]] = defaultdict(dict)
    for (label, _), missing in absent.items():
        if missing:
            rules[", ".join(map(str, sorted(missing)))][label] = None
    lacking = {
        item.name
        for item in suite.diagnostics
        for record in records
        if record.status == "done" and item.name not in record.measurements
    }
    return [
        *settings,
        *(f"no run of seed {own}: {', '.join(rules[own])}" for own in rules),
        *([f"not measured: {', '.join(sorted(lacking))}"] if lacking else []),
    ]
