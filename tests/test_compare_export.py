"""Check bench compare, show, export and cite, and the colours of the terminal.

The runs are few, equal, missing or hostile.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import math
import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import invoke
from folders import audit_folder, leaderboard, write
from hypothesis import given
from hypothesis import strategies as st
from pybtex.database import parse_string as bibliography
from records import SICK, audit, frozen, measured, run, seeds
from test_leaderboard import HOSTILE, forbidden, hostile

from bench_core import cli
from bench_core.analysis.claims.outcomes import judge_claims
from bench_core.analysis.gather import SuiteResults, gather
from bench_core.analysis.stats import holm, sign_flip_p, smallest_p
from bench_core.analysis.verdicts.judge import Settings
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.api import Component
from bench_core.errors import UsageError
from bench_core.registry.card import Card, card
from bench_core.report import comparison, export
from bench_core.report.comparison import as_json, as_table
from bench_core.report.tables import notes
from bench_core.report.text.layout import limits, tabulated
from bench_core.report.text.terminal import COLOURS, coloured, paint
from bench_core.report.view import view
from bench_core.report.words.cite import bibtex
from bench_core.results.record import ComponentRef, Measurement
from bench_core.suite.claim import Expectation

DFA, BP, FA, EP = (f"bench-core/{name}" for name in ("dfa", "bp", "fa", "ep"))


def suite(records: list, name: str = "made") -> SuiteResults:  # type: ignore[type-arg]
    return SuiteResults(name, Settings(), tuple(records), 0)


# --------------------------------------------------------------------------------------- statistics


@given(st.lists(st.integers(-1000, 1000).map(lambda k: k / 1000), min_size=1, max_size=7))
def test_the_sign_flip_p_is_the_share_of_signs(values: list[float]) -> None:
    observed = abs(math.fsum(values))
    signs = list(product((1, -1), repeat=len(values)))
    as_far = sum(
        abs(math.fsum(s * v for s, v in zip(chosen, values, strict=True))) >= observed - 1e-12
        for chosen in signs
    )
    assert sign_flip_p(values) == pytest.approx(as_far / len(signs), abs=1e-9)


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=12))
def test_differences_of_one_sign_reach_the_smallest_p(values: list[float]) -> None:
    assert sign_flip_p(values) == pytest.approx(smallest_p(len(values)))
    assert sign_flip_p([-v for v in values]) == sign_flip_p(values)


def test_p_at_known_sizes() -> None:
    assert [smallest_p(n) for n in (1, 2, 3, 5, 6)] == [1.0, 0.5, 0.25, 0.0625, 0.03125]
    assert smallest_p(16) == 2 / 2**16
    assert smallest_p(40) == 1 / 100_001  # of drawn signs
    assert sign_flip_p([1.0 + k for k in range(40)]) == smallest_p(40)
    assert sign_flip_p([0.0, 0.0, 0.0]) == 1.0
    # beyond exact enumeration, and never 0
    assert sign_flip_p([1.0] * 20) == pytest.approx(1e-5, rel=0.01)
    for bad in ([], [math.nan], [math.inf]):
        with pytest.raises(ValueError, match="finite"):
            sign_flip_p(bad)


def test_holm_as_published() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.9]) == [1.0, 1.0]
    with pytest.raises(ValueError, match="NaN"):
        holm([0.01, float("nan"), 0.02])


# ------------------------------------------------------------------------------------------ compare


def test_two_methods_paired_by_seed() -> None:
    records = [
        *seeds(DFA, [0.30, 0.31, 0.32]),
        *seeds(FA, [0.40, 0.42, 0.41]),
        *seeds(BP, [0.6, 0.61, 0.6]),
    ]
    (found,) = comparison.methods([suite(records)], "dfa", "fa")
    assert found.effect is not None
    assert found.effect.mean == pytest.approx(10.0)
    assert found.effect.half_width == pytest.approx(4.302652 * 1.0 / math.sqrt(3))
    assert (found.n, found.p, found.p_holm, found.p_smallest) == (3, 0.25, 0.25, 0.25)
    twice = comparison.methods([suite(records), suite(records)], "dfa", "fa")
    assert [item.effect for item in twice] == [found.effect] * 2  # two folders with one suite
    (back,) = comparison.methods([suite(records)], "fa", "dfa")
    assert back.effect is not None
    assert back.effect.mean == pytest.approx(-10.0)
    text = as_table([found], width=80)
    assert "dfa → fa  .310  .410  +10.00 ± 2.48    3" in text
    assert "Letters of a verdict" not in text  # it has none
    walked = [run(DFA, seed, 0.3, measurements=SICK) for seed in (42, 123, 456)]
    unlike = comparison.methods([suite([*walked, *seeds(FA, [0.4] * 3)])], "dfa", "fa")
    assert "Letters of a verdict: a scale_growth" in as_table(unlike, width=None)
    assert max(map(len, text.splitlines())) <= 80


def test_only_common_seeds_count() -> None:
    records = [
        run(DFA, 1, 0.3),
        run(DFA, 2, 0.5),
        run(FA, 2, 0.6),
        run(FA, 3, 0.1),
        run(FA, 4, status="failed"),
    ]
    (found,) = comparison.methods([suite(records)], "dfa", "fa")
    assert found.effect is not None
    assert (found.n, found.p) == (1, 1.0)
    assert found.effect.mean == pytest.approx(10.0)
    assert found.effect.half_width is None
    assert "only seeds that both sides finished" in found.note
    (none,) = comparison.methods([suite([run(DFA, 1), run(FA, 2)])], "dfa", "fa")
    assert (none.n, none.effect, none.p) == (0, None, None)
    assert "no seed finished on both sides" in none.note
    for text in (as_table([found, none]), as_json([found, none])):
        assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)


def test_long_labels_fit_a_terminal_of_80_columns() -> None:
    names = ("bench-core/state_bridge", "bench-core/credit_bridge")
    made = suite(
        [run(name, seed, 0.3, params={"freeze": "blocks"}) for name in names for seed in (1, 2, 3)]
    )
    text = as_table(
        comparison.methods([made], "state_bridge[frozen]", "credit_bridge[frozen]"),
        width=80,
    )
    assert max(map(len, text.splitlines())) <= 80
    assert "state_bridge[frozen]" in text
    assert "credit_bridge[frozen]" in text


@given(
    st.lists(st.tuples(st.text("ab ", max_size=9), st.text("a1,. ", max_size=99)), min_size=1),
    st.integers(40, 120),
)
def test_a_column_that_may_be_narrower_makes_the_table_fit(
    rows: list[tuple[str, str]], width: int
) -> None:
    heads = ["name", "what it says"]
    table = tabulated(rows, heads, width=width, narrow=[(1, 20)])
    assert max(map(len, table.splitlines())) <= width
    assert limits(rows, heads, None, [(1, 20)]) == [None, None]
    assert limits(rows, heads, 200, [(1, 20)]) == [None, None]


def test_a_wrapped_number_with_a_comma_stays_as_it_is() -> None:
    rows = [["14,200", "a claim of many words that does not fit"], ["-", "short"]]
    table = tabulated(rows, ["measured", "claim"], width=40, narrow=[(0, 4), (1, 20)])
    assert table.splitlines()[2:] == [
        "14,200      a claim of many words that",
        "            does not fit",
        "-           short",
    ]


def test_a_name_must_mean_one_method() -> None:
    records = [run(DFA, 1, params={"penalty": p}) for p in (0.1, 0.01)] + [
        run(BP, 1),
        *frozen(BP, [0.4]),
    ]
    with pytest.raises(UsageError, match="2 methods of made have this name"):
        comparison.methods([suite(records)], "dfa", "bp")
    longer = [run(rule, 1, training={"epochs": 300}) for rule in (DFA, BP)]  # one dfa, one bp
    (found,) = comparison.methods([suite([*records, *longer])], "dfa", "bp")
    assert "300 epochs" in found.where
    with pytest.raises(
        UsageError,
        match=r"^nope: no such folder, and no such method in these results; there are: bp, ",
    ):
        comparison.methods([suite(records)], "nope", "bp")
    for wrong, right in (("bq", "bp"), ("dfa[penalty=0.2]", "dfa[penalty=0.1]")):
        near = rf"; did you mean .*{re.escape(right)}.*\?; there are"
        with pytest.raises(UsageError, match=near):
            comparison.methods([suite(records)], wrong, "bp")
    for floor in ("bp[frozen]", "bp[freeze=blocks]"):
        (found,) = comparison.methods([suite(records)], "dfa[penalty=0.1]", floor)
        assert found.b.label == "bp[frozen]"


def test_two_sets_of_results() -> None:
    ours = [*seeds(DFA, [0.30, 0.31]), *seeds(BP, [0.6, 0.61]), *seeds(FA, [0.4, 0.4])]
    ours += seeds(EP, [0.5, 0.5], measurements={"settledness": Measurement(value=float("nan"))})
    theirs = [
        *seeds(DFA, [0.32, 0.33]),
        *seeds(BP, [0.6, 0.61]),
        *seeds(EP, [0.5, 0.5], measurements={"settledness": Measurement(value=float("nan"))}),
        *seeds(FA, [0.5, 0.5], training={"epochs": 5}),
    ]
    found, alone = comparison.sets([suite(ours)], [suite([*theirs, run("lab/x", 1)])])
    by_label = {item.a.label: item for item in found}
    assert by_label["dfa"].effect is not None
    assert by_label["dfa"].effect.mean == pytest.approx(2.0)
    assert by_label["bp"].note == "the same runs on both sides"
    assert by_label["ep"].note == "the same runs on both sides"  # though NaN is in them
    assert by_label["bp"].p is None  # nothing is tested, so it takes no part in Holm's adjustment
    assert by_label["fa"].note == "recipes differ"
    assert by_label["dfa"].p_holm == pytest.approx(1.0)  # two tests at p = .5
    assert len(alone) == 1
    assert alone[0].startswith("only in B: lab/x (made · resmlp · cifar10 · 100 epochs · seeds 1,")
    document = json.loads(as_json(found, alone))
    assert document["schema"] == "bench-compare/1"
    assert len(document["comparisons"]) == 4


def test_sets_of_different_data_are_told(tmp_path: Path) -> None:
    one, other = seeds(DFA, [0.3, 0.31]), seeds(DFA, [0.9, 0.9])
    digits = ComponentRef(name="bench-core/digits", params={})
    cells = [record.cell.model_copy(update={"dataset": digits}) for record in other]
    other = [r.model_copy(update={"cell": c}) for r, c in zip(other, cells, strict=True)]
    (told,) = comparison.unlike([suite(one)], [suite(other)])
    assert told.startswith("A has cifar10, B has digits: accuracies on different data sets")
    assert comparison.unlike([suite(one)], [suite([*one, *other])]) == []
    assert comparison.unlike([suite(one)], [suite([])]) == []
    pairs, _ = comparison.sets([suite(one)], [suite(other)])
    assert {(pair.effect, pair.p, pair.p_holm, pair.p_smallest) for pair in pairs} == {(None,) * 4}
    text = as_table(pairs, width=None)
    assert "accuracies on cifar10 and digits cannot be compared" in text, text
    assert " ± " not in text.partition("B - A:")[0]
    changed = [record.model_copy(update={"data_checksum": "b" * 32}) for record in one]
    before = [record.model_copy(update={"data_checksum": "a" * 32}) for record in one]
    pairs, _ = comparison.sets([suite(before)], [suite(changed)])
    assert "the data of cifar10 changed between these runs" in as_table(pairs, width=None)
    assert pairs[0].effect is None


def test_the_command_compares_folders_and_methods(tmp_path: Path) -> None:
    audit_folder(tmp_path / "a", epochs=1)
    audit_folder(tmp_path / "b", epochs=1)
    assert "the same runs on both sides" not in invoke("compare", "dfa", "bp", tmp_path / "a")
    assert "dfa → bp" in invoke("compare", "dfa", "bp", tmp_path / "a")
    assert "+0.00 ± 0.00" in invoke("compare", tmp_path / "a", tmp_path / "b")


def test_suites_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folders = [audit_folder(tmp_path / name, epochs=0) for name in ("a", "b")]
    name = invoke("leaderboard", folders[0]).partition(": ")[0]
    assert name == folders[0].name
    both = invoke("leaderboard", tmp_path / "a", tmp_path / "b")
    for folder in folders:
        assert f"{name} ({folder}): " in both


# ------------------------------------------------------------------------------- show, export, cite


def test_show_says_what_a_run_is_and_where_it_comes_from(tmp_path: Path) -> None:
    audit_folder(tmp_path)
    (results,), _ = gather([tmp_path])
    record = next(
        r
        for r in results.records
        if r.cell.method.short == "dfa" and r.measurements["scale_growth"].value == 694.0
    )
    told = invoke("show", record.identity[:12], tmp_path)
    assert told == invoke("show", results.run_folder(record))
    for words in ("flagged (a+b+d)", "694", "> 50", "not diagnostic (reference at the floor)",
                  "again.yaml", "torch 2.11", "epoch", record.identity, "ab",
                  "cd" * 16):  # fmt: skip
        assert words in told, words
    diverged = next(r for r in results.records if r.status == "diverged")
    assert "diverged: loss is not finite at step 90" in invoke("show", diverged.identity, tmp_path)
    missing = CliRunner().invoke(cli.bench, ["show", "beef", str(tmp_path)])
    assert isinstance(missing.exception, UsageError)
    firsts = [r.identity[0] for r in results.records]  # 18 runs begin with one of 16 digits
    shared = next(digit for digit in firsts if firsts.count(digit) > 1)
    many = CliRunner().invoke(cli.bench, ["show", shared, str(tmp_path)])
    assert "begin like this" in str(many.exception)


def test_show_has_every_measurement_and_none_that_means_nothing_alone(tmp_path: Path) -> None:
    null = {"layers": [0.5, 0.4], "deep": 0.4, "null_deep_mean": 0.01, "null_deep_std": 0.05}
    further = {
        "nudging": Measurement(value=-0.002, details={"layers": [-0.001, -0.003]}),
        "drift": Measurement(value=7.0, not_diagnostic="the initial weights are not known"),
        "null_calibration": Measurement(value=7.8, details=null),
    }
    write(tmp_path, [run(measurements={**SICK, **further})])
    (results,), _ = gather([tmp_path])
    told = invoke("show", results.run_folder(results.records[0])).splitlines()
    lines = {line.split()[0]: " ".join(line.split()) for line in told if line.strip()}
    assert lines["nudging"] == "nudging -0.002 -0.001 -0.003"
    assert lines["drift"] == "drift 7 not diagnostic: the initial weights are not known"
    assert (
        lines["null_calibration"] == "null_calibration 7.8 not diagnostic: reference at the floor"
    )


def test_of_two_diagnostics_with_one_letter_that_which_fired_says_so(tmp_path: Path) -> None:
    """The letter belongs to the first; the second is judged under its name."""
    firing = {"letter": "e", "direction": "above", "threshold": 1.0}
    further = {
        "lab/first": Measurement(value=9.0, **firing),
        "lab/other": Measurement(value=0.1, **firing),
    }
    write(tmp_path, [run(measurements={**measured(), **further})])
    lines = list(export.measurements([view(gather([tmp_path])[0][0])]))
    fired = {line["diagnostic"]: line["fired"] for line in lines if line["moment"] == "trained"}
    assert (fired["lab/first"], fired["lab/other"]) == (True, False)


def test_show_tells_every_form_of_gamma_of_a_healthy_run(tmp_path: Path) -> None:
    found = measured()
    details = found["alignment"].details | {
        "displacement_unclamped": [0.9, 0.8],
        "displacement_deep": 0.8,
        "in_use": False,
        "blocks": [0.03, 0.02],
        "blocks_deep": 0.03,
    }
    null = {
        "layers": [0.5, 0.4],
        "deep": 0.4,
        "null_deep_mean": 0.01,
        "null_deep_std": 0.05,
        "flagged": [2, 3],
    }
    found |= {"alignment": found["alignment"].model_copy(update={"details": details})}
    write(
        tmp_path,
        [run(measurements={**found, "null_calibration": Measurement(value=7.8, details=null)})],
    )
    (results,), _ = gather([tmp_path])
    told = invoke("show", results.run_folder(results.records[0]))
    told = " ".join(told.split())
    assert "Γ library +0.400 +0.400 +0.400 +0.400" in told
    assert "‖a_l‖/‖g_l‖ 1 1 1 1 (length of credit over gradient, median)" in told
    assert "Γ of displacement +0.900 +0.800" in told
    assert "not the credit in use" in told
    assert "Γ of blocks +0.030 +0.020 deep +0.030" in told
    assert "(N=128)" in told
    assert "Γ deep 0.400, null 0.010 ± 0.050; inside the null: layer 2, 3" in told


def test_the_ending_of_a_file_chooses_its_format(tmp_path: Path) -> None:
    audit_folder(tmp_path / "r")
    for command, name, begins in (
        ("leaderboard", "t.tex", b"% needs"),
        ("leaderboard", "t.md", b"## "),
        ("leaderboard", "t.csv", b'"suite"'),
        ("leaderboard", "t.JSON", b"{"),
        ("leaderboard", "t.txt", b"audit5: "),
        ("cost", "c.csv", b'"suite"'),
        ("claims", "c.json", b"{"),
        ("export", "e.parquet", b"PAR1"),
        ("export", "e.csv", b'"suite"'),
    ):
        invoke(command, tmp_path / "r", "-o", tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(begins), name
    invoke("leaderboard", tmp_path / "r", "--format", "latex", "-o", tmp_path / "l.txt")
    assert (tmp_path / "l.txt").read_bytes().startswith(b"% needs")


def test_export_is_lossless_and_flat(tmp_path: Path) -> None:
    audit_folder(tmp_path)
    (results,), _ = gather([tmp_path])
    rows = list(csv.DictReader(io.StringIO(invoke("export", tmp_path))))
    assert len(rows) == len(results.records) == 18
    by_identity = {row["identity"]: row for row in rows}
    for record in results.records:
        row = by_identity[record.identity]
        assert (float(row["accuracy"]) if row["accuracy"] else None) == record.accuracy
        assert row["status"] == record.status
        assert json.loads(row["method_params"]) == record.cell.method.params
    epochs = list(csv.DictReader(io.StringIO(invoke("export", tmp_path, "--table", "epochs"))))
    assert len(epochs) == 17 * 7
    dfa = [row for row in epochs if row["label"] == "dfa" and row["seed"] == "42"]
    assert [int(row["epoch"]) for row in dfa] == list(range(7))
    assert float(dfa[-1]["scale_growth"]) == pytest.approx(694.0)


def test_the_export_has_one_digest_of_each_distributions_code(tmp_path: Path) -> None:
    files = {f"lab.m{i}": "f" * 32 for i in range(99)}
    code = {"lab": {"digest": "d1", "files": files, "defaults": {}}, "bench-core": {"digest": "d2"}}
    write(tmp_path, [run(code=code)])
    (row,) = csv.DictReader(io.StringIO(invoke("export", tmp_path)))
    assert json.loads(row["code"]) == {"lab": "d1", "bench-core": "d2"}


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    audit_folder(tmp_path)
    out = tmp_path / "runs.parquet"
    invoke("export", tmp_path, "--format", "parquet", "-o", out)
    table = parquet.read_table(out).to_pylist()
    (results,), _ = gather([tmp_path])
    assert {row["identity"]: row["accuracy"] for row in table} == {
        r.identity: r.accuracy for r in results.records
    }


def test_without_pyarrow_the_way_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'bench-core\[parquet\]', or --format csv"):
        export.as_parquet([{"a": 1}])
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_finite_is_empty_and_named() -> None:
    (row,) = csv.DictReader(
        io.StringIO(export.as_csv(list(export.runs([view(suite([run(accuracy=math.inf)]))]))))
    )
    assert row["accuracy"] == ""
    assert "accuracy" in row["not_finite"].split()


def test_no_name_becomes_a_formula_or_moves_the_cursor(tmp_path: Path) -> None:
    records = [item for name in HOSTILE for item in hostile(name) if name != "\ud800"]
    seen = view(suite(records))
    text = export.as_csv(list(export.runs([seen])))
    assert forbidden(text) == []
    for row in csv.reader(io.StringIO(text)):
        for cell in row:
            assert (
                not cell.startswith(("=", "+", "@", "\t", "\r"))
                or cell.lstrip("+-").replace(".", "").isdigit()
            )
    found, _ = comparison.sets([suite(records)], [suite(records)])
    assert forbidden(as_table(found)) == []
    assert (
        forbidden(bibtex(records, {("method", name): Card(name, source=name) for name in HOSTILE}))
        == []
    )


def test_bibtex_names_each_work_once() -> None:
    dfa = card(
        Component(
            "dfa",
            "bench_plugins.methods.dfa:DirectFeedbackAlignment",
            "output error through matrices",
        )
    )
    known = {
        ("method", "bench-core/dfa"): dfa,
        ("method", "bench-core/fa"): dfa,
        ("method", "bench-core/bp"): Card("null", source="null method of this suite"),
        ("method", "bench-core/ep"): Card("a nudged energy"),
    }
    text = bibtex(audit(), known)
    works = bibliography(text, "bibtex").entries
    assert list(works) == ["bench", "hao2026", "nokland2016", "reddy2026"]
    assert works["nokland2016"].fields["eprint"] == "1609.01596"
    assert [str(person) for person in works["nokland2016"].persons["author"]] == ["Nøkland, Arild"]
    assert "% method bench-core/dfa: nokland2016, reddy2026" in text
    assert "% method bench-core/bp: bench" in text
    assert "% method bench-core/ep: its card names no source" in text
    assert "% dataset bench-core/cifar10: its plugin is not installed here" in text


# ----------------------------------------------------------------------------------------- terminal


def test_colours_keep_the_text_and_the_widths() -> None:
    text = "bp  trustworthy  x\ndfa  walked back a 1/3, d\nlab/failed_rule  failed 1/3\n"
    painted = paint(text)
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == text
    assert "\x1b[32m\x1b[1mtrustworthy\x1b[0m" in painted
    assert "\x1b[31m\x1b[1mwalked back\x1b[0m" in painted
    assert "\x1b[1mfailed 1/3\x1b[0m" in painted
    assert "lab/failed_rule" in painted
    # unreadable on light or dark
    assert not {"yellow", "cyan", "white", "black"} & set(COLOURS.values())


@pytest.mark.parametrize(
    ("environ", "expected"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colour_only_where_it_is_wanted(
    environ: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, text in environ.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setattr("sys.stdout", type("Terminal", (), {"isatty": lambda self: True})())
    assert coloured() is expected
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert coloured() is False


@pytest.mark.parametrize(("after", "line"), [([], ""), ([4], "4"), ([4, 12], "4 and 12")])
def test_the_resumptions_of_a_run_are_shown(tmp_path: Path, after: list[int], line: str) -> None:
    write(tmp_path, [run(resumed=after)])
    (results,), _ = gather([tmp_path])
    lines = invoke("show", results.run_folder(results.records[0])).splitlines()
    told = [text for text in lines if text.startswith("resumed")]
    assert told == ([f"resumed     after epoch {line}"] if after else [])


def test_a_pipe_gets_plain_text(tmp_path: Path) -> None:
    audit_folder(tmp_path, epochs=1)
    assert "\x1b" not in invoke("leaderboard", tmp_path) + invoke(
        "show", gather([tmp_path])[0][0].records[0].identity, tmp_path
    )


# ----------------------------------------------------------------------------------------- commands


def test_the_reading_commands_load_no_torch(tmp_path: Path) -> None:
    audit_folder(tmp_path, epochs=1)
    code = f"""
