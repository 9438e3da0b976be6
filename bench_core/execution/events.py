"""The events by which an executor tells a runner of its cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from bench_core.results.record import RunRecord


class Start(TypedDict):
    """A worker has begun."""

    event: Literal["start"]


class NewRow(TypedDict):
    """The worker wrote a line of epochs.jsonl."""

    event: Literal["epoch"]
    row: dict[str, Any]


class Anew(TypedDict):
    """The training does not use its saved state, for this reason. It may come late."""

    event: Literal["anew"]
    reason: str


class Ended(TypedDict):
    """The run has ended: once per cell, `end`, or `reused` if another runner made it meanwhile.

    The record has no checksum if the attempt was not kept, because an older run stays or another
    runner is at work.
    """

    event: Literal["end", "reused"]
    record: RunRecord


Event = Start | NewRow | Anew | Ended


def ended(event: Event) -> Ended | None:
    """Return the event if its run has ended."""
    return event if event["event"] == "end" or event["event"] == "reused" else None
