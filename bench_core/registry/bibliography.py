"""Find the works that the source of a component names, as BibTeX.

A package of plugins keeps its works in `references.bib` beside its `__init__.py`. The works of the
built-in components stand in the file of theirs, those that every result follows in bench_core's.
An entry begins with `@` at the start of a line and ends with `}` alone on a line. It belongs to a
source that has its arXiv number (`eprint`), DOI, title or the address in `url` after the host.
"""

from __future__ import annotations

import re
from functools import cache

from bench_core.names import OURS
from bench_core.registry import entry_points
from bench_core.registry.modules import contents, place

FILE = "references.bib"
ARXIV = re.compile(r"arXiv:\s*(\d{4}\.\d{4,5})", re.IGNORECASE)
DOI = re.compile(r"\bdoi:\s*(10\.\d{4,9}/[^\s,;{}\\]+)", re.IGNORECASE)
_ENTRY = re.compile(r"^@\w+\{\s*([^\s,{}]+)\s*,.*?^\}[ \t]*$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"^\s*(eprint|doi|title|url)\s*=\s*[{\"](.*)[}\"]\s*,?\s*$", re.MULTILINE)


@cache
def of_package(package: str) -> dict[str, str]:
    """Return the entries of a package's file by their keys; none if there is no such file."""
    init = place(package)
    if init is None or init.stem != "__init__":
        return {}
    try:
        text = contents(package, init.with_name(FILE)).decode("utf-8")
    except (OSError, ValueError):
        return {}
    return {entry[1]: entry[0] for entry in _ENTRY.finditer(text)}


def names(entry: str) -> list[str]:
    """Return the texts by which a source names an entry."""
    texts = []
    for field, text in _NAME.findall(entry):
        plain = text.replace("{", "").replace("}", "")
        texts.append(re.sub(r"^https?://[^/]*/", "", plain) if field == "url" else plain)
    return [name for name in texts if name]


def numbers(source: str) -> set[str]:
    """Return the arXiv numbers and DOIs in a source."""
    return {*ARXIV.findall(source), *DOI.findall(source)}


@cache
def _ours() -> dict[str, str]:
    """Return the entries of the core and of the built-in components."""
    points, _ = entry_points.installed({OURS})
    packages = ["bench_core", *(point.module_name.partition(".")[0] for point in points)]
    return {key: entry for package in packages for key, entry in of_package(package).items()}


def works(source: str, module: str) -> dict[str, str]:
    """Return the entries that a source names, by key; module: that of the component."""
    known = dict(_ours()) | of_package(module.partition(".")[0])
    text = " ".join(source.split()).casefold()

    def named(name: str) -> bool:
        return re.search(rf"(?<![\w.]){re.escape(name.casefold())}(?!\w)", text) is not None

    return {key: entry for key, entry in known.items() if any(map(named, names(entry)))}
