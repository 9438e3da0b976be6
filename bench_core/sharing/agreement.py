"""Decide whether two runs of one cell agree.

With the same environment and code, two runs agree if they are equal bit by bit. Otherwise they
agree if their accuracies lie within 2 points and the same diagnostics fire, because training
amplifies the rounding of another machine.
"""

from __future__ import annotations

from typing import Literal

from bench_core.results.marks import Replica
from bench_core.results.record import RunRecord, environment_key, fires

POINTS = 0.02  # of accuracy, between environments


def differing(one: RunRecord, other: RunRecord) -> list[str]:
    """Name the numbers that two runs of one identity both have and in which they differ."""
    parts = [
        f"{name} {getattr(one, name)} and {getattr(other, name)}"
        for name in ("status", "epochs", "accuracy", "train_loss", "data_checksum")
        if repr(getattr(one, name)) != repr(getattr(other, name))  # NaN equals NaN here
    ]
    for when in ("initial", "measurements"):
        mine, theirs = getattr(one, when), getattr(other, when)
        parts += [
            f"{when}.{name} {mine[name].value} and {theirs[name].value}"
            for name in sorted(mine.keys() & theirs.keys())
            if repr(mine[name].value) != repr(theirs[name].value)
        ]
    name = "checkpoint.safetensors"
    if name in one.files and name in other.files and one.files[name] != other.files[name]:
        parts.append("other weights")
    return parts


def compare(posted: RunRecord, again: RunRecord) -> Replica:
    """Compare a reproduced run with the posted one."""
    how: Literal["bits", "figures"] = "figures"
    if again.identity == posted.identity and environment_key(again) == environment_key(posted):
        how, agreement = "bits", "equal bit by bit"
        parts = differing(again, posted)
    else:
        agreement = "accuracy within 2 points, the same diagnostics fire"
        parts = _far(again, posted)
    return Replica(
        agrees=not parts,
        how=how,
        said="; ".join(parts) or agreement,
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
