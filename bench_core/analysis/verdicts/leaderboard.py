"""Make the rows of a leaderboard: floors, margins, counts and ranks; pure functions of run records.

Runs are compared and averaged only within a recipe (arch, dataset, data, training). Failed runs
stay in the denominator of every verdict and have no part in a mean. A rule with such a run has no
rank, because its other runs are not a fair sample.

A seed counts once, because n is the number of seeds: `counted` chooses among several records.

`bench_core.analysis.verdicts.judge` judges one run, `verdict` a row.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from bench_core.analysis.accuracies import UNKNOWN, Scored, of_accuracies
from bench_core.analysis.stats import Estimate
from bench_core.analysis.verdicts.alignment import alignment, without_direction
from bench_core.analysis.verdicts.duplicates import contradicts, counted
from bench_core.analysis.verdicts.floors import Floors, accuracies, explained, is_finished
from bench_core.analysis.verdicts.judge import Floor, deciding, judge, threshold_of
from bench_core.analysis.verdicts.labels import label, method_key
from bench_core.analysis.verdicts.older_code import older
from bench_core.analysis.verdicts.ranks import rank
from bench_core.analysis.verdicts.recipes import recipe, recipe_under, tuned_of
from bench_core.analysis.verdicts.rescaled import Rescaled, compare
from bench_core.analysis.verdicts.roles import BP, is_ceiling, is_floor, role
from bench_core.analysis.verdicts.rows import RESET, SCALE, Blind, Group, Held, Row, Run
from bench_core.analysis.verdicts.settings import Settings
from bench_core.analysis.verdicts.untrained import untrained
from bench_core.analysis.verdicts.verdict import (
    AT_CHANCE,
    BEATS,
    CANNOT_JUDGE,
    EQUAL,
    EQUAL_OF_BP,
    LOST_OF_BP,
    LOST_OF_FLOOR,
    NONE_OF_BP,
    ONE_SEED_OF_BP,
    ONE_SEED_OF_FLOOR,
    UNTRIED,
    UNTRIED_BELOW,
    Margin,
    Reading,
    at_chance,
    below_zero,
    ends,
    margin,
    needless,
    outdone,
    points_of,
    reading,
    verdict,
    worse,
)
from bench_core.results.record import ComponentRef, RunRecord

DEFAULT = Settings()


def _group(
    records: Sequence[RunRecord], peers: Mapping[str, Sequence[ComponentRef]], settings: Settings
) -> Group:
    cells: dict[str, dict[int, list[RunRecord]]] = defaultdict(lambda: defaultdict(list))
    key_of = partial(method_key, defaults=settings.recorded)
    for record in records:
        cells[key_of(record.cell.method)][record.cell.seed].append(record)
    by_row = {
        key: [counted(seeds[seed], settings) for seed in sorted(seeds)]
        for key, seeds in sorted(cells.items())
    }
    chosen = [run for runs in by_row.values() for run in runs]
    floors = Floors(by_row, peers, settings)
    rules = _Recipe(by_row, floors, settings)
    rows = rules.rows()
    ranked = [
        accuracies(run.record for run in row.runs) if row.role != "floor" and row.complete else {}
        for row in rows
    ]
    own = [value for by_seed in ranked for value in by_seed.values()]
    step = Scored(floors.scored.samples).step(own)
    ranking = rank(ranked, 0.0 if explained(records) else step)
    for record in settings.older:  # they do not count, but may contradict, unless they only raised
        same = recipe_under(record, settings) == recipe_under(records[0], settings)
        if same and record.status != "failed":
            cells[key_of(record.cell.method)][record.cell.seed].append(record)
    contradicted = [
        (run, other)
        for run in chosen
        for other in cells[key_of(run.cell.method)][run.cell.seed]
        if contradicts(run, other)
    ]
    return Group(
        tuple(replace(row, rank=at) for row, at in zip(rows, ranking.intervals, strict=True)),
        len(records) - len(chosen),
        ranking,
        rules.blind,
        tuple(contradicted),
        older(chosen, settings.used),
    )


class _Recipe:
    """The rules of one recipe, and what is the same for all of their rows.

    blind    why the recipe cannot judge d (`_blind`). Then d judges only a rule whose whole
             interval lies above the threshold. With a margin shown to be below 0 the recipe does
             not train bp: d judges no rule, and none is compared with bp's floor.
    chance   the accuracy of guessing that most runs state; 0 if it is explained variance, which a
             score below that of the mean does not fall under
    """

    def __init__(
        self, by_row: Mapping[str, Sequence[RunRecord]], floors: Floors, settings: Settings
    ) -> None:
        self.by_row, self.floors, self.settings = by_row, floors, settings
        self.blind = _blind(by_row, floors, settings)
        self.does_not_train = worse(self.blind.margin if self.blind else None)
        every = [run for runs in by_row.values() for run in runs]
        self.expected, self.untrained = _expected(by_row), untrained(every)
        chances = Counter(run.chance for run in every if run.chance is not None)
        self.chance = max(chances, key=lambda value: (chances[value], value), default=None)
        if self.chance is None and explained(every):
            self.chance = 0.0
        self.bp = floors.bp()
        self.bp_at_chance = self._at_chance(self.bp)

    def rows(self) -> list[Row]:
        """Judge all rows; they come as `Group.rows` has them, without ranks."""
        return sorted((self._row(key, runs) for key, runs in self.by_row.items()), key=_place)

    def _row(self, key: str, runs: Sequence[RunRecord]) -> Row:
        ref, by_seed, floors = runs[0].cell.method, accuracies(runs), self.floors
        matched = floors.matched(runs)
        chosen = floors.chosen(matched)
        over, over_matched, over_bp = (
            self._margin(runs, floor) for floor in (chosen, matched, self.bp)
        )
        own, limits = points_of(over), _limits(runs, self.settings)
        mute = self._at_chance(chosen) and not below_zero(own)  # a low floor inflates gains alone
        no_bp = self.does_not_train or (self.blind is not None and is_ceiling(runs[0]))
        below = None if no_bp else points_of(over_bp)
        read = below if mute else own
        unsure = self.does_not_train or not _clears(read, limits.values())
        unjudged = self.blind is not None and unsure
        silent = CANNOT_JUDGE if unjudged else AT_CHANCE if mute else ""
        expected = self.expected[key]
        judgements = [
            judge(run, chosen, matched, self.bp, self.settings, expected, self.untrained, silent)
            for run in runs
        ]
        no_floor = mute and (self.bp_at_chance or below is None)
        reset = None if is_floor(runs[0]) else self._reset(runs)
        readings: dict[str, Reading] = {
            letter: "none" if unjudged or no_floor else reading(read, *limit)
            for letter, limit in limits.items()
        }
        passed = {letter for letter, own in readings.items() if own == "passes"}
        rescaled = self._rescaled(runs, mute and not unjudged, limits)
        # random blocks, under this embedding and readout or of another scale, are floors too
        held: Held = RESET if needless(reset) else SCALE if rescaled.outdone else ""
        held = held if passed else ""
        if held:
            readings |= dict.fromkeys(passed, "open")
        broken = sum(run.status == "done" and not is_finished(run) for run in runs)
        replaced = mute and not unjudged
        few = _unsure(own, below, mute, replaced, floors.none_finished(BP))
        if not few and not unjudged and (self.bp if replaced else chosen).lost & by_seed.keys():
            few = LOST_OF_BP if replaced else LOST_OF_FLOOR
        if not few and passed == limits.keys() and not held:
            read_off = [alignment(*pair) for pair in zip(runs, judgements, strict=True)]
            aimless = without_direction([item for item in read_off if item is not None])
            few = LOST_OF_FLOOR * rescaled.lost
            if not few and not is_ceiling(runs[0]):  # which has the gradient
                below_bp = self._below_bp_rescaled(runs, mute and not unjudged)
                few = UNTRIED * (aimless and not rescaled.tried) or UNTRIED_BELOW * below_bp
        values, counts = by_seed.values(), not explained(runs)
        return Row(
            label=label(ref, floors.peers[ref.name], self.settings.defaults),
            role=role(runs[0]),
            runs=tuple(map(Run, runs, judgements, map(self.settings.standing, runs))),
            accuracy=of_accuracies(values, floors.scored, counts=counts) if by_seed else None,
            over_floor=over,
            over_matched=over_matched,
            over_bp=over_bp,
            floor=chosen,
            verdict=verdict(judgements, readings, below, broken, few, _still(runs)),
            replaced=replaced and not is_floor(runs[0]),
            reset=reset,
            rescaled=rescaled,
            held=held,
            tuned=tuned_of(runs[0], self.settings),
        )

    def _margin(self, runs: Sequence[RunRecord], floor: Floor) -> Margin | None:
        """Return the margin of a row over a floor; None of a floor over itself."""
        by_seed = accuracies(runs)
        if is_floor(runs[0]) and floor.accuracies == by_seed:
            return None
        return margin(by_seed, floor, self.floors.scored, not explained(runs))

    def _reset(self, runs: Sequence[RunRecord]) -> Estimate | None:
        """Return the points that its finished runs lose with initial blocks, if all of them say.

        Blocks that may train and did not change lose nothing.
        """
        finished = [run for run in runs if is_finished(run)]
        lost = []
        for run in finished:
            changed, may = run.blocks_changed or (None, 0)
            before = (
                run.accuracy if run.recalibrated_accuracy is None else run.recalibrated_accuracy
            )
            after = before if changed == 0 < may else run.reset_accuracy
            if before is None or after is None or not math.isfinite(before - after):
                return None
            lost.append(before - after)
        if not lost:
            return None
        return of_accuracies(lost, self.floors.scored, 2, not explained(runs)).scaled(100.0)

    def _rescaled(
        self,
        runs: Sequence[RunRecord],
        replaced: bool,
        limits: Mapping[str, tuple[float, str | None]],
    ) -> Rescaled:
        """Compare a row with random blocks of another scale."""
        if is_floor(runs[0]):
            return Rescaled()
        return compare(
            self.floors.rescaled(runs[0].cell.method, replaced),
            lambda floor: self._margin(runs, floor),
            self._at_chance,
            accuracies(runs).keys(),
            limits.get("d", (BEATS, None))[0],
        )

    def _below_bp_rescaled(self, runs: Sequence[RunRecord], replaced: bool) -> bool:
        """Decide whether random blocks of a scale at which its own were not trained may explain a
        row: bp's reach more with it than as drawn, and the row is not shown to beat these.
        """
        ref, limit = runs[0].cell.method, _limits(runs, self.settings).get("d", (BEATS, None))[0]
        own = {scale for scale, floor in self.floors.rescaled(ref, replaced) if floor.accuracies}
        drawn = -math.inf if self.bp.mean is None else self.bp.mean
        return any(
            scale not in own and outdone(points_of(self._margin(runs, floor)), limit)
            for scale, floor in self.floors.bp_rescaled()
            if floor.mean is not None and floor.mean > drawn
        )

    def _at_chance(self, floor: Floor) -> bool:
        scored = UNKNOWN if self.chance == 0 else self.floors.scored  # it is no share of samples
        return at_chance(floor.accuracies.values(), self.chance, scored)


def _still(runs: Iterable[RunRecord]) -> bool:
    """Decide whether no block that may train has changed in any done run that states it."""
    done = (run.blocks_changed for run in runs if run.status == "done")
    blocks = [pair for pair in done if pair is not None]
    return bool(blocks) and all(changed == 0 < may for changed, may in blocks)


def _clears(points: Estimate | None, limits: Iterable[tuple[float, str | None]]) -> bool:
    """Decide whether the whole interval of a margin lies above its thresholds."""
    if points is None or points.half_width is None:
        return False
    return all(ends(points)[0] > limit for limit, way in limits if way != "above")


def _unsure(
    own: Estimate | None, below: Estimate | None, mute: bool, replaced: bool, no_bp: bool
) -> str:
    """Say which margin has no interval to judge a row of several seeds by; empty if none.

    own       the margin over its floor, which is not read if `mute`
    below     the margin over bp's floor, which is read in its place if `replaced`
    no_bp     bp's floor has no finished run
    """
    if own is not None and own.half_width is None and not mute:
        return EQUAL if own.n > 1 else ONE_SEED_OF_FLOOR
    if below is not None and below.half_width is None and (replaced or worse(below)):
        return EQUAL_OF_BP if below.n > 1 else ONE_SEED_OF_BP
    return NONE_OF_BP * no_bp


def _expected(by_row: Mapping[str, Sequence[RunRecord]]) -> dict[str, set[str]]:
    """Map each row to the diagnostics that all of its runs need: its own and those of two rules."""
    own = {
        key: {
            letter
            for run in runs
            if run.status == "done" and not is_floor(run)
            for letter in deciding(run.measurements)
        }
        for key, runs in by_row.items()
    }
    rules: dict[str, set[str]] = defaultdict(set)
    for key, letters in own.items():
        for letter in letters:
            rules[letter].add(by_row[key][0].cell.method.name)
    shared = {letter for letter, names in rules.items() if len(names) > 1}
    return {key: shared | letters for key, letters in own.items()}


def _limits(runs: Sequence[RunRecord], settings: Settings) -> dict[str, tuple[float, str | None]]:
    """Map each diagnostic that compares a rule with its floor to its threshold and direction."""
    return {
        letter: (threshold_of(name, item, settings.thresholds) or 0.0, item.direction)
        for run in runs
        if run.status == "done"
        for letter, (name, item) in deciding(run.measurements).items()
        if item.across == "floor"
    }


def _blind(
    by_row: Mapping[str, Sequence[RunRecord]], floors: Floors, settings: Settings
) -> Blind | None:
    """Return the margin of bp over its own random blocks if its mean is below the threshold of d.

    Of bp the finished runs count. Without a run of its random blocks a given number counts, but not
    the floor of another rule.
    """
    for runs in by_row.values():
        if not is_ceiling(runs[0]):
            continue
        own = floors.matched(runs)
        given = floors.chosen(own)
        floor = given if own.mean is None and given.kind == "literal" else own
        over = margin(accuracies(runs), floor, floors.scored, not explained(runs))
        limit, _ = _limits(runs, settings).get("d", (-math.inf, None))
        if over is not None and round(over.estimate.mean, 9) < limit:
            return Blind(over.estimate, floor)
    return None


def _place(row: Row) -> tuple[float, str, str]:
    mean = row.accuracy.mean if row.accuracy else -math.inf
    return -mean, row.label, method_key(row.method)


def judge_all(records: Sequence[RunRecord], settings: Settings = DEFAULT) -> list[Group]:
    """Group records by recipe and judge them; the order of the records has no influence."""
    by_recipe: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_recipe[recipe_under(record, settings)].append(record)
    methods = {method_key(item.cell.method): item.cell.method for item in records}  # as written
    peers: dict[str, list[ComponentRef]] = defaultdict(list)  # by name: labelling stays quick
    for _, method in sorted(methods.items()):
        peers[method.name].append(method)
    moved: dict[str, set[str]] = defaultdict(set)
    for record in records:
        tuned = tuned_of(record, settings)
        if tuned is None or not tuned.recipe or is_floor(record):
            continue
        if (plain := recipe(record)) in by_recipe:
            method = record.cell.method
            moved[plain].add(label(method, peers[method.name], settings.defaults))
    return [
        replace(_group(group, peers, settings), moved=tuple(sorted(moved[home])))
        for home, group in sorted(by_recipe.items())
    ]
