"""Write BibTeX of what results used: this software, the protocol, the rules, the data and PyTorch.

A component's source is free text: an arXiv number or a DOI in it is a field, the text is the note.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bench_core import __version__
from bench_core.registry.card import Card
from bench_core.report import escape
from bench_core.report.notes import CITATION
from bench_core.results.record import RunRecord

ARXIV = re.compile(r"arXiv:\s*(\d{4}\.\d{4,5})", re.IGNORECASE)
DOI = re.compile(r"\bdoi:\s*(10\.\d{4,9}/[^\s,;{}\\]+)", re.IGNORECASE)
YEAR = re.compile(r"\b(1[89]\d\d|20\d\d)\b")

OURS = {
    "bench": {
        "title": "{bench}: an audit of learning rules that replace or approximate backpropagation",
        "author": "{The bench authors}",
        "version": __version__,
    },
    "bench_protocol": {
        "title": "What Accuracy and Gradient Cosine Miss",
        "author": "Hao and Wan and Zhai",
        "year": "2026",
        "eprint": CITATION.removeprefix("arXiv:"),
        "archivePrefix": "arXiv",
    },
}
PYTORCH = {
    "title": "{PyTorch}: An Imperative Style, High-Performance Deep Learning Library",
    "author": "Paszke and others",
    "year": "2019",
    "eprint": "1912.01703",
    "archivePrefix": "arXiv",
}
KINDS = ("method", "arch", "dataset")


def _entry(key: str, fields: Mapping[str, str]) -> str:
    body = ",\n".join(f"  {name} = {{{text}}}" for name, text in fields.items())
    return f"@misc{{{key},\n{body}\n}}"


def fields(name: str, summary: str, cite: str) -> dict[str, str]:
    """Return the fields of an entry; year, arXiv number and DOI are those of the first work."""
    title = f"{{{escape.latex(name)}}}" + (f": {escape.latex(summary)}" if summary else "")
    entry = {"title": title, "note": escape.latex(cite)}
    first, _, _ = cite.partition(";")
    if year := YEAR.search(first):
        entry["year"] = year[1]
    if arxiv := ARXIV.search(first):
        entry |= {"eprint": arxiv[1], "archivePrefix": "arXiv"}
    if doi := DOI.search(first):
        entry["doi"] = doi[1]
    return entry


def entry_of(kind: str, name: str, summary: str, cite: str) -> str:
    """Return the entry of a component, by its full name."""
    key = re.sub(r"[^a-z0-9]+", "_", f"{kind}_{name.removeprefix('bench-core/').lower()}")
    return _entry(f"bench_{key}", fields(name.rpartition("/")[2], summary, cite))


def bibtex(records: Sequence[RunRecord], cards: Mapping[tuple[str, str], Card]) -> str:
    """Return one entry per source; cards: by (kind, full name) of the installed components."""
    entries = [_entry(key, content) for key, content in OURS.items()]
    silent = []
    used = ((kind, {getattr(record.cell, kind).name for record in records}) for kind in KINDS)
    for kind, name in ((kind, name) for kind, names in used for name in sorted(names)):
        card = cards.get((kind, name), Card())
        if card.source:
            entries.append(entry_of(kind, name, card.summary, card.source))
        else:
            installed = (kind, name) in cards
            reason = "card names no source" if installed else "plugin is not installed here"
            silent.append(f"% {kind} {escape.visible(name)}: its {reason}")
    versions = {str(torch) for item in records if (torch := item.environment.get("torch"))}
    if versions:
        note = f"version {escape.latex(', '.join(sorted(versions)))}"
        entries.append(_entry("pytorch", {**PYTORCH, "note": note}))
    return "\n\n".join(entries + (["\n".join(silent)] if silent else [])) + "\n"
