"""Write the leaderboard for a terminal, as Markdown, LaTeX, CSV or JSON.

    leaderboard(records, settings, format="table", width=80) -> str

Each recipe has a table of its own. The text depends on the set of records, not on their order.
Every format escapes names, and none prints NaN or infinity. Lines below a table for people say why
each method was walked back, which runs failed and how to read the figures. CSV and JSON have full
precision (`report.data`).

The terminal's table fits `width` columns (`report.fit`). Under 40 columns it does not shrink
further. Print it without markup (`click.echo`). LaTeX needs `\\usepackage{booktabs}` and has the
columns that a page of text holds. Markdown, CSV and JSON have all columns (`report.columns`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, get_args

from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.judge import Settings
from bench_core.report import escape, notes
from bench_core.report.columns import Column, Text, columns_of
from bench_core.report.data import as_csv, as_json
from bench_core.report.fit import fit
from bench_core.report.numbers import NONE
from bench_core.report.rows import by_passport
from bench_core.report.text import paragraph, tabulated
from bench_core.report.view import View, view
from bench_core.results.record import RunRecord

Format = Literal["table", "markdown", "latex", "csv", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)
PAGE = 105  # characters of \scriptsize in a line of an article


def leaderboard(
    records: Sequence[RunRecord],
    settings: Settings | None = None,
    format: Format = "table",
    width: int | None = 80,
) -> str:
    """Return the leaderboard of all records, one table per recipe, ending with a newline.

    width  columns of the terminal, for `table` only; None: as wide as it gets
    Raises `ValueError` for an unknown format.
    """
    name = records[0].suite if records else ""
    results = SuiteResults(name, settings or Settings(), tuple(records), superseded=0)
    return leaderboards([results], format, width)


def leaderboards(
    suites: Sequence[SuiteResults],
    format: Format = "table",
    width: int | None = 80,
    passports: bool = False,
) -> str:
    """Return the leaderboards of several suites: one document in CSV and JSON, else one by one.

    passports  put rows with equal passports together; a terminal drops their column last
    """
    views = [view(suite) for suite in suites]
    if passports:
        views = [replace(v, groups=tuple(map(by_passport, v.groups))) for v in views]
    whole: dict[str, Callable[[Sequence[View]], str]] = {"csv": as_csv, "json": as_json}
    if format in whole:
        return whole[format](views)
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
    groups, settings = shown.groups, shown.settings
    blocks = [escape.visible(settings.title)] if settings.title else []
    every: dict[str, str] = {}
    kept: set[str] = set()
    for header, group in zip(shown.headers, groups, strict=True):
        columns = columns_of(group)
        every |= {column.key: column.header for column in columns}
        sheet = fit(group, columns, width, passports)
        kept |= {column.key for column in sheet.columns}
        table = _table(sheet.columns, sheet.cells(), "simple")
        below = paragraph(sheet.legend + notes.of_group(group, settings), width)
        blocks.append(f"{paragraph([header], width)}\n\n{table}\n\n{below}")
    last = notes.of_all(groups, settings, kept)
    if left_out := [header for key, header in every.items() if key not in kept]:
        names = ", ".join(left_out)
        last.insert(0, f"No room at this width for {names}: --format markdown has all columns")
    return "\n\n".join([*blocks, paragraph(last, width)]) + "\n"


def _struck(cell: Text) -> str:
    text = escape.markdown(cell.text)
    return f"~~{text}~~" if cell.struck else text


def _items(lines: Sequence[str]) -> str:
    return "\n".join(f"- {escape.markdown(line)}" for line in lines)


def _markdown(shown: View) -> str:
    groups, settings = shown.groups, shown.settings
    blocks = [f"## {escape.markdown(settings.title)}"] if settings.title else []
    for header, group in zip(shown.headers, groups, strict=True):
        columns = columns_of(group)
        cells = [[_struck(column.cell(row)) for column in columns] for row in group.rows]
        below = _items(notes.of_group(group, settings))
        blocks += [f"**{escape.markdown(header)}**", _table(columns, cells, "pipe"), below]
    keys = {column.key for group in groups for column in columns_of(group)}
    last = notes.of_all(groups, settings, keys)
    return "\n\n".join([*blocks, _items(last)]) + "\n"


def _latex_cell(column: Column, cell: str) -> str:
    text = escape.latex(cell)
    return "$-$" + text[1:] if column.right and text.startswith("-") and cell != NONE else text


def _latex(shown: View) -> str:
    """Return tables as wide as a terminal of `PAGE` columns, with every further diagnostic."""
    groups, settings = shown.groups, shown.settings
    blocks = []
    for header, group in zip(shown.headers, groups, strict=True):
        kept = [replace(c, drop=None if c.drop == 0 else c.drop) for c in columns_of(group)]
        sheet = fit(group, kept, PAGE)
        columns = sheet.columns
        align = "".join("r" if column.right else "l" for column in columns)
        heads = " & ".join(escape.latex(column.header) for column in columns)
        caption = escape.latex(f"{settings.title}: {header}" if settings.title else header)
        rows = [" & ".join(map(_latex_cell, columns, line)) + r" \\" for line in sheet.cells()]
        keys = [column.key for column in columns]
        said = notes.of_group(group, settings) + notes.of_all(groups, settings, keys)
        lines = [rf"{escape.latex(line)}\par" for line in sheet.legend + said]
        body = [
            r"\begin{table}",
            r"\centering\scriptsize\setlength{\tabcolsep}{2pt}",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            heads + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\medskip\raggedright",
            *lines,
            r"\end{table}",
        ]
        blocks.append("\n".join(body))
    return "\n\n".join(blocks) + "\n"
