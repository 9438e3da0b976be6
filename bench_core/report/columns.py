"""List the columns of the leaderboard: one entry has all that any format needs of a column.

The terminal, Markdown, LaTeX, the page, CSV, JSON and docs/leaderboard.schema.json follow
`COLUMNS`: a new column is one entry here. A diagnostic of another package that takes part in
verdicts has a column too (`columns_of`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from operator import attrgetter
from typing import Any, get_args

from bench_core.analysis.judge import BP, Role
from bench_core.analysis.leaderboard import Group, Row
from bench_core.analysis.stats import Estimate
from bench_core.report.criteria import criteria
from bench_core.report.numbers import NONE, compact, fraction, signed, with_interval
from bench_core.report.rows import Gamma, Median, gamma, median_of, passport, value_of
from bench_core.results.hashing import jsonable, line_text

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Text:
    """The raw text of a table's cell.

    struck  whether it is a number that means nothing
    brief   the text without its interval, for a terminal and LaTeX; empty: the same
    """

    text: str
    struck: bool = False
    brief: str = ""


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Kind:
    """The form of a value in JSON and CSV.

    json   the value in JSON
    csv    suffix of the field's name → the value in CSV; a field without any is not in CSV
    place  its place in a line of CSV: single values, estimates, medians, codes
    """

    schema: Schema
    json: Callable[[Any], Any] = _same
    csv: Mapping[str, Callable[[Any], Any]] = field(default_factory=lambda: {"": _same})
    place: int = 0


@dataclass(frozen=True)
class Field:
    """A value of a row as data.

    get  how a row gives the value, or an attribute of the row, by default of the field's name
    csv  the name in CSV where that differs
    """

    name: str
    kind: Kind
    get: Callable[[Row], Any] | str = ""
    csv: str = ""

    def value(self, row: Row) -> Any:
        """Return the value of a row."""
        get = attrgetter(self.get or self.name) if isinstance(self.get, str) else self.get
        return get(row)

    def json(self, row: Row) -> Any:
        """Return the value in JSON."""
        return self.kind.json(self.value(row))

    @property
    def names(self) -> list[str]:
        """Return the names of its columns in CSV."""
        return [(self.csv or self.name) + suffix for suffix in self.kind.csv]

    def flat(self, row: Row) -> dict[str, Any]:
        """Return the value of each column of CSV."""
        value = self.value(row)
        parts = (part(value) for part in self.kind.csv.values())
        return dict(zip(self.names, parts, strict=True))


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard.

    cell    its cells in a table for people
    short   a heading for a narrow terminal
    drop    the order in which a narrow terminal drops columns; None: never.
            Under `SHORTENED` before texts are shortened, else after
    letter  the letter of the diagnostic that the column shows
    fields  its values in CSV and JSON
    """

    key: str
    header: str
    cell: Callable[[Row], Text]
    fields: tuple[Field, ...] = ()
    right: bool = True
    short: str = ""
    drop: int | None = None
    letter: str = ""


SHORTENED = 10


# ---------------------------------------------------------------------------------- kinds of data


def object_schema(**properties: Schema | str) -> dict[str, Any]:
    """Describe an object with exactly these properties; a text is the name of a type."""
    typed = {k: {"type": v} if isinstance(v, str) else v for k, v in properties.items()}
    return {
        "type": "object",
        "properties": typed,
        "required": list(typed),
        "additionalProperties": False,
    }


def nullable(name: str) -> dict[str, Any]:
    """Describe a value of this type or null."""
    return {"type": [name, "null"]}


def array(items: Schema) -> dict[str, Any]:
    """Describe a list."""
    return {"type": "array", "items": items}


def mapping(values: Schema) -> dict[str, Any]:
    """Describe an object with any keys."""
    return {"type": "object", "additionalProperties": values}


def _gamma_json(deep: Gamma) -> dict[str, Any]:
    mean = deep.estimate
    return {
        "value": mean and mean.mean,
        "half_width": mean and mean.half_width,
        "n": mean.n if mean else 0,
        "not_diagnostic": deep.not_diagnostic,
    }


