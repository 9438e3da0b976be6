"""Resolve the cells of a suite and add the floors and the ceilings that they are compared with.

Every comparison needs each method with its blocks frozen (its matched floor), bp with its blocks
frozen (the bp floor) and bp (the ceiling). A method whose passport has `local_heads` has a second
ceiling, bp_local_heads, which comes with its matched floor. All these are added for every recipe
and seed for which the suite does not name them. A floor carries no penalty: λ weighs the blocks'
branches, which are frozen. `floor_scales` of the suite adds floors with random blocks of another
scale.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bench_core.execution.planning.components import Components, Trio
from bench_core.results.record import Cell, ComponentRef
from bench_core.suite.cells import CORE_DEFAULTS, FLOOR_OPTIONS, PARTS


class _Draft(NamedTuple):
    """A cell as keys of tables: cheap, because a suite may have 100,000."""

    method: str
    arch: str
    dataset: str
    recipe: str
    seed: int


Cells = dict[_Draft, tuple[Trio, str]]  # draft → places of its components, device
Recipe = tuple[dict[str, Any], dict[str, Any]]  # data, training


def resolved_cells(components: Components) -> Iterator[tuple[Cell, Trio, str]]:
    """Yield each distinct cell with the places of its components and its device.

    The suite's own cells come first, in the suite's order. Raises SuiteError.
    """
    refs: dict[str, ComponentRef] = {}  # components with resolved parameters, by their JSON text

    def key_of(name: str, params: dict[str, Any]) -> str:
        ref = ComponentRef(name=name, params=params)
        key = json.dumps([name, params], sort_keys=True)  # one, whatever the order of its options
        refs[key] = ref
        return key

    own = [key_of(answer["name"], answer["params"]) for answer in components.examined]
    cells, recipes = _own_cells(components, own)
    if components.suite.floors:
        bp, heads = own[components.ceiling], own[components.local_ceiling]
        _add_local_ceilings(cells, components, own)
        methods = {draft.method for draft in cells} | {bp, heads}
        scales = components.suite.floor_scales
        floors = {
            key: [key_of(refs[key].name, params) for params in _frozen(refs[key].params, scales)]
            for key in methods
        }
        _add_floors(cells, floors, bp, components.ceiling)
    for draft, (trio, device) in cells.items():
        data, training = recipes[draft.recipe]
        parts = {kind: refs[getattr(draft, kind)] for kind in PARTS}
        yield Cell(**parts, data=data, training=training, seed=draft.seed), trio, device


def _own_cells(components: Components, own: Sequence[str]) -> tuple[Cells, dict[str, Recipe]]:
    """Return the cells that the suite names, and their recipes by their JSON text.

    own  the key of each component of the suite
    """
    stop_when = components.stop_when()
    cells: Cells = {}
    recipes: dict[str, Recipe] = {}
    keys: dict[tuple[int, int], str] = {}  # specs share their dicts and keep them alive
    for spec, trio in zip(components.specs, components.trios, strict=True):
        dicts = (id(spec.data), id(spec.training))
        if dicts not in keys:
            training = {key: value for key, value in spec.training.items() if key != "device"}
            recipe = (spec.data, training | {"stop_when": stop_when})
            keys[dicts] = json.dumps(recipe, sort_keys=True)
            recipes[keys[dicts]] = recipe
        method, arch, dataset = (own[place] for place in trio)
        draft = _Draft(method, arch, dataset, keys[dicts], spec.seed)
        cells.setdefault(draft, (trio, spec.training["device"]))
    return cells, recipes


def _add_local_ceilings(cells: Cells, components: Components, own: Sequence[str]) -> None:
    """Add bp_local_heads where a method has local heads."""
    place = components.local_ceiling
    for draft, ((method, arch, dataset), device) in list(cells.items()):
        if components.examined[method]["passport"]["local_heads"]:
            ceiling = draft._replace(method=own[place])
            cells.setdefault(ceiling, ((place, arch, dataset), device))


def _frozen(params: dict[str, Any], scales: Sequence[float]) -> list[dict[str, Any]]:
    """Return a method's parameters with frozen blocks: as they were drawn, and of each scale."""
    drawn = {**params, **FLOOR_OPTIONS}
    bare = {key: value for key, value in drawn.items() if key != "block_scale"}
    default = CORE_DEFAULTS["block_scale"]  # which a cell does not state
    of_scale = [bare if k == default else {**bare, "block_scale": k} for k in scales]
    return [drawn, *of_scale]


def _add_floors(
    cells: Cells, floors: Mapping[str, Sequence[str]], bp: str, place_of_bp: int
) -> None:
    """Add matched floors, the bp floor and the ceiling where they are missing.

    floors  method → the same with frozen blocks: as they were drawn, and of other scales
    """
    for draft, ((method, arch, dataset), device) in list(cells.items()):
        own = [(key, method) for key in floors[draft.method]]
        of_bp = [(key, place_of_bp) for key in (*floors[bp], bp)]
        for key, place in own + of_bp:
            cells.setdefault(draft._replace(method=key), ((place, arch, dataset), device))
