"""From a suite to the cells that will run: names resolved, floors and ceiling added, identities computed, results reused.

Every comparison needs floors and a ceiling: each method with its blocks frozen (its matched floor), bp with its blocks frozen (the
bp floor) and bp. They are added where the suite does not name them. A floor carries no penalty: λ weighs the blocks' branches,
which are frozen.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bench_core.errors import SuiteError, UsageError, did_you_mean
from bench_core.execution import validate
from bench_core.execution.fingerprint import ALGORITHM, cell_identity
from bench_core.execution.job import make_job
from bench_core.registry.registry import Kind, Registry
from bench_core.results import store
from bench_core.results.hashing import digest
from bench_core.results.record import Cell, ComponentRef, RunRecord, cell_key
from bench_core.results.status import STATUSES, is_reused
from bench_core.suite.budget import Budget
from bench_core.suite.cells import same_name
from bench_core.suite.claim import KINDS
from bench_core.suite.messages import explain_all
from bench_core.suite.model import CellSpec, Suite
from bench_core.training import NUMERICS, checkpoint

CEILING = "bp"
PARTS: tuple[Kind, ...] = ("method", "arch", "dataset")


@dataclass(frozen=True)
class PlannedCell:
    """A cell with its identity and what is to be done about it.

    action  "run", or "reuse" where a finished run of this identity is in the results folder
    why     the reason for the action, in words
    seen    the stamp of the run that the plan found in the folder: another one is another runner's
    numerics  of the training and of every component, by which shipped results are matched
    defaults  of the rule's own parameters, as far as they have one
    """

    cell: Cell
    identity: str
    folder: Path
    device: str
    code: dict[str, Any]
    data_checksum: str
    passport: dict[str, bool]
    action: Literal["run", "reuse"]
    why: str
    seen: tuple[int, int] | None = None
    numerics: Mapping[str, int] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """All cells of a suite, in the suite's order, floors and ceiling after what needs them."""

    suite: Suite
    folder: Path
    cells: tuple[PlannedCell, ...]
    diagnostics: tuple[dict[str, Any], ...]
    data_dir: Path | None
    troubles: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(
        default_factory=dict
    )  # devices of the cells that are not on this machine → why

    def job(self, cell: PlannedCell) -> dict[str, Any]:
        """Return what the worker of a cell must know."""
        suite = self.suite
        return make_job(
            cell,
            suite.name,
            self.diagnostics,
            self.data_dir,
            suite.budget.of_cell(),
            suite.checkpoint_every,
        )

    @property
    def to_run(self) -> list[PlannedCell]:
        return [cell for cell in self.cells if cell.action == "run"]

    @property
    def counts(self) -> str:
        """`30 cells, 10 reused, 20 to run`."""
        total, to_run = len(self.cells), len(self.to_run)
        return f"{total} cell{'s' * (total != 1)}, {total - to_run} reused, {to_run} to run"


@dataclass
class _Components:
    """The distinct components of a suite and what the child process said of each."""

    keys: dict[str, int] = field(default_factory=dict)
    wanted: list[tuple[Kind, str, dict[str, Any]]] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)

    def add(self, kind: Kind, full_name: str, params: dict[str, Any]) -> int:
        key = json.dumps([kind, full_name, params], sort_keys=True)
        if key not in self.keys:
            self.keys[key] = len(self.wanted)
            self.wanted.append((kind, full_name, params))
        return self.keys[key]


class _Draft(NamedTuple):
    """A cell as places in lists, cheap to compare and to change: a suite may have 100,000."""

    method: int
    arch: int
    dataset: int
    recipe: int
    seed: int


