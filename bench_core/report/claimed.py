"""The table claim, expected, measured, holds?: for a terminal, Markdown and JSON; raw text is escaped here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Literal

from bench_core.analysis.claims import ClaimResult, Interval, method_text
from bench_core.report import escape
from bench_core.report.compared import limits
from bench_core.report.data import document
from bench_core.report.numbers import NONE, compact, fraction
from bench_core.report.tables import wrapped
from bench_core.suite.claim import SHARES, Expectation

SCHEMA = "bench-claims/1"
HEADS = ("#", "claim", "expected", "measured", "n", "holds?")
LEGEND = (
    "measured: mean over n seeds with its 95 % interval; geometric where a factor is claimed. A claim holds where the mean lies in"
    " the claimed range. The last epoch counts, never the best; ‖g‖ is per sample unless it is divided by N."
)
NOTHING = "No claims: a suite states them under `expect:`."

Format = Literal["table", "markdown", "json"]
Judged = Sequence[tuple[str, Sequence[ClaimResult]]]  # the suites by name


def claim_text(claim: Expectation, label: str) -> str:
    """`scale_growth.h[-1] of dfa after epoch 5 (arch.depth=4)`, `accuracy of dfa less ep`."""
    text = f"{claim.figure} of {label}"
    if claim.minus is not None:
        text += f" less {method_text(claim.minus)}"
    if claim.divide_by != 1:
        text += f", divided by {claim.divide_by:g}"
    if claim.epoch is not None:
        text += f" after epoch {claim.epoch}"
    if claim.seed is not None:
        text += f", seed {claim.seed}"
    cells = ", ".join(f"{key}={value}" for key, value in claim.cell.items() if key != "method")
    return f"{text} ({cells})" if cells else text


def number(claim: Expectation, value: float) -> str:
    """A value in the spelling of its figure."""
    if value != value:
        return "not finite"
    if value in (float("inf"), float("-inf")):
        return "never" if claim.parsed.kind == "first_epoch" else "not finite"
    if claim.figure == "accuracy":
        return fraction(value)
    return (
        f"{value:g}"
        if claim.parsed.kind in (*SHARES, "first_epoch") and value == round(value)
        else compact(value)
    )


def expected_text(claim: Expectation) -> str:
    """`.306 ± .008`, `4e+08 within x3`, `≥ 0`, `≤ 5`, `14 … 25`."""
    if claim.value is None:
        low, high = (
            None if end is None else number(claim, end) for end in (claim.at_least, claim.at_most)
        )
        return f"{low} … {high}" if low and high else f"≥ {low}" if low else f"≤ {high}"
    if claim.factor is not None:
        return f"{number(claim, claim.value)} within x{claim.factor:g}"
    return f"{number(claim, claim.value)} ± {number(claim, claim.tolerance or 0.0)}"


def measured_text(claim: Expectation, found: Interval | None) -> str:
    if found is None:
        return NONE
    text = number(claim, found.value)
    if found.low is None or found.high is None:
        return text
    return f"{text} [{number(claim, found.low)}, {number(claim, found.high)}]"


def summary(outcomes: Iterable[ClaimResult]) -> str:
    """`14 claims: 9 hold, 2 fail, 3 not run`."""
    counts = Counter(item.status for item in outcomes)
    total, hold, fail = sum(counts.values()), counts["holds"], counts["fails"]
    words = [
        f"{hold} hold{'s' if hold == 1 else ''}",
        f"{fail} fail{'s' if fail == 1 else ''}",
        f"{counts['not run']} not run",
    ]
    return f"{total} claim{'s' if total != 1 else ''}: {', '.join(words)}"


def claims_text(judged: Judged, form: Format, width: int | None = None) -> str:
    """All claims of all suites, as text that ends with a newline; `width` columns for a terminal."""
    if form == "json":
        return _json(judged)
    blocks = [
        block
        for name, outcomes in judged
        if outcomes
        for block in _suite(name, outcomes, form, width)
    ]
    if not blocks:
        return NOTHING + "\n"
    last = wrapped(LEGEND, width) if form == "table" else f"- {escape.markdown(LEGEND)}"
    return "\n\n".join([*blocks, last]) + "\n"


def _suite(
    name: str, outcomes: Sequence[ClaimResult], form: Format, width: int | None
) -> list[str]:
    from tabulate import tabulate

    plain = form == "table"
    written = escape.plain if plain else escape.markdown
    rows = [
        [str(i), claim_text(o.claim, o.label), expected_text(o.claim), measured_text(o.claim, o.measured),
         str(o.measured.n if o.measured else 0), o.status]
        for i, o in enumerate(outcomes, start=1)
    ]  # fmt: skip
    rows = [[written(text) for text in row] for row in rows]
    widths = limits(rows, HEADS, width if plain else None, [(1, 24), (3, 12), (2, 12), (1, 12)])
    table = tabulate(rows, headers=list(HEADS), tablefmt="simple" if plain else "pipe", disable_numparse=True,
                     colalign=("right", "left", "left", "left", "right", "left"), maxcolwidths=widths)  # fmt: skip
    numbered = [
        (i, text) for i, o in enumerate(outcomes, 1) for text in (*o.notes, o.claim.note) if text
    ]
    sources = [(i, f"from {o.claim.source}") for i, o in enumerate(outcomes, 1)]
    notes = _shared(numbered) + _shared(sources)
    head = f"{name}: {summary(outcomes)}"
    lines = [wrapped(written(line), width) if plain else f"- {written(line)}" for line in notes]
    return [head if plain else f"**{written(head)}**", _rstripped(table), "\n".join(lines)]


def _rstripped(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines())


def _shared(lines: Iterable[tuple[int, str]]) -> list[str]:
    """`1–4, 7: text`, each text once with the numbers of all its claims."""
    numbers: dict[str, list[int]] = {}
    for number, text in lines:
        numbers.setdefault(text, []).append(number)
    return [f"{_ranges(found)}: {text}" for text, found in numbers.items()]


def _ranges(numbers: Sequence[int]) -> str:
    runs: list[list[int]] = []
    for n in numbers:
        if runs and runs[-1][1] == n - 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in runs)


def _json(judged: Judged) -> str:
    suites = [
        {
            "name": name,
            "claims": [
                {
                    "claim": o.claim.model_dump(mode="json"),
                    "label": o.label,
                    "status": o.status,
                    "measured": None if o.measured is None else asdict(o.measured),
                    "notes": list(o.notes),
                }
                for o in outcomes
            ],
        }
        for name, outcomes in judged
    ]
    return document({"schema": SCHEMA, "suites": suites})
