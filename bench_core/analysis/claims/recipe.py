"""Compare the cell of a run with the recipe that a claim is made for, in every setting.

A recipe is all of a cell but its seed. A claim names a method; options that it leaves out have the
defaults of the rule. Architecture, data set, training and data are those of a cell that the suite's
file lists, before any option of the command line. Keys under `cell` of the claim win over the file.

suite.json keeps the defaults of rules, architectures and data sets, so that this comparison imports
no plugin. The settings of `HOW` are not compared: they decide how a number is computed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bench_core.analysis.verdicts.settings import Defaults
from bench_core.names import bare_name
from bench_core.results.hashing import plain_text
from bench_core.results.record import RunRecord, default_key
from bench_core.suite.cells import CORE_DEFAULTS, PARTS, CellSpec, hashable, matches, same_name
from bench_core.suite.recipe import DataOptions, TrainingOptions

HOW: dict[str, set[str]] = defaultdict(set)
HOW["training"] = {"threads", "device", "deterministic", "compile"}
SETTINGS: dict[str, dict[str, Any]] = {
    "training": {**TrainingOptions().model_dump(), "stop_when": {}},
    "data": DataOptions().model_dump(),
}
Recipe = Mapping[str, Mapping[str, Any]]  # part of a cell → its values


@dataclass(frozen=True)
class Difference:
    """How a run differs from a recipe.

    values   key of every setting with another value → value of the run and that of the recipe
    unknown  options without a stored default, which could not be compared
    """

    values: Mapping[str, tuple[Any, Any]]
    unknown: tuple[str, ...]

    @cached_property
    def changes(self) -> dict[str, str]:
        """Write `training.epochs=5 (claimed for 100)` for every key."""
        return {key: _change(key, *values) for key, values in self.values.items()}


def as_list(value: Any) -> list[Any]:
    """Return the values of a key of `cell`: a list names several, any of which agrees."""
    return value if isinstance(value, list) else [value]


def recipes(
    cell: Mapping[str, Any], claimed_for: Mapping[str, Any] | None
) -> tuple[list[Recipe], set[str]]:
    """List the recipes that a claim with this `cell` may mean, and the keys that are free in them.

    Cells of `methods` and `matrix` precede those of `include`. If the file has no such cell, `cell`
    changes the recipes of the file.

    claimed_for  `Suite.recipe` of the file; None if unknown: then only `cell` restricts the runs
    """
    if claimed_for is None:
        return [{}], set()
    if "recipes" not in claimed_for:  # an older suite.json has one recipe and names its axes
        parts = ("arch", "dataset", "training", "data")
        free = set(claimed_for.get("axes", ()))
        free |= {"training.stop_when"} if claimed_for.get("stop_when") else set()
        return [
            {part: claimed_for[part] for part in parts if part in claimed_for.keys() - free}
        ], free
    both = (claimed_for["recipes"], claimed_for.get("included", []))
    for listed in both:
        if own := [recipe for recipe in listed if _agrees(recipe, cell)]:
            return own, set()
    return both[0] or both[1] or [{}], set()


def _agrees(recipe: Recipe, cell: Mapping[str, Any]) -> bool:
    """Decide whether a recipe of the file has the values of the claim's `cell` that it names."""
    spec = CellSpec(method={}, seed=0, **recipe)  # type: ignore[arg-type]
    named = {key for key in cell if key in PARTS or spec.value(key) is not None}
    return matches(spec, {key: cell[key] for key in named - {"method"}})


def compare(
    record: RunRecord,
    recipe: Recipe,
    cell: Mapping[str, Any],
    defaults: Defaults,
    free: Collection[str] = (),
) -> Difference:
    """Compare a run with a recipe; a part that it lacks and the keys in `free` may be anything."""
    parts = _parts(record)
    skipped = {*free, *(".".join(key.split(".")[:2]) for key in cell)}
    filled: dict[str, Any] = {}
    changes: dict[str, tuple[Any, Any]] = {}
    unknown: list[str] = []
    for part, own in parts.items():
        default, complete = _defaults(part, own, defaults)
        recorded = record.defaults().get(default_key(part, own.get("name", "")), {})
        filled[part] = own = {**default, **own}
        if part not in recipe:
            continue
        written, name = recipe[part], recipe[part].get("name", own.get("name"))
        if name is not None and not same_name(own["name"], name):
            if part not in cell:
                changes[part] = own["name"], name
                continue
            written = {}  # `cell` names another component, which has its own options
        wanted = {**default, **written}
        for key in sorted((own.keys() | wanted.keys()) - {"name"} - HOW[part]):
            dotted, values = f"{part}.{key}", (own.get(key), wanted.get(key))
            if dotted in skipped:
                continue
            if key not in wanted and (not complete or key in recorded):
                unknown.append(dotted)
            elif _comparable(key, values[0]) != _comparable(key, values[1]):
                changes[dotted] = values
    spec = CellSpec(**filled, seed=record.cell.seed)
    for key, value in cell.items():
        if not matches(spec, {key: value}):
            named = f"{key}.name" if key in PARTS else key
            changes[key] = spec.value(named), value
    return Difference(changes, tuple(unknown))


def changed(part: str, own: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Write `nudging.eta=0.5 (claimed for 0.01)` for every option with another value."""
    return [
        _change(f"{part}.{key}", own.get(key), wanted.get(key))
        for key in sorted(own.keys() | wanted.keys())
        if hashable(own.get(key)) != hashable(wanted.get(key))
    ]


def differing(records: Sequence[RunRecord]) -> str:
    """List the settings in which the cells of several runs differ."""
    cells = [_parts(record) for record in records]
    keys = []
    for part in cells[0]:
        values = [cell[part] for cell in cells]
        for key in sorted({key for value in values for key in value}):
            if len({hashable(value.get(key)) for value in values}) > 1:
                keys.append(f"{part}.{key}")
    return ", ".join(keys)


def _parts(record: RunRecord) -> dict[str, dict[str, Any]]:
    cell = record.cell
    parts = {kind: {"name": ref.name, **ref.params} for kind, ref in cell.refs.items()}
    return {**parts, "training": cell.training, "data": cell.data}


def _defaults(part: str, own: Mapping[str, Any], defaults: Defaults) -> tuple[dict[str, Any], bool]:
    """Return the defaults of a part of a cell, and whether they are all of them."""
    if part in SETTINGS:
        return SETTINGS[part], True
    core = {key: value for key, value in CORE_DEFAULTS.items() if key in own}
    stored = defaults.get(default_key(part, own["name"]))
    return {**(core if part == "method" else {}), **(stored or {})}, stored is not None


def _comparable(key: str, value: Any) -> Any:
    if key == "stop_when":  # names of the file may be short
        value = {bare_name(name): limit for name, limit in value.items()}
    return hashable(value)


def _change(key: str, own: Any, claimed: Any) -> str:
    claims = " or ".join(map(value_text, as_list(claimed)))
    return f"{key}={value_text(own)} (claimed {f'for {claims}' if claims != 'none' else 'without'})"


def value_text(value: Any) -> str:
    """Write the value of a setting."""
    if value in (None, {}):
        return "none"
    return plain_text(value)
