"""Collect the runs of a suite for a page or a figure, and read values of one run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal, get_args

from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.sensitivity import Sensitivity, sensitivities
from bench_core.analysis.verdicts.alignment import alignment
from bench_core.analysis.verdicts.labels import method_key
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.analysis.verdicts.roles import is_floor
from bench_core.analysis.verdicts.rows import Group, Row, Run
from bench_core.analysis.verdicts.settings import Settings
from bench_core.names import FILE
from bench_core.report.text.escape import visible
from bench_core.report.text.numbers import fraction, optional, plural
from bench_core.report.words import row_doubts
from bench_core.report.words.criteria import Criterion, criteria_of
from bench_core.report.words.headings import distinctions, headings
from bench_core.report.words.rows import N
from bench_core.results import epochs
from bench_core.results.details import finite
from bench_core.results.epochs import Epoch
from bench_core.results.record import Measurement, RunRecord, cell_key
from bench_core.results.store import Unreadable
from bench_core.suite.cells import built_in

State = Literal["healthy", "fired", "not judged"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class View:
    """The results of a suite, judged recipe by recipe; each recipe has a header."""

    results: SuiteResults
    groups: tuple[Group, ...]
    headers: tuple[str, ...]

    @property
    def settings(self) -> Settings:
        return self.results.settings

    @property
    def name(self) -> str:
        return visible(self.results.name)

    @property
    def title(self) -> str:
        """Return the suite's title if it has runs here, else a remark on the runs.

        An option may have set another title.
        """
        title, remark = self._title(self.results.records)
        return title or remark

    def title_of(self, group: Group) -> tuple[str, str]:
        """Return the title of a table alone, and a remark if it has no cell of the suite."""
        return self._title(group.records)

    def _title(self, records: Iterable[RunRecord]) -> tuple[str, str]:
        """Return a title for some of the runs, or "" and the reason why they have none.

        It counts the suite's runs if some are missing, and the rules that options added.
        """
        title, file = self.settings.title, self.results.file
        if file is None or title != file.title:
            return title, ""
        cells, every = self.results.own_cells, list(records)
        own = [record for record in every if cell_key(record.cell) in cells]
        if not own and file.cells is None:
            return "", "not the whole suite: run with options, such as --method or --set"
        if not own:
            return "", f"Other rules or settings than in the file of {self.results.name}"
        key = partial(method_key, defaults=self.settings.recorded)
        rules = [
            {key(record.cell.method) for record in some if not is_floor(record)}
            for some in (every, own)
        ]
        total, added = len(file.cells or ()), len(rules[0] - rules[1])
        others = [
            record
            for record in every
            if cell_key(record.cell) not in cells
            and not is_floor(record)
            and key(record.cell.method) in rules[1]
        ]
        beside = [f"{len(cells)} of its {total} runs"] * (len(cells) < total)
        beside += [f"and {plural(added, 'more rule')}"] * bool(added)
        if others and len(cells) < total:  # else each stands under a heading with its settings
            beside.append(f"and {plural(len(others), 'run')} with other settings")
        return f"{title or self.name} ({', '.join(beside)})" if beside else title, ""

    @property
    def description(self) -> str:
        """Return the suite's description; "" if the suite is incomplete here."""
        text, file = self.results.description, self.results.file
        of_file = file is not None and text == file.description
        return "" if of_file and not self.results.is_suite else text

    @property
    def recipes(self) -> list[tuple[str, Group]]:
        return list(zip(self.headers, self.groups, strict=True))

    @property
    def rows(self) -> list[Row]:
        return [row for group in self.groups for row in group.rows]

    @property
    def counts(self) -> dict[str, int]:
        """Count the runs of each kind of verdict, the most frequent kind first."""
        return dict(Counter(run.judgement.kind for _, _, run in self.runs).most_common())

    def epochs(self, record: RunRecord) -> tuple[Epoch, ...]:
        """Read the epochs of a run; a folder that cannot be read has none."""
        try:
            return epochs.read(self.results.run_folder(record), epochs.stated(record))
        except Unreadable:
            return ()

    @cached_property
    def _doubts(self) -> list[tuple[Row, list[str]]]:
        return [
            (row, row_doubts.of_row(row, group, self.settings))
            for group in self.groups
            for row in group.rows
        ]

    def doubts(self, row: Row) -> list[str]:
        """Return what a reader must know beside the verdict of a row of this view."""
        return next(doubts for own, doubts in self._doubts if own is row)

    @cached_property
    def distinctions(self) -> list[dict[str, str]]:
        """Map for each recipe the settings in which the recipes differ to their texts."""
        every = distinctions(self.results, self.groups)
        return [{visible(key): visible(text) for key, text in own.items()} for own in every]

    @cached_property
    def sensitivities(self) -> list[Sensitivity]:
        """Compute how much the flags of the runs depend on each threshold."""
        return sensitivities(self.groups, self.settings)

    @cached_property
    def runs(self) -> tuple[tuple[int, Row, Run], ...]:
        """Return every run that counts, with the number of its recipe and its row."""
        rows = ((k, row) for k, group in enumerate(self.groups) for row in group.rows)
        return tuple((k, row, run) for k, row in rows for run in row.runs)


