"""Fit a leaderboard into the width of a terminal.

First the least important columns go (`Column.drop`). Then texts are shortened: a rule of another
package loses the name of its distribution if no other rule has the same short name. Then further
columns go, and last labels and verdicts are cut, to no less than `LEAST` characters while a margin
is shown. A legend explains every shortened text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bench_core.analysis.leaderboard import Group
from bench_core.report.columns import MARGIN, SHORTENED, Column
from bench_core.report.escape import visible
from bench_core.report.text import NARROWEST, natural, table_width

NO_COUNTS = 60  # a terminal narrower than this has no room for the column n
LEAST = 16  # characters of a label or a verdict that is cut to make room for a margin


@dataclass
class Sheet:
    """Columns, the escaped texts of each row by key, and a legend of shortened texts."""

    columns: list[Column]
    lines: list[dict[str, str]]
    legend: list[str]

    def widths(self) -> dict[str, int]:
        heads = [column.header for column in self.columns]
        keys = (column.key for column in self.columns)
        return dict(zip(keys, natural(self.cells(), heads), strict=True))

    def excess(self, width: int) -> int:
        return table_width([*self.widths().values()]) - width

    @property
    def spare(self) -> int:
        """Return the number of characters that can be cut from labels and verdicts."""
        widths = self.widths()
        return sum(max(widths[key] - LEAST, 0) for key in ("method", "verdict"))

    def drop(self, keys: Iterable[str], width: int, spare: int = 0) -> None:
        """Drop the columns one by one while the table is too wide by more than `spare`."""
        for key in keys:
            if self.excess(width) > spare:
                self.columns = [column for column in self.columns if column.key != key]

    def cells(self) -> list[list[str]]:
        return [[line[column.key] for column in self.columns] for line in self.lines]


def fit(
    group: Group, columns: Sequence[Column], width: int | None, passports: bool = False
) -> Sheet:
    """Return the columns and texts that fit into `width` columns of a terminal; None: all.

    passports  rows are sorted by passport, whose column is dropped last
    """
    rows = ([(column.key, column.cell(row)) for column in columns] for row in group.rows)
    lines = [{k: visible(c.brief or c.text) + "†" * c.struck for k, c in row} for row in rows]
    sheet = Sheet(list(columns), lines, [])
    if width is None:
        return sheet
    width = max(width, NARROWEST)
    order = sorted((c for c in columns if c.drop is not None), key=lambda c: c.drop or 0)
    sheet.drop((c.key for c in order if (c.drop or 0) < SHORTENED), width)
    if sheet.excess(width) > 0:
        _shorten(sheet, group)
    later = [
        c for c in order if (c.drop or 0) > SHORTENED and not (passports and c.key == "passport")
    ]
    sheet.drop((c.key for c in later if (c.drop or 0) < MARGIN), width)
    if sheet.excess(width) > 0:
        _tighten(sheet)
    if len({line["n"] for line in lines}) == 1:
        sheet.drop(["n"], width)
    if width < NO_COUNTS or passports:
        sheet.drop(["n"], width)  # verdicts and the lines below the table have the number of runs
    margins = (c.key for c in later if (c.drop or 0) >= MARGIN)
    sheet.drop(["n", *margins], width, sheet.spare)
    if width < NO_COUNTS and passports:
        sheet.drop(["passport"], width)
    if sheet.excess(width) > 0:
        _cut_texts(sheet, group, width)
    return sheet


def _shorten(sheet: Sheet, group: Group) -> None:
    bare, names = _bare_names(group), dict[str, None]()
    for line, row in zip(sheet.lines, group.rows, strict=True):
        line["verdict"] = _short_verdict(line["verdict"])
        line["n"] = line["n"].removesuffix(" done")
        if row.method.name in bare:
            short, full = visible(bare[row.method.name]), visible(row.method.name)
            line["method"] = short + line["method"].removeprefix(full)
            names[f"{short} = {full}"] = None
    sheet.legend += names
    sheet.columns = [replace(c, header=c.short or c.header) for c in sheet.columns]


def _tighten(sheet: Sheet) -> None:
    """Write intervals without spaces, and frozen blocks as a star."""
    for line in sheet.lines:
        line |= {
            key: line[key].replace(" ± ", "±") for key in ("accuracy", "matched", "bp", "gamma")
        }
        if line["method"].endswith("[frozen]"):
            line["method"] = line["method"].removesuffix("[frozen]") + "*"
            sheet.legend = list(dict.fromkeys([*sheet.legend, "*: [frozen], its floor"]))


def _short_verdict(verdict: str) -> str:
    """Shorten `walked back (a, c 1/3, bp floor)` to `walked back a c1/3 bp`."""
    verdict = verdict.removesuffix(" from its floor")
    verdict = re.sub(r" \(([^()]* not (?:measured|judged))\)", "", verdict)

    def reasons(found: re.Match[str]) -> str:
        return " " + re.sub(r" (\d+)", r"\1", found[1].replace("bp floor", "bp")).replace(",", "")

    return re.sub(r" \(([^()]*)\)", reasons, verdict)


def _bare_names(group: Group) -> dict[str, str]:
    """Map a method of another distribution to its bare name where no other method has that name."""
    refs = {row.method.name: row.method for row in group.rows}
    bare = {name: name.rpartition("/")[2] for name in refs}
    count = Counter(bare.values())
    return {k: v for k, v in bare.items() if v and refs[k].short != v and count[v] == 1}


def _cut_texts(sheet: Sheet, group: Group, width: int) -> None:
    """Cut the names of methods, marked with the number of their row, and the verdicts."""
    widths = sheet.widths()
    room = widths["method"] + widths["verdict"] - sheet.excess(width)
    label = min(widths["method"], max(room - widths["verdict"], room // 2))
    for number, (line, row) in enumerate(zip(sheet.lines, group.rows, strict=True), start=1):
        full, verdict = line["method"], line["verdict"]
        line["method"] = _cut(full, label, str(number))
        line["verdict"] = _cut(verdict, room - label)
        if line["method"] != full:
            sheet.legend.append(f"{line['method']} = {full}")
        if line["verdict"] != verdict:
            sheet.legend.append(f"{line['method']}: {visible(row.verdict)}")


def _cut(text: str, limit: int, mark: str = "") -> str:
    return text if len(text) <= limit else text[: max(limit - 1 - len(mark), 1)] + "…" + mark
