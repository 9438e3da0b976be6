"""A leaderboard site from several people's results folders: static pages that need no server and no network.

    index.html            every suite and every rule
    suite-<name>.html     the report of one suite, everybody's runs together
    method-<name>.html    one rule: what it is, where it comes from, its passport, how it did in every suite, its runs
    site.json             the pages that this site has, so that building it again removes those that are gone

Runs of one suite are taken together and judged as one set; a seed of a cell counts once, whoever ran it (`verdict`).
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import defaultdict
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
    """A row of a leaderboard in which a rule stands."""

    suite: str
    link: str
    header: str
    row: Row


@dataclass(frozen=True)
class Rule:
    """A rule and all that the results say of it."""

    name: str
    link: str
    summary: str
    cite: str
    arxiv: str | None
    doi: str | None
    bibtex: str
    flags: tuple[tuple[str, bool], ...]
    other: tuple[str, ...]
    told: bool
    entries: tuple[Entry, ...]
    runs: tuple[tuple[Entry, Run], ...]


def slug(kind: str, name: str) -> str:
    """The file of a page: the name where that is a safe file name, else what is left of it and its hash."""
    safe = re.sub(r"[^a-z0-9_.-]+", "-", name.lower().removeprefix("bench-core/")).strip("-.")[:80]
    tail = (
        ""
        if safe == name.removeprefix("bench-core/")
        else "-" + digest_bytes(name.encode("utf-8", "surrogatepass"), 4)
    )
    return f"{kind}-{safe or 'x'}{tail}.html"


def _rules(views: Sequence[View], known: Known) -> list[Rule]:
    refs: dict[str, ComponentRef] = {}
    entries: dict[str, list[Entry]] = defaultdict(list)
    for seen in views:
        for header, group in zip(seen.headers, seen.groups, strict=True):
            for row in group.rows:
                refs[row.method.name] = row.method
                entries[row.method.name].append(
                    Entry(seen.name, slug("suite", seen.results.name), header, row)
                )
    rules = []
    for name in sorted(refs):
        runs = tuple((entry, run) for entry in entries[name] for run in entry.row.runs)
        declared = [run.record.passport for _, run in runs if run.record.passport]
        used = {flag for passport in declared for flag, on in passport.items() if on}
        summary, cite = known.get(name, ("", ""))
        found = fields(refs[name].short, summary, cite)
        rules.append(
            Rule(
                refs[name].short, slug("method", name), summary, cite, found.get("eprint"), found.get("doi"),
                entry_of("method", name, summary, cite) if cite else "",
                tuple((words, flag in used) for flag, (_, words) in PASSPORT.items()),
                tuple(sorted(visible(flag) for flag in used - PASSPORT.keys())),
                bool(declared), tuple(entries[name]), runs[: page.MOST_RUNS],
            )
        )  # fmt: skip
    return rules


def pages(
    suites: Sequence[SuiteResults], known: Known, troubles: Sequence[str] = ()
) -> dict[str, str]:
    """File name → HTML."""
    views = [view(found) for found in together(suites)]
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
    for seen in views:
        section = page.section(seen, 0)
        scripts = [page.library(), script] if section.figures else [script]
        name = slug("suite", seen.results.name)
        made[name] = page.rendered("suite.html.j2", scripts, section=section, links=links, **frame)
    for rule in rules:
        made[rule.link] = page.rendered("method.html.j2", [script], rule=rule, **frame)
    return made


def tally(seen: View) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for _, _, run in seen.runs:
        counts[run.judgement.kind] += 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def build(
    suites: Sequence[SuiteResults], known: Known, output: Path, troubles: Sequence[str] = ()
) -> list[Path]:
    """Write the site; pages of an earlier build that it no longer has are removed. Returns the files."""
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