import sys
from click.testing import CliRunner
from bench_core import cli
from bench_core.report.pages import page
page.library = lambda: ""
for arguments in (["leaderboard"], ["report", "-o", "r.html"], ["export"],\
 ["compare", "dfa", "bp"], ["site", "-o", "s"], ["cite"]):
    done = CliRunner().invoke(cli.bench, [*arguments, {str(tmp_path)!r}] if arguments[0] != "report"
                              else ["report", {str(tmp_path)!r}, "-o", "r.html"],\
 catch_exceptions=False)
    assert done.exit_code == 0, (arguments, done.output)
assert not {{"torch", "pandas", "pyarrow"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env={**os.environ})
    assert (tmp_path / "r.html").stat().st_size > 10_000


def test_a_results_folder_is_data(tmp_path: Path) -> None:
    """Code in the files of a results folder never runs, and the page is still written."""
    folder = write(
        tmp_path,
        seeds("__import__('os').mkdir('mark')", [0.3, 0.4]),
        2,
        title="{{ 7 * 7 }}{% for %}",
    )
    (folder / "suite.json").write_text(
        '{"name": "x", "title": "{{ 7*7 }}<script>1</script>", "description": "${1+1}"}'
    )
    (tmp_path / "conftest.py").write_text("raise SystemExit(7)")
    invoke("report", tmp_path, "-o", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "{{ 7*7 }}&lt;script&gt;" in text
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["audit", "temporal"])
def test_figure_writes_a_file_per_recipe_and_its_caption(name: str, tmp_path: Path) -> None:
    audit_folder(tmp_path / "r", epochs=2)
    write(tmp_path / "r", seeds(DFA, [0.3, 0.4], training={"epochs": 7}), 2, suite="other")
    told = invoke("figure", name, tmp_path / "r", "-o", tmp_path / "f.svg")
    assert (tmp_path / "f.svg").read_text().startswith("<svg")
    assert (tmp_path / "f-2.svg").exists()
    assert "n = " in told
    only = invoke("figure", name, tmp_path / "r", "-o", tmp_path / "g.svg", "--suite", "other")
    assert "other: " in only
    assert not (tmp_path / "g-2.svg").exists()
    none = CliRunner().invoke(cli.bench, ["figure", "depth_sweep", str(tmp_path / "r")])
    assert isinstance(none.exception, UsageError)


def test_the_ending_of_a_figures_file_is_its_format(tmp_path: Path) -> None:
    """An unknown ending, or one that contradicts --format, is refused before a file is written."""
    audit_folder(tmp_path / "results", epochs=2)
    target = tmp_path / "figure.png"
    invoke("figure", "audit", tmp_path / "results", "-o", target)
    assert target.read_bytes()[1:4] == b"PNG"
    for wrong in (["-o", tmp_path / "x.foo"], ["-o", tmp_path / "x.png", "--format", "pdf"]):
        done = CliRunner().invoke(
            cli.bench, ["figure", "audit", str(tmp_path / "results"), *map(str, wrong)]
        )
        assert isinstance(done.exception, UsageError)
        assert not Path(wrong[1]).exists() or wrong[1] == target


def test_means_are_of_the_seeds_that_both_sides_finished() -> None:
    """Both means cover the same seeds, so B − A is the effect."""
    a = suite([run(DFA, seed=seed, accuracy=0.1 * seed) for seed in (1, 2, 3)])
    b = suite([run(DFA, seed=1, accuracy=0.2)])
    (found,) = comparison.sets([a], [b])[0]
    assert (found.a.mean, found.b.mean) == pytest.approx((0.1, 0.2))
    assert found.effect is not None
    assert found.effect.mean == pytest.approx(100 * (found.b.mean - found.a.mean))


def test_names_keep_their_letters_in_bibtex() -> None:
    """Letters that pdflatex reads as UTF-8 stay; others are written as their code point."""
    from bench_core.report.text.escape import latex

    assert latex("Nøkland, Müller, Łukasiewicz") == "Nøkland, Müller, Łukasiewicz"
    assert latex("中") == "{[}U+4E2D{]}"


def test_every_character_that_the_program_writes_has_its_latex() -> None:
    """These are the strings of the code but docstrings, and all summaries."""
    from bench_core.report.text.escape import latex

    assert latex("2026-11-26 … 2026-11-27") == r"2026-11-26 \ldots{} 2026-11-27"
    assert latex("ρ ≥ −½‖g‖²") == r"$\rho$ $\geq$ $-$$\frac{1}{2}$$\|$g$\|$$^{2}$"
    root = Path(__file__).parent.parent
    inputs = {"escape.py", "printable.py", "yaml_reader.py"}  # these name what others may write
    for path in [*root.glob("bench_core/**/*.py"), *root.glob("plugins/**/*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        texts = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            if id(node) not in docs and path.name not in inputs
        ]
        assert not [text for text in texts if "U+" in latex(text)], path


def test_seeds_that_both_sides_lost_and_different_machines_are_remarked(tmp_path: Path) -> None:
    """The survivors are no fair sample, and the machines may differ more than the rules."""
    gpu = {"device": "cuda", "device_name": "NVIDIA H200", "torch": "2.14.1"}
    cpu = {"device": "cpu", "device_name": "AMD EPYC", "torch": "2.1.0"}
    lost = [run(name, 456, status="diverged") for name in ("bench-core/dfa", "bench-core/fa")]
    dfa = seeds("bench-core/dfa", [0.5, 0.51], environment=gpu)
    fa = seeds("bench-core/fa", [0.51, 0.52], environment=cpu)
    records = [*dfa, *fa, *lost]
    results = SuiteResults("s", Settings(), tuple(records), 0, tmp_path)
    (group,) = judge_all(records)
    (found,) = comparison.methods([results], "dfa", "fa")
    assert found.note == (
        "only seeds that both sides finished; "
        "trained on different machines or PyTorch: "
        "AMD EPYC, torch 2.1.0 and NVIDIA H200, torch 2.14.1"
    )
    # of a pair on one machine, and of a seed of one side alone, there is nothing to doubt
    places = [{"environment": gpu}, {"environment": cpu}]
    pairs = [
        run(name, seed, accuracy, **places[seed % 2])
        for name, accuracy in (("bench-core/dfa", 0.5), ("bench-core/fa", 0.51))
        for seed in (1, 2)
    ]
    pairs += [run("bench-core/dfa", 3, 0.5, environment={**cpu, "device_name": "other"})]
    alike = SuiteResults("s", Settings(), tuple(pairs), 0, tmp_path)
    assert comparison.methods([alike], "dfa", "fa")[0].note == "only seeds that both sides finished"
    lapsed = [
        *seeds("bench-core/dfa", [0.5, 0.51], environment=cpu | {"lapsed": "x", "reference": "1"}),
        *seeds("bench-core/fa", [0.5, 0.52], environment=cpu),
    ]
    same = SuiteResults("s", Settings(), tuple(lapsed), 0, tmp_path)
    assert comparison.methods([same], "dfa", "fa")[0].note == ""
    (line,) = notes.references(group)
    assert line == (
        "trained on different machines or PyTorch: 2 on AMD EPYC, torch 2.1.0 (fa); "
        "2 on NVIDIA H200, torch 2.14.1 (dfa)"
    )


def test_equal_differences_of_accuracies_have_the_interval_of_their_rounding(
    tmp_path: Path,
) -> None:
    """Of 360 samples, one more in each of three seeds: t(2) · (1/360)·√(2/(3·12)), not ± 0."""
    bp = [0.9, 0.95, 329 / 360]
    records = [*seeds("bench-core/bp", bp), *seeds("bench-core/ep", [v + 1 / 360 for v in bp])]
    half = 4.3027 / 360 * (2 / 36) ** 0.5
    results = SuiteResults("s", Settings(), tuple(records), 0, tmp_path)
    (found,) = comparison.methods([results], "bp", "ep")
    assert found.effect is not None
    assert found.effect.mean == pytest.approx(100 / 360)
    assert found.effect.half_width == pytest.approx(100 * half, rel=1e-3)
    claim = Expectation.model_validate(
        {"figure": "accuracy", "method": "ep", "minus": "bp", "at_least": 0, "source": "x"}
    )
    (held,) = judge_claims([claim], judge_all(records), Settings(), None, lambda record: ())
    assert held.measured is not None
    assert held.measured.low is not None
    assert held.measured.value - held.measured.low == pytest.approx(half, rel=1e-3)
    # explained variance counts no samples; one run that is none is enough for a share
    for chances, counts in (((None,) * 3, False), ((None, 0.1, None), True)):
        again = [
            record.model_copy(update={"chance": chance})
            for record, chance in zip(records, chances * 2, strict=True)
        ]
        results = SuiteResults("s", Settings(), tuple(again), 0, tmp_path)
        (found,) = comparison.methods([results], "bp", "ep")
        (held,) = judge_claims([claim], judge_all(again), Settings(), None, lambda record: ())
        assert found.effect is not None
        assert held.measured is not None
        assert held.measured.low is not None
        widths = (found.effect.half_width, 100 * (held.measured.value - held.measured.low))
        assert widths == pytest.approx((100 * half * counts,) * 2, rel=1e-3, abs=1e-6)
    # so the rule is not said to lie above its ceiling, and equal accuracies are not exact
    assert "above its ceiling" not in leaderboard(records, width=None)
    (group,) = judge_all(seeds("bench-core/bp", [329 / 360] * 2))
    assert group.rows[0].accuracy is not None
    alone = 12.7062 / 360 * (1 / 24) ** 0.5
    assert group.rows[0].accuracy.half_width == pytest.approx(alone, rel=1e-3)
    # a floor is compared with itself nowhere
    (group,) = judge_all([*records, *frozen("bench-core/bp", [0.5, 0.5, 0.5])])
    (floor,) = (row for row in group.rows if row.role == "floor")
    assert (floor.over_floor, floor.over_matched, floor.over_bp) == (None, None, None)
