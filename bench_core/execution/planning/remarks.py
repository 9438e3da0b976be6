"""Warn of what a plan does against the intent of the suite's author.

Entries that are one rule, entries of `exclude` without an effect, diagnostics and floors that a
verdict needs, and a folder whose finished runs had other limits, claims or options.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_core.errors import did_you_mean, similar
from bench_core.execution.planning.components import Components
from bench_core.execution.planning.examination import Examined
from bench_core.execution.planning.job import digested, measured_by, measuring
from bench_core.names import CEILING, LOCAL_CEILING, OURS, bare_name
from bench_core.results import remeasured, store, suite_folder
from bench_core.results.hashing import canonical, jsonable
from bench_core.results.record import Cell
from bench_core.suite.cells import PARTS, CellSpec, same_name
from bench_core.suite.component import flow_text
from bench_core.suite.document import printable
from bench_core.suite.model import Suite
from bench_core.suite.protocol import STANDARD

if TYPE_CHECKING:
    from bench_core.execution.planning.plan import PlannedCell


def remarks(components: Components, planned: Sequence[PlannedCell], folder: Path) -> Iterator[str]:
    """Yield the warnings about a plan, a line each."""
    suite, diagnostics = components.suite, components.parts(components.diagnostics)
    yield from _twice(components)
    yield from _idle(suite, planned)
    yield from _returned(suite, planned)
    yield from _undecided(suite, planned)
    yield from _floorless(suite, planned)
    yield from _unclaimed(components, planned)
    yield from _rejudged(suite, folder)
    yield from _measured(diagnostics, folder)
    yield from _unmeasured(diagnostics, planned)


def _rejudged(suite: Suite, folder: Path) -> list[str]:
    """Say that finished runs get the title, limits or claims of this suite, maybe a namesake."""
    known = suite_folder.read(folder)
    if known is None and os.path.lexists(folder / suite_folder.SUITE):
        lost = "it cannot be read; `bench run` writes it anew and forgets the runs by other code"
        return [f"{folder / suite_folder.SUITE}: {lost}"]
    earlier, now = known or {}, jsonable(suite.judging())
    words = {"title": "another title", "thresholds": "other limits"}
    words |= {"depth_utility": "another floor", "expect": "other claims"}
    if suite.expect:
        words["claimed_for"] = "another recipe of its claims"
    of_recipe = [_without_limits(judged.get("claimed_for")) for judged in (earlier, now)]
    same = of_recipe[0] == of_recipe[1]
    differing = [
        words[key]
        for key in words
        if earlier.get(key, now[key]) != now[key] and not (key == "claimed_for" and same)
    ]
    if not differing:
        return []
    title = printable(str(earlier.get("title") or "without a title"))
    before = f"the suite that was run here before ({title}) had"
    remedy = "another `name:` in the file, or -o FOLDER, keeps the two apart"
    changed = " and ".join(dict.fromkeys(differing))
    return [f"{folder}: {before} {changed}; its runs will be judged by this file; {remedy}"]


def _without_limits(claimed_for: Any) -> Any:
    """Return `Suite.recipe` without its limits: suite.json has them in parts of their own too."""
    if not isinstance(claimed_for, dict):
        return claimed_for
    limits = ("thresholds", "depth_utility")
    return {key: value for key, value in claimed_for.items() if key not in limits}


def _unclaimed(components: Components, planned: Sequence[PlannedCell]) -> Iterator[str]:
    """Name the rules of claims that are neither in the suite nor installed: none is ever judged."""
    suite, registry = components.suite, components.registry
    known = {cell.cell.method.name for cell in planned}
    for i, claim in enumerate(suite.expect):
        for key, method in (("method", claim.method), ("minus", claim.minus)):
            if method is None or registry.matches("method", method.name):
                continue
            if not any(same_name(name, method.name) for name in known):
                names = {*known, *(item.short_name for item in registry.of_kind("method"))}
                what = f"no rule is called {method.name}, so this claim is never judged"
                hint = did_you_mean(method.name, names)
                yield str(suite.problem(None, f"expect[{i}].{key}", what, hint))


def _undecided(suite: Suite, planned: Sequence[PlannedCell]) -> list[str]:
    """Say that no rule can be trustworthy, because the suite does not measure a, b or c."""
    needed = [item.name for letter, item in STANDARD.items() if letter != "d"]
    listed = [item.name for item in suite.diagnostics]
    lacking = [name for name in needed if not any(same_name(own, name) for own in listed)]
    judged = any(not cell.cell.method.frozen for cell in planned)
    if not lacking or not judged:
        return []
    what = f"without {', '.join(lacking)}, a rule that is not walked back stays undetermined"
    add = f"add {'it' if len(lacking) == 1 else 'them'} to the list"
    return [str(suite.problem(None, "diagnostics", what, add, at_key=True))]


def _twice(components: Components) -> list[str]:
    """Say which entries of the suite are one component with the same parameters."""
    lines = []
    for position, kind in enumerate(PARTS):
        entries = defaultdict(list)
        for place in dict.fromkeys(trio[position] for trio in components.trios):
            answer, (_, name, params) = components.examined[place], components.requests[place]
            written = flow_text({"name": name.removeprefix(f"{OURS}/"), **params})
            entries[answer["name"], canonical(answer["params"])].append(printable(written, 120))
        lines += [
            f"{' and '.join(same)} are the same {kind}, so their cells count once"
            for same in entries.values()
            if len(same) > 1
        ]
    return lines


def _idle(suite: Suite, planned: Sequence[PlannedCell]) -> list[str]:
    """Say which entries of `exclude` match no cell, and what may be meant by an unknown key."""
    known = {key for cell in planned for key in cell.cell.settings()}
    lines = []
    for i, problem in suite.idle().items():
        meant = [similar(key, known) for key in suite.rules_of_file[i] if key not in known]
        meant = [*filter(None, meant)]
        if suite.rules_of_file[i].get("method.freeze") == "blocks" and suite.floors:
            meant = ["floors are added after `exclude`; `floors: false` leaves them out"]
        lines.append("; ".join([str(problem), *meant]))
    return lines


def _floorless(suite: Suite, planned: Sequence[PlannedCell]) -> list[str]:
    """Say that the floor of another rule, which d compares with, is not run."""
    name, given = suite.depth_utility.floor, suite.depth_utility.floor_value is not None
    floors = (cell.cell.method for cell in planned if cell.cell.method.frozen)
    if given or name in ("matched", CEILING) or any(same_name(ref.name, name) for ref in floors):
        return []
    what = f"no cell of {name} with frozen blocks, so no rule can be compared with it"
    add = f"add {{name: {name}, freeze: blocks}} to methods"
    return [str(suite.problem(None, "depth_utility.floor", what, add))]


def _returned(suite: Suite, planned: Sequence[PlannedCell]) -> list[str]:
    """Say which entries of `exclude` leave out a ceiling that the floors bring back."""
    names = (CEILING, LOCAL_CEILING)
    added = [cell.cell for cell in planned if cell.cell.method.short in names]
    lines = []
    for i, specs in suite.left_out().items() if suite.floors and added else ():
        own = [
            spec for spec in specs if any(same_name(spec.method["name"], name) for name in names)
        ]
        if back := dict.fromkeys(c.method.short for spec in own for c in added if _is(c, spec)):
            what = f"{' and '.join(back)} runs all the same, as the ceiling of the other rules"
            remedy = "`floors: false` runs neither ceilings nor floors"
            lines.append(str(suite.problem(None, f"exclude[{i}]", what, remedy)))
    return lines


def _is(cell: Cell, spec: CellSpec) -> bool:
    """Decide whether a resolved cell has all the values that a specification states."""
    parts = [(getattr(spec, kind), ref) for kind, ref in cell.refs.items()]
    settings = [(spec.training, cell.training), (spec.data, cell.data)]
    settings += [(own, ref.params) for own, ref in parts]  # the name is no parameter
    return (
        cell.seed == spec.seed
        and all(same_name(ref.name, own["name"]) for own, ref in parts)
        and all(has[key] == own[key] for own, has in settings for key in own.keys() & has.keys())
    )


def _measured(diagnostics: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
    """Name the diagnostics that the last plan of a folder measured with other options."""
    earlier = suite_folder.saved(folder).diagnostics
    other = [
        bare_name(item["name"])
        for item in diagnostics
        if canonical(earlier.get(item["name"], item["params"])) != canonical(item["params"])
    ]
    remedy = "`bench audit` measures again, -o FOLDER keeps the two apart"
    text = f"its earlier runs measured {', '.join(other)} with other options; {remedy}"
    return [f"{folder}: {text}"] if other else []


def _unmeasured(diagnostics: Sequence[Examined], planned: Sequence[PlannedCell]) -> list[str]:
    """Name the diagnostics of the suite that done runs to reuse lack, or measured by another
    version of the diagnostic, and how to measure them.
    """
    alone = {item["name"]: item["numerics"] for item in diagnostics if not item["across"]}
    code = measured_by(digested(measuring(item)) for item in diagnostics)
    late = {bare_name(name) for name in alone}
    lacking, versions = Counter[str](), Counter[tuple[str, str]]()
    for cell in (cell for cell in planned if cell.action == "reuse"):
        record, _, _ = remeasured.attach(store.read(cell.folder), cell.folder)
        if record.status == "done" and record.numerics:  # older ones do not say
            asked = {bare_name(name) for name in record.numerics}
            there = {path.name.split(".")[1] for path in cell.folder.glob("late.*.json")}
            lacking.update(late - asked - there)
            for name, now in alone.items():
                short, before = bare_name(name), record.numerics.get(f"diagnostic {name}")
                if before not in (None, now):
                    today = f"numerics {before}, and its numerics are {now} today"
                    versions[short, today] += 1
                elif record.measured_by.get(name, code.get(name)) != code.get(name):
                    versions[short, "code that has changed since"] += 1
    lines = []
    for name, count in sorted(lacking.items()):
        remedy = f"`bench audit {planned[0].folder.parent} --diagnostic {name}` measures it"
        lines.append(f"{count} of the runs to reuse did not measure {name}; {remedy}")
    for (name, version), count in sorted(versions.items()):
        remedy = f"`bench audit {planned[0].folder.parent} --diagnostic {name}` measures it again"
        lines.append(f"{count} of the runs to reuse measured {name} with {version}; {remedy}")
    return lines
