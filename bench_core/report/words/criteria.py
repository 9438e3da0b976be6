"""List the diagnostics that take part in verdicts, with the words that their classes give them.

A criterion reads its title, unit, axis and sentence from a stored measurement. So a diagnostic of
another package has a column, a panel and a sentence even where its plugin is not installed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from bench_core.analysis.sensitivity import Sensitivity
from bench_core.analysis.stats import Estimate
from bench_core.analysis.verdicts.judge import letter_order, threshold_of
from bench_core.analysis.verdicts.rows import Row, Run
from bench_core.analysis.verdicts.verdict import worse
from bench_core.names import bare_name
from bench_core.report.text.numbers import apart, compact, decimals, optional, signed, unsigned
from bench_core.results.record import Measurement

SMALLEST = 1e-30  # where a logarithmic axis shows zero
_WORD = re.compile(r"\{(\w+)\}(x\b)?")  # {value}x is written as `3,340 times`


@dataclass(frozen=True)
class Criterion:
    """A judged diagnostic; one without a letter has its name as the letter.

    item  a measurement of one run: the value is the run's, all else is the diagnostic's
    """

    letter: str
    name: str
    item: Measurement

    @property
    def short(self) -> str:
        return bare_name(self.name)

    @property
    def heading(self) -> str:
        """Return one or two words: `growth`."""
        return self.item.heading or self.short

    @property
    def title(self) -> str:
        """Return letter, title and unit: `a · largest growth of ‖h‖ in one block (x)`."""
        item = self.item
        unit = f" at N = {item.batch}" if item.batch else f" ({self.unit})" if self.unit else ""
        text = (item.title or self.short) + unit
        return f"{self.letter} · {text}" if self.letter != self.name else text

    @property
    def unit(self) -> str:
        """Return the unit of the values for people: none of one that is divided by N."""
        return "" if self.item.batch else self.item.unit

    @property
    def field(self) -> str:
        """Return the name of the value in data: `e_rank`."""
        return f"{self.letter}_{self.short}" if self.letter != self.name else self.name

    @property
    def log(self) -> bool:
        return self.item.axis == "log"

    @property
    def margin(self) -> bool:
        """Return whether the value is a margin over a floor in percentage points."""
        return self.item.across == "floor"

    def shown(self, value: float) -> float:
        """Convert a stored value to the unit for people: a per-sample value is divided by N."""
        return value / (self.item.batch or 1)

    def on_axis(self, value: float) -> float:
        """Convert a stored value to that on an axis; a logarithmic one has no zero."""
        return max(self.shown(value), SMALLEST) if self.log else self.shown(value)

    def text(self, shown: float | None, digits: int = 1) -> str:
        """Write a value that `shown` returned."""
        return optional(shown, partial(signed, digits=digits) if self.margin else compact)

    def with_unit(self, shown: float | None) -> str:
        """Write a value that `shown` returned with its unit: `-4.78 pp`."""
        unit = f" {self.unit}" * bool(self.unit and shown is not None)
        return self.text(shown, 2) + unit

    def limit(self, thresholds: Mapping[str, float]) -> float | None:
        """Return the threshold in force, as stored."""
        return threshold_of(self.name, self.item, thresholds)

    def sentence(self, value: float | None, limit: float, interval: str = "", **words: str) -> str:
        """Say why the diagnostic fired at a stored value.

        value     None for a value that is not finite
        interval  text after the value, such as " ± 0.4"
        words     the values of the further {words} in the diagnostic's sentence
        """
        item = self.item
        if value is None:
            return f"{item.title or self.name} is not finite"
        bound = "limit" if item.direction == "above" else "needs"
        unit = f" {item.unit}" if item.unit else ""
        sentence = item.sentence or f"{{name}} {{value}}{unit} ({bound} {{limit}})"
        value, limit = self.shown(value), self.shown(limit)
        written, digits = (signed, 1) if self.margin else (compact, 3)
        words |= {
            "name": self.name,
            "unit": item.unit,
            "batch": str(item.batch),
            "value": apart(value, limit, written, digits) + interval,
            "limit": str(limit) if self.margin else f"{limit:g}",
        }

        def written_out(word: re.Match[str]) -> str:
            return words[word[1]] + " times" * bool(word[2]) if word[1] in words else word[0]

        return _WORD.sub(written_out, sentence)

    def of_margin(self, points: Estimate, limit: float, **words: str) -> str:
        """Say why a margin over the floor fired: `11.3 ± 5.0 points worse than random blocks`."""
        interval = "" if points.half_width is None else f" ± {decimals(points.half_width, 1)}"
        if self.short != "depth_utility":
            return self.sentence(points.mean, limit, interval, **words)
        if worse(points):
            return f"{unsigned(points)} points worse than {words['floor']}"
        text = f"{apart(points.mean, limit, signed, 1)}{interval} points over {words['floor']}"
        if points.mean < 0:
            text = f"{unsigned(points)} points below {words['floor']}"
        lower = "" if points.half_width is None else ", and its interval ends lower"
        return f"{text}; a margin of {limit:+g} is needed{lower}"


def criteria(rows: Iterable[Row]) -> list[Criterion]:
    """Return the diagnostics that judge a finished run of these rows, in the order of letters."""
    by_letter: dict[str, Criterion] = {}
    for row in rows:
        for run in row.runs:
            if run.record.status == "done" and row.role != "floor":
                by_letter = {item.letter: item for item in criteria_of(run)} | by_letter
    return [by_letter[letter] for letter in sorted(by_letter, key=letter_order)]


def further(rows: Iterable[Row]) -> list[Criterion]:
    """Return the measurements of these rows that judge nothing, by name: Γ has its own column."""
    by_name: dict[str, Criterion] = {}
    for run in (run for row in rows for run in row.finished):
        judging = {name for name, _ in run.deciding.values()} | {"alignment"}
        for name, item in run.record.measurements.items():
            if name not in judging and item.value is not None:
                by_name.setdefault(name, Criterion(name, name, item))
    return [by_name[name] for name in sorted(by_name)]


def criteria_of(run: Run) -> list[Criterion]:
    """Return the diagnostics that judge a run, in the order of letters."""
    letters = sorted(run.deciding, key=letter_order)
    return [Criterion(letter, *run.deciding[letter]) for letter in letters]


def criterion_of(item: Sensitivity) -> Criterion:
    """Return the diagnostic whose threshold was varied."""
    return Criterion(item.letter, *item.points[0].run.deciding[item.letter])


def band_text(item: Sensitivity) -> str:
    """Write a band as an interval, such as `[12, 693)`: open at the end where a run lies."""
    low, high = (criterion_of(item).shown(end) for end in item.band)
    left, right = ("[", ")") if item.direction == "above" else ("(", "]")
    lower = "(−∞" if low == -math.inf else left + compact(low)
    return f"{lower}, " + ("∞)" if high == math.inf else compact(high) + right)
