"""Decide whether two runs of one cell agree.

With the same environment and code, two runs of a deterministic recipe agree if they are equal bit
by bit: weights, measurements with their details, passport; for `bench replicate` also the curves.
Otherwise they agree if their accuracies lie within 2 points, the same diagnostics fire before and
after training, and all is equal that does not depend on a machine, because training amplifies the
rounding of another machine. Numbers of a compact run are equal if their seven digits are.

`bench merge` and all tables compare what both runs have, because two suites may measure one cell
with other diagnostics. Results of one identity that do not agree are a conflict, and none counts.
`bench replicate` measures what the posted run and its suite name, so a field that only one of the
two runs has is a difference. With equal weights of another environment, all numbers must lie within
0.001.

Of a diagnostic that is not `repeatable`, neither the value is compared nor whether it fires.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench_core.names import bare_name, without_ours
from bench_core.results import epochs
from bench_core.results.compact import TEXTS, seven_digits
from bench_core.results.details import SCHEMAS
from bench_core.results.epochs import Epoch
from bench_core.results.hashing import canonical
from bench_core.results.marks import Replica
from bench_core.results.migrate import described
from bench_core.results.record import FileSum, Measurement, RunRecord, environment_key, fires
from bench_core.results.store import CHECKPOINT

# attributes of a measurement that decide what it means
RULE = (
    "direction",
    "threshold",
    "across",
    "letter",
    "unit",
    "batch",
    "needs_reference",
    "repeatable",
)
POINTS = 0.02  # of accuracy, between environments
ACCURACIES = ("accuracy", "reset_accuracy", "recalibrated_accuracy")
KERNELS = 0.001  # of numbers with the same weights: some test images that lie on a boundary
CLOCK = (
    "if it was edited between the two, `bench audit` measures both again; if it reads a clock or a "
    "meter, say `repeatable = False` in it, remove these runs and train them again"
)
Limits = Mapping[str, float]  # a diagnostic's name → the threshold of the suite


def exact(one: RunRecord, other: RunRecord) -> bool:
    """Decide whether two runs must be equal bit by bit."""
    deterministic = one.cell.training.get("deterministic", True)
    same = one.identity == other.identity and environment_key(one) == environment_key(other)
    return bool(deterministic and same)


def disagreement(one: RunRecord, other: RunRecord) -> list[str]:
    """Name the numbers by which two runs of one cell do not agree."""
    return differing(one, other) if exact(one, other) else _far(one, other, _Way(figures=False))


def told_apart(one: RunRecord, other: RunRecord) -> bool:
    """Decide whether two runs differ in more than rounding may change: in what fires, say.

    Their accuracies are left out: a replica may lie between them.
    """
    return bool(_Way(figures=False).differing(one, other))


def differing(one: RunRecord, other: RunRecord) -> list[str]:
    """Name the numbers that two runs of one identity both have and in which they differ."""
    return _Way().differing(one, other)


@dataclass(frozen=True)
class _Way:
    """Compare two runs, or two rows of curves, as nested mappings of a name to a value.

    figures  compare also the numbers that another machine rounds differently
    whole    a field that only one of the two has is a difference
    slack    by which two numbers may differ
    limits   by which diagnostics fire, in place of their own thresholds
    left     measurements and fields that are left out
    """

    figures: bool = True
    whole: bool = False
    slack: float = 0.0
    limits: Limits = field(default_factory=dict)
    left: Set[str] = frozenset()

    def differing(self, one: RunRecord, other: RunRecord) -> list[str]:
        """Name the differences of two runs, but not of their curves."""
        mine, theirs = (_short(self._run(run), one, other) for run in (one, other))
        parts = [*_status(one, other), *self._unlike(mine, theirs), *_defaults(one, other)]
        return [*parts, CLOCK] if parts and all(map(_of_plugin, parts)) else parts

    def curves(self, runs: tuple[RunRecord, RunRecord], folders: tuple[Path, Path]) -> list[str]:
        """Name the epochs in which the curves of two run folders differ."""
        differ = []
        both = [map(Epoch.model_validate, epochs.lines(folder)) for folder in folders]
        try:
            for number, pair in enumerate(zip_longest(*both)):
                if None in pair:
                    return [f"epochs.jsonl has {number} rows in one of them, and more in the other"]
                mine, theirs = (_short(self._row(row), *runs) for row in pair)
                if any(self._unlike(mine, theirs)):
                    differ.append(pair[0].epoch)
        except (OSError, ValueError) as error:
            return [f"epochs.jsonl cannot be compared: {type(error).__name__}"]
        more = ", …" if len(differ) > 3 else ""
        shown = ", ".join(map(str, differ[:3]))
        return [f"other figures in epochs.jsonl after epoch {shown}{more}"] if differ else []

    def _run(self, record: RunRecord) -> dict[str, Any]:
        """Return what tables show of a run and verdicts rest on, without its costs."""
        figures: dict[str, Any] = {}
        if self.figures:
            figures |= self._stated(record, *ACCURACIES, "train_loss", "validation_accuracy")
            figures |= {"epochs": record.epochs}
            if (weights := _weights(record)) is not None:
                figures["weights"] = weights
        return {
            **figures,
            **self._stated(record, "chance", "test_samples", "forward_passes", "blocks_changed"),
            **self._steps(record),
            "stopped_by": record.stopped_by,
            "data_checksum": record.data_checksum,
            **{f"passport.{name}": value for name, value in record.passport.items()},
            **self._measured("initial", record.initial),
            **self._measured("measurements", record.measurements, texts=True),
        }

    def _stated(self, record: RunRecord, *names: str) -> dict[str, Any]:
        """Return the fields of a record that have a value."""
        wanted = (name for name in names if name not in self.left)
        return {name: value for name in wanted if (value := getattr(record, name)) is not None}

    def _steps(self, record: RunRecord) -> dict[str, Any]:
        """Return the steps in a batch; for another machine only whether they are the recipe's."""
        stated = self._stated(record, "steps_per_batch")
        if not stated or self.figures:
            return stated
        fewest, most = stated["steps_per_batch"]
        return {"steps_per_batch": (fewest > 0, most > 1)}

    def _row(self, row: Epoch) -> dict[str, Any]:
        """Return a row of a curve, without its cost."""
        own = row.model_dump(exclude={"seconds", "measurements"})
        return {**own, **self._measured("measurements", row.measurements)}

    def _measured(
        self, when: str, items: Mapping[str, Measurement], texts: bool = False
    ) -> dict[str, Any]:
        """Return the parts of measurements by name.

        texts  also the words that explain why a run is walked back
        """
        parts: dict[str, Any] = {}
        for name in items.keys() - self.left:
            item = described(name, items[name])
            keys = RULE if item.direction is None or not texts else (*RULE, *TEXTS)
            part = {key: getattr(item, key) for key in keys}
            if item.repeatable:
                part["fires"] = fires(item, self.limits.get(name))
            # a value across "ceiling" compares two runs
            if self.figures and item.repeatable and item.across != "ceiling":
                part["means something"] = item.not_diagnostic is None
                part |= {"value": item.value, "details": _numbers(item.details)}
            parts[f"{when}.{name}"] = part
        return dict(sorted(parts.items()))

    def _unlike(
        self, one: Mapping[str, Any], other: Mapping[str, Any], at: str = ""
    ) -> Iterator[str]:
        """Name the differences of two mappings.

        With slack, details that only one has are none: the two may come of two versions of bench.
        """
        whole = self.whole and not (at and self.slack)
        for key in [*one, *(key for key in other if key not in one)]:
            label, a, b = f"{at}{key[:40]}", one.get(key), other.get(key)
            if key not in one or key not in other:
                if whole:
                    yield f"{label} in one of them only"
            elif isinstance(a, dict) and isinstance(b, dict):
                yield from self._unlike(a, b, f"{label} ")
            elif not self._alike(a, b):
                plain = isinstance(a, str | int | float | None)
                values = f"{str(a)[:40]} and {str(b)[:40]}" if plain else "differ"
                flag = isinstance(a, bool)
                yield f"{label} {f'in one of them only: {values.lower()}' if flag else values}"

    def _alike(self, a: Any, b: Any) -> bool:
        if isinstance(a, list | tuple) and isinstance(b, list | tuple):
            return len(a) == len(b) and all(map(self._alike, a, b))
        number = isinstance(a, float) and isinstance(b, float) and math.isfinite(a)
        if number and math.isclose(a, b, rel_tol=self.slack, abs_tol=self.slack):
            return True
        return repr(a) == repr(b)  # NaN equals NaN here


