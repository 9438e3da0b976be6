"""Write BibTeX of what results used: this software, its reference, the protocol, the rules, the
data and PyTorch. Lines below the entries, which BibTeX passes over, state recipe and hardware.

The works of a component come from the `references.bib` of its package
(`registry/bibliography.py`). For a source that names none of them the text itself is the note of an
entry, and an arXiv number or a DOI in it is a field.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from bench_core import __version__
from bench_core.names import FILE, OURS, bare_name, distribution_of
from bench_core.registry.bibliography import ARXIV, DOI, of_package
from bench_core.registry.card import Card
from bench_core.report.text import escape
from bench_core.report.text.numbers import plural
from bench_core.results.hashing import canonical, plain_text
from bench_core.results.record import ComponentRef, RunRecord
from bench_core.results.reference import edition, machines
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


def _reference(shipped: Sequence[RunRecord]) -> dict[str, str]:
    """Return the fields of the reference: its version, dates, and the commits that trained it."""
    commits = sorted({str(run.environment.get("commit", "?"))[:7] for run in shipped})
    versions = sorted({str(run.environment["reference"]) for run in shipped})
    return {
        "title": "Reference results of {bench}",
        "author": "{The bench authors}",
        "year": "2026",
        "version": _value(", ".join(versions)),
        "note": _value(f"{edition(shipped)}; trained by commits {', '.join(commits)}"),
    }


def _value(text: str) -> str:
    """Write the value of a field: BibTeX counts braces, also those behind a backslash."""
    return escape.latex(text.translate(str.maketrans("{}@", "()+")))


def recipes(records: Sequence[RunRecord]) -> list[str]:
    """State each recipe in a line, with the hardware and the versions that trained it."""
    alike: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        cell = record.cell
        key = [cell.arch.model_dump(), cell.dataset.model_dump(), cell.data, cell.training]
        alike[canonical(key)].append(record)
    return [_recipe(runs) for runs in alike.values()]


def _recipe(runs: Sequence[RunRecord]) -> str:
    cell = runs[0].cell
    recipe = defaultdict(lambda: "?", {key: plain_text(v) for key, v in cell.training.items()})
    epochs = plural(cell.last_epoch, "epoch")
    if str(cell.last_epoch) != recipe["epochs"]:
        epochs += f" of a schedule of {recipe['epochs']}"
    clip = f"the gradient of each group of parameters clipped to norm {recipe['clip_norm']}"
    parts = [
        f"{_with_options(cell.arch)} on {_with_options(cell.dataset, cell.data)}",
        f"{epochs}, batches of {recipe['batch_size']}",
        f"AdamW, learning rate {recipe['learning_rate']} ({recipe['schedule']})",
        f"weight decay {recipe['weight_decay']}",
        "no clipping" if cell.training.get("clip_norm", "?") is None else clip,
        recipe["precision"],
        f"seeds {', '.join(map(str, sorted({run.cell.seed for run in runs})))}",
    ]
    places = ", ".join(f"{count} on {name}" for name, count in machines(runs).items())
    versions = {f"PyTorch {run.environment.get('torch', '?')}" for run in runs}
    threads = {str(run.environment.get("threads", "?")) for run in runs}
    used = [f"{number} CPU thread" + "s" * (number != "1") for number in sorted(threads)]
    about = ", ".join([places, *used, *sorted(versions)])
    return f"recipe: {'; '.join(parts)}. {plural(len(runs), 'run')}: {about}"


def _with_options(part: ComponentRef, more: Mapping[str, Any] = MappingProxyType({})) -> str:
    options = {key: v for key, v in {**part.params, **more}.items() if v is not None}
    written = ", ".join(f"{key}={plain_text(value)}" for key, value in sorted(options.items()))
    return part.short + f" ({written})" * bool(written)


def bibtex(records: Sequence[RunRecord], cards: Mapping[tuple[str, str], Card]) -> str:
    """Return one entry per work; cards: by (kind, full name) of the installed components.

    The last comments say which works are those of which component, name the components without, and
    state recipe and hardware.
    """
    always = of_package("bench_core")
    entries = {"bench": _entry("bench", BENCH), PROTOCOL: always[PROTOCOL]}
    lines = []
    if shipped := [record for record in records if record.shipped]:
        entries["bench_reference"] = _entry("bench_reference", _reference(shipped))
        lines.append("% runs of the reference: bench_reference")
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
    lines += [f"% {escape.visible(line)}" for line in recipes(records)]
    about = "\n".join(lines).replace("@", "(at)")  # which begins an entry, wherever it stands
    return "\n\n".join([*entries.values(), about]).rstrip() + "\n"
