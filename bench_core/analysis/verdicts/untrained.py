"""Find what diagnostics measured on the untrained networks of a recipe.

All runs of a seed begin with the same network. Rules are the witnesses of it, not runs: a rule may
have many runs, and what it does to the network before training shows in each of them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench_core.analysis.verdicts.roles import BP, is_drawn
from bench_core.names import OURS, bare_name
from bench_core.results.record import Measurement, RunRecord
from bench_core.suite.protocol import THRESHOLDS

ALIKE = 1e-3  # between machines; an untrained network has hardly any rounding
NETWORK = THRESHOLDS.keys() | {f"{OURS}/{name}" for name in THRESHOLDS}  # read no credit of a rule


@dataclass(frozen=True)
class Witnessed:
    """A measurement on the untrained network of a seed.

    rule  whose runs alone show it; None: bp's show it, or most rules
    """

    measurement: Measurement
    rule: str | None = None


NORMS = ("scale_growth", "reference_floor")

Agreed = Mapping[str, Mapping[int, Witnessed]]  # a diagnostic's name → seed → measurement


def untrained(records: Iterable[RunRecord]) -> Agreed:
    """Return each diagnostic's measurement on the untrained network of each seed.

    That of bp, without bp that on which more than half of the rules agree. One run without bp or
    another rule beside it is no witness, nor is a run whose initial blocks were scaled.
    """
    found: dict[str, dict[int, dict[str, list[Measurement]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for record in records:
        if not is_drawn(record.cell.method):
            continue
        for name, item in record.initial.items():
            if item.value is not None and item.not_diagnostic is None:
                found[name][record.cell.seed][record.cell.method.name].append(item)
    return {
        name: {seed: one for seed, rules in seeds.items() if (one := _witness(rules)) is not None}
        for name, seeds in found.items()
    }


def _witness(rules: Mapping[str, list[Measurement]]) -> Witnessed | None:
    if BP in rules:
        return Witnessed(_middle(rules[BP]))
    if len(rules) > 1:  # without a majority some have changed it, and nothing says which
        values = [_middle(each) for each in rules.values()]
        agreeing = ([one for one in values if agree(one.value, each.value)] for each in values)
        most = max(agreeing, key=len)
        return Witnessed(_middle(most)) if 2 * len(most) > len(values) else None
    ((rule, items),) = rules.items()
    return Witnessed(_middle(items), rule) if len(items) > 1 else None


def agree(one: float | None, other: float | None) -> bool:
    """Decide whether two values are of one untrained network, as another machine may round it."""
    if one is None or other is None:
        return one is other
    both_nan = math.isnan(one) and math.isnan(other)
    return both_nan or math.isclose(one, other, rel_tol=ALIKE)


def began_apart(runs: Iterable[RunRecord], others: Iterable[RunRecord]) -> bool:
    """Decide whether two rows began with different networks in a seed that both have.

    Growth and gradient norm tell it. A cosine near 0 (batch_stability) is rounding on two machines.
    """
    pairs = {(run.cell.seed, name): item for run in runs for name, item in run.initial.items()}
    return any(
        not agree(item.value, pairs[run.cell.seed, name].value)
        for run in others
        for name, item in run.initial.items()
        if bare_name(name) in NORMS and name in NETWORK and (run.cell.seed, name) in pairs
    )


def _middle(items: Iterable[Measurement]) -> Measurement:
    """Return the median by degeneracy; of two the less degenerate one."""
    ordered = _worst_first(items)
    return ordered[len(ordered) // 2]


def _worst_first(items: Iterable[Measurement]) -> list[Measurement]:
    """Sort measurements of one diagnostic by degeneracy; a value that is not finite is worst."""

    def degeneracy(item: Measurement) -> float:
        if item.value is None or not math.isfinite(item.value):
            return -math.inf
        return item.value if item.direction == "below" else -item.value

    return sorted(items, key=degeneracy)


def at_start(record: RunRecord, agreed: Agreed) -> dict[str, Measurement]:
    """Return the untrained measurements that count for a run, the most degenerate of each name.

    These are the run's own, and those of each seed of the recipe, but of another rule alone none. A
    diagnostic of the network itself counts as others measured it for the seed: if the run's own
    is another one, the rule has changed the network before its training.
    """
    rule, seed = record.cell.method.name, record.cell.seed
    agreed = agreed if is_drawn(record.cell.method) else {}  # others began with another network
    counting = {name: item for name, item in record.initial.items() if item.value is not None}
    for name, seeds in agreed.items():
        known = [one.measurement for one in seeds.values() if one.rule in (None, rule)]
        own = counting.get(name)
        witnessed = seed in seeds and seeds[seed].rule is None
        if own and own.not_diagnostic is None and not (witnessed and name in NETWORK):
            known.append(own)
        if known:
            counting[name] = _worst_first(known)[0]
    return counting
