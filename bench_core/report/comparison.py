"""Write comparisons of rules, or of two sets of results, as tables and JSON (`bench compare`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import groupby
from typing import Any, Literal

from bench_core.analysis import comparison
from bench_core.analysis.comparison import Comparison, Placed
from bench_core.analysis.gather import SuiteResults
from bench_core.report.tables.data import document
from bench_core.report.text.escape import latex, markdown_list
from bench_core.report.text.layout import listed, paragraph
from bench_core.report.text.numbers import NONE, fraction, optional, with_interval
from bench_core.report.text.sheet import NEEDS, Form, Sheet, written
from bench_core.report.view import view
from bench_core.suite import protocol

SCHEMA = "bench-compare/1"
Format = Literal["table", "markdown", "latex", "json"]
HEADS = ["method", "A", "B", "B - A (pp)", "n", "p", "p Holm", "least p"]
LETTERS = ", ".join(f"{letter} {name}" for letter, name in protocol.LETTERS.items())
LEGEND = (
    "B - A: difference of the accuracies in percentage points, mean over the n seeds that both"
    " finished, ± its 95 % interval (Student t of the paired differences).",
    "p: exact sign-flip test of the pairs; Holm: adjusted for all comparisons above; least p: the"
    " smallest that n seeds allow, whatever the effect.",
)
VERDICTS = f"Letters of a verdict: {LETTERS}; bp floor: worse than bp with random blocks."


def methods(suites: Sequence[SuiteResults], a: str, b: str) -> list[Comparison]:
    """Compare two methods in every recipe of results (`bench_core.analysis.comparison`)."""
    return comparison.methods(_placed(suites), a, b)


def sets(
    a: Sequence[SuiteResults], b: Sequence[SuiteResults]
) -> tuple[list[Comparison], list[str]]:
    """Compare every method that both sets have; return a line for each that only one set has."""
    return comparison.sets(_placed(a), _placed(b))


def _placed(suites: Sequence[SuiteResults]) -> list[Placed]:
    recipes = [(shown, *one) for shown in map(view, suites) for one in shown.recipes]
    return [
        Placed(shown.results.name, header, row, shown.settings.recorded, number)
        for number, (shown, header, group) in enumerate(recipes)
        for row in group.rows
    ]


def unlike(a: Sequence[SuiteResults], b: Sequence[SuiteResults]) -> list[str]:
    """Warn, in one line or none, of two sets that have no data set in common."""
    names = [
        sorted({record.cell.dataset.short for suite in side for record in suite.records})
        for side in (a, b)
    ]
    if not all(names) or set(names[0]) & set(names[1]):
        return []
    has = (f"{side} has {listed(own)}" for side, own in zip("AB", names, strict=True))
    return [f"{', '.join(has)}: accuracies on different data sets cannot be compared"]


def _p(value: float | None) -> str:
    if value is None:
        return NONE
    return fraction(value) if value >= 0.001 else f"{value:.0e}"


def _sheet(where: str, items: Sequence[Comparison]) -> Sheet:
    """Return the table of one recipe, with verdicts and remarks below it."""
    rows, below = [], []
    for item in items:
        a, b = item.a, item.b
        label = a.label if a.label == b.label else f"{a.label} → {b.label}"
        means = [optional(side.mean, fraction) for side in (a, b)]
        tests = [_p(p) for p in (item.p, item.p_holm, item.p_smallest)]
        effect = with_interval(item.effect, 2, alone=f" (n={item.n})")
        rows.append([label, *means, effect, str(item.n), *tests])
        below += [f"{label}: {a.verdict} → {b.verdict}"] if a.verdict != b.verdict else []
        below += [f"{label}: {item.note}"] if item.note else []
    return Sheet([where], HEADS, rows, below)


def as_text(
    comparisons: Sequence[Comparison],
    alone: Sequence[str] = (),
    form: Form = "table",
    width: int | None = None,
) -> str:
    """Write a table per recipe, the methods that only one side has, and a legend.

    width  of the terminal, for `table`; None: any
    """
    by_recipe = groupby(comparisons, key=lambda item: item.where)
    sheets = [_sheet(where, list(items)) for where, items in by_recipe]
    judged = any(item.a.verdict != item.b.verdict for item in comparisons)
    legend = [*LEGEND, *[VERDICTS] * judged]
    if form == "latex":  # what stands below a table goes with it into a paper
        tables = [written(replace(one, below=[*one.below, *legend]), form) for one in sheets]
        return "\n\n".join([NEEDS, *tables, *(f"% {latex(line)}" for line in alone)]) + "\n"
    blocks = [written(sheet, form, width) for sheet in sheets]
    below = [alone, legend]
    if form == "markdown":
        blocks += map(markdown_list, below)
    else:
        blocks += [paragraph(lines, width) for lines in below]
    return "\n\n".join(filter(None, blocks)) + "\n"


def records(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return a flat record per comparison: `a`, `b` and the effect in columns of their own."""
    return [
        {
            "where": item.where,
            "a": item.a.label,
            "b": item.b.label,
            "accuracy_a": item.a.mean,
            "accuracy_b": item.b.mean,
            "effect": item.effect.mean if item.effect else None,
            "half_width": item.effect.half_width if item.effect else None,
            "n": item.n,
            "p": item.p,
            "p_holm": item.p_holm,
            "p_smallest": item.p_smallest,
            "verdict_a": item.a.verdict,
            "verdict_b": item.b.verdict,
            "note": item.note,
        }
        for item in comparisons
    ]


def as_json(comparisons: Sequence[Comparison], alone: Sequence[str] = ()) -> str:
    """Return the comparisons as a JSON document."""
    items = [asdict(item) for item in comparisons]
    return document({"schema": SCHEMA, "comparisons": items, "alone": list(alone)})
