"""temporary"""

from __future__ import annotations

from typing import Any

from bench_core.judgement import Settings, fires, threshold_of
from bench_core.record import Measurement


def first_firing(rows: list[dict[str, Any]], settings: Settings) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for row in rows:
        for name, raw in row.get("measurements", {}).items():
            item = Measurement.model_validate(raw)
            if item.letter and found.get(item.letter) is None and not item.across:
                found[item.letter] = (
                    row["epoch"]
                    if fires(item, threshold_of(name, item, settings.thresholds)) and row["epoch"]
                    else None
                )
    return found
