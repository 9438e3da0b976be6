"""Trace numbers to their run, code, data, environment, and the suite file that repeats them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from bench_core.report.view import View, name_of
from bench_core.results.hashing import canonical
from bench_core.results.record import RunRecord


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
    return {
        k: v
        for key, item in value.items()
        for k, v in flat(item, f"{path}.{key}" if path else str(key)).items()
    }


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
    return Provenance(tuple(runs), codes.values, environments.values, data.values)


def suite_of(record: RunRecord) -> str:
    """Return the suite file of one run with every parameter; `bench run` repeats exactly its cell."""
    cell = record.cell.model_dump(mode="json")
    training = dict(cell["training"])
    stops = training.pop("stop_when", {})
    measured = {
        name.rpartition("/")[2]: {
            "name": name,
            **({} if threshold is None else {"threshold": threshold}),
        }
        for name, threshold in stops.items()
    }
    suite = {
        "name": record.suite,
        **{
            part: {"name": cell[part]["name"], **cell[part]["params"]}
            for part in ("arch", "dataset")
        },
        "methods": [{"name": cell["method"]["name"], **cell["method"]["params"]}],
        "seeds": [cell["seed"]],
        "floors": False,
        "data": cell["data"],
        "training": training,
        "diagnostics": [measured.get(name, name) for name in record.measurements]
        or [*measured.values()],
        "stop_when": list(stops),
    }
    return yaml.safe_dump(
        {key: value for key, value in suite.items() if value != []}, sort_keys=False
    )
