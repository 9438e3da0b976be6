"""Trace numbers to their run, code, data and environment, and write a run's suite file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from bench_core.report.numbers import NONE
from bench_core.report.text import flat
from bench_core.report.view import View, name_of
from bench_core.results.hashing import canonical
from bench_core.results.record import RunRecord


@dataclass(frozen=True)
class Provenance:
    """Runs, with the names of their code, environment and data, and each of these once."""

    runs: list[dict[str, Any]]
    codes: dict[str, dict[str, Any]]
    environments: dict[str, dict[str, Any]]
    data: dict[str, str]


class _Numbered(dict[str, Any]):
    """Different values by name, in the order of their appearance: `E1`, `E2`, …"""

    def __init__(self, letter: str) -> None:
        super().__init__()
        self.letter, self.names = letter, dict[str, str]()

    def name(self, value: Any) -> str:
        """Return the name of a value, and keep the value; `–` for an empty one."""
        if not value:
            return NONE
        name = self.names.setdefault(canonical(value), f"{self.letter}{len(self.names) + 1}")
        self.setdefault(name, value)
        return name


def provenance(shown: View, most: int) -> Provenance:
    """Trace the first `most` runs of a suite."""
    codes, environments, data = _Numbered("C"), _Numbered("E"), _Numbered("D")
    runs = [
        {
            "identity": run.record.identity,
            "method": name_of(row),
            "seed": run.record.cell.seed,
            "status": run.record.status,
            "code": codes.name(flat(run.record.code)),
            "environment": environments.name(flat(run.record.environment)),
            "data": data.name(run.record.data_checksum),
            "seconds": run.record.seconds,
            "finished": run.record.finished,
        }
        for _, row, run in shown.runs[:most]
    ]
    return Provenance(runs, codes, environments, data)


def suite_of(record: RunRecord) -> str:
    """Return the suite file that repeats exactly the cell of a run, with every parameter."""
    cell = record.cell.model_dump(mode="json")
    training = dict(cell["training"])
    stops = training.pop("stop_when", {})
    measured = {
        name.rpartition("/")[2]: {"name": name}
        | ({} if threshold is None else {"threshold": threshold})
        for name, threshold in stops.items()
    }
    parts = ("arch", "dataset", "method")
    arch, dataset, method = ({"name": cell[k]["name"], **cell[k]["params"]} for k in parts)
    suite = {
        "name": record.suite,
        "arch": arch,
        "dataset": dataset,
        "methods": [method],
        "seeds": [cell["seed"]],
        "floors": False,
        "data": cell["data"],
        "training": training,
        "diagnostics": [measured.get(name, name) for name in record.measurements or measured],
        "stop_when": list(stops),
    }
    stated = {key: value for key, value in suite.items() if value != []}
    return yaml.safe_dump(stated, sort_keys=False)
