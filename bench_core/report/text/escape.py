"""Escape names, reasons and parameter values for each output format: they are data, never markup.

Every function takes raw text and returns text that the format shows literally. Each calls `visible`
first, which writes control bytes, bidirectional overrides and other invisible characters as
`\\x1b`, `\\u202e`: a cell cannot move the cursor or reorder its row.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# OWASP's list, with the full-width forms that spreadsheets accept
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")

_MARKDOWN = str.maketrans({character: "\\" + character for character in "\\`*_[]~#!"})
# an entity for a bar: some readers split the row before they read backslashes
_MARKDOWN |= str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"})

_LATEX = {character: "\\" + character for character in "{}$&#%_"} | {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    "`": r"\char96{}",
    "[": "{[}",  # after \\ a bracket would be an optional argument
    "]": "{]}",
    "–": "--",
    "…": r"\ldots{}",
    "“": "``",
    "”": "''",
}
# character → what stands between dollars
_MATH = {"±": r"\pm", "−": "-", "×": r"\times", "·": r"\cdot", "∘": r"\circ", "√": r"\surd"}
_MATH |= {"≤": r"\leq", "≥": r"\geq", "≠": r"\neq", "≈": r"\approx", "∞": r"\infty", "∈": r"\in"}
_MATH |= {"→": r"\to", "←": r"\leftarrow", "∂": r"\partial", "∇": r"\nabla", "⊤": r"\top"}
_MATH |= {"‖": r"\|", "⟨": r"\langle", "⟩": r"\rangle", "½": r"\frac{1}{2}", "′": r"^{\prime}"}
_MATH |= {"†": r"^{\dagger}", "‡": r"^{\ddagger}", "ᵀ": r"^{\top}", "²": "^{2}", "ⁿ": "^{n}"}
_MATH |= {"⁺": "^{+}", "⁻": "^{-}"}
_MATH |= {"Γ": r"\Gamma", "Δ": r"\Delta", "Θ": r"\Theta", "Σ": r"\Sigma"}
_GREEK = "alpha beta gamma delta epsilon eta theta lambda mu xi pi rho sigma tau phi psi omega"
_MATH |= {
    letter: rf"\{name}" for letter, name in zip("αβγδεηθλμξπρστφψω", _GREEK.split(), strict=True)
}
_LATEX |= {character: f"${formula}$" for character, formula in _MATH.items()}
T1 = frozenset("ĄąĘęĮįŲųÐðĐđÞþŊŋ")  # letters that LaTeX has in this encoding of fonts alone


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
    return visible(text).translate(_MARKDOWN)


def markdown_list(lines: Iterable[str]) -> str:
    """Write lines as a list in Markdown."""
    return "\n".join(f"- {markdown(line)}" for line in lines)


def latex(text: str) -> str:
    """Escape LaTeX in UTF-8; a character unknown to pdflatex becomes its code point.

    Hyphens are kept apart, because LaTeX makes a dash of two: `--method`.
    """
    pieces = re.split("(?<=-)(?=-)", visible(text))
    return "{}".join("".join(map(_latex_character, piece)) for piece in pieces)


def _latex_character(character: str) -> str:
    # ASCII, and the letters of Latin-1 and Latin Extended-A
    letter = "\u00c0" <= character <= "\u017f" and character.isalpha()
    known = character.isascii() or (letter and character not in "ĦħĸŦŧŉſ")
    return _LATEX.get(character, character if known else f"{{[}}U+{ord(character):04X}{{]}}")


def csv_text(text: str) -> str:
    """Escape a text of CSV, never a number: an apostrophe stands before a spreadsheet's formula."""
    return ("'" if text.startswith(_FORMULA) else "") + visible(text)


def json_text(text: str) -> str:
    """Escape JSON for an HTML page: it stays valid and cannot end a script element."""
    return text.replace("</", "<\\/").replace("<!--", "\\u003c!--")
