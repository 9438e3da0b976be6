"""Fit a leaderboard into the width of a terminal.

These steps follow each other until it fits:

1. A rule of another package loses its distribution's name, if no other rule has its short name. A
   legend explains it.
2. Columns with one content in all rows go, such as `from` where all rows are of the reference.
3. The least important columns go (`Column.drop`), the margins last.
4. Columns that a user asked for go.
5. The names of rules go over several lines (`over_lines`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bench_core.analysis.verdicts.rows import Row
from bench_core.names import bare_name
from bench_core.report.tables.columns import Column
from bench_core.report.text.escape import visible
from bench_core.report.text.layout import NARROWEST, natural, table_width
from bench_core.report.words.rows import bare_labels

MARGINS = ("bp", "matched")
LEAST = 12  # characters of a name that is cut to make room for a margin


@dataclass
class Sheet:
    """A table that fits.

    columns    those that are left
    lines      the escaped texts of each row by key
    shortened  the full names of rules of other packages, with the names that stand for them
    left_out   the columns for which there is no room
    """

    columns: list[Column]
    lines: list[dict[str, str]]
    shortened: dict[str, str] = field(default_factory=dict)
    left_out: list[Column] = field(default_factory=list)

    @property
    def legend(self) -> list[str]:
        """Explain the shortened names."""
        return [f"{visible(short)} = {visible(full)}" for full, short in self.shortened.items()]

    def renamed(self, texts: Iterable[str]) -> list[str]:
        """Name the rules in texts as the table does, but for commands, which stand in backticks."""
        if not self.shortened:
            return list(texts)
        names = "|".join(map(re.escape, sorted(self.shortened, key=len, reverse=True)))
        whole = re.compile(rf"(`[^`]*`)|(?<![\w./-])({names})(?![\w/-]|\.\w)")
        return [
            whole.sub(lambda found: found[1] or self.shortened[found[2]], line) for line in texts
        ]

    def excess(self, width: int) -> int:
        heads = [max(column.header.split("|"), key=len) for column in self.columns]
        return table_width(natural(self.cells(), heads)) - width

    def drop(self, columns: Sequence[Column], width: int) -> None:
        """Drop the columns one by one while the table is too wide."""
        for column in columns:
            if self.excess(width) > 0 and column in self.columns:
                self.columns.remove(column)
                self.left_out.append(column)

    def cells(self) -> list[list[str]]:
        return [[line[column.key] for column in self.columns] for line in self.lines]


def fit(
    rows: Sequence[Row], columns: Sequence[Column], width: int | None, passports: bool = False
) -> Sheet:
    """Return the columns and texts that fit into `width` columns of a terminal; None: all.

    passports  rows are sorted by passport, whose column is never dropped
    """
    cells = ([(column.key, column.cell(row)) for column in columns] for row in rows)
    lines = [{k: visible(c.brief or c.text) + "†" * c.struck for k, c in row} for row in cells]
    sheet = Sheet(list(columns), lines)
    if width is None:
        return sheet
    width = max(width, NARROWEST)
    kept = {"passport"} if passports else set()
    order = [c for c in columns if c.drop is not None and c.key not in kept]
    telling = {c.key for c in columns if len({line[c.key] for line in lines}) > 1}
    order.sort(key=lambda column: (column.key in telling, column.drop or 0))
    if sheet.excess(width) > 0:
        _bare_names(sheet, rows)
    sheet.drop([column for column in order if column.key not in MARGINS], width)
    spare = max(max(len(line["method"]) for line in lines) - LEAST, 0)
    sheet.drop([column for column in order if column.key in MARGINS], width + spare)
    sheet.drop(sheet.columns[:3:-1], width + spare)  # those that a user asked for, the last first
    if (excess := sheet.excess(width)) > 0:
        room = max(max(len(line["method"]) for line in lines) - excess, 6)
        for line in lines:
            line["method"] = over_lines(line["method"], room)
    return sheet


def over_lines(label: str, room: int) -> str:
    """Break the label of a rule into lines of at most `room` characters, none of which is lost.

    A line ends before the bracket of the options or behind the comma of one; only a part that is
    longer than a line is broken within, behind `_`, `-`, `/` or `=` if it can be.
    """
    if len(label) <= room:
        return label
    lines = [""]
    for part in re.findall(r"[^\[,]+,? ?|\[[^,]*,? ?|,", label):
        if len(lines[-1] + part.rstrip()) > room and lines[-1]:
            lines.append("")
        lines[-1] += part
        while len(lines[-1].rstrip()) > room:
            end = max(lines[-1].rfind(mark, 0, room) for mark in "_-/=") + 1 or room
            lines[-1:] = [lines[-1][:end], lines[-1][end:]]
    return "\n".join(line.rstrip() for line in lines)


def _bare_names(sheet: Sheet, rows: Sequence[Row]) -> None:
    """Write a rule of another distribution by its bare name, and explain it."""
    for line, row, label in zip(sheet.lines, rows, bare_labels(rows), strict=True):
        if label != row.label:
            line["method"], name = visible(label), row.method.name
            sheet.shortened[name] = bare_name(name)
