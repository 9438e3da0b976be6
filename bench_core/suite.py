"""Suites: from a YAML file and command-line options to validated cells.

Contract: `load_suite` returns a `Suite` in which every value has its type and range and whose cells can be listed, or
raises one `SuiteError` with all faults, each `file:line:col: key.path: what; hint`. Nothing is imported or executed:
whether a method exists and has such a parameter is asked later (`bench_core.plan`), which finds positions by
`Suite.problem`.

Trade-offs. Options (`--set`, `--method`, …) are edits of the document before validation, so that they pass the same
checks and their faults are named like those of the file. Messages are made from the JSON Schema of the models, which is
what editors get: one source for ranges and known keys. Cells share the plain dicts that they have in common: read only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from bench_core.errors import Problem, SuiteError, UsageError, did_you_mean
from bench_core.strict_yaml import MAX_BYTES, Document, KeyPath, Mark, parse_path, printable, read_yaml, show_path

MAX_CELLS = 100_000
MAX_EPOCHS = 100_000
DIAGNOSTICS = ("scale_growth", "reference_floor", "batch_stability", "depth_utility", "alignment")

_NAME = r"[a-z0-9]([a-z0-9_.-]{0,62}[a-z0-9])?"
_RESERVED = re.compile(r"(con|nul|aux|prn|com[0-9]|lpt[0-9])(\..*)?")  # no folder may have these names on Windows
_DEVICE = r"(cpu|cuda|mps|xpu)(:[0-9]{1,2})?"
_AXES = "axes are method.*, arch, arch.*, dataset, dataset.*, training.*, data.*"


# ------------------------------------------------------------------------------------------------------------- models


def _fault(what: str, hint: str = "", *, shown: bool = True, at: int | None = None) -> PydanticCustomError:
    """A fault in our own words; `shown` appends the value, `at` points to an item of a list."""
    return PydanticCustomError("bench", "{what}", {"what": what, "hint": hint, "shown": shown, "at": at})


def _component_name(value: str) -> str:
    if not re.fullmatch(f"({_NAME}/)?{_NAME}", value):
        raise _fault("must be 1 to 64 of a-z, 0-9, _ . - with a letter or digit at both ends (or dist/name)")
    return value


def _suite_name(value: str) -> str:
    if not re.fullmatch(_NAME, value):
        raise _fault("must be 1 to 64 of a-z, 0-9, _ . - with a letter or digit at both ends")
    if _RESERVED.fullmatch(value):
        raise _fault("is a device on Windows and cannot name a folder there", shown=False)
    return value


def _device(value: str) -> str:
    if not re.fullmatch(_DEVICE, value):
        raise _fault("must be cpu, cuda, mps or xpu, or one with an index such as cuda:0")
    return value


def _no_twins(values: list[Any]) -> list[Any]:
    for i, value in enumerate(values):
        if value in values[:i]:
            raise _fault("is listed twice", shown=False, at=i)
    return values


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _or_name(schema: dict[str, Any]) -> None:
    """A component is written as its name or as a mapping with its name."""
    plain = {key: schema.pop(key) for key in list(schema) if key != "description"}
    schema["oneOf"] = [{"type": "string", "pattern": f"^({_NAME}/)?{_NAME}$", "description": "its name alone"}, plain]


_Name = Annotated[
    str,
    AfterValidator(_component_name),
    WithJsonSchema({"type": "string", "pattern": f"^({_NAME}/)?{_NAME}$"}),
]
_Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
_Seeds = Annotated[list[_Seed], Field(min_length=1), AfterValidator(_no_twins)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ComponentSpec(_Model):
    """A component by name, with parameters of its own; `name` alone stands for `{name: name}`."""

    model_config = ConfigDict(extra="allow", json_schema_extra=_or_name)

    name: _Name = Field(description="name of the component, or dist/name where two distributions bring it")

    _from_name = model_validator(mode="before")(_named)

    def as_dict(self) -> dict[str, Any]:
        """`{"name": …, parameters…}`."""
        return self.model_dump()


class DiagnosticSpec(ComponentSpec):
    """A diagnostic by name, with a threshold other than its default and parameters of its own."""

    threshold: float | None = Field(default=None, description="threshold of this suite; null: the diagnostic's own")


class Training(_Model):
    """The recipe; every value is part of the identity of a cell. Defaults: docs/protocol.md, section 4."""

    epochs: int = Field(default=100, ge=1, le=MAX_EPOCHS, description="epochs of the schedule")
    stop_after: int | None = Field(
        default=None, ge=1, le=MAX_EPOCHS, description="end after so many epochs; the schedule stays that of `epochs`"
    )
    batch_size: int = Field(
        default=128, ge=1, le=1_000_000, description="samples in a step; the last partial batch is dropped"
    )
    learning_rate: float = Field(default=1e-3, ge=0, le=1000, description="AdamW's learning rate at the start")
    weight_decay: float = Field(default=0.01, ge=0, le=1000, description="AdamW's weight decay, on all parameters")
    clip_norm: float | None = Field(
        default=1.0, gt=0, le=1_000_000, description="gradient norm each group is clipped to; null: no clipping"
    )
    schedule: Literal["cosine", "constant"] = Field(default="cosine", description="learning rate over the epochs")
    threads: int = Field(default=1, ge=1, le=1024, description="CPU threads of a worker")
    device: Annotated[str, AfterValidator(_device), WithJsonSchema({"type": "string", "pattern": f"^{_DEVICE}$"})] = (
        Field(default="cpu", description="cpu, cuda, mps or xpu, or one with an index such as cuda:0")
    )
    deterministic: bool = Field(default=True, description="deterministic algorithms only; a missing one is an error")
    autocast: Literal["off", "bfloat16"] = Field(default="off", description="mixed precision of the training step")
    compile: bool = Field(default=False, description="use torch.compile")

    @field_validator("stop_after")
    @classmethod
    def _within_schedule(cls, value: int | None, info: Any) -> int | None:
        epochs = info.data.get("epochs")
        if value is not None and epochs is not None and value > epochs:
            raise _fault(f"must be at most training.epochs ({epochs:,})")
        return value


class DataOptions(_Model):
    """What part of the training set is used."""

    limit: int | None = Field(default=None, ge=1, le=2**63 - 1, description="the first N training images; null: all")


class DepthUtility(_Model):
    """What the accuracy of a cell is compared with by the diagnostic depth_utility."""

    floor: _Name = Field(
        default="matched", description="matched (same method, frozen blocks), bp (frozen bp), or a method"
    )
    floor_value: float | None = Field(
        default=None, ge=0, le=1, description="a published accuracy to use instead of a floor"
    )


class Expectation(_Model):
    """A published figure; the report has a table claim, expected, measured, holds?"""

    figure: str = Field(min_length=1, description="what is claimed, as the leaderboard names it")
    value: float = Field(description="the published value")
    tolerance: float = Field(ge=0, description="the claim holds within value ± tolerance")
    source: str = Field(description="where it was published")
    method: _Name | None = Field(default=None, description="the method it is claimed for")


class Suite(_Model):
    """A suite file for the `bench` command: what is trained, under which recipe, and what is measured."""

    name: Annotated[str, AfterValidator(_suite_name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME}$"})] = (
        Field(description="name of the suite and of its folder under results/")
    )
    title: str = Field(default="", description="one line for people")
    description: str = Field(default="", description="the question that the suite answers")
    arch: ComponentSpec = Field(default=ComponentSpec(name="resmlp"), description="the network")
    dataset: ComponentSpec = Field(default=ComponentSpec(name="cifar10"), description="the data set")
    methods: list[ComponentSpec] = Field(min_length=1, description="the learning rules")
    seeds: _Seeds = Field(default=[42, 123, 456], description="one run per seed")
    training: Training = Field(default=Training(), description="the recipe")
    data: DataOptions = Field(default=DataOptions(), description="what part of the data is used")
    diagnostics: list[DiagnosticSpec] = Field(
        default=[DiagnosticSpec(name=name) for name in DIAGNOSTICS], description="what is measured on every network"
    )
    floors: bool = Field(default=True, description="add each method's matched floor, the bp floor and the ceiling bp")
    depth_utility: DepthUtility = Field(default=DepthUtility(), description="what depth_utility compares with")
    stop_when: list[_Name] = Field(default=[], description="diagnostics that end a training when they fire")
    expect: list[Expectation] = Field(default=[], description="published figures to compare with")
    matrix: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        default={},
        description=f"further axes: dotted key to a list of values; {_AXES}. An axis wins over a method's own value",
        json_schema_extra={"propertyNames": {"pattern": r"^(method|arch|dataset|training|data)\..|^(arch|dataset)$"}},
    )
    include: list[dict[str, Any]] = Field(
        default=[],
        description="cells to add: `method` (name or mapping), optional dotted keys, optional `seeds`",
        json_schema_extra={"items": {"type": "object", "required": ["method"]}},
    )
    exclude: list[dict[str, Any]] = Field(
        default=[],
        description="cells to leave out: those that match every dotted key; also `method` and `seed`. "
        "A list of values matches any of them, null a key that is not set",
    )

    _document: Document = PrivateAttr(default_factory=lambda: Document("<suite>"))

    @field_validator("diagnostics")
    @classmethod
    def _once(cls, value: list[DiagnosticSpec]) -> list[DiagnosticSpec]:
        _no_twins([spec.name for spec in value])
        return value

    def count(self) -> int:
        """The number of cells before exclusion and removal of duplicates, without making any."""
        matrix = math.prod(len(values) for values in self.matrix.values())
        extra = sum(len(entry.get("seeds", self.seeds)) for entry in self.include)
        return len(self.methods) * len(self.seeds) * matrix + extra

    def cells(self) -> list[CellSpec]:
        """methods × matrix × seeds, less what `exclude` matches, then `include`; each cell once.

        Raises `SuiteError` where a combination of values is not allowed or there are more than 100,000.
        """
        if (total := self.count()) > MAX_CELLS:
            raise SuiteError([_too_many(self._document, total)])
        problems: list[Problem] = []
        cells: dict[Any, CellSpec] = {}
        recipes: dict[Any, dict[str, Any] | None] = {}
        for cell in self._combinations():
            recipe = _frozen([cell.training, cell.data])
            if recipe not in recipes:
                recipes[recipe] = self._resolve(cell, problems)
            if resolved := recipes[recipe]:
                cell = CellSpec(**{**vars(cell), **resolved})
                cells.setdefault(_frozen([cell.method, cell.arch, cell.dataset, *resolved.values(), cell.seed]), cell)
        if problems:
            raise SuiteError(problems)
        return list(cells.values())

    def problem(self, cell: CellSpec | None, key: str, what: str, hint: str = "", *, at_key: bool = False) -> Problem:
        """A fault found later, at the place of the suite that a dotted key of a cell came from.

        key     such as "method.penalty", "arch", "training.device"; without a cell a path such as "diagnostics[0]"
        at_key  point to the key, not to its value: for keys that are not known
        """
        path = parse_path(key) or ()
        for n in range(len(path), 0, -1):
            prefix = show_path(path[:n])
            if cell is not None and prefix in cell.origin:
                path = cell.origin[prefix] + path[n:]
                break
        return self._document.problem(path, what, hint, at_key=at_key)

    def _combinations(self) -> Iterator[CellSpec]:
        """Cells before their recipes are validated; `exclude` is applied, duplicates are not removed."""
        axes = sorted(self.matrix.items(), key=lambda axis: axis[0].count("."))  # arch before arch.width
        choices = [[(key, value, ("matrix", key, i)) for i, value in enumerate(values)] for key, values in axes]
        for i, method in enumerate(self.methods):
            for changes in product(*choices):
                cell = self._cell(method.as_dict(), ("methods", i), changes)
                for j, seed in enumerate(self.seeds):
                    found = cell.with_seed(seed, ("seeds", j))
                    if not any(_matches(found, rule) for rule in self.exclude):
                        yield found
        for i, entry in enumerate(self.include):
            named = [
                (key, value, ("include", i, key)) for key, value in entry.items() if key not in ("method", "seeds")
            ]
            named.sort(key=lambda change: change[0].count("."))
            cell = self._cell(_named(entry["method"]), ("include", i, "method"), named)
            seeds, where = entry.get("seeds", self.seeds), ("include", i, "seeds") if "seeds" in entry else ("seeds",)
            for j, seed in enumerate(seeds):
                yield cell.with_seed(seed, (*where, j))

    def _cell(self, method: dict[str, Any], place: KeyPath, changes: Sequence[tuple[str, Any, KeyPath]]) -> CellSpec:
        parts: dict[str, Any] = {
            "method": method,
            "arch": self.arch.as_dict(),
            "dataset": self.dataset.as_dict(),
            "training": self.training.model_dump(),
            "data": self.data.model_dump(),
        }
        origin: dict[str, KeyPath] = {name: (name,) for name in parts} | {"method": place}
        for key, value, path in changes:
            parts = _with(parts, key.split("."), value if "." in key else _named(value))
            origin[key] = path
        return CellSpec(**parts, seed=0, origin=origin)

    def _resolve(self, cell: CellSpec, problems: list[Problem]) -> dict[str, Any] | None:
        """The validated recipe of a cell. Values are known to be good one by one, but perhaps not together."""
        try:
            return {
                "training": Training.model_validate(cell.training).model_dump(),
                "data": DataOptions.model_validate(cell.data).model_dump(),
            }
        except ValidationError as error:
            for item in error.errors(include_url=False):
                path = cell.origin.get(f"training.{item['loc'][0]}", ("training", *item["loc"]))
                problem = _explain(self._document, item, path, ("training", *item["loc"]))
                if problem not in problems:
                    problems.append(problem)
            return None


@dataclass(frozen=True)
class CellSpec:
    """One training run, resolved to plain values, except for what its components' own parameter models add.

    method, arch, dataset  `{"name": …, parameters as written…}`
    training, data         all values of `Training` and `DataOptions`
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
        """The same cell with another seed, written at `place`."""
        return CellSpec(**{**vars(self), "seed": seed, "origin": {**self.origin, "seed": place}})


