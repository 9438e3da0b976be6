"""Decide whether two runs of one cell agree.

Two runs agree when they are equal bit by bit, where their environments and code are; else when their accuracies lie within
2 points and the same diagnostics fire: training amplifies rounding, and more than that cannot be asked of another machine.
"""

from __future__ import annotations

from typing import Literal

from bench_core.results.marks import Replica
from bench_core.results.record import RunRecord, environment_key, fires

POINTS = 0.02  # of accuracy, between environments


def differing(one: RunRecord, other: RunRecord) -> list[str]:
    """The numbers in which two runs of one identity differ, of those that both have."""
    found = [
        f"{name} {getattr(one, name)} and {getattr(other, name)}"
        for name in ("status", "epochs", "accuracy", "train_loss", "data_checksum")
        if repr(getattr(one, name)) != repr(getattr(other, name))  # NaN equals NaN here
    ]
    for when in ("initial", "measurements"):
        mine, theirs = getattr(one, when), getattr(other, when)
        found += [
            f"{when}.{name} {mine[name].value} and {theirs[name].value}"
            for name in sorted(mine.keys() & theirs.keys())
            if repr(mine[name].value) != repr(theirs[name].value)
        ]
    name = "checkpoint.safetensors"
    if name in one.files and name in other.files and one.files[name] != other.files[name]:
        found.append("other weights")
    return found


def compare(posted: RunRecord, again: RunRecord) -> Replica:
    """Whether a run that was made again agrees with the posted one."""
    told = differing(again, posted)
    accuracy = again.accuracy
    if again.identity == posted.identity and environment_key(again) == environment_key(posted):
        how: Literal["bits", "figures"] = "bits"
        agrees, said = not told, "equal bit by bit" if not told else "; ".join(told)
    else:
        how, parts = "figures", list[str]()
        if again.status != posted.status:
            parts.append(f"status {again.status} ({again.reason}), posted {posted.status}")
        if (
            accuracy is not None
            and posted.accuracy is not None
            and not abs(accuracy - posted.accuracy) <= POINTS
        ):
            parts.append(f"accuracy {accuracy:.3f}, posted {posted.accuracy:.3f}")
        shared = again.measurements.keys() & posted.measurements.keys()
        odd = sorted(
            n for n in shared if fires(again.measurements[n]) != fires(posted.measurements[n])
        )
        parts += [f"{name} fires in one of them only" for name in odd]
        agrees, said = (
            not parts,
            "; ".join(parts) or "accuracy within 2 points, the same diagnostics fire",
        )
    return Replica(
        agrees=agrees, how=how, said=said, identity=again.identity, accuracy=accuracy,
        environment=again.environment, finished=again.finished,
    )  # fmt: skip
