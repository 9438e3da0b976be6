"""Where each number comes from: run, code, data, environment and the command that makes it again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from bench_core.judgement import CORE_DEFAULTS, canonical
from bench_core.record import RunRecord
from bench_core.report.view import View, name_of
from bench_core.suite import Training


@dataclass(frozen=True)
class Source:
    """A run and the sets that it shares with others, by their numbers."""

    identity: str
    method: str
    seed: int
    status: str
    code: str
    environment: str
    data: str
    seconds: float
    finished: str


@dataclass(frozen=True)
class Provenance:
    """Runs, and each different code, environment and data checksum once."""

    runs: tuple[Source, ...]
    codes: dict[str, dict[str, Any]]
    environments: dict[str, dict[str, Any]]
    data: dict[str, str]
    command: str


class _Numbered:
    """Different values in the order of their appearance: `E1`, `E2`, …"""

    def __init__(self, letter: str) -> None:
        self.letter, self.found, self.values = letter, dict[str, str](), dict[str, Any]()

    def name(self, value: Any) -> str:
        if not value:
            return "–"
        key = canonical(value)
        if key not in self.found:
            self.found[key] = f"{self.letter}{len(self.found) + 1}"
            self.values[self.found[key]] = value
        return self.found[key]


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Nested values by dotted path."""
    if not isinstance(value, dict):
        return {path: value}
    return {k: v for key, item in value.items() for k, v in flat(item, f"{path}.{key}" if path else str(key)).items()}


def provenance(found: View, most: int) -> Provenance:
    """Of the first `most` runs of a suite."""
    codes, environments, data = _Numbered("C"), _Numbered("E"), _Numbered("D")
    runs = [
        Source(
            run.record.identity,
            name_of(row),
            run.record.cell.seed,
            run.record.status,
            codes.name(flat(run.record.code)),
            environments.name(flat(run.record.environment)),
            data.name(run.record.data_checksum),
            run.record.seconds,
            run.record.finished,
        )
        for _, row, run in found.runs[:most]
    ]
    command = f"bench run {shlex.quote(found.results.name)}"
    return Provenance(tuple(runs), codes.values, environments.values, data.values, command)


def again(record: RunRecord) -> str:
    """The command that makes one run again, where its suite is at hand; overrides are what differs from the default recipe."""
    ref = record.cell.method
    options = [
        f"{key}={value}"
        for key, value in ref.params.items()
        if key in CORE_DEFAULTS and not isinstance(value, dict) and canonical(value) != canonical(CORE_DEFAULTS[key])
    ]
    method = ref.short + (f"[{','.join(options)}]" if options else "")
    words = ["bench", "run", record.suite, "--method", method, "--seed", str(record.cell.seed)]
    given = {f"training.{key}": value for key, value in record.cell.training.items()}
    usual = {f"training.{key}": value for key, value in Training().model_dump().items()}
    for key, value in (given | {f"data.{key}": value for key, value in record.cell.data.items()}).items():
        if not isinstance(value, dict) and value is not None and canonical(value) != canonical(usual.get(key)):
            words += ["--set", f"{key}={value}"]
    return shlex.join(words)
