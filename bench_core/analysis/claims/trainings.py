"""Estimate the time of the trainings that claims need and that have no run yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bench_core.analysis.claims.recipe import compare
from bench_core.analysis.verdicts.roles import is_floor
from bench_core.names import OURS, bare_name
from bench_core.results.duration import START, Past
from bench_core.results.record import Cell, ComponentRef, RunRecord, default_key, recorded_defaults
from bench_core.suite.cells import PARTS, CellSpec, hashable, matches, same_name
from bench_core.suite.claim import Expectation
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
OTHER_RULES = 4  # likeness of an estimate from any rule: that from bp and `TIMES` is better
RULE = 1.5  # times bp: a rule of which the reference has no run


@dataclass(frozen=True)
class Trainings:
    """The runs that are there, and the defaults of components that suite.json states."""

    records: Sequence[RunRecord]
    stated: Mapping[str, Mapping[str, Any]]

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
            costs[hashable(parts)] = seconds
        return costs if cells else None

    def _has(self, spec: CellSpec, method: Mapping[str, Any]) -> bool:
        """Decide whether a cell that a file and a claim mean has a run here."""
        recipe = {kind: getattr(spec, kind) for kind in ("arch", "dataset", "training", "data")}
        runs = self._by_rule.get((bare_name(method["name"]), spec.seed), ())
        wanted = {"method": method, **recipe}
        return any(not compare(run, wanted, {}, self._defaults).values for run in runs)

    @cached_property
    def _by_rule(self) -> Mapping[tuple[str, int], Sequence[RunRecord]]:
        runs: dict[tuple[str, int], list[RunRecord]] = defaultdict(list)
        for record in self.records:
            runs[bare_name(record.cell.method.name), record.cell.seed].append(record)
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
        arch, rule = (bare_name(name) for name in (cell.arch["name"], method["name"]))
        system, usual = (arch, cell.arch.get("width"), cell.arch.get("depth")), self._per_epoch
        base = usual.get((*system, "bp"), TIMES.get(system, 0.0) * usual.get((*USUAL, "bp"), 0.0))
        ratio = 1.0 if rule == "bp" else self._ratios.get(rule, RULE)
        return START + epochs * base * ratio if base else None

    @cached_property
    def _past(self) -> Past:
        records = []
        for record in self.records:
            parts = record.cell.refs.items()
            refs = {kind: self._filled(kind, ref.name, ref.params) for kind, ref in parts}
            cell = record.cell.model_copy(update=refs)
            records.append(record.model_copy(update={"cell": cell}))
        return Past(records, foreign=True)

    @cached_property
    def _defaults(self) -> Mapping[str, Mapping[str, Any]]:
        return recorded_defaults(self.records, self.stated)[0]

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
        """Map architecture, width, depth and rule to an epoch's seconds, the fewest on a CPU."""
        times: dict[tuple[Any, ...], list[float]] = {}
        for record in self.records:
            like = record.cell.dataset.short in IMAGES and record.device == "cpu"
            if record.seconds_per_epoch and like and not is_floor(record):
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
        if all(hashable(cell.method.get(key)) == hashable(value) for key, value in options.items())
    ]
    if chosen := exact or own:
        return chosen
    return [cell for cell in cells if cell.method == cells[0].method]
