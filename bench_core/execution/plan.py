"""Plan a suite: its cells with floors and ceiling, their identities, which results are reused."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from bench_core.errors import did_you_mean
from bench_core.execution.components import Components, Trio, code_of, numerics_of
from bench_core.execution.fingerprint import cell_identity
from bench_core.execution.floors import resolved_cells
from bench_core.execution.job import make_job
from bench_core.execution.reuse import Action, StoredRuns
from bench_core.execution.shipped import Shipped, trained
from bench_core.registry.registry import Registry
from bench_core.results import store, suite_folder
from bench_core.results.hashing import canonical, jsonable, plain_text
from bench_core.results.record import EVERY, Cell, cell_key
from bench_core.results.reference import Reference
from bench_core.results.scan import Stored
from bench_core.suite.cells import PARTS, CellSpec, same_name
from bench_core.suite.component import flow_text
from bench_core.suite.document import printable
from bench_core.suite.model import Suite
from bench_core.suite.names import CEILING, FROZEN, LOCAL_CEILING, OURS
from bench_core.suite.protocol import STANDARD


@dataclass(frozen=True)
class PlannedCell:
    """A cell with its identity and the decision to run it, or to use a run that is there.

    stamp     of the run that the plan found in the folder; another runner's run has another stamp
    numerics  of the training and of every component; shipped results are matched by them
    defaults  of the rule's own parameters
    shipped   the run of the reference that stands for it
    """

    cell: Cell
    identity: str
    folder: Path
    device: str
    code: dict[str, Any]
    data_checksum: str
    passport: dict[str, bool]
    action: Action
    why: str
    stamp: tuple[int, int] | None = None
    numerics: Mapping[str, int] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    shipped: Stored | None = None


@dataclass(frozen=True)
class Plan:
    """All cells of a suite: its own in the suite's order, then the floors and the ceiling.

    troubles  warnings: components that the suite names twice, entries of `exclude` that match no
              cell or that the floors undo, stored runs that cannot be read, diagnostics that runs
              to reuse lack or that every verdict needs, and limits, title or claims unlike those of
              the folder's last plan
    absent    devices of the cells that are not on this machine → why
    defaults  a rule's full name, `arch NAME`, `dataset NAME` or `diagnostic NAME` → the defaults
              of its parameters
    beside    cells of the suite's other methods that the reference has, for the same table
    lacking   a line for each reason why the reference does not give a cell
    """

    suite: Suite
    folder: Path
    cells: tuple[PlannedCell, ...]
    diagnostics: tuple[dict[str, Any], ...]
    data_dir: Path | None
    troubles: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    beside: tuple[PlannedCell, ...] = ()
    lacking: tuple[str, ...] = ()

    def job(self, cell: PlannedCell) -> dict[str, Any]:
        """Return what the worker of a cell must know."""
        suite, budget = self.suite, self.suite.budget.of_cell()
        every = {name: getattr(suite, name) for name in (*EVERY, "checkpoint_every")}
        return make_job(cell, suite.name, self.diagnostics, self.data_dir, budget, every)

    @property
    def to_run(self) -> list[PlannedCell]:
        return [cell for cell in self.cells if cell.action == "run"]

    @property
    def shipped(self) -> list[PlannedCell]:
        """Return the cells that come from the reference, those of other methods too."""
        return [cell for cell in (*self.cells, *self.beside) if cell.shipped is not None]

    @property
    def counts(self) -> str:
        """`30 cells, 10 reused, 20 to run`, and the number from the reference if there are any."""
        total, to_run = len(self.cells), len(self.to_run)
        shipped = len(self.shipped) - len(self.beside)
        parts = [f"{total} cell{'s' * (total != 1)}", f"{total - to_run - shipped} reused"]
        parts += [f"{shipped} from the reference"] * bool(self.shipped) + [f"{to_run} to run"]
        beside = len(self.beside)
        more = f"; {beside} of other methods beside them, from the reference" if beside else ""
        return ", ".join(parts) + more


def make_plan(
    suite: Suite,
    registry: Registry,
    results: Path,
    data_dir: Path | None = None,
    retry_failed: bool = False,
    reference: Reference | None = None,
) -> Plan:
    """Resolve a suite without writing. Raises SuiteError and UsageError with all faults.

    reference  its runs stand for cells that have no run in `results`; those of the suite's methods
               that options left out come beside
    """
    components = Components(suite, registry)
    components.examine(data_dir)
    diagnostics = tuple(
        {"name": item["name"], "params": item["params"]}
        for item in components.parts(components.diagnostics)
    )
    folder = results / suite.name
    stored = StoredRuns(folder, suite, retry_failed)
    shipped = Shipped(reference, suite, diagnostics) if reference else None
    troubles: list[str] = []
    planned = list(_planned(components, stored, shipped, troubles))
    lacking = shipped.lines() if shipped else ()
    beside: list[PlannedCell] = []
    if suite._whole is not None and reference and reference.suite(suite.name):
        others = Components(suite._whole, registry)
        others.examine(data_dir)
        own = {cell_key(cell.cell) for cell in planned}
        every = _planned(others, stored, shipped, [], own | stored.trained(reference))
        beside = [cell for cell in every if cell.shipped]
    return Plan(
        suite=suite,
        folder=folder,
        cells=tuple(planned),
        diagnostics=diagnostics,
        data_dir=data_dir,
        troubles=(
            *_twice(components),
            *_idle(suite, planned),
            *_returned(suite, planned),
            *_undecided(suite, planned),
            *_floorless(suite, planned),
            *_rejudged(suite, folder),
            *_measured(diagnostics, folder),
            *_unmeasured(components.parts(components.diagnostics), planned),
            *troubles,
            *(shipped.refused if shipped else ()),
        ),
        absent=components.absent,
        defaults=components.defaults(),
        beside=tuple(beside),
        lacking=lacking,
    )


def judged_by(suite: Suite) -> dict[str, Any]:
    """Return the fields of suite.json that say how the runs of the folder are shown and judged."""
    limits = {entry.name: entry.threshold for entry in suite.diagnostics}
    return {
        "title": suite.title,
        "thresholds": {name: limit for name, limit in limits.items() if limit is not None},
        "depth_utility": suite.depth_utility.model_dump(),
        "expect": [claim.model_dump() for claim in suite.expect],
        "claimed_for": suite.claimed_for,
    }


def _rejudged(suite: Suite, folder: Path) -> list[str]:
    """Say that finished runs get the title, limits or claims of this suite, maybe a namesake."""
    earlier, now = suite_folder.read(folder) or {}, jsonable(judged_by(suite))
    words = {"title": "another title", "thresholds": "other limits"}
    words |= {"depth_utility": "another floor", "expect": "other claims"}
    if suite.expect:
        words["claimed_for"] = "other claims"
    differing = [words[key] for key in words if earlier.get(key, now[key]) != now[key]]
    if not differing:
        return []
    title = printable(str(earlier.get("title") or "without a title"))
    before = f"the suite that was run here before ({title}) had"
    remedy = "another `name:` in the file, or -o FOLDER, keeps the two apart"
    changed = " and ".join(dict.fromkeys(differing))
    return [f"{folder}: {before} {changed}; its runs get those of this file; {remedy}"]


def _undecided(suite: Suite, planned: Sequence[PlannedCell]) -> list[str]:
    """Say that no rule can be trustworthy, because the suite does not measure a, b or c."""
    needed = [item.name for letter, item in STANDARD.items() if letter != "d"]
    listed = [item.name for item in suite.diagnostics]
    lacking = [name for name in needed if not any(same_name(own, name) for own in listed)]
    judged = any(cell.cell.method.params.get("freeze") != "blocks" for cell in planned)
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
            answer, (_, name, params) = components.answers[place], components.requests[place]
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
        meant = [did_you_mean(key, known) for key in suite.rules_of_file[i] if key not in known]
        meant = [hint for hint in meant if hint.startswith("did")]
        if suite.rules_of_file[i].get("method.freeze") == "blocks" and suite.floors:
            meant = ["floors are added after `exclude`; `floors: false` leaves them out"]
        lines.append("; ".join([str(problem), *meant]))
    return lines


def _floorless(suite: Suite, planned: Sequence[PlannedCell]) -> list[str]:
    """Say that the floor of another rule, which d compares with, is not run."""
    name, given = suite.depth_utility.floor, suite.depth_utility.floor_value is not None
    floors = (cell.cell.method for cell in planned if cell.cell.method.params.get("freeze"))
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
    earlier = suite_folder.saved_mapping(folder, "diagnostics")
    other = [
        item["name"].rpartition("/")[2]
        for item in diagnostics
        if canonical(earlier.get(item["name"], item["params"])) != canonical(item["params"])
    ]
    remedy = "`bench audit` measures again, -o FOLDER keeps the two apart"
    text = f"its earlier runs measured {', '.join(other)} with other options; {remedy}"
    return [f"{folder}: {text}"] if other else []


def _unmeasured(
    diagnostics: Sequence[Mapping[str, Any]], planned: Sequence[PlannedCell]
) -> list[str]:
    """Name the diagnostics of the suite that done runs to reuse lack, and how to measure them."""
    late = {item["name"].rpartition("/")[2] for item in diagnostics if not item["across"]}
    lacking = Counter[str]()
    for cell in (cell for cell in planned if cell.action == "reuse"):
        record = store.read(cell.folder)
        if record.status == "done" and record.numerics:  # older ones do not say
            asked = {name.rpartition("/")[2] for name in record.numerics}
            there = {path.name.split(".")[1] for path in cell.folder.glob("late.*.json")}
            lacking.update(late - asked - there)
    lines = []
    for name, count in sorted(lacking.items()):
        remedy = f"`bench audit {planned[0].folder.parent} --diagnostic {name}` measures it"
        lines.append(f"{count} of the runs to reuse did not measure {name}; {remedy}")
    return lines


def _planned(
    components: Components,
    stored: StoredRuns,
    shipped: Shipped | None,
    troubles: list[str],
    without: Collection[str] = (),
) -> Iterator[PlannedCell]:
    """Yield the cells of a suite, without those of some keys, with what is done about each."""
    diagnostics = components.parts(components.diagnostics)

    @cache
    def code_at(trio: Trio) -> dict[str, Any]:
        return code_of(components.parts(trio), diagnostics, components.stop_when())

    for cell, trio, device in resolved_cells(components):
        if without and cell_key(cell) in without:
            continue
        parts, code = components.parts(trio), code_at(trio)
        method, _, dataset = parts
        digests = {name: entry["digest"] for name, entry in code.items()}
        identity = cell_identity(cell.model_dump(mode="json"), digests, dataset["checksum"])
        numerics = numerics_of(parts, diagnostics)
        stamp = store.stamp(stored.folder / identity)  # before the decision, which reads the run
        action, why, warning = stored.decide(cell, identity, code, dataset["checksum"])
        run = None
        if action == "run" and shipped is not None:
            run = shipped.find(cell, numerics, dataset["checksum"])
        if run is not None:
            identity, action, why = run.record.identity, "reference", trained(run.record)
        if warning is not None:
            troubles.append(warning)
        yield PlannedCell(
            cell=cell,
            identity=identity,
            folder=stored.folder / identity,
            device=device,
            code=code,
            data_checksum=dataset["checksum"],
            passport=method["passport"],
            action=action,
            why=why,
            stamp=stamp,
            numerics=numerics,
            defaults=method["defaults"],
            shipped=run,
        )


def names_of(cells: Sequence[PlannedCell]) -> list[str]:
    """Name cells for people: `dfa[penalty=0.01] · seed 42 · arch.depth=8`.

    Settings are shown in which the cells differ, and options of a rule that are not its defaults.
    """
    systems = [
        {"arch": c.cell.arch.short, "dataset": c.cell.dataset.short}
        | {f"arch.{key}": value for key, value in c.cell.arch.params.items()}
        | {f"dataset.{key}": value for key, value in c.cell.dataset.params.items()}
        | {f"data.{key}": value for key, value in c.cell.data.items()}
        | {f"training.{key}": value for key, value in c.cell.training.items()}
        for c in cells
    ]
    first = systems[0] if systems else {}
    differing = {key for system in systems for key in system if system[key] != first.get(key)}
    names = []
    for cell, system in zip(cells, systems, strict=True):
        method = cell.cell.method
        own = {k: v for k, v in method.params.items() if v != cell.defaults.get(k)}
        options = [FROZEN] * (own.pop("freeze", None) == "blocks")
        options += [f"{key}={plain_text(value)}" for key, value in own.items()]
        rule = f"{method.short}[{', '.join(options)}]" if options else method.short
        others = [f"{key}={plain_text(system[key])}" for key in sorted(differing & system.keys())]
        names.append(" · ".join([rule, f"seed {cell.cell.seed}", *others]))
    return names
