"""List the columns of the leaderboard: one entry has all that any format needs of a column.

The terminal, Markdown, LaTeX, the page, CSV, JSON and docs/leaderboard.schema.json follow
`COLUMNS`. Every other diagnostic, also of another package, has a column too (`further`). The values
of a column as data are fields (`fields`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from bench_core.analysis.cost import middle
from bench_core.analysis.stats import Estimate, median_of
from bench_core.analysis.verdicts.kinds import brief
from bench_core.analysis.verdicts.roles import BP, is_drawn
from bench_core.analysis.verdicts.rows import Group, Row
from bench_core.analysis.verdicts.verdict import points_of
from bench_core.report.tables.fields import (
    ESTIMATE,
    GAMMA,
    INTEGER,
    MARGIN,
    MEDIAN,
    NUMBER,
    PARAMS,
    RANK,
    ROLE,
    STRING,
    Field,
)
from bench_core.report.tables.json_schema import mapping, nullable, object_schema
from bench_core.report.text.layout import listed
from bench_core.report.text.numbers import (
    NONE,
    NOT_FINITE,
    compact,
    cosine,
    fraction,
    optional,
    share,
    with_interval,
)
from bench_core.report.words import criteria
from bench_core.report.words.rows import gamma, passport, seeds_of, shipped, value_of


@dataclass(frozen=True)
class Text:
    """The raw text of a table's cell.

    struck  whether it is a number that means nothing
    brief   the text without its interval, for a terminal and LaTeX; empty: the same
    """

    text: str
    struck: bool = False
    brief: str = ""


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard.

    header  its heading; a table for people may break it at |
    cell    its cells in a table for people
    main    whether a table for people has it unasked
    drop    the order in which a narrow terminal drops columns; None: never
    letter  the letter, or else the name, of the diagnostic that the column shows
    names   further names by which a user may ask for it
    optional  whether a table leaves it out if no row has a value
    fields  its values in CSV and JSON
    about   what it shows, after its heading; empty: `legend` explains it
    """

    key: str
    header: str
    cell: Callable[[Row], Text]
    fields: tuple[Field, ...] = ()
    right: bool = True
    main: bool = False
    drop: int | None = None
    letter: str = ""
    names: tuple[str, ...] = ()
    optional: bool = False
    about: str = ""

    @property
    def title(self) -> str:
        """The heading in one line."""
        return self.header.replace("|", " ")


ALL = "all"
OPERATIONS = "operations of products and convolutions in a step, in multiples of those of bp"
_FLOOR = object_schema(name="string", mean=NUMBER, missing=nullable("string"))


def _floor(row: Row) -> dict[str, Any]:
    floor = row.floor
    return {"name": floor.name, "mean": floor.mean, "missing": floor.reason or None}


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.0f}"


def _rank(row: Row) -> Text:
    if row.rank is None:
        return Text(NONE)
    low, high = row.rank
    return Text(str(low) if low == high else f"{low}–{high}")


def _accuracy(row: Row) -> Text:
    if row.accuracy is None:
        return Text(NONE)
    text = share(row.accuracy.mean, row.accuracy.half_width)
    if row.accuracy.half_width is None:
        return Text(f"{text} (n={row.accuracy.n})")
    return Text(text)


def _verdict(row: Row) -> Text:
    return Text(brief(row.verdict.kind))


def _n(row: Row) -> Text:
    done, total = len(row.finished), len(row.runs)
    return Text(str(done) if done == total else f"{done} of {total} done")


def _trials(row: Row) -> Text:
    return Text(NONE if row.trials is None else str(row.trials))


def _scored_on(row: Row) -> str | None:
    return None if row.tuned is None or row.trials is None else row.tuned.scored_on


def _points(margin: Estimate | None) -> Text:
    return Text(with_interval(margin))


def _matched(row: Row) -> Text:
    return _points(None if row.role == "floor" else row.margin_matched)


def _bp(row: Row) -> Text:
    own = row.role == "floor" and row.method.name == BP
    return _points(None if own else row.margin_bp)


def _gamma(row: Row) -> Text:
    deep = gamma(row)
    if deep.estimate is None:
        return Text(NONE)
    mean, half = cosine(deep.estimate.mean), deep.estimate.half_width
    interval = "" if half is None else f" ± {fraction(half)}"
    mark = "" if deep.in_use else " ‡"
    return Text(mean + interval + mark, struck=bool(deep.not_diagnostic), brief=mean + mark)


