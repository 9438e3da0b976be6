"""Write a small table for a terminal, as Markdown or as LaTeX; its texts are raw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench_core.report.text import escape
from bench_core.report.text.layout import paragraph, tabulated
from bench_core.report.text.numbers import NONE

Form = Literal["table", "markdown", "latex"]
NEEDS = r"% needs \usepackage{booktabs}"


@dataclass(frozen=True)
class Sheet:
    """A table whose first column is text and whose others are numbers.

    title  lines above it
    below  lines that its numbers need
    least  columns to which a narrow terminal wraps the first one
    """

    title: Sequence[str]
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    below: Sequence[str] = ()
    least: int = 12

    @property
    def align(self) -> list[str]:
        return ["left", *["right"] * (len(self.heads) - 1)] if self.heads else []

    def fits(self, width: int) -> bool:
        """Decide whether a terminal has room for all of its columns."""
        return max(map(len, self.plain(width).splitlines())) <= width

    def plain(self, width: int | None) -> str:
        """Return the table alone for a terminal."""
        rows = [list(map(escape.visible, row)) for row in self.rows]
        narrow = [(0, self.least)]
        return tabulated(rows, self.heads, align=self.align, width=width, narrow=narrow)


def written(sheet: Sheet, form: Form, width: int | None = None) -> str:
    """Return a table; for a terminal as wide as `width`, None: any."""
    if form == "latex":
        heads = list(map(escape.latex, sheet.heads))
        rows = [[latex_number(cell, n > 0) for n, cell in enumerate(row)] for row in sheet.rows]
        sides = "".join(side[0] for side in sheet.align)
        return latex_table("; ".join(sheet.title), sides, heads, rows, sheet.below)
    if form == "markdown":
        rows = [list(map(escape.markdown, row)) for row in sheet.rows]
        heads = list(map(escape.markdown, sheet.heads))
        table = tabulated(rows, heads, style="pipe", align=sheet.align)
        parts = [f"**{escape.markdown('; '.join(sheet.title))}**", table]
        return "\n\n".join(filter(None, [*parts, escape.markdown_list(sheet.below)]))
    parts = [paragraph(sheet.title, width), sheet.plain(width), paragraph(sheet.below, width)]
    return "\n\n".join(filter(None, parts))


def latex_table(
    caption: str,
    align: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    below: Sequence[str],
    label: str = "",
) -> str:
    """Return a floating table of booktabs.

    align        r or l for each column
    heads, rows  LaTeX already; caption and the lines below are raw
    """
    lines = [
        r"\begin{table}",
        r"\centering\scriptsize\setlength{\tabcolsep}{2pt}",
        rf"\caption{{{escape.latex(caption)}.}}" + rf"\label{{{label}}}" * bool(label),
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\medskip\raggedright",
        *(rf"{escape.latex(line)}\par" for line in below),
        r"\end{table}",
    ]
    return "\n".join(lines)


def latex_number(cell: str, is_number: bool) -> str:
    """Escape a cell; a number has a minus sign for its hyphen."""
    text = escape.latex(cell)
    return "$-$" + text[1:] if is_number and text.startswith("-") and cell != NONE else text
