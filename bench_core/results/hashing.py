"""Canonical JSON and BLAKE2b checksums: the one place where results are hashed."""

from __future__ import annotations

import json
import math
from hashlib import blake2b
from pathlib import Path
from typing import Any


def digest(value: Any) -> str:
    """BLAKE2b, 32 hex digits, of the canonical JSON of `value`."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def checksum(path: Path) -> str:
    """BLAKE2b of a file, 32 hex digits."""
    hasher = blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
    return hasher.hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 0 and 0.0 are one value
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    return [_canonical(item) for item in value] if isinstance(value, (list, tuple)) else value


def canonical(value: Any) -> str:
    """Text that is equal exactly for equal values, whatever the order of keys."""
    return json.dumps(_canonical(jsonable(value)), sort_keys=True, default=str)


def jsonable(value: Any) -> Any:
    """`value` with every non-finite float replaced by its name, recursively."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return value
