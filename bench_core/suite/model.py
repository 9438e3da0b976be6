"""Define the models of a suite file and list the cells of a suite.

Nothing is imported or executed: `bench_core.execution.planning.plan` checks later whether a method
exists and has a parameter, and finds positions by `Suite.problem`. Cells share plain dicts: read
only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    ValidationError,
    WithJsonSchema,
    field_validator,
)

from bench_core.errors import Problem, SuiteError
from bench_core.names import NAME, NAME_RULE, bare_name
from bench_core.suite.budget import Budget
from bench_core.suite.cells import CellSpec as CellSpec
from bench_core.suite.cells import hashable, matches, mismatch, same_name, with_value
from bench_core.suite.claim import MAX_SEED, Expectation
from bench_core.suite.component import (
    ComponentSpec,
    Model,
    Name,
    fault,
    named,
    no_twins,
    setting,
)
from bench_core.suite.document import Document, KeyPath, parse_path, show_path
from bench_core.suite.judging import DIAGNOSTICS, DepthUtility, DiagnosticSpec
from bench_core.suite.messages import problems_of
from bench_core.suite.recipe import MAX_EPOCHS, RECIPE, DataOptions, TrainingOptions
from bench_core.suite.search import Search
from bench_core.training.params import resolved

MAX_CELLS = 100_000

_STORE = ("quarantine", "replicates", "agreement", "suite.json", "report.html")
# no folder may have these names on Windows
_RESERVED = re.compile(r"(con|nul|aux|prn|com[0-9]|lpt[0-9])(\..*)?")
AXES = "axes are method.*, arch, arch.*, dataset, dataset.*, training.*, data.*"


def _suite_name(value: str) -> str:
    if not re.fullmatch(NAME, value):
        raise fault(f"must be {NAME_RULE}")
    if _RESERVED.fullmatch(value):
        raise fault("is a device on Windows and cannot name a folder there")
    if re.fullmatch("[0-9a-f]{32}", value) or value in _STORE:
        raise fault("is a name that results folders use themselves")
    return value


_Seed = Annotated[int, Field(ge=0, le=MAX_SEED, strict=True)]
Seeds = Annotated[list[_Seed], Field(min_length=1, strict=True), AfterValidator(no_twins)]


class Suite(Model):
    """A suite file for the `bench` command: methods, networks, data, recipe and measurements."""

    name: Annotated[
        str, AfterValidator(_suite_name), WithJsonSchema({"type": "string", "pattern": f"^{NAME}$"})
    ] = Field(description="name of the suite and of its folder under results/")
    title: str = setting("", "one line for people")
    description: str = setting("", "the question that the suite answers")
    arch: ComponentSpec = setting(ComponentSpec(name="resmlp"), "the network")
    dataset: ComponentSpec = setting(ComponentSpec(name="cifar10"), "the data set")
    methods: list[ComponentSpec] = Field(min_length=1, description="the learning rules")
    seeds: Seeds = setting([42, 123, 456], "one run per seed")
    training: TrainingOptions = setting(TrainingOptions(), "the recipe")
    data: DataOptions = setting(DataOptions(), "what part of the data is used")
    diagnostics: list[DiagnosticSpec] = setting(
        [DiagnosticSpec(name=name) for name in DIAGNOSTICS], "what is measured on every network"
    )
    floors: bool = setting(True, "add each method's matched floor, the bp floor and the ceiling bp")
    floor_scales: list[Annotated[float, Field(gt=0.0, le=1e6, strict=True)]] = setting(
        [], "further floors: random blocks with their last matrices times these factors"
    )
    depth_utility: DepthUtility = setting(DepthUtility(), "what depth_utility compares with")
    stop_when: list[Name] = setting([], "diagnostics that end a training when they fire")
    search: Search | None = setting(None, "what `bench tune` may change; `bench run` ignores it")
    expect: list[Expectation] = setting([], "published figures to compare with")
    budget: Budget = setting(
        Budget(), "what a cell may use; decides whether it ends, never its numbers"
    )
    evaluate_every: int = setting(
        1, "epochs between test accuracies; the last epoch has one", ge=1, le=MAX_EPOCHS
    )
    diagnose_every: int = setting(
        1, "epochs between measurements of a training; the last epoch has them", ge=1, le=MAX_EPOCHS
    )
    checkpoint_every: int | None = setting(
        None,
        "epochs between saved states that a killed cell goes on from; null: none",
        ge=1,
        le=MAX_EPOCHS,
    )
    matrix: dict[str, Annotated[list[Any], Field(min_length=1)]] = setting(
        {},
        f"further axes: dotted key to a list of values; {AXES}. "
        "An axis wins over a method's own value",
        json_schema_extra={
            "propertyNames": {
                "pattern": r"^(method|arch|dataset|training|data)\..|^(arch|dataset)$"
            }
        },
    )
    include: list[dict[str, Any]] = setting(
        [],
        "cells to add: `method` (name or mapping), optional dotted keys, optional `seeds`",
        json_schema_extra={"items": {"type": "object", "required": ["method"]}},
    )
    exclude: list[dict[str, Any]] = setting(
        [],
        "cells to leave out: those that match every dotted key, `method` and `seed`. "
        "A list of values matches any of them, null a key that is not set",
    )

    _document: Document = PrivateAttr(default_factory=lambda: Document("<suite>"))
    _stated: Suite | None = None
    _whole: Suite | None = None

    @property
    def document(self) -> Document:
        """The file, with the place of every value."""
        return self._document

    @property
    def stated(self) -> Suite | None:
        """The file without options; None if only options make it valid."""
        return self._stated

    @property
    def whole(self) -> Suite | None:
        """The suite with all methods; None if no option chose some, or options fit them alone."""
        return self._whole

    def from_file(
        self, file: Document | None = None, stated: Suite | None = None, whole: Suite | None = None
    ) -> Suite:
        """Note what is known of the file of this suite, and return the suite."""
        self._document = self._document if file is None else file
        self._stated = self._stated if stated is None else stated
        self._whole = self._whole if whole is None else whole
        return self

    @field_validator("diagnostics")
    @classmethod
    def _once(cls, value: list[DiagnosticSpec]) -> list[DiagnosticSpec]:
        no_twins([spec.name for spec in value])
        return value

    @field_validator("methods")
    @classmethod
    def _each_once(cls, value: list[ComponentSpec]) -> list[ComponentSpec]:
        no_twins([hashable(spec.as_dict()) for spec in value])
        return value

    @field_validator("floor_scales")
    @classmethod
    def _of_floors(cls, value: list[float], info: Any) -> list[float]:
        no_twins(value)
        if value and not info.data.get("floors", True):
            raise fault("adds floors, and `floors: false` leaves floors out: remove one of them")
        return value

    @field_validator("evaluate_every", "diagnose_every")
    @classmethod
    def _every_epoch_may_stop(cls, value: int, info: Any) -> int:
        if value > 1 and info.data.get("stop_when"):
            raise fault("must be 1 with stop_when, which judges every epoch")
        return value

    def every(self) -> dict[str, int]:
        """Return the settings that decide which epochs have an accuracy and measurements."""
        return {"evaluate_every": self.evaluate_every, "diagnose_every": self.diagnose_every}

    def judging(self) -> dict[str, Any]:
        """Return the fields of suite.json that say how its runs are shown and judged."""
        return {
            "title": self.title,
            "thresholds": self.thresholds,
            "depth_utility": self.depth_utility.model_dump(),
            "expect": [claim.model_dump() for claim in self.expect],
            "claimed_for": self.claimed_for,
        }

    def recipe(self) -> dict[str, Any]:
        """Return the settings of the file as plain values, and all that its claims depend on.

        recipes     arch, dataset, training, data of the cells of `methods` and `matrix`, each once
        included    those that only `include` adds
        thresholds, depth_utility  by which the file judges
        measured    options of its diagnostics, as written
        """
        plain = self.model_dump(include={"arch", "dataset", "training", "data", "stop_when"})
        plain["axes"] = sorted(self.matrix)
        if not self.expect:
            return plain
        limits = self.thresholds.items()
        stop_when = {
            name: next((limit for own, limit in limits if same_name(own, name)), None)
            for name in self.stop_when
        }
        listed: dict[Any, dict[str, Any]] = {}
        counts = []
        for suite in (self.model_copy(update={"include": []}), self):
            for cell in suite.cells():
                training = {**cell.training, "stop_when": stop_when}
                recipe = {"arch": cell.arch, "dataset": cell.dataset, "data": cell.data}
                recipe["training"] = training
                listed.setdefault(hashable(recipe), recipe)
            counts.append(len(listed))
        return {
            **plain,
            "recipes": list(listed.values())[: counts[0]],
            "included": list(listed.values())[counts[0] :],
            "thresholds": self.thresholds,
            "depth_utility": self.depth_utility.model_dump(),
            "measured": {
                bare_name(item.name): item.model_dump(exclude={"name", "threshold"})
                for item in self.diagnostics
            },
        }

    @property
    def thresholds(self) -> dict[str, float]:
        """The thresholds that the file states, by diagnostic."""
        stated = ((item.name, item.threshold) for item in self.diagnostics)
        return {name: threshold for name, threshold in stated if threshold is not None}

    @property
    def claimed_for(self) -> dict[str, Any] | None:
        """Return the recipe of the file without options, if it is known."""
        return None if self.stated is None else self.stated.recipe()

    def content(self) -> dict[str, Any]:
        """Return what decides which cells run and how they are judged, as plain values."""
        without = dict.fromkeys(
            ("name", "title", "description", "expect", "budget", "checkpoint_every", "search"), True
        )
        if not self.floor_scales:  # as suites were before it existed
            without["floor_scales"] = True
        return self.model_dump(mode="json", exclude={**without, "training": {"device"}})

    def count(self) -> int:
        """Count the cells before exclusion and removal of duplicates, without making them."""
        matrix = math.prod(len(values) for values in self.matrix.values())
        extra = sum(len(entry.get("seeds", self.seeds)) for entry in self.include)
        return len(self.methods) * len(self.seeds) * matrix + extra

    def cells(self) -> list[CellSpec]:
        """List methods × matrix × seeds without `exclude`, then `include`; each cell once.

        Raises `SuiteError` for values that do not go together and for more than 100,000 cells.
        """
        if (total := self.count()) > MAX_CELLS:
            what = f"the suite expands to {total:,} cells; at most {MAX_CELLS:,} are allowed"
            key = "matrix" if self.matrix else "methods"
            raise SuiteError([self.problem(None, key, what, at_key=True)])
        problems: list[Problem] = []
        cells: dict[Any, CellSpec] = {}
        recipes: dict[Any, dict[str, Any] | None] = {}
        for cell in self._combinations():
            recipe = hashable([cell.training, cell.data])
            if recipe not in recipes:
                recipes[recipe] = self._resolve(cell, problems)
            if resolved := recipes[recipe]:
                cell = replace(cell, **resolved)
                parts = [cell.method, cell.arch, cell.dataset, *resolved.values(), cell.seed]
                cells.setdefault(hashable(parts), cell)
        if problems:
            raise SuiteError(problems)
        return list(cells.values())

    @property
    def rules_of_file(self) -> list[dict[str, Any]]:
        """Return the entries of `exclude` of the file, without options."""
        return (self.stated or self).exclude

    def idle(self) -> dict[int, Problem]:
        """Map each entry of `exclude` that matches no cell of the file to a problem.

        The options that chose other cells play no part.
        """
        file = self.stated or self
        if not self.rules_of_file:
            return {}
        cells = list(file.model_copy(update={"exclude": [], "include": []})._combinations())
        return {
            i: file.problem(None, f"exclude[{i}]", "matches no cell", mismatch(cells, rule))
            for i, rule in enumerate(file.exclude)
            if not any(matches(cell, rule) for cell in cells)
        }

    def left_out(self) -> dict[int, list[CellSpec]]:
        """Map each entry of `exclude` to the cells that it leaves out, and no `include` adds."""
        if not self.exclude:
            return {}
        every = list(self.model_copy(update={"exclude": [], "include": []})._combinations())
        added = list(self.model_copy(update={"methods": []})._combinations())
        return {
            i: [cell for cell in every if matches(cell, rule) and cell not in added]
            for i, rule in enumerate(self.exclude)
        }

    def problem(
        self,
        cell: CellSpec | None,
        key: str,
        what: str,
        hint: str = "",
        *,
        below: KeyPath = (),
        at_key: bool = False,
    ) -> Problem:
        """Make a problem at the place of the suite that gave a cell its value of a dotted key.

        key     such as "method.penalty" or "arch"; without a cell a path such as "diagnostics[0]"
        below   the rest of the path as a tuple: its keys may hold any character
        at_key  point to the key instead of its value, for unknown keys
        """
        path = (*(parse_path(key) or ()), *below)
        for n in range(len(path), 0, -1):
            prefix = show_path(path[:n])
            if cell is not None and prefix in cell.origin:
                path = cell.origin[prefix] + path[n:]
                break
        return self._document.problem(path, what, hint, at_key=at_key)

    def _combinations(self) -> Iterator[CellSpec]:
        """List the cells without those of `exclude`; recipes are unchecked, duplicates remain."""
        choices = [
            [(key, value, ("matrix", key, i)) for i, value in enumerate(values)]
            for key, values in sorted(self.matrix.items(), key=_depth)
        ]
        for i, method in enumerate(self.methods):
            for changes in product(*choices):
                cell = self._cell(method.as_dict(), ("methods", i), changes)
                for j, seed in enumerate(self.seeds):
                    seeded = cell.with_seed(seed, ("seeds", j))
                    if not any(matches(seeded, rule) for rule in self.exclude):
                        yield seeded
        for i, entry in enumerate(self.include):
            own = [
                (key, value, ("include", i, key))
                for key, value in entry.items()
                if key not in ("method", "seeds")
            ]
            cell = self._cell(named(entry["method"]), ("include", i, "method"), own)
            where: KeyPath = ("include", i, "seeds") if "seeds" in entry else ("seeds",)
            for j, seed in enumerate(entry.get("seeds", self.seeds)):
                yield cell.with_seed(seed, (*where, j))

    def _cell(
        self, method: dict[str, Any], place: KeyPath, changes: Sequence[tuple[str, Any, KeyPath]]
    ) -> CellSpec:
        parts: dict[str, Any] = {
            "method": method,
            "arch": self.arch.as_dict(),
            "dataset": self.dataset.as_dict(),
            "training": self.training.model_dump(),
            "data": self.data.model_dump(),
        }
        origin: dict[str, KeyPath] = {name: (name,) for name in parts} | {"method": place}
        for key, value, path in sorted(changes, key=_depth):
            parts = with_value(parts, key.split("."), value if "." in key else named(value))
            origin[key] = path
        return CellSpec(**parts, seed=0, origin=origin)

    def _resolve(self, cell: CellSpec, problems: list[Problem]) -> dict[str, Any] | None:
        """Validate the recipe of a cell: good values may not go together."""
        parts: dict[str, dict[str, Any]] = {}
        for part, model in RECIPE.items():
            values = getattr(cell, part)
            try:
                parts[part] = resolved(model.model_validate(values))
            except ValidationError as error:

                def place(path: KeyPath, part: str = part) -> KeyPath:
                    return cell.origin.get(f"{part}.{path[0]}", (part, *path))

                new = problems_of(self._document, error, model, values, place)
                problems += [problem for problem in new if problem not in problems]
                return None
        training = parts["training"]
        if training["stop_after"] == training["epochs"]:
            training["stop_after"] = None  # the whole schedule, the same cell
        return parts


def _depth(axis: tuple[str, Any] | tuple[str, Any, KeyPath]) -> int:
    """Return a sort key: arch before arch.width."""
    return axis[0].count(".")


def suite_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a suite file, for editors (`bench schema`)."""
    schema = Suite.model_json_schema()
    schema["properties"]["diagnostics"]["default"] = list(DIAGNOSTICS)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
