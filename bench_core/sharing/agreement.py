"""Decide whether two runs of one cell agree.

With the same environment and code, two runs agree if they are equal bit by bit. Otherwise they
agree if their accuracies lie within 2 points and the same diagnostics fire, because training
amplifies the rounding of another machine.
"""

from __future__ import annotations

from bench_core.results.marks import Replica
from bench_core.results.record import RunRecord, environment_key, fires
from bench_core.results.store import CHECKPOINT

POINTS = 0.02  # of accuracy, between environments


def differing(one: RunRecord, other: RunRecord) -> list[str]:
    """Name the numbers that two runs of one identity both have and in which they differ."""
    numbers = [
        (name, getattr(one, name), getattr(other, name))
        for name in ("status", "epochs", "accuracy", "train_loss", "data_checksum")
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
    bits = again.identity == posted.identity and environment_key(again) == environment_key(posted)
    parts = differing(again, posted) if bits else _far(again, posted)
    near = "accuracy within 2 points, the same diagnostics fire"
    return Replica(
        agrees=not parts,
        how="bits" if bits else "figures",
        said="; ".join(parts) or ("equal bit by bit" if bits else near),
        identity=again.identity,
        accuracy=again.accuracy,
        environment=again.environment,
        finished=again.finished,
    )


def _far(again: RunRecord, posted: RunRecord) -> list[str]:
    """Name the differences that rounding does not explain."""
    parts = []
    if again.status != posted.status:
        parts.append(f"status {again.status} ({again.reason}), posted {posted.status}")
    one, other = again.accuracy, posted.accuracy
    if one is not None and other is not None and not abs(one - other) <= POINTS:
        parts.append(f"accuracy {one:.3f}, posted {other:.3f}")
    mine, theirs = again.measurements, posted.measurements
    for name in sorted(mine.keys() & theirs.keys()):
        if fires(mine[name]) != fires(theirs[name]):
            parts.append(f"{name} fires in one of them only")
    return parts
