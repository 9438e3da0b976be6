"""Check the details of measurements: what a reader may rely on, for each built-in diagnostic.

A measurement of any diagnostic has limits: `DEEPEST`, `MOST`, `LONGEST`. A diagnostic that raised
stores `error` alone. Keys that tables, pages and claims read have a kind of their own. Further keys
are free within the limits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

DEEPEST = 6  # lists and mappings within each other
MOST = 20_000  # values of one measurement
LONGEST = 10_000  # characters of a text
NOT_FINITE = ("nan", "inf", "-inf")


def _number(value: Any) -> bool:
    kind = type(value)
    return kind is float or kind is int or value is None or value in NOT_FINITE


def _numbers(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_number, value))


def _integers(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(type(item) is int for item in value)


def _texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "number": ("a number", _number),
    "numbers": ("a list of numbers", _numbers),
    "integer": ("a whole number", lambda value: type(value) is int),
    "count": ("a whole number of 0 or more", lambda value: type(value) is int and value >= 0),
    "integers": ("a list of whole numbers", _integers),
    "flag": ("true or false", lambda value: isinstance(value, bool)),
    "texts": ("a mapping of texts", _texts),
    "mapping": ("a mapping", lambda value: isinstance(value, dict)),
    "list": ("a list", lambda value: isinstance(value, (list, tuple))),
}
# diagnostics whose values are cosines or correlations
COSINES = ("alignment", "batch_stability", "costate_alignment", "perturbation_correlation")
# diagnostics whose values are shares of samples
PORTIONS = ("gradient_support",)
_LAYERED = {
    "sites": "integers",
    "layers": "numbers",
    "mean": "number",
    "deep": "number",
    "not_diagnostic": "texts",
}
SCHEMAS: dict[str, dict[str, str]] = {
    "scale_growth": {"h": "numbers", "growth": "numbers"},
    "reference_floor": {"g": "numbers", "mean_128": "number", "mean_1024": "number"},
    "batch_stability": {},
    "depth_utility": {},
    "loss_decrease": {},
    "alignment": {
        **_LAYERED,
        "unclamped": "numbers",
        "library": "numbers",
        "ratio": "numbers",
        "library_mean": "number",
        "in_use": "flag",
        "blocks": "numbers",
        "blocks_deep": "number",
    },
    "state_distance": {"probe": "integer", "layers": "numbers", "samples": "integer"},
    "null_calibration": {
        **_LAYERED,
        "null_mean": "numbers",
        "null_std": "numbers",
        "draws": "integer",
        "flagged": "integers",
        "without_null": "integers",
        "null_deep_mean": "number",
        "null_deep_std": "number",
    },
    "layer0_dominance": {"epochs": "list"},
    "gradient_support": {"layers": "numbers", "tau": "number"},
    "common_mode": {**_LAYERED, "error": "number", "null": "number"},
    "participation": {"layers": "numbers", "mean_slope": "numbers", "rank": "numbers"},
    "target_alignment": dict.fromkeys(("blocks", "readout", "all", "null"), "number"),
    "projected_step": {"raw_cosine": "mapping", "raw_gain": "mapping"},
    "settledness": {
        "layers": "numbers",
        "deep": "number",
        "residual": "number",
        "unsettled": "number",
    },
    "block_utility": {"initial": "numbers", "skipped": "numbers", "n": "integer"},
    "step_cost": dict.fromkeys(
        (
            *("forward", "credit", "update", "bp", "n", "steps_per_epoch"),
            *("stored_bytes", "bp_stored_bytes", "bp_checkpointed_bytes"),
        ),
        "count",
    ),
    "drift": {"w2": "number", "embed": "number", "matrices": "mapping"},
    "nudging": _LAYERED,
    "perturbation_correlation": _LAYERED,
    "costate_alignment": _LAYERED,
}
# further read-outs of a credit, `displacement_unclamped`
_READOUTS = {"_unclamped": "numbers", "_ratio": "numbers", "_deep": "number"}


def finite(value: Any) -> float | None:
    """Return a finite number or None; stored details may hold words such as "nan"."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def fault(name: str, details: Mapping[str, Any]) -> str:
    """Say what is wrong with the details of a diagnostic, named without its distribution; or ""."""
    if reason := _limits(details):
        return reason
    if details.keys() == {"error"} and isinstance(details["error"], str):
        return ""
    schema = SCHEMAS.get(name, {})
    for key, value in details.items():
        kind = schema.get(key)
        if kind is None and name == "alignment":
            kind = next((k for ending, k in _READOUTS.items() if key.endswith(ending)), None)
        if kind is not None and not KINDS[kind][1](value):
            return f"{key[:40]} must be {KINDS[kind][0]}"
    return ""


def _limits(details: Mapping[str, Any]) -> str:
    """Say which limit the details exceed, without recursion; or ""."""
    level: list[Any] = [details]
    count = 0
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for each in level:
            texts = [each] if isinstance(each, str) else []
            if isinstance(each, dict):
                texts += each.keys()
                inner += each.values()
            elif isinstance(each, (list, tuple)):
                inner += each
            if any(isinstance(text, str) and len(text) > LONGEST for text in texts):
                return f"a text has more than {LONGEST:,} characters"
        count += len(inner)
        if count > MOST:
            return f"it has more than {MOST:,} values"
        level = [each for each in inner if isinstance(each, (dict, list, tuple, str))]
        if not level:
            return ""
    return f"it is nested more than {DEEPEST} deep" if any(map(_holds, level)) else ""


def _holds(value: Any) -> bool:
    return isinstance(value, (dict, list, tuple)) and bool(value)
