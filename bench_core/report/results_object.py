"""Give results as a Python object: tables, the leaderboard, figures and claims.

    from bench_core import load
    results = load("results")
    results.leaderboard()                      # a table, also in a notebook
    frame = results.epochs.to_pandas()         # a row per run and epoch
    results.figure("audit")                    # an Altair chart

`bench_core.run_suite` returns the same object.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from html import escape as html
from pathlib import Path
from typing import Any, overload

from bench_core.analysis.claims.board import of_reference
from bench_core.analysis.claims.outcomes import claims_of
from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.joined import beside_reference
from bench_core.analysis.verdicts.rows import Group
from bench_core.errors import UsageError
from bench_core.report import comparison, costs, export
from bench_core.report.claims_table import claim_text, expected_text
from bench_core.report.tables import columns as known
from bench_core.report.tables import legend, notes
from bench_core.report.tables.columns import columns_of
from bench_core.report.tables.data import flat_rows
from bench_core.report.tables.formats import Wanted, leaderboards
from bench_core.report.text.escape import visible
from bench_core.report.text.layout import listed
from bench_core.report.text.numbers import plural
from bench_core.report.view import View, view
from bench_core.report.words import reasons, summary
from bench_core.results.record import RunRecord


class Table(list[dict[str, Any]]):
    """A list of records: flat dictionaries of numbers and texts."""

    @property
    def columns(self) -> list[str]:
        """The keys of all records, in the order of their first appearance."""
        return list(dict.fromkeys(key for record in self for key in record))

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame. Raises UsageError if pandas is not installed."""
        try:
            import pandas
        except ImportError:
            raise UsageError("a DataFrame needs pandas: pip install pandas") from None
        return pandas.DataFrame.from_records(list(self), columns=self.columns)

    def to_arrow(self) -> Any:
        """Return a pyarrow Table. Raises UsageError if pyarrow is not installed."""
        return export.arrow(self)

    def __repr__(self) -> str:
        return f"<{len(self)} records: {', '.join(self.columns)}>"


class Leaderboard(Table):
    """The rows of all recipes, with verdicts; in a notebook and as text the leaderboard itself."""

    def __init__(
        self, suites: Sequence[SuiteResults], views: Sequence[View], wanted: Wanted
    ) -> None:
        super().__init__(flat_rows(views))
        self._suites, self._views, self._wanted = suites, views, wanted

    def __str__(self) -> str:
        return leaderboards(self._suites, wanted=self._wanted)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = []
        for shown in self._views:
            parts.append(f"<h3>{html(shown.title or shown.name)}</h3>")
            for header, group in shown.recipes:
                opening = filter(
                    None, [summary.opening(group), notes.warning(group, shown.settings), header]
                )
                parts += [f"<p>{_text(line)}</p>" for line in opening]
                parts += [self._html_table(shown, group), self._html_notes(shown, group)]
        return "\n".join(parts)

    def _html_table(self, shown: View, group: Group) -> str:
        columns = columns_of(group, self._wanted.columns)
        heads = "".join(f"<th>{_text(head)}</th>" for head in (*(c.title for c in columns), "why"))
        lines = []
        for row in self._wanted.rows(group, shown.settings):
            why = "; ".join(reasons.of_row(row, shown.settings))
            cells = [column.cell(row) for column in columns]
            texts = [f"<s>{_text(c.text)}</s>" if c.struck else _text(c.text) for c in cells]
            lines.append("".join(f"<td>{text}</td>" for text in [*texts, _text(why)]))
        body = "\n".join(f"<tr>{line}</tr>" for line in lines)
        return f"<table><thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody></table>"

    def _html_notes(self, shown: View, group: Group) -> str:
        keys = [column.key for column in columns_of(group, self._wanted.columns)]
        lines = notes.of_group(group, shown.settings, self._wanted.rows(group, shown.settings))
        lines += legend.of_all([group], shown.settings, keys)
        items = "\n".join(f"<li>{_text(line)}</li>" for line in lines)
        return f"<details><summary>notes</summary><ul>{items}</ul></details>"


def _text(text: str) -> str:
    return html(visible(text))