def view(results: SuiteResults) -> View:
    groups = judge_all(results.records, results.settings)
    return View(results, tuple(groups), tuple(headings(results, groups)))


def name_of(row: Row) -> str:
    """Return the name of a row in figures: without the file if that has the name of its rule."""
    file, _, rule = row.method.name.rpartition("/")
    alike = file == f"{rule}{FILE}" and rule not in built_in()
    return visible(row.label.removeprefix(f"{file}/") if alike else row.label)


def state(run: Run, letter: str) -> State:
    """Return the state of a diagnostic in one run. Floors and failed runs are not judged."""
    judgement = run.judgement
    if letter in judgement.fired:
        return "fired"
    quiet = letter in judgement.missing or letter in dict(judgement.not_diagnostic)
    unjudged = quiet or judgement.status != "done" or judgement.role == "floor"
    return "not judged" if unjudged else "healthy"


def value(run: Run, letter: str) -> float | None:
    """Return a diagnostic's value in the units of `Criterion.shown`; it may be infinite or NaN."""
    if run.record.status != "done" or letter not in run.deciding:
        return None
    criterion = Criterion(letter, *run.deciding[letter])
    stored = run.judgement.margin if criterion.margin else criterion.item.value
    return None if stored is None else criterion.shown(stored)


def thresholds(group: Group, settings: Settings) -> dict[str, list[float]]:
    """Return the limits in force by letter, in the units of `value`; several if runs differ."""
    limits: dict[str, set[float]] = defaultdict(set)
    for row in group.competing:
        for run in row.finished:
            for criterion in criteria_of(run):
                limit = finite(criterion.limit(settings.thresholds))
                if limit is not None:
                    limits[criterion.letter].add(criterion.shown(limit))
    return {letter: sorted(values) for letter, values in limits.items()}


def shown_accuracy(record: RunRecord) -> str:
    """Write the accuracy of a run that is done."""
    return optional(record.accuracy if record.status == "done" else None, fraction)


def state_norm(record: RunRecord | Epoch) -> float | None:
    """Return ‖h_L‖, the median per-sample norm of the last state after training."""
    return last_of(record.measurements.get("scale_growth"), "h")


def last_of(item: Measurement | None, detail: str) -> float | None:
    """Return the last entry of a list in the details of a measurement, if it is finite."""
    values = item.details.get(detail) if item is not None else None
    return finite(values[-1]) if isinstance(values, (list, tuple)) and values else None


def gamma_deep(run: Run) -> tuple[float | None, str | None]:
    """Return Γ deep of one run, and the reason if it means nothing."""
    item = alignment(run.record, run.judgement)
    return (None, None) if item is None else (item.deep, item.not_diagnostic)


@dataclass(frozen=True)
class Point:
    """One epoch: ‖h_L‖, ‖g_L‖ at N = 128 and accuracy; None: not measured or not finite."""

    epoch: int
    h: float | None
    g: float | None
    accuracy: float | None


def curve(rows: Sequence[Epoch]) -> list[Point]:
    """Return ‖h_L‖, ‖g_L‖ and accuracy by epoch."""
    points = []
    for row in rows:
        g = last_of(row.measurements.get("reference_floor"), "g")
        g = None if g is None else g / N
        points.append(Point(row.epoch, state_norm(row), g, finite(row.accuracy)))
    return points
