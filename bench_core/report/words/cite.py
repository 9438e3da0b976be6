"""Write BibTeX of what results used: this software, the protocol, the rules, the data and PyTorch.

The works of a component come from the `references.bib` of its package
(`registry/bibliography.py`). For a source that names none of them the text itself is the note of an
entry, and an arXiv number or a DOI in it is a field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bench_core import __version__
from bench_core.names import FILE, OURS, bare_name, distribution_of
from bench_core.registry.bibliography import ARXIV, DOI, of_package
from bench_core.registry.card import Card
from bench_core.report.text import escape
from bench_core.results.record import RunRecord
from bench_core.suite.cells import PARTS

CITATION = "arXiv:2606.21126"
YEAR = re.compile(r"\b(1[89]\d\d|20\d\d)\b")

BENCH = {
    "title": "{bench}: an audit of learning rules that replace or approximate backpropagation",
    "author": "{The bench authors}",
    "year": "2026",
    "version": __version__,
}
WORDS = {"method": "learning rule", "arch": "network", "dataset": "data set"}
PROTOCOL, PYTORCH = "hao2026", "paszke2019"


def _entry(key: str, fields: Mapping[str, str]) -> str:
    body = ",\n".join(f"  {name} = {{{text}}}" for name, text in fields.items())
    return f"@misc{{{key},\n{body}\n}}"


def fields(kind: str, name: str, cite: str) -> dict[str, str]:
    """Return the fields of an entry; year, arXiv number and DOI are those of the first work.

    kind  in words: learning rule
    """
    entry = {"title": f"{{{escape.latex(name)}}}: {kind}", "note": escape.latex(cite)}
    first, _, _ = cite.partition(";")
    if year := YEAR.search(first):
        entry["year"] = year[1]
    if arxiv := ARXIV.search(first):
        entry |= {"eprint": arxiv[1], "archivePrefix": "arXiv"}
    if doi := DOI.search(first):
        entry["doi"] = doi[1]
    return entry


def entries_of(kind: str, name: str, card: Card) -> dict[str, str]:
    """Return the entries of a component with a source, by key; name: its full name.

    A built-in component without a work, such as a null method, is this software's own.
    """
    if card.works:
        return card.works
    if name.startswith(f"{OURS}/"):
        return {"bench": _entry("bench", BENCH)}
    key = re.sub(r"[^a-z0-9]+", "_", f"bench_{kind}_{name.lower()}")
    return {key: _entry(key, fields(WORDS[kind], bare_name(name), card.source))}


def bibtex(records: Sequence[RunRecord], cards: Mapping[tuple[str, str], Card]) -> str:
    """Return one entry per work; cards: by (kind, full name) of the installed components.

    A last comment says which works are those of which component, and names the components without.
    """
    always = of_package("bench_core")
    entries = {"bench": _entry("bench", BENCH), PROTOCOL: always[PROTOCOL]}
    lines = []
    used = ((kind, {record.cell.refs[kind].name for record in records}) for kind in PARTS)
    for kind, name in ((kind, name) for kind, names in used for name in sorted(names)):
        card = cards.get((kind, name), Card())
        if card.source:
            own = entries_of(kind, name, card)
            entries |= own
            source = ", ".join(own)
        else:
            source = "its plugin is not installed here"
            if (kind, name) in cards:
                source = "its card names no source"
            elif (file := distribution_of(name)).endswith(FILE):
                source = f"{file} is not on PYTHONPATH, or does not load"
        lines.append(f"% {kind} {escape.visible(name)}: {source}")
    versions = {str(torch) for item in records if (torch := item.environment.get("torch"))}
    if versions:
        entries[PYTORCH] = always[PYTORCH]
        lines.append(f"% PyTorch {escape.visible(', '.join(sorted(versions)))}: {PYTORCH}")
    return "\n\n".join([*entries.values(), "\n".join(lines)]).rstrip() + "\n"