def _part(name: str, path: str = "", default: Any = None) -> Callable[[Any], Any]:
    """Return a function that reads an attribute of a value, or of the value's attribute `path`."""
    return lambda value: getattr(getattr(value, path) if path else value, name, default)


def _of_estimate(path: str = "") -> dict[str, Callable[[Any], Any]]:
    return {
        "": _part("mean", path),
        "_half_width_95": _part("half_width", path),
        "_std": _part("std", path),
        "_n": _part("n", path, 0),
    }


NUMBER = nullable("number")
STRING = Kind({"type": "string"})
INTEGER = Kind({"type": "integer"})
RANK = Kind(nullable("integer"))
FLAG = Kind({"type": "boolean"}, csv={"": lambda flag: "yes" if flag else "no"})
ROLE = Kind({"enum": list(get_args(Role))})
CODES = replace(STRING, place=3)
PARAMS = Kind({"type": "object"}, jsonable, {"": line_text})
FLOOR = Kind(object_schema(name="string", mean=NUMBER, missing=nullable("string")), csv={})
ESTIMATE = Kind(
    {"$ref": "#/$defs/estimate"}, lambda mean: mean and asdict(mean), _of_estimate(), place=1
)
_STRUCK = "why the value means nothing; then it must not be shown without this"
GAMMA = Kind(
    object_schema(
        value=NUMBER,
        half_width=NUMBER,
        n="integer",
        not_diagnostic=nullable("string") | {"description": _STRUCK},
    ),
    _gamma_json,
    _of_estimate("estimate") | {"_not_diagnostic": _part("not_diagnostic")},
    place=1,
)
MEDIAN = Kind(
    {"$ref": "#/$defs/median"},
    lambda median: {key: item for key, item in asdict(median).items() if key == "value" or item},
    {"": _part("value"), "_note": _part("note")},
    place=2,
)


def _floor(row: Row) -> dict[str, Any]:
    floor = row.floor
    return {"name": floor.name, "mean": floor.mean, "missing": floor.reason or None}


# --------------------------------------------------------------------------------- cells for people


def _rank(row: Row) -> Text:
    return Text(NONE if row.rank is None else f"{row.rank}=" if row.tied else str(row.rank))


def _accuracy(row: Row) -> Text:
    if row.accuracy is None:
        return Text(NONE)
    mean, half = fraction(row.accuracy.mean), row.accuracy.half_width
    if half is None:
        return Text(f"{mean} (n=1: no interval)", brief=f"{mean} (n=1)")
    return Text(f"{mean} ± {fraction(half)}")


def _n(row: Row) -> Text:
    done, total = len(row.finished), len(row.runs)
    return Text(str(done) if done == total else f"{done} of {total} done")


def _points(margin: Estimate | None) -> Text:
    return Text(with_interval(margin), brief=NONE if margin is None else signed(margin.mean))


def _matched(row: Row) -> Text:
    return _points(None if row.role == "floor" else row.margin_matched)


def _bp(row: Row) -> Text:
    own = row.role == "floor" and row.method.name == BP
    return _points(None if own else row.margin_bp)


def _gamma(row: Row) -> Text:
    deep = gamma(row)
    if deep.estimate is None:
        return Text(NONE)
    mean, half = fraction(deep.estimate.mean), deep.estimate.half_width
    mean = mean if mean.startswith("-") else f"+{mean}"
    interval = "" if half is None else f" ± {fraction(half)}"
    mark = "" if deep.in_use else " ‡"
    return Text(mean + interval + mark, struck=bool(deep.not_diagnostic), brief=mean + mark)


def _median(
    name: str, get: Callable[[Row], Median], written: Callable[[float], str] = compact
) -> dict[str, Any]:
    """Return the cell and the field of a column of medians."""

    def cell(row: Row) -> Text:
        median = get(row)
        return Text((median.note or NONE) if median.value is None else written(median.value))

    return {"cell": cell, "fields": (Field(name, MEDIAN, get),)}