class _Drafts:
    """The cells of a suite, each once, with the components and the device that they are made for.

    refs     components with their parameters resolved, those of `_Components.told` first
    recipes  (data, training)
    found    draft → (places of its components in `_Components.told`, device)
    """

    def __init__(self, refs: list[ComponentRef]) -> None:
        self.refs, self.recipes = refs, list[tuple[dict[str, Any], dict[str, Any]]]()
        self.found: dict[_Draft, tuple[tuple[int, int, int], str]] = {}
        self._places: dict[str, int] = {}
        self._same = [self._place(ref.model_dump_json(), place) for place, ref in enumerate(refs)]
        self._recipe_of: dict[
            tuple[int, int], int
        ] = {}  # specs share their dicts, and outlive this

    def _place(self, text: str, place: int) -> int:
        return self._places.setdefault(text, place)

    def _ref(self, name: str, params: dict[str, Any]) -> int:
        ref = ComponentRef(name=name, params=params)
        place = self._place(ref.model_dump_json(), len(self.refs))
        if place == len(self.refs):
            self.refs.append(ref)
        return place

    def add(
        self, row: tuple[int, int, int], spec: CellSpec, stop_when: dict[str, float | None]
    ) -> None:
        """A cell of the suite itself."""
        dicts = (id(spec.data), id(spec.training))
        if dicts not in self._recipe_of:
            training = {key: value for key, value in spec.training.items() if key != "device"}
            recipe = (spec.data, training | {"stop_when": stop_when})
            place = self._place(json.dumps(recipe, sort_keys=True), len(self.recipes))
            if place == len(self.recipes):
                self.recipes.append(recipe)
            self._recipe_of[dicts] = place
        method, arch, dataset = (self._same[place] for place in row)
        draft = _Draft(method, arch, dataset, self._recipe_of[dicts], spec.seed)
        self.found.setdefault(draft, (row, spec.training["device"]))

    def add_references(self, ceiling: int) -> None:
        """Matched floors, the bp floor and the ceiling, for every recipe and seed, where they are not there yet."""
        bp, unpenalised = (
            self.refs[ceiling],
            {"freeze": "blocks", "train_last": None, "penalty": 0.0},
        )

        def floor(method: int) -> int:
            ref = self.refs[method]
            return self._ref(ref.name, {**ref.params, **unpenalised})

        def is_ceiling(ref: ComponentRef) -> bool:
            whole = ref.params["freeze"] is None and ref.params["train_last"] is None
            return ref.name == bp.name and whole and not ref.params["random_targets"]

        floors = {
            method: floor(method)
            for method in {draft.method for draft in self.found} | {self._same[ceiling]}
        }
        own = list(self.found.items())
        with_ceiling = {
            draft._replace(method=-1) for draft, _ in own if is_ceiling(self.refs[draft.method])
        }
        for draft, ((method, arch, dataset), device) in own:
            wanted = [(floors[draft.method], method), (floors[self._same[ceiling]], ceiling)]
            if draft._replace(method=-1) not in with_ceiling:
                wanted.append((self._same[ceiling], ceiling))
            for ref, place in wanted:
                self.found.setdefault(draft._replace(method=ref), ((place, arch, dataset), device))

    def cell(self, draft: _Draft) -> Cell:
        data, training = self.recipes[draft.recipe]
        method, arch, dataset = (
            self.refs[place] for place in (draft.method, draft.arch, draft.dataset)
        )
        return Cell(
            method=method, arch=arch, dataset=dataset, data=data, training=training, seed=draft.seed
        )


def make_plan(
    suite: Suite,
    registry: Registry,
    results: Path,
    data_dir: Path | None = None,
    retry_failed: bool = False,
) -> Plan:
    """Resolve a suite. Raises SuiteError with every fault that the components find, before anything is written."""
    specs = suite.cells()
    components = _Components()
    indices, ceiling, diagnostics = _find(suite, specs, registry, components)
    trios = sorted(
        {(row[0], row[1], row[2]) for row in indices}
        | {(ceiling, row[1], row[2]) for row in indices}
    )
    answer = validate.ask(
        {
            "components": components.wanted,
            "trios": trios,
            "data_dir": str(data_dir) if data_dir else None,
            "devices": sorted({spec.training["device"] for spec in specs}),
        }
    )
    components.told = answer["components"]
    _raise_faults(
        suite,
        specs,
        indices,
        diagnostics,
        components,
        dict(zip(trios, answer["trios"], strict=True)),
    )

    drafts = _Drafts(
        [ComponentRef(name=told["name"], params=told["params"]) for told in components.told]
    )
    stop_when = _stop_when(suite, diagnostics, components)
    for spec, row in zip(specs, indices, strict=True):
        drafts.add(row, spec, stop_when)
    if suite.floors:
        drafts.add_references(ceiling)

    folder = results / suite.name
    earlier = _dict((store.read_suite(folder) or {}).get("cells"))
    planned, troubles = [], []
    codes: dict[tuple[int, ...], dict[str, Any]] = {}
    for draft, (row, device) in drafts.found.items():
        cell = drafts.cell(draft)
        parts = [components.told[index] for index in row]
        if row not in codes:
            codes[row] = code_of(parts)
        code = codes[row]
        checksum = parts[2]["checksum"]
        digests = {name: entry["digest"] for name, entry in code.items()}
        identity = cell_identity(cell.model_dump(mode="json"), digests, checksum)
        seen = store.stamp(folder / identity)
        action, why, trouble = _reuse(folder / identity, suite.budget, retry_failed)
        if action == "run" and not os.path.lexists(folder / identity):
            why += _not_reused(folder, earlier.get(cell_key(cell)), code, checksum)
        troubles += trouble
        passport, defaults = parts[0]["passport"], parts[0]["defaults"]
        planned.append(
            PlannedCell(
                cell,
                identity,
                folder / identity,
                device,
                code,
                checksum,
                passport,
                action,
                why,
                seen,
                numerics_of(parts, [components.told[index] for index in diagnostics]),
                defaults,
            )
        )
    listed = [drafts.refs[index].model_dump() for index in diagnostics]
    return Plan(
        suite, folder, tuple(planned), tuple(listed), data_dir, tuple(troubles), answer["absent"]
    )


