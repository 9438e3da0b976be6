"""Decide whether two runs of one cell agree.

With the same environment and code, two runs of a deterministic recipe agree if they are equal bit
by bit: all measurements with their details, the passport, the weights; for `bench replicate` also
the curves. Otherwise they agree if their accuracies lie within 2 points, the same diagnostics fire
and the passports are equal, because training amplifies the rounding of another machine. `bench
replicate`, `bench merge` and all tables use this rule: results of one identity that do not agree
are a conflict, and none counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from bench_core.results import epochs
from bench_core.results.compact import rounded
from bench_core.results.epochs import Epoch
from bench_core.results.hashing import canonical
from bench_core.results.marks import Replica
from bench_core.results.migrate import described
from bench_core.results.record import FileSum, Measurement, RunRecord, environment_key, fires
from bench_core.results.store import CHECKPOINT

# attributes of a measurement that decide what it means
RULE = ("direction", "threshold", "across", "letter", "unit", "batch", "needs_reference")
POINTS = 0.02  # of accuracy, between environments
KERNELS = 0.001  # of accuracy of the same weights: some test images that lie on a boundary


def exact(one: RunRecord, other: RunRecord) -> bool:
    """Decide whether two runs must be equal bit by bit; compact ones have rounded numbers."""
    deterministic = one.cell.training.get("deterministic", True)
    same = one.identity == other.identity and environment_key(one) == environment_key(other)
    return bool(deterministic and same and not (one.original or other.original))


def disagreement(one: RunRecord, other: RunRecord) -> list[str]:
    """Name the numbers by which two runs of one cell do not agree."""
    return differing(one, other) if exact(one, other) else [*_far(one, other), *_code(one, other)]


def differing(one: RunRecord, other: RunRecord) -> list[str]:
    """Name the numbers that two runs of one identity both have and in which they differ."""
    numbers = [
        (name, getattr(one, name), getattr(other, name))
        for name in ("status", "accuracy", "epochs", "train_loss", "data_checksum")
    ]
    for name in ("chance", "forward_passes"):
        pair = getattr(one, name), getattr(other, name)
        if None not in pair:  # as in older records
            numbers.append((name, *pair))
    for name in sorted(one.passport.keys() & other.passport.keys()):
        numbers.append((f"passport.{name}", one.passport[name], other.passport[name]))
    # NaN equals NaN here
    parts = [f"{name} {a} and {b}" for name, a, b in numbers if repr(a) != repr(b)]
    for when in ("initial", "measurements"):
        parts += [f"{when}.{text}" for text in _measured(getattr(one, when), getattr(other, when))]
    one_sum, other_sum = one.files.get(CHECKPOINT), other.files.get(CHECKPOINT)
    if one_sum and other_sum and one_sum != other_sum:
        parts.append("other weights")
    return [*parts, *_code(one, other)]


def _code(one: RunRecord, other: RunRecord) -> Iterator[str]:
    """Name the options of which two runs of one identity, so of one code, record two defaults."""
    mine, theirs = one.defaults(), other.defaults()
    for name in mine.keys() & theirs.keys() if one.identity == other.identity else ():
        for key in sorted(mine[name].keys() & theirs[name].keys()):
            values = canonical(mine[name][key]), canonical(theirs[name][key])
            if values[0] != values[1]:
                yield f"the default of {name} {key} is {values[0][:40]} and {values[1][:40]}"


def _measured(one: Mapping[str, Measurement], other: Mapping[str, Measurement]) -> Iterator[str]:
    """Name the differences of measurements that both have; words may differ between versions."""
    for name in sorted(one.keys() & other.keys()):
        mine, theirs = described(name, one[name]), described(name, other[name])
        if repr(mine.value) != repr(theirs.value):
            yield f"{name} {mine.value} and {theirs.value}"
        for rule in RULE:
            if (a := getattr(mine, rule)) != (b := getattr(theirs, rule)):
                yield f"{name}: {rule} {a} and {b}"
        if (mine.not_diagnostic is None) != (theirs.not_diagnostic is None):
            yield f"{name} is diagnostic in one of them only"
        for key in sorted(mine.details.keys() & theirs.details.keys() - {"not_diagnostic"}):
            values = mine.details[key], theirs.details[key]
            if not isinstance(values[0], str) and repr(values[0]) != repr(values[1]):
                yield f"{name}: other {key[:40]}"


def curves(one: Path, other: Path) -> list[str]:
    """Name the epochs in which the curves of two run folders differ."""
    differ = []
    both = [map(Epoch.model_validate, epochs.lines(folder)) for folder in (one, other)]
    try:
        for mine, theirs in zip(*both, strict=True):
            pairs = [
                (repr(getattr(mine, name)), repr(getattr(theirs, name)))
                for name in ("epoch", "accuracy", "train_loss", "test_loss")
            ]
            if any(a != b for a, b in pairs) or any(
                _measured(mine.measurements, theirs.measurements)
            ):
                differ.append(mine.epoch)
    except (OSError, ValueError) as error:
        return [f"epochs.jsonl cannot be compared: {type(error).__name__}"]
    more = ", …" if len(differ) > 3 else ""
    shown = ", ".join(map(str, differ[:3]))
    return [f"other figures in epochs.jsonl after epoch {shown}{more}"] if differ else []


def compare(
    posted: RunRecord, again: RunRecord, folders: tuple[Path, Path] | None = None
) -> Replica:
    """Compare a reproduced run with the posted one.

    folders  of the two; their curves are compared where the runs must be equal bit by bit
    """
    parts = disagreement(again, posted)
    bits = exact(again, posted)
    one, other = again.accuracy, posted.accuracy
    if bits and folders is not None and not parts:
        parts += curves(*folders)
    if _weights(again) is not None and _weights(again) == _weights(posted):
        bits |= _same_figures(again, posted)
        if one is not None and other is not None and POINTS >= abs(one - other) > KERNELS:
            parts.append(f"accuracy {one:.4f} and {other:.4f} of the same weights")
    if one is None or other is None:
        alike = f"both {posted.status}"
    else:
        alike = f"accuracy {one:.4f} and {other:.4f}, within 2 points; the same diagnostics fire"
    said = "; ".join(parts) or alike
    return Replica(
        agrees=not parts,
        how="bits" if bits else "figures",
        said="equal bit by bit" if bits and not parts else f"{said} (here and posted)",
        identity=again.identity,
        accuracy=again.accuracy,
        environment=again.environment,
        finished=again.finished,
    )


def _weights(record: RunRecord) -> FileSum | None:
    """Return size and checksum of the trained weights; a compact run states those of its original.

    Equal weights are equal bits, whatever the machine.
    """
    return record.original.get(CHECKPOINT) or record.files.get(CHECKPOINT)


def _same_figures(one: RunRecord, other: RunRecord) -> bool:
    """Decide whether accuracy, loss and measurements are equal, as a compact run rounds them."""
    both = one.measurements.keys() & other.measurements.keys()
    pairs = [(one.measurements[name].value, other.measurements[name].value) for name in both]
    pairs += [(one.accuracy, other.accuracy), (one.train_loss, other.train_loss)]
    return all(repr(rounded(a)) == repr(rounded(b)) for a, b in pairs if None not in (a, b))


def _far(one: RunRecord, other: RunRecord) -> list[str]:
    """Name the differences that rounding does not explain."""
    parts = []
    if one.status != other.status:
        words = [f"{r.status} ({r.reason})" if r.reason else r.status for r in (one, other)]
        parts.append(f"status {' and '.join(words)}")
    mean, second = one.accuracy, other.accuracy
    if mean is not None and second is not None and not abs(mean - second) <= POINTS:
        parts.append(f"accuracy {mean:.3f} and {second:.3f}")
    for name in sorted(one.passport.keys() & other.passport.keys()):
        if one.passport[name] != other.passport[name]:
            parts.append(f"passport.{name} in one of them only")
    mine, theirs = one.measurements, other.measurements
    for name in sorted(mine.keys() & theirs.keys()):
        if fires(mine[name]) != fires(theirs[name]):
            parts.append(f"{name} fires in one of them only")
    return parts
