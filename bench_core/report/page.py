"""Write the report: one self-contained HTML page that opens from disk and uses no network.

Everything that comes from results is data. Jinja2 escapes it, after `escape.visible` has written
out invisible characters. Chart specs are JSON in script elements that no browser executes. The
Content-Security-Policy allows the two scripts of this module by their SHA-256, but no `eval`
(Vega's expressions are interpreted) and no connection.

The page stays readable and small for any number of runs: the verdict table has at most `MOST_RUNS`
rows, every figure has a limit, and the page says what it leaves out and which command prints it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from bench_core import __version__
from bench_core.analysis.claims import ClaimResult
from bench_core.analysis.gather import SuiteResults, claims_of
from bench_core.analysis.leaderboard import Row, Run
from bench_core.report import claimed, escape, figures, notes
from bench_core.report.columns import COLUMNS, columns_of
from bench_core.report.criteria import Criterion, criteria
from bench_core.report.figures import Chart
from bench_core.report.figures.drawing import Figure
from bench_core.report.layers import layers
from bench_core.report.numbers import NONE, fraction, optional, signed
from bench_core.report.provenance import Provenance, provenance
from bench_core.report.rows import PASSPORT, passport
from bench_core.report.tallies import Table, firing_table, sensitivity_table, utility_table
from bench_core.report.view import View, gamma_deep, name_of, plural, state, value, view
from bench_core.results.record import RunRecord
from bench_core.results.status import STATUSES

TEMPLATES = Path(__file__).parent / "templates"
MOST_RUNS = 2000  # rows of the verdict table of one page
MOST_ROWS = 400  # rows of one leaderboard, of the passports and of the tables beside figures
MOST_NOTES = 100  # lines below a leaderboard
MOST_RECIPES = 24  # recipes of a suite with figures and tables of their own
EMBED = "window.vegaEmbed=vegaEmbed;"


@dataclass(frozen=True)
class Verdict:
    """A row of the verdict table.

    cells   (text, sort key, state) of every diagnostic
    struck  why Γ means nothing, or None
    """

    run: str
    method: str
    recipe: str
    seed: int
    accuracy: str
    sort_accuracy: float | None
    kind: str
    verdict: str
    cells: tuple[tuple[str, float | None, str], ...]
    gamma: str
    sort_gamma: float | None
    struck: str | None
    margin_bp: str
    sort_margin_bp: float | None
    reason: str


def shown_accuracy(record: RunRecord) -> str:
    """Write the accuracy of a run that is done."""
    return optional(record.accuracy if record.status == "done" else None, fraction)


def _verdict(recipe: str, row: Row, run: Run, judged_by: Sequence[Criterion]) -> Verdict:
    record, judgement = run.record, run.judgement
    deep, struck = gamma_deep(run)
    values = [(criterion, value(run, criterion.letter)) for criterion in judged_by]
    accuracy = record.accuracy if record.status == "done" else None
    return Verdict(
        run=record.identity,
        method=name_of(row),
        recipe=recipe,
        seed=record.cell.seed,
        accuracy=shown_accuracy(record),
        sort_accuracy=accuracy,
        kind=judgement.kind,
        verdict=judgement.text,
        cells=tuple(
            (criterion.text(number), number, state(run, criterion.letter))
            for criterion, number in values
        ),
        gamma=NONE if deep is None else signed(deep, 3),
        sort_gamma=deep,
        struck=struck,
        margin_bp=optional(judgement.margin_bp, signed) if record.status == "done" else NONE,
        sort_margin_bp=judgement.margin_bp if record.status == "done" else None,
        reason=record.reason or "",
    )


@dataclass(frozen=True)
class Embedded:
    """A figure in the page, with the ids and the specs of its panels for script elements."""

    chart: Chart
    figure: Figure
    ids: tuple[str, ...]
    specs: tuple[Markup, ...]


def script_json(data: Any) -> Markup:
    """Write JSON for a script element; it cannot end it, and has no invisible characters."""
    return Markup(
        escape.json_text(json.dumps(data, separators=(",", ":"), allow_nan=False)).replace(
            "<", "\\u003c"
        )
    )


def _figures(view: View, prefix: str) -> dict[int | str, list[Embedded]]:
    """Draw the figures, and return them by recipe or by place on the page."""
    placed: dict[int | str, list[Embedded]] = {}
    for count, item in enumerate(figures.drawn(view, most_recipes=MOST_RECIPES)):
        panels = item.figure.panels
        ids = tuple(f"{prefix}-f{count}-{k}" for k in range(len(panels)))
        specs = tuple(script_json(panel.spec) for panel in panels)
        place = item.chart.place if item.recipe is None else item.recipe
        placed.setdefault(place, []).append(Embedded(item.chart, item.figure, ids, specs))
    return placed


def _passports(found: View) -> list[dict[str, Any]]:
    """Return the passport of every method; a floor has that of its method."""
    shown: dict[str, dict[str, Any]] = {}
    for _, row, _ in found.runs:
        if row.role == "floor":
            continue
        flags = {name for run in row.runs for name, flag in run.record.passport.items() if flag}
        told = any(run.record.passport for run in row.runs)
        shown.setdefault(
            name_of(row),
            {
                "method": name_of(row),
                "flags": [name in flags for name in PASSPORT],
                "other": ", ".join(
                    sorted(escape.visible(name) for name in flags - PASSPORT.keys())
                ),
                "codes": passport(row) or "not declared",
                "told": told,
            },
        )
    return [shown[name] for name in sorted(shown)][:MOST_ROWS]


@dataclass(frozen=True)
class Section:
    """A suite in the page."""

    id: str
    view: View
    verdicts: tuple[Verdict, ...]
    hidden: int
    counts: dict[str, int]
    judged_by: list[Criterion]
    figures: dict[int | str, list[Embedded]]
    provenance: Provenance
    passports: list[dict[str, Any]]
    firings: dict[int, Table]
    sensitivity: Table | None
    utility: Table | None
    claims: list[ClaimResult]
    footer: list[str]


def section(found: View, number: int, most: int = MOST_RUNS) -> Section:
    many = len(found.groups) > 1
    judged_by = criteria(row for group in found.groups for row in group.rows)
    verdicts = [
        _verdict(found.headers[k] if many else "", row, run, judged_by)
        for k, row, run in found.runs[:most]
    ]
    counts: dict[str, int] = {}
    for _, _, run in found.runs:
        counts[run.judgement.kind] = counts.get(run.judgement.kind, 0) + 1
    return Section(
        id=f"s{number}",
        view=found,
        verdicts=tuple(verdicts),
        hidden=len(found.runs) - len(verdicts),
        judged_by=judged_by,
        counts=dict(sorted(counts.items(), key=lambda item: -item[1])),
        figures=_figures(found, f"s{number}"),
        provenance=provenance(found, most),
        passports=_passports(found),
        firings={
            k: table
            for k, group in enumerate(found.groups[:MOST_RECIPES])
            if (table := firing_table(found, group))
        },
        sensitivity=sensitivity_table(found),
        utility=utility_table(found),
        claims=claims_of(found.results)[0] if found.results.expect else [],
        footer=notes.of_all(
            found.groups,
            found.settings,
            {column.key for group in found.groups for column in columns_of(group)},
        ),
    )


# ---------------------------------------------------------------------------------------- the page


@cache
def environment() -> jinja2.Environment:
    """Load the templates; they escape all strings and write out invisible characters."""

    def finalize(item: Any) -> Any:
        return (
            escape.visible(item) if isinstance(item, str) and not isinstance(item, Markup) else item
        )

    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shared = (claimed, columns_of, layers, notes, plural, shown_accuracy, signed)
    templates.globals |= {item.__name__.rpartition(".")[2]: item for item in shared}
    templates.globals |= {
        "COLUMNS": COLUMNS,
        "MOST_NOTES": MOST_NOTES,
        "MOST_RECIPES": MOST_RECIPES,
        "MOST_ROWS": MOST_ROWS,
        "NONE": NONE,
        "PASSPORT": PASSPORT,
        "SHAPES": SHAPES,
        "STATUSES": STATUSES,
        "version": __version__,
    }
    return templates


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
    """Read a style sheet or script of this package."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _status_style() -> Markup:
    """Return the style rules for the badges of run statuses."""
    return Markup("").join(
        Markup(f".badge.{name} {{ background: var(--{tone}-bg); color: var(--{tone}); }}\n")
        for name, status in STATUSES.items()
        if (tone := status.tone)
    )


