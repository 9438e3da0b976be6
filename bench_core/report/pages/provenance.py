"""Trace numbers to their run, code, data and environment, and write a run's suite file."""

from __future__ import annotations

from typing import Any

import yaml

from bench_core.names import bare_name
from bench_core.report.text.layout import joined, listed
from bench_core.report.text.numbers import NONE
from bench_core.report.view import View
from bench_core.results.hashing import canonical, flat
from bench_core.results.record import RunRecord

SAME = {  # several codes or environments that are equal as far as they can be compared
    "Code": "have the same code, but for the modules of their own rules",
    "Environment": "have the same settings; some state more of them than others",
}
WORDS = {"dirty": "dirty (whether the checkout had edits without a commit)"}


def provenance(shown: View, most: int) -> dict[str, Any]:
    """Trace the first `most` runs of a suite.

    Returns the `runs` (row, record, and the names of its code, environment and data), and each
    different `Code`, `Environment` and `Data` by name: `C1`, `C2`, `E1`, … An empty one is `–`.
    """
    runs = shown.runs[:most]
    records = [run.record for _, _, run in runs]
    values: dict[str, list[Any]] = {
        "Code": [flat(record.code) for record in records],
        "Environment": [flat(record.environment) for record in records],
        "Data": [record.data_checksum for record in records],
    }
    named: dict[str, dict[str, Any]] = {}
    names = []
    for title, items in values.items():
        different = {canonical(item): item for item in items if item}
        name = {text: f"{title[0]}{number}" for number, text in enumerate(different, start=1)}
        named[title] = {name[text]: item for text, item in different.items()}
        names.append([name[canonical(item)] if item else NONE for item in items])
    with_names = zip(runs, zip(*names, strict=True), strict=True)
    return {**named, "runs": [(row, run.record, of_run) for (_, row, run), of_run in with_names]}


def users(traced: dict[str, Any], name: str) -> str:
    """List the rules that ran with a code, an environment or data: `C1`."""
    if all(name in names for *_, names in traced["runs"]):
        return "every run"
    return listed(dict.fromkeys(row.label for row, _, names in traced["runs"] if name in names))


def differences(traced: dict[str, Any]) -> list[str]:
    """Say in words in what the codes, and the environments, of the runs differ."""
    lines = []
    for title in ("Code", "Environment"):
        (first, base), *others = traced[title].items() or [("", {})]
        changed = {
            name: sorted(_part(key) for key in base.keys() & own.keys() if _other(key, base, own))
            for name, own in others
        }
        same = [name for name, parts in changed.items() if not parts]
        if same:
            which = f"All of {first} to {[*changed][-1]}" if len(same) == len(changed) > 1 else ""
            lines.append(f"{which or joined([first, *same])} {SAME[title]}")
        lines += [
            f"{name} differs from {first} in {listed(WORDS.get(key, key) for key in keys)}"
            for name, keys in changed.items()
            if keys
        ]
    return lines


def _other(key: str, one: dict[str, Any], two: dict[str, Any]) -> bool:
    """Decide whether two runs differ in an entry; the rest of a code follows from its modules."""
    follows = key.endswith((".digest", ".modules")) or ".defaults." in key
    return one[key] != two[key] and not follows


def _part(key: str) -> str:
    """Return the module of an entry, or the name of a setting."""
    return key.partition(".files.")[2] or key


def suite_of(record: RunRecord) -> str:
    """Return the suite file that repeats exactly the cell of a run, with every parameter.

    It measures as the run did, before its training too, and not as a later `bench audit`.
    """
    cell = record.cell.model_dump(mode="json")
    training = dict(cell["training"])
    stops = training.pop("stop_when", {})
    measured = {
        bare_name(name): {"name": name} | ({} if threshold is None else {"threshold": threshold})
        for name, threshold in stops.items()
    }
    own = [name for name in record.measurements if name in record.initial or not record.initial]
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
        "diagnostics": [measured.get(name, name) for name in own or measured],
        "stop_when": list(stops),
    }
    stated = {key: value for key, value in suite.items() if value != []}
    return yaml.safe_dump(stated, sort_keys=False)
