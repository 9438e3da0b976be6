"""Decide whether two runs of one cell agree.

With the same environment and code, two runs of a deterministic recipe agree if they are equal bit
by bit. Otherwise they agree if their accuracies lie within 2 points and the same diagnostics fire,
because training amplifies the rounding of another machine. `bench replicate`, `bench merge` and all
tables use this rule: results of one identity that do not agree are a conflict, and none counts.
"""

from __future__ import annotations

from bench_core.results.marks import Replica
from bench_core.results.record import RunRecord, environment_key, fires
from bench_core.results.store import CHECKPOINT

POINTS = 0.02  # of accuracy, between environments


def exact(one: RunRecord, other: RunRecord) -> bool:
    """Decide whether two runs must be equal bit by bit."""
    deterministic = one.cell.training.get("deterministic", True)
    same = one.identity == other.identity and environment_key(one) == environment_key(other)
    return bool(deterministic and same)


def disagreement(one: RunRecord, other: RunRecord) -> list[str]:
    """Name the numbers by which two runs of one cell do not agree."""
    return differing(one, other) if exact(one, other) else _far(one, other)


def differing(one: RunRecord, other: RunRecord) -> list[str]:
    """Name the numbers that two runs of one identity both have and in which they differ."""
    numbers = [
        (name, getattr(one, name), getattr(other, name))
        for name in ("status", "accuracy", "epochs", "train_loss", "data_checksum")
    ]
    for when in ("initial", "measurements"):
        mine, theirs = getattr(one, when), getattr(other, when)
        for name in sorted(mine.keys() & theirs.keys()):
            numbers.append((f"{when}.{name}", mine[name].value, theirs[name].value))
    # NaN equals NaN here
    parts = [f"{name} {a} and {b}" for name, a, b in numbers if repr(a) != repr(b)]
    one_sum, other_sum = one.files.get(CHECKPOINT), other.files.get(CHECKPOINT)
    if one_sum and other_sum and one_sum != other_sum:
        parts.append("other weights")
    return parts


def compare(posted: RunRecord, again: RunRecord) -> Replica:
    """Compare a reproduced run with the posted one."""
    parts = disagreement(again, posted)
    bits = exact(again, posted)
    alike = "equal bit by bit" if bits else "accuracy within 2 points, the same diagnostics fire"
    return Replica(
        agrees=not parts,
        how="bits" if bits else "figures",
        said=f"{'; '.join(parts)} (here and posted)" if parts else alike,
        identity=again.identity,
        accuracy=again.accuracy,
        environment=again.environment,
        finished=again.finished,
    )


def _far(one: RunRecord, other: RunRecord) -> list[str]:
    """Name the differences that rounding does not explain."""
    parts = []
    if one.status != other.status:
        words = [f"{r.status} ({r.reason})" if r.reason else r.status for r in (one, other)]
        parts.append(f"status {' and '.join(words)}")
    mean, second = one.accuracy, other.accuracy
    if mean is not None and second is not None and not abs(mean - second) <= POINTS:
        parts.append(f"accuracy {mean:.3f} and {second:.3f}")
    mine, theirs = one.measurements, other.measurements
    for name in sorted(mine.keys() & theirs.keys()):
        if fires(mine[name]) != fires(theirs[name]):
            parts.append(f"{name} fires in one of them only")
    return parts
