"""Write a run in compact form, a tenth of its bytes: all that tables, figures and claims read.

A compact run folder has run.json and epochs.jsonl.gz, and every reader of run folders reads it.
Against the original

* measured numbers have seven significant digits; the cell, thresholds and digests are exact;
* attributes of a measurement that have their default are left out, as are the digests of single
  modules (`code`); the texts about a diagnostic stand once, in `measurements` of run.json;
* epochs.jsonl is packed and holds constants once: a header `{"row": constant part, "columns": …}`
  precedes the rows of one form, and each row is the list of the values of its columns. A column
  names the places of its value: paths, of which every one has this value in all of these rows;
* `original` in run.json has sizes and checksums of the original's files. Of run.json it is the
  checksum that the original states of itself. The compact files have checksums of their own.
"""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from bench_core.results.hashing import digest, digest_bytes
from bench_core.results.record import Measurement

DIGITS = 7
TEXTS = ("title", "heading", "sentence")
Path = tuple[str, ...]


@dataclass(frozen=True)
class Header:
    """The constant part of the rows that follow, the places of their values, and its size."""

    constant: Mapping[str, Any] = field(default_factory=dict)
    columns: Sequence[Sequence[Sequence[str]]] = ()
    size: int = 0

    def row(self, values: Sequence[Any]) -> dict[str, Any]:
        """Return a whole row. Raises ValueError if the values do not fit the columns."""
        if len(values) != len(self.columns):
            raise ValueError(f"has a row of {len(values)} values for {len(self.columns)} columns")
        row: dict[str, Any] = copy.deepcopy(dict(self.constant))
        for paths, value in zip(self.columns, values, strict=True):
            for *above, last in paths:
                place = row
                for key in above:
                    place = place.setdefault(key, {})
                    if not isinstance(place, dict):
                        raise ValueError("has a column inside a value")
                place[last] = value
        return row


def is_header(value: Any) -> bool:
    """Decide whether a line of epochs.jsonl is the header of compact rows. Raises ValueError."""
    if not isinstance(value, dict) or value.keys() != {"row", "columns"}:
        return False
    columns = value["columns"]
    texts = _are_lists(columns) and all(
        _are_lists(paths) and all(isinstance(key, str) for path in paths for key in path)
        for paths in columns
    )
    if not texts or not isinstance(value["row"], dict):
        raise ValueError("has a header of rows without their columns")
    return True


def _are_lists(values: Any) -> bool:
    """Decide whether a value is a list of lists that are not empty."""
    return isinstance(values, list) and all(isinstance(item, list) and item for item in values)


def seven_digits(value: Any) -> Any:
    """Round every float to seven significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: seven_digits(item) for key, item in value.items()}
    return [seven_digits(item) for item in value] if isinstance(value, list) else value


def _figures(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Round the numbers of a run or of a row; settings and limits stand deeper and are exact."""
    return {
        key: seven_digits(value) if isinstance(value, float) else value
        for key, value in raw.items()
    }


def _measured(
    items: Mapping[str, Mapping[str, Any]], texts: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Round values and details, and leave out attributes at their defaults, and `texts`."""
    default = Measurement().model_dump()
    return {
        name: {
            key: seven_digits(value) if key in ("value", "details") else value
            for key, value in item.items()
            if key not in texts and (key not in default or value != default[key])
        }
        for name, item in items.items()
    }


def compact_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of epochs.jsonl with rounded numbers and without defaults."""
    return {**_figures(row), "measurements": _measured(row.get("measurements", {}), TEXTS)}


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value:
        for key in sorted(value):
            yield from _leaves(value[key], (*path, key))
    else:
        yield path, value


def packed(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Write epochs.jsonl.gz: equal rows are equal bytes."""
    return gzip.compress(epochs_text(rows).encode(), mtime=0)


def epochs_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write compact rows, those of one form under one header."""
    lines: list[Any] = []
    flat = [dict(_leaves(compact_row(row))) for row in rows]
    for paths, group in groupby(flat, key=tuple):
        same = list(group)
        places: dict[str, list[Path]] = {}  # of each sequence of values, as text
        for path in paths:
            places.setdefault(_line([row[path] for row in same]), []).append(path)
        columns = [
            own for own in places.values() if any(row[own[0]] != same[0][own[0]] for row in same)
        ]
        varying = {path for own in columns for path in own}
        fixed = [path for path in paths if path not in varying]
        constant = Header({}, [[path] for path in fixed]).row([same[0][path] for path in fixed])
        lines.append({"row": constant, "columns": columns})
        lines += [[row[own[0]] for own in columns] for row in same]
    return "".join(f"{_line(line)}\n" for line in lines)


def run_text(raw: Mapping[str, Any], epochs: bytes, environment: Mapping[str, Any]) -> str:
    """Write run.json of a compact run.

    raw          the content of the original's run.json
    epochs       the content of epochs.jsonl.gz
    environment  what the original's environment lacks, such as the commit
    """
    original = {**raw["files"], "run.json": {"bytes": 0, "blake2b": raw["checksum"]}}
    code = {
        name: {key: value for key, value in entry.items() if key not in ("files", "modules")}
        for name, entry in raw["code"].items()
    }
    short = _figures(raw) | {"initial": _measured(raw["initial"], TEXTS)}
    short |= {"measurements": _measured(raw["measurements"])}
    short |= {
        "code": code,
        "environment": {**environment, **raw["environment"]},
        "files": {"epochs.jsonl.gz": {"bytes": len(epochs), "blake2b": digest_bytes(epochs)}},
        "original": original,
    }
    del short["checksum"]
    return sealed_text(short)


def sealed_text(raw: Mapping[str, Any]) -> str:
    """Write run.json with the checksum of its other fields."""
    return _line({**raw, "checksum": digest(raw)}) + "\n"


def _line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
