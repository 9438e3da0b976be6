"""Change, compare and match the cells of a suite. Cells share plain dicts: read only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata
from typing import Any, Literal

from bench_core.names import GROUP, OURS
from bench_core.suite.document import KeyPath

# the components of a cell
PARTS: tuple[Literal["method", "arch", "dataset"], ...] = ("method", "arch", "dataset")
# the defaults of `LocalMethod.Params`, which cannot be read here: its module loads torch
CORE_DEFAULTS: dict[str, Any] = {
    "freeze": None,
    "train_last": None,
    "penalty": 0.0,
    "random_targets": False,
    "block_scale": 1.0,
    "normalize": "sample",
    "normalize_eps": 1e-6,
}
FLOOR_OPTIONS = {"freeze": "blocks", "train_last": None, "penalty": 0.0}  # of a matched floor


@dataclass(frozen=True)
class CellSpec:
    """One training run as plain values; its components' parameter models may add defaults later.

    method, arch, dataset  `{"name": …, parameters as written…}`
    training, data         all values of `TrainingOptions` and `DataOptions`
    origin                 dotted key → path in the suite, for `Suite.problem`
    """

    method: dict[str, Any]
    arch: dict[str, Any]
    dataset: dict[str, Any]
    training: dict[str, Any]
    data: dict[str, Any]
    seed: int
    origin: dict[str, KeyPath] = field(default_factory=dict, compare=False, repr=False)

    def with_seed(self, seed: int, place: KeyPath) -> CellSpec:
        """Return the same cell with another seed, which the suite gives at `place`."""
        return replace(self, seed=seed, origin={**self.origin, "seed": place})

    def value(self, key: str) -> Any:
        """Return the value of a dotted key, or None."""
        value: Any = vars(self)
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value


def with_value(tree: dict[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
    """Return `tree` with one value changed; dicts that other cells share stay as they are."""
    head, *rest = keys
    if not rest:
        return {**tree, head: value}
    child = tree.get(head)
    return {**tree, head: with_value(child if isinstance(child, dict) else {}, rest, value)}


def hashable(value: Any) -> Any:
    """Return a hashable stand-in in which 1 equals 1.0 but not true."""
    if isinstance(value, dict):
        return tuple(sorted((key, hashable(item)) for key, item in value.items()))
    if isinstance(value, list):
        return tuple(hashable(item) for item in value)
    return ("bool", value) if isinstance(value, bool) else value


def same_name(name: Any, wanted: Any) -> bool:
    """Decide whether two names mean one component.

    `dfa` stands for `bench-core/dfa`, and for no other, as it is built in; `ebd` for `lab/ebd`.
    """
    if not (isinstance(name, str) and isinstance(wanted, str)):
        return False
    if ("/" in name) == ("/" in wanted):
        return name == wanted
    short, full = (name, wanted) if "/" in wanted else (wanted, name)
    home, _, bare = full.rpartition("/")
    return bare == short and (home == OURS or short not in built_in())


@cache
def built_in() -> frozenset[str]:
    """Return the names of the components of suites that our own distribution brings."""
    ours = (each.entry_points.select(group=GROUP) for each in metadata.distributions(name=OURS))
    points = [point for own in ours for point in own if point.name != "executors"]
    tables = [getattr(point.load(), f"bench_{point.name}")() for point in points]
    return frozenset(component.name for table in tables for component in table)


def matches(cell: CellSpec, rule: Mapping[str, Any]) -> bool:
    """Decide whether a cell has every value that a rule of `exclude` names."""
    for key, wanted in rule.items():
        options = wanted if isinstance(wanted, list) else [wanted]
        value = cell.value(key)
        if key in PARTS:
            if not any(same_name(value["name"], option) for option in options):
                return False
        elif all(hashable(value) != hashable(option) for option in options):
            return False
    return True


def mismatch(cells: Sequence[CellSpec], rule: Mapping[str, Any]) -> str:
    """Say which key of a rule keeps it from matching any of the cells, and the values they have."""
    for key, wanted in rule.items():
        if any(matches(cell, {key: wanted}) for cell in cells):
            continue
        values = [cell.value(key) for cell in cells]
        shown = {json.dumps(value["name"] if key in PARTS else value): None for value in values}
        if list(shown) == ["null"]:
            return f"no cell has a value of {key}"
        return f"of {key}, the cells have {', '.join(shown)}, but not {json.dumps(wanted)}"
    return "each of its keys matches a cell, but no cell matches all of them"
