"""Write the report: one self-contained HTML page that opens from disk and uses no network.

Results are data: Jinja2 escapes them, `escape.visible` writes out invisible characters, and chart
specs are JSON that no browser executes. The Content-Security-Policy allows two scripts by SHA-256,
but no `eval` (Vega's expressions are interpreted) and no connection. Tables and figures have a
limit, so that the page stays readable; it names the omissions and the command that prints them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from markupsafe import escape as escape_html

from bench_core import __version__
from bench_core.analysis.claims.outcomes import claims_of
from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.sensitivity import CIRCULAR
from bench_core.analysis.utility import HEADLINE, STRATEGIES, WORDS
from bench_core.analysis.verdicts.kinds import FLOOR, KINDS, NO_FLAG
from bench_core.analysis.verdicts.rows import Row, Run
from bench_core.names import bare_name
from bench_core.registry.card import Card
from bench_core.report import claims_table
from bench_core.report.figures import Drawn, drawn
from bench_core.report.layers import layers
from bench_core.report.pages.cache import kept
from bench_core.report.pages.provenance import differences, provenance, users
from bench_core.report.pages.tallies import bands, first_firings, of_most, walked_back
from bench_core.report.tables import legend, notes
from bench_core.report.tables.columns import COLUMNS, columns_of, every_column
from bench_core.report.text import escape
from bench_core.report.text.numbers import NONE, optional, plural, signed
from bench_core.report.view import View, gamma_deep, name_of, shown_accuracy, state, value, view
from bench_core.report.words import reasons, rows, summary
from bench_core.report.words.criteria import criteria
from bench_core.results.status import STATUSES

TEMPLATES = Path(__file__).parent / "templates"
MOST_RUNS = 2000  # rows of the verdict table of one page
MOST_ROWS = 400  # rows of one leaderboard, of the passports and of the tables beside figures
MOST_NOTES = 100  # lines below a leaderboard
MOST_RECIPES = 24  # recipes of a suite with figures and tables of their own


@dataclass(frozen=True)
class Section:
    """A suite in the page.

    most     runs that it lists
    cards    name and card of its rules
    figures  by recipe, or by place on the page; each has the id of its element
    """

    id: str
    view: View
    most: int
    cards: list[tuple[str, Card]]
    figures: dict[int | str, list[tuple[str, Drawn]]]


def section(
    shown: View, number: int, most: int = MOST_RUNS, cards: Mapping[str, Card] | None = None
) -> Section:
    """Draw the figures of a suite."""
    placed: dict[int | str, list[tuple[str, Drawn]]] = defaultdict(list)
    for count, item in enumerate(drawn(shown, most_recipes=MOST_RECIPES)):
        place = item.chart.place if item.recipe is None else item.recipe
        placed[place].append((f"s{number}-f{count}", item))
    used = {row.method.name: row.method.short for _, row, _ in shown.runs}
    own = [(used[name], card) for name, card in sorted((cards or {}).items()) if name in used]
    return Section(f"s{number}", shown, most, own, dict(placed))


def script_json(data: Any) -> Markup:
    """Write JSON for a script element; it cannot end it, and has no invisible characters."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(escape.json_text(text).replace("<", "\\u003c"))


def lines(text: str) -> Markup:
    """Keep the lines of a text."""
    return Markup("\n").join(map(escape.visible, text.splitlines()))


def spaced(label: str) -> Markup:
    """Let a long label break after `[`, `,` and `/`, on a phone after `_` too, never in a word."""
    text = str(escape_html(escape.visible(label)))
    return Markup(re.sub(r"([\[,/])", r"\1<wbr>", text).replace("_", '_<wbr class="phone">'))


def used_words(row: Row) -> str:
    """Write in words what a rule uses beyond a block and the output error."""
    used = rows.information(row.runs)
    if used is None:
        return "not declared"
    known = [words for name, (_, words) in rows.PASSPORT.items() if name in used]
    return ", ".join(known + rows.other_information(used)) or rows.LOCAL


def flag_words(run: Run) -> str:
    """Write the flags of a run with the names of the diagnostics in place of their letters."""
    judgement = run.judgement
    if judgement.status != "done" or judgement.kind in (FLOOR, NO_FLAG):
        return judgement.text
    flags = judgement.fired or judgement.missing
    names = [bare_name(run.deciding[letter][0]) for letter in flags if letter in run.deciding]
    return f"{judgement.kind}: {', '.join(names)}"


def columns_in(shown: View) -> set[str]:
    """Return the keys of the columns that the page has: those of its tables, and all further."""
    return {
        column.key
        for group in shown.groups
        for column in [*columns_of(group), *(c for c in every_column(group) if not c.main)]
    }