def _median(
    name: str,
    letter: str = "",
    written: Callable[[float], str] = compact,
    get: Callable[[Row], float | None] | None = None,
    of_machine: bool = False,
) -> dict[str, Any]:
    """Return cell and field of a column of medians.

    get         how a row gives it; None: of the diagnostic with this letter, else an attribute of
                records
    of_machine  whether it is the machine's as much as the rule's: runs of two have no median
    """

    def of_row(row: Row) -> float | None:
        if get is not None:
            return get(row)
        if letter:
            return value_of(row, letter)
        if of_machine and len(hardware([row])) > 1:
            return None
        return median_of(getattr(run.record, name) for run in row.finished)

    def of_some(row: Row) -> str:
        """Say of how many finished runs the median is; empty if of all."""
        n = seeds_of(row, letter) if letter else 0
        return f"n={n}" if 0 < n < len(row.finished) else ""

    def noted(row: Row) -> dict[str, Any]:
        value, some = of_row(row), of_some(row)
        if value is None and of_machine and row.finished:
            return {"value": None, "note": f"its runs are of {listed(hardware([row]))}"}
        if value is None or math.isfinite(value):
            note = {"note": f"of {some}, not of all finished runs"} if some else {}
            return {"value": value, **note}
        return {"value": None, "note": NOT_FINITE}

    def cell(row: Row) -> Text:
        text, some = optional(of_row(row), written), of_some(row)
        items = (run.deciding[letter][1] for run in row.finished if letter in run.deciding)
        silent = letter in _silent(row) or any(item.not_diagnostic for item in items)  # of a floor
        return Text(text + f" ({some})" * bool(some), struck=silent and text != NONE)

    return {"cell": cell, "fields": (MEDIAN(name, noted),), "letter": letter}


def hardware(rows: Iterable[Row]) -> list[str]:
    """Name the machines that trained the finished runs of rows."""
    return sorted({run.record.hardware for row in rows for run in row.finished})


def _silent(row: Row) -> dict[str, str]:
    """Map each letter that is not diagnostic in a run of the row to the reason."""
    return {k: v for run in row.runs for k, v in run.judgement.not_diagnostic}


_VERDICT = (
    STRING("verdict", "verdict.text"),
    Field("not_diagnostic", _silent, schema=mapping({"type": "string"})),
)
_METHOD = (STRING("method", "method.name", "rule"), PARAMS("params", "method.params"))
_MATCHED = (
    Field("floor", _floor, schema=_FLOOR, csv=()),
    MARGIN("margin_pp", "over_floor"),
    MARGIN("margin_matched_pp", "over_matched"),
)
_TUNED = (
    RANK("trials"),
    Field("scored_on", _scored_on, schema={"enum": ["validation", "test", None]}),
)
_DEPTH = ("d", "depth_utility")
_GAMMA = (GAMMA("gamma_deep", gamma),)
_BP = (MARGIN("margin_bp_pp", "over_bp"),)
_RESET = (ESTIMATE("reset_loss_pp", "reset"),)
_RESCALED = (
    MARGIN("margin_rescaled_pp", "rescaled.over"),
    STRING("rescaled_floor", lambda row: row.rescaled.floor.name if row.rescaled.floor else ""),
)
_THREE = (STRING("three_diagnostics", "verdict.three"),)
_SHIPPED = (STRING("from_reference", shipped, place=3),)
_PASSPORT = (STRING("passport", passport, place=3),)
COLUMNS = (
    Column(
        "rank",
        "#",
        _rank,
        (
            RANK("rank_low", lambda row: row.rank and row.rank[0]),
            RANK("rank_high", lambda row: row.rank and row.rank[1]),
        ),
        main=True,
    ),
    Column(
        "method",
        "rule",
        lambda row: Text(row.label),
        (*_METHOD, STRING("label"), ROLE("role")),
        right=False,
        main=True,
    ),
    Column("verdict", "verdict", _verdict, _VERDICT, right=False, main=True),
    Column("accuracy", "accuracy", _accuracy, (ESTIMATE("accuracy"),), right=False, main=True),
    Column("matched", "over own|floor", _matched, _MATCHED, main=True, drop=6, names=_DEPTH),
    Column("bp", "over bp|floor", _bp, _BP, main=True, drop=5),
    Column(
        "reset",
        "loss with|initial blocks",
        lambda row: _points(row.reset),
        _RESET,
        optional=True,
        about="loss with initial blocks: points of accuracy that are lost with all blocks put back "
        "to their initial weights, embedding and readout as trained",
    ),
    Column(
        "rescaled",
        "over random|of other scale",
        lambda row: _points(points_of(row.rescaled.over)),
        _RESCALED,
        optional=True,
        about="over random of other scale: points over the floors whose random blocks have another "
        "scale (floor_scales); of several the best that it does not beat, or the best of all",
    ),
    Column("gamma", "Γ|deep", _gamma, _GAMMA, main=True, drop=4, names=("Γ", "alignment")),
    Column(
        "n",
        "n",
        _n,
        (INTEGER("runs_total", lambda row: len(row.runs), "runs"),),
        about="n: finished seeds, over which the figures of a row are taken",
    ),
    Column(
        "shipped",
        "from",
        lambda row: Text(shipped(row) or NONE, brief="reference" * bool(shipped(row))),
        _SHIPPED,
        right=False,
        main=True,
        drop=5,
        optional=True,
        about="from: which rows have runs of the reference that ships with bench",
    ),
    Column("trials", "trials", _trials, _TUNED, main=True, optional=True),
    Column(
        "three_diagnostics", "D1 D2 D3", lambda row: Text(row.verdict.three), _THREE, right=False
    ),
    Column("growth", "growth", **_median("growth", "a"), names=("a", "scale_growth")),
    Column(
        "reference",
        "‖g_L‖ N=128",
        **_median("reference_n128", "b"),
        names=("b", "reference_floor"),
    ),
    Column(
        "flops",
        "cost|x bp",
        **_median("flops_over_bp", get=partial(middle, key="value")),
        main=True,
        drop=2,
        optional=True,
        about=f"cost x bp: {OPERATIONS}",
    ),
    Column("seconds", "seconds|a run", **_median("seconds", of_machine=True), main=True, drop=1),
    Column(
        "memory",
        "memory MB",
        **_median("peak_memory_bytes", written=_megabytes, of_machine=True),
        about="memory MB: peak memory of the process, libraries and data included",
    ),
    Column(
        "passes",
        "passes",
        **_median("forward_passes"),
        about="passes: batches that run through the busiest block in a step",
    ),
    Column(
        "passport",
        "uses",
        lambda row: Text(passport(row) or NONE),
        _PASSPORT,
        right=False,
        main=True,
        drop=3,
    ),
)
ABOVE = ("a", "b", "d", "step_cost")  # in the columns growth, reference, matched and flops


