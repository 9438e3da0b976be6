"""Make the rows of a leaderboard: floors, margins, counts and ranks; pure functions of run records.

Runs are compared and averaged only within a recipe (arch, dataset, data, training). Failed runs
stay in the denominator of every verdict and have no part in a mean. A seed counts once, because
n is the number of seeds: of several records of one cell (replicates, another version of the
code) a done record is preferred, then the record finished last; the others are counted as set
aside. `bench_core.analysis.judge` judges one run.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from bench_core.analysis.judge import (
    BP,
    CORE_DEFAULTS,
    Floor,
    Judgement,
    Role,
    Settings,
    in_order,
    is_floor,
    judge,
    judged,
    label,
    method_key,
    option,
    recipe,
    role,
    untrained,
)
from bench_core.analysis.stats import Estimate, estimate, paired_difference, tie_ranks
from bench_core.results.hashing import canonical
from bench_core.results.record import ComponentRef, Measurement, RunRecord
from bench_core.results.status import STATUSES

DEFAULT = Settings()


@dataclass(frozen=True)
class Run:
    """A record and its judgement."""

    record: RunRecord
    judgement: Judgement

    @cached_property
    def judged(self) -> dict[str, tuple[str, Measurement]]:
        """Map each letter to the name and the measurement of its diagnostic (`judge.judged`)."""
        return judged(self.record.measurements)


@dataclass(frozen=True)
class Row:
    """A method over its seeds.

    accuracy  over finished runs; verdict counts all runs; margins are in percentage points
    """

    label: str
    role: Role
    runs: tuple[Run, ...]
    accuracy: Estimate | None
    margin: Estimate | None
    margin_matched: Estimate | None
    margin_bp: Estimate | None
    floor: Floor
    verdict: str
    three: str
    rank: int | None = None
    tied: bool = False

    @property
    def method(self) -> ComponentRef:
        return self.runs[0].record.cell.method

    @property
    def finished(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if is_finished(run.record))


@dataclass(frozen=True)
class Group:
    """The rows of one recipe, best mean accuracy first, rows without a finished run last."""

    rows: tuple[Row, ...]
    set_aside: int

    @property
    def records(self) -> tuple[RunRecord, ...]:
        return tuple(run.record for row in self.rows for run in row.runs)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({record.cell.seed for record in self.records}))


def is_finished(record: RunRecord) -> bool:
    """Decide whether a run is done, with a finite accuracy."""
    accuracy = record.accuracy
    return record.status == "done" and accuracy is not None and math.isfinite(accuracy)


def accuracies(records: Iterable[RunRecord]) -> dict[int, float]:
    """Return seed → accuracy of the finished runs."""
    finished = (record for record in records if is_finished(record))
    return {item.cell.seed: item.accuracy for item in finished if item.accuracy is not None}


def aggregate(judgements: Sequence[Judgement]) -> str:
    """Write the verdict of a row.

    Examples: `walked back 3/3 (a 3, b 3, c 1, d 3)`, `trustworthy 3/3`, `floor`, `walked back
    2/3 (d 2), diverged 1/3`. Every run is in the denominator. The number of trustworthy runs is
    left out beside a walked-back count.
    """
    total, kinds = len(judgements), Counter(item.kind for item in judgements)
    if kinds["floor"] == total:
        return "floor"
    parts = []
    for kind in ("floor", "walked back", "trustworthy", "undetermined", *STATUSES):
        if not kinds[kind] or (kind == "trustworthy" and kinds["walked back"]):
            continue
        part = f"{kind} {kinds[kind]}/{total}"
        same = [item for item in judgements if item.kind == kind]
        if kind == "walked back":
            fired = Counter(letter for item in same for letter in item.fired)
            part += f" ({', '.join(f'{letter} {fired[letter]}' for letter in in_order(fired))})"
        elif kind == "undetermined":
            missing = in_order({letter for item in same for letter in item.missing})
            part += f" ({'+'.join(missing)} not measured)"
        parts.append(part)
    return ", ".join(parts)


def aggregate_three(judgements: Sequence[Judgement]) -> str:
    """Write the three-diagnostic form of a row, with counts if the runs differ."""
    texts = Counter(item.three for item in judgements)
    if len(texts) == 1:
        return judgements[0].three
    ordered = sorted(texts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{text} {count}/{len(judgements)}" for text, count in ordered)


class _Floors:
    """The floors among the runs of one recipe."""

    def __init__(
        self,
        rows: Mapping[str, Sequence[RunRecord]],
        peers: Mapping[str, Sequence[ComponentRef]],
        settings: Settings,
    ) -> None:
        self.depth, self.peers, self.defaults = settings.depth_utility, peers, settings.defaults
        self.frozen = {key: runs for key, runs in rows.items() if is_floor(runs[0])}

    def _of(
        self, name: str, keys: Sequence[str], kind: Literal["matched", "named"] = "named"
    ) -> Floor:
        if len(keys) > 1:
            return Floor(name, kind, reason=f"{len(keys)} different rows could be {name}")
        by_seed = accuracies(self.frozen[keys[0]]) if keys else {}
        if not by_seed:
            return Floor(name, kind, reason=f"no finished run of {name} with this recipe")
        return Floor(name, kind, by_seed, math.fsum(by_seed.values()) / len(by_seed))

    def matched(self, ref: ComponentRef) -> Floor:
        # floors never carry a penalty
        unpenalised = {"freeze": "blocks", "train_last": None, "penalty": CORE_DEFAULTS["penalty"]}
        floor = ref.model_copy(update={"params": {**ref.params, **unpenalised}})
        name, key = label(floor, self.peers[ref.name], self.defaults), method_key(floor)
        return self._of(name, [key] if key in self.frozen else [], "matched")

    def bp(self) -> Floor:
        return self.named(BP)

    def named(self, name: str) -> Floor:
        """Return the floor of a method with the core's defaults; full names precede short ones."""
        others = {key: value for key, value in CORE_DEFAULTS.items() if key != "freeze"}
        spelled: dict[str, int] = {}
        for key, runs in self.frozen.items():
            ref = runs[0].cell.method
            names = [ref.name, ref.short, ref.name.rpartition("/")[2]]
            plain = all(canonical(option(ref, key)) == canonical(others[key]) for key in others)
            if plain and name in names:
                spelled[key] = names.index(name)
        keys = [key for key in spelled if spelled[key] == min(spelled.values())]
        return self._of(f"{name.removeprefix('bench-core/')}[freeze=blocks]", keys)

    def chosen(self, ref: ComponentRef) -> Floor:
        if self.depth.floor_value is not None:
            return Floor("the given floor", "literal", mean=self.depth.floor_value)
        if self.depth.floor == "matched":
            return self.matched(ref)
        return self.bp() if self.depth.floor == "bp" else self.named(self.depth.floor)


