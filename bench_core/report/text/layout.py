"""Lay out text for people: lists of names, paragraphs and tables of limited width."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from bench_core.report.text.escape import visible

NARROWEST = 40  # a terminal with fewer columns is treated as one with this many
_SHOWN = 6  # names in a list before "and k more"
_MOST = _SHOWN + 1  # names that are written without it: "and 1 more" is no shorter than a name


def listed(names: Iterable[str], by: str = ", ") -> str:
    """Join names by commas or `by`; more than seven become six and `and k more`."""
    every = list(names)
    if len(every) <= _MOST:
        return by.join(every)
    return f"{by.join(every[:_SHOWN])} and {len(every) - _SHOWN} more"


def joined(names: Iterable[str]) -> str:
    """Join names for a sentence: `bp, ep and dfa`; more than seven become six and `k more`."""
    every = list(names)
    if not 1 < len(every) <= _MOST:
        return listed(every)
    return f"{', '.join(every[:-1])} and {every[-1]}"


def no_room(headings: Sequence[str], where: str = "at this width") -> str:
    """Name columns for which a table has no room, and where they are."""
    names = joined(f'"{heading}"' for heading in headings)
    columns = f"column{'s' * (len(headings) > 1)} {names}"
    return f"No room {where} for the {columns}: --format csv has all columns"


def paragraph(lines: Iterable[str], width: int | None, indent: str = "  ") -> str:
    """Escape lines for a terminal, and break each at words; None: never.

    indent  of the further lines of each
    """
    escaped = map(visible, lines)
    if width is not None:
        width = max(width, NARROWEST)
        wrapper = textwrap.TextWrapper(width, subsequent_indent=indent, break_on_hyphens=False)
        escaped = map(wrapper.fill, escaped)
    return "\n".join(escaped)


def natural(rows: Sequence[Sequence[str]], heads: Sequence[str]) -> list[int]:
    """Return each column's width in tabulate, which adds two to the length of a header."""
    return [max([len(head) + 2, *(len(row[i]) for row in rows)]) for i, head in enumerate(heads)]


def table_width(widths: Sequence[int]) -> int:
    """Return the width of a table: tabulate puts two spaces between columns."""
    return sum(widths) + 2 * (len(widths) - 1)


def limits(
    rows: Sequence[Sequence[str]],
    heads: Sequence[str],
    width: int | None,
    narrow: Sequence[tuple[int, int]],
) -> list[int | None]:
    """Return the most characters in a line of each column, for a table of `width` columns.

    narrow  (column, least characters) of the columns that may be wrapped, the first one first; a
            column never becomes narrower than its header
    """
    most: list[int | None] = [None] * len(heads)
    if width is None:
        return most
    widths = natural(rows, heads)
    excess = table_width(widths) - max(width, NARROWEST)
    for i, least in narrow:
        if excess > 0:
            kept = max(widths[i] - excess, min(least, widths[i]), len(heads[i]) + 2)
            excess -= widths[i] - kept
            most[i] = kept
    return most


def _wrapped(cell: str, most: int | None) -> str:
    """Break a cell into lines of at most `most` characters."""
    if most is None:
        return cell
    return "\n".join(line for part in cell.splitlines() for line in textwrap.wrap(part, most))


def tabulated(
    rows: Sequence[Sequence[str]],
    heads: Sequence[str],
    *,
    style: str = "simple",
    align: Sequence[str] | None = None,
    width: int | None = None,
    narrow: Sequence[tuple[int, int]] = (),
) -> str:
    """Return a table in a style of tabulate, as wide as `limits` allows.

    Cells are wrapped here: tabulate's own wrapping reads `14,200` as a number, and fails.
    """
    from tabulate import tabulate

    most = limits(rows, heads, width, narrow)
    text = tabulate(
        [[_wrapped(cell, end) for cell, end in zip(row, most, strict=True)] for row in rows],
        headers=heads,
        tablefmt=style,
        disable_numparse=True,
        colalign=align,
    )
    return "\n".join(line.rstrip() for line in text.splitlines())
