"""Find the components that a suite names, have them examined, and report faults at their places."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench_core.errors import Problem, SuiteError, UsageError, did_you_mean
from bench_core.execution.planning import validate
from bench_core.execution.planning.examination import Examined, Refusal, Request, Selected
from bench_core.names import CEILING, LOCAL_CEILING, OURS, bare_name
from bench_core.registry.registry import Kind, Registry
from bench_core.results.hashing import digest
from bench_core.results.record import default_key
from bench_core.suite.cells import PARTS, CellSpec, same_name
from bench_core.suite.claim import FIGURES
from bench_core.suite.model import Suite
from bench_core.suite.protocol import STANDARD
from bench_core.training import NUMERICS

LARGE_BATCH = 128  # the default: it is filled by any data set that is not tiny
Trio = tuple[int, int, int]  # places of a cell's method, arch and dataset


class Components:
    """The distinct components of a suite.

    requests     (kind, full name, parameters as written) of each component
    examined     what `validate` found out about each of them, in the same order
    trios        of each cell of the suite: the places of its components in these lists
    ceiling      the place of bp; local_ceiling: of bp_local_heads
    diagnostics  the places of the suite's diagnostics
    absent       device → why it is not on this machine
    """

    def __init__(self, suite: Suite, registry: Registry) -> None:
        """Look the names up. Raises SuiteError with every unknown name."""
        self.suite, self.registry, self.specs = suite, registry, suite.cells()
        self.requests: list[tuple[Kind, str, dict[str, Any]]] = []
        self._places: dict[str, int] = {}
        self.examined: list[Examined] = []
        self.absent: Mapping[str, str] = {}
        self._problems: list[Problem] = []
        self.trios = self._trios()
        self.diagnostics: list[int] = []
        for number, spec in enumerate(suite.diagnostics):
            entry = {key: value for key, value in spec.as_dict().items() if key != "threshold"}
            self.diagnostics.append(self._find("diagnostic", entry, f"diagnostics[{number}]"))
        self._check_exclude()
        if suite.depth_utility.floor not in ("matched", "bp"):
            self._full_name("method", suite.depth_utility.floor, "depth_utility.floor")
        self._check_claims()
        self.ceiling = self._find("method", {"name": CEILING}, "methods")
        self.local_ceiling = self._find("method", {"name": LOCAL_CEILING}, "methods")
        self._raise_problems()

    def examine(self, data_dir: Path | None) -> None:
        """Have all components imported and validated, and each method tried on each network.

        Raises SuiteError with every fault of the suite, UsageError with every fault of a component.
        """
        references = {(self.ceiling, arch, dataset) for _, arch, dataset in self.trios}
        trios = sorted({*self.trios, *references})
        selections = self._selections()
        request: Request = {
            "components": self.requests,
            "trios": trios,
            "floors_scaled": bool(self.suite.floor_scales),
            "data_dir": str(data_dir) if data_dir else None,
            "devices": sorted({spec.training["device"] for spec in self.specs}),
            "selections": list(selections.values()),
        }
        answer = validate.ask(request)
        self.examined, self.absent = answer["components"], answer["absent"]
        refusals = dict(zip(trios, answer["trios"], strict=True))
        selected = dict(zip(selections, answer["selections"], strict=True))
        for spec, trio in zip(self.specs, self.trios, strict=True):
            for kind, place in zip(PARTS, trio, strict=True):
                self._check_params(place, kind, spec)
            if refusal := refusals[trio]:
                self._problem(refusal["at"], _refusal_text(spec, refusal), spec=spec)
            self._check_data(spec, selected.get((trio[2], id(spec.data)), {}))
        for number, place in enumerate(self.diagnostics):
            self._check_params(place, f"diagnostics[{number}]")
        self._raise_problems()
        if errors := [
            answer["error"] + self._unasked(place)
            for place, answer in enumerate(self.examined)
            if "error" in answer
        ]:
            raise UsageError("\n".join(dict.fromkeys(errors)))

    def _unasked(self, place: int) -> str:
        """Say, after an error of a data set, that the suite does not name it."""
        (kind, name, _), default = self.requests[place], self.suite.dataset.name
        named = "dataset" in {*self.suite.model_fields_set, *self.suite.matrix}
        if kind != "dataset" or named or not same_name(name, default):
            return ""
        taken = f"so {default} is taken (`dataset: digits` needs no files)"
        return f"; the suite names no dataset, {taken}"

    def stop_when(self) -> dict[str, float | None]:
        """Return full name → threshold of each diagnostic that ends a training (None: its own).

        Raises SuiteError for one that the suite does not measure after every epoch, that never
        fires, or whose values are not repeatable.
        """
        thresholds: dict[str, float | None] = {}
        listed = list(zip(self.suite.diagnostics, self.diagnostics, strict=True))
        for number, name in enumerate(self.suite.stop_when):
            key = f"stop_when[{number}]"
            own = [(spec, self.examined[i]) for spec, i in listed if same_name(spec.name, name)]
            if not own:
                what = f"{name} is not among the suite's diagnostics"
                meant = STANDARD[name].name if name in STANDARD else ""
                remedy = f"write {meant}" if meant else "add it there"
                self._problem(key, f"{what}; {remedy}")
                continue
            spec, answer = own[0]
            if answer["when"] != "epochs" or answer["direction"] is None:
                why = "it does not fire, or is not measured after every epoch"
                self._problem(key, f"{name} cannot end a training: {why}")
            elif not answer["repeatable"]:
                why = "its values are not repeatable, so equal cells would end at different epochs"
                self._problem(key, f"{name} cannot end a training: {why}")
            thresholds[answer["name"]] = spec.threshold
        self._raise_problems()
        return thresholds

    def defaults(self) -> dict[str, dict[str, Any]]:
        """Return the defaults of every component's parameters by its name (`Plan.defaults`)."""
        named = zip(self.requests, self.examined, strict=True)
        return {default_key(kind, name): answer["defaults"] for (kind, name, _), answer in named}

    def parts(self, places: Iterable[int]) -> list[Examined]:
        return [self.examined[place] for place in places]

    def _trios(self) -> list[Trio]:
        places: dict[tuple[str, int], int] = {}  # specs share their dicts and keep them alive

        def place(kind: Kind, spec: CellSpec) -> int:
            entry = getattr(spec, kind)
            if (kind, id(entry)) not in places:
                places[kind, id(entry)] = self._find(kind, entry, kind, spec)
            return places[kind, id(entry)]

        return [(place("method", s), place("arch", s), place("dataset", s)) for s in self.specs]

    def _selections(self) -> dict[tuple[int, int], tuple[int, dict[str, Any]]]:
        """Return each data set (its place) and `data` of the suite whose samples are counted.

        To count them takes the time of loading them, so that is done where samples are held out,
        and where a batch is large.
        """
        return {
            (trio[2], id(spec.data)): (trio[2], spec.data)
            for spec, trio in zip(self.specs, self.trios, strict=True)
            if "validation" in spec.data or spec.training["batch_size"] > LARGE_BATCH
        }

    def _check_data(self, spec: CellSpec, selected: Selected) -> None:
        """Note a problem if samples cannot be held out, or if the rest does not fill a batch."""
        held_out = "validation" in spec.data
        if reason := selected.get("why"):
            self._problem("data.validation" if held_out else "dataset", reason, spec=spec)
            return
        limit, batch = spec.data["limit"], spec.training["batch_size"]
        count = selected.get("count", limit)
        if count is not None and count < batch:
            text = f"{count} training samples do not fill one batch of {batch}"
            if count == limit:
                key, remedy = "data.limit", " or a larger data.limit"
            elif held_out:
                key, remedy = "data.validation", " or a smaller data.validation"
            else:
                key, remedy = "training.batch_size", f"; {spec.dataset['name']} has no more"
            self._problem(key, text, f"use a smaller training.batch_size{remedy}", spec)

    def _check_exclude(self) -> None:
        for number, rule in enumerate(self.suite.exclude):
            for kind in PARTS:
                names = rule.get(kind, [])
                for name in names if isinstance(names, list) else [names]:
                    self._full_name(kind, name, f"exclude[{number}].{kind}")
        if not self.specs:
            raise SuiteError([self.suite.problem(None, "exclude", "leaves no cell to run")])

    def _check_claims(self) -> None:
        installed = self.registry.of_kind("diagnostic")
        known = {name for item in installed for name in (item.component.name, item.full_name)}
        for number, claim in enumerate(self.suite.expect):
            name = claim.parsed.name
            if claim.parsed.kind == "diagnostic" and name not in known:
                hint = did_you_mean(name, known | set(FIGURES))
                text = f"no figure or diagnostic '{name}'"
                self._problem(f"expect[{number}].figure", text, hint)

    def _find(
        self, kind: Kind, entry: Mapping[str, Any], key: str, spec: CellSpec | None = None
    ) -> int:
        """Return the place of a component in `requests`."""
        params = {name: value for name, value in entry.items() if name != "name"}
        name = self._full_name(kind, entry["name"], key, spec)
        text = json.dumps([kind, name, params], sort_keys=True)
        if text not in self._places:
            self._places[text] = len(self.requests)
            self.requests.append((kind, name, params))
        return self._places[text]

    def _full_name(self, kind: Kind, name: str, key: str, spec: CellSpec | None = None) -> str:
        """Return distribution/name of a component; note a problem at `key` if it is unknown."""
        try:
            return self.registry.find(kind, name).full_name
        except UsageError as error:
            text, _, hint = str(error).partition("; ")
            self._problem(key, text, hint, spec, below=("name",))
            return name

    def _check_params(self, place: int, key: str, spec: CellSpec | None = None) -> None:
        kind, name, _ = self.requests[place]
        for path, text, hint, at_key in self.examined[place].get("invalid", ()):
            if kind == "method" and path and f"method.{path[0]}" in self.suite.matrix:
                text = f"{bare_name(name)}: {text}"  # an axis is every rule's
                if at_key:
                    own = f"one rule's values stand under methods: {{name: RULE, {path[0]}: …}}"
                    hint = f"{hint}; {own}" if hint else own
            self._problem(key, text, hint, spec, below=tuple(path), at_key=at_key)

    def _problem(
        self, key: str, text: str, hint: str = "", spec: CellSpec | None = None, **place: Any
    ) -> None:
        self._problems.append(self.suite.problem(spec, key, text, hint, **place))

    def _raise_problems(self) -> None:
        if self._problems:
            raise SuiteError(list(dict.fromkeys(self._problems)))


