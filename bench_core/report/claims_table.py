"""Write claims and their outcomes for a terminal, as Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any, Literal

from bench_core.analysis.claims.hold import ClaimResult, Interval
from bench_core.analysis.claims.ranges import holds
from bench_core.analysis.claims.selection import method_text
from bench_core.analysis.verdicts.kinds import FAILS, HOLDS, NOT_RUN
from bench_core.report.tables.data import csv_text, document
from bench_core.report.text import escape
from bench_core.report.text.layout import paragraph, tabulated
from bench_core.report.text.numbers import NONE, compact, fraction, plural
from bench_core.suite.claim import SHARES, Expectation

SCHEMA = "bench-claims/1"
HEADS = ("#", "claim", "expected", "measured", "n", "holds?")
ALIGN = ("right", "left", "left", "left", "right", "left")
NARROW = [(1, 24), (3, 12), (2, 12), (1, 12)]  # columns that a narrow terminal wraps, in this order
LEGEND = (
    "expected: the published figure, with its published deviation after ±, and the suite's "
    "tolerance after “within”. measured: mean over n seeds with its 95 % interval; the geometric "
    "mean where a factor is claimed, as “within x3”, and of the diagnostics on a logarithmic axis"
    " (scale_growth, reference_floor). A claim holds if the mean lies in the expected range. The "
    "last epoch counts, never the best. The interval of a whole number, such as an epoch, is at "
    "least that of its rounding (a deviation of 1/√12). ‖g‖ is per sample unless it is divided by "
    "N. fires.a: the share of the runs in which the diagnostic of letter a fires; alignment: Γ; "
    "x[-1]: the last layer's value."
)
OPEN = "fails, but its interval reaches into the range: more seeds may change this"
NOTHING = "No claims: a suite states them under `expect:`."

Format = Literal["table", "markdown", "latex", "csv", "json"]
FIELDS = (
    "suite", "number", "claim", "figure", "method", "value", "deviation", "tolerance", "factor",
    "at_least", "at_most", "status", "measured", "measured_low", "measured_high", "n", "settled",
    "not_diagnostic", "source", "notes", "runs",
)  # fmt: skip
Judged = Sequence[tuple[str, Sequence[ClaimResult]]]  # the suites by name


def claim_text(claim: Expectation, label: str, other: str = "") -> str:
    """Write figure, method and cell: `growth.h[-1] of dfa after epoch 5 (arch.depth=4)`.

    label, other  of the rows of the method and of that in `minus`, which may have none
    """
    cells = {key: f"{key}={value}" for key, value in claim.cell.items() if key != "method"}
    own = ", ".join(text for key, text in cells.items() if key.startswith("method."))
    text = f"{claim.figure} of {label}" + f" ({own})" * bool(own)  # not of the rule in `minus`
    if claim.minus is not None:
        text += f" less {other or method_text(claim.minus)}"
    if claim.divide_by != 1:
        text += f", divided by {claim.divide_by:g}"
    if claim.epoch is not None:
        text += f" after epoch {claim.epoch}"
    if claim.seed is not None:
        text += f", seed {claim.seed}"
    rest = ", ".join(text for key, text in cells.items() if not key.startswith("method."))
    return f"{text} ({rest})" if rest else text


def number(claim: Expectation, value: float) -> str:
    """Write a value in the spelling of its figure."""
    kind = claim.parsed.kind
    if not math.isfinite(value):
        return "never" if kind == "first_epoch" and not math.isnan(value) else "not finite"
    if claim.figure == "accuracy":
        return fraction(value)
    whole = kind in (*SHARES, "first_epoch") and value == round(value)
    return f"{value:g}" if whole else compact(value)


def expected_text(claim: Expectation) -> str:
    """Write the published figure and the range in which the claim holds.

    `.306 ± .008, within .016`, `4e+08, within x3`, `1 exactly`, `≥ 0`, `≤ 5`, `14 … 25`. After ± is
    the published deviation, after *within* the suite's tolerance.
    """
    if claim.value is None:
        ends = (claim.at_least, claim.at_most)
        low, high = (None if end is None else number(claim, end) for end in ends)
        return f"{low} … {high}" if low and high else f"≥ {low}" if low else f"≤ {high}"
    text = number(claim, claim.value)
    if claim.deviation is not None:
        text += f" ± {number(claim, claim.deviation)}"
    if claim.factor is not None:
        return f"{text}, within x{claim.factor:g}"
    return (
        f"{text}, within {number(claim, claim.tolerance)}" if claim.tolerance else f"{text} exactly"
    )


def measured_text(claim: Expectation, interval: Interval | None) -> str:
    """Write the measured mean with its interval: `.301 [.290, .312]`."""
    if interval is None:
        return NONE
    text = _faithful(claim, interval.value)
    if interval.low is None or interval.high is None:
        return text
    return f"{text} [{number(claim, interval.low)}, {number(claim, interval.high)}]"


def _faithful(claim: Expectation, value: float) -> str:
    """Write a mean with so many digits that the claim holds of the text as it does of the value."""
    text = number(claim, value)
    for digits in range(3, 16):
        try:
            if holds(claim, float(text.replace(",", ""))) == holds(claim, value):
                break
        except ValueError:  # never, not finite
            break
        text = f"{value:.{digits}f}" if claim.figure == "accuracy" else f"{value:.{digits}g}"
        text = re.sub(r"^(-?)0\.", r"\1.", text) if claim.figure == "accuracy" else text
    return text


def summary(outcomes: Iterable[ClaimResult]) -> str:
    """Count the outcomes: `14 claims: 9 hold, 2 fail, 3 not run`."""
    counts = Counter(item.status for item in outcomes)
    total, hold, fail = counts.total(), counts[HOLDS], counts[FAILS]
    return (
        f"{plural(total, 'claim')}: {hold} hold{'s' * (hold == 1)},"
        f" {fail} fail{'s' * (fail == 1)}, {counts[NOT_RUN]} not run"
    )


def claims_text(judged: Judged, form: Format, width: int | None = None) -> str:
    """Write the claims of all suites; `table` fits `width` columns of a terminal, None: any."""
    if form == "json":
        suites = []
        for name, outcomes in judged:
            claims = [{**asdict(o), "claim": o.claim.model_dump(mode="json")} for o in outcomes]
            suites.append({"name": name, "claims": claims})
        return document({"schema": SCHEMA, "suites": suites})
    if form == "csv":
        lines = [_flat(name, k, o) for name, own in judged for k, o in enumerate(own, start=1)]
        return csv_text(FIELDS, lines)
    if form == "latex":
        tables = [_latex(name, outcomes) for name, outcomes in judged if outcomes]
        needs = r"% needs \usepackage{booktabs,longtable}"
        return "\n\n".join([needs, *tables] if tables else [f"% {NOTHING}"]) + "\n"
    blocks = []
    for name, outcomes in judged:
        blocks += _suite(name, outcomes, form, width) if outcomes else []
    if not blocks:
        return NOTHING + "\n"
    return "\n\n".join([*blocks, _lines([LEGEND], form, width)]) + "\n"


def _flat(suite: str, number: int, item: ClaimResult) -> list[Any]:
    """Return the values of `FIELDS`."""
    claim, measured = item.claim, item.measured
    ends = (None,) * 3 if measured is None else (measured.value, measured.low, measured.high)
    text = claim_text(claim, item.label, item.other)
    return [
        suite, number, text, claim.figure, item.label, claim.value,
        claim.deviation, claim.tolerance, claim.factor, claim.at_least, claim.at_most, item.status,
        *ends, measured.n if measured else 0, item.settled, item.not_diagnostic, claim.source,
        "; ".join(filter(None, [*item.notes, claim.note])), " ".join(item.runs),
    ]  # fmt: skip


def _latex(name: str, outcomes: Sequence[ClaimResult]) -> str:
    """Write a table that may be longer than a page; what its numbers need stands below it."""
    rows, notes, sources = [], list[tuple[int, str]](), []
    for number, item in enumerate(outcomes, start=1):
        cells = [escape.latex(text) for text in (str(number), *_cells(item))]
        cells[2:4] = [re.sub(r"(?<![\w)])-(?=[.\d])", "$-$", cell) for cell in cells[2:4]]
        rows.append(" & ".join(cells) + r" \\")
        notes += _notes(number, item)
        sources.append((number, f"from {item.claim.source}"))
    columns = r"rp{.36\linewidth}p{.2\linewidth}p{.2\linewidth}rl"
    return "\n".join([
        r"{\scriptsize",
        rf"\begin{{longtable}}{{{columns}}}",
        rf"\caption{{{escape.latex(f'{name}: {summary(outcomes)}')}.}}\\",
        r"\toprule",
        " & ".join(map(escape.latex, HEADS)) + r" \\",
        r"\midrule",
        r"\endhead",
        *rows,
        r"\bottomrule",
        r"\end{longtable}",
        r"\raggedright",
        *(rf"{escape.latex(line)}\par" for line in [LEGEND, *_shared(notes), *_shared(sources)]),
        "}",
    ])  # fmt: skip


def _lines(lines: Sequence[str], form: str, width: int | None) -> str:
    if form == "table":
        return paragraph(lines, width)
    return escape.markdown_list(lines)


def _suite(name: str, outcomes: Sequence[ClaimResult], form: str, width: int | None) -> list[str]:
    plain = form == "table"
    escaped = escape.visible if plain else escape.markdown
    rows, notes, sources = [], list[tuple[int, str]](), []
    for number, item in enumerate(outcomes, start=1):
        rows.append([str(number), *map(escaped, _cells(item))])
        notes += _notes(number, item)
        sources.append((number, f"from {item.claim.source}"))
    style, most = ("simple", width) if plain else ("pipe", None)
    table = tabulated(rows, HEADS, style=style, align=ALIGN, width=most, narrow=NARROW)
    head = f"{name}: {summary(outcomes)}"
    lines = _lines(_shared(notes) + _shared(sources), form, width)
    return [head if plain else f"**{escaped(head)}**", table, lines]


def _cells(item: ClaimResult) -> list[str]:
    """Return the texts of a row, in the order of `HEADS` after the number."""
    claim, measured = item.claim, item.measured
    texts = [
        claim_text(claim, item.label, item.other),
        expected_text(claim),
        measured_text(claim, measured),
    ]
    return [*texts, str(measured.n if measured else 0), item.status]


def _notes(number: int, item: ClaimResult) -> list[tuple[int, str]]:
    open_ = OPEN * (item.status == FAILS and item.settled is False)
    return [(number, text) for text in (open_, *item.notes, item.claim.note) if text]


def _shared(lines: Iterable[tuple[int, str]]) -> list[str]:
    """Write each text once, after the numbers of its claims: `1–4, 7: text`."""
    numbers: dict[str, list[int]] = {}
    for number, text in lines:
        numbers.setdefault(text, []).append(number)
    return [f"{_ranges(claims)}: {text}" for text, claims in numbers.items()]


def _ranges(numbers: Sequence[int]) -> str:
    runs = groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    members = ([number for _, number in run] for _, run in runs)
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}–{r[-1]}" for r in members)
