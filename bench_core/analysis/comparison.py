"""Compare the accuracies of two rules, or of two sets of rows, paired by seed.

A pair is two runs of one seed, one on each side. The effect is the accuracy of B minus that of A in
percentage points, with Student's interval over the seeds, the p of the exact sign-flip test, and
Holm's adjustment over all comparisons of one call. At few seeds the test cannot give a small p,
however large the effect (n = 3: .25), so a comparison also has the smallest possible p.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import fmean
from typing import Any, NamedTuple

from bench_core.analysis.accuracies import Scored, of_accuracies
from bench_core.analysis.stats import Estimate, estimate, holm, sign_flip_p, smallest_p
from bench_core.analysis.verdicts.floors import accuracies, explained, samples_of
from bench_core.analysis.verdicts.labels import method_key
from bench_core.analysis.verdicts.recipes import recipe
from bench_core.analysis.verdicts.rows import Row
from bench_core.analysis.verdicts.settings import Defaults
from bench_core.errors import UsageError, similar
from bench_core.names import FROZEN
from bench_core.suite.cells import same_name
from bench_core.suite.component import split_options


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


class Placed(NamedTuple):
    """A row, with its suite, the heading of its recipe and the defaults of the suite's options.

    number  of its recipe: two folders may have a suite of one name
    """

    suite: str
    header: str
    row: Row
    defaults: Defaults
    number: int

    @property
    def method(self) -> str:
        return method_key(self.row.method, self.defaults)

    @property
    def recipe(self) -> str:
        return recipe(self.row.runs[0].record, self.row.tuned)


def compared(where: str, a: Row, b: Row, note: str = "") -> Comparison:
    """Compare two rows over their common seeds; `p_holm` is left to the adjustment of all."""
    ours, theirs = (accuracies(run.record for run in row.runs) for row in (a, b))
    seeds = sorted(ours.keys() & theirs.keys())
    differences = [theirs[seed] - ours[seed] for seed in seeds]
    same = repr(a.runs) == repr(b.runs)  # a record with NaN is not equal to itself
    remarks = [note, "the same runs on both sides" if same else ""]
    if not seeds:
        remarks.append("no seed finished on both sides")
    elif ours.keys() != theirs.keys() or not (a.complete and b.complete):
        remarks.append("only seeds that both sides finished")
    if lengths := _unlike_lengths(a, b, seeds):
        remarks.append(f"trainings of unequal length, in epochs by seed ({lengths})")
    if places := _unlike_places(a, b, seeds):
        remarks.append(f"trained on different machines or PyTorch: {' and '.join(sorted(places))}")

    unlike = _unlike_data(a, b)
    if unlike:
        remarks.append(unlike)
    effect = None
    if seeds and not unlike:
        counts = not explained(run.record for run in (*a.runs, *b.runs))
        runs = (run.record for row in (a, b) for run in row.runs)
        scored = Scored(samples_of(runs), (*ours.values(), *theirs.values()))
        rounded = of_accuracies(differences, scored, terms=2, counts=counts)
        effect = (estimate(differences) if same else rounded).scaled(100.0)

    def side(row: Row, finished: Mapping[int, float]) -> Side:
        mean = fmean(finished[seed] for seed in seeds) if seeds else None
        return Side(row.label, mean, len(row.finished), len(row.runs), row.verdict.text)

    return Comparison(
        where,
        side(a, ours),
        side(b, theirs),
        len(seeds),
        effect=effect,
        p=sign_flip_p(differences) if seeds and not same and not unlike else None,
        p_holm=None,
        p_smallest=smallest_p(len(seeds)) if seeds and not unlike else None,
        note="; ".join(filter(None, remarks)),
    )


def _unlike_lengths(a: Row, b: Row, seeds: Sequence[int]) -> str:
    """Write the epochs of two rows if a diagnostic ended one of a pair early; "" otherwise."""
    runs = [{run.record.cell.seed: run.record for run in row.finished} for row in (a, b)]
    pairs = [(runs[0][seed], runs[1][seed]) for seed in seeds]
    stopped = any(record.stopped_by for pair in pairs for record in pair)
    if not stopped or all(one.epochs == other.epochs for one, other in pairs):
        return ""
    epochs = ([str(pair[side].epochs) for pair in pairs] for side in (0, 1))
    return "; ".join(f"{name}: {', '.join(own)}" for name, own in zip("AB", epochs, strict=True))


def _unlike_data(a: Row, b: Row) -> str:
    """Say that two rows are of different data sets; "" if they are not known to be."""
    ours, theirs = (row.runs[0].record for row in (a, b))
    if ours.cell.dataset.name != theirs.cell.dataset.name:
        names = f"{ours.cell.dataset.short} and {theirs.cell.dataset.short}"
        return f"accuracies on {names} cannot be compared"
    if ours.data_checksum and theirs.data_checksum and ours.data_checksum != theirs.data_checksum:
        return f"the data of {ours.cell.dataset.short} changed between these runs"
    return ""


def _unlike_places(a: Row, b: Row, seeds: Sequence[int]) -> set[str]:
    """Return the machines of the pairs of runs that were trained on different ones."""
    ours, theirs = ({r.record.cell.seed: r.record.place for r in x.finished} for x in (a, b))
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


def _named(rows: Sequence[Row], name: str) -> list[Row]:
    """Return the rows that a name with options in brackets means.

    `same_name` says which rule it is. Of its rows those count that have exactly the options of the
    name, in any order; without options, the judged rows; else those that have these and more.
    """

    def options(text: str) -> set[str]:
        inside = text.partition("[")[2].removesuffix("]")
        return {part.strip() for part in split_options(inside)} - {""}

    name = name.replace("freeze=blocks", FROZEN)
    rule, wanted = name.partition("[")[0], options(name)
    own = [row for row in rows if same_name(row.method.name, rule)]
    exact = [row for row in own if options(row.label) == wanted]
    judged = [row for row in own if (row.role == "floor") == (FROZEN in wanted)]
    return exact or [row for row in judged if wanted <= options(row.label)]


def methods(placed: Iterable[Placed], a: str, b: str) -> list[Comparison]:
    """Compare A with B in every recipe in which each means one row; UsageError without one.

    placed  the rows of all recipes, those of one recipe one after another
    """
    comparisons, labels, known, ambiguous = [], set[str](), set[str](), ""
    for _, items in groupby(placed, key=lambda item: item.number):
        own = list(items)
        suite, header, rows = own[0].suite, own[0].header, [item.row for item in own]
        labels |= {row.label for row in rows}
        picked = {name: _named(rows, name) for name in (a, b)}
        known |= {name for name, found in picked.items() if found}
        if not all(picked.values()):
            continue
        for name, found in picked.items():
            if len(found) > 1:
                many = f"{len(found)} methods of {suite} have this name"
                remedy = f"write one of them in full, such as '{found[0].label}'"
                ambiguous = f"{name}: {many}: {', '.join(row.label for row in found)}; {remedy}"
        if any(len(found) > 1 for found in picked.values()):
            continue
        comparisons.append(compared(f"{suite} · {header}", picked[a][0], picked[b][0]))
    if ambiguous and not comparisons:
        raise UsageError(ambiguous)
    if not comparisons:
        raise _nothing(a, b, known, labels)
    return _adjusted(comparisons)


def _nothing(a: str, b: str, known: set[str], labels: set[str]) -> UsageError:
    """Return the error for two rules that no recipe has; `known` are those that any has."""
    names = f"there are: {', '.join(sorted(labels)) or 'no runs'}"
    for name in (a, b):
        if name not in known:
            missing = "no such folder, and no such method in these results"
            parts = [f"{name}: {missing}", similar(name, labels), names]
            return UsageError("; ".join(filter(None, parts)))
    return UsageError(f"no recipe of these results has both {a} and {b}; {names}")


def _paired(
    sides: Sequence[Sequence[Placed]], key: Callable[[Placed], Any]
) -> list[tuple[list[Placed], list[Placed]]]:
    """Return the rows of both sides by key, in the order in which the keys appear."""
    by_key: dict[Any, tuple[list[Placed], list[Placed]]] = defaultdict(lambda: ([], []))
    for number, placed in enumerate(sides):
        for item in placed:
            by_key[key(item)][number].append(item)
    return list(by_key.values())


def sets(a: Sequence[Placed], b: Sequence[Placed]) -> tuple[list[Comparison], list[str]]:
    """Compare every method that both sets have; return a line for each that only one set has.

    Rows of the same recipe are paired first. A method that is then left once on both sides is
    compared too, with a remark that the recipes differ.
    """
    comparisons: list[Comparison] = []
    left: tuple[list[Placed], list[Placed]] = ([], [])
    for one, two in _paired((a, b), lambda item: (item.recipe, item.method)):
        pairs = zip(one, two, strict=False)
        comparisons += [compared(x.header, x.row, y.row) for x, y in pairs]
        left[0].extend(one[len(two) :])
        left[1].extend(two[len(one) :])
    alone = []
    for one, two in _paired(left, lambda item: item.method):
        if len(one) == len(two) == 1:
            where = f"{one[0].header} | {two[0].header}"
            comparisons.append(compared(where, one[0].row, two[0].row, "recipes differ"))
            continue
        for side, items in (("A", one), ("B", two)):
            only = f"only in {side}"
            if one and two:
                only = f"with this recipe only in {side}, and several could be its pair"
            texts = ((item.row.label, f"{item.suite} · {item.header}") for item in items)
            alone += [f"{only}: {label} ({place})" for label, place in texts]
    return _adjusted(comparisons), alone
