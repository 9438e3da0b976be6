"""Find what diagnostics measured on the untrained networks of a recipe."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

from bench_core.results.record import Measurement, RunRecord


def untrained(records: Iterable[RunRecord]) -> dict[str, Measurement]:
    """Return the most degenerate measurement of each diagnostic on the untrained networks.

    Runs of one seed have the same untrained network. The measurement of a seed is one that most of
    its runs reach, so a single odd run says nothing about the others.
    """
    of_seed: dict[str, dict[int, list[Measurement]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        for name, item in record.initial.items():
            if item.value is not None and item.not_diagnostic is None:
                of_seed[name][record.cell.seed].append(item)
    agreed: dict[str, list[Measurement]] = {
        name: [_worst_first(items)[len(items) // 2] for items in seeds.values() if len(items) > 1]
        for name, seeds in of_seed.items()
    }
    return {name: _worst_first(items)[0] for name, items in agreed.items() if items}


def _worst_first(items: Iterable[Measurement]) -> list[Measurement]:
    """Sort measurements of one diagnostic by degeneracy; a value that is not finite is worst."""

    def degeneracy(item: Measurement) -> float:
        if item.value is None or not math.isfinite(item.value):
            return -math.inf
        return item.value if item.direction == "below" else -item.value

    return sorted(items, key=degeneracy)


def at_start(record: RunRecord, agreed: Mapping[str, Measurement]) -> dict[str, Measurement]:
    """Return the untrained measurements that count for a run: its own or those of the recipe."""
    known = {name: item for name, item in record.initial.items() if item.value is not None}
    own = {name: item for name, item in known.items() if item.not_diagnostic is None}
    both = own.keys() & agreed.keys()
    return {
        **known,
        **agreed,
        **own,
        **{name: _worst_first([own[name], agreed[name]])[0] for name in both},
    }