def passports(shown: View) -> list[tuple[str, set[str] | None]]:
    """Return the information that every method uses; a floor has that of its method."""
    declared: dict[str, set[str] | None] = {}
    for _, row, _ in shown.runs:
        if row.role != "floor":
            declared.setdefault(name_of(row), rows.information(row.runs))
    return sorted(declared.items())[:MOST_ROWS]


@cache
def environment() -> jinja2.Environment:
    """Load the templates; they escape all strings and write out invisible characters."""

    def finalize(item: Any) -> Any:
        plain = isinstance(item, str) and not isinstance(item, Markup)
        return escape.visible(item) if plain else item

    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    give = templates.globals.update
    give(claims_table=claims_table, legend=legend, notes=notes, reasons=reasons, summary=summary)
    give(version=__version__, COLUMNS=COLUMNS, NONE=NONE, SHAPES=SHAPES, STATUSES=STATUSES)
    give(PASSPORT=rows.PASSPORT, CIRCULAR=CIRCULAR, STRATEGIES=STRATEGIES, WORDS=WORDS)
    give(HEADLINE=HEADLINE, BADGES=BADGES, KINDS=KINDS)
    give(MOST_NOTES=MOST_NOTES, MOST_RECIPES=MOST_RECIPES, MOST_ROWS=MOST_ROWS)
    functions: tuple[Any, ...] = (asset, flag_words, lines, passports, policy, script_json, section)
    functions += (spaced, used_words, claims_of, columns_of, every_column, criteria, layers)
    functions += (optional, plural, signed, differences, provenance, users, bands, first_firings)
    functions += (columns_in, walked_back, of_most, gamma_deep, shown_accuracy, state, value)
    functions += (rows.families, rows.names_of, rows.other_information)
    give({function.__name__: function for function in functions})
    return templates


# the colour of each verdict, flag, outcome of a claim and status
BADGES = {name: kind.tone for name, kind in KINDS.items()}
BADGES |= {name: status.tone for name, status in STATUSES.items() if status.tone}
SHAPES = {  # the marks of a legend, as SVG paths within 12 × 12
    "circle": "M6 1.5a4.5 4.5 0 1 0 .01 0Z",
    "square": "M2 2h8v8h-8Z",
    "diamond": "M6 .5L11 6L6 11.5L1 6Z",
    "triangle-up": "M6 1L11.5 10.5H.5Z",
    "triangle-down": "M6 11L.5 1.5H11.5Z",
    "triangle-right": "M11 6L1.5 .5V11.5Z",
    "triangle-left": "M1 6L10.5 .5V11.5Z",
    "cross": "M4 1h4v3h3v4h-3v3h-4v-3h-3v-4h3Z",
}


def asset(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


@cache
def library() -> str:
    """Bundle Vega, Vega-Lite and vega-embed with the expression interpreter into one script."""
    import vl_convert

    def bundle() -> str:
        script = str(vl_convert.javascript_bundle("window.vegaEmbed=vegaEmbed;"))
        return script.replace("</script", "<\\/script")

    return kept(f"vega-{version('vl-convert-python')}.js", bundle)


def policy(scripts: Sequence[str]) -> str:
    """Allow only these scripts, inline styles (Vega sets some) and inline images."""
    sums = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{text}'" for text in sums) or "'none'"
    scripted = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'"
    return f"{scripted}; img-src data: blob:; base-uri 'none'; form-action 'none'"


def page(
    suites: Sequence[SuiteResults],
    troubles: Sequence[str] = (),
    mark: str = "",
    cards: Mapping[str, Card] | None = None,
) -> str:
    """Return the report of all suites as HTML; `mark` names the results that it shows.

    cards  by the full names of rules
    """
    # the bundler releases Python's lock, so the figures are built at the same time
    with ThreadPoolExecutor(1) as pool:
        bundled: Future[str] = pool.submit(library)
        views = [view(results) for results in suites]
        most = max(MOST_RUNS // max(len(views), 1), 50)
        sections = [section(shown, number, most, cards) for number, shown in enumerate(views)]
        charts = any(item.figures for item in sections)
        scripts = ([bundled.result()] if charts else []) + [str(asset("page.js"))]
    context = {"sections": sections, "troubles": list(troubles), "mark": mark}
    return rendered("report.html.j2", scripts, **context)


def rendered(name: str, scripts: list[str], **context: Any) -> str:
    """Render a template with the scripts of its page."""
    return environment().get_template(name).render(scripts=[*map(Markup, scripts)], **context)