def _criterion(name: str, letter: str, written: Callable[[float], str] = compact) -> dict[str, Any]:
    return {"letter": letter, **_median(name, partial(value_of, letter=letter), written)}


def _over_runs(attribute: str, written: Callable[[float], str] = compact) -> dict[str, Any]:
    """Return the cell and the field of a column of medians of an attribute of records."""

    def get(row: Row) -> Median:
        return median_of(getattr(run.record, attribute) for run in row.finished)

    return _median(attribute, get, written)


# ------------------------------------------------------------------------------------- the columns

COLUMNS = (
    Column("rank", "#", _rank, (Field("rank", RANK), Field("tied", FLAG))),
    Column(
        "method",
        "method",
        lambda row: Text(row.label),
        (
            Field("method", STRING, "method.name"),
            Field("params", PARAMS, "method.params"),
            Field("label", STRING),
            Field("role", ROLE),
        ),
        right=False,
    ),
    Column("accuracy", "accuracy", _accuracy, (Field("accuracy", ESTIMATE),), right=False),
    Column("n", "n", _n, (Field("runs_total", INTEGER, lambda row: len(row.runs), csv="runs"),)),
    Column(
        "verdict",
        "verdict",
        lambda row: Text(row.verdict),
        (Field("verdict", STRING),),
        right=False,
    ),
    Column(
        "three",
        "D1 D2 D3",
        lambda row: Text(row.three or NONE),
        (Field("three_diagnostics", STRING, "three"),),
        right=False,
        drop=4,
    ),
    Column(
        "matched",
        "Δ matched",
        _matched,
        (
            Field("floor", FLOOR, _floor),
            Field("margin_pp", replace(ESTIMATE, csv={}), "margin"),
            Field("margin_matched_pp", ESTIMATE, "margin_matched"),
        ),
        short="Δ pp",
        drop=16,
    ),
    Column(
        "bp",
        "Δ bp floor",
        _bp,
        (Field("margin_bp_pp", ESTIMATE, "margin_bp"),),
        short="Δ bp",
        drop=15,
    ),
    Column("gamma", "Γ deep", _gamma, (Field("gamma_deep", GAMMA, gamma),), drop=13),
    Column("growth", "growth", **_criterion("growth", "a"), drop=11),
    Column("reference", "‖g_L‖ N=128", **_criterion("reference_n128", "b"), drop=12),
    Column(
        "passport",
        "uses",
        lambda row: Text(passport(row) or NONE),
        (Field("passport", CODES, passport),),
        right=False,
        drop=14,
    ),
    Column("seconds", "s/run", **_over_runs("seconds"), drop=3),
    Column(
        "memory",
        "memory MB",
        **_over_runs("peak_memory_bytes", lambda size: f"{size / 1e6:.0f}"),
        drop=1,
    ),
    Column("passes", "passes", **_over_runs("forward_passes"), drop=2),
)
# c and d have no column: batch stability has no room, d is a margin
BUILT_IN = ("a", "b", "c", "d")


def further(rows: Iterable[Row]) -> list[Column]:
    """Return a column for each diagnostic that judges one of the rows and is not built in."""
    columns = []
    for criterion in criteria(rows):
        letter, heading = criterion.letter, criterion.heading
        if letter not in BUILT_IN:
            header = heading if letter == criterion.name else f"{letter} {heading}"
            shown = _criterion(criterion.field, letter, criterion.text)
            columns.append(Column(letter, header, **shown, drop=0))
    return columns


def columns_of(group: Group) -> list[Column]:
    """Return the columns of a recipe's table: `COLUMNS`, and the further ones after ‖g_L‖."""
    place = next(index for index, column in enumerate(COLUMNS) if column.key == "passport")
    return [*COLUMNS[:place], *further(group.rows), *COLUMNS[place:]]