def further(rows: Iterable[Row]) -> list[Column]:
    """Return a column for each diagnostic of the rows that has none in `COLUMNS`."""
    rows, columns = list(rows), []
    for criterion in [*criteria.criteria(rows), *criteria.further(rows)]:
        letter, heading = criterion.letter, criterion.heading
        if letter not in ABOVE:
            header = heading if letter == criterion.name else f"{letter} {heading}"
            shown = _median(criterion.field, letter, criterion.text)
            names = (letter, criterion.name, criterion.short)
            title = criterion.item.title
            about = f"{header}: {title} ({criterion.short})" if title else ""
            columns.append(Column(criterion.field, header, **shown, names=names, about=about))
    return columns


def every_column(group: Group) -> list[Column]:
    """Return all columns of a recipe; an optional one stands only where a row has a value."""
    place = next(index for index, column in enumerate(COLUMNS) if column.key == "flops")
    columns = [*COLUMNS[:place], *further(group.rows), *COLUMNS[place:]]
    return [column for column in columns if not column.optional or has_value(column, group)]


def has_value(column: Column, group: Group) -> bool:
    """Decide whether a row of a recipe has a value in a column."""
    return any(column.cell(row).text != NONE for row in group.rows)


def columns_of(group: Group, asked: Collection[str] = ()) -> list[Column]:
    """Return the columns of a recipe's table for people: the main ones, and those asked for.

    Unasked, it also has n where rows have different numbers of seeds, floors of another scale set
    apart. A table of floors alone has a column of every further diagnostic, and none without a
    value.

    asked  keys or names; "all": every column
    """
    every = every_column(group)
    counted = any(column.key == "flops" for column in every)  # then no seconds are needed
    floors = all(row.role == "floor" for row in group.rows)  # then no column needs a margin
    rows = [row for row in group.rows if row.role != "floor" or is_drawn(row.method)]
    uneven = len({len(row.runs) for row in rows}) > 1  # reasons say which runs are not done
    chosen = []
    for column in every:
        wanted = not {column.key, *column.names, ALL}.isdisjoint(asked)
        unasked = column.main or (column.key == "n" and uneven)
        if floors:
            unasked = (unasked or column not in COLUMNS) and has_value(column, group)
        if wanted or (unasked and not (counted and column.key == "seconds")):
            chosen.append(replace(column, drop=None) if wanted else column)
    return chosen


def unknown(groups: Iterable[Group], asked: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the names that no column of these recipes has, and the keys of those that it has."""
    columns = [*COLUMNS, *(column for group in groups for column in further(group.rows))]
    names = {name for column in columns for name in (column.key, *column.names)}
    return [name for name in asked if name not in names | {ALL}], [c.key for c in columns]
