"""Hold the claims of every installed suite against the reference, with the cost of what is missing.

A claim is judged on the runs of all suites, because suites share cells. Of two runs of one cell the
one that has not lapsed counts, then that of the claim's own suite. Neither torch nor any plugin is
imported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import yaml

from bench_core.analysis.claimed_recipe import compare
from bench_core.analysis.claims import ClaimResult
from bench_core.analysis.gather import SuiteResults, claims_of
from bench_core.analysis.judge import Settings, is_floor
from bench_core.errors import UsageError
from bench_core.registry.distributions import OURS
from bench_core.results import files, reference, store
from bench_core.results.duration import START, Past
from bench_core.results.record import (
    Cell,
    ComponentRef,
    RunRecord,
    cell_key,
    default_key,
    recorded_defaults,
)
from bench_core.results.scan import Stored
from bench_core.suite.cells import PARTS, CellSpec, frozen, matches, same_name
from bench_core.suite.claim import Expectation
from bench_core.suite.load import installed_suites, load_suite
from bench_core.suite.model import Suite

USUAL = ("resmlp", 256, 4)  # architecture, width, depth
# CPU time of a step of bp over that on the usual network (128 images, one thread, 30 steps, 4 of
# small_cnn and vit_mini); the last four of an epoch, on teacher, linear_quadratic and digits (in
# batches of 32, as suites have them)
TIMES: dict[tuple[str, int | None, int | None], float] = {
    USUAL: 1.0,
    ("resmlp", 256, 8): 1.25,
    ("resmlp", 256, 12): 1.65,
    ("resmlp", 512, 2): 1.8,
    ("resmlp", 512, 4): 2.5,
    ("resmlp", 512, 6): 3.1,
    ("resmlp", 512, 8): 3.5,
    ("resmlp", 512, 12): 4.8,
    ("relu_mlp", 256, 4): 0.6,
    ("student_net", 128, 4): 0.2,
    ("small_cnn", None, None): 30.0,
    ("vit_mini", 128, 4): 23.0,
    ("student_net", 128, 2): 0.13,
    ("student_net", 128, 8): 0.35,
    ("linear_lq", None, None): 0.1,
    ("resmlp", 64, 4): 0.024,
}
IMAGES = ("cifar10", "cifar100")
FINDINGS = "findings.yaml"  # of the reference
CAUSES = ("ours", "theirs", "chance")
OTHER_RULES = 4  # likeness of an estimate from any rule: that from bp and `TIMES` is better
RULE = 1.5  # times bp: a rule of which the reference has no run


@dataclass(frozen=True)
class Finding:
    """Why a claim fails."""

    cause: str
    text: str


@dataclass(frozen=True)
class SuiteClaims:
    """The claims of a suite.

    seconds   of each claim's trainings that have no run yet, by cell; None: unknown
    findings  claim as it is printed → why it fails
    """

    suite: Suite
    outcomes: Sequence[ClaimResult]
    seconds: Sequence[Mapping[Any, float] | None]
    findings: Mapping[str, Finding]

    @property
    def missing(self) -> Mapping[Any, float]:
        """Return the seconds of each training of the claims that were not run, by cell."""
        cells: dict[Any, float] = {}
        for outcome, own in zip(self.outcomes, self.seconds, strict=True):
            for cell, seconds in own.items() if own and outcome.status == "not run" else ():
                cells[cell] = max(seconds, cells.get(cell, 0.0))
        return cells


@dataclass(frozen=True)
class Board:
    """All runs of the reference, the findings by suite, and a line for each unreadable one."""

    shipped: reference.Reference
    runs: Sequence[Stored]
    troubles: list[str]
    findings: Mapping[str, Mapping[str, Finding]]

    def suites(self) -> Iterator[SuiteClaims]:
        """Judge the claims of every installed suite that has some."""
        for name in installed_suites():
            suite = load_suite(name)
            if suite.expect:
                outcomes, troubles = claims_of(self.results(suite))
                self.troubles.extend(troubles)
                seconds = [self.cost(suite, outcome.claim) for outcome in outcomes]
                yield SuiteClaims(suite, outcomes, seconds, self.findings.get(suite.name, {}))

    def results(self, suite: Suite) -> SuiteResults:
        """Return the runs on which the claims of a suite are judged, as results of the suite."""
        names = {(cell.arch["name"], cell.dataset["name"]) for cell in suite.cells()}
        by_cell: dict[str, Stored] = {}
        for run in sorted(self.runs, key=partial(_place, suite.name)):
            cell = run.record.cell
            pairs = (
                same_name(cell.arch.name, a) and same_name(cell.dataset.name, d) for a, d in names
            )
            if any(pairs):
                by_cell.setdefault(cell_key(cell), run)
        records = tuple(run.record for run in by_cell.values())
        defaults, unrecorded = recorded_defaults(records, self._stated("defaults", suite.name))
        limits = {item.name: item.threshold for item in suite.diagnostics}
        settings = Settings(
            thresholds={name: limit for name, limit in limits.items() if limit is not None},
            depth_utility=suite.depth_utility,
            defaults=defaults,
            unrecorded=unrecorded,
        )
        return SuiteResults(
            suite.name,
            settings,
            records,
            0,
            further=tuple(sorted({run.folder.parent for run in by_cell.values()})),
            expect=tuple(suite.expect),
            claimed_for=suite.recipe(),
            diagnostics=self._stated("diagnostics", suite.name),
        )

    def _stated(self, key: str, name: str) -> dict[str, Any]:
        """Join a mapping of the suite.json of all suites; that of the named suite wins."""
        joined: dict[str, Any] = {}
        folders = {run.folder.parent for run in self.runs}
        for folder in sorted(folders, key=lambda folder: (folder.name == name, folder)):
            joined |= store.saved_mapping(folder, key)
        return joined

    # -------------------------------------------------------------------------------------- cost

    def cost(self, suite: Suite, claim: Expectation) -> dict[Any, float] | None:
        """Estimate the seconds of each training that a claim needs and that has no run here.

        None if one is unknown.
        """
        methods = [m.as_dict() for m in (claim.method, claim.minus) if m is not None]
        cells = [(cell, own) for own in methods for cell in _cells(suite, claim, own)]
        costs: dict[Any, float] = {}
        for cell, options in cells:
            if self._has(cell, options):
                continue
            if (seconds := self._seconds(cell, options, claim.epoch)) is None:
                return None
            parts = [options, cell.arch, cell.dataset, cell.training, cell.seed]
            costs[frozen(parts)] = seconds
        return costs if cells else None

    def _has(self, spec: CellSpec, method: Mapping[str, Any]) -> bool:
        """Decide whether a cell that a file and a claim mean has a run here."""
        recipe = {kind: getattr(spec, kind) for kind in ("arch", "dataset", "training", "data")}
        runs = self._by_rule.get((method["name"].rpartition("/")[2], spec.seed), ())
        wanted = {"method": method, **recipe}
        return any(not compare(run, wanted, {}, self._defaults).changes for run in runs)

    @cached_property
    def _by_rule(self) -> Mapping[tuple[str, int], Sequence[RunRecord]]:
        runs: dict[tuple[str, int], list[RunRecord]] = defaultdict(list)
        for record in (run.record for run in self.runs):
            runs[record.cell.method.name.rpartition("/")[2], record.cell.seed].append(record)
        return runs

    def _seconds(self, cell: CellSpec, method: Mapping[str, Any], last: int | None) -> float | None:
        """Estimate the seconds of a cell with a method, up to an epoch that a claim is about.

        As `bench plan` does from runs of the rule itself; without them from bp and `TIMES`.
        """
        epochs = cell.training["stop_after"] or cell.training["epochs"]
        epochs = epochs if last is None else max(last, 1)  # epoch 0 comes with the first
        known = self._past.estimate(self._whole(cell, method, epochs), "cpu")
        if known is not None and known.likeness < OTHER_RULES:
            return known.seconds
        arch, rule = (name.rpartition("/")[2] for name in (cell.arch["name"], cell.method["name"]))
        system, usual = (arch, cell.arch.get("width"), cell.arch.get("depth")), self._per_epoch
        base = usual.get((*system, "bp"), TIMES.get(system, 0.0) * usual.get((*USUAL, "bp"), 0.0))
        ratio = 1.0 if rule == "bp" else self._ratios.get(rule, RULE)
        return START + epochs * base * ratio if base else None

    @cached_property
    def _past(self) -> Past:
        records = []
        for record in (run.record for run in self.runs):
            parts = record.cell.refs.items()
            refs = {kind: self._filled(kind, ref.name, ref.params) for kind, ref in parts}
            cell = record.cell.model_copy(update=refs)
            records.append(record.model_copy(update={"cell": cell}))
        return Past(records, foreign=True)

    @cached_property
    def _defaults(self) -> Mapping[str, Mapping[str, Any]]:
        return recorded_defaults([run.record for run in self.runs], self._stated("defaults", ""))[0]

    def _filled(self, kind: str, name: str, params: Mapping[str, Any]) -> ComponentRef:
        """Return a component with the defaults of the options that it leaves out."""
        name = name if "/" in name else f"{OURS}/{name}"
        defaults = self._defaults.get(default_key(kind, name), {})
        return ComponentRef(name=name, params={**defaults, **params})

    def _whole(self, spec: CellSpec, method: Mapping[str, Any], epochs: int) -> Cell:
        """Return the cell that a file and a claim mean."""
        parts = zip(PARTS, (method, spec.arch, spec.dataset), strict=True)
        refs = {
            kind: self._filled(kind, own["name"], {k: v for k, v in own.items() if k != "name"})
            for kind, own in parts
        }
        training = {**spec.training, "stop_after": epochs}
        return Cell(**refs, data=spec.data, training=training, seed=spec.seed)

    @cached_property
    def _per_epoch(self) -> dict[tuple[Any, ...], float]:
        """Map architecture, width, depth and rule to the seconds of an epoch of the fastest run."""
        times: dict[tuple[Any, ...], list[float]] = {}
        for record in (run.record for run in self.runs):
            images = record.cell.dataset.short in IMAGES
            if record.seconds_per_epoch and images and not is_floor(record):
                params, rule = record.cell.arch.params, record.cell.method.short
                system = record.cell.arch.short, params.get("width"), params.get("depth")
                times.setdefault((*system, rule), []).append(record.seconds / record.epochs)
        return {key: min(values) for key, values in times.items()}

    @cached_property
    def _ratios(self) -> Mapping[str, float]:
        """Map a rule to the time of its epoch over that of bp, on the usual network."""
        bp = self._per_epoch.get((*USUAL, "bp"))
        usual = {key[-1]: value for key, value in self._per_epoch.items() if key[:-1] == USUAL}
        return {rule: value / bp for rule, value in usual.items()} if bp else {}


def _place(suite: str, run: Stored) -> tuple[bool, bool, str]:
    """Order the runs of a cell: a lapsed one last, one of the suite itself before others."""
    return bool(run.record.environment.get("lapsed")), run.suite != suite, str(run.folder)


def _cells(suite: Suite, claim: Expectation, method: Mapping[str, Any]) -> list[CellSpec]:
    """Return the cells that a claim is about: of the suite's file, or for a floor as its rule's."""
    options = {k: v for k, v in method.items() if k not in ("name", "freeze")}
    place = {key: value for key, value in claim.cell.items() if key != "method"}
    cells = [
        cell for cell in suite.cells() if claim.seed in (None, cell.seed) and matches(cell, place)
    ]
    own = [cell for cell in cells if same_name(cell.method["name"], method["name"])]
    exact = [
        cell
        for cell in own
        if all(frozen(cell.method.get(key)) == frozen(value) for key, value in options.items())
    ]
    if chosen := exact or own:
        return chosen
    return [cell for cell in cells if cell.method == cells[0].method]


def board() -> Board:
    """Read every run of the reference, and what was found out about failing claims.

    Raises UsageError if there is no reference, or none that can be used.
    """
    shipped = reference.installed()
    if shipped is None:
        why = f"{reference.VARIABLE} is empty, or {reference.PACKAGE} is not installed"
        raise UsageError(f"there is no reference: {why}")
    if shipped.trouble:
        raise UsageError(shipped.trouble)
    runs, troubles = shipped.runs()
    return Board(shipped, runs, troubles, _findings(shipped.folder / FINDINGS, troubles))


def of_reference(results: SuiteResults) -> SuiteResults:
    """Return results on which claims are judged: of a suite of the reference with all its runs.

    Runs of a submission, which stand beside the reference's, stay.
    """
    shipped = reference.installed()
    home = shipped.folder.resolve() if shipped else None
    if results.folder.resolve().parent != home or results.name not in installed_suites():
        return results
    whole = board().results(load_suite(results.name))
    if not (posted := [record for record in results.records if not record.shipped]):
        return whole
    records = (*whole.records, *posted)
    defaults, unrecorded = recorded_defaults(records, whole.settings.defaults)
    settings = replace(results.settings, defaults=defaults, unrecorded=unrecorded)
    further = (*whole.further, *results.further)
    return replace(whole, settings=settings, records=records, further=further)


def _findings(path: Path, troubles: list[str]) -> dict[str, dict[str, Finding]]:
    """Read findings.yaml, a list of mappings; a text copied from Markdown may have backslashes."""
    if not path.exists():
        return {}
    try:
        entries = yaml.safe_load(files.read(path, "suite", parts=1)) or []
        wrong = [entry for entry in entries if not _is_finding(entry)]
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        troubles.append(f"{path}: cannot be read: {files.reason(error)}")
        return {}
    need = f"an entry needs suite, claim, finding and cause ({', '.join(CAUSES)})"
    troubles += [f"{path}: {need}: {str(entry)[:100]}" for entry in wrong]
    findings: dict[str, dict[str, Finding]] = {}
    for entry in entries:
        if entry not in wrong:
            own = findings.setdefault(entry["suite"], {})
            own[entry["claim"].replace("\\", "")] = Finding(
                entry["cause"], entry["finding"].strip()
            )
    return findings


def _is_finding(entry: Any) -> bool:
    keys = {"suite", "claim", "cause", "finding"}
    texts = isinstance(entry, dict) and all(isinstance(text, str) for text in entry.values())
    return texts and set(entry) == keys and entry["cause"] in CAUSES
