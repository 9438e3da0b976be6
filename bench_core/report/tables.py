"""Write the leaderboard for a terminal, as Markdown, LaTeX, CSV or JSON, a table per recipe.

The text depends on the set of records, not on their order. Every format escapes names, and none
prints NaN or infinity. The terminal's table fits its width, at least 40 columns (`report.fit`);
LaTeX needs `\\usepackage{booktabs}` and has the columns that a page of text holds. Markdown, CSV
and JSON have all columns (`report.columns`), CSV and JSON in full precision (`report.data`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, get_args

from bench_core.analysis.gather import SuiteResults
from bench_core.report import escape, notes
from bench_core.report.columns import Column, Text, columns_of
from bench_core.report.data import as_csv, as_json
from bench_core.report.fit import fit
from bench_core.report.numbers import NONE
from bench_core.report.rows import by_passport
from bench_core.report.text import paragraph, tabulated
from bench_core.report.view import View, view

Format = Literal["table", "markdown", "latex", "csv", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)
PAGE = 105  # characters of \scriptsize in a line of an article


def leaderboards(
    suites: Sequence[SuiteResults],
    format: Format = "table",
    width: int | None = 80,
    passports: bool = False,
) -> str:
    """Return the leaderboards of several suites: one document in CSV and JSON, else one by one.

    width      columns of the terminal, for `table` only; None: as wide as it gets
    passports  put rows with equal passports together; a terminal drops their column last
    Raises `ValueError` for an unknown format.
    """
    views = [view(suite) for suite in suites]
    if passports:
        views = [replace(v, groups=tuple(map(by_passport, v.groups))) for v in views]
    if format in ("csv", "json"):
        return as_csv(views) if format == "csv" else as_json(views)
    writers: dict[str, Callable[[View], str]] = {
        "table": partial(_terminal, width=width, passports=passports),
        "markdown": _markdown,
        "latex": _latex,
    }
    if format not in writers:
        raise ValueError(f"unknown format {format!r}: one of {', '.join(FORMATS)}")
    write = writers[format]
    return "\n".join(write(shown) if shown.groups else notes.NOTHING + "\n" for shown in views)


def _table(columns: Sequence[Column], cells: Sequence[Sequence[str]], style: str) -> str:
    escaped = escape.visible if style == "simple" else escape.markdown
    heads = [escaped(column.header) for column in columns]
    align = ["right" if column.right else "left" for column in columns]
    return tabulated(cells, heads, style=style, align=align)


def _terminal(shown: View, width: int | None, passports: bool) -> str:
    settings = shown.settings
    blocks = [escape.visible(shown.title)] if shown.title else []
    every, kept = dict[str, str](), set[str]()
    for header, group in shown.recipes:
        columns = columns_of(group)
        every |= {column.key: column.header for column in columns}
        sheet = fit(group, columns, width, passports)
        kept |= {column.key for column in sheet.columns}
        table = _table(sheet.columns, sheet.cells(), "simple")
        below = paragraph(sheet.legend + notes.of_group(group, settings), width)
        above = paragraph(filter(None, [header, notes.warning(group)]), width)
        blocks.append(f"{above}\n\n{table}\n\n{below}")
    last = notes.of_all(shown.groups, settings, kept)
    if left_out := [header for key, header in every.items() if key not in kept]:
        names = ", ".join(left_out)
        last.insert(0, f"No room at this width for {names}: --format markdown has all columns")
    return "\n\n".join([*blocks, paragraph(last, width)]) + "\n"


def _struck(cell: Text) -> str:
    text = escape.markdown(cell.text)
    return f"~~{text}~~" if cell.struck else text


def _markdown(shown: View) -> str:
    settings = shown.settings
    blocks = [f"## {escape.markdown(shown.title)}"] if shown.title else []
    for header, group in shown.recipes:
        columns = columns_of(group)
        cells = [[_struck(column.cell(row)) for column in columns] for row in group.rows]
        below = escape.markdown_list(notes.of_group(group, settings))
        blocks.append(f"**{escape.markdown(header)}**")
        blocks += [escape.markdown(text) for text in [notes.warning(group)] if text]
        blocks += [_table(columns, cells, "pipe"), below]
    return "\n\n".join([*blocks, escape.markdown_list(notes.of_all(shown.groups, settings))]) + "\n"


def _latex_cell(column: Column, cell: str) -> str:
    text = escape.latex(cell)
    return "$-$" + text[1:] if column.right and text.startswith("-") and cell != NONE else text


def _latex(shown: View) -> str:
    """Return tables as wide as a terminal of `PAGE` columns, with every further diagnostic."""
    settings = shown.settings
    blocks = []
    for header, group in shown.recipes:
        kept = [replace(c, drop=None if c.drop == 0 else c.drop) for c in columns_of(group)]
        sheet = fit(group, kept, PAGE)
        columns = sheet.columns
        align = "".join("r" if column.right else "l" for column in columns)
        heads = " & ".join(escape.latex(column.header) for column in columns)
        title = shown.title_of(group)
        heading = f"{title}: {header}" if title else header
        caption = escape.latex(". ".join(filter(None, [heading, notes.warning(group)])))
        keys = [column.key for column in columns]
        below = notes.of_group(group, settings) + notes.of_all(shown.groups, settings, keys)
        body = [
            r"\begin{table}",
            r"\centering\scriptsize\setlength{\tabcolsep}{2pt}",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            heads + r" \\",
            r"\midrule",
            *(" & ".join(map(_latex_cell, columns, line)) + r" \\" for line in sheet.cells()),
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\medskip\raggedright",
            *(rf"{escape.latex(line)}\par" for line in sheet.legend + below),
            r"\end{table}",
        ]
        blocks.append("\n".join(body))
    return "\n\n".join(blocks) + "\n"
