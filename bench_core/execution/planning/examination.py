"""Type the request to `validate` and its answer, which pass between processes as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NotRequired, TypedDict

from bench_core.suite.messages import Fault


class Request(TypedDict):
    """What is validated, in the names of components in full."""

    components: Sequence[Sequence[Any]]  # (kind, full name, params) of each
    trios: NotRequired[Sequence[Sequence[int]]]  # (method, arch, dataset), indices of components
    floors_scaled: NotRequired[bool]  # each network must have blocks that can be scaled
    data_dir: NotRequired[str | None]
    devices: NotRequired[Sequence[str]]
    memory_mb: NotRequired[float]  # limit of the child process
    selections: NotRequired[Sequence[Sequence[Any]]]  # (index of a data set, `data` of a cell)


class Examined(TypedDict, total=False):
    """A component: `error` alone, `invalid` alone, or the other entries.

    A method alone has `passport`, a data set `checksum`, and a diagnostic the entries from `when`
    to `repeatable`.
    """

    error: str
    invalid: list[Fault]  # what is wrong with its parameters
    name: str  # in full
    params: dict[str, Any]
    defaults: dict[str, Any]
    numerics: int
    distribution: str
    version: str
    module: str
    files: dict[str, str]  # module → digest of its code
    digest: str  # of all of its code
    passport: dict[str, bool]
    checksum: str
    when: str
    direction: str | None
    across: str | None
    repeatable: bool


class Refusal(TypedDict):
    """Why a method, an architecture and a data set do not fit."""

    at: Literal["arch", "method"]
    why: str


class Selected(TypedDict, total=False):
    """The number of training samples that a cell's `data` leaves, or why they are unknown."""

    count: int
    why: str


class Answer(TypedDict):
    """What `validate` found, in the order of the request."""

    components: list[Examined]
    trios: list[Refusal | None]
    absent: dict[str, str]  # device that this machine lacks → why
    selections: list[Selected]


def option_faults(examined: Examined) -> list[str]:
    """Return what is wrong with the options of a component, a line each."""
    faults = [Fault(*fault) for fault in examined.get("invalid", ())]
    return [
        f"{'.'.join(map(str, fault.path))}: {fault.what}"
        + (f"; {fault.hint}" if fault.hint else "")
        for fault in faults
    ]
