"""Resolve the cells of a suite and add the floors and the ceiling that they are compared with.

Every comparison needs each method with its blocks frozen (its matched floor), bp with its blocks
frozen (the bp floor) and bp (the ceiling). They are added for every recipe and seed for which the
suite does not name them. A floor carries no penalty: λ weighs the blocks' branches, which are
frozen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from bench_core.execution.components import Components, Trio
from bench_core.results.record import Cell, ComponentRef

FLOOR = {"freeze": "blocks", "train_last": None, "penalty": 0.0}


class _Draft(NamedTuple):
    """A cell as keys of tables, cheap to compare and to change: a suite may have 100,000."""

    method: str
    arch: str
    dataset: str
    recipe: str
    seed: int


class _Drafts:
    """The distinct cells of a suite.

    refs     components with resolved parameters, by their JSON text
    own      the key in `refs` of each component of the suite
    recipes  (data, training), by their JSON text
    cells    draft → (places of its components in `Components`, device)
    """

    def __init__(self, components: Components) -> None:
        self.components = components
        self.refs: dict[str, ComponentRef] = {}
        self.own = [self._ref(answer["name"], answer["params"]) for answer in components.answers]
        self.recipes: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        self.cells: dict[_Draft, tuple[Trio, str]] = {}

    def _ref(self, name: str, params: dict[str, Any]) -> str:
        ref = ComponentRef(name=name, params=params)
        key = ref.model_dump_json()
        self.refs[key] = ref
        return key

    def add_own(self) -> None:
        """Add the cells that the suite names."""
        stop_when = self.components.stop_when()
        keys: dict[tuple[int, int], str] = {}  # specs share their dicts and keep them alive
        for spec, trio in zip(self.components.specs, self.components.trios, strict=True):
            dicts = (id(spec.data), id(spec.training))
            if dicts not in keys:
                training = {key: value for key, value in spec.training.items() if key != "device"}
                recipe = (spec.data, training | {"stop_when": stop_when})
                keys[dicts] = json.dumps(recipe, sort_keys=True)
                self.recipes[keys[dicts]] = recipe
            method, arch, dataset = (self.own[place] for place in trio)
            draft = _Draft(method, arch, dataset, keys[dicts], spec.seed)
            self.cells.setdefault(draft, (trio, spec.training["device"]))

    def add_references(self) -> None:
        """Add matched floors, the bp floor and the ceiling where they are missing."""
        ceiling = self.components.ceiling
        bp = self.own[ceiling]
        floors = {method: self._floor(method) for method in {d.method for d in self.cells} | {bp}}
        drafts = list(self.cells.items())
        with_ceiling = {d._replace(method="") for d, _ in drafts if self._is_ceiling(d.method)}
        for draft, ((method, arch, dataset), device) in drafts:
            references = [(floors[draft.method], method), (floors[bp], ceiling)]
            if draft._replace(method="") not in with_ceiling:
                references.append((bp, ceiling))
            for key, place in references:
                trio = (place, arch, dataset)
                self.cells.setdefault(draft._replace(method=key), (trio, device))

    def _floor(self, method: str) -> str:
        ref = self.refs[method]
        return self._ref(ref.name, {**ref.params, **FLOOR})

    def _is_ceiling(self, method: str) -> bool:
        params, bp = self.refs[method].params, self.refs[self.own[self.components.ceiling]]
        whole = params["freeze"] is None and params["train_last"] is None
        return self.refs[method].name == bp.name and whole and not params["random_targets"]

    def cell(self, draft: _Draft) -> Cell:
        data, training = self.recipes[draft.recipe]
        parts = {kind: self.refs[getattr(draft, kind)] for kind in ("method", "arch", "dataset")}
        return Cell(**parts, data=data, training=training, seed=draft.seed)


def resolved_cells(components: Components) -> Iterator[tuple[Cell, Trio, str]]:
    """Yield each distinct cell with the places of its components and its device.

    The suite's own cells come first, in the suite's order. Raises SuiteError.
    """
    drafts = _Drafts(components)
    drafts.add_own()
    if components.suite.floors:
        drafts.add_references()
    for draft, (trio, device) in drafts.cells.items():
        yield drafts.cell(draft), trio, device