@cache
def library() -> str:
    """Bundle Vega, Vega-Lite and vega-embed with the expression interpreter into one script."""
    import vl_convert

    return str(vl_convert.javascript_bundle(EMBED)).replace("</script", "<\\/script")


def policy(scripts: Sequence[str]) -> str:
    """Return a Content-Security-Policy: only these scripts, inline styles and inline images.

    Vega sets some styles inline.
    """
    sums = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{text}'" for text in sums) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def page(suites: Sequence[SuiteResults], troubles: Sequence[str] = ()) -> str:
    """Return the report of all suites as HTML."""
    # the bundler releases Python's lock, so the figures are built at the same time
    with ThreadPoolExecutor(1) as pool:
        bundled: Future[str] = pool.submit(library)
        views = [view(found) for found in suites]
        most = max(MOST_RUNS // max(len(views), 1), 50)
        sections = [section(found, number, most) for number, found in enumerate(views)]
        drawn = any(item.figures for item in sections)
        scripts = ([bundled.result()] if drawn else []) + [str(asset("page.js"))]
    return rendered("report.html.j2", scripts, sections=sections, troubles=list(troubles))


def rendered(name: str, scripts: list[str], **context: Any) -> str:
    """Render a template with the style, the scripts and the policy that every page has."""
    return (
        environment()
        .get_template(name)
        .render(
            scripts=[Markup(text) for text in scripts],
            policy=policy(scripts),
            style=asset("page.css") + _status_style(),
            **context,
        )
    )
