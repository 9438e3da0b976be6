"""Build a leaderboard site from several people's results: static pages without server or network.

    index.html            every suite and every rule
    suite-<name>.html     the report of a suite with the runs of all people together
    method-<name>.html    a rule: its source, its passport, its rank in every suite, its runs
    site.json             the pages of this site; a later build removes those that are gone

The runs of a suite are judged as one set; a seed of a cell counts once, however many people ran it
(`bench_core.analysis.leaderboard`).
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_core.analysis.gather import SuiteResults, together
from bench_core.analysis.leaderboard import Row, Run
from bench_core.report import page
from bench_core.report.cite import entry_of, fields
from bench_core.report.escape import visible
from bench_core.report.rows import PASSPORT
from bench_core.report.view import View, view
from bench_core.results.files import replace_file, writing
from bench_core.results.hashing import digest_bytes
from bench_core.results.record import ComponentRef

MANIFEST = "site.json"
PAGE = re.compile(r"(suite|method)-[a-z0-9][a-z0-9_.-]{0,120}\.html")
Known = Mapping[str, tuple[str, str]]  # full name of a method → summary and citation


@dataclass(frozen=True)
class Entry:
    """A row of a leaderboard, with the suite and the recipe of the leaderboard."""

    suite: str
    link: str
    header: str
    row: Row


@dataclass(frozen=True)
class Rule:
    """A rule: its description, its passport, and its rows and runs in the results."""

    name: str
    link: str
    summary: str
    cite: str
    arxiv: str | None
    doi: str | None
    bibtex: str
    flags: tuple[tuple[str, bool], ...]
    other: tuple[str, ...]
    declared: bool
    entries: tuple[Entry, ...]
    runs: tuple[tuple[Entry, Run], ...]


def slug(kind: str, name: str) -> str:
    """Return the file of a page: the name if it is safe, else its safe characters and a hash."""
    short = name.removeprefix("bench-core/")
    safe = re.sub(r"[^a-z0-9_.-]+", "-", name.lower().removeprefix("bench-core/")).strip("-.")[:80]
    digest = digest_bytes(name.encode("utf-8", "surrogatepass"), 4)
    return f"{kind}-{safe or 'x'}{'' if safe == short else f'-{digest}'}.html"


def _rules(views: Sequence[View], known: Known) -> list[Rule]:
    refs: dict[str, ComponentRef] = {}
    entries: dict[str, list[Entry]] = defaultdict(list)
    for seen in views:
        link = slug("suite", seen.results.name)
        for header, group in zip(seen.headers, seen.groups, strict=True):
            for row in group.rows:
                refs[row.method.name] = row.method
                entries[row.method.name].append(Entry(seen.name, link, header, row))
    return [_rule(refs[name], entries[name], *known.get(name, ("", ""))) for name in sorted(refs)]


def _rule(ref: ComponentRef, entries: Sequence[Entry], summary: str, cite: str) -> Rule:
    runs = [(entry, run) for entry in entries for run in entry.row.runs]
    passports = [run.record.passport for _, run in runs if run.record.passport]
    used = {flag for passport in passports for flag, on in passport.items() if on}
    source = fields(ref.short, summary, cite)
    return Rule(
        name=ref.short,
        link=slug("method", ref.name),
        summary=summary,
        cite=cite,
        arxiv=source.get("eprint"),
        doi=source.get("doi"),
        bibtex=entry_of("method", ref.name, summary, cite) if cite else "",
        flags=tuple((words, flag in used) for flag, (_, words) in PASSPORT.items()),
        other=tuple(sorted(visible(flag) for flag in used - PASSPORT.keys())),
        declared=bool(passports),
        entries=tuple(entries),
        runs=tuple(runs[: page.MOST_RUNS]),
    )


def pages(
    suites: Sequence[SuiteResults], known: Known, troubles: Sequence[str] = ()
) -> dict[str, str]:
    """Return the HTML of every page by its file name."""
    views = [view(results) for results in together(suites)]
    script = str(page.asset("page.js"))
    rules = _rules(views, known)
    frame: dict[str, Any] = {
        "suites": [(seen, slug("suite", seen.results.name), tally(seen)) for seen in views],
        "rules": rules,
    }
    made = {
        "index.html": page.rendered("index.html.j2", [script], troubles=list(troubles), **frame)
    }
    links = {rule.name: rule.link for rule in rules}
    for seen, link, _ in frame["suites"]:
        section = page.section(seen, 0)
        scripts = [page.library(), script] if section.figures else [script]
        made[link] = page.rendered("suite.html.j2", scripts, section=section, links=links, **frame)
    for rule in rules:
        made[rule.link] = page.rendered("method.html.j2", [script], rule=rule, **frame)
    return made


def tally(seen: View) -> dict[str, int]:
    """Count the runs of each kind of verdict, the most frequent kind first."""
    return dict(Counter(run.judgement.kind for _, _, run in seen.runs).most_common())


def build(
    suites: Sequence[SuiteResults], known: Known, output: Path, troubles: Sequence[str] = ()
) -> list[Path]:
    """Write the site, remove the pages of an earlier build that are gone, and return the files."""
    made = pages(suites, known, troubles)
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
    before: Any = []
    with contextlib.suppress(OSError, ValueError, RecursionError):
        before = json.loads((output / MANIFEST).read_text(encoding="utf-8"))
    for name, text in made.items():
        replace_file(output / name, text)
    replace_file(output / MANIFEST, json.dumps(sorted(made), indent=1) + "\n")
    for name in before if isinstance(before, list) else []:
        if isinstance(name, str) and PAGE.fullmatch(name) and name not in made:
            with writing(output / name):
                (output / name).unlink(missing_ok=True)
    return [output / name for name in made]