class Results(Sequence[RunRecord]):
    """The results of one or several suites.

    As a sequence it has the records of the runs (`run.json`): those that count, of `run_suite`
    those of the plan's cells, in its order.

    folders  the suite folders, beside a submission those of the reference too
    """

    def __init__(
        self, suites: Sequence[SuiteResults], records: Sequence[RunRecord] | None = None
    ) -> None:
        self._suites = list(suites)
        self._given = records

    @cached_property
    def records(self) -> list[RunRecord]:
        if self._given is not None:
            return list(self._given)
        counted = {_key(run.record) for shown in self._views for _, _, run in shown.runs}
        every = (record for suite in self._suites for record in suite.records)
        return [record for record in every if _key(record) in counted]

    @overload
    def __getitem__(self, index: int) -> RunRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[RunRecord]: ...
    def __getitem__(self, index: int | slice) -> RunRecord | list[RunRecord]:
        return self.records[index]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def folders(self) -> list[Path]:
        every = (folder for suite in self._suites for folder in (suite.folder, *suite.further))
        return list(dict.fromkeys(every))

    @cached_property
    def _views(self) -> list[View]:
        return [view(suite) for suite in self._suites]

    @cached_property
    def runs(self) -> Table:
        """A record per run that counts: cell, verdict, accuracy, diagnostics, costs, code."""
        return Table(export.runs(self._views))

    @cached_property
    def epochs(self) -> Table:
        """A record per run and epoch; epoch 0 is the untrained network."""
        return Table(export.epochs(self._views))

    @cached_property
    def measurements(self) -> Table:
        """A record per run, moment (untrained, trained) and diagnostic."""
        return Table(export.measurements(self._views))

    def leaderboard(self, floors: bool = False, columns: Collection[str] = ()) -> Leaderboard:
        """Return a record per rule, floor and recipe, which prints as the leaderboard.

        floors   print the floors too
        columns  print further columns, by key, letter or name of a diagnostic; "all": every one
        Raises UsageError for an unknown column.
        """
        groups = [group for shown in self._views for group in shown.groups]
        strangers, names = known.unknown(groups, columns)
        if strangers:
            text = f"no column {strangers[0]!r}; there are {listed(dict.fromkeys(names))}"
            raise UsageError(text)
        return Leaderboard(self._suites, self._views, Wanted(100, floors=floors, columns=columns))

    def claims(self) -> Table:
        """Return a record per published figure: holds, fails, or not run and why."""
        return Table(line for suite in self._suites for line in _claims(suite))

    def compare(self, a: str, b: str) -> Table:
        """Return a record per recipe that has both rules: B - A in points, paired by seed, and p.

        Raises UsageError for an unknown rule, and if no recipe has both.
        """
        return Table(comparison.records(comparison.methods(self._suites, a, b)))

    def costs(self, target: float | None = None) -> Table:
        """Return a record per rule and recipe: operations, memory, time and time to an accuracy.

        target  the accuracy to reach, 0 … 1; None: .9 of bp's
        Raises UsageError for a target that is no accuracy.
        """
        return Table(costs.records(self._views, target))

    def figure(self, name: str, number: int = 0) -> Any:
        """Return a figure of the report as an Altair chart.

        number  which one, if the results have several suites or recipes that show it
        Raises UsageError for an unknown name, and if the results have nothing to draw.
        """
        from bench_core.report.figures import NAMES, drawn
        from bench_core.report.figures.paper import paper

        if name not in NAMES:
            raise UsageError(f"no figure {name!r}; the figures are {listed(NAMES)}")
        figures = [item.figure for shown in self._views for item in drawn(shown, [name])]
        if not -len(figures) <= number < len(figures):
            count = plural(len(figures), "such figure") if figures else "nothing to draw it from"
            raise UsageError(f"figure {name!r}, number {number}: these results have {count}")
        import altair

        return altair.ConcatChart.from_dict(paper(figures[number]), validate=False)

    def __repr__(self) -> str:
        names = listed(f"{s.name} ({plural(len(s.runs), 'run')})" for s in self._views)
        own = (
            f"; {plural(len(self), 'record')} of run_suite's cells"
            if self._given is not None
            else ""
        )
        return f"<results of {names or 'no suite'}{own}>"

    def _repr_html_(self) -> str:
        return self.leaderboard()._repr_html_()


def _key(record: RunRecord) -> tuple[str, str | None]:
    return record.identity, record.checksum


def _claims(suite: SuiteResults) -> Iterator[dict[str, Any]]:
    for outcome in claims_of(of_reference(suite))[0]:
        claim, measured = outcome.claim, outcome.measured
        yield {
            "suite": suite.name,
            "claim": claim_text(claim, outcome.label, outcome.other),
            "method": outcome.label,
            "status": outcome.status,
            "expected": expected_text(claim),
            "measured": measured.value if measured else None,
            "low": measured.low if measured else None,
            "high": measured.high if measured else None,
            "n": measured.n if measured else 0,
            "source": claim.source,
            "notes": "; ".join(outcome.notes),
        }


def load(folders: Sequence[Path], records: Sequence[RunRecord] | None = None) -> Results:
    """Gather folders, with a warning for each run that cannot be read."""
    suites, troubles = beside_reference(folders)
    for trouble in troubles:
        warnings.warn(visible(trouble), stacklevel=3)
    return Results(suites, records)
