"""The rows of a leaderboard: a run, a method over its seeds, and the rows of one recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from bench_core.analysis.accuracies import Scored
from bench_core.analysis.stats import Estimate
from bench_core.analysis.verdicts.floors import is_finished, scored
from bench_core.analysis.verdicts.judge import Floor, Judgement, deciding
from bench_core.analysis.verdicts.ranks import Ranking
from bench_core.analysis.verdicts.recipes import shared
from bench_core.analysis.verdicts.rescaled import Rescaled
from bench_core.analysis.verdicts.roles import Role
from bench_core.analysis.verdicts.standing import Standing
from bench_core.analysis.verdicts.verdict import Margin, Verdict, needless, points_of
from bench_core.results.ledger import Tuned
from bench_core.results.record import Cell, ComponentRef, Measurement, RunRecord

Held = Literal["", "reset", "scale"]
RESET: Held = "reset"
SCALE: Held = "scale"


@dataclass(frozen=True)
class Run:
    """A record, its judgement, and what is known of it beside the record."""

    record: RunRecord
    judgement: Judgement
    standing: Standing

    @cached_property
    def deciding(self) -> dict[str, tuple[str, Measurement]]:
        """Map each letter to the name and the measurement of its diagnostic (`judge.deciding`)."""
        return deciding(self.record.measurements)


@dataclass(frozen=True)
class Row:
    """A method over its seeds.

    accuracy  over finished runs
    over_floor, over_matched, over_bp   margins over the floor that the suite chose, the rule's own,
              and that of bp
    replaced  the floor of the suite lies at chance and the margin over it is no loss: d is judged
              by the margin over bp's (`read`)
    reset     points of accuracy lost with all blocks back at their initial weights; None: not every
              finished run says
    rescaled  how it compares with random blocks of another scale
    held      its margin would pass, and is held open because of `reset` or of `rescaled`
    rank      lowest and highest rank of the simultaneous 95 % interval; None: not ranked
    tuned     the search that chose its recipe and options
    """

    label: str
    role: Role
    runs: tuple[Run, ...]
    accuracy: Estimate | None
    over_floor: Margin | None
    over_matched: Margin | None
    over_bp: Margin | None
    floor: Floor
    verdict: Verdict
    replaced: bool = False
    reset: Estimate | None = None
    rescaled: Rescaled = Rescaled()  # noqa: RUF009
    held: Held = ""
    rank: tuple[int, int] | None = None
    tuned: Tuned | None = None

    @property
    def trials(self) -> int | None:
        """The different trainings of its search; None for a floor and without a search."""
        return None if self.tuned is None or self.role == "floor" else self.tuned.tried

    @property
    def method(self) -> ComponentRef:
        return self.runs[0].record.cell.method

    @property
    def finished(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if is_finished(run.record))

    @property
    def complete(self) -> bool:
        return len(self.finished) == len(self.runs)

    @property
    def margin(self) -> Estimate | None:
        return points_of(self.over_floor)

    @property
    def margin_matched(self) -> Estimate | None:
        return points_of(self.over_matched)

    @property
    def margin_bp(self) -> Estimate | None:
        return points_of(self.over_bp)

    @property
    def over_read(self) -> Margin | None:
        """The margin by which d judges the row."""
        return self.over_bp if self.replaced else self.over_floor

    @property
    def dispensable(self) -> bool:
        """Whether its blocks need no training (`verdict.needless`)."""
        return needless(self.reset)

    @property
    def read(self) -> Estimate | None:
        """The points of the margin by which d judges the row."""
        return points_of(self.over_read)


@dataclass(frozen=True)
class Blind:
    """The margin of bp over a floor, in points, that leaves a recipe unable to judge d."""

    margin: Estimate
    floor: Floor


@dataclass(frozen=True)
class Group:
    """The rows of one recipe, best mean accuracy first, rows without a finished run last.

    ranking      of the rows that are ranked, in the order of `rows`
    blind        the margin of bp, if it is so small that the recipe cannot judge d
    contradicted cells of which a record with another status or accuracy was set aside
    older        identity of each run by older code than others → the modules that differ
    moved        rules that have runs of this recipe, whose values a search chose: they stand in the
                 recipe of the tuned rules
    """

    rows: tuple[Row, ...]
    set_aside: int
    ranking: Ranking
    blind: Blind | None = None
    contradicted: tuple[tuple[RunRecord, RunRecord], ...] = ()
    older: Mapping[str, Sequence[str]] = field(default_factory=dict)
    moved: tuple[str, ...] = ()

    @property
    def cell(self) -> Cell:
        """A cell with the settings that all rows share; those tuned by rule are "tuned"."""
        return shared(self.records[0], self.rows[0].tuned)

    @property
    def competing(self) -> tuple[Row, ...]:
        """The rows of methods and of the ceiling, without floors."""
        return tuple(row for row in self.rows if row.role != "floor")

    @cached_property
    def scored(self) -> Scored:
        """The samples on which its accuracies were measured."""
        return scored(self.records)

    @property
    def records(self) -> tuple[RunRecord, ...]:
        return tuple(run.record for row in self.rows for run in row.runs)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({record.cell.seed for record in self.records}))
