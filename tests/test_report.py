"""The page and the figures: self-contained, true to the records, and safe from any name."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path

import altair as alt
import pytest
from conftest import Here
from folders import audit_folder, leaderboard, sweep_folder, write
from records import SICK, audit, frozen, measured, run, seeds
from test_leaderboard import HOSTILE, forbidden, hostile

from bench_core.analysis.gather import SuiteResults, gather
from bench_core.analysis.utility import HEADLINE
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.analysis.verdicts.rows import Row
from bench_core.analysis.verdicts.settings import Settings
from bench_core.registry.card import Card
from bench_core.report import figures
from bench_core.report.figures import Figure, Panel, drawing, temporal
from bench_core.report.figures.paper import BRIGHT, paper, render
from bench_core.report.pages import page, site, tallies
from bench_core.report.tables.formats import leaderboards
from bench_core.report.text.numbers import NONE
from bench_core.report.view import View, name_of, view
from bench_core.results.epochs import Epoch
from bench_core.results.record import Measurement, RunRecord
from bench_core.suite.judging import DepthUtility

DFA, BP = "bench-core/dfa", "bench-core/bp"
LIBRARY = "/* the library */ var vegaEmbed;"
VOID = {"meta", "link", "input", "br", "wbr", "path"}


@pytest.fixture(autouse=True)
def quick_library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundling takes seconds; the browser tests have the real one."""
    monkeypatch.setattr(page, "library", lambda: LIBRARY)


