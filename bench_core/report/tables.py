"""The leaderboard as text: for a terminal, Markdown, LaTeX, CSV and JSON.

    leaderboard(records, settings, format="table", width=80) -> str

One table per recipe, never an average over two. The text is a function of the set of records, whatever their order.
Names are escaped in every format; NaN and infinity are printed in none. Where a table is for people, lines under it say
why each method was walked back, what failed and how to read the figures; CSV and JSON carry full precision
(`report.data`).

The terminal table fits `width` columns: columns go by importance, costs first, then texts are shortened (a distribution's name
goes where the rule's is unambiguous), then labels are cut, each with a legend below. Under 40 columns it does not shrink further.
Print it without markup (`click.echo`).
LaTeX needs `\\usepackage{booktabs}` and has the columns that a page of text holds; Markdown and CSV have all.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.judge import BP, Settings
from bench_core.analysis.leaderboard import Group, Row, judge_all
from bench_core.analysis.stats import Estimate
from bench_core.report import escape, notes
from bench_core.report.data import Judged, as_csv, as_json
from bench_core.report.rows import (
    Figure,
    by_passport,
    compact,
    fraction,
    gamma,
    growth,
    memory,
    passes,
    passport,
    reference,
    seconds,
    signed,
)
from bench_core.results.record import RunRecord

Format = Literal["table", "markdown", "latex", "csv", "json"]
FORMATS: tuple[Format, ...] = ("table", "markdown", "latex", "csv", "json")
NONE = "–"
NARROWEST = 40
_NO_COUNTS = 60  # a terminal narrower than this has no room for the column n


@dataclass(frozen=True)
class Cell:
    """One cell as raw text; `struck` for a number that means nothing."""

    text: str
    struck: bool = False


@dataclass(frozen=True)
class Column:
    key: str
    header: str
    right: bool
    cell: Callable[[Row], Cell]


def _rank(row: Row) -> Cell:
    return Cell(NONE if row.rank is None else f"{row.rank}=" if row.tied else str(row.rank))


def _accuracy(row: Row) -> Cell:
    found = row.accuracy
    if found is None:
        return Cell(NONE)
    if found.half_width is None:
        return Cell(f"{fraction(found.mean)} (n=1: no interval)")
    return Cell(f"{fraction(found.mean)} ± {fraction(found.half_width)}")


def _n(row: Row) -> Cell:
    done, total = len(row.finished), len(row.runs)
    return Cell(str(done) if done == total else f"{done} of {total} done")


def _points(found: Estimate | None, interval: bool) -> Cell:
    if found is None:
        return Cell(NONE)
    shown = f" ± {found.half_width:.1f}" if interval and found.half_width is not None else ""
    return Cell(signed(found.mean) + shown)


def _matched(row: Row, interval: bool = True) -> Cell:
    return Cell(NONE) if row.role == "floor" else _points(row.margin_matched, interval)


def _bp(row: Row, interval: bool = True) -> Cell:
    return (
        Cell(NONE)
        if row.role == "floor" and row.method.name == BP
        else _points(row.margin_bp, interval)
    )


def _gamma(row: Row, interval: bool = True) -> Cell:
    found = gamma(row)
    if found.estimate is None:
        return Cell(NONE)
    shown, half = fraction(found.estimate.mean), found.estimate.half_width
    shown = shown if shown.startswith("-") else "+" + shown
    error = f" ± {fraction(half)}" if interval and half is not None else ""
    return Cell(shown + error + ("" if found.in_use else " ‡"), struck=bool(found.not_diagnostic))


def _figure(
    get: Callable[[Row], Figure], show: Callable[[float], str] = compact
) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        figure = get(row)
        return Cell((figure.note or NONE) if figure.value is None else show(figure.value))

    return cell


COLUMNS = (
    Column("rank", "#", True, _rank),
    Column("method", "method", False, lambda row: Cell(row.label)),
    Column("accuracy", "accuracy", False, _accuracy),
    Column("n", "n", True, _n),
    Column("verdict", "verdict", False, lambda row: Cell(row.verdict)),
    Column("three", "D1 D2 D3", False, lambda row: Cell(row.three)),
    Column("matched", "Δ matched", True, _matched),
    Column("bp", "Δ bp floor", True, _bp),
    Column("gamma", "Γ deep", True, _gamma),
    Column("growth", "growth", True, _figure(growth)),
    Column("reference", "‖g_L‖ N=128", True, _figure(reference)),
    Column("passport", "uses", False, lambda row: Cell(passport(row) or NONE)),
    Column("seconds", "s/run", True, _figure(seconds)),
    Column("memory", "memory MB", True, _figure(memory, lambda value: f"{value / 1e6:.0f}")),
    Column("passes", "passes", True, _figure(passes)),
)
_SHORT_HEADERS = {"matched": "Δ pp", "bp": "Δ bp"}
_BARE = {
    "matched": _matched,
    "bp": _bp,
    "gamma": _gamma,
}  # neither a terminal nor a page has room for their intervals
_DROPPED = ("memory", "passes", "seconds", "three")  # before texts are shortened
_PAGE = 105  # characters of \scriptsize in a line of an article
_DROPPED_LATER = ("growth", "reference", "gamma", "passport", "bp")


def leaderboard(
    records: Sequence[RunRecord],
    settings: Settings | None = None,
    format: Format = "table",
    width: int | None = 80,
) -> str:
    """The leaderboard of all records, one table per recipe, as text that ends with a newline.

    width  columns of the terminal, for `table` only; None: as wide as it gets
    Raises `ValueError` for an unknown format.
    """
    settings = settings or Settings()
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}: one of {', '.join(FORMATS)}")
    return _written(
        [Judged(records[0].suite if records else "", judge_all(records, settings), settings)],
        format,
        width,
    )


def leaderboards(
    suites: Sequence[SuiteResults],
    format: Format = "table",
    width: int | None = 80,
    passports: bool = False,
) -> str:
    """The same for several suites: one document in CSV and JSON, one leaderboard after the other elsewhere.

    passports  rows with equal passports stand together; in a terminal the column that says them goes last
    """
    judged = [
        Judged(found.name, judge_all(found.records, found.settings), found.settings)
        for found in suites
    ]
    if passports:
        judged = [
            replace(item, groups=[by_passport(group) for group in item.groups]) for item in judged
        ]
    return _written(judged, format, width, passports)


def _written(
    suites: Sequence[Judged], format: Format, width: int | None, passports: bool = False
) -> str:
    if format == "csv":
        return as_csv(suites)
    if format == "json":
        return as_json(suites)
    texts = []
    for item in suites:
        if format == "table":
            texts.append(_table(item.groups, item.settings, width, passports))
        else:
            write = _markdown if format == "markdown" else _latex
            texts.append(write(item.groups, item.settings))
    return "\n".join(texts)


# ------------------------------------------------------------------------------------------------------------ terminal


def _tabulate(
    columns: Sequence[Column], cells: Sequence[Sequence[str]], style: str, headers: Sequence[str]
) -> str:
    from tabulate import tabulate

    align = ["right" if column.right else "left" for column in columns]
    text = tabulate(cells, headers=headers, tablefmt=style, disable_numparse=True, colalign=align)
    return "\n".join(line.rstrip() for line in text.splitlines())


def _short(verdict: str) -> str:
    """`walked back 3/3 (a 3, b 3)` → `walked back 3/3 a3 b3`; reasons of the undetermined stand below the table."""
    verdict = re.sub(r" \(([^()]* not measured)\)", "", verdict)
    return re.sub(
        r" \(([^()]*)\)", lambda found: " " + re.sub(r" (\d+),?", r"\1", found[1]), verdict
    )


def _cut(text: str, limit: int, mark: str = "") -> str:
    return text if len(text) <= limit else text[: max(limit - 1 - len(mark), 1)] + "…" + mark


def _plain(cell: Cell) -> str:
    return escape.plain(cell.text) + ("†" if cell.struck else "")


def _cells(group: Group, columns: Sequence[Column]) -> list[list[str]]:
    cells = []
    for row in group.rows:
        line = []
        for column in columns:
            bare = _BARE.get(column.key)
            cell = bare(row, interval=False) if bare else column.cell(row)
            line.append(_plain(cell).replace(" (n=1: no interval)", " (n=1)"))
        cells.append(line)
    return cells


def _wide(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> list[int]:
    """Widths as tabulate sets them: a header takes two more than its length."""
    return [
        max([len(column.header) + 2] + [len(line[i]) for line in cells])
        for i, column in enumerate(columns)
    ]


def _bare_names(group: Group) -> dict[str, str]:
    """Method of another distribution → its name alone, where no other method of the group has that."""
    refs = {row.method.name: row.method for row in group.rows}
    bare = {name: name.rpartition("/")[2] for name in refs}
    count = Counter(bare.values())
    return {
        name: text
        for name, text in bare.items()
        if text and refs[name].short != text and count[text] == 1
    }


def _fit(
    group: Group, width: int | None, passports: bool
) -> tuple[list[Column], list[list[str]], list[str]]:
    """Columns and cells that fit, and a legend of what had to be cut."""
    columns = list(COLUMNS)
    cells = _cells(group, columns)
    if width is None:
        return columns, cells, []
    width = max(width, NARROWEST)

    def too_wide() -> bool:
        return sum(_wide(columns, cells)) + 2 * (len(columns) - 1) > width

    def drop(key: str) -> None:
        nonlocal columns, cells
        if too_wide():
            index = [column.key for column in columns].index(key)
            columns = columns[:index] + columns[index + 1 :]
            cells = [line[:index] + line[index + 1 :] for line in cells]

    for key in _DROPPED:
        drop(key)
    verdict = [column.key for column in columns].index("verdict")
    legend = []
    if too_wide():
        # short texts leave room for more columns, so they come before figures are given up
        bare, named = _bare_names(group), dict[str, None]()
        for line, row in zip(cells, group.rows, strict=True):
            line[verdict] = _short(line[verdict])
            line[verdict - 1] = line[verdict - 1].removesuffix(" done")
            if row.role == "floor":
                line[1] = line[1].removesuffix(" (frozen)").replace("freeze=blocks", "frozen", 1)
                legend = ["frozen: freeze=blocks"]
            if row.method.name in bare:
                short, full = escape.plain(bare[row.method.name]), escape.plain(row.method.name)
                line[1] = short + line[1].removeprefix(full)
                named[f"{short} = {full}"] = None
        legend += named
        columns = [replace(c, header=_SHORT_HEADERS.get(c.key, c.header)) for c in columns]
    for key in _DROPPED_LATER:
        if not (passports and key == "passport"):
            drop(key)
    if len({line[verdict - 1] for line in cells}) == 1:
        drop("n")
        verdict = [column.key for column in columns].index("verdict")
    drop("matched")
    if (width < _NO_COUNTS or passports) and "n" in [column.key for column in columns]:
        drop("n")  # verdicts and the lines below tell how many runs there are
        verdict = [column.key for column in columns].index("verdict")
    if width < _NO_COUNTS and passports:
        drop("passport")
    if not too_wide():
        return columns, cells, legend
    widths = _wide(columns, cells)
    room = (
        width
        - 2 * (len(columns) - 1)
        - sum(w for i, w in enumerate(widths) if i not in (1, verdict))
    )
    label = min(
        widths[1], max(room - widths[verdict], room // 2)
    )  # the headers need 8 and 9 of at least 17
    for number, (line, row) in enumerate(zip(cells, group.rows, strict=True), start=1):
        for index, limit, full in (
            (1, label, line[1]),
            (verdict, room - label, escape.plain(row.verdict)),
        ):
            short = _cut(line[index], limit, str(number) if index == 1 else "")
            if short != line[index]:
                legend.append(f"{short} = {full}" if index == 1 else f"{line[1]}: {full}")
            line[index] = short
    return columns, cells, legend


_WRAP = partial(textwrap.wrap, subsequent_indent="  ", break_on_hyphens=False)


def _wrapped(line: str, width: int | None) -> str:
    return line if width is None else "\n".join(_WRAP(line, max(width, NARROWEST)))


def _table(groups: Sequence[Group], settings: Settings, width: int | None, passports: bool) -> str:
    if not groups:
        return notes.NOTHING + "\n"
    blocks = [escape.plain(settings.title)] if settings.title else []
    shown: set[str] = set()
    for header, group in zip(notes.headers(groups), groups, strict=True):
        columns, cells, legend = _fit(group, width, passports)
        shown |= {column.key for column in columns}
        lines = [escape.plain(line) for line in notes.of_group(group, settings)]
        table = _tabulate(columns, cells, "simple", [column.header for column in columns])
        below = "\n".join(_wrapped(line, width) for line in legend + lines)
        blocks.append(f"{_wrapped(escape.plain(header), width)}\n\n{table}\n\n{below}")
    left_out = [column.header for column in COLUMNS if column.key not in shown]
    said = (
        [f"No room at this width for {', '.join(left_out)}: --format markdown has all columns"]
        if left_out
        else []
    )
    last = [
        _wrapped(escape.plain(line), width) for line in said + notes.of_all(groups, settings, shown)
    ]
    return "\n\n".join([*blocks, "\n".join(last)]) + "\n"


# ------------------------------------------------------------------------------------------------- Markdown and LaTeX


def _struck(cell: Cell) -> str:
    text = escape.markdown(cell.text)
    return f"~~{text}~~" if cell.struck else text


def _markdown(groups: Sequence[Group], settings: Settings) -> str:
    if not groups:
        return notes.NOTHING + "\n"
    blocks = [f"## {escape.markdown(settings.title)}"] if settings.title else []
    for header, group in zip(notes.headers(groups), groups, strict=True):
        cells = [[_struck(column.cell(row)) for column in COLUMNS] for row in group.rows]
        table = _tabulate(
            COLUMNS, cells, "pipe", [escape.markdown(column.header) for column in COLUMNS]
        )
        lines = [f"- {escape.markdown(line)}" for line in notes.of_group(group, settings)]
        blocks += [f"**{escape.markdown(header)}**", table, "\n".join(lines)]
    last = [
        f"- {escape.markdown(line)}"
        for line in notes.of_all(groups, settings, (c.key for c in COLUMNS))
    ]
    return "\n\n".join([*blocks, "\n".join(last)]) + "\n"


def _latex_cell(column: Column, cell: str) -> str:
    text = escape.latex(cell)
    return "$-$" + text[1:] if column.right and text.startswith("-") and cell != NONE else text


def _latex(groups: Sequence[Group], settings: Settings) -> str:
    """The table of a terminal of `_PAGE` columns, which is what a line of text holds."""
    if not groups:
        return notes.NOTHING + "\n"
    blocks = []
    for header, group in zip(notes.headers(groups), groups, strict=True):
        columns, cells, legend = _fit(group, _PAGE, passports=False)
        align = "".join("r" if column.right else "l" for column in columns)
        heads = " & ".join(escape.latex(column.header) for column in columns)
        caption = escape.latex(f"{settings.title}: {header}" if settings.title else header)
        rows = [" & ".join(map(_latex_cell, columns, line)) + r" \\" for line in cells]
        said = notes.of_group(group, settings) + notes.of_all(
            groups, settings, [column.key for column in columns]
        )
        lines = [rf"{escape.latex(line)}\par" for line in legend + said]
        parts = [
            r"\begin{table}",
            r"\centering\scriptsize\setlength{\tabcolsep}{2pt}",
            rf"\caption{{{caption}}}",
        ]
        parts += [
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            heads + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
        ]
        parts += [r"\end{tabular}", r"\par\medskip\raggedright", *lines, r"\end{table}"]
        blocks.append("\n".join(parts))
    return "\n\n".join(blocks) + "\n"