def _find(
    suite: Suite, specs: list[CellSpec], registry: Registry, components: _Components
) -> tuple[list[tuple[int, int, int]], int, list[int]]:
    """Indices of every cell's method, arch and dataset, of the ceiling and of the diagnostics; names are checked here."""
    problems: dict[str, Any] = {}

    def look(kind: Kind, entry: dict[str, Any], spec: CellSpec | None, key: str) -> int:
        params = {name: value for name, value in entry.items() if name != "name"}
        try:
            return components.add(kind, registry.find(kind, entry["name"]).full_name, params)
        except UsageError as error:
            what, _, hint = str(error).partition("; ")
            problem = suite.problem(spec, key, what, hint)
            problems[str(problem)] = problem
            return -1

    indices = []
    looked: dict[tuple[str, int], int] = {}  # specs share their dicts, and outlive this
    for spec in specs:
        row = []
        for kind in PARTS:
            entry = getattr(spec, kind)
            if (kind, id(entry)) not in looked:
                looked[kind, id(entry)] = look(kind, entry, spec, kind)
            row.append(looked[kind, id(entry)])
        indices.append((row[0], row[1], row[2]))
    diagnostics = []
    for number, diagnostic in enumerate(suite.diagnostics):
        entry = {key: value for key, value in diagnostic.as_dict().items() if key != "threshold"}
        diagnostics.append(look("diagnostic", entry, None, f"diagnostics[{number}]"))
    for number, rule in enumerate(suite.exclude):
        for kind in PARTS:
            options = rule.get(kind, [])
            for name in options if isinstance(options, list) else [options]:
                look(kind, {"name": name}, None, f"exclude[{number}].{kind}")
    if not specs:
        raise SuiteError([suite.problem(None, "exclude", "leaves no cell to run")])
    if suite.depth_utility.floor not in ("matched", "bp"):
        look("method", {"name": suite.depth_utility.floor}, None, "depth_utility.floor")
    known = {
        name
        for item in registry.of_kind("diagnostic")
        for name in (item.component.name, item.full_name)
    }
    for number, claim in enumerate(suite.expect):
        name = claim.parsed.name
        if claim.parsed.kind == "diagnostic" and name not in known:
            what, hint = f"no figure or diagnostic '{name}'", did_you_mean(name, known | set(KINDS))
            problems[f"expect {number}"] = suite.problem(
                None, f"expect[{number}].figure", what, hint
            )
    ceiling = components.add("method", registry.find("method", CEILING).full_name, {})
    if problems:
        raise SuiteError(list(problems.values()))
    return indices, ceiling, diagnostics


def _raise_faults(
    suite: Suite,
    specs: list[CellSpec],
    indices: list[tuple[int, int, int]],
    diagnostics: list[int],
    components: _Components,
    unsupported: dict[tuple[int, int, int], dict[str, str] | None],
) -> None:
    """Turn what the components found into problems at the places of the suite; raise them all at once."""
    problems: dict[str, Any] = {}
    errors: dict[str, None] = {}

    def blame(index: int, spec: CellSpec | None, key: str) -> None:
        told = components.told[index]
        if "error" in told:
            errors.setdefault(told["error"])
        for path, what, hint, at_key in explain_all(
            told.get("invalid", ()), told.get("schema", {})
        ):
            problem = suite.problem(spec, key, what, hint, below=path, at_key=at_key)
            problems[str(problem)] = problem

    for spec, row in zip(specs, indices, strict=True):
        for kind, index in zip(PARTS, row, strict=True):
            blame(index, spec, kind)
        refusal = unsupported.get(row)
        if refusal:
            arch, dataset = spec.arch["name"], spec.dataset["name"]
            who = (
                f"{spec.method['name']} cannot train {arch}"
                if refusal["at"] == "method"
                else f"{arch} cannot be used"
            )
            problem = suite.problem(spec, refusal["at"], f"{who} on {dataset}: {refusal['why']}")
            problems[str(problem)] = problem
        limit, batch = spec.data["limit"], spec.training["batch_size"]
        if limit is not None and limit < batch:
            what = f"{limit} training samples do not fill one batch of {batch}"
            problem = suite.problem(
                spec, "data.limit", what, "use a smaller training.batch_size or a larger data.limit"
            )
            problems[str(problem)] = problem
    for number, index in enumerate(diagnostics):
        blame(index, None, f"diagnostics[{number}]")
    if problems:
        raise SuiteError(list(problems.values()))
    if errors:
        raise UsageError("\n".join(errors))


