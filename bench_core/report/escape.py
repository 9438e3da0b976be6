"""Escaping of names, reasons and parameter values for each output format.

Names come from plugins, suites and error messages: they are data, never markup. Every function takes raw text and
returns text that the format shows literally. `visible` comes first in each: control bytes, bidirectional overrides and
other invisible characters are written out as `\\x1b`, `\\u202e`: a cell cannot move the cursor or reorder its row.
"""

from __future__ import annotations

import unicodedata

_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# OWASP's list, with the full-width forms that spreadsheets accept
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")

_MARKDOWN = {character: "\\" + character for character in "\\`*_[]~#!"} | {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    "|": "&#124;",  # an entity: some readers split the row before they read backslashes
}

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    "`": r"\char96{}",
    "[": "{[}",  # after \\ a bracket would be an optional argument
    "]": "{]}",
    "±": r"$\pm$",
    "–": "--",
    "−": "$-$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "‖": r"$\|$",
    "Γ": r"$\Gamma$",
    "Δ": r"$\Delta$",
    "λ": r"$\lambda$",
    "†": r"$^{\dagger}$",
    "‡": r"$^{\ddagger}$",
}


def visible(text: str) -> str:
    """`text` with every invisible character but the space written as its escape."""
    if text.isprintable():  # nearly always; spaces other than " " are looked at
        return text
    return "".join(_written(character) if _hidden(character) else character for character in text)


def _hidden(character: str) -> bool:
    return unicodedata.category(character) in _INVISIBLE


def _written(character: str) -> str:
    code = ord(character)
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )


def markdown(text: str) -> str:
    """For a cell or a line of GitHub Markdown: no markup, no HTML, no new cells."""
    return "".join(_MARKDOWN.get(character, character) for character in visible(text))


def latex(text: str) -> str:
    """For LaTeX text, in UTF-8. A character that plain pdflatex may not know is written as its code point."""
    return "".join(
        _LATEX.get(
            character,
            character if known_to_latex(character) else f"{{[}}U+{ord(character):04X}{{]}}",
        )
        for character in visible(text)
    )


def known_to_latex(character: str) -> bool:
    """ASCII, and the letters of Latin-1 and Latin Extended-A: what pdflatex takes for UTF-8 without a further package."""
    return character.isascii() or (
        character.isalpha() and "\u00c0" <= character <= "\u017f" and character not in "ĦħĸŦŧŉſ"
    )


def csv_text(text: str) -> str:
    """For a text cell of CSV (never a number): what a spreadsheet takes for a formula gets a leading apostrophe."""
    return ("'" if text.startswith(_FORMULA) else "") + visible(text)


def json_text(text: str) -> str:
    """For JSON that may be put inside an HTML page: the document stays valid JSON and cannot end a script element."""
    return text.replace("</", "<\\/").replace("<!--", "\\u003c!--")
