"""Compare methods within results, or two sets of results row by row, and write the comparisons.

A pair is two runs of one seed, one on each side. The effect is the accuracy of B minus that of A in
percentage points, with Student's interval over the seeds, the p of the exact sign-flip test, and
Holm's adjustment over all comparisons of one call. At few seeds the test cannot give a small p,
however large the effect (n = 3: .25), so a comparison also has the smallest possible p.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from statistics import fmean
from typing import Any, NamedTuple

from bench_core.analysis.accuracies import of_accuracies
from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.stats import Estimate, estimate, holm, sign_flip_p, smallest_p
from bench_core.analysis.verdicts.floors import accuracies, explained
from bench_core.analysis.verdicts.judge import Defaults, method_key
from bench_core.analysis.verdicts.leaderboard import Group, Row
from bench_core.analysis.verdicts.recipes import recipe
from bench_core.errors import UsageError, did_you_mean
from bench_core.report.tables.data import document
from bench_core.report.text.escape import visible
from bench_core.report.text.layout import joined, listed, paragraph, tabulated
from bench_core.report.text.numbers import NONE, fraction, optional, with_interval
from bench_core.report.view import view
from bench_core.results.reference import place
from bench_core.suite import protocol
from bench_core.suite.cells import same_name
from bench_core.suite.component import split_options
from bench_core.suite.names import FROZEN

SCHEMA = "bench-compare/1"
HEADS = ["method", "A", "B", "B - A (pp)", "n", "p", "p Holm", "least p"]
LETTERS = ", ".join(f"{letter} {name}" for letter, name in protocol.LETTERS.items())
LEGEND = (
    "B - A: difference of the accuracies in percentage points, mean over the n seeds that both"
    " finished, ± its 95 % interval (Student t of the paired differences).",
    "p: exact sign-flip test of the pairs; Holm: adjusted for all comparisons above; least p: the"
    " smallest that n seeds allow, whatever the effect.",
)
VERDICTS = f"Letters of a verdict: {LETTERS}; bp floor: worse than bp with random blocks."


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
    """A against B over `n` common seeds: the effect is B - A in percentage points."""

    where: str
    a: Side
    b: Side
    n: int
    effect: Estimate | None
    p: float | None
    p_holm: float | None
    p_smallest: float | None
    note: str


class _Placed(NamedTuple):
    suite: str
    header: str
    row: Row
    defaults: Defaults

    @property
    def method(self) -> str:
        return method_key(self.row.method, self.defaults)

    @property
    def recipe(self) -> str:
        return recipe(self.row.runs[0].record, self.row.tuned)


def _placed(suites: Sequence[SuiteResults]) -> list[_Placed]:
    return [
        _Placed(shown.results.name, header, row, shown.settings.recorded)
        for shown in map(view, suites)
        for header, group in shown.recipes
        for row in group.rows
    ]


def _compared(where: str, a: Row, b: Row, note: str = "") -> Comparison:
    ours, theirs = (accuracies(run.record for run in row.runs) for row in (a, b))
    seeds = sorted(ours.keys() & theirs.keys())
    differences = [theirs[seed] - ours[seed] for seed in seeds]
    beside = [*ours.values(), *theirs.values()]
    same = repr(a.runs) == repr(b.runs)  # a record with NaN is not equal to itself
    remarks = [note, "the same runs on both sides" if same else ""]
    if not seeds:
        remarks.append("no seed finished on both sides")
    elif ours.keys() != theirs.keys() or not (a.complete and b.complete):
        remarks.append("only seeds that both sides finished")
    if places := _unlike_places(a, b, seeds):
        remarks.append(f"trained on different machines or PyTorch: {joined(sorted(places))}")

    effect = None
    if seeds:
        counts = not explained(run.record for run in (*a.runs, *b.runs))
        compared = of_accuracies(differences, beside, differences=True, counts=counts)
        effect = (estimate(differences) if same else compared).scaled(100.0)

    def side(row: Row, finished: Mapping[int, float]) -> Side:
        mean = fmean(finished[seed] for seed in seeds) if seeds else None
        return Side(row.label, mean, len(row.finished), len(row.runs), row.verdict)

    return Comparison(
        where,
        side(a, ours),
        side(b, theirs),
        len(seeds),
        effect=effect,
        p=sign_flip_p(differences) if seeds and not same else None,
        p_holm=None,
        p_smallest=smallest_p(len(seeds)) if seeds else None,
        note="; ".join(filter(None, remarks)),
    )


def _unlike_places(a: Row, b: Row, seeds: Sequence[int]) -> set[str]:
    """Return the machines of the pairs of runs that were trained on different ones."""
    ours, theirs = ({r.record.cell.seed: place(r.record) for r in x.finished} for x in (a, b))
    return {
        where
        for seed in seeds
        if ours[seed] != theirs[seed]
        for where in (ours[seed], theirs[seed])
    }


def _adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    adjusted = iter(holm([item.p for item in comparisons if item.p is not None]))
    return [
        item if item.p is None else replace(item, p_holm=next(adjusted)) for item in comparisons
    ]


def _named(group: Group, name: str) -> list[Row]:
    """Return the rows that a name with options in brackets means.

    `same_name` says which rule it is. Of its rows those count that have exactly the options of the
    name, in any order; without options, the judged rows; else those that have these and more.
    """

    def options(text: str) -> set[str]:
        inside = text.partition("[")[2].removesuffix("]")
        return {part.strip() for part in split_options(inside)} - {""}

    name = name.replace("freeze=blocks", FROZEN)
    rule, wanted = name.partition("[")[0], options(name)
    own = [row for row in group.rows if same_name(row.method.name, rule)]
    exact = [row for row in own if options(row.label) == wanted]
    judged = [row for row in own if (row.role == "floor") == (FROZEN in wanted)]
    return exact or [row for row in judged if wanted <= options(row.label)]


def methods(suites: Sequence[SuiteResults], a: str, b: str) -> list[Comparison]:
    """Compare A with B in every recipe in which each means one row; UsageError without one."""
    comparisons, labels, known, ambiguous = [], set[str](), set[str](), ""
    for shown in map(view, suites):
        for header, group in shown.recipes:
            labels |= {row.label for row in group.rows}
            picked = {name: _named(group, name) for name in (a, b)}
            known |= {name for name, rows in picked.items() if rows}
            if not all(picked.values()):
                continue
            for name, rows in picked.items():
                if len(rows) > 1:
                    labelled = listed(row.label for row in rows)
                    many = f"{len(rows)} methods of {shown.results.name} have this name"
                    remedy = f"write one of them in full, such as '{rows[0].label}'"
                    ambiguous = f"{name}: {many}: {labelled}; {remedy}"
            if any(len(rows) > 1 for rows in picked.values()):
                continue
            where = f"{shown.results.name} · {header}"
            comparisons.append(_compared(where, picked[a][0], picked[b][0]))
    if ambiguous and not comparisons:
        raise UsageError(ambiguous)
    if not comparisons:
        names = f"there are: {listed(sorted(labels)) or 'no runs'}"
        for name in (a, b):
            if name not in known:
                missing = "no such folder, and no such method in these results"
                hint = did_you_mean(name, labels)
                near = f"; {hint}" if hint.startswith("did you mean") else ""
                raise UsageError(f"{name}: {missing}{near}; {names}")
        raise UsageError(f"no recipe of these results has both {a} and {b}; {names}")
    return _adjusted(comparisons)


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
            for side, items in (("A", one), ("B", two)):
                texts = ((item.row.label, f"{item.suite} · {item.header}") for item in items)
                alone += [f"only in {side}: {label} ({place})" for label, place in texts]
    return _adjusted(comparisons), alone


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
    return f"{value:.3f}".removeprefix("0") if value >= 0.001 else f"{value:.0e}"


def _table(where: str, items: Sequence[Comparison], width: int | None) -> str:
    """Write the table of one recipe, with verdicts and remarks below it."""
    rows, below = [], []
    for item in items:
        a, b = item.a, item.b
        label = a.label if a.label == b.label else f"{a.label} → {b.label}"
        means = [optional(side.mean, fraction) for side in (a, b)]
        tests = [_p(p) for p in (item.p, item.p_holm, item.p_smallest)]
        effect = with_interval(item.effect, 2, alone=" (n=1)")
        rows.append([visible(label), *means, effect, str(item.n), *tests])
        below += [f"{label}: {a.verdict} → {b.verdict}"] if a.verdict != b.verdict else []
        below += [f"{label}: {item.note}"] if item.note else []
    align = ["left", *["right"] * 7]
    table = tabulated(rows, HEADS, align=align, width=width, narrow=[(0, 12)])
    parts = [paragraph([where], width), table, paragraph(below, width)]
    return "\n\n".join(filter(None, parts))


def as_table(
    comparisons: Sequence[Comparison], alone: Sequence[str] = (), width: int | None = None
) -> str:
    """Write a table per recipe, the methods that only one side has, and a legend."""
    by_recipe = groupby(comparisons, key=lambda item: item.where)
    blocks = [_table(where, list(items), width) for where, items in by_recipe]
    judged = any(item.a.verdict != item.b.verdict for item in comparisons)
    blocks += [paragraph(alone, width), paragraph([*LEGEND, *[VERDICTS] * judged], width)]
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
