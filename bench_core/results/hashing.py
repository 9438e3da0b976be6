"""Canonical JSON, digests and checksums (BLAKE2b)."""

from __future__ import annotations

import json
import math
from hashlib import blake2b, file_digest
from io import BufferedReader
from typing import Any

from bench_core.printable import plain

_LINE = json.JSONEncoder(sort_keys=True, default=str)


def digest_bytes(content: bytes, size: int = 16) -> str:
    """Compute BLAKE2b of `size` bytes, as hex digits."""
    return blake2b(content, digest_size=size).hexdigest()


def digest(value: Any) -> str:
    """Compute BLAKE2b, 32 hex digits, of `value` as JSON with sorted keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return digest_bytes(text.encode())


def checksum(file: BufferedReader) -> str:
    """Compute BLAKE2b, 32 hex digits, of an open file."""
    return file_digest(file, lambda: blake2b(digest_size=16)).hexdigest()


def file_text(value: Any) -> str:
    """Write JSON for a file: sorted keys, so that equal values are equal bytes."""
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n"


def line_text(value: Any) -> str:
    """Write JSON on one line with sorted keys; numbers that JSON cannot hold become their names."""
    return _LINE.encode(jsonable(value))


def plain_text(value: Any) -> str:
    """Write a setting for people: a text as it is, all else as JSON on one line."""
    return value if isinstance(value, str) else line_text(value)


def canonical(value: Any) -> str:
    """Write JSON that is equal exactly for equal values, whatever the order of keys."""
    return _LINE.encode(_integral(jsonable(value)))


def _integral(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 0 and 0.0 are one value
    if isinstance(value, dict):
        return {key: _integral(item) for key, item in value.items()}
    return [_integral(item) for item in value] if isinstance(value, (list, tuple)) else value


def jsonable(value: Any) -> Any:
    """Replace floats that are not finite by their names and numpy's values by plain ones."""
    value = plain(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {plain(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return value


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Map dotted key → value for a nested mapping."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    items: dict[str, Any] = {}
    for key, item in value.items():
        items |= flat(item, f"{path}.{key}" if path else str(key))
    return items
