"""Compare methods within results, or two sets of results row by row, and write the comparisons.

A pair is two runs of one seed, one on each side. The effect is the accuracy of B minus that of A in
percentage points, with Student's interval over the seeds, the p of the exact sign-flip test, and
Holm's adjustment over all comparisons of one call. At few seeds the test cannot give a small p,
however large the effect (n = 3: .25), so a comparison also has the smallest possible p.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from statistics import fmean
from typing import Any

from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.judge import method_key, recipe
from bench_core.analysis.leaderboard import Group, Row, accuracies
from bench_core.analysis.stats import Estimate, estimate, holm, sign_flip_p, smallest_p
from bench_core.errors import UsageError
from bench_core.report.data import document
from bench_core.report.escape import visible
from bench_core.report.numbers import NONE, fraction, optional, with_interval
from bench_core.report.text import limits, listed, paragraph, tabulated
from bench_core.report.view import view

SCHEMA = "bench-compare/1"
HEADS = ["method", "A", "B", "B - A (pp)", "n", "p", "p Holm", "least p"]
LEGEND = (
    "B - A: difference of the test accuracies in percentage points, mean over the n seeds that both"
    " finished, ± its 95 % interval (Student t of the paired differences).",
    "p: exact sign-flip test of the pairs; Holm: adjusted for all comparisons above; least p: the"
    " smallest that n seeds allow, whatever the effect.",
)


@dataclass(frozen=True)
class Side:
    """One side of a comparison; `mean` is over the seeds that both sides finished."""

    label: str
    mean: float | None
    finished: int
    runs: int
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """A against B over their `n` common seeds; p values are None if there is no pair.

    effect  B - A in percentage points
    """

    where: str
    a: Side
    b: Side
    n: int
    effect: Estimate | None
    p: float | None
    p_holm: float | None
    p_smallest: float | None
    note: str


@dataclass(frozen=True)
class _Placed:
    """A row, with its suite and its recipe."""

    suite: str
    recipe: str
    header: str
    row: Row

    @property
    def method(self) -> str:
        return method_key(self.row.method)


def _placed(suites: Sequence[SuiteResults]) -> list[_Placed]:
    placed = []
    for shown in map(view, suites):
        for header, group in zip(shown.headers, shown.groups, strict=True):
            name = recipe(group.records[0])
            placed += [_Placed(shown.results.name, name, header, row) for row in group.rows]
    return placed


def _compared(where: str, a: Row, b: Row, note: str = "") -> Comparison:
    by_seed = [accuracies(run.record for run in row.runs) for row in (a, b)]
    seeds = sorted(by_seed[0].keys() & by_seed[1].keys())
    differences = [100.0 * (by_seed[1][seed] - by_seed[0][seed]) for seed in seeds]
    same = a.runs == b.runs
    remarks = [note] if note else []
    remarks += ["the same runs on both sides"] if same else []
    if not seeds:
        remarks.append("no seed finished on both sides")
    elif any(len(finished) != len(seeds) for finished in by_seed):
        remarks.append("only seeds that both sides finished")
    left, right = (
        Side(
            row.label,
            fmean(finished[seed] for seed in seeds) if seeds else None,
            len(row.finished),
            len(row.runs),
            row.verdict,
        )
        for row, finished in zip((a, b), by_seed, strict=True)
    )
    return Comparison(
        where,
        left,
        right,
        len(seeds),
        effect=estimate(differences) if seeds else None,
        p=sign_flip_p(differences) if seeds and not same else None,
        p_holm=None,
        p_smallest=smallest_p(len(seeds)) if seeds else None,
        note="; ".join(remarks),
    )


def _adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    adjusted = iter(holm([item.p for item in comparisons if item.p is not None]))
    return [
        item if item.p is None else replace(item, p_holm=next(adjusted)) for item in comparisons
    ]


# ----------------------------------------------------------------------------------------- methods


def _named(group: Group, name: str) -> list[Row]:
    """Return the rows with this label, else the judged rows, else the floors, of this rule."""
    spellings: tuple[Callable[[Row], bool], ...] = (
        lambda row: name in (row.label, row.label.removesuffix(" (frozen)")),
        lambda row: row.role != "floor" and name in (row.method.name, row.method.short),
        lambda row: row.role == "floor" and f"{row.method.short}[frozen]" == name,
    )
    choices = ([row for row in group.rows if fits(row)] for fits in spellings)
    return next((rows for rows in choices if rows), [])


def methods(suites: Sequence[SuiteResults], a: str, b: str) -> list[Comparison]:
    """Compare method A with method B in every recipe that has both.

    Raises `UsageError` if a name means no row, or several rows of one recipe.
    """
    comparisons, labels, known = [], set[str](), set[str]()
    for shown in map(view, suites):
        for header, group in zip(shown.headers, shown.groups, strict=True):
            labels |= {row.label for row in group.rows}
            picked = {name: _named(group, name) for name in (a, b)}
            known |= {name for name, rows in picked.items() if rows}
            if not all(picked.values()):
                continue
            for name, rows in picked.items():
                if len(rows) > 1:
                    several = listed(row.label for row in rows)
                    raise UsageError(
                        f"{name}: {len(rows)} methods of {shown.results.name} have this name:"
                        f" {several}"
                    )
            where = f"{shown.results.name} · {header}"
            comparisons.append(_compared(where, picked[a][0], picked[b][0]))
    if not comparisons:
        names = f"there are: {listed(sorted(labels)) or 'no runs'}"
        if unknown := [name for name in (a, b) if name not in known]:
            raise UsageError(
                f"{unknown[0]}: no such folder, and no such method in these results; {names}"
            )
        raise UsageError(f"no recipe of these results has both {a} and {b}; {names}")
    return _adjusted(comparisons)


# -------------------------------------------------------------------------------------------- sets


def _paired(
    sides: Sequence[Sequence[_Placed]], key: Callable[[_Placed], Any]
) -> list[tuple[list[_Placed], list[_Placed]]]:
    """Return the rows of both sides by key, in the order in which the keys appear."""
    by_key: dict[Any, tuple[list[_Placed], list[_Placed]]] = defaultdict(lambda: ([], []))
    for number, placed in enumerate(sides):
        for item in placed:
            by_key[key(item)][number].append(item)
    return list(by_key.values())


def sets(
    a: Sequence[SuiteResults], b: Sequence[SuiteResults]
) -> tuple[list[Comparison], list[str]]:
    """Compare every method that both sets have; return a line for each that only one set has.

    Rows of the same recipe are paired first. A method that is then left once on both sides is
    compared too, with a remark that the recipes differ.
    """
    comparisons: list[Comparison] = []
    left: tuple[list[_Placed], list[_Placed]] = ([], [])
    for one, two in _paired((_placed(a), _placed(b)), lambda item: (item.recipe, item.method)):
        pairs = zip(one, two, strict=False)
        comparisons += [_compared(x.header, x.row, y.row) for x, y in pairs]
        left[0].extend(one[len(two) :])
        left[1].extend(two[len(one) :])
    alone = []
    for one, two in _paired(left, lambda item: item.method):
        if len(one) == len(two) == 1:
            where = f"{one[0].header} | {two[0].header}"
            comparisons.append(_compared(where, one[0].row, two[0].row, "recipes differ"))
        else:
            alone += [
                f"only in {side}: {item.row.label} ({item.suite} · {item.header})"
                for side, items in (("A", one), ("B", two))
                for item in items
            ]
    return _adjusted(comparisons), alone


# --------------------------------------------------------------------------------------- as text


def _p(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.3f}".removeprefix("0") if value >= 0.001 else f"{value:.0e}"


def _table(where: str, items: Sequence[Comparison], width: int | None) -> str:
    """Write the table of one recipe, with verdicts and remarks below it."""
    rows, below = [], []
    for item in items:
        a, b = item.a, item.b
        label = a.label if a.label == b.label else f"{a.label} → {b.label}"
        means = [optional(side.mean, fraction) for side in (a, b)]
        tests = [_p(p) for p in (item.p, item.p_holm, item.p_smallest)]
        rows.append(
            [
                visible(label),
                *means,
                with_interval(item.effect, 2, alone=" (n=1)"),
                str(item.n),
                *tests,
            ]
        )
        below += [f"{label}: {a.verdict} → {b.verdict}"] if a.verdict != b.verdict else []
        below += [f"{label}: {item.note}"] if item.note else []
    too_wide = any(limits(rows, HEADS, width, [(0, 0)]))
    if too_wide and any("freeze=blocks" in row[0] for row in rows):
        rows = [[row[0].replace("freeze=blocks", "frozen"), *row[1:]] for row in rows]
        below.append("frozen: freeze=blocks")
    align = ["left", *["right"] * 7]
    parts = [paragraph([where], width)]
    parts += [tabulated(rows, HEADS, align=align, width=width, narrow=[(0, 12)])]
    return "\n\n".join(parts + ([paragraph(below, width)] if below else []))


def as_table(
    comparisons: Sequence[Comparison], alone: Sequence[str] = (), width: int | None = None
) -> str:
    """Write a table per recipe, the methods that only one side has, and a legend."""
    by_recipe = groupby(comparisons, key=lambda item: item.where)
    blocks = [_table(where, list(items), width) for where, items in by_recipe]
    blocks += [paragraph(alone, width)] if alone else []
    return "\n\n".join([*blocks, paragraph(LEGEND, width)]) + "\n"


def as_json(comparisons: Sequence[Comparison], alone: Sequence[str] = ()) -> str:
    """Return the comparisons as a JSON document."""
    items = [asdict(item) for item in comparisons]
    return document({"schema": SCHEMA, "comparisons": items, "alone": list(alone)})
