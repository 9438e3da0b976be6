"""Find the floors of a recipe: the runs whose blocks kept their random weights."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Literal

from bench_core.analysis.accuracies import Scored
from bench_core.analysis.verdicts.judge import Floor
from bench_core.analysis.verdicts.labels import label, method_key
from bench_core.analysis.verdicts.roles import BP, is_floor, matched_floor, option, unscaled
from bench_core.analysis.verdicts.settings import Settings
from bench_core.analysis.verdicts.untrained import began_apart
from bench_core.names import FROZEN, without_ours
from bench_core.results.hashing import canonical
from bench_core.results.record import ComponentRef, RunRecord
from bench_core.suite.cells import CORE_DEFAULTS, same_name

REDRAWN = "setup() changes the blocks before training, and those of {name} stay as they were drawn"


def is_finished(record: RunRecord) -> bool:
    """Decide whether a run is done, with a finite accuracy."""
    accuracy = record.accuracy
    return record.status == "done" and accuracy is not None and math.isfinite(accuracy)


def accuracies(records: Iterable[RunRecord]) -> dict[int, float]:
    """Return seed → accuracy of the finished runs."""
    finished = (record for record in records if is_finished(record))
    return {item.cell.seed: item.accuracy for item in finished if item.accuracy is not None}


def explained(records: Iterable[RunRecord]) -> bool:
    """Decide whether the accuracy of all finished runs is explained variance."""
    finished = [record.explained for record in records if is_finished(record)]
    return bool(finished) and all(finished)


def samples_of(records: Iterable[RunRecord]) -> int | None:
    """Return the number of test samples that runs state; None without one, or with several."""
    stated = {record.test_samples for record in records} - {None}
    return next(iter(stated)) if len(stated) == 1 else None


def scored(records: Iterable[RunRecord]) -> Scored:
    """Return what the runs of a recipe tell of their test set: its size, and bp's accuracies."""
    runs = list(records)
    bp = (run.accuracy for run in runs if run.cell.method.name == BP and is_finished(run))
    return Scored(samples_of(runs), tuple(share for share in bp if share is not None))


class Floors:
    """The floors among the runs of one recipe; `scored`: the samples of its accuracies."""

    def __init__(
        self,
        rows: Mapping[str, Sequence[RunRecord]],
        peers: Mapping[str, Sequence[ComponentRef]],
        settings: Settings,
    ) -> None:
        self.depth, self.peers, self.defaults = settings.depth_utility, peers, settings.defaults
        self.key = partial(method_key, defaults=settings.recorded)
        self.scored = scored(run for runs in rows.values() for run in runs)
        self.frozen = {key: runs for key, runs in rows.items() if is_floor(runs[0])}
        self.of_any_scale: dict[str, list[str]] = defaultdict(list)  # by the key without a scale
        for key, runs in self.frozen.items():
            self.of_any_scale[self.key(unscaled(runs[0].cell.method))].append(key)

    def _of(
        self, name: str, keys: Sequence[str], kind: Literal["matched", "named"] = "named"
    ) -> Floor:
        if len(keys) > 1:
            return Floor(name, kind, reason=f"{len(keys)} different rows could be {name}")
        runs = self.frozen[keys[0]] if keys else []
        by_seed = accuracies(runs)
        lost = frozenset(run.cell.seed for run in runs) - by_seed.keys()
        if not by_seed:
            reason = f"no finished run of {name} with this recipe"
            return Floor(name, kind, reason=reason, lost=lost)
        return Floor(name, kind, by_seed, math.fsum(by_seed.values()) / len(by_seed), lost=lost)

    def matched(self, runs: Sequence[RunRecord]) -> Floor:
        """Return the floor of a row's own rule; it must begin with the blocks of the row."""
        ref = runs[0].cell.method
        floor = matched_floor(ref)
        name, key = label(floor, self.peers[ref.name], self.defaults), self.key(floor)
        if began_apart(runs, self.frozen.get(key, ())):
            return Floor(name, "matched", reason=REDRAWN.format(name=name))
        return self._of(name, [key] if key in self.frozen else [], "matched")

    def rescaled(self, ref: ComponentRef, replaced: bool) -> list[tuple[float, Floor]]:
        """Return the floors with random blocks of another scale, in multiples of the rule's own.

        They are those of the rule, and of the method whose floor decides d in place of its own.
        """
        name = BP if replaced or self.depth.floor == "bp" else self.depth.floor
        drawn = [matched_floor(ref)]
        if name != "matched":
            drawn += [self.frozen[key][0].cell.method for key in self._keys(name)]
        return self._of_other_scales(drawn)

    def _of_other_scales(self, drawn: Sequence[ComponentRef]) -> list[tuple[float, Floor]]:
        found: dict[str, tuple[float, Floor]] = {}
        for floor in drawn:
            for key in self.of_any_scale[self.key(unscaled(floor))]:
                other = self.frozen[key][0].cell.method
                scale = option(other, "block_scale") / option(floor, "block_scale")
                if scale != 1.0 and not self._alike(key, self.key(floor)):
                    text = label(other, self.peers[other.name], self.defaults)
                    found.setdefault(key, (scale, self._of(text, [key])))
        return list(found.values())

    def bp_rescaled(self) -> list[tuple[float, Floor]]:
        """Return bp's floors with random blocks of another scale, in multiples of the drawn one."""
        refs = (unscaled(runs[0].cell.method) for runs in self.frozen.values())
        plain = next((ref for ref in refs if self._is_plain(ref, BP)), None)
        return [] if plain is None else self._of_other_scales([plain])

    def _alike(self, one: str, other: str) -> bool:
        """Decide whether two floors have the same accuracies: then the scale has no effect."""
        own, others = (accuracies(self.frozen.get(key, ())) for key in (one, other))
        shared = own.keys() & others.keys()
        return len(shared) > 1 and all(own[seed] == others[seed] for seed in shared)

    def bp(self) -> Floor:
        return self.named(BP)

    def none_finished(self, name: str) -> bool:
        """Decide whether the one floor of a method has runs, but none that is finished."""
        keys = self._keys(name)
        return len(keys) == 1 and not accuracies(self.frozen[keys[0]])

    def named(self, name: str) -> Floor:
        """Return the floor of a method with the core's defaults."""
        return self._of(f"{without_ours(name)}[{FROZEN}]", self._keys(name))

    def _keys(self, name: str) -> list[str]:
        refs = {key: runs[0].cell.method for key, runs in self.frozen.items()}
        return [key for key, ref in refs.items() if self._is_plain(ref, name)]

    @staticmethod
    def _is_plain(ref: ComponentRef, name: str) -> bool:
        """Decide whether a floor is that of a method with the core's defaults."""
        others = {key: value for key, value in CORE_DEFAULTS.items() if key != "freeze"}
        return same_name(ref.name, name) and all(
            canonical(option(ref, key)) == canonical(others[key]) for key in others
        )

    def chosen(self, matched: Floor) -> Floor:
        """Return the floor that decides d for a rule with this matched floor."""
        if self.depth.floor_value is not None:
            return Floor("the given floor", "literal", mean=self.depth.floor_value)
        if self.depth.floor == "matched":
            return matched
        return self.bp() if self.depth.floor == "bp" else self.named(self.depth.floor)