def _refusal_text(spec: CellSpec, refusal: Refusal) -> str:
    arch, dataset = spec.arch["name"], spec.dataset["name"]
    if refusal["at"] == "method":
        return f"{spec.method['name']} cannot train {arch} on {dataset}: {refusal['why']}"
    return f"{arch} cannot be used on {dataset}: {refusal['why']}"


def numerics_of(parts: Sequence[Examined], diagnostics: Sequence[Examined]) -> dict[str, int]:
    """Return the `numerics` of the training, of a cell's components and of its diagnostics."""
    own: dict[str, int] = {kind: part["numerics"] for kind, part in zip(PARTS, parts, strict=True)}
    measured = {f"diagnostic {part['name']}": part["numerics"] for part in diagnostics}
    return {"training": NUMERICS, **own, **measured}


def code_of(
    parts: Sequence[Examined],
    diagnostics: Sequence[Examined],
    stop_when: Collection[str],
) -> dict[str, Any]:
    """Return distribution → version, modules and digest of the code that decides a cell's numbers.

    The defaults of a component's options are there too: names of rows leave out options at these.

    parts        method, architecture and data set
    diagnostics  those that are measured; the ones in `stop_when` decide when the training ends
    """
    main = list(zip(PARTS, parts, strict=True))
    parts = [*parts, *(each for each in diagnostics if each["name"] in stop_when)]
    code: dict[str, Any] = {}
    for distribution in sorted({part["distribution"] for part in parts}):
        own = [part for part in parts if part["distribution"] == distribution]
        code[distribution] = {
            "version": own[0]["version"],
            "modules": sorted({part["module"] for part in own}),
            "digest": digest(sorted(part["digest"] for part in own)),
            "files": {name: file for part in own for name, file in part["files"].items()},
            "defaults": {
                default_key(kind, part["name"]): part["defaults"]
                for kind, part in main
                if part["distribution"] == distribution
            },
        }
    return code


def own_files(parts: Iterable[Examined]) -> dict[str, str]:
    """Return module → digest of the code that these components take from bench-core."""
    own = (part["files"] for part in parts if part["distribution"] == OURS)
    return {name: file for files in own for name, file in files.items()}


def changed_modules(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the modules that differ between the code of two cells, as `code_of` describes it."""
    files = [
        {k: v for entry in code.values() for k, v in entry.get("files", {}).items()}
        for code in (one, other)
    ]
    return sorted({name for name, _ in files[0].items() ^ files[1].items()})
