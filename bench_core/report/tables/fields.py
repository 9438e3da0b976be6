"""Define the fields of a leaderboard row as data: their names, values and schemas.

A column (`columns`) has the fields that CSV, JSON and docs/leaderboard.schema.json give of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any, get_args

from bench_core.analysis.verdicts.roles import Role
from bench_core.analysis.verdicts.rows import Row
from bench_core.report.tables.json_schema import Schema, nullable, object_schema
from bench_core.report.words.rows import Gamma
from bench_core.results.hashing import line_text


@dataclass(frozen=True)
class Field:
    """A value of a row as data.

    get      how a row gives the value, or an attribute of the row, by default of the field's name
    in_csv   the name in CSV where that differs
    as_json  the value in JSON; None: as it is
    csv      (suffix of the name, attribute) of each part in CSV; "": the value itself
    place    its place in a line of CSV: single values, estimates, medians, codes
    """

    name: str
    get: Callable[[Row], Any] | str = ""
    in_csv: str = ""
    schema: Schema = field(default_factory=dict)
    as_json: Callable[[Any], Any] | None = None
    csv: Sequence[tuple[str, str]] = (("", ""),)
    place: int = 0

    def value(self, row: Row) -> Any:
        get = attrgetter(self.get or self.name) if isinstance(self.get, str) else self.get
        return get(row)

    def json(self, row: Row) -> Any:
        value = self.value(row)
        return self.as_json(value) if self.as_json else value

    @property
    def names(self) -> list[str]:
        """Return the names of its columns in CSV."""
        return [(self.in_csv or self.name) + suffix for suffix, _ in self.csv]

    def flat(self, row: Row) -> dict[str, Any]:
        """Return the value of each column of CSV."""
        value = self.value(row)
        parts = [_part(value, attribute) for _, attribute in self.csv]
        return dict(zip(self.names, parts, strict=True))


def _gamma_json(deep: Gamma) -> dict[str, Any]:
    mean = deep.estimate
    return {
        "value": mean and mean.mean,
        "half_width": mean and mean.half_width,
        "n": mean.n if mean else 0,
        "not_diagnostic": deep.not_diagnostic,
    }


def _part(value: Any, attribute: str) -> Any:
    """Return a value, or an attribute of it such as `estimate.n`, for a cell of CSV."""
    for name in filter(None, attribute.split(".")):
        known = value if isinstance(value, dict) else getattr(value, "__dict__", {})
        value = known.get(name, 0 if name == "n" else None)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return line_text(value) if isinstance(value, dict) else value


NUMBER = nullable("number")
STRING = partial(Field, schema={"type": "string"})
INTEGER = partial(Field, schema={"type": "integer"})
RANK = partial(Field, schema=nullable("integer"))
ROLE = partial(Field, schema={"enum": list(get_args(Role))})
PARAMS = partial(Field, schema={"type": "object"})
_PARTS = (("", "mean"), ("_half_width_95", "half_width"), ("_std", "std"), ("_n", "n"))
ESTIMATE = partial(
    Field,
    schema={"$ref": "#/$defs/estimate"},
    as_json=lambda mean: mean and asdict(mean),
    csv=_PARTS,
    place=1,
)
MARGIN = partial(
    Field,
    schema={"$ref": "#/$defs/margin"},
    as_json=lambda over: over and {**asdict(over.estimate), "how": over.how},
    csv=tuple((suffix, f"estimate.{name}") for suffix, name in _PARTS),
    place=1,
)
_OF_GAMMA = tuple((suffix, f"estimate.{name}") for suffix, name in _PARTS)
_STRUCK = "why the value means nothing; then it must not be shown without this"
_REASON = nullable("string") | {"description": _STRUCK}
GAMMA = partial(
    Field,
    schema=object_schema(value=NUMBER, half_width=NUMBER, n="integer", not_diagnostic=_REASON),
    as_json=_gamma_json,
    csv=(*_OF_GAMMA, ("_not_diagnostic", "not_diagnostic")),
    place=1,
)
_MEDIAN = (("", "value"), ("_note", "note"))
MEDIAN = partial(Field, schema={"$ref": "#/$defs/median"}, csv=_MEDIAN, place=2)
