"""Two things compared: methods within results, or two sets of results row by row. Pure functions of judged rows.

Pairs are runs of one seed on both sides. The effect is accuracy of B minus accuracy of A in percentage points, with
Student's interval over the seeds, the p of the exact sign-flip test, and Holm's adjustment over all comparisons that are
made at once. At few seeds that test cannot give a small p whatever the effect (n = 3: .25), so its smallest is told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.judge import method_key, recipe
from bench_core.analysis.leaderboard import Group, Row, accuracies, judge_all
from bench_core.analysis.stats import Estimate, estimate, holm, sign_flip_p, smallest_p
from bench_core.errors import UsageError
from bench_core.report import notes


@dataclass(frozen=True)
class Side:
    """One side of a comparison."""

    label: str
    mean: float | None
    finished: int
    runs: int
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """A against B. `effect` is B - A in points over the `n` common seeds; p values are None where there is no pair."""

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
    """A row, its recipe and where it stands."""

    suite: str
    recipe: str
    header: str
    row: Row


def _placed(suites: Sequence[SuiteResults]) -> list[_Placed]:
    placed = []
    for found in suites:
        groups = judge_all(found.records, found.settings)
        for header, group in zip(notes.headers(groups), groups, strict=True):
            placed += [
                _Placed(found.name, recipe(group.records[0]), header, row) for row in group.rows
            ]
    return placed


def _side(row: Row, shared: Mapping[int, float]) -> Side:
    """A side and its mean over the seeds that the other one finished too."""
    return Side(
        row.label,
        fmean(shared.values()) if shared else None,
        len(row.finished),
        len(row.runs),
        row.verdict,
    )


def _compared(where: str, a: Row, b: Row, note: str = "") -> Comparison:
    left, right = (accuracies(run.record for run in row.runs) for row in (a, b))
    seeds = sorted(left.keys() & right.keys())
    differences = [100.0 * (right[seed] - left[seed]) for seed in seeds]
    same = [run.record.identity for run in a.runs] == [
        run.record.identity for run in b.runs
    ] and a.runs == b.runs
    remarks = [note] if note else []
    if same:
        remarks.append("the same runs on both sides")
    if not seeds:
        remarks.append("no seed finished on both sides")
    elif len(left) != len(seeds) or len(right) != len(seeds):
        remarks.append("only seeds that both sides finished")
    return Comparison(
        where, _side(a, {seed: left[seed] for seed in seeds}), _side(b, {seed: right[seed] for seed in seeds}), len(seeds),
        effect=estimate(differences) if differences else None,
        p=sign_flip_p(differences) if differences and not same else None,
        p_holm=None,
        p_smallest=smallest_p(len(seeds)) if differences else None,
        note="; ".join(remarks),
    )  # fmt: skip


def _adjusted(found: Sequence[Comparison]) -> list[Comparison]:
    tested = [item for item in found if item.p is not None]
    by_place = dict(
        zip(map(id, tested), holm([item.p for item in tested if item.p is not None]), strict=True)
    )
    return [replace(item, p_holm=by_place.get(id(item))) for item in found]


# ------------------------------------------------------------------------------------------------------------- methods


def _named(group: Group, name: str) -> list[Row]:
    """The rows that a name may mean: the whole label, else the rule among what competes, else the rule among the floors."""
    spellings = (
        [row for row in group.rows if name in (row.label, row.label.removesuffix(" (frozen)"))],
        [
            row
            for row in group.rows
            if row.role != "floor" and name in (row.method.name, row.method.short)
        ],
        [
            row
            for row in group.rows
            if row.role == "floor" and f"{row.method.short}[frozen]" == name
        ],
    )
    return next((rows for rows in spellings if rows), [])


def methods(suites: Sequence[SuiteResults], a: str, b: str) -> list[Comparison]:
    """Method A against method B in every recipe that has both.

    Raises `UsageError` where a name means no row, or several of one recipe.
    """
    found, seen, judged = [], set(), list[Group]()
    for results in suites:
        groups = judge_all(results.records, results.settings)
        judged += groups
        for header, group in zip(notes.headers(groups), groups, strict=True):
            seen |= {row.label for row in group.rows}
            picked = [_named(group, name) for name in (a, b)]
            for name, rows in zip((a, b), picked, strict=True):
                if len(rows) > 1 and all(picked):
                    several = notes.listed(row.label for row in rows)
                    raise UsageError(
                        f"{name}: {len(rows)} methods of {results.name} have this name: {several}"
                    )
            if all(picked):
                found.append(_compared(f"{results.name} · {header}", picked[0][0], picked[1][0]))
    if not found:
        if unknown := [name for name in (a, b) if not any(_named(group, name) for group in judged)]:
            there = notes.listed(sorted(seen)) or "no runs"
            raise UsageError(
                f"{unknown[0]}: no such folder, and no such method in these results; there are: {there}"
            )
        raise UsageError(
            f"no recipe of these results has both {a} and {b}; there are: {notes.listed(sorted(seen)) or 'no runs'}"
        )
    return _adjusted(found)


# ---------------------------------------------------------------------------------------------------------------- sets


def sets(
    a: Sequence[SuiteResults], b: Sequence[SuiteResults]
) -> tuple[list[Comparison], list[str]]:
    """Every method of two sets of results that both have, and a line for each that only one has.

    Rows of the same recipe go together; what is left goes together by method where that is unambiguous, and says that the
    recipes differ.
    """
    sides = [_placed(a), _placed(b)]
    exact: list[dict[tuple[str, str], list[_Placed]]] = []
    for placed in sides:
        by_key: dict[tuple[str, str], list[_Placed]] = defaultdict(list)
        for item in placed:
            by_key[item.recipe, method_key(item.row.runs[0].record)].append(item)
        exact.append(by_key)
    found: list[Comparison] = []
    left: list[list[_Placed]] = [[], []]
    for key in dict.fromkeys([*exact[0], *exact[1]]):
        one, two = exact[0].get(key, []), exact[1].get(key, [])
        for x, y in zip(one, two, strict=False):
            found.append(_compared(x.header, x.row, y.row))
        left[0] += one[len(two) :]
        left[1] += two[len(one) :]
    by_method: list[dict[str, list[_Placed]]] = []
    for items in left:
        grouped: dict[str, list[_Placed]] = defaultdict(list)
        for item in items:
            grouped[method_key(item.row.runs[0].record)].append(item)
        by_method.append(grouped)
    alone = []
    for method in dict.fromkeys([*by_method[0], *by_method[1]]):
        one, two = by_method[0].get(method, []), by_method[1].get(method, [])
        if len(one) == len(two) == 1:
            note = "recipes differ"
            found.append(
                _compared(f"{one[0].header} | {two[0].header}", one[0].row, two[0].row, note)
            )
            continue
        for name, items in (("A", one), ("B", two)):
            alone += [
                f"only in {name}: {item.row.label} ({item.suite} · {item.header})" for item in items
            ]
    return _adjusted(found), alone
