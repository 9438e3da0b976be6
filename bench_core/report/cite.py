"""BibTeX of what results used: this software, the protocol, the rules, the data, and what trained them.

Where a definition comes from is free text of a component's descriptor, often with an arXiv number or a DOI; an entry has
these as fields of their own and the text as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from bench_core import __version__
from bench_core.report import escape
from bench_core.report.notes import CITATION
from bench_core.results.record import RunRecord

ARXIV = re.compile(r"arXiv:\s*(\d{4}\.\d{4,5})", re.IGNORECASE)
DOI = re.compile(r"\bdoi:\s*(10\.\d{4,9}/[^\s,;{}\\]+)", re.IGNORECASE)
YEAR = re.compile(r"\b(1[89]\d\d|20\d\d)\b")

OURS = (
    ("bench", {"title": "{bench}: an audit of learning rules that replace or approximate backpropagation",
               "author": "{The bench authors}", "version": __version__}),
    ("bench_protocol", {"title": "What Accuracy and Gradient Cosine Miss", "author": "Hao and Wan and Zhai", "year": "2026",
                        "eprint": CITATION.removeprefix("arXiv:"), "archivePrefix": "arXiv"}),
)  # fmt: skip


def _entry(key: str, fields: Mapping[str, str]) -> str:
    body = ",\n".join(f"  {name} = {{{text}}}" for name, text in fields.items())
    return f"@misc{{{key},\n{body}\n}}"


def _key(kind: str, name: str) -> str:
    return "bench_" + re.sub(r"[^a-z0-9]+", "_", f"{kind}_{name.lower()}")


def fields(name: str, what: str, cite: str) -> dict[str, str]:
    """The fields of a component's entry: year, arXiv number and DOI of the first work that it cites, all of them in the note."""
    found = {
        "title": f"{{{escape.latex(name)}}}: {escape.latex(what)}"
        if what
        else f"{{{escape.latex(name)}}}"
    }
    found["note"] = escape.latex(cite)
    first, _, _ = cite.partition(";")
    if year := YEAR.search(first):
        found["year"] = year[1]
    if arxiv := ARXIV.search(first):
        found |= {"eprint": arxiv[1], "archivePrefix": "arXiv"}
    if doi := DOI.search(first):
        found["doi"] = doi[1]
    return found


def entry_of(kind: str, name: str, summary: str, cite: str) -> str:
    """The entry of a component, by its full name."""
    return _entry(
        _key(kind, name.removeprefix("bench-core/")), fields(name.rpartition("/")[2], summary, cite)
    )


def used(records: Iterable[RunRecord]) -> list[tuple[str, str]]:
    """(kind, full name) of every method, architecture and data set, in the order of kinds and names."""
    kinds = ("method", "arch", "dataset")
    return sorted(
        {(kind, getattr(record.cell, kind).name) for record in records for kind in kinds},
        key=lambda pair: (kinds.index(pair[0]), pair[1]),
    )


def bibtex(records: Sequence[RunRecord], known: Mapping[tuple[str, str], tuple[str, str]]) -> str:
    """One entry per source. `known`: (kind, full name) → (summary, cite) of the installed components."""
    entries = [_entry(key, content) for key, content in OURS]
    silent = []
    for kind, name in used(records):
        summary, cite = known.get((kind, name), ("", ""))
        if cite:
            entries.append(entry_of(kind, name, summary, cite))
        else:
            silent.append(f"% {kind} {escape.visible(name)}: " + (
                "its descriptor names no source" if (kind, name) in known else "its plugin is not installed here"
            ))  # fmt: skip
    versions = sorted(
        {str(record.environment["torch"]) for record in records if record.environment.get("torch")}
    )
    if versions:
        title = "{PyTorch}: An Imperative Style, High-Performance Deep Learning Library"
        content = {"title": title, "author": "Paszke and others", "year": "2019", "eprint": "1912.01703",
                   "archivePrefix": "arXiv", "note": f"version {escape.latex(', '.join(versions))}"}  # fmt: skip
        entries.append(_entry("pytorch", content))
    return "\n\n".join([*entries, *(["\n".join(silent)] if silent else [])]) + "\n"
