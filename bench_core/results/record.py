"""The record of a run: the schema of `run.json`.

Reading a record imports neither torch nor any plugin: a measurement carries its letter, direction
and threshold. Numbers that JSON cannot hold are the strings "inf", "-inf" and "nan".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from bench_core.names import distribution_of, without_ours
from bench_core.printable import plain
from bench_core.results.details import fault
from bench_core.results.hashing import canonical, digest, file_text, flat, jsonable
from bench_core.results.status import Status

STEP = "projected_step"  # a worker measures it after training though no suite lists it
EVERY = ("evaluate_every", "diagnose_every")  # fields of a run and of a suite
SCHEMA = 7  # bench_core.results.migrate lists what changed since the older ones
LONGEST_NAME = 200  # of a measurement: tables and messages repeat it
MOST_MEASUREMENTS = 100  # of a run or of an epoch: each can be a column of every table
# of an environment: the digest of the code decides instead
NO_CAUSE = ("commit", "dirty", "reference", "lapsed")
LATER_CAUSES = ("instructions",)  # older runs do not state them


def _parse(value: Any) -> Any:
    value = plain(value)
    return float(value) if value in ("inf", "-inf", "nan") else value


Number = Annotated[float, BeforeValidator(_parse), PlainSerializer(jsonable)]


class Frozen(BaseModel):
    """Base of stored values: they do not change, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Measurement(Frozen):
    """A diagnostic's value on one network, with the rule by which a threshold judges it.

    `bench_core.training.diagnostic.Diagnostic` describes the attributes. The ones of `OMITTED` are
    left out of JSON at their default, so that a measurement from before keeps its checksum.
    """

    OMITTED: ClassVar = (
        *("title", "heading", "sentence", "axis", "batch", "needs_reference"),  # since schema 3
        "repeatable",  # since schema 4
    )

    value: Number | None = None
    letter: str = ""
    direction: Literal["above", "below"] | None = None
    threshold: float | None = None
    unit: str = ""
    across: Literal["floor", "ceiling"] | None = None
    title: str = ""
    heading: str = ""
    sentence: str = ""
    axis: Literal["linear", "log"] = "linear"
    batch: int | None = Field(default=None, ge=1)
    needs_reference: bool = False
    repeatable: bool = True
    not_diagnostic: str | None = None
    details: Annotated[dict[str, Any], PlainSerializer(jsonable)] = Field(default_factory=dict)

    @property
    def raised(self) -> str | None:
        """The error that the diagnostic raised; None if it returned a result."""
        raised = self.value is None and self.details.keys() == {"error"}
        return str(self.details["error"]) if raised else None

    @model_serializer(mode="wrap")
    def _without_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialize(self)
        default = type(self).model_fields
        return {
            name: value
            for name, value in fields.items()
            if name not in self.OMITTED or value != default[name].default
        }


def checked(measurements: dict[str, Measurement]) -> dict[str, Measurement]:
    """Return measurements whose details have their diagnostic's form; raise ValueError."""
    if len(measurements) > MOST_MEASUREMENTS:
        raise ValueError(f"{len(measurements)} measurements; at most {MOST_MEASUREMENTS} are read")
    for name, item in measurements.items():
        if len(name) > LONGEST_NAME:
            length = f"{len(name)} letters; at most {LONGEST_NAME} are read"
            raise ValueError(f"the name of a measurement, {name[:40]}…, has {length}")
        if reason := fault(name, item.details):
            raise ValueError(f"details of {name[:40]}: {reason}")
    return measurements


Measurements = Annotated[dict[str, Measurement], AfterValidator(checked)]