def _stop_when(
    suite: Suite, diagnostics: list[int], components: _Components
) -> dict[str, float | None]:
    """Full name of each diagnostic that ends a training → the suite's threshold for it, None: the diagnostic's own.

    Raises SuiteError for one that the suite does not measure after every epoch, or that never fires.
    """
    found: dict[str, float | None] = {}
    problems = []
    for number, name in enumerate(suite.stop_when):
        listed = [i for i, spec in enumerate(suite.diagnostics) if same_name(spec.name, name)]
        told = components.told[diagnostics[listed[0]]] if listed else {}
        if not listed:
            problems.append((number, f"{name} is not among the suite's diagnostics; add it there"))
        elif told["when"] != "epochs" or told["direction"] is None:
            problems.append(
                (
                    number,
                    f"{name} cannot end a training: it does not fire, or is not measured after every epoch",
                )
            )
        else:
            found[told["name"]] = suite.diagnostics[listed[0]].threshold
    if problems:
        raise SuiteError(
            [suite.problem(None, f"stop_when[{number}]", what) for number, what in problems]
        )
    return found


def numerics_of(
    parts: Sequence[Mapping[str, Any]], diagnostics: Sequence[Mapping[str, Any]]
) -> dict[str, int]:
    """Return the `numerics` of the training, of a cell's three components and of its diagnostics."""
    own: dict[str, int] = {kind: told["numerics"] for kind, told in zip(PARTS, parts, strict=True)}
    measured = {f"diagnostic {told['name']}": told["numerics"] for told in diagnostics}
    return {"training": NUMERICS, **own, **measured}


def code_of(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Per distribution: version and digest of the code that takes part in the cell."""
    code: dict[str, Any] = {}
    for distribution in sorted({part["distribution"] for part in parts}):
        own = [part for part in parts if part["distribution"] == distribution]
        modules = sorted({part["module"] for part in own})
        joint = digest(sorted(part["digest"] for part in own))
        files = {name: file for part in own for name, file in part["files"].items()}
        code[distribution] = {
            "version": own[0]["version"],
            "modules": modules,
            "digest": joint,
            "files": files,
        }
    return code


def _reuse(
    folder: Path, budget: Budget, retry_failed: bool
) -> tuple[Literal["run", "reuse"], str, list[str]]:
    """What to do about a cell, why, and what was found wrong. Whoever runs the cell sets an unreadable folder aside.
    Raises UsageError where a newer bench has run it."""
    saved = checkpoint.header(store.resume_file(folder))
    going_on = f"; goes on after epoch {saved['epoch']}" if saved else ""
    if not os.path.lexists(folder):
        return "run", f"no run of this identity yet{going_on}", []
    try:
        record: RunRecord = store.read(folder, sums=True)
    except store.Newer as reason:
        raise UsageError(f"{folder}: written by a newer bench: {reason}") from None
    except store.Unreadable as reason:
        return (
            "run",
            f"its run folder is unreadable: {reason}",
            [f"{folder}: unreadable, to be set aside: {reason}"],
        )
    status = STATUSES[record.status]
    if status.failure and retry_failed:
        return "run", f"its run ended as {record.status} and --retry-failed was given{going_on}", []
    if not is_reused(record.status, record.budget, budget.of_cell()):
        return "run", f"its run ended as {record.status}{going_on}", []
    if status.limits:
        return "reuse", f"its run ended as {record.status}, and the budget is no larger now", []
    return "reuse", f"a run of this identity is {record.status}", []


def _not_reused(folder: Path, earlier: Any, code: Mapping[str, Any], checksum: str) -> str:
    """Say why the last run of this cell, which has another identity, is kept but not reused."""
    try:
        record: RunRecord = store.read(folder / str(earlier))
    except (store.Unreadable, OSError):
        return ""
    if record.algorithm != ALGORITHM:
        cause = f"its identity follows rule {record.algorithm}, and this bench computes rule {ALGORITHM}"
    elif record.data_checksum != checksum:
        cause = "its data have another checksum"
    else:
        before, now = _files(record.code), _files(code)
        changed = sorted(name for name in before | now if before.get(name) != now.get(name))
        shown = ", ".join(changed[:3]) + (
            "" if len(changed) <= 3 else f" and {len(changed) - 3} more"
        )
        cause = f"the code has changed since: {shown or 'another version'}"
    return f"; the run {record.identity[:12]} of this cell is kept but not reused: {cause}"


def _files(code: Mapping[str, Any]) -> dict[str, str]:
    """Module → digest, over all distributions of a cell's code."""
    return {
        name: digest for entry in code.values() for name, digest in entry.get("files", {}).items()
    }


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
