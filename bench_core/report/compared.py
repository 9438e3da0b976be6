"""Write comparisons as a table for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby

from bench_core.report.comparison import Comparison
from bench_core.report.data import document
from bench_core.report.escape import plain
from bench_core.report.numbers import NONE, fraction, optional, signed
from bench_core.report.tables import wrapped

SCHEMA = "bench-compare/1"


def _p(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.3f}".removeprefix("0") if value >= 0.001 else f"{value:.0e}"


def _effect(item: Comparison) -> str:
    if item.effect is None:
        return NONE
    half = item.effect.half_width
    return signed(item.effect.mean, 2) + (" (n=1)" if half is None else f" ± {half:.2f}")


def as_table(
    found: Sequence[Comparison], alone: Sequence[str] = (), width: int | None = None
) -> str:
    """A table per recipe, the verdicts and remarks below it, and how to read it."""
    from tabulate import tabulate

    blocks = []
    for where, items in groupby(found, key=lambda item: item.where):
        rows, below = [], []
        for item in items:
            same = item.a.label == item.b.label
            label = item.a.label if same else f"{item.a.label} → {item.b.label}"
            numbers = [
                optional(item.a.mean, fraction),
                optional(item.b.mean, fraction),
                _effect(item),
                item.n,
                _p(item.p),
                _p(item.p_holm),
                _p(item.p_smallest),
            ]
            rows.append([plain(label), *map(str, numbers)])
            if item.a.verdict != item.b.verdict:
                below.append(f"{label}: {item.a.verdict} → {item.b.verdict}")
            if item.note:
                below.append(f"{label}: {item.note}")
        heads = ["method", "A", "B", "B - A (pp)", "n", "p", "p Holm", "least p"]
        align = ["left", *["right"] * 7]
        if any(limits(rows, heads, width, [(0, 0)])) and any(
            "freeze=blocks" in row[0] for row in rows
        ):
            rows = [[row[0].replace("freeze=blocks", "frozen"), *row[1:]] for row in rows]
            below.append("frozen: freeze=blocks")
        table = tabulate(
            rows, headers=heads, tablefmt="simple", disable_numparse=True, colalign=align,
            maxcolwidths=limits(rows, heads, width, [(0, 12)]),
        )  # fmt: skip
        lines = [wrapped(plain(line), width) for line in below]
        blocks.append(
            "\n\n".join(
                [wrapped(plain(where), width), table, *(["\n".join(lines)] if lines else [])]
            )
        )
    if alone:
        blocks.append("\n".join(wrapped(plain(line), width) for line in alone))
    blocks.append(
        "\n".join(
            wrapped(line, width)
            for line in (
                "B - A: difference of the test accuracies in percentage points, mean over the n seeds that both finished,"
                " ± its 95 % interval (Student t of the paired differences).",
                "p: exact sign-flip test of the pairs; Holm: adjusted for all comparisons above; least p: the smallest that"
                " n seeds allow, whatever the effect.",
            )
        )
    )
    return "\n\n".join(blocks) + "\n"


def limits(
    rows: Sequence[Sequence[str]],
    heads: Sequence[str],
    width: int | None,
    narrow: Sequence[tuple[int, int]],
) -> list[int | None]:
    """tabulate's `maxcolwidths` for a table of at most `width` columns.

    narrow  (column, least characters): those that may be wrapped, the first one first; never narrower than their headers
    """
    found: list[int | None] = [None] * len(heads)
    if width is None:
        return found
    # as tabulate does
    widths = [max([len(head) + 2, *(len(row[i]) for row in rows)]) for i, head in enumerate(heads)]
    excess = sum(widths) + 2 * (len(heads) - 1) - max(width, 40)
    for i, least in narrow:
        if excess > 0:
            kept = max(widths[i] - excess, min(least, widths[i]), len(heads[i]) + 2)
            excess -= widths[i] - kept
            found[i] = kept
    return found


def as_json(found: Sequence[Comparison], alone: Sequence[str] = ()) -> str:
    """Return the comparisons as a JSON document."""
    comparisons = [asdict(item) for item in found]
    return document({"schema": SCHEMA, "comparisons": comparisons, "alone": list(alone)})
