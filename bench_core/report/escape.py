"""Escape names, reasons and parameter values for each output format.

Names come from plugins, suites and error messages: they are data, never markup. Every function
takes raw text and returns text that the format shows literally. Each calls `visible` first, which
writes control bytes, bidirectional overrides and other invisible characters as `\\x1b`, `\\u202e`:
a cell cannot move the cursor or reorder its row.
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
    """Write every invisible character but the space as its escape."""
    if text.isprintable():  # nearly always; spaces other than " " are looked at
        return text
    return "".join(map(_written, text))


def _written(character: str) -> str:
    code = ord(character)
    if unicodedata.category(character) not in _INVISIBLE:
        return character
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def markdown(text: str) -> str:
    """Escape a cell or a line of GitHub Markdown: no markup, no HTML, no new cells."""
    return "".join(_MARKDOWN.get(character, character) for character in visible(text))


def latex(text: str) -> str:
    """Escape LaTeX text in UTF-8.

    A character that plain pdflatex may not know becomes its code point.
    """
    return "".join(map(_latex_character, visible(text)))


def _latex_character(character: str) -> str:
    unknown = f"{{[}}U+{ord(character):04X}{{]}}"
    return _LATEX.get(character, character if known_to_latex(character) else unknown)


def known_to_latex(character: str) -> bool:
    """Return whether pdflatex takes a character in UTF-8 without a further package.

    That holds for ASCII and the letters of Latin-1 and Latin Extended-A.
    """
    return character.isascii() or (
        character.isalpha() and "\u00c0" <= character <= "\u017f" and character not in "ĦħĸŦŧŉſ"
    )


def csv_text(text: str) -> str:
    """Escape a text cell of CSV (never a number).

    A text that a spreadsheet takes for a formula gets a leading apostrophe.
    """
    return ("'" if text.startswith(_FORMULA) else "") + visible(text)


def json_text(text: str) -> str:
    """Escape JSON for an HTML page.

    The document stays valid JSON and cannot end a script element.
    """
    return text.replace("</", "<\\/").replace("<!--", "\\u003c!--")