def _of_plugin(part: str) -> bool:
    """Decide whether a difference is one of a measurement by a plugin's diagnostic."""
    when, _, name = part.partition(" ")[0].partition(".")
    name = without_ours(name)
    return when in ("initial", "measurements") and name not in SCHEMAS


def _short(value: Any, *runs: RunRecord) -> Any:
    """Round the numbers if one of the runs is compact."""
    return seven_digits(value) if any(run.original for run in runs) else value


def _numbers(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return details without words, which differ between versions."""
    kept = {key: value for key, value in details.items() if not isinstance(value, str)}
    void = kept.get("not_diagnostic")
    return {**kept, "not_diagnostic": sorted(void)} if isinstance(void, dict) else kept


def _weights(record: RunRecord) -> FileSum | None:
    """Return size and checksum of the trained weights; a compact run states those of its original.

    Equal weights are equal bits, whatever the machine.
    """
    return record.original.get(CHECKPOINT) or record.files.get(CHECKPOINT)


def _status(one: RunRecord, other: RunRecord) -> Iterator[str]:
    if one.status != other.status:
        words = [f"{r.status} ({r.reason})" if r.reason else r.status for r in (one, other)]
        yield f"status {' and '.join(words)}"


def _defaults(one: RunRecord, other: RunRecord) -> Iterator[str]:
    """Name the options of which two runs record two defaults: names of rows leave these out."""
    mine, theirs = one.defaults(), other.defaults()
    for name in mine.keys() & theirs.keys():
        for key in sorted(mine[name].keys() & theirs[name].keys()):
            values = canonical(mine[name][key]), canonical(theirs[name][key])
            if values[0] != values[1]:
                yield f"the default of {name} {key} is {values[0][:40]} and {values[1][:40]}"


def _far(one: RunRecord, other: RunRecord, way: _Way) -> list[str]:
    """Name the differences that rounding does not explain."""
    parts = way.differing(one, other)
    for name in ACCURACIES:
        mean, second = getattr(one, name), getattr(other, name)
        if mean is None or second is None:
            lacks = (mean is None) != (second is None) and one.status == other.status
            parts += [f"{name} in one of them only"] * (lacks and name not in way.left)
        elif not abs(mean - second) <= POINTS:
            parts.append(f"{name} {mean:.4f} and {second:.4f}")
    return parts


def _unasked(names: Set[str], posted: RunRecord) -> frozenset[str]:
    """Return the measurements that a run was never asked for: its suite has gained them since.

    A run before schema 3 does not say which it was asked for.
    """
    asked = {bare_name(name) for name in posted.numerics}
    return frozenset(name for name in names if posted.numerics and name not in asked)


def compare(
    posted: RunRecord,
    again: RunRecord,
    folders: tuple[Path, Path] | None = None,
    limits: Limits = MappingProxyType({}),
) -> Replica:
    """Compare a reproduced run with the posted one.

    folders  of the two; their curves are compared where the numbers must be equal
    limits   thresholds of the suite
    """
    named = posted.measurements.keys() | posted.initial.keys()
    left = frozenset(named - again.measurements.keys())
    added = _unasked(again.measurements.keys() | again.initial.keys(), posted) - named
    # its schema had no such fields; all have an accuracy
    older = RunRecord.model_fields.keys() - posted.model_fields_set - {"accuracy"}
    way = _Way(whole=True, limits=limits, left=left | added | older)

    def numbers(way: _Way) -> list[str]:
        curves = way.curves((again, posted), (folders[1], folders[0])) if folders else []
        return way.differing(again, posted) or curves

    one, other = again.accuracy, posted.accuracy
    means = f"both {posted.status}" if one is None or other is None else ""
    means = means or f"accuracy {one:.4f} and {other:.4f}"
    equal = _weights(again) is not None and _weights(again) == _weights(posted)
    bits = exact(again, posted)
    if bits or equal:
        parts = numbers(way)
        if parts and not bits:
            parts = numbers(replace(way, slack=KERNELS))
        else:
            bits = True
        alike = f"{means}, equal weights, all numbers within {KERNELS:g}"
    else:
        parts = _far(again, posted, replace(way, figures=False))
        alike = f"{means}, within 2 points; the same diagnostics fire; Γ and curves not compared"
    further = [f"not measured by the posted run: {', '.join(sorted(added))}"] if added else []
    if bits and not parts and not left:
        words = "; ".join(["equal bit by bit", *further])
    else:
        unknown = f"not installed here, so not compared: {', '.join(sorted(left))}"
        words = "; ".join([*(parts or [alike]), *([unknown] if left else []), *further])
        words += " (here and posted)"
    return Replica(
        agrees=not parts,
        how="bits" if bits and not left else "figures",
        said=words,
        identity=again.identity,
        accuracy=again.accuracy,
        environment=again.environment,
        finished=again.finished,
    )