class ComponentRef(Frozen):
    """A component with the values of all its parameters."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)

    @property
    def short(self) -> str:
        """The name, without the distribution bench-core."""
        return without_ours(self.name)

    @property
    def frozen(self) -> bool:
        """Whether a rule leaves the blocks as they were drawn."""
        return bool(self.params.get("freeze") == "blocks")


def default_key(kind: str, name: str) -> str:
    """Return the key of a component in the table of defaults of suite.json.

    The kind keeps a rule and a data set of one name apart.
    """
    return name if kind == "method" else f"{kind} {name}"


class _Settings(BaseModel):
    """The settings of a recipe that readers use."""

    model_config = ConfigDict(extra="allow", strict=True)

    epochs: Annotated[int, Field(ge=0)] | None = None
    stop_after: Annotated[int, Field(ge=0)] | None = None
    batch_size: int = 1
    threads: int = 1
    deterministic: bool = True
    stop_when: dict[str, float | None] = {}


def _settings(values: dict[str, Any]) -> dict[str, Any]:
    _Settings.model_validate(values)
    return values


class Cell(Frozen):
    """One training run as plain values. Equal cells give equal numbers on one machine."""

    method: ComponentRef
    arch: ComponentRef
    dataset: ComponentRef
    data: dict[str, Any]
    training: Annotated[dict[str, Any], AfterValidator(_settings)]
    seed: int

    @property
    def refs(self) -> dict[str, ComponentRef]:
        """The components by kind."""
        return {"method": self.method, "arch": self.arch, "dataset": self.dataset}

    def settings(self) -> dict[str, Any]:
        """Map dotted key → setting, as a suite writes them: `method.penalty`."""
        values = self.model_dump(mode="json")
        for kind, ref in values.items():
            if kind in self.refs:
                values[kind] = {"": ref["name"], **ref["params"]}
        return {key.rstrip("."): value for key, value in flat(values).items()}

    @property
    def last_epoch(self) -> int:
        """The epoch with which the training ends unless it is stopped; 0 if the recipe has none."""
        last = self.training.get("stop_after") or self.training.get("epochs")
        return last if isinstance(last, int) else 0


class FileSum(Frozen):
    """Size and checksum of a file beside run.json."""

    bytes: int
    blake2b: str


class RunRecord(Frozen):
    """Everything about one run, written once as `run.json`."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    identity: str
    algorithm: int = 1  # the version of the algorithm that computed the identity
    suite: str
    cell: Cell
    status: Status
    reason: str | None = None
    why: str = ""  # the plan's reason to run it
    budget: dict[str, float | int] = Field(default_factory=dict)  # limits of the cell
    resumed: list[int] = Field(default_factory=list)  # epochs after which the run was resumed
    epochs: int = 0
    seconds: float = 0.0  # of all attempts
    seconds_per_epoch: float | None = None
    peak_memory_bytes: int | None = None
    energy_joules: Number | None = None  # of the machine while it trained, where it counts them
    forward_passes: int | None = None
    steps_per_batch: tuple[Number, Number] | None = None  # `Built.steps_per_batch`
    blocks_changed: tuple[int, int] | None = None  # `Built.blocks_changed`
    accuracy: Number | None = None
    # `evaluation.reset_accuracies`; None: no block changed, it is not known, or before 0.2
    reset_accuracy: Number | None = None
    recalibrated_accuracy: Number | None = None
    chance: float | None = None  # accuracy of always naming the commonest class of the test set
    test_samples: int | None = Field(default=None, ge=1)  # None in records before 0.2
    validation_accuracy: Number | None = None  # None: no validation samples are held out
    train_loss: Number | None = None
    evaluate_every: int = 1  # epochs between test accuracies, and between measurements:
    diagnose_every: int = 1
    stopped_by: str | None = None  # the diagnostic that ended the training before its last epoch
    initial: Measurements = Field(default_factory=dict)
    measurements: Measurements = Field(default_factory=dict)
    passport: dict[str, bool] = Field(default_factory=dict)
    environment: dict[str, Any] = Field(default_factory=dict)
    code: dict[str, Any] = Field(default_factory=dict)
    numerics: dict[str, int] = Field(default_factory=dict)  # of training and of every component
    measured_by: dict[str, str] = Field(default_factory=dict)  # diagnostic → digest of its code
    data_checksum: str = ""
    finished: str = ""
    files: dict[str, FileSum] = Field(default_factory=dict)
    original: dict[str, FileSum] = Field(default_factory=dict)  # see `bench_core.results.compact`
    checksum: str | None = None  # digest of the other fields, given when the run is committed

    model_config = ConfigDict(populate_by_name=True)

    @model_serializer(mode="wrap")
    def _without_original(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave an empty `original` out of JSON."""
        fields: dict[str, Any] = serialize(self)
        if not self.original:
            fields.pop("original", None)
        return fields

    @property
    def shipped(self) -> bool:
        """Whether the record says that it is a row of the reference."""
        return bool(self.original and self.environment.get("reference"))

    @property
    def explained(self) -> bool:
        """Whether its accuracy is explained variance: it says so by a `chance` of null.

        Records of schema 1 and 2 have no such field, whatever they trained on.
        """
        return self.chance is None and "chance" in self.model_fields_set

    @property
    def device(self) -> str:
        """The device that trained it: cpu, cuda, …"""
        return str(self.environment.get("device", "cpu"))

    @property
    def hardware(self) -> str:
        """The name of the processor or accelerator that trained it."""
        about = self.environment
        return str(about.get("device_name") or about.get("device", "?"))

    @property
    def place(self) -> str:
        """The hardware and the PyTorch that trained it."""
        return f"{self.hardware}, torch {self.environment.get('torch', '?')}"

    def listed(self) -> list[str]:
        """Name the measurements that the suite of the run listed; the worker may have added one."""
        return [name for name in self.measurements if name != STEP or name in self.initial]

    def defaults(self) -> dict[str, dict[str, Any]]:
        """Return the defaults of its components' options, which `code` records (`default_key`).

        Runs of an older bench record none.
        """
        known = {}
        for kind, ref in self.cell.refs.items():
            entry, key = self.code.get(distribution_of(ref.name)), default_key(kind, ref.name)
            stated = entry.get("defaults") if isinstance(entry, dict) else None
            if isinstance(stated, dict) and isinstance(stated.get(key), dict):
                known[key] = stated[key]
        return known

    def to_json(self) -> str:
        """Write the content of run.json: equal records are equal bytes."""
        return file_text(self.model_dump(by_alias=True, mode="json"))


def fires(measurement: Measurement, threshold: float | None = None) -> bool:
    """Decide whether a value lies strictly beyond the threshold, by default the measurement's own.

    A value that is not finite fires. Without value, direction or threshold nothing fires, nor
    does a measurement that is not diagnostic.
    """
    value, limit = measurement.value, measurement.threshold if threshold is None else threshold
    above = measurement.direction == "above"
    if value is None or limit is None or measurement.direction is None:
        return False
    if measurement.not_diagnostic is not None:
        return False
    return not math.isfinite(value) or (value > limit if above else value < limit)


def now() -> str:
    """Return the time, as records and marks have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _causes(record: RunRecord) -> dict[str, Any]:
    """Return the part of the environment that can change a number."""
    return {key: value for key, value in record.environment.items() if key not in NO_CAUSE}


def environment_key(record: RunRecord) -> str:
    """Compute 16 hex digits of what must be equal for equal bits: versions, device, threads, …"""
    return digest(_causes(record))[:16]


def same_environment(one: RunRecord, other: RunRecord) -> bool:
    """Decide whether two runs were computed alike as far as they state it.

    A cause of `LATER_CAUSES` that one of them does not state counts as equal; so this is no reason
    to ask for equal bits (`environment_key`).
    """
    mine, theirs = _causes(one), _causes(other)
    unknown = {key for key in LATER_CAUSES if not (key in mine and key in theirs)}
    return all(mine.get(key) == theirs.get(key) for key in (mine.keys() | theirs.keys()) - unknown)


def cell_key(cell: Cell) -> str:
    """Compute the digest of a cell, whatever code ran it."""
    return digest(cell.model_dump(mode="json"))


def recorded_defaults(
    records: Iterable[RunRecord], stated: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Mapping[str, Any]], frozenset[str], frozenset[tuple[str, str]]]:
    """Return the defaults of components as runs record them, the components without a record, and
    the options (key of the component, name) of which two runs record different defaults.

    Components without a record have the defaults that suite.json states. An option with two
    defaults has none, so that names show it.
    """
    recorded: dict[str, dict[str, Any]] = {}
    unclear: set[tuple[str, str]] = set()
    names: set[str] = set()
    for record in records:
        names |= {default_key(kind, ref.name) for kind, ref in record.cell.refs.items()}
        for name, own in record.defaults().items():
            known = recorded.setdefault(name, {})
            if known != own:
                both = known.keys() & own.keys()
                unclear |= {
                    (name, key) for key in both if canonical(known[key]) != canonical(own[key])
                }
                known |= own
    clear = {
        name: {key: value for key, value in own.items() if (name, key) not in unclear}
        for name, own in recorded.items()
    }
    return {**stated, **clear}, frozenset(names - recorded.keys()), frozenset(unclear)