class Parsed(HTMLParser):
    """Tags, balanced or not, the text outside scripts and styles, and what stands in scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.words: list[str] = []
        self.parted = False  # by a place where a word may break
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.parted = tag == "wbr"
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            attributes, text = self.scripts.pop()
            self.scripts.append((attributes, text + data))
        elif self.parted:
            self.words[-1] += data
            self.parted = False
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def suite_of(records: list[RunRecord], **settings: object) -> SuiteResults:
    return SuiteResults("made", Settings(**settings), tuple(records), 0)  # type: ignore[arg-type]


def shown(records: list[RunRecord], **settings: object) -> Parsed:
    parsed = Parsed(page.page([suite_of(records, **settings)]))
    assert parsed.unbalanced == []
    assert parsed.open == []
    return parsed


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> View:
    root = tmp_path_factory.mktemp("miniature")
    audit_folder(root)
    (found,), troubles = gather([root])
    assert troubles == []
    return view(found)


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> View:
    root = tmp_path_factory.mktemp("sweeps")
    sweep_folder(root)
    (found,), _ = gather([root])
    return view(found)


@pytest.fixture(scope="module")
def audit_page(miniature: View) -> Parsed:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "library", lambda: LIBRARY)
        return Parsed(page.page([miniature.results]))


@pytest.fixture(scope="module")
def audit_figures(miniature: View) -> dict[str, list[Figure]]:
    return specs(miniature)


@pytest.fixture(scope="module")
def sweep_figures(sweeps: View) -> dict[str, list[Figure]]:
    return specs(sweeps)


# ------------------------------------------------------------------------------------ what it says


def test_the_page_says_what_the_records_say(audit_page: Parsed) -> None:
    assert audit_page.unbalanced == []
    for words in (
        "A miniature audit",
        "1 of 3 rules is trustworthy: bp. ep has unfinished runs. dfa trains blocks that are worse",
        "flagged: scale_growth, reference_floor, depth_utility",
        "loss is not finite at step 90", "reference at the floor",
        "residual stream grows 694 times in one block (limit 50 times)",
        ".306 ± .010", "arXiv:2606.21126", "n = 8 finished runs", "E1", "torch", "2.11",
        "makes a run again", "gradients by backpropagation inside the blocks",
        "healthy and degenerate follow from the thresholds in force",
        f"S_full S1 or any diagnostic. {HEADLINE}", f"S_full adds all. {HEADLINE}",
        "first fires at epoch",
    ):  # fmt: skip
        assert words in audit_page.text, words
    struck = [attributes for tag, attributes in audit_page.tags if tag == "s"]
    assert any(attributes.get("title") == "reference at the floor" for attributes in struck)


def test_the_page_explains_the_columns_that_it_has_and_no_other() -> None:
    """A table with counted operations has no seconds."""
    cost = {**measured(), "step_cost": Measurement(value=2.0, unit="x")}
    costs, seconds = "cost x bp: operations", "seconds a run: of one seed without its floor"
    for measurements, there, absent in ((cost, costs, seconds), (measured(), seconds, costs)):
        text = Parsed(
            page.page([suite_of(seeds(DFA, [0.3, 0.31], measurements=measurements))])
        ).text
        assert there in text
        assert absent not in text


def test_every_number_leads_to_its_run(miniature: View, audit_page: Parsed) -> None:
    targets = {attributes.get("id") for _, attributes in audit_page.tags}
    links = [
        attributes["href"]
        for tag, attributes in audit_page.tags
        if tag == "a" and attributes.get("href")
    ]
    runs = [link for link in links if link and link.startswith("#r-")]
    assert {link.removeprefix("#r-") for link in runs if link} == {
        r.identity for r in miniature.results.records
    }
    assert {link.removeprefix("#") for link in links if link} <= targets


@pytest.mark.long
def test_ids_are_unique_and_labels_lead_somewhere(miniature: View) -> None:
    parsed = Parsed(page.page([miniature.results, miniature.results]))
    ids = [attributes["id"] for _, attributes in parsed.tags if attributes.get("id")]
    runs = [name for name in ids if name and name.startswith("r-")]
    assert len({*ids}) == len(ids) - len(runs) // 2  # the same runs are listed by both suites
    labels = {
        attributes["aria-labelledby"]
        for _, attributes in parsed.tags
        if attributes.get("aria-labelledby")
    }
    assert labels <= {*ids}
    for tag, attributes in parsed.tags:
        if tag == "th":
            assert attributes.get("scope") in ("col", "row")


def test_the_page_needs_nothing_and_allows_only_its_own_scripts(audit_page: Parsed) -> None:
    for tag, attributes in audit_page.tags:
        for name in ("src", "href", "action", "srcset", "data", "formaction"):
            target = attributes.get(name)
            assert target is None or target.startswith("#") or target == "data:,", (tag, target)
    policy = next(
        a["content"] for _, a in audit_page.tags if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe-eval" not in policy
    allowed = re.search(r"script-src ([^;]*);", policy)
    assert allowed is not None
    executed = [
        text
        for attributes, text in audit_page.scripts
        if attributes.get("type") != "application/json"
    ]
    sums = {
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in executed
    }
    assert set(allowed[1].split()) == sums
    assert len(executed) == 2
    assert not any(
        name.startswith("on") for _, attributes in audit_page.tags for name in attributes
    )


def test_claims_stand_beside_what_was_measured(tmp_path: Path) -> None:
    claims = [
        {
            "figure": "accuracy",
            "method": "dfa",
            "value": 0.306,
            "tolerance": 0.008,
            "source": "Table <1>",
        },
        {
            "figure": "accuracy",
            "method": "bp",
            "value": 0.9,
            "tolerance": 0.01,
            "source": "Table <1>",
        },
        {"figure": "accuracy", "method": "fa", "at_least": 0.3, "source": "elsewhere"},
    ]
    write(tmp_path, audit(), 1, expect=claims)
    (found,), troubles = gather([tmp_path])
    assert troubles == []
    text = Parsed(page.page([found])).text
    for words in (
        "3 claims: 1 holds, 1 fails, 1 not run",
        "accuracy of dfa .306, within .008 .306 [",
        "Table <1>",
        "elsewhere",
    ):
        assert words in text, words


def test_later_recipes_and_older_runs_are_told(sweeps: View) -> None:
    text = Parsed(page.page([sweeps.results])).text
    assert "In 2 recipes, 0 of 8 rows are trustworthy" in text
    assert "27 runs" in text
    assert "arch.depth=8" in text


# ----------------------------------------------------------------------------------------- figures


def specs(found: View) -> dict[str, list[Figure]]:
    made: dict[str, list[Figure]] = {}
    for item in figures.drawn(found, validate=True):
        made.setdefault(item.chart.name, []).append(item.figure)
    return made


def data_of(panel: Panel) -> list[list[dict[str, object]]]:
    """The inline data of every layer."""
    found = []

    def walk(node: object) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("values"), list) and all(
                isinstance(item, dict) for item in node["values"]
            ):
                found.append(node["values"])
            for item in node.values():
                walk(item)
        elif isinstance(node, list):
            for item in node:
                walk(item)

    walk(panel.spec)
    found += list(panel.spec.get("datasets", {}).values())
    return found


@pytest.mark.long
def test_the_audit_figure_has_a_point_per_run_and_the_thresholds(
    audit_figures: dict[str, list[Figure]],
) -> None:
    (figure,) = audit_figures["audit"]
    assert [item.title[0] for item in figure.panels] == ["a", "b", "c", "d"]
    for item in figure.panels:
        points = next(values for values in data_of(item) if "method" in values[0])
        assert len(points) == 8
        limits = {values[0]["limit"] for values in data_of(item) if "limit" in values[0]}
        assert limits == {{"a": 50.0, "b": 1e-7, "c": 0.3, "d": 2.0}[item.title[0]]}
    growth = next(values for values in data_of(figure.panels[0]) if "method" in values[0])
    assert {(p["method"], p["state"]) for p in growth} == {
        ("bp", "healthy"),
        ("ep", "healthy"),
        ("dfa", "fired"),
    }
    assert "n = 8 finished runs of 3 methods" in figure.caption
    assert "5 without a flag, 3 flagged" in figure.caption
    assert (
        len({key.colour for key in figure.legend}) == len({key.shape for key in figure.legend}) == 3
    )


def test_the_temporal_figure_marks_the_first_firings(
    audit_figures: dict[str, list[Figure]],
) -> None:
    (figure,) = audit_figures["temporal"]
    assert [item.title.split()[0] for item in figure.panels] == ["‖h_L‖", "‖g_L‖", "accuracy"]
    marks = next(values for values in data_of(figure.panels[0]) if "letter" in values[0])
    assert {(m["method"], m["seed"], m["letter"], m["epoch"]) for m in marks} == {
        ("dfa", seed, letter, epoch)
        for seed in (42, 123, 456)
        for letter, epoch in (("a", 4), ("b", 5))
    }
    lines = next(values for values in data_of(figure.panels[2]) if "letter" not in values[0])
    assert len(lines) == 8 * 7
    assert "n = 8 runs of 3 methods over 6 epochs; in 5 no diagnostic with a mark" in figure.caption
    assert "It alone is no verdict, because a verdict rests on the last epoch. n" in figure.caption
    assert [(key.name, key.shape) for key in figure.marks] == [
        ("a (scale_growth) first fires", "triangle-up"),
        ("b (reference_floor) first fires", "square"),
    ]
    drawn = render(paper(figure), "svg").decode()
    assert all(f">{key.name}<" in drawn for key in (*figure.legend, *figure.marks))


def test_the_temporal_figure_names_rules_that_fired_and_are_trustworthy(
    miniature: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = View.epochs

    def firing(self: View, record: RunRecord) -> list[Epoch]:
        other = measured(c=0.9)["batch_stability"]
        return [
            row.model_copy(update={"measurements": {**row.measurements, "batch_stability": other}})
            if row.epoch == 3
            else row
            for row in every(self, record)
        ]

    monkeypatch.setattr(View, "epochs", firing)
    (figure,) = specs(miniature)["temporal"]
    assert "rests on the last epoch: bp has such marks and is trustworthy." in figure.caption
    assert figure.marks[-1].name == "c (batch_stability) first fires"


@pytest.mark.long
def test_the_temporal_figure_spreads_marks_that_would_pile_up(
    audit_figures: dict[str, list[Figure]], miniature: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = View.epochs

    def long(self: View, record: RunRecord) -> list[Epoch]:
        rows = every(self, record)
        return [*rows[:-1], *(row.model_copy(update={"epoch": 60}) for row in rows[-1:])]

    assert "logarithmic" not in audit_figures["temporal"][0].caption
    monkeypatch.setattr(View, "epochs", long)
    (figure,) = specs(miniature)["temporal"]
    assert "The axis of epochs is logarithmic" in figure.caption
    assert '"symlog"' in json.dumps(figure.panels[0].spec)


@pytest.mark.long
def test_the_temporal_figure_says_how_far_its_epochs_lie_apart(
    audit_figures: dict[str, list[Figure]], miniature: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "the accuracy after every epoch, epoch 0" in audit_figures["temporal"][0].caption
    every = View.epochs
    monkeypatch.setattr(View, "epochs", lambda self, record: every(self, record)[::3])
    (figure,) = specs(miniature)["temporal"]
    assert "the accuracy at most 3 epochs apart, epoch 0" in figure.caption

    def without_accuracy(self: View, record: RunRecord) -> list[Epoch]:
        """Every epoch has a row, but only every second one was evaluated."""
        return [
            row if row.epoch % 2 == 0 else row.model_copy(update={"accuracy": None})
            for row in every(self, record)
        ]

    monkeypatch.setattr(View, "epochs", without_accuracy)
    (figure,) = specs(miniature)["temporal"]
    assert "the accuracy at most 2 epochs apart, epoch 0" in figure.caption


@pytest.mark.long
def test_the_temporal_figure_says_which_rules_fired_in_their_warm_up(
    audit_figures: dict[str, list[Figure]], miniature: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "warm-up" not in audit_figures["temporal"][0].caption
    every = View.epochs

    def warming(self: View, record: RunRecord) -> list[Epoch]:
        other = Measurement(value=0.1, details={"in_use": False})
        return [
            row.model_copy(update={"measurements": {**row.measurements, "alignment": other}})
            for row in every(self, record)
        ]

    monkeypatch.setattr(View, "epochs", warming)
    (figure,) = specs(miniature)["temporal"]
    assert " dfa fired first during its warm-up, in which another credit" in figure.caption


def test_alignment_is_struck_where_the_reference_is_at_the_floor(
    audit_figures: dict[str, list[Figure]],
) -> None:
    (figure,) = audit_figures["alignment"]
    (cells,) = data_of(figure.panels[0])
    assert {cell["method"]: cell["struck"] for cell in cells} == {
        "bp": False,
        "ep": False,
        "dfa": True,
    }
    assert all("reference at the floor" in str(cell["means"]) for cell in cells if cell["struck"])
    assert "struck through: Γ is not diagnostic (reference at the floor)." in figure.caption
    marks = [layer["mark"]["type"] for layer in figure.panels[0].spec["layer"]]
    assert marks == ["rect", "rect", "point", "text", "text"]  # the stroke hides no sign


@pytest.mark.long
def test_sweeps_are_drawn_where_an_axis_varies(sweep_figures: dict[str, list[Figure]]) -> None:
    assert {"lambda_sweep", "depth_sweep", "normalization"} <= sweep_figures.keys()
    assert "penalty" not in sweep_figures  # three values of λ are a sweep
    points = next(v for v in data_of(sweep_figures["lambda_sweep"][0].panels[0]) if "x" in v[0])
    assert [(p["method"], p["x"], p["value"]) for p in points] == [
        ("dfa", "0.01", 0.35), ("dfa", "0.0001", 0.33), ("dfa", "0", 0.31)
    ]  # fmt: skip
    depths = next(v for v in data_of(sweep_figures["depth_sweep"][0].panels[0]) if "x" in v[0])
    assert {(p["method"], p["x"]) for p in depths} >= {
        ("bp", "4"),
        ("bp", "8"),
        ("dfa", "4"),
        ("dfa", "8"),
    }
    modes = next(v for v in data_of(sweep_figures["normalization"][0].panels[0]) if "x" in v[0])
    assert {p["x"] for p in modes} == {"batch", "none", "sample"}
    rescue = [
        *seeds(DFA, [0.3, 0.3]),
        *seeds("bench-core/sb", [0.4, 0.5], params={"penalty": 0.01}),
    ]
    assert "penalty" in specs(view(suite_of(rescue)))


def in_network(records: list[RunRecord], **params: int) -> Iterator[RunRecord]:
    """Return runs of another network."""
    for record in records:
        arch = record.cell.arch.model_copy(update={"params": {**record.cell.arch.params, **params}})
        cell = record.cell.model_copy(update={"arch": arch})
        yield record.model_copy(update={"cell": cell})


@pytest.mark.long
def test_a_caption_says_the_settings_in_which_recipes_differ(
    audit_figures: dict[str, list[Figure]],
) -> None:
    records = [
        record
        for width in (16, 32)
        for depth in (4, 8)
        for record in in_network(seeds(DFA, [0.3, 0.3]), width=width, depth=depth)
    ]
    every = specs(view(suite_of(records)))
    captions = [figure.caption for figure in every["leaderboard"]]
    assert [text.partition(" Here ")[2] for text in captions] == [
        f"arch.depth={depth}, arch.width={width}." for depth in (4, 8) for width in (16, 32)
    ]
    sweeps = [figure.caption for figure in every["depth_sweep"]]
    assert [text.partition(" Here ")[2] for text in sweeps] == ["arch.width=16.", "arch.width=32."]
    assert " Here " not in audit_figures["leaderboard"][0].caption


@pytest.mark.parametrize("count", [1, 2])
def test_a_caption_names_only_the_marks_that_are_there(count: int) -> None:
    """Intervals, points that are shifted, crosses through a Γ."""
    beside = seeds(BP, [0.5] * count, params={"penalty": 0.01}) * (count - 1)
    sick = SICK if count > 1 else measured()
    records = [
        *seeds(DFA, [0.3] * count, measurements=sick),
        *seeds(DFA, [0.4] * count, params={"penalty": 0.01}),
    ]
    every = specs(view(suite_of([*records, *beside])))
    (rescue,), (ranking,) = every["penalty"], every["leaderboard"]
    for words in ("95 % intervals", "are shifted sideways", "cross through a Γ"):
        assert (words in rescue.caption) == (count > 1)
    assert ("95 % interval" in ranking.caption) == (count > 1)


@pytest.mark.parametrize("form", ["svg", "pdf", "png"])
def test_paper_output(miniature: View, form: str) -> None:
    (drawn,) = figures.drawn(miniature, ["audit"])
    content = render(paper(drawn.figure), form)  # type: ignore[arg-type]
    assert content.startswith({"svg": b"<svg", "pdf": b"%PDF", "png": b"\x89PNG"}[form])
    if form == "svg":
        text = content.decode()
        for words in ("limit 50", "healthy", "fired", ">dfa<"):
            assert words in text


def test_a_linear_axis_has_plain_numbers() -> None:
    points = drawing.chart([{"value": -20}, {"value": 20}]).mark_point()
    panel = drawing.panel("d", [points.encode(drawing.measured(alt.X, "value", []))], 60)
    text = render(paper(Figure("", (panel,))), "svg").decode()
    assert all(f">{number}<" in text for number in ("−20", "−10", "0", "10", "20"))


def test_every_figure_can_be_put_on_paper(
    audit_figures: dict[str, list[Figure]], sweep_figures: dict[str, list[Figure]]
) -> None:
    for figure in chain(*audit_figures.values(), *sweep_figures.values()):
        text = json.dumps(paper(figure))
        assert "near_" not in text  # nothing is left of what a mouse does
        assert "NaN" not in text


# --------------------------------------------------------------------------------------- bad input


def clean(text: str) -> None:
    assert not re.search(r"(?<![\w-])(nan|inf|infinity|undefined)(?![\w-])", text, re.IGNORECASE), (
        re.search(r".{40}(?<![\w-])(nan|inf|infinity|undefined)(?![\w-]).{20}", text, re.IGNORECASE)
    )


EDGES: dict[str, list[RunRecord]] = {
    "no runs": [],
    "one seed": [run(), *frozen(DFA, [0.3])],
    "all equal": seeds(DFA, [0.3] * 3) + seeds(BP, [0.3] * 3) + frozen(DFA, [0.3] * 3),
    "all failed": [run(seed=seed, status="failed", reason="boom") for seed in (1, 2, 3)],
    "one method": seeds(DFA, [0.3, 0.31, 0.32]),
    "floors only": frozen(BP, [0.4, 0.4]),
    "missing cells": [run(seed=1), run(BP, seed=2), run(BP, seed=7)],
    "nothing measured": [run(measurements={}), run(BP, measurements={})],
    "zero": seeds(DFA, [0.0, 0.0], measurements=measured(a=0.0, b=0.0, c=0.0, gamma=0.0)),
}


@pytest.mark.parametrize("edge", EDGES)
def test_edges(edge: str, tmp_path: Path) -> None:
    parsed = shown(EDGES[edge])
    clean(parsed.text)
    for attributes, text in parsed.scripts:
        if attributes.get("type") == "application/json":
            json.loads(text, parse_constant=lambda name: pytest.fail(name))
    if edge == "one seed":
        assert "n=1: no interval" in parsed.text
    if edge == "all failed":
        assert "failed 3/3" in parsed.text
        assert "boom" in parsed.text
    if edge == "all equal":
        assert parsed.text.count("1–2") == 2
    for text in site.pages([suite_of(EDGES[edge])], {}).values():
        assert Parsed(text).unbalanced == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_said_and_not_drawn(value: float) -> None:
    found = measured(a=value, b=value, c=value)
    found["alignment"] = Measurement(
        details={"deep": "nan", "mean": "inf", "unclamped": ["nan"], "ratio": ["inf"]}
    )
    parsed = shown(
        [
            *seeds(DFA, [0.3, 0.3], measurements=found),
            run(seed=456, accuracy=value),
            *frozen(DFA, [0.3] * 3),
        ]
    )
    clean(parsed.text)
    assert "not finite" in parsed.text
    for attributes, text in parsed.scripts:
        if attributes.get("type") == "application/json":
            json.loads(text, parse_constant=lambda name: pytest.fail(name))
            clean(text)


@pytest.mark.long
def test_thousands_of_runs_stay_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MOST_RUNS", 100)
    records = [
        run(f"lab/rule{i}", seed, 0.3 + 1e-4 * ((i * 7 + seed) % 100))
        for i in range(100)
        for seed in (1, 2, 3)
    ]
    parsed = shown(records)
    assert "200 further runs not listed here" in parsed.text
    assert "20 rows of 100 are not drawn, floors first" in parsed.text
    rows = [attributes for tag, attributes in parsed.tags if tag == "tr" and "data-k" in attributes]
    assert len(rows) == 100


@pytest.mark.long
def test_a_figure_leaves_out_floors_before_rules_and_marks_that_it_has_not() -> None:
    rules = [
        each for i in range(50) for each in seeds(f"lab/r{i}", [0.3 + 1e-3 * i, 0.301 + 1e-3 * i])
    ]
    floors = [
        each for i in range(50) for each in frozen(f"lab/r{i}", [0.5 + 1e-3 * i, 0.502 + 1e-3 * i])
    ]
    (figure,) = specs(view(suite_of([*rules, *floors])))["leaderboard"]
    drawn = {item["method"] for values in data_of(figure.panels[0]) for item in values}
    assert len(drawn) == 80
    assert {f"lab/r{i}" for i in range(50)} < drawn
    assert "20 rows of 100 are not drawn, floors first." in figure.caption
    assert {key.name for key in figure.legend} == {"walked back", "floor"}
    (few,) = specs(view(suite_of(rules[:4])))["leaderboard"]
    assert [key.name for key in few.legend] == ["not settled"]


def test_lines_of_a_figure_have_a_colour_and_a_dash_that_no_other_has() -> None:
    keys = drawing.series([f"r{i}" for i in range(64)])
    assert len({(key.colour, key.dash) for key in keys}) == 64
    assert len({key.colour for key in keys[:8]}) == len({key.dash for key in keys[:8]}) == 8


@pytest.mark.long
def test_the_temporal_figure_names_the_runs_that_it_leaves_out(
    miniature: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    (figure,) = specs(miniature)["temporal"]
    assert "a line per run, all seeds. " in figure.caption
    assert "Not drawn" not in figure.caption
    monkeypatch.setattr(temporal, "MOST_RUNS", 7)
    (figure,) = specs(miniature)["temporal"]
    assert "a line per run. " in figure.caption
    assert figure.caption.endswith(" Not drawn: ep (seed 456), dfa (seed 456).")


def test_a_page_says_of_how_many_rules_it_read_the_epochs(
    miniature: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Parsed(page.page([miniature.results])).text
    assert "First firings" in text
    assert "of 3 rules." not in text
    monkeypatch.setattr(tallies, "MOST_READ", 2)
    assert "The first 2 of 3 rules." in Parsed(page.page([miniature.results])).text


def test_the_figure_of_costs_speaks_of_a_line_where_there_is_one() -> None:
    def costly(method: str, flops: int, values: list[float]) -> list[RunRecord]:
        phases = {"forward": flops, "credit": flops, "update": flops}
        details = {**phases, "steps_per_epoch": 10, "n": 64}
        cost = {"step_cost": Measurement(value=1.0, details=details)}
        steps = {"batch_size": 64}
        return seeds(method, values, measurements=measured() | cost, training=steps)

    cheap = costly(DFA, 10**6, [0.3, 0.31, 0.32])
    for best, joins in ((10**6, False), (2 * 10**6, True)):
        made = specs(view(suite_of([*cheap, *costly(BP, best, [0.6, 0.61, 0.62])])))
        assert ("The line joins" in made["cost"][0].caption) == joins


# ---------------------------------------------------------------------------------------- escaping


@pytest.mark.long
def test_names_bring_no_tag_and_end_no_script() -> None:
    """All hostile names, wherever others can put text, beside the pages with harmless names."""

    def made(names: list[str]) -> dict[str, str]:
        records = [item for name in names for item in hostile(name)]
        first = names[0]
        arch = records[0].cell.arch  # one recipe, so that there are few figures
        records = [
            r.model_copy(update={"cell": r.cell.model_copy(update={"arch": arch})}) for r in records
        ]
        found = SuiteResults(
            " ".join(names),
            Settings(
                title=" ".join(names), depth_utility=DepthUtility.model_construct(floor=first)
            ),
            tuple(records),
            0,
            description=" ".join(names),
        )
        return {
            "report": page.page(
                [found], names, cards={n: Card(n, n, n, deviations=n, verified=n) for n in names}
            ),
            **site.pages(
                [found], {n: Card(n, n, n, deviations=n, verified=n) for n in names}, names
            ),
        }

    harmless = made([f"harmless{k}" for k in range(len(HOSTILE))])
    tags = {tag for text in harmless.values() for tag, _ in Parsed(text).tags}
    pages = made(HOSTILE)
    assert len(pages) == len(harmless)
    for name, text in pages.items():
        assert re.fullmatch(r"report|(index|(suite|method)-[a-z0-9_.-]+)\.html", name)
        parsed = Parsed(text)
        assert parsed.unbalanced == []
        assert forbidden(text) == []
        assert {tag for tag, _ in parsed.tags} <= tags
        assert not any(str(a.get("href")).lower().startswith("javascript:") for _, a in parsed.tags)
        assert not any(key.startswith("on") for _, attributes in parsed.tags for key in attributes)
        for attributes, script in parsed.scripts:
            if attributes.get("type") == "application/json":
                assert "<" not in script
                json.loads(script)
    assert len(Parsed(pages["report"]).scripts) == len(Parsed(harmless["report"]).scripts)


def test_a_run_of_several_suites_names_all_of_them_on_the_page_of_its_rule() -> None:
    """The suites differ in their other rows, and so in ranks."""
    dfa = seeds("bench-core/dfa", [0.3, 0.4, 0.35])
    bp = seeds("bench-core/bp", [0.6, 0.61, 0.62])
    both = [
        SuiteResults("one", Settings(), tuple(dfa), 0),
        SuiteResults("two", Settings(), (*dfa, *bp), 0),
    ]
    runs = site.pages(both, {})["method-dfa.html"].partition('id="runs"')[2]
    rows = re.findall("<tr data-k.*", runs)
    assert len(rows) == 3
    assert all("suite-one.html" in row and "suite-two.html" in row for row in rows)


def test_the_column_of_a_further_diagnostic_is_explained_in_words() -> None:
    own = Measurement(value=1.5, heading="rank", title="rank of the credits")
    records = seeds("bench-core/dfa", [0.3, 0.4], measurements=measured() | {"x/credit_rank": own})
    told = "rank: rank of the credits (credit_rank)"
    assert told in leaderboard(records, width=None, columns=("all",))
    assert told not in leaderboard(records, width=None)
    assert told in page.page([SuiteResults("s", Settings(), tuple(records), 0)])


def test_a_text_of_lines_keeps_them() -> None:
    """Equations and BibTeX stand line by line, without the escapes of control characters."""
    works = {"k": "@misc{k,\n  title = {T},\n  year = {2020}\n}"}
    card = Card("s", "a = 1.\n\n  b = <2>.", "k 2020", works, "one.\n\ntwo.", "three.\nfour.")
    results = SuiteResults("s", Settings(), tuple(seeds("bench-core/dfa", [0.3, 0.4])), 0)
    cards = {"bench-core/dfa": card}
    pages = {"report": page.page([results], cards=cards), **site.pages([results], cards)}
    assert not [name for name, text in pages.items() if "x0a" in text]
    for name in ("report", "method-dfa.html"):
        assert "<pre>a = 1.\n\n  b = &lt;2&gt;.</pre>" in pages[name]
        assert "<dd>one.\n\ntwo.</dd>" in pages[name]


def test_a_name_reaches_the_reader_as_it_is() -> None:
    assert "<b>\"&'</b>" in shown([run("<b>\"&'</b>")]).text


# -------------------------------------------------------------------------------- LaTeX, CSV, JSON


def test_latex_compiles_with_booktabs(tmp_path: Path) -> None:
    """All hostile names, through TeX if it is installed; else braces are counted."""
    records = [item for name in HOSTILE for item in hostile(name)] + audit()
    text = leaderboard(records, Settings(title="A % of_it & $x$"), format="latex")
    document = (
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
        + text
        + "\\end{document}\n"
    )
    bare = re.sub(r"\\[{}\\]", "", document)
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert document.count("\\begin{tabular}") == document.count("\\end{tabular}")
    assert document.count("\n\\begin{tabular}") == text.count("\\toprule") > 0
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex here: the LaTeX was parsed, not compiled")
    (tmp_path / "t.tex").write_text(document, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "t.tex"],
        cwd=tmp_path, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
def test_a_table_of_an_audit_fits_the_text_of_an_article(tmp_path: Path) -> None:
    table = leaderboard(audit(), format="latex")
    assert r"\shortstack{over own\\ floor} & \shortstack{over bp\\ floor}" in table
    (tmp_path / "t.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
        + table
        + "\\end{document}\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "t.tex"],
        cwd=tmp_path, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert b"Overfull" not in done.stdout
    assert (tmp_path / "t.pdf").stat().st_size > 10_000


def test_json_follows_the_published_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(
        (Path(__file__).parent.parent / "docs" / "leaderboard.schema.json").read_text()
    )
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for records in (
        audit(),
        hostile("<x>"),
        *EDGES.values(),
        seeds(DFA, [math.nan, 0.3], measurements=SICK),
    ):
        document = json.loads(leaderboard(records, format="json"))
        assert list(validator.iter_errors(document)) == []
    document["suites"].append({"name": 1})
    assert list(validator.iter_errors(document)) != []


def test_several_suites_are_one_document() -> None:
    suites = [suite_of(audit()), SuiteResults("two", Settings(), tuple(seeds(DFA, [0.3, 0.4])), 0)]
    assert [item["name"] for item in json.loads(leaderboards(suites, "json"))["suites"]] == [
        "made",
        "two",
    ]
    lines = leaderboards(suites, "csv").splitlines()
    assert sum(line.startswith('"suite"') for line in lines) == 1
    assert {line.split(",")[0] for line in lines[1:]} == {'"made"', '"two"'}


# -------------------------------------------------------------------------------------------- site


@pytest.mark.long
def test_a_site_takes_several_peoples_results_together(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    write(ours, audit(), 2, suite="audit5")
    write(theirs, [*seeds("lab/new_rule", [0.5, 0.51, 0.52]), *audit()[:3]], None, suite="audit5")
    suites, _ = gather([ours, theirs])
    assert len(suites) == 2
    out = tmp_path / "site"
    known = {
        "bench-core/dfa": Card(
            "output error through fixed random matrices",
            "a_l = e·B_l",
            "Nøkland 2016, arXiv:1609.01596",
            verified="a(k·e) = k·a(e)",
        )
    }
    written = {path.name for path in site.build(suites, known, out)}
    assert {"index.html", "suite-audit5.html", "method-dfa.html", "method-bp.html"} <= written
    (stranger,) = [name for name in written if name.startswith("method-lab")]
    audit_page = Parsed((out / "suite-audit5.html").read_text()).text
    assert "of 4 rules in 1 recipe; 21 runs" in audit_page  # bp of both is the same three runs
    assert "lab/new_rule" in audit_page
    dfa = Parsed((out / "method-dfa.html").read_text())
    assert "arXiv:1609.01596" in dfa.text
    assert "walked back residual stream grows 694 times" in dfa.text
    assert "a_l = e·B_l" in dfa.text
    assert "a(k·e) = k·a(e)" in dfa.text
    assert ("a", "https://arxiv.org/abs/1609.01596") in [
        (tag, a.get("href")) for tag, a in dfa.tags
    ]
    pages = {path.name for path in out.iterdir()}
    for path in out.glob("*.html"):
        for tag, attributes in Parsed(path.read_text()).tags:
            href = attributes.get("href")
            if tag == "a" and href and not href.startswith(("#", "https://")):
                assert href.partition("#")[0] in pages
    (out / "mine.txt").write_text("kept")
    again_written = {path.name for path in site.build(gather([ours])[0], known, out)}
    assert stranger not in again_written
    assert not (out / stranger).exists()
    assert (out / "mine.txt").read_text() == "kept"


def test_a_long_name_breaks_at_the_file_and_on_a_phone_between_words() -> None:
    parts = page.spaced("one_bit.py/one_bit[frozen]").split("<wbr>")
    assert [str(part) for part in parts] == [
        'one_<wbr class="phone">bit.py/',
        'one_<wbr class="phone">bit[',
        "frozen]",
    ]


def test_a_page_of_no_runs_is_not_written(here: Here) -> None:
    (here.cwd / "results").mkdir()
    done = here("report")
    said = "error: no runs yet, so nothing is written: `bench run SUITE` makes some\n"
    assert (done.returncode, done.stderr) == (2, said)
    assert not (here.cwd / "report.html").exists()
    done = here("export", "-o", "runs.csv")
    assert (done.returncode, done.stderr) == (2, said)
    assert not (here.cwd / "runs.csv").exists()


@pytest.mark.parametrize(
    ("rule", "shown"),
    [
        ("own.py/own", "own[penalty=0.1]"),
        ("pair.py/own", "pair.py/own[penalty=0.1]"),  # another file may have a rule of this name
        ("dfa.py/dfa", "dfa.py/dfa[penalty=0.1]"),  # no dfa of bench
        ("lab/own", "lab/own[penalty=0.1]"),
        ("bench-core/dfa", "dfa[penalty=0.1]"),
    ],
)
def test_a_figure_shortens_the_name_of_a_file_rule_where_it_stays_its_own(
    rule: str, shown: str
) -> None:
    (group,) = judge_all([run(rule, 1, params={"penalty": 0.1})])
    assert name_of(group.rows[0]) == shown


def test_what_stopping_would_have_saved_counts_no_run_that_was_stopped(
    miniature: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended at its firing: nothing more would have been saved, and 0 % would be wrong."""
    (group,) = miniature.groups
    before = {line[:2]: line[3:] for line in tallies.first_firings(miniature, group)}
    fired = [key for key, (share, _) in before.items() if share != NONE]
    assert fired

    def stopped(row: Row) -> Row:
        runs = [
            replace(each, record=each.record.model_copy(update={"stopped_by": "scale_growth"}))
            for each in row.runs
        ]
        return replace(row, runs=tuple(runs))

    cut = replace(group, rows=tuple(map(stopped, group.rows)))
    after = {line[:2]: line[3:] for line in tallies.first_firings(miniature, cut)}
    assert {after[key] for key in fired} == {(NONE, NONE)}


def test_the_bright_colours_of_paper_script_and_page_are_the_same() -> None:
    home = Path(page.__file__).parent / "templates"
    script, style = ((home / name).read_text() for name in ("page.js", "page.css"))
    for colour, bright in BRIGHT.items():
        assert f'"{colour[1:]}": "{bright}"' in script
        assert f'[stroke="{colour}"] {{ stroke: {bright}; }}' in style
