"""Build a leaderboard site from several people's results: static pages without server or network.

`index.html` lists all suites and rules; a suite and a rule have a page each. `site.json` lists the
pages, so that a later build removes those that are gone. The runs of a suite are judged as one set.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench_core.analysis.claims.board import SuiteClaims
from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.joined import together
from bench_core.analysis.verdicts.rows import Group, Row, Run
from bench_core.errors import UsageError
from bench_core.names import without_ours
from bench_core.registry.card import Card
from bench_core.report.all_claims import COSTS, COUNTS, counts, failures, priced
from bench_core.report.pages import page
from bench_core.report.view import View, view
from bench_core.report.words import reasons, summary, trained
from bench_core.report.words.cite import entries_of, fields
from bench_core.report.words.headings import headings
from bench_core.report.words.rows import information
from bench_core.results.files import read_json, replace_file, writing
from bench_core.results.hashing import digest_bytes
from bench_core.results.record import ComponentRef

MANIFEST = "site.json"
PAGE = re.compile(r"((suite|method)-[a-z0-9][a-z0-9_.-]{0,120}|claims|submit)\.html")
Cards = Mapping[str, Card]  # by the full name of a method


def slug(kind: str, name: str) -> str:
    """Return the file of a page: the name if it is safe, else its safe characters and a hash."""
    short = without_ours(name)
    safe = re.sub(r"[^a-z0-9_.-]+", "-", without_ours(name.lower())).strip("-.")[:80]
    digest = digest_bytes(name.encode("utf-8", "surrogatepass"), 4)
    return f"{kind}-{safe or 'x'}{'' if safe == short else f'-{digest}'}.html"


@dataclass
class Entry:
    """A row on the page of its rule: the suites that have it, by name with their pages."""

    row: Row
    recipe: str
    why: list[str]
    suites: dict[str, str] = field(default_factory=dict)


def _rules(views: Sequence[View], cards: Cards) -> list[dict[str, Any]]:
    """Describe every rule; rows of the same runs in several suites are one entry."""
    refs: dict[str, ComponentRef] = {}
    entries: dict[str, dict[Any, Entry]] = defaultdict(dict)
    for shown in views:
        for recipe, group in _recipes(shown):
            for row in group.rows:
                refs[row.method.name] = row.method
                why = [*reasons.of_row(row, shown.settings), *shown.doubts(row)]
                runs = tuple(run.record.identity for run in row.runs)
                key = (runs, row.verdict.text, row.margin, row.margin_bp, row.rank)
                entry = entries[row.method.name].setdefault(key, Entry(row, recipe, why))
                entry.suites[shown.name] = slug("suite", shown.results.name)
    rules = []
    for name, ref in sorted(refs.items()):
        card = cards.get(name, Card())
        own = sorted(entries[name].values(), key=lambda entry: entry.row.role == "floor")
        listed: dict[str, tuple[Entry, Run]] = {}
        for entry in own:
            for run in entry.row.runs:
                first, _ = listed.get(run.record.identity, (entry, run))
                both = replace(first, suites=first.suites | entry.suites)
                listed[run.record.identity] = (both, run)
        rule = {
            "full": name,
            "name": ref.short,
            "link": slug("method", name),
            "card": card,
            "links": {"eprint": "", "doi": ""} | fields("learning rule", ref.short, card.source),
            "bibtex": "\n\n".join(entries_of("method", name, card).values()),
            "used": information(run for _, run in listed.values()),
            "entries": own,
            "runs": list(listed.values())[: page.MOST_RUNS],
        }
        rules.append(rule)
    return rules


def _recipes(shown: View) -> Iterator[tuple[str, Group]]:
    """Yield the recipes of a suite, each with its heading without the rows of the reference."""
    yield from zip(headings(shown.results, shown.groups, sources=False), shown.groups, strict=True)


def _first_recipes(views: Sequence[View]) -> list[dict[str, Any]]:
    """Return one recipe of each network, data set and length in words.

    That is a recipe with finished runs of bp before one without, then the one with the most
    finished runs of rules that are decided, then with the fewest rules that are not. Recipes in
    which a rule is decided come first, of these the longest trainings.
    """
    chosen: dict[tuple[int, str, str], tuple[tuple[bool, int, int], View, str, Group]] = {}
    for shown in views:
        for recipe, group in _recipes(shown):
            cell, own = group.cell, summary.rules(group.rows)
            decided = [row for row in own if trained.is_decided(row)]
            with_bp = any(row.role == "ceiling" and row.finished for row in group.rows)
            epochs = int(cell.training.get("epochs") or 0)
            runs = sum(len(row.finished) for row in decided)
            size = (with_bp, runs, len(decided) - len(own))
            key = (epochs, cell.arch.short, cell.dataset.short)
            if key not in chosen or size > chosen[key][0]:
                chosen[key] = (size, shown, recipe, group)
    return [
        {
            "link": slug("suite", shown.results.name),
            "recipe": recipe,
            "lists": lists,
            "caution": trained.caution(group),
        }
        for _, (_, shown, recipe, group) in sorted(
            chosen.items(), key=lambda item: (item[1][0][1] > 0, item[0]), reverse=True
        )
        if (lists := trained.sorted_rules(group))
    ]


def pages(
    suites: Sequence[SuiteResults],
    cards: Cards,
    troubles: Sequence[str] = (),
    claims: Sequence[SuiteClaims] = (),
) -> dict[str, str]:
    """Return the HTML of every page by its file name.

    claims  of all suites, for the board: with them come pages about claims and submissions
    """
    joined, lines = together(suites)
    views = [*map(view, joined)]
    script = str(page.asset("page.js"))
    rules = _rules(views, cards)
    linked = [(shown, slug("suite", shown.results.name)) for shown in views]
    frame: dict[str, Any] = {"suites": linked, "rules": rules, "claims": claims}
    own = {"troubles": [*troubles, *lines], "found": _first_recipes(views)}
    own["names"] = {rule["full"]: rule["link"] for rule in rules}
    index = page.rendered("index.html.j2", [script], **own, **frame)
    html = {"index.html": index}
    frame["claims"] = [replace(item, outcomes=priced(item)) for item in claims]
    about: dict[str, Any] = {
        "failures": [*failures(claims)],
        "counts": counts,
        "COUNTS": COUNTS,
        "COSTS": COSTS,
    }
    about["run_links"] = {
        run.record.identity: f"{link}#r-{run.record.identity}"
        for shown, link in linked
        for _, _, run in shown.runs
    }
    for name in ("claims", "submit") if claims else ():
        html[f"{name}.html"] = page.rendered(f"{name}.html.j2", [script], **frame, **about)
    links = {rule["name"]: rule["link"] for rule in rules}
    for shown, link in linked:
        section = page.section(shown, 0)
        scripts = [page.library(), script] if section.figures else [script]
        html[link] = page.rendered("suite.html.j2", scripts, section=section, links=links, **frame)
    for rule in rules:
        html[rule["link"]] = page.rendered("method.html.j2", [script], rule=rule, **frame)
    return html


def build(
    suites: Sequence[SuiteResults],
    cards: Cards,
    output: Path,
    troubles: Sequence[str] = (),
    claims: Sequence[SuiteClaims] = (),
) -> list[Path]:
    """Write the site, remove the pages of an earlier build that are gone, and return the files.

    Raises UsageError for a folder that has other files and no site.
    """
    before = _pages_in(output)
    html = pages(suites, cards, troubles, claims)
    with writing(output, output=True):
        output.mkdir(parents=True, exist_ok=True)
    _write_manifest(output, before | html.keys())  # first, so that the folder is known as a site
    for name, text in html.items():
        replace_file(output / name, text, output=True)
    for name in before - html.keys():
        if PAGE.fullmatch(name):
            with writing(output / name, output=True):
                (output / name).unlink(missing_ok=True)
    _write_manifest(output, html)
    return [output / name for name in html]


def _pages_in(output: Path) -> set[str]:
    """Return the pages of the site in a folder, none of an empty or missing one."""
    with writing(output, output=True):
        files = set(os.listdir(output)) if os.path.lexists(output) else set()
    names: Any = None
    with contextlib.suppress(OSError, ValueError):
        names = read_json(output / MANIFEST, "site", parts=1)
    if isinstance(names, list) and "index.html" in names:
        return {name for name in names if isinstance(name, str)}
    if files - {".git"}:
        raise UsageError(f"-o {output}: has files of its own and no site; name an empty folder")
    return set()


def _write_manifest(output: Path, names: Iterable[str]) -> None:
    replace_file(output / MANIFEST, json.dumps(sorted(names), indent=1) + "\n", output=True)