# ------------------------------------------------------------------------------------------------------ cells' helpers


def _with(tree: dict[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
    """`tree` with one value changed; what is shared with other cells is not touched."""
    head, *rest = keys
    if not rest:
        return {**tree, head: value}
    child = tree.get(head)
    return {**tree, head: _with(child if isinstance(child, dict) else {}, rest, value)}


def _frozen(value: Any) -> Any:
    """A hashable stand-in in which 1 equals 1.0 but not true."""
    if isinstance(value, dict):
        return tuple(sorted((key, _frozen(item)) for key, item in value.items()))
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    return ("bool", value) if isinstance(value, bool) else value


def _same_name(name: Any, wanted: Any) -> bool:
    """`dfa` stands for `bench-core/dfa` too."""
    if not (isinstance(name, str) and isinstance(wanted, str)):
        return False
    if ("/" in name) == ("/" in wanted):
        return name == wanted
    return name.rpartition("/")[2] == wanted.rpartition("/")[2]


def _matches(cell: CellSpec, rule: Mapping[str, Any]) -> bool:
    for key, wanted in rule.items():
        options = wanted if isinstance(wanted, list) else [wanted]
        value: Any = vars(cell)
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if key in ("method", "arch", "dataset"):
            if not any(_same_name(value["name"], option) for option in options):
                return False
        elif all(_frozen(value) != _frozen(option) for option in options):
            return False
    return True


def _too_many(document: Document, total: int) -> Problem:
    path = ("matrix",) if ("matrix",) in document.keys else ("methods",)
    what = f"the suite expands to {total:,} cells; at most {MAX_CELLS:,} are allowed"
    return document.problem(path, what, at_key=True)


# ------------------------------------------------------------------------------------------------------------- schema


def suite_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a suite file, for editors (`bench schema`)."""
    schema = Suite.model_json_schema()
    schema["properties"]["diagnostics"]["default"] = list(DIAGNOSTICS)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


@cache
def _schema() -> dict[str, Any]:
    return suite_schema()


def _schema_at(loc: Sequence[str | int]) -> dict[str, Any]:
    """The part of the schema that describes the value at `loc`, with `null: True` where it may be null."""
    node = _simple(_schema())
    for part in loc:
        if isinstance(part, int):
            below = node.get("items", {})
        else:
            below = node.get("properties", {}).get(part) or node.get("additionalProperties") or {}
        node = _simple(below if isinstance(below, dict) else {})
    return node


def _simple(node: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference; of alternatives take the one that is not null, of a component its mapping."""
    if "$ref" in node:
        return _simple(_schema()["$defs"][node["$ref"].rpartition("/")[2]])
    if "anyOf" in node:
        return {**_simple(next(n for n in node["anyOf"] if n.get("type") != "null")), "null": True}
    return {**node["oneOf"][1], "component": True} if "oneOf" in node else node


# ------------------------------------------------------------------------------------------------------------ messages


def _explain(document: Document, item: Any, path: KeyPath, loc: KeyPath) -> Problem:
    """One of pydantic's errors in plain words. `path` is its place in the document, `loc` its place in the schema."""
    kind, context, value, node = item["type"], item.get("ctx", {}), item["input"], _schema_at(loc)
    if kind == "missing":
        return document.problem(path, "is missing")
    if kind == "extra_forbidden":
        known = set(_schema_at(loc[:-1]).get("properties", {}))
        return document.problem(path, "unknown key", did_you_mean(printable(str(path[-1])), known), at_key=True)
    if kind == "too_short":
        return document.problem(path, "must have at least one entry")
    if kind == "bench":
        at = () if context["at"] is None else (context["at"],)
        what = context["what"] + (f", not {_shown(document, path, value)}" if context["shown"] else "")
        return document.problem(path + at, what, context["hint"])
    hint = ""
    if kind == "literal_error":
        what = "must be " + " or ".join(node["enum"])
        hint = did_you_mean(value, node["enum"]) if isinstance(value, str) else ""
        hint = hint if hint.startswith("did") else ""
    elif kind in ("greater_than_equal", "less_than_equal", "greater_than", "less_than", "finite_number"):
        what = f"must be {_range(node)}"
    elif node.get("type") in ("integer", "number") and isinstance(value, int | float) and not isinstance(value, bool):
        # 1.5 or .nan where a whole number is due, or an integer that no float can hold
        what = f"must be {'a whole number ' if node['type'] == 'integer' else ''}{_range(node)}"
    else:
        what = f"must be {_type(node)}"
        hint = _type_hint(node, value)
    return document.problem(path, f"{what}, not {_shown(document, path, value)}", hint)


def _type(node: Mapping[str, Any]) -> str:
    words = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text"}
    words |= {"array": "a list", "object": "a mapping"}
    text = (
        "a name, or a mapping with name" if "component" in node else words.get(node.get("type", ""), "something else")
    )
    return text + (" or null" if "null" in node else "")


def _type_hint(node: Mapping[str, Any], value: Any) -> str:
    kind = node.get("type")
    if kind in ("integer", "number") and isinstance(value, str):
        return "write it without quotes" if re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?", value) else ""
    if kind == "boolean" and isinstance(value, str):
        return "write true or false, in lower case and without quotes"
    return "put it in quotes" if kind == "string" and isinstance(value, bool | int | float) else ""


def _range(node: Mapping[str, Any]) -> str:
    def number(value: float) -> str:
        return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"

    low, high, above = node.get("minimum"), node.get("maximum"), node.get("exclusiveMinimum")
    if low is not None and high is not None:
        return f"between {number(low)} and {number(high)}"
    if above is not None and high is not None:
        return f"above 0 and at most {number(high)}" if above == 0 else f"above {above:g} and at most {number(high)}"
    return f"at least {number(low)}, and finite" if low is not None else "a finite number"


def _shown(document: Document, path: KeyPath, value: Any) -> str:
    """A value as the user wrote it."""
    if isinstance(value, str):
        return f"the text '{printable(value)}'"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    mark = document.values.get(path)
    if mark is not None and mark.text:
        return printable(mark.text)
    return "empty" if value is None else str(value).lower()


# ------------------------------------------------------------------------------------------------------------- loading


def installed_suites() -> list[str]:
    """The names of the suites that are installed with the package `bench_suites`."""
    try:
        files = resources.files("bench_suites").iterdir()
    except ModuleNotFoundError:
        return []
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def load_suite(
    source: str | Path,
    overrides: Sequence[str] = (),
    *,
    methods: Sequence[str] = (),
    seeds: Sequence[int] = (),
    dataset: str | None = None,
    arch: str | None = None,
    epochs: int | None = None,
    device: str | None = None,
) -> Suite:
    """Load a suite file, or an installed suite by its bare name, with the command line's options applied.

    overrides      texts `key.path=value`, applied last; list items as in `methods[0].penalty=0.01`
    methods        replace the suite's list: a name keeps the parameters of the suite's entries of that name,
                   `name[key=value,…]` is taken as it stands. Entries of `include` for other methods are dropped
    seeds          replace the suite's, in `include` too
    dataset, arch  replace the component, in the same two forms
    epochs         sets `training.epochs`, and clears a `stop_after` that is larger

    What an option sets is no axis of `matrix` any more.
    Raises `SuiteError` with all faults, `UsageError` where there is no such file.
    """
    file, data = _read(source)
    document = read_yaml(data, file)
    if document.value is None and not document.problems:
        raise SuiteError([document.problem((), "the file is empty", "a suite needs at least name and methods")])
    if not isinstance(document.value, dict):
        what = "the top of a suite must be a mapping with name and methods"
        raise SuiteError([*document.problems, *([] if document.broken else [document.problem((), what)])])
    problems = list(document.problems)
    _attempt(problems, _choose_methods, document, methods)
    if seeds:
        texts = [Document.of(seed, f"--seed {seed}", ("seeds", i)) for i, seed in enumerate(seeds)]
        document.put_list(("seeds",), texts, texts[0].values[()])
        for i, entry in enumerate(_items(document, "include")):
            if isinstance(entry, dict):
                document.drop(("include", i, "seeds"))
    for kind, text in (("arch", arch), ("dataset", dataset)):
        if text is not None:
            _attempt(problems, _choose_component, document, kind, text)
    if epochs is not None:
        stop_after = document.at(("training", "stop_after"))
        if isinstance(stop_after, int) and stop_after > epochs:
            document.drop(("training", "stop_after"))
        path: KeyPath = ("training", "epochs")
        _attempt(problems, _set, document, path, Document.of(epochs, f"--epochs {epochs}", path))
    if device is not None:
        path = ("training", "device")
        _attempt(problems, _set, document, path, Document.of(device, f"--device {printable(device)}", path))
    for text in overrides:
        _attempt(problems, _override, document, text)
    return _validate(document, problems)


def _read(source: str | Path) -> tuple[str, bytes]:
    """What messages call the file, and at most one byte more of it than is allowed."""
    path, shown = Path(source), printable(str(source), 300)
    try:
        if path.exists() and not path.is_dir():
            with path.open("rb") as file:
                return shown, file.read(MAX_BYTES + 1)
        names = installed_suites()
        if str(source) in names:
            with resources.files("bench_suites").joinpath(f"{source}.yaml").open("rb") as installed:
                return f"bench_suites/{source}.yaml", installed.read(MAX_BYTES + 1)
        if path.is_dir():
            raise UsageError(f"{shown}: is a folder, not a suite file")
    except (OSError, ValueError) as error:
        raise UsageError(f"{shown}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    hint = did_you_mean(path.stem, names).replace("known:", "installed suites:")
    raise UsageError(f"{shown}: no such file or installed suite" + (f"; {hint}" if hint else ""))


def _attempt(problems: list[Problem], edit: Callable[..., None], *args: Any) -> None:
    try:
        edit(*args)
    except SuiteError as error:
        problems += error.problems


def _items(document: Document, key: str) -> list[Any]:
    value = document.at((key,))
    return value if isinstance(value, list) else []


def _name_of(value: Any) -> Any:
    return value.get("name") if isinstance(value, dict) else value


def _choose_methods(document: Document, texts: Sequence[str]) -> None:
    if not texts:
        return
    entries = [document.subtree(("methods", i)) for i in range(len(_items(document, "methods")))]
    chosen: list[Document] = []
    for text in texts:
        wanted = _component("--method", text, ("methods", len(chosen)))
        kept = [entry for entry in entries if _same_name(_name_of(entry.value), wanted.value)]  # none with options
        chosen += kept or [wanted]
    document.put_list(("methods",), chosen, Mark(f"--method {printable(texts[0])}", 0, 0, ("methods",)))
    names = [_name_of(part.value) for part in chosen]
    if include := _items(document, "include"):
        wanted_too = [
            document.subtree(("include", i))
            for i, entry in enumerate(include)
            if not isinstance(entry, dict)
            or any(_same_name(_name_of(entry.get("method", names[0])), name) for name in names)
        ]
        document.put_list(("include",), wanted_too, document.values[("include",)])


def _choose_component(document: Document, kind: str, text: str) -> None:
    wanted = _component(f"--{kind}", text, (kind,))
    axis = ("matrix", kind)
    choices = document.at(axis)
    same = [
        document.subtree((*axis, i))
        for i, value in enumerate(choices if isinstance(choices, list) else [])
        if _same_name(_name_of(value), wanted.value)
    ]
    if same:
        document.put_list(axis, same, document.values[axis])
        return
    document.drop(axis)
    if not _same_name(_name_of(document.at((kind,)) or Suite.model_fields[kind].default.name), wanted.value):
        document.put((kind,), wanted)


def _component(flag: str, text: str, base: KeyPath) -> Document:
    """`dfa` or `dfa[penalty=0.01,normalize_eps={per_n: 1e-6}]`; a value is YAML."""
    file = f"{flag} {printable(text)}"
    match = re.fullmatch(r"([^\[\]]+)(?:\[(.+)\])?", text.strip(), re.DOTALL)
    if not match:
        raise SuiteError([Mark(file, 0, 0, base).problem(base, "must have the form name or name[key=value,…]")])
    document = Document.of(match[1], file, base)
    if match[2]:
        document.value = {"name": match[1]}
        for option in _split(match[2]):
            key, equals, value = option.partition("=")
            if not (equals and key.strip()):
                raise SuiteError([document.problem((), f"'{printable(option)}' must have the form key=value")])
            document.put((key.strip(),), read_yaml(value, file, base=(*base, key.strip())))
    return document


def _split(text: str) -> list[str]:
    """Split at commas outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for c in text:
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        else:
            depth += (c in "[{") - (c in "]}")
        if c == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += c
    return parts


def _override(document: Document, text: str) -> None:
    """`--set key.path=value`; the value is YAML."""
    file = f"--set {printable(text, 120)}"
    key, equals, value = text.partition("=")
    path = parse_path(key.strip())
    if not equals or path is None:
        raise SuiteError([Mark(file, 0, 0, ()).problem((), "must have the form key.path=value")])
    part = read_yaml(value, file, base=path)
    _set(document, path, part)
    if part.problems:
        raise SuiteError(part.problems)


def _set(document: Document, path: KeyPath, part: Document) -> None:
    """Put an option's value, making the mappings above it; a component written as a bare name becomes a mapping."""
    mark = part.values[()]
    for n in range(len(path)):
        here, step = path[: n + 1], path[n]
        parent, value = document.at(path[:n]), document.at(here)
        if not isinstance(parent, list if isinstance(step, int) else dict):
            raise SuiteError([mark.problem(path[:n], f"is not a {'list' if isinstance(step, int) else 'mapping'}")])
        if isinstance(step, int) and step > len(parent) - (n < len(path) - 1):
            raise SuiteError([mark.problem(here, f"the list has {len(parent)} entries")])
        if n == len(path) - 1:
            break
        component = (n == 0 and step in ("arch", "dataset")) or (n == 1 and path[0] in ("methods", "diagnostics"))
        if component and isinstance(value, str):
            document.put((*_emptied(document, here), "name"), Document(mark.file, value, {(): document.values[here]}))
        elif value is None and isinstance(step, str):
            document.put(here, Document(mark.file, {}, {(): Mark(mark.file, 0, 0, here)}))
            if component:
                default = Suite.model_fields[step].default.name
                document.put((*here, "name"), Document.of(default, mark.file, here))
    document.put(path, part)
    if path[0] != "matrix":
        document.drop(("matrix", show_path(path)))


def _emptied(document: Document, path: KeyPath) -> KeyPath:
    """Make the value at `path` an empty mapping that keeps its marks."""
    keys: dict[KeyPath, Mark] = {(): document.keys[path]} if path in document.keys else {}
    document.put(path, Document(document.file, {}, {(): document.values[path]}, keys))
    return path


# ---------------------------------------------------------------------------------------------------------- validation


def _validate(document: Document, problems: list[Problem]) -> Suite:
    """All checks together; `problems` are those known already."""
    suite = None
    try:
        suite = Suite.model_validate(document.value)
    except ValidationError as error:
        problems += _explained(document, error, (), ())
    problems += _check_cells(document)
    places = {(problem.file, problem.line, problem.column) for problem in problems}
    for path, mark in document.values.items():
        value = document.at(path) if (mark.file, mark.line, mark.column) not in places else None
        if isinstance(value, float) and not math.isfinite(value):
            problems.append(document.problem(path, f"must be a finite number, not {_shown(document, path, value)}"))
    if suite is not None and not problems:
        suite._document = document
        suite.cells()  # combinations of values that are good one by one
        return suite
    raise SuiteError(sorted(dict.fromkeys(problems), key=lambda p: (p.line == 0, p.line, p.column)))


def _explained(
    document: Document, error: ValidationError, path: KeyPath, within: KeyPath, skip: int = 0
) -> list[Problem]:
    """A model's errors. The model describes what is at `within` in the schema; `skip` parts of a loc are in `path`."""
    items = [(item, path + item["loc"][skip:]) for item in error.errors(include_url=False)]
    return [_explain(document, item, at, within + item["loc"]) for item, at in items if not document.is_broken(at)]


def _check_cells(document: Document) -> list[Problem]:
    """What the models leave open: the dotted keys of matrix, include and exclude, their values, the number of cells."""
    problems: list[Problem] = []
    matrix = document.at(("matrix",))
    for key, values in matrix.items() if isinstance(matrix, dict) else ():
        path: KeyPath = ("matrix", key)
        if wrong := _check_key(document, path, key):
            problems.append(wrong)
            continue
        frozen: set[Any] = set()
        for i, value in enumerate(values if isinstance(values, list) else ()):
            problems += _check_value(document, (*path, i), key, value)
            if isinstance(value, list):
                problems.append(document.problem((*path, i), "must be a single value or a mapping, not a list"))
            elif _frozen(value) in frozen:
                problems.append(document.problem((*path, i), "is listed twice"))
            frozen.add(_frozen(value))
    for i, entry in enumerate(_items(document, "include")):
        for key, value in entry.items() if isinstance(entry, dict) else ():
            path = ("include", i, key)
            wrong = None if key in ("method", "seeds") else _check_key(document, path, key)
            problems += [wrong] if wrong else _check_value(document, path, key, value)
        if isinstance(entry, dict) and "method" not in entry:
            problems.append(document.problem(("include", i, "method"), "is missing"))
    for i, entry in enumerate(_items(document, "exclude")):
        for key, value in entry.items() if isinstance(entry, dict) else ():
            path = ("exclude", i, key)
            wrong = None if key in ("method", "seed") else _check_key(document, path, key)
            options = value if isinstance(value, list) else [value]
            if not wrong and key in ("method", "arch", "dataset") and not all(isinstance(o, str) for o in options):
                wrong = document.problem(path, "must be a name or a list of names")
            problems += [wrong] if wrong else []
    sizes = [len(_items(document, "methods")), len(_items(document, "seeds")) if document.at(("seeds",)) else 3]
    sizes += [len(values) for values in matrix.values() if isinstance(values, list)] if isinstance(matrix, dict) else []
    if (total := math.prod(sizes)) > MAX_CELLS:
        problems.append(_too_many(document, total))
    return problems


def _check_key(document: Document, path: KeyPath, key: str) -> Problem | None:
    """A dotted key names a parameter of a component or a field of the recipe."""
    root, dot, rest = key.partition(".")
    hint = _AXES
    if root in ("seed", "seeds", "method", "methods") and root + dot != "method.":
        hint = f"list them under {root.removesuffix('s')}s, beside matrix"
    elif root in _RECIPE and dot:
        known = set(_RECIPE[root].model_fields)
        if rest in known:
            return None
        return document.problem(path, "unknown key", did_you_mean(printable(rest), known), at_key=True)
    elif root in ("arch", "dataset") and not dot:
        return None
    elif root in ("method", "arch", "dataset") and "" not in rest.split("."):
        if rest != "name":
            return None
        hint = "list them under methods" if root == "method" else f"use the key {root}"
    return document.problem(path, "unknown key", hint, at_key=True)


def _check_value(document: Document, path: KeyPath, key: str, value: Any) -> list[Problem]:
    """The value of a dotted key, by the same models as in the body of the suite."""
    root, _, rest = key.partition(".")
    try:
        if root in _RECIPE:
            # A field alone: stop_after is compared with epochs in the cells, where both are known.
            _RECIPE[root].model_validate({**({"epochs": MAX_EPOCHS} if root == "training" else {}), rest: value})
        elif key == "seeds":
            _SEEDS.validate_python(value)
        elif key in ("method", "arch", "dataset"):
            ComponentSpec.model_validate(value)
    except ValidationError as error:
        within: KeyPath = ("methods", 0) if key == "method" else (root,)
        return _explained(document, error, path, within, skip=root in _RECIPE)
    return []


_RECIPE: dict[str, type[_Model]] = {"training": Training, "data": DataOptions}
_SEEDS: TypeAdapter[list[int]] = TypeAdapter(_Seeds, config=ConfigDict(strict=True))