def _margin(by_seed: Mapping[int, float], floor: Floor) -> Estimate | None:
    """Estimate the margin in points; its interval, paired by seed, needs the floor's seeds."""
    if not by_seed or floor.mean is None:
        return None
    if not floor.accuracies:
        return estimate(100.0 * (value - floor.mean) for value in by_seed.values())
    paired = paired_difference(by_seed, floor.accuracies)
    if paired is not None and by_seed.keys() == floor.accuracies.keys():
        return paired.scaled(100.0)
    mean = math.fsum(by_seed.values()) / len(by_seed)
    return Estimate(100.0 * (mean - floor.mean), None, None, len(by_seed))


def _representative(records: Sequence[RunRecord]) -> RunRecord:
    """Choose the record of a cell that counts."""
    if len(records) == 1:
        return records[0]
    return max(records, key=lambda r: (r.status == "done", r.finished, r.identity, r.to_json()))


def _group(
    records: Sequence[RunRecord], peers: Mapping[str, Sequence[ComponentRef]], settings: Settings
) -> Group:
    cells: dict[str, dict[int, list[RunRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        cells[method_key(record.cell.method)][record.cell.seed].append(record)
    by_row = {
        key: [_representative(seeds[seed]) for seed in sorted(seeds)]
        for key, seeds in sorted(cells.items())
    }
    floors = _Floors(by_row, peers, settings)
    bp = floors.bp()
    expected = {
        letter
        for runs in by_row.values()
        for run in runs
        if run.status == "done" and not is_floor(run)
        for letter in judged(run.measurements)
    }
    initial = untrained(run for runs in by_row.values() for run in runs)
    rows = []
    for runs in by_row.values():
        ref, by_seed = runs[0].cell.method, accuracies(runs)
        chosen, matched = floors.chosen(ref), floors.matched(ref)
        judgements = [judge(run, chosen, matched, bp, settings, expected, initial) for run in runs]
        rows.append(
            Row(
                label=label(ref, peers[ref.name], settings.defaults),
                role=role(runs[0]),
                runs=tuple(map(Run, runs, judgements)),
                accuracy=estimate(by_seed.values()) if by_seed else None,
                margin=_margin(by_seed, chosen),
                margin_matched=_margin(by_seed, matched),
                margin_bp=_margin(by_seed, bp),
                floor=chosen,
                verdict=aggregate(judgements),
                three=aggregate_three(judgements),
            )
        )
    rows.sort(key=_place)
    return Group(_ranked(rows), len(records) - sum(len(runs) for runs in by_row.values()))


def _place(row: Row) -> tuple[float, str, str]:
    mean = row.accuracy.mean if row.accuracy else -math.inf
    return -mean, row.label, method_key(row.method)


def _ranked(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Rank all rows but the floors."""
    floor: dict[int, float] = {}
    ranks = tie_ranks(
        [
            floor if row.role == "floor" else accuracies(run.record for run in row.runs)
            for row in rows
        ]
    )
    shared = Counter(ranks)
    return tuple(
        replace(row, rank=rank, tied=rank is not None and shared[rank] > 1)
        for row, rank in zip(rows, ranks, strict=True)
    )


def judge_all(records: Sequence[RunRecord], settings: Settings = DEFAULT) -> list[Group]:
    """Group records by recipe and judge them; the order of the records has no influence."""
    by_recipe: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_recipe[recipe(record)].append(record)
    methods = {method_key(item.cell.method): item.cell.method for item in records}
    peers: dict[str, list[ComponentRef]] = defaultdict(list)  # by name: labelling stays quick
    for _, method in sorted(methods.items()):
        peers[method.name].append(method)
    return [_group(group, peers, settings) for _, group in sorted(by_recipe.items())]
