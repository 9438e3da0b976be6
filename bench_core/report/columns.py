"""List the columns of the leaderboard: one entry has all that any format needs of a column.

The terminal, Markdown, LaTeX, the page, CSV, JSON and docs/leaderboard.schema.json follow
`COLUMNS`: a new column is one entry here. A diagnostic of another package that takes part in
verdicts has a column too (`columns_of`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, get_args

from bench_core.analysis.judge import BP, Role
from bench_core.analysis.leaderboard import Group, Row
from bench_core.analysis.stats import Estimate
from bench_core.report.criteria import Criterion, criteria
from bench_core.report.numbers import NONE, compact, fraction, signed
from bench_core.report.rows import Gamma, Median, gamma, median_of, passport, value_of
from bench_core.results.hashing import jsonable, line_text

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Text:
    """The raw text of a table's cell; `struck` for a number that means nothing."""

    text: str
    struck: bool = False


@dataclass(frozen=True)
class Kind:
    """How a value is written as data.

    json   the value in JSON
    csv    suffix of the field's name → the value in CSV; none: it has no place in CSV
    place  its place in a line of CSV: single values, estimates, medians, codes
    """

    schema: Schema
    json: Callable[[Any], Any] = lambda value: value
    csv: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    place: int = 0


@dataclass(frozen=True)
class Field:
    """A value of a row as data; `csv` is its name in CSV where that differs."""

    name: str
    get: Callable[[Row], Any]
    kind: Kind
    csv: str = ""

    @property
    def names(self) -> list[str]:
        """The columns of CSV."""
        return [(self.csv or self.name) + suffix for suffix in self.kind.csv]

    def flat(self, row: Row) -> dict[str, Any]:
        """Return the value of each column of CSV."""
        value = self.get(row)
        parts = (part(value) for part in self.kind.csv.values())
        return dict(zip(self.names, parts, strict=True))


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard.

    cell    for people
    brief   the same without its interval, for a terminal and LaTeX
    short   a heading for a narrow terminal
    drop    the order in which a narrow terminal drops columns; None: never.
            Under `SHORTENED` before texts are shortened, else after
    letter  of the diagnostic that it shows
    fields  as data
    """

    key: str
    header: str
    cell: Callable[[Row], Text]
    fields: tuple[Field, ...] = ()
    right: bool = True
    brief: Callable[[Row], Text] | None = None
    short: str = ""
    drop: int | None = None
    letter: str = ""


SHORTENED = 10


# ---------------------------------------------------------------------------------- kinds of data


def single(schema: Schema | str, csv: Callable[[Any], Any] = lambda value: value) -> Kind:
    """A value that CSV holds in one column."""
    return Kind({"type": schema} if isinstance(schema, str) else schema, csv={"": csv})


def _part(name: str) -> Callable[[Estimate | None], Any]:
    return lambda found: getattr(found, name, None)


def _gamma_json(found: Gamma) -> dict[str, Any]:
    mean = found.estimate
    return {
        "value": mean and mean.mean,
        "half_width": mean and mean.half_width,
        "n": mean.n if mean else 0,
        "not_diagnostic": found.not_diagnostic,
    }


def object_schema(**properties: Schema | str) -> dict[str, Any]:
    """The schema of an object with exactly these properties; a text is the name of a type."""
    typed = {k: {"type": v} if isinstance(v, str) else v for k, v in properties.items()}
    return {
        "type": "object",
        "properties": typed,
        "required": list(typed),
        "additionalProperties": False,
    }


def nullable(name: str) -> dict[str, Any]:
    """The schema of a value of this type or null."""
    return {"type": [name, "null"]}


NUMBER = nullable("number")
_ESTIMATE = {
    "": _part("mean"),
    "_half_width_95": _part("half_width"),
    "_std": _part("std"),
    "_n": lambda found: found.n if found else 0,
}
ESTIMATE = Kind(
    {"$ref": "#/$defs/estimate"}, lambda found: found and asdict(found), _ESTIMATE, place=1
)
GAMMA = Kind(
    object_schema(value=NUMBER, half_width=NUMBER, n="integer", not_diagnostic={
        **nullable("string"),
        "description": "why the value means nothing; then it must not be shown without this",
    }),
    _gamma_json,
    {suffix: lambda found, part=part: part(found.estimate) for suffix, part in _ESTIMATE.items()}
    | {"_not_diagnostic": lambda found: found.not_diagnostic},
    place=1,
)  # fmt: skip
MEDIAN = Kind(
    {"$ref": "#/$defs/median"},
    lambda median: {key: item for key, item in asdict(median).items() if key == "value" or item},
    {"": lambda median: median.value, "_note": lambda median: median.note},
    place=2,
)
CODES = replace(single("string"), place=3)
PARAMS = Kind(
    {"type": "object"},
    jsonable,
    {"": line_text},
)
FLOOR = Kind(object_schema(name="string", mean=NUMBER, missing=nullable("string")))


def _floor(row: Row) -> dict[str, Any]:
    return {
        "name": row.floor.name,
        "mean": row.floor.mean,
        "missing": row.floor.reason or None,
    }


# --------------------------------------------------------------------------------- cells for people


def _rank(row: Row) -> Text:
    return Text(NONE if row.rank is None else f"{row.rank}=" if row.tied else str(row.rank))


def _accuracy(row: Row, alone: str = " (n=1: no interval)") -> Text:
    if row.accuracy is None:
        return Text(NONE)
    half = row.accuracy.half_width
    return Text(fraction(row.accuracy.mean) + (alone if half is None else f" ± {fraction(half)}"))


def _n(row: Row) -> Text:
    done, total = len(row.finished), len(row.runs)
    return Text(str(done) if done == total else f"{done} of {total} done")


def _points(found: Estimate | None, interval: bool) -> Text:
    if found is None:
        return Text(NONE)
    shown = f" ± {found.half_width:.1f}" if interval and found.half_width is not None else ""
    return Text(signed(found.mean) + shown)


def _matched(row: Row, interval: bool = True) -> Text:
    return _points(None if row.role == "floor" else row.margin_matched, interval)


def _bp(row: Row, interval: bool = True) -> Text:
    own = row.role == "floor" and row.method.name == BP
    return _points(None if own else row.margin_bp, interval)


def _gamma(row: Row, interval: bool = True) -> Text:
    found = gamma(row)
    if found.estimate is None:
        return Text(NONE)
    text, half = fraction(found.estimate.mean), found.estimate.half_width
    text = text if text.startswith("-") else f"+{text}"
    text += f" ± {fraction(half)}" if interval and half is not None else ""
    return Text(text + ("" if found.in_use else " ‡"), struck=bool(found.not_diagnostic))


def _plain(get: Callable[[Row], str]) -> Callable[[Row], Text]:
    return lambda row: Text(get(row) or NONE)


def _median(
    name: str,
    get: Callable[[Row], Median],
    written: Callable[[float], str] = compact,
) -> dict[str, Any]:
    """The cell and the field of a column of medians."""

    def cell(row: Row) -> Text:
        median = get(row)
        return Text((median.note or NONE) if median.value is None else written(median.value))

    return {"cell": cell, "fields": (Field(name, get, MEDIAN),)}


def _over_runs(attribute: str) -> Callable[[Row], Median]:
    return lambda row: median_of(getattr(run.record, attribute) for run in row.finished)


# --------------------------------------------------------------------------------------- the columns

COLUMNS = (
    Column(
        "rank",
        "#",
        _rank,
        (
            Field("rank", lambda row: row.rank, single(nullable("integer"))),
            Field(
                "tied",
                lambda row: row.tied,
                single("boolean", lambda tied: "yes" if tied else "no"),
            ),
        ),
    ),
    Column(
        "method",
        "method",
        _plain(lambda row: row.label),
        (
            Field("method", lambda row: row.method.name, single("string")),
            Field("params", lambda row: row.method.params, PARAMS),
            Field("label", lambda row: row.label, single("string")),
            Field("role", lambda row: row.role, single({"enum": list(get_args(Role))})),
        ),
        right=False,
    ),
    Column(
        "accuracy",
        "accuracy",
        _accuracy,
        (Field("accuracy", lambda row: row.accuracy, ESTIMATE),),
        right=False,
        brief=partial(_accuracy, alone=" (n=1)"),
    ),
    Column(
        "n",
        "n",
        _n,
        (Field("runs_total", lambda row: len(row.runs), single("integer"), csv="runs"),),
    ),
    Column(
        "verdict",
        "verdict",
        _plain(lambda row: row.verdict),
        (Field("verdict", lambda row: row.verdict, single("string")),),
        right=False,
    ),
    Column(
        "three",
        "D1 D2 D3",
        _plain(lambda row: row.three),
        (Field("three_diagnostics", lambda row: row.three, single("string")),),
        right=False,
        drop=4,
    ),
    Column(
        "matched",
        "Δ matched",
        _matched,
        (
            Field("floor", _floor, FLOOR),
            Field("margin_pp", lambda row: row.margin, replace(ESTIMATE, csv={})),
            Field("margin_matched_pp", lambda row: row.margin_matched, ESTIMATE),
        ),
        brief=partial(_matched, interval=False),
        short="Δ pp",
        drop=16,
    ),
    Column(
        "bp",
        "Δ bp floor",
        _bp,
        (Field("margin_bp_pp", lambda row: row.margin_bp, ESTIMATE),),
        brief=partial(_bp, interval=False),
        short="Δ bp",
        drop=15,
    ),
    Column(
        "gamma",
        "Γ deep",
        _gamma,
        (Field("gamma_deep", gamma, GAMMA),),
        brief=partial(_gamma, interval=False),
        drop=13,
    ),
    Column(
        "growth", "growth", **_median("growth", partial(value_of, letter="a")), letter="a", drop=11
    ),
    Column(
        "reference",
        "‖g_L‖ N=128",
        **_median("reference_n128", partial(value_of, letter="b")),
        letter="b",
        drop=12,
    ),
    Column(
        "passport",
        "uses",
        _plain(passport),
        (Field("passport", passport, CODES),),
        right=False,
        drop=14,
    ),
    Column("seconds", "s/run", **_median("seconds", _over_runs("seconds")), drop=3),
    Column(
        "memory",
        "memory MB",
        **_median(
            "peak_memory_bytes", _over_runs("peak_memory_bytes"), lambda size: f"{size / 1e6:.0f}"
        ),
        drop=1,
    ),
    Column("passes", "passes", **_median("forward_passes", _over_runs("forward_passes")), drop=2),
)
# c and d have no column: batch stability has no room, d is a margin
BUILT_IN = ("a", "b", "c", "d")


def _of_criterion(criterion: Criterion) -> Column:
    letter = criterion.letter
    own = letter != criterion.name
    header = f"{letter} {criterion.heading}" if own else criterion.heading
    shown = _median(criterion.field, partial(value_of, letter=letter), criterion.text)
    return Column(letter, header, **shown, letter=letter, drop=0)


def further(rows: Iterable[Row]) -> list[Column]:
    """Return a column for each diagnostic, beyond the built-in ones, that judges some of the rows."""
    return [_of_criterion(found) for found in criteria(rows) if found.letter not in BUILT_IN]


def columns_of(group: Group) -> list[Column]:
    """Return the columns of a recipe's table: `COLUMNS`, and the further ones after ‖g_L‖."""
    place = next(index for index, column in enumerate(COLUMNS) if column.key == "passport")
    return [*COLUMNS[:place], *further(group.rows), *COLUMNS[place:]]
