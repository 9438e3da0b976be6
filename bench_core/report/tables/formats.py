"""Write the leaderboard for a terminal, as Markdown, LaTeX, CSV or JSON, a table per recipe.

Tables for people begin with a sentence that says which rules work, and show the rules with the main
columns; floors and further columns are shown on request. CSV and JSON have everything in full
precision (`data`). The text depends on the set of records, not on their order. Every format
escapes names, and none prints NaN or infinity. The terminal's table fits its width, at least 40
columns (`fit`).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.verdicts.rows import Group, Row
from bench_core.analysis.verdicts.settings import Settings
from bench_core.errors import UsageError
from bench_core.report.tables import columns as known
from bench_core.report.tables import legend, notes
from bench_core.report.tables.columns import Column, Text, columns_of
from bench_core.report.tables.data import as_csv, as_json
from bench_core.report.tables.fit import fit
from bench_core.report.tables.next_steps import next_steps
from bench_core.report.text import escape
from bench_core.report.text.layout import NARROWEST, no_room, paragraph, tabulated
from bench_core.report.text.sheet import latex_number, latex_table
from bench_core.report.view import View, view
from bench_core.report.words import doubts, reasons, summary
from bench_core.report.words.rows import by_passport, families

Format = Literal["table", "markdown", "latex", "csv", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)
PAGE = 105  # characters of \\scriptsize in a line of an article
COMMENT = "Take what your text needs of these: results, reasons of verdicts, columns, sources"
INDENT = 5  # of a reason below its row


@dataclass(frozen=True)
class Wanted:
    """What a table for people shows.

    width      columns of the terminal; None: as wide as it gets
    passports  put rows with equal passports together; a terminal drops their column last
    floors     show the floors, each below its rule
    columns    further columns, by key, letter or name of a diagnostic; "all": every one
    planned    identities of the cells of the command that trained; None: none did
    """

    width: int | None = 80
    passports: bool = False
    floors: bool = False
    columns: Collection[str] = ()
    planned: Collection[str] | None = None

    def rows(self, group: Group, settings: Settings) -> list[Row]:
        """Return the rows of a table; floors alone are shown where there is no rule."""
        every = families(group, settings)
        if not self.floors and any(row.role != "floor" for row, _ in every):
            return [row for row, _ in every if row.role != "floor"]
        return [row for rule, floors in every for row in (rule, *floors)]


def leaderboards(
    suites: Sequence[SuiteResults], format: Format = "table", wanted: Wanted = Wanted()
) -> str:
    """Return the leaderboards of several suites: one document in CSV and JSON, else one by one.

    Raises `ValueError` for an unknown format, UsageError for an unknown column.
    """
    return "\n".join(texts(suites, format, wanted))


def texts(suites: Sequence[SuiteResults], format: Format, wanted: Wanted) -> list[str]:
    """Return the leaderboard of each suite as a text; one text in all in CSV and JSON."""
    views = [view(suite) for suite in suites]
    if wanted.passports:
        views = [replace(v, groups=tuple(map(by_passport, v.groups))) for v in views]
    writers: dict[str, Callable[[View, Wanted], str]] = {
        "table": _terminal,
        "markdown": _markdown,
        "latex": _latex,
    }
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}: one of {', '.join(FORMATS)}")
    strangers, names = known.unknown((g for v in views for g in v.groups), wanted.columns)
    if strangers:
        one_of = ", ".join(dict.fromkeys([*names, known.ALL]))
        raise UsageError(f"--column {strangers[0]}: no such column; there are {one_of}")
    if format in ("csv", "json"):
        return [as_csv(views) if format == "csv" else as_json(views)]
    write = writers[format]
    return [write(shown, wanted) if shown.groups else notes.NOTHING + "\n" for shown in views]


def _table(columns: Sequence[Column], cells: Sequence[Sequence[str]], style: str) -> str:
    if style == "simple":
        heads = ["\n".join(map(escape.visible, c.header.split("|"))) for c in columns]
    else:
        heads = [escape.markdown(column.title) for column in columns]
    align = ["right" if column.right else "left" for column in columns]
    return tabulated(cells, heads, style=style, align=align)


def _with_reasons(
    table: str, heights: Sequence[int], texts: Sequence[str], width: int | None
) -> str:
    """Write below each row of a terminal's table why it has its verdict.

    heights  the number of lines of each row
    """
    room = 10**6 if width is None else max(width, NARROWEST)
    indent = " " * INDENT
    wrapper = textwrap.TextWrapper(
        room, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
    lines = table.splitlines()
    start = len(lines) - sum(heights)
    every = lines[:start]
    for height, text in zip(heights, texts, strict=True):
        every += lines[start : start + height] + wrapper.wrap(escape.visible(text))
        start += height
    return "\n".join(every)


def _opening(shown: View) -> list[str]:
    """Return the sentence about all recipes of a suite, if it has several."""
    return [text] if (text := summary.of_recipes(shown.groups)) else []


def _terminal(shown: View, wanted: Wanted) -> str:
    settings, width = shown.settings, wanted.width
    title = escape.visible(shown.title) or shown.name
    blocks = [paragraph([title, *_opening(shown)], width)]
    every, kept = dict[str, str](), set[str]()
    for header, group in shown.recipes:
        columns, rows = columns_of(group, wanted.columns), wanted.rows(group, settings)
        every |= {column.key: column.title for column in columns}
        sheet = fit(rows, columns, width, wanted.passports)
        kept |= {column.key for column in sheet.columns}
        table = _table(sheet.columns, sheet.cells(), "simple")
        texts = sheet.renamed("; ".join(reasons.of_row(row, settings)) for row in rows)
        heights = [1 + line["method"].count("\n") for line in sheet.lines]
        table = _with_reasons(table, heights, texts, width)
        remarks = sheet.renamed(notes.of_group(group, settings, rows))
        below = paragraph(sheet.legend + remarks, width)
        opening = filter(None, [summary.opening(group), notes.warning(group, settings)])
        above = paragraph(sheet.renamed(opening), width, indent="")
        blocks += [above, f"{paragraph([header], width)}\n\n{table}", below]
    last = legend.of_all(shown.groups, settings, kept)
    if left_out := [title for key, title in every.items() if key not in kept]:
        last.append(no_room(left_out))
    last.append(_more(shown, wanted))
    file = shown.results.file
    last += next_steps(shown.groups, shown.results.name, wanted.planned, file.seeds if file else ())
    return "\n\n".join([*filter(None, blocks), paragraph(filter(None, last), width)]) + "\n"


def _more(shown: View, wanted: Wanted) -> str:
    """Say how to see the floors and the other columns."""
    every = {c.key for group in shown.groups for c in known.every_column(group)}
    here = {c.key for group in shown.groups for c in columns_of(group, wanted.columns)}
    order = [c.key for c in known.COLUMNS if c.key in every - here]
    order += sorted(every - here - {*order})
    parts = ["bench info NAME explains a rule, a network or a diagnostic"]
    parts += [] if wanted.floors else ["bench leaderboard --floors shows the floors"]
    parts += [f"--column all adds {len(order)} columns, --column NAME one"] if order else []
    return "; ".join(parts)


def _struck(cell: Text) -> str:
    text = escape.markdown(cell.text)
    return f"~~{text}~~ †" if cell.struck else text


def _markdown(shown: View, wanted: Wanted) -> str:
    settings, kept = shown.settings, set[str]()
    blocks = [f"## {escape.markdown(shown.title or shown.name)}"]
    blocks += map(escape.markdown, _opening(shown))
    for header, group in shown.recipes:
        columns, rows = columns_of(group, wanted.columns), wanted.rows(group, settings)
        kept |= {column.key for column in columns}
        cells = [[_struck(column.cell(row)) for column in columns] for row in rows]
        verdict = next(i for i, column in enumerate(columns) if column.key == "verdict")
        for line, row in zip(cells, rows, strict=True):
            texts = "; ".join(reasons.of_row(row, settings))
            line[verdict] += f": {escape.markdown(texts)}" * bool(texts)
        opening = filter(None, [summary.opening(group), notes.warning(group, settings)])
        blocks += map(escape.markdown, opening)
        blocks += [f"**{escape.markdown(header)}**", _table(columns, cells, "pipe")]
        blocks.append(escape.markdown_list(notes.of_group(group, settings, rows)))
    last = escape.markdown_list(legend.of_all(shown.groups, settings, kept))
    return "\n\n".join(filter(None, [*blocks, last])) + "\n"


def _latex_cell(column: Column, cell: str) -> str:
    lines = cell.split("\n")
    if len(lines) > 1:
        every = r" \\ ".join(map(escape.latex, lines))
        return rf"\begin{{tabular}}[t]{{@{{}}l@{{}}}}{every}\end{{tabular}}"
    return latex_number(cell, column.right)


def _latex_head(column: Column) -> str:
    parts = [escape.latex(part) for part in column.header.split("|")]
    stacked = r"\\ ".join(parts)
    return stacked if len(parts) == 1 else rf"\shortstack{{{stacked}}}"


def _latex(shown: View, wanted: Wanted) -> str:
    """Return tables as wide as a terminal of `PAGE` columns.

    A table has a short caption, a label, and below it what a reader of the paper needs; a comment
    behind it has the rest, ready to be pasted into a text.
    """
    settings = shown.settings
    blocks = []
    for number, (header, group) in enumerate(shown.recipes, start=1):
        sheet = fit(wanted.rows(group, settings), columns_of(group, wanted.columns), PAGE)
        columns = sheet.columns
        align = "".join("r" if column.right else "l" for column in columns)
        heads = list(map(_latex_head, columns))
        title, unlike = shown.title_of(group)
        heading = f"{title}. {header}" if title else header
        place = re.sub(r"[^A-Za-z0-9_.-]+", "-", shown.name) + f"-{number}" * (number > 1)
        keys = [column.key for column in columns]
        below = sheet.legend + sheet.renamed(_below(group, settings, keys))
        remarks = [summary.opening(group), *notes.of_group(group, settings)]
        remarks = [unlike] * bool(unlike) + remarks
        remarks = sheet.renamed(remarks + legend.of_all(shown.groups, settings, keys))
        if sheet.left_out:
            titles = [column.title for column in sheet.left_out]
            remarks.insert(0, no_room(titles, "on a page"))
        cells = [list(map(_latex_cell, columns, line)) for line in sheet.cells()]
        body = [
            latex_table(heading, align, heads, cells, below, f"tab:{place}"),
            f"% {COMMENT}",
            *(f"% {escape.latex(line)}" for line in remarks if line not in below),
        ]
        blocks.append("\n".join(body))
    text = "\n\n".join(blocks) + "\n"
    letters = r" and \usepackage[T1]{fontenc}" * (not escape.T1.isdisjoint(text))
    wide = "in a two-column paper write table* for table"
    return rf"% needs \usepackage{{booktabs}}{letters}; {wide}" + "\n" + text


def _below(group: Group, settings: Settings, keys: Sequence[str]) -> list[str]:
    """Return what must stand below a table wherever it is pasted: marks, doubts and legend."""
    return [
        *filter(None, [notes.warning(group, settings)]),
        *notes.marked(group),
        *doubts.of_group(group, settings),
        *legend.of_all([group], settings, keys),
    ]
