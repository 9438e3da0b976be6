"""Check the leaderboard in its five formats: its content, its width and the escaping of names."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import re
from functools import partial
from pathlib import Path
from typing import Any

import folders
import pytest
from bench_plugins.diagnostics import alignment as alignment_plugin
from folders import leaderboard
from records import PASSPORT, SICK, audit, frozen, measured, run, seeds
from rich.console import Console

from bench_core.analysis.gather import SuiteResults, gather
from bench_core.analysis.joined import together
from bench_core.analysis.verdicts.alignment import NO_CREDIT
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.analysis.verdicts.roles import is_floor
from bench_core.analysis.verdicts.settings import Settings
from bench_core.analysis.verdicts.standing import Standing
from bench_core.report.tables import legend, schema
from bench_core.report.tables.columns import COLUMNS, columns_of
from bench_core.report.tables.fit import Sheet, over_lines
from bench_core.report.tables.formats import FORMATS, Format, Wanted, leaderboards
from bench_core.report.text import escape
from bench_core.report.view import gamma_deep, view
from bench_core.report.words.rows import by_passport
from bench_core.results import reference
from bench_core.results.record import ComponentRef, Measurement, RunRecord
from bench_core.results.scan import scan
from bench_core.suite.judging import DepthUtility

SCHEMA_FILE = Path(__file__).parent.parent / "docs" / "leaderboard.schema.json"
DFA, BP = "bench-core/dfa", "bench-core/bp"
HOSTILE = [
    "<script>alert(1)</script>",
    "a|b||c",
    "`code` ``x``",
    "\\input{/etc/passwd}",
    "100% of_it & $x^2$ #{~}",
    "[/b][red]x[/red]",
    '=HYPERLINK("http://x";"y")',
    "@SUM(1)",
    "+1",
    "-1+2",
    "\t=1",
    "\r\n=1",
    "\x1b[31mred\x1b[0m",
    "safe\u202egnp.exe",
    "zero\u200bwidth\u2028line",
    "[x](javascript:alert(1))",
    "~~gone~~ *b* <!-- c",
    '"quoted", "cells"',
    "\ud800",
    "ünïcödé λ",
]


def rows_of(markdown: str) -> list[list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def as_csv(records: list[RunRecord], **settings: object) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(leaderboard(records, format="csv"), newline="")))


def everything(records: list[RunRecord], settings: Settings | None = None) -> dict[Format, str]:
    return {name: leaderboard(records, settings, format=name) for name in FORMATS}


def clean(text: str) -> None:
    """Assert that no NaN or infinity is printed as a figure."""
    assert not re.search(r"\b(nan|inf|infinity)\b", text, re.IGNORECASE)


# ------------------------------------------------------------------------------------- what it says


def test_why_a_method_was_walked_back() -> None:
    text = leaderboard(audit(), width=None)
    assert (
        "     residual stream grows 694 times in one block (limit 50 times); "
        "reference gradient at the floor "
        "(4.2e-09 < 1e-07 at N=128); "
        "4.3 ± 0.7 points worse than random blocks; "
        "11.3 ± 0.7 points below bp with random blocks\n"
    ) in text
    for needed in (
        "95 % interval (Student t)",
        "arXiv:2606.21126",
        "after the last epoch, never the best",
        "Diagnostics measure on test images",
    ):
        assert needed in text
    assert "resmlp · cifar10 · 100 epochs · seeds 42, 123, 456" in text
    assert (
        "\n     1 of 3 runs not done (seed 456 diverged: loss is not finite at step 90)\n" in text
    )


def test_wide_columns() -> None:
    table = rows_of(leaderboard(audit(), format="markdown", columns=["all"], floors=True))
    row = dict(zip(table[0], next(line for line in table if line[1] == "dfa"), strict=True))
    assert row == {
        r"\#": "2",
        "rule": "dfa",
        "verdict": "walked back: residual stream grows 694 times in one block (limit 50 times); "
        "reference gradient at the floor (4.2e-09 &lt; 1e-07 at N=128); 4.3 ± 0.7 points worse "
        "than random blocks; 11.3 ± 0.7 points below bp with random blocks",
        "accuracy": ".306 ± .010",
        "over own floor": "-4.3 ± 0.7",
        "over bp floor": "-11.3 ± 0.7",
        "Γ deep": "~~+.004 ± .000~~ †",
        "n": "3",
        "D1 D2 D3": "FAIL(D1+D2+D3)",
        "growth": "694",
        r"‖g\_L‖ N=128": "4.2e-09",
        "c cosine": "0.2",
        "seconds a run": "512",
        "memory MB": "700",
        "passes": "1",
        "uses": "local",
    }
    bp = dict(zip(table[0], next(line for line in table if line[1] == "bp"), strict=True))
    assert (bp["uses"], bp["Γ deep"], bp["D1 D2 D3"]) == ("G", "+.200 ± .000", "PASS")
    ep = dict(zip(table[0], next(line for line in table if line[1] == "ep"), strict=True))
    lost = "1 of 3 runs not done (seed 456 diverged: loss is not finite at step 90)"
    assert (ep["n"], ep["verdict"]) == ("2 of 3 done", f"undetermined: {lost}")
    assert [line[1] for line in table[2:4]] == ["bp", r"bp\[frozen\]"]


@pytest.mark.parametrize(
    ("left", "told"),
    [
        ([3.0, 1.0], ""),
        ([3.0, 0.5, 4.44], " in 2 of 3 runs"),
        (["nan", 2.5, 0.2], " in 1 of 3 runs"),
        ([0.99, 0.5, 0.9], None),
        (["nan", "nan", 0.9], None),
    ],
)
def test_an_inference_that_leaves_its_equilibrium_is_told(
    left: list[float | str], told: str | None
) -> None:
    runs = [
        run("bench-core/ep", seed, 0.3, measurements=measured() | {"settledness": item})
        for seed, residual in enumerate(left)
        for item in [Measurement(value=None, details={"residual": residual})]
    ]
    text = leaderboard(runs, width=None)
    reason = "its inference ends further from its equilibrium than it began"
    assert (reason in text) == ("+.200†" in text) == (told is not None)
    assert told is None or f"ep: {reason}{told}\n" in text
    (group,) = judge_all(runs)
    for row in group.rows:  # one row: each run is read alike
        slopes = [
            float(one.record.measurements["settledness"].details["residual"]) for one in row.runs
        ]
        assert [gamma_deep(one)[1] for one in row.runs] == [
            reason if x >= 1 else None for x in slopes
        ]


def test_each_reason_for_which_gamma_means_nothing_is_counted() -> None:
    left = Measurement(value=None, details={"residual": 2.0})
    own = [SICK | {"settledness": left}, measured() | {"settledness": left}, measured(), measured()]
    runs = [run("bench-core/ep", seed, 0.3, measurements=one) for seed, one in enumerate(own)]
    floor = "reference at the floor in 1 of 4 runs"
    slope = "its inference ends further from its equilibrium than it began in 1 of 4 runs"
    assert f"† Γ is not diagnostic (it means nothing) for ep: {floor} and {slope}\n" in leaderboard(
        runs, width=None
    )


def test_gamma_never_stands_alone_where_b_fires() -> None:
    texts = everything(audit())
    assert "+.004†" in leaderboard(audit(), width=None)
    short = leaderboard(seeds(DFA, [0.302, 0.306], measurements=SICK), format="latex")
    assert r"+.004$^{\dagger}$" in short
    assert all("reference at the floor" in texts[name] for name in FORMATS)
    row = next(
        row
        for row in json.loads(texts["json"])["suites"][0]["groups"][0]["rows"]
        if row["label"] == "dfa"
    )
    assert row["gamma_deep"]["value"] == pytest.approx(0.004)
    assert row["gamma_deep"]["not_diagnostic"] == "reference at the floor"
    part = [*seeds(DFA, [0.3, 0.3]), run(seed=456, measurements=SICK)]
    assert "reference at the floor in 1 of 3 runs" in leaderboard(part, format="csv")


def test_a_credit_that_is_not_in_use_is_marked() -> None:
    def read(**more: Any) -> dict[str, Measurement]:
        found = measured()
        details = found["alignment"].details | more
        return found | {"alignment": found["alignment"].model_copy(update={"details": details})}

    warm = everything(
        seeds("bench-core/credit_bridge", [0.3, 0.3], measurements=read(in_use=False))
    )
    assert r"$^{\ddagger}$" in warm["latex"]
    table = warm["latex"].partition(r"\end{table}")[0]  # the mark and its meaning stay together
    assert "not the credit in use" in table
    assert all(
        "not the credit in use" in warm[name]
        for name in FORMATS
        if name != "csv" and name != "json"
    )
    used = leaderboard(
        seeds("bench-core/credit_bridge", [0.3, 0.3], measurements=read(in_use=True)), width=None
    )
    assert "‡" not in used


def test_a_credit_from_which_the_blocks_do_not_learn_is_named() -> None:
    def table(blocks: float | None) -> str:
        found = measured(gamma=1.0)
        details = found["alignment"].details | ({} if blocks is None else {"blocks_deep": blocks})
        own = found | {"alignment": found["alignment"].model_copy(update={"details": details})}
        return leaderboard(seeds(DFA, [0.3, 0.3], measurements=own), width=None)

    said = "Γ deep of dfa is not that of the credit from which its blocks learn: there it is +.031"
    assert said in table(0.031)
    for same in (None, 0.9999):  # printed alike
        assert "blocks learn: there" not in table(same)


def test_blocks_whose_training_makes_no_difference_are_asked_about() -> None:
    def table(*initial: list[float]) -> str:
        items = [Measurement(value=0.0, details={"initial": each}) for each in initial]
        runs = [
            run(DFA, seed, 0.3 + seed / 100, measurements={**measured(), "block_utility": item})
            for seed, item in enumerate(items)
        ]
        return leaderboard(runs, width=None)

    asked = "dfa: the accuracy on the probe stays the same when a block gets its initial weights"
    assert asked in table([0.0, 0.0], [0.0, 0.0])
    assert asked not in table([0.0, 0.0], [0.0, 0.1])
    assert asked not in leaderboard(seeds(DFA, [0.3, 0.31]), width=None)


def by_state(*gammas: float) -> dict[str, Measurement]:
    """An alignment whose states have these Γ."""
    details = {"unclamped": list(gammas), "library": list(gammas), "ratio": [1.0] * len(gammas)}
    details |= {"deep": sum(gammas[1:]) / len(gammas[1:])}
    return {**measured(), "alignment": Measurement(value=details["deep"], details=details)}


def test_a_sign_that_is_wrong_at_one_state_is_asked_about() -> None:
    """The mean over the states is far above 0."""
    asked = "Γ at h_3 of dfa is under -0.5: such credit points against the gradient"
    runs = [
        run(DFA, seed, 0.3 + seed / 100, measurements=by_state(0.9, 0.9, 0.8, last))
        for seed, last in enumerate((-0.9, -1.0))
    ]
    assert asked in leaderboard(runs, width=None)
    right = seeds(DFA, [0.3, 0.31], measurements=by_state(0.9, 0.9, 0.8, -0.4))
    assert "points against" not in leaderboard(right, width=None)
    floor = frozen(DFA, [0.3, 0.31], measurements=by_state(0.9, 0.9, 0.8, -1.0))
    assert "points against" not in leaderboard([*right, *floor], width=None)
    one = [*runs[:1], run(DFA, 1, 0.31, measurements=by_state(0.9, 0.9, 0.8, 0.7))]
    assert "points against" not in leaderboard(one, width=None)  # one of two runs
    unlike = [*runs[:1], run(DFA, 1, 0.31, measurements=by_state(0.9, 0.9, 0.8))]
    assert "points against" not in leaderboard(unlike, width=None)  # a state that one run lacks
    warm = by_state(0.9, 0.9, 0.8, -1.0)
    warm["alignment"].details["in_use"] = False
    assert "points against" not in leaderboard(
        seeds(DFA, [0.3, 0.3], measurements=warm), width=None
    )
    void = {**by_state(0.9, 0.9, 0.8, -1.0)}
    void["alignment"] = void["alignment"].model_copy(update={"not_diagnostic": "x"})
    assert "points against" not in leaderboard(
        seeds(DFA, [0.3, 0.3], measurements=void), width=None
    )


def test_a_credit_that_is_the_gradient_at_some_states_is_asked_about() -> None:
    flags = dict.fromkeys(PASSPORT, False)

    def told(*gammas: float) -> str:
        runs = seeds(DFA, [0.3, 0.31], passport=flags, measurements=by_state(*gammas))
        return leaderboard(runs, width=None)

    asked = (
        "dfa: its credit at {} is the gradient (Γ of 0.99 or more in every run), and it declares"
    )
    assert asked.format("h_0, h_1, h_2") in told(1.0, 1.0, 1.0, -1.0)
    assert asked.format("h_1") in told(0.2, 0.995, 0.1, 0.1)
    assert "declares no way" not in told(0.98, 0.98, 0.98, 0.98)
    some = [
        run(
            DFA, seed, 0.3 + seed / 100, passport=flags, measurements=by_state(0.2, value, 0.1, 0.1)
        )
        for seed, value in enumerate((0.999, 0.5))
    ]
    assert "declares no way" not in leaderboard(some, width=None)  # in one run of two


@pytest.mark.parametrize(
    ("values", "reason", "asked"),
    [
        ((0.998, 0.995), None, True),
        ((0.998, 0.98), None, False),  # in one run of two
        ((0.998, None), None, False),
        ((0.998, 0.995), "the reference gradient is at the floor", False),
    ],
)
def test_blocks_that_step_down_the_gradient_are_asked_about_whatever_credit_is_shown(
    values: tuple[float | None, ...], reason: str | None, asked: bool
) -> None:
    def told(**declared: bool) -> str:
        flags = {**dict.fromkeys(PASSPORT, False), **declared}
        steps = [Measurement(value=value, not_diagnostic=reason) for value in values]
        runs = [
            run(DFA, seed, 0.3, passport=flags, measurements={**measured(), "projected_step": step})
            for seed, step in zip((42, 123), steps, strict=True)
        ]
        return leaderboard(runs, width=None)

    line = (
        "dfa: its blocks step down the gradient (projected_step of 0.99 or more in every run), "
        "and it declares no way to know it: does it pass `bench check`?"
    )
    assert (line in told()) == asked
    assert line not in told(weight_transport=True)


def test_credit_against_the_gradient_is_asked_about() -> None:
    asked = (
        "Γ deep of dfa is under -0.5: such credit points against the gradient; is its sign right?"
    )
    assert asked in leaderboard(
        seeds(DFA, [0.3, 0.3], measurements=measured(gamma=-0.9)), width=None
    )
    assert asked not in leaderboard(
        seeds(DFA, [0.3, 0.3], measurements=measured(gamma=-0.1)), width=None
    )

    def near(**options: Any) -> str:
        gammas = {1: -0.011, 2: -0.012, 3: -0.010}
        return leaderboard(
            [
                run(DFA, s, 0.3, measurements=measured(gamma=g), **options)
                for s, g in gammas.items()
            ],
            width=None,
        )

    assert "Γ deep of dfa lies below 0 with its interval: such credit" in near()
    assert "lies below 0" not in near(params={"freeze": "blocks"})  # fixed draws scatter about 0
    assert asked not in leaderboard(
        seeds(DFA, [0.3, 0.3], measurements=measured(b=1e-9, gamma=-0.9)), width=None
    )


def test_rules_that_no_interval_separates_share_their_ranks() -> None:
    records = (
        seeds(DFA, [0.30, 0.34, 0.31])
        + seeds("bench-core/fa", [0.31, 0.32, 0.32])
        + seeds(BP, [0.6, 0.61, 0.6])
    )
    assert {row[1]: row[0] for row in rows_of(leaderboard(records, format="markdown"))[2:]} == {
        "bp": "1",
        "fa": "2–3",
        "dfa": "2–3",
    }


def test_floor_of_the_settings_is_named_in_the_reason() -> None:
    records = [*seeds(DFA, [0.301] * 3), *frozen(BP, [0.421] * 3)]
    for depth, words in (
        (DepthUtility(floor="bp"), "12.0 ± 0.1 points worse than bp[frozen]"),
        (
            DepthUtility(floor_value=0.349),
            "4.8 ± 0.1 points worse than the given floor of .349",
        ),
    ):
        assert words in leaderboard(records, Settings(depth_utility=depth), width=None)


def test_a_rounded_figure_never_contradicts_its_limit() -> None:
    found = measured(a=50.001, c=0.3001)
    text = leaderboard([run(accuracy=0.3199, measurements=found), *frozen(DFA, [0.3])], width=None)
    assert "grows 50.001 times in one block (limit 50 times)" in text
    assert "cosine 0.3001, limit 0.3" in text
    assert "+1.99 points over random blocks; a margin of +2 is needed" in text


def test_figures_of_the_walked_back_runs_only() -> None:
    records = [
        *seeds(DFA, [0.4, 0.4]),
        run(seed=456, measurements=measured(a=99.0)),
        *frozen(DFA, [0.3] * 3),
    ]
    text = "grows 99 times in one block (limit 50 times) in 1 of 3 runs"
    assert text in leaderboard(records, width=None)


def test_recipes_get_their_own_tables_and_say_how_they_differ() -> None:
    records = seeds(DFA, [0.3, 0.3]) + seeds(DFA, [0.5, 0.5], training={"learning_rate": 0.01})
    text = leaderboard(records)
    assert text.count("\n  #  rule ") == 2
    assert "In 2 recipes, 0 of 2 rows are trustworthy." in text
    assert "training.learning_rate=0.001" in text
    assert "training.learning_rate=0.01" in text


def test_csv_and_json_keep_full_precision() -> None:
    value = 0.123456789012345
    row = as_csv([run(accuracy=value, measurements=SICK)])[0]
    assert float(row["accuracy"]) == value
    assert float(row["reference_n128"]) == pytest.approx(4.2e-9, rel=1e-15)
    document = json.loads(leaderboard([run(accuracy=value)], format="json"))
    assert document["schema"] == "bench-leaderboard/2"
    entry = document["suites"][0]["groups"][0]["rows"][0]["runs"][0]
    assert (entry["accuracy"], entry["seed"], entry["letters"]) == (value, 42, [])


def test_negative_numbers_stay_numbers_in_csv() -> None:
    text = leaderboard(audit(), format="csv")
    row = next(row for row in csv.DictReader(io.StringIO(text)) if row["label"] == "dfa")
    assert float(row["margin_matched_pp"]) == pytest.approx(-4.3)
    (group,) = json.loads(leaderboard(audit(), format="json"))["suites"][0]["groups"]
    reasons = next(each["reasons"] for each in group["rows"] if each["label"] == "dfa")
    assert row["reasons"] == "; ".join(reasons)
    assert len(reasons) > 2
    assert '"-' not in text
    assert "'-" not in text


@pytest.mark.parametrize("name", FORMATS)
def test_the_order_of_records_does_not_matter_to_any_format(name: Format) -> None:
    records = audit() + seeds(DFA, [0.3, 0.4], training={"epochs": 30})
    expected = leaderboard(records, format=name)
    for seed in range(4):
        random.Random(seed).shuffle(records)
        assert leaderboard(records, format=name) == expected


def test_passport_codes_have_a_legend() -> None:
    flags = {**PASSPORT, "learned_feedback": True, "exact_top_credit": True, "oracle": True}
    text = leaderboard([run(passport=flags), run(BP, passport={})], format="markdown")
    assert [row[-1] for row in rows_of(text)[2:]] == ["–", "L T X"]
    assert (
        "uses, as its author declares, beyond a block's own activity and the output "
        "error: L parts of its own that change in training: feedback that learns, or a memory; T "
        "the gradient of the loss at the last block's output; X something else that its plugin "
        "names; –: not declared" in text
    )
    assert "not declared" not in leaderboard([run(passport=flags)], format="markdown")


def test_every_column_is_explained() -> None:
    """By the legend of the table, as a word of the glossary, or by `bench info` of a diagnostic."""
    known = reference.installed()
    assert known is not None
    shown = view(gather([known.folder / "audit6"])[0][0])
    page = (Path(__file__).parents[1] / "docs" / "glossary.md").read_text("utf-8")
    rows = re.findall(r"^\| (.+?) \|", page, re.MULTILINE)
    words = {word for row in rows for word in row.split(", ")}
    for asked in ([], ["all"]):
        columns = columns_of(shown.groups[0], asked)
        lines = legend.of_all(shown.groups, shown.settings, {column.key for column in columns})
        text = f"; {'; '.join(lines)}"
        for column in columns:
            title = re.escape(column.title.removeprefix("over ").removesuffix(" N=128"))
            told = re.search(rf"[;,] (over )?{title}( \(\w+\))?[:,;]", text, re.IGNORECASE)
            assert told or column.title in {*words, *column.names}, column.title
        assert {"from", "cost x bp"} <= {column.title for column in columns}
        assert ("seconds a run: " in text) == bool(asked)


def test_n_is_shown_where_rows_have_different_numbers_of_seeds() -> None:
    more = [*audit(), *(run(DFA, seed, 0.3) for seed in (1, 2))]
    table = rows_of(leaderboard(more, format="markdown"))
    at = table[0].index("n")
    assert {line[1]: line[at] for line in table[2:]} == {"bp": "3", "ep": "2 of 3 done", "dfa": "5"}
    assert "n" not in rows_of(leaderboard(audit(), format="markdown"))[0]


def test_columns_without_room_are_quoted() -> None:
    told = " ".join(leaderboard(audit(), width=60).split())
    names = '"over bp floor", "Γ deep", "seconds a run" and "uses"'
    assert f"No room at this width for the columns {names}" in told


# --------------------------------------------------------------------------------------- edge cases


def test_no_runs() -> None:
    texts = everything([])
    for name in ("table", "markdown", "latex"):
        assert texts[name] == "No runs yet: nothing to show.\n"
    assert json.loads(texts["json"])["suites"][0]["groups"] == []
    assert texts["csv"].count("\n") == 1


def test_one_seed() -> None:
    records = [run(), *frozen(DFA, [0.3])]
    for name, text in everything(records).items():
        clean(text)
        if name in ("table", "markdown", "latex"):
            assert "n=1: no interval" in text
    assert rows_of(leaderboard(records, format="markdown"))[2][:4] == [
        "–",
        "dfa",
        "single seed",
        ".400 (n=1)",
    ]
    assert as_csv(records)[0]["accuracy_half_width_95"] == ""


def test_all_equal() -> None:
    records = seeds(DFA, [0.3] * 3) + seeds(BP, [0.3] * 3)
    for text in everything(records).values():
        clean(text)
    assert [row[0] for row in rows_of(leaderboard(records, format="markdown"))[2:]] == [
        "1–2",
        "1–2",
    ]


def test_all_failed() -> None:
    records = [run(seed=seed, status="failed", reason="boom") for seed in (1, 2, 3, 4)]
    for text in everything(records).values():
        clean(text)
        assert "seeds 1, 2, 3, 4 failed: boom" in text
    assert rows_of(leaderboard(records, format="markdown"))[2][3] == "–"


def test_one_method_and_no_floor() -> None:
    text = leaderboard(seeds(DFA, [0.3, 0.31, 0.32]), width=None)
    assert "dfa has no floor to be compared with." in text
    assert "\n     no finished run of dfa[frozen] with this recipe\n" in text


def test_missing_seeds_are_told() -> None:
    floors = [run(name, seed=1, params={"freeze": "blocks"}) for name in (DFA, BP)]
    rows = [run(seed=1), run(BP, seed=1), run(BP, seed=7), floors[0]]
    assert "no run of seed 7: dfa, dfa[frozen]\n" in leaderboard(rows, width=None)
    assert "no run of seed 7: dfa, 2 floors\n" in leaderboard([*rows, floors[1]], width=None)
    many = [run(f"lab/r{i}", seed=1) for i in range(9)]
    told = "no run of seed 7: dfa, lab/r0, lab/r1, lab/r2, lab/r3, lab/r4 and 4 more, 2 floors\n"
    assert told in leaderboard([*rows, floors[1], *many], width=None)


def test_many_rules_without_a_verdict_are_counted_and_those_with_one_named() -> None:
    several = [each for i in range(8) for each in seeds(f"lab/r{i}", [0.3, 0.31, 0.32])]
    text = leaderboard(several, width=None)
    assert "None of 8 rules is trustworthy. 8 rules have no floor to be compared with." in text
    text = leaderboard(several[3:], width=None)
    assert "r1, r2, r3, r4, r5, r6 and r7 have no floor" in text
    floors = [each for i in range(8) for each in frozen(f"lab/r{i}", [0.5, 0.51, 0.52])]
    text = leaderboard([*several, *floors], width=None)
    assert "r2, r3, r4, r5 and 2 more train blocks that are worse than random ones." in text


def test_seconds_and_memory_are_of_one_machine() -> None:
    def on(name: str, seed: int, seconds: float, rule: str = DFA) -> RunRecord:
        environment = {"device_name": name, "device": "cpu"}
        return run(rule, seed, environment=environment, seconds=seconds)

    several = [on("a CPU", 1, 100.0), on("a CPU", 2, 300.0), on("a GPU", 3, 9.0)]
    one = [on("a GPU", seed, 7.0 + seed, BP) for seed in (1, 2, 3)]
    rows = {row["label"]: row for row in as_csv([*several, *one])}
    assert (rows["dfa"]["seconds"], rows["bp"]["seconds"]) == ("", "9.0")
    assert (rows["dfa"]["peak_memory_bytes"], rows["bp"]["peak_memory_bytes"]) == ("", "700000000")
    text = " ".join(leaderboard([*several, *one], width=None).split())
    told = "seconds and memory compare within one machine alone: these runs are of a CPU, a GPU; –:"
    assert told in text
    rows = {row["label"]: row for row in as_csv(several[:2])}
    assert rows["dfa"]["seconds"] == "200.0"
    assert "compare within one machine" not in leaderboard(several[:2], width=None)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_fires_and_is_not_printed(value: float) -> None:
    found = measured(a=value, b=value, c=value)
    found["alignment"] = Measurement(details={"deep": "nan", "mean": "inf", "unclamped": ["nan"]})
    found["lab/x"] = Measurement(value=value, direction="above", threshold=1.0, unit="u")
    records = [
        *seeds(DFA, [0.3, 0.3], measurements=found, seconds=1.0),
        run(seed=456, accuracy=value),
    ]
    for text in everything(records + frozen(DFA, [0.3] * 3)).values():
        clean(text)
        assert "lab/x is not finite in 2 of 3 runs" in " ".join(text.split())


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_the_terminal_table_fits(width: int) -> None:
    long = [
        *audit(),
        *seeds(
            "bench-core/state_bridge",
            [0.30, 0.31, 0.32],
            measurements=measured(a=99.0, b=1e-9, c=0.9),
        ),
        *frozen("bench-core/state_bridge", [0.3, 0.3, 0.3]),
        *seeds(
            "a-long-distribution-name/a_long_method_name",
            [0.30, 0.31, 0.32],
            params={"penalty": 0.01},
        ),
    ]
    text = leaderboard(long, width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    rules = {(r.cell.method.name, str(r.cell.method.params)) for r in long if not is_floor(r)}
    labels = [line.split()[1] for line in rows_shown(text)]
    assert len(set(labels)) == len(labels) == len(rules)
    assert "a-long-distribution-name/a_long_method_name" in re.sub(r"\s+", "", text)
    assert leaderboard(long, width=1) == leaderboard(long, width=40)


@pytest.mark.parametrize("room", [6, 14, 20, 38])
def test_the_name_of_a_rule_goes_over_lines_whole(room: int) -> None:
    """Two rules that differ in their last option stay apart, and an option stays in one line."""
    labels = [f"hebb_ternary[penalty=0.01, rate=0.0, sparsity=0.{i}]" for i in (5, 9)]
    for label in (*labels, "bp", "a/b[x=[1, 2], y={'k': 'v, w'}]", "a_name_without_options"):
        lines = over_lines(label, room).splitlines()
        assert max(map(len, lines)) <= room
        assert "".join(lines).replace(" ", "") == label.replace(" ", "")
    assert over_lines(labels[0], 14).splitlines() == [
        "hebb_ternary",
        "[penalty=0.01,",
        "rate=0.0,",
        "sparsity=0.5]",
    ]


@pytest.mark.parametrize("format", ["table", "latex"])
def test_a_table_cuts_no_name(format: Format) -> None:
    """A reason stands below the last line of its rule's name."""
    params = {"penalty": 0.01, "rate": 0.0, "sparsity": 0.5}
    name = "lab/hebbian_ternary_feedback"
    own = seeds(name, [0.2, 0.2, 0.21], params=params)
    floor = seeds(name, [0.3, 0.3, 0.31], params=params | {"freeze": "blocks"})
    other = seeds(name, [0.2, 0.2, 0.21], params={"rate": 0.1, "penalty": 0.1, "sparsity": 0.1})
    text = leaderboard([*audit(), *own, *floor, *other], format=format, width=80)
    assert "…" not in text
    assert "ldots" not in text
    if format == "table":
        end = text[text.index("hebbian_ternary_  ") :].splitlines()
        shown = [line.strip() for line in end[1:4]]
        assert shown == ["feedback[penalty=0.01,", "rate=0.0,", "sparsity=0.5]"]
        assert "points below bp" in end[4]


def test_seeds_that_end_for_one_reason_stand_together() -> None:
    broken = [run(seed=seed, status="failed", reason="boom") for seed in (1, 2, 3, 4)]
    text = leaderboard([*broken, run(seed=5, status="timeout", reason="late")], width=None)
    assert "(seeds 1, 2, 3, 4 failed: boom; seed 5 timeout: late)" in text
    other = [run(seed=seed, status="failed", reason=f"{seed % 4}") for seed in range(1, 9)]
    text = leaderboard(other, width=None)
    assert "(seeds 1, 5 failed: 1; seeds 2, 6 failed: 2; seeds 3, 7 failed: 3; and 2 more)" in text


def test_a_floor_shows_what_means_nothing_as_its_rule_does() -> None:
    """Both rest on the same few probe batches."""
    few = measured(c=0.4)
    few["batch_stability"] = few["batch_stability"].model_copy(
        update={"not_diagnostic": "2 full probe batches"}
    )
    both = [*seeds(DFA, [0.4] * 3, measurements=few), *frozen(DFA, [0.3] * 3, measurements=few)]
    wanted = Wanted(None, floors=True, columns=("c",))
    text = leaderboards([SuiteResults("s", Settings(), tuple(both), 0)], "table", wanted)
    shown = {line.split()[1]: line for line in rows_shown(text)}
    assert "0.4†" in shown["dfa"]
    assert "0.4†" in shown["dfa[frozen]"]
    assert "batch_stability: fires" not in text  # the legend of what could be judged


def test_the_remarks_name_a_rule_as_the_table_does_and_latex_says_what_it_lacks() -> None:
    name = "a-long-distribution-name/hebbian"
    own = [*seeds(name, [0.3, 0.31, 0.45]), *frozen(name, [0.3, 0.3, 0.31])]
    text = leaderboard([*audit(), *own], width=80)
    assert text.count("a-long-distribution-name/hebbian") == 1  # in the legend alone
    long = seeds(name, [0.3, 0.31, 0.45], params={f"a_long_option_{i}": 0.123 for i in range(4)})
    text = leaderboard([*audit(), *long], format="latex", columns=("all",))
    assert "% No room on a page for the columns" in text
    assert r"-{}-format csv has all columns" in text


def test_only_whole_names_are_shortened_and_no_command_or_path_is() -> None:
    sheet = Sheet([], [], {"lab/hebb": "hebb", "mylab/hebbian": "hebbian"})
    text = "mylab/hebbian and lab/hebb[rate=1], lab/hebb; /home/lab/hebb/w: `bench tune lab/hebb`"
    told = "hebbian and hebb[rate=1], hebb; /home/lab/hebb/w: `bench tune lab/hebb`"
    text, told = f"{text}. It is lab/hebb. ./lab/hebb.py", f"{told}. It is hebb. ./lab/hebb.py"
    assert sheet.renamed([text, "lab/hebb2 and lab/hebb-fast"]) == [
        told,
        "lab/hebb2 and lab/hebb-fast",
    ]


def test_the_reasons_name_a_rule_as_the_table_does() -> None:
    """The floor that is missing is named in a reason."""
    own = seeds("a-long-distribution-name/hebbian", [0.3, 0.31, 0.45])
    text = leaderboard([*audit(), *own], width=80)
    assert "no finished run of hebbian[frozen] with this recipe" in " ".join(text.split())


def test_a_network_of_one_block_has_no_deep_layer_and_no_remark_on_it() -> None:
    """Γ is finite there; only its mean over the states between two blocks does not exist."""
    one = {"deep": None, "mean": 1.0, "unclamped": [1.0], "ratio": [1.0], "library": [1.0]}
    found = measured() | {"alignment": Measurement(value=1.0, details=one)}
    for text in everything(seeds(BP, [0.6, 0.61, 0.62], measurements=found)).values():
        assert "not finite" not in text
        assert "†" not in text


def test_a_median_over_some_of_the_runs_says_of_how_many() -> None:
    """The other seeds say that the value means nothing in them."""
    rho = Measurement(value=0.16)
    silent = Measurement(value=-0.1, not_diagnostic="too small to resolve")
    values = (rho, silent, silent)
    runs = [
        run(DFA, seed, 0.3, measurements=measured() | {"rho": value})
        for seed, value in zip((1, 2, 3), values, strict=True)
    ]
    every = seeds(BP, [0.6, 0.61, 0.62], measurements=measured() | {"rho": rho})
    text = leaderboard([*runs, *every], width=None, columns=("rho",))
    shown = {line.split()[1]: line for line in rows_shown(text)}
    assert "0.16 (n=1)" in shown["dfa"]
    assert "(n=" not in shown["bp"]
    notes = {row["rule"]: row["rho_note"] for row in as_csv([*runs, *every])}
    assert notes == {DFA: "of n=1, not of all finished runs", BP: ""}


def test_a_column_that_says_the_same_of_every_row_makes_room_first() -> None:
    """That all are of the reference stands in the heading too; Γ tells the rules apart."""
    shipped = {"environment": {"reference": "1"}, "original": {"run.json": "of another machine"}}
    bp = seeds(BP, [0.61, 0.62, 0.60], measurements=measured(gamma=1.0))
    own = [*bp, *seeds(DFA, [0.3, 0.31, 0.32], measurements=measured(gamma=0.1))]
    every = [item.model_copy(update=shipped) for item in own]
    mixed = [*every[:3], *own[3:]]

    def heads(records: list[RunRecord], width: int) -> list[str]:
        text = leaderboard(records, width=width)
        return text[text.index("#  rule") :].splitlines()[0].split()

    narrow = max(n for n in range(60, 110) if "from" not in heads(every, n))
    assert "Γ" in heads(every, narrow)
    narrow = max(n for n in range(60, 110) if "Γ" not in heads(mixed, n))
    assert "from" in heads(mixed, narrow)


def rows_shown(text: str) -> list[str]:
    """The rows of a terminal's table, without the reasons below them."""
    table = text.partition("\n---")[2].partition("\n\n")[0].splitlines()[1:]
    return [line for line in table if not line.startswith("     ")]


def test_the_audit_at_80_columns() -> None:
    """80 columns keep the accuracy, the verdict and both margins, with intervals."""
    row = next(line for line in rows_shown(leaderboard(audit())) if " dfa " in line)
    assert re.sub(" +", " ", row.strip()) == (
        "2 dfa walked back .306 ± .010 -4.3 ± 0.7 -11.3 ± 0.7 +.004† local"
    )


def test_long_labels_leave_room_for_both_margins_at_80_columns() -> None:
    name = "a-long-distribution-name/a_long_method_name"
    sick = measured(a=99.0, b=1e-9, c=0.9)
    mine = [
        *seeds(name, [0.30, 0.31, 0.72], measurements=sick),
        *frozen(name, [0.30, 0.21, 0.72]),
    ]
    rows = rows_shown(leaderboard([*audit(), *mine]))
    assert max(map(len, rows)) <= 80
    assert any(row.endswith("  +3.3 ± 14.3  +2.4 ± 59.3") for row in rows)


def test_a_distribution_goes_before_figures_do_where_the_rule_is_unambiguous() -> None:
    name = "bench-sign-dfa/sign_dfa"
    ours = [*audit(), *seeds(name, [0.30, 0.31, 0.32]), *frozen(name, [0.3, 0.3, 0.3])]
    text = leaderboard(ours, width=80)
    assert "over bp" in text
    assert "sign_dfa" in {row.split()[1] for row in rows_shown(text)}
    assert f"\nsign_dfa = {name}\n" in text
    both = leaderboard([*ours, *seeds("bench-core/sign_dfa", [0.2, 0.2, 0.2])], width=100)
    assert name in " ".join(rows_shown(both))
    assert "sign_dfa = " not in both


@pytest.mark.parametrize("width", [60, 80])
def test_the_column_by_which_rows_are_grouped_stays(width: int) -> None:
    suite = SuiteResults("s", Settings(), tuple(audit()), 0)
    table = rows_shown(leaderboards([suite], wanted=Wanted(width, passports=True)))
    assert all(row.endswith(("local", " G")) for row in table)
    assert max(map(len, table)) <= width


@pytest.mark.long
def test_thousands_of_runs() -> None:
    records = [
        run(f"lab/rule{i}", seed, 0.3 + 1e-4 * ((i * 7 + seed) % 100))
        for i in range(300)
        for seed in range(10)
    ]
    text = leaderboard(records)
    assert len(text) < 5e6


def test_the_schema_of_the_docs_is_the_generated_one() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema.text(), (
        "run `python -m bench_core.report.tables.schema > docs/leaderboard.schema.json`"
    )


def test_every_column_is_in_every_format() -> None:
    fields = [field for column in COLUMNS for field in column.fields]
    assert len({field.name for field in fields}) == len(fields)
    assert all(column.fields for column in COLUMNS)
    markdown = rows_of(leaderboard(audit(), format="markdown", columns=["all"]))[0]
    shown = [column for column in COLUMNS if not column.optional]  # which no row fills
    expected = [escape.markdown(column.title) for column in shown]
    assert [head for head in markdown if head != "c cosine"] == expected
    row = json.loads(leaderboard(audit(), format="json"))["suites"][0]["groups"][0]["rows"][0]
    assert row.keys() == {
        *(field.name for field in fields),
        "diagnostics",
        "reasons",
        "doubts",
        "runs",
    }
    assert {name for field in fields for name in field.names} <= as_csv(audit())[0].keys()


def test_unknown_format() -> None:
    with pytest.raises(ValueError, match="one of table, markdown"):
        leaderboard([], format="html")  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------- escaping


def hostile(name: str) -> list[RunRecord]:
    """Return records with the name in every field that takes a plugin's text.

    These are method, parameter, reason, arch, passport, diagnostic and unit.
    """
    found = measured(a=99.0) | {
        name: Measurement(value=9.0, direction="above", threshold=1.0, unit=name)
    }
    found["batch_stability"] = found["batch_stability"].model_copy(update={"not_diagnostic": name})
    return [
        *seeds(name, [0.3, 0.4], measurements=found, passport={name: True}, arch=name),
        run(name, 456, status="failed", reason=name, arch=name),
        *seeds(DFA, [0.2, 0.2], params={"option": name}, arch=name),
        *seeds(DFA, [0.1, 0.1], params={"option": 1}, arch=name),
    ]


def forbidden(text: str) -> list[str]:
    """Control, bidirectional and other invisible characters, lone surrogates too."""
    return re.findall(
        r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]",
        text,
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_shown_and_never_obeyed(name: str) -> None:
    texts = everything(
        hostile(name), Settings(title=name, depth_utility=DepthUtility.model_construct(floor=name))
    )
    for text in texts.values():
        assert forbidden(text) == []
        text.encode()

    # terminal: every row on a line of its own, and rich shows the text literally
    console = Console(file=io.StringIO(), width=400)
    console.print(texts["table"], markup=False, highlight=False, soft_wrap=True, emoji=False)
    assert console.file.getvalue().rstrip("\n") == texts["table"].rstrip("\n")  # type: ignore[attr-defined]
    assert max(len(line) for line in texts["table"].splitlines()) <= 80

    # Markdown: the right number of cells, no HTML, no markup
    markdown = texts["markdown"]
    table = rows_of(markdown)
    assert len(table) == 5
    assert {len(row) for row in table} == {10}  # with n: one row has three seeds, the others two
    assert not re.search(r"[<>]", markdown)
    assert not re.search(r"(?<!\\)(\\\\)*`", markdown)
    body = [line for line in markdown.splitlines() if "walked back" in line]
    assert not any(re.search(r"(?<!\\)(\\\\)*\]\(", line) for line in body)

    # LaTeX: only our own commands, balanced braces, no comment but ours around the table
    needs, table, more = re.split(
        r"^(?=\\begin{table})|(?<=\\end{table})$", texts["latex"], flags=re.M
    )
    assert needs.startswith(r"% needs \usepackage{booktabs}")
    comments = more.strip().splitlines()
    assert all(line.startswith("% ") for line in comments)
    latex = "\n".join([table, *(line.removeprefix("% ") for line in comments)])
    commands = set(re.findall(r"\\([a-zA-Z]+)", latex))
    assert commands <= {
        *(
            "begin",
            "end",
            "centering",
            "scriptsize",
            "setlength",
            "tabcolsep",
            "caption",
            "toprule",
            "midrule",
        ),
        *(
            "bottomrule",
            "shortstack",
            "par",
            "medskip",
            "raggedright",
            "pm",
            "cdot",
            "Delta",
            "label",
            "Gamma",
            "dagger",
            "times",
            "lambda",
            "ldots",
        ),
        *(
            "textbackslash",
            "textasciicircum",
            "textasciitilde",
            "textless",
            "textgreater",
            "textbar",
            "char",
        ),
    }
    bare = re.sub(r"\\.", "", latex)
    assert bare.count("{") == bare.count("}")
    assert not re.search(r"[%#]", bare)
    assert bare.count("$") % 2 == 0
    (columns,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", latex)
    for row in re.findall(r"^.*\\\\$", latex, re.MULTILINE):
        assert len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1

    # CSV: one line per method, no cell a formula
    cells = list(csv.reader(io.StringIO(texts["csv"], newline="")))
    assert {len(line) for line in cells} == {len(cells[0])}
    assert len(cells) == 4
    for line in cells[1:]:
        for head, cell in zip(cells[0], line, strict=True):
            numeric = re.fullmatch(r"-?[\d.]+(e-?\d+)?", cell) and head not in (
                "method",
                "label",
                "arch",
            )
            assert numeric or not cell.startswith(tuple("=+-@\t\r\n"))

    # JSON: the name as it is, and nothing that could end a script element
    assert "</" not in texts["json"]
    assert "<!--" not in texts["json"]
    assert name in {
        row["method"] for row in json.loads(texts["json"])["suites"][0]["groups"][0]["rows"]
    }


def test_formula_cells_get_an_apostrophe() -> None:
    found = [row["method"] for row in as_csv([run("=1+1"), run("@x"), run("\t=1")])]
    assert sorted(found) == ["'=1+1", "'@x", "'\\x09=1"]


def test_invisible_characters_are_written_out() -> None:
    text = leaderboard([run("a\x1b[2Jb\u202ec", accuracy=0.5)], width=200)
    assert "a\\x1b[2Jb\\u202ec" in text


def test_different_data_are_told() -> None:
    records = [
        run(seed=1, data_checksum="x"),
        run(seed=2, data_checksum="y", finished="2026"),
        run(seed=2),
    ]
    text = leaderboard(records, width=None)
    assert "did not all read the same data" in text
    assert "1 further records of these cells set aside" in text


def test_a_replicated_run_counts_before_a_later_one() -> None:
    later = run(accuracy=0.9, finished="2099", checksum="c2")
    for trust, mean in (("posted", 0.9), ("replicated", 0.4)):
        (group,) = judge_all(
            [run(accuracy=0.4, checksum="c1"), later], Settings(standings={"c1": Standing(trust)})
        )
        (row,) = group.rows
        assert row.accuracy is not None
        assert (row.accuracy.mean, group.set_aside) == (mean, 1)


def test_a_finished_time_decides_only_within_a_folder() -> None:
    """Its author writes it; other code of the same cell has other identities, so no conflict."""
    mine, later = (
        run(accuracy=0.4, checksum="c1"),
        run(accuracy=0.9, finished="2099", checksum="c2"),
    )
    places = [({}, 0.9), ({"c2": Standing(place=1)}, 0.4), ({"c1": Standing("checked")}, 0.4)]
    places += [({"c1": Standing("checked", place=1)}, 0.4)]
    places += [({"c1": Standing("checked"), "c2": Standing("replicated", place=1)}, 0.9)]
    for standings, mean in places:
        (group,) = judge_all([later, mine], Settings(standings=standings))
        (row,) = group.rows
        assert row.accuracy is not None
        assert (row.accuracy.mean, group.set_aside) == (mean, 1)
        (named,) = group.contradicted
        assert {each.accuracy for each in named} == {0.4, 0.9}


def test_runs_on_a_data_set_whose_code_has_changed_since_are_not_compared(tmp_path: Path) -> None:
    """dfa ran again with bp and the floors on new data: fa, which did not, is left out by name."""
    old = {"x-data": {"files": {"x_data.rings": "old", "x_data.rule": "1"}}}
    new = {"x-data": {"files": {"x_data.rings": "new", "x_data.rule": "1"}}}
    ours = {"bench-core": {"files": {"bench_plugins.archs.resmlp": "anything"}}}

    def on(record: RunRecord, dataset: str = "x-data/rings") -> RunRecord:
        ref = ComponentRef(name=dataset)
        return record.model_copy(update={"cell": record.cell.model_copy(update={"dataset": ref})})

    def of(name: str, values: list[float], data: dict[str, Any], day: int) -> list[RunRecord]:
        files = dict(data["x-data"]["files"])
        if name != "lab/fa":  # which alone has the plugin's rule
            del files["x_data.rule"]
        code = {**ours, "x-data": {"files": files}}
        fields: dict[str, Any] = {"code": code, "finished": f"2026-11-{day:02}T00:00:00+00:00"}
        floors = frozen(name, [0.3, 0.31, 0.32], **fields)
        return [*map(on, [*seeds(name, values, **fields), *floors])]

    records = [
        *of("bench-core/bp", [0.6, 0.61, 0.62], new, 3),
        *of("bench-core/dfa", [0.5, 0.51, 0.52], new, 2),
        *of("lab/fa", [0.4, 0.41, 0.42], old, 1),
    ]
    folders.write(tmp_path, records)
    (results,), troubles = gather([tmp_path])
    assert {record.cell.method.short for record in results.records} == {"bp", "dfa"}
    assert (results.superseded, results.replaced) == (6, 0)  # a warning names the six
    (told,) = (line for line in troubles if "not counted" in line)
    assert "6 runs are not counted: the code of the data set or the network has changed" in told
    assert "(x_data.rings); `bench run` without --method trains all of them again" in told
    same = [*records[:12], *of("lab/fa", [0.4, 0.41, 0.42], new, 1)]
    folders.write(tmp_path / "same", same)
    assert len(gather([tmp_path / "same"])[0][0].records) == 18
    # a run that is not done shows no newest code, and a rule's own module leaves its row behind
    broken = on(run("bench-core/bp", 7, status="failed", code=old, finished="2027"))
    edited = {"x-data": {"files": {**new["x-data"]["files"], "x_data.rule": "2"}}}
    folders.write(tmp_path / "own", [*same, broken, *of("lab/fa", [0.4], edited, 9)[:1]])
    assert len(gather([tmp_path / "own"])[0][0].records) == 20 - 3
    # newer runs that diverged are no old ones: they show that nothing of before counts
    lost = [
        on(run("bench-core/dfa", seed, status="diverged", code=edit, finished="2027"))
        for seed, edit in ((7, {**ours, "x-data": {"files": {"x_data.rings": "newer"}}}),)
    ]
    folders.write(tmp_path / "lost", [*same, *lost])
    ((results,), _) = gather([tmp_path / "lost"])
    assert [(record.cell.seed, record.status) for record in results.records] == [(7, "diverged")]
    # a rule of another package has no module of this one but the data set's, its floor neither
    alone = of("bench-core/dfa", [0.5, 0.51], old, 1)[:2] + of("bench-core/dfa", [0.5], new, 2)[1:]
    folders.write(tmp_path / "alone", alone)
    assert [
        item.cell.method.params["freeze"] for item in gather([tmp_path / "alone"])[0][0].records
    ] == ["blocks"] * 3
    # one rule of the package itself: its own module is the rule's, and two runs are older
    again = {"x-data": {"files": {"x_data.rings": "old", "x_data.rule": "2"}}}
    mine = [
        on(run("x-data/mine", 42, 0.5, code=old, finished="2026-11-01T00:00:00+00:00")),
        on(run("x-data/mine", 123, 0.5, code=old, finished="2026-11-01T00:00:00+00:00")),
        on(run("x-data/mine", 456, 0.5, code=again, finished="2026-11-09T00:00:00+00:00")),
    ]
    folders.write(tmp_path / "mine", mine)
    (results,), (told,) = gather([tmp_path / "mine"])
    assert len(results.records) == 1
    assert "the code of x-data/mine has changed since (x_data.rule)" in told
    # a package whose rules alone are used may have them all in one file
    other = [on(record, "bench-core/digits") for record in records]
    folders.write(tmp_path / "rules", other)
    assert len(gather([tmp_path / "rules"])[0][0].records) == 18


def test_seeds_that_older_code_of_a_rule_trained_are_in_no_mean(tmp_path: Path) -> None:
    """An edited rule that ran again with one seed: the mean of both codes is that of no rule."""

    def of(seed: int, value: float, text: str, day: int, **more: Any) -> RunRecord:
        code = {"mine.py": {"files": {"mine": text}}, "bench-core": {"files": {"x": text}}}
        when = f"2026-11-{day:02}T00:00:00+00:00"
        return run("mine.py/mine", seed, value, code=code, finished=when, **more)

    bp = seeds("bench-core/bp", [0.9, 0.9, 0.9])
    before = [of(seed, 0.8, "old", 1) for seed in (42, 123, 456)]
    after = of(42, 0.1, "new", 2)
    folders.write(tmp_path / "r", [*bp, *before[1:], after])
    (results,), troubles = gather([tmp_path / "r"])
    (row,) = (row for row in judge_all(results.records)[0].rows if "mine" in row.label)
    assert row.accuracy is not None
    assert (row.accuracy.mean, results.superseded, results.replaced) == (0.1, 2, 0)
    assert row.verdict.text.startswith("single seed")
    (told,) = (line for line in troubles if "not counted" in line)
    assert "2 runs are not counted: the code of mine.py/mine has changed since (mine); " in told
    assert told.endswith("`bench run` with all seeds trains them again")
    # other options are another row, and bench-core's own code has `numerics`
    other = of(42, 0.2, "new", 2, params={"gain": 2.0})
    core = [record.model_copy(update={"code": {"bench-core": {}}}) for record in before]
    for number, runs in enumerate(([*before, other], [*core[1:], after])):
        folders.write(tmp_path / str(number), [*bp, *runs])
        assert len(gather([tmp_path / str(number)])[0][0].records) == 3 + len(runs)
    # an edit that was undone: the last plan took the runs from before it
    home = folders.write(tmp_path / "undone", [*bp, *before[1:], after])
    stated = json.loads((home / "suite.json").read_text())
    taken = [run.record for run in scan([home]).runs if run.record.cell.seed != 42]
    made = dict.fromkeys((record.identity for record in taken), "2026-11-03")
    (home / "suite.json").write_text(json.dumps({**stated, "used": made}))
    (results,), (told,) = gather([tmp_path / "undone"])
    counted = (r.cell.seed for r in results.records if "mine" in r.cell.method.name)
    assert sorted(counted) == [123, 456]
    assert "1 run is not counted: the code of mine.py/mine has changed since" in told
    # two people with two versions, and what a suite.json may hold
    folders.write(tmp_path / "theirs", [after])
    folders.write(tmp_path / "ours", [*bp, *before[1:]])
    (results,), lines = together(gather([tmp_path / "ours", tmp_path / "theirs"])[0])
    assert [r.cell.seed for r in results.records if "mine" in r.cell.method.name] == [42]
    assert (results.superseded, len(results.settings.older)) == (2, 2)
    assert results.replaced == 0  # no cell was run twice
    told = f"{results.name}: 2 runs are not counted: the code of mine.py/mine has changed since"
    assert lines[0].startswith(told)  # whose folder has them does not matter
    # two people with plans of one run: the last one counts, whoever comes first
    for late, early in (("a", "b"), ("d", "c")):
        for name, runs, day in ((late, before[1:], "03"), (early, [before[1], after], "01")):
            place = folders.write(tmp_path / name, [*bp, *runs])
            seed = {run.record.identity: run.record.cell.seed for run in scan([place]).runs}
            made = json.loads((place / "suite.json").read_text())
            made["used"] = {one: f"2026-11-{day if seed[one] == 123 else '01'}" for one in seed}
            (place / "suite.json").write_text(json.dumps(made))
        (results,), _ = together(gather([tmp_path / late, tmp_path / early])[0])
        counted = [r.cell.seed for r in results.records if "mine" in r.cell.method.name]
        assert sorted(counted) == [123, 456], late
    for odd in ([1], {"x": 1}, {"x": {"at": 5}}):
        (home / "suite.json").write_text(json.dumps({**stated, "used": odd}))
        (results,), _ = gather([tmp_path / "undone"])
        assert len(results.records) == 4
    # the newest code is that of the last run that came to its end
    raised = of(7, 0.1, "new", 2, status="failed")
    folders.write(tmp_path / "raised", [*bp, *before, raised])
    assert len(gather([tmp_path / "raised"])[0][0].records) == 7


def test_a_row_that_lapsed_counts_before_its_copy_without_the_mark() -> None:
    about = {"environment": {"reference": "1", "lapsed": "x"}}
    about |= {"original": {"run.json": {"bytes": 0, "blake2b": "x"}}}
    copies = [run(checksum=f"c{number}") for number in range(3)]
    (group,) = judge_all([*copies[:1], run(checksum="d", **about), *copies[1:]])
    assert [item.record.shipped for item in group.rows[0].runs] == [True]


def test_equal_passports_stand_together_and_ranks_stay_those_of_the_recipe() -> None:
    records = [
        *seeds(
            "bench-core/bp",
            [0.7, 0.7, 0.7],
            passport={**PASSPORT, "weight_transport": True, "non_local_state": True},
        ),
        *seeds("bench-core/fa", [0.4, 0.4, 0.4], passport={**PASSPORT, "exact_top_credit": True}),
        *seeds("bench-core/dfa", [0.6, 0.6, 0.6], passport=PASSPORT),
        *seeds("x-mine/mine", [0.3, 0.3, 0.3], passport=PASSPORT),
    ]
    (group,) = judge_all(records)
    found = [(row.runs[0].record.cell.method.short, row.rank) for row in by_passport(group).rows]
    assert found == [("dfa", (2, 2)), ("x-mine/mine", (4, 4)), ("fa", (3, 3)), ("bp", (1, 1))]


def test_a_table_of_teacher_says_that_a_synthetic_task_can_reverse_an_order() -> None:
    teacher = ComponentRef(name="bench-core/teacher")
    records = [
        item.model_copy(update={"cell": item.cell.model_copy(update={"dataset": teacher})})
        for item in audit()
    ]
    assert "teacher is synthetic" in leaderboard(records)
    assert "synthetic" not in leaderboard(audit())


def test_the_legend_names_the_samples_that_the_figures_are_of() -> None:
    record = run(accuracy=0.4, chance=0.1)
    data = {"limit": None, "validation": 200, "evaluate_on": "validation"}
    held = record.model_copy(update={"cell": record.cell.model_copy(update={"data": data})})
    text = leaderboard([held], width=None)
    assert "accuracy: on held-out training samples after the last epoch" in text
    assert "Diagnostics measure on held-out training samples, with which no step" in text
    assert "test images" not in text
    assert "accuracy: on the test set after the last epoch" in leaderboard([record], width=None)


def test_the_legend_says_that_reasons_are_medians() -> None:
    growths = (60.0, 70.0, 1000.0)
    sick = [run(DFA, s, 0.5, measurements=measured(a=a)) for s, a in enumerate(growths)]
    text = leaderboard(sick, width=None)
    assert "grows 70 times in one block" in text
    assert "the reasons below its row (medians over the seeds that fire; margins are means)" in text


def without_normalize(record: RunRecord) -> Any:
    cell = record.cell
    params = {key: value for key, value in cell.method.params.items() if key != "normalize"}
    return cell.model_copy(update={"method": cell.method.model_copy(update={"params": params})})


def test_rules_that_trained_the_same_networks_are_named() -> None:
    """A rule that scales the credit of dfa trains the networks of dfa, under another name."""

    def networks(seed: int, **changes: Any) -> dict[str, Measurement]:
        norms = {"scale_growth": {"h": [8.8, 9.7 + seed / 7]}, "reference_floor": {"g": [0.1, 0.2]}}
        made = measured(a=1.1 + seed / 7, b=0.05 * seed, **changes)
        return {
            name: item.model_copy(update={"details": norms.get(name, item.details)})
            for name, item in made.items()
        }

    own = [run(DFA, seed, 0.5 + seed / 100, measurements=networks(seed)) for seed in (1, 2)]
    shipped = {
        name: item.model_copy(update={"value": item.value and float(f"{item.value:.7g}")})
        for name, item in networks(1).items()
    }
    mine = [
        run("lab/mine", 1, 0.51, measurements=shipped),
        run("lab/mine", 2, 0.52, measurements=networks(2, c=0.1000002)),
    ]
    bare = [r.model_copy(update={"cell": without_normalize(r)}) for r in (own[0], mine[0])]
    alone = leaderboard([*bare, *frozen(DFA, [0.3, 0.3])], width=None)
    assert "trained the same network for seed 1" in alone
    assert "one cause may be" not in alone  # rules of their own steps have no such option
    text = leaderboard([*own, *mine, *frozen(DFA, [0.3, 0.3])], width=None)
    said = "dfa, lab/mine trained the same network for seed 1: accuracy and norms of states and "
    said += "gradients are equal in seven digits"
    assert (
        f"{said}; one cause may be `normalize: sample`, which removes the length of a credit\n"
        in text
    )
    raw = [run("lab/mine", 1, 0.51, params={"normalize": "none"}, measurements=shipped)]
    text = leaderboard([*own, *raw], width=None)
    assert f"{said}\n".replace("mine", "mine[normalize=none]") in text  # the cause is another one
    idle = run("lab/mine", 1, 0.51, params={"freeze": "blocks"}, measurements=networks(1))
    floored = leaderboard([*own, idle], width=None)
    assert "dfa, lab/mine[frozen] trained the same network for seed 1" in floored
    other = [record.model_copy(update={"accuracy": 0.5}) for record in mine]
    assert "the same network" not in leaderboard([*own, *other], width=None)
    nan = math.nan
    for values in ({"a": nan, "b": nan, "c": nan}, {"a": 1.0, "b": 0.0, "c": None}, None):
        ruined = measured(**values) if values else {}  # ruined networks are alike, not the same
        both = [run(name, 1, 0.1, measurements=ruined) for name in (DFA, "lab/mine")]
        assert "the same network" not in leaderboard(both, width=None)
    dead = measured(a=1.0, b=0.0, c=0.0)
    for name, key in (("scale_growth", "h"), ("reference_floor", "g")):
        dead[name] = dead[name].model_copy(update={"details": {key: [0.0, 0.0]}})
    both = [run(name, 1, 0.1, measurements=dead) for name in (DFA, "lab/mine")]
    assert "the same network" not in leaderboard(both, width=None)


def test_margins_that_tie_and_the_seeds_of_ranks_are_remarked() -> None:
    tied = [*seeds(BP, [0.983, 0.981]), *frozen(BP, [0.950, 0.948])]
    three = [*seeds(BP, [0.983, 0.981, 0.979]), *frozen(BP, [0.950, 0.948, 0.946])]
    assert "bp: a margin over a floor is equal in all seeds" in leaderboard(three, width=None)
    beside = [*seeds(DFA, [0.95, 0.94, 0.97]), *frozen(DFA, [0.90, 0.91, 0.90])]
    text = leaderboard([*tied, *beside], width=None)
    assert "bp: a margin over a floor is the same in both seeds, so it has no interval" in text
    wide = "the rule with the fewest widens the ranks of all"
    assert f"at the least 2; {wide}; accuracies are over all seeds: dfa 3" in text
    assert "Ranks: with 2 seeds (all that bp has), two rules that differ by" in text
    assert "(if all scatter like these few runs)" in text
    still = [*seeds(DFA, [0.9, 0.91, 0.93]), *frozen(DFA, [0.9, 0.91, 0.93])]
    text = leaderboard([*tied, *still], width=None)
    assert "dfa: its accuracy is that of its own floor in every seed: do its blocks learn" in text
    assert "dfa: a margin" not in text
    level = [*seeds(BP, [0.611, 0.615, 0.619]), *seeds(DFA, [0.610, 0.614, 0.618])]
    text = leaderboard(level, width=None)
    assert "the ranks are not certain" not in text  # they have the width of the rounding
    assert "two rules that differ by 0.1 points are told apart in" in text
    ranks = [line.split()[:2] for line in text.splitlines() if " ± " in line][:2]
    assert ranks == [["1–2", "bp"], ["1–2", "dfa"]]
    explained = [record.model_copy(update={"chance": None}) for record in level]
    text = leaderboard(explained, width=None)
    assert "between the rules are equal over the seeds: the ranks are not certain" in text
    assert "0.0 points" not in text
    text = leaderboard([*tied[:3], *frozen(BP, [0.950, 0.949])[1:]], width=None)
    assert "equal in all seeds" not in text
    assert "at the least" not in text


def test_a_table_in_latex_has_a_short_caption_and_its_legend() -> None:
    """What marks, words and columns mean stays with the table; a comment behind it has the rest."""
    text = leaderboard(audit(), Settings(title="An audit"), format="latex", columns=["c"])
    needs, table, more = re.split(r"^(?=\\begin{table})|(?<=\\end{table})$", text, flags=re.M)
    assert needs.count("\n") == 1
    assert r"\usepackage{booktabs}" in needs
    assert "fontenc" not in needs
    ((caption, label),) = re.findall(r"^\\caption{(.*)}\\label{(.*)}$", table, re.M)
    assert caption.startswith("An audit. resmlp")
    assert re.fullmatch(r"tab:[\w.-]+", label)
    assert len(caption.split()) < 20
    below = table.partition(r"\raggedright")[2]
    for words in (
        r"$\pm$ 95 \% interval",
        r"$^{\dagger}$ $\Gamma$ is not diagnostic (it means nothing) for dfa",
        "c): median",
        r"\#: the ranks that hold",
        "uses, as its author declares",
        "\nwalked back: a claim that",
    ):
        assert words in below
        assert words not in more
    assert below.count(r"\par") < 17
    assert "dfa walked back: " in more
    assert "rules is trustworthy" in more
    polish = leaderboard(seeds("lab/Gałązka", [0.3, 0.3]), format="latex")
    assert r"needs \usepackage{booktabs} and \usepackage[T1]{fontenc}" in polish


def test_a_doubt_stands_with_a_table_in_latex() -> None:
    above = [*seeds(BP, [0.4, 0.41]), *seeds(DFA, [0.6, 0.61])]
    table = leaderboard(above, format="latex").partition(r"\end{table}")[0]
    assert "dfa lies above its ceiling bp" in table


def test_no_legend_names_a_place_that_a_format_lacks() -> None:
    for name, text in everything(audit()).items():
        assert "stands below" not in text, name


@pytest.mark.parametrize(
    ("taken", "told"),
    [
        ((0, 1), "dfa: changes weights by other means than the recipe's optimiser"),
        ((1, 2.5), "dfa: takes 2.5 steps of the optimiser in a batch, bp one"),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_line_names_a_rule_of_another_optimiser_or_of_more_steps(taken, told, seed) -> None:
    """One seed of it is enough."""
    others = [*seeds(BP, [0.4, 0.41], steps_per_batch=(1, 1)), *frozen(DFA, [0.3, 0.31])]
    honest = leaderboard([*others, *seeds(DFA, [0.4, 0.42], steps_per_batch=(0.5, 1))], width=None)
    assert "optimiser" not in honest
    own = seeds(DFA, [0.4, 0.42], steps_per_batch=(1, 1))
    own[seed] = own[seed].model_copy(update={"steps_per_batch": taken})
    records = [*others, *own]
    assert told in leaderboard(records, width=None)
    beside = [*others, *frozen(DFA, [0.3, 0.31], steps_per_batch=taken)]
    assert "optimiser" not in leaderboard(beside, width=None)
    (group,) = json.loads(leaderboard(records, format="json"))["suites"][0]["groups"]
    assert told.removeprefix("dfa: ") in " ".join(map(str, group["rows"]))


def test_a_line_asks_how_a_rule_knows_the_gradient_that_declares_nothing() -> None:
    told = "dfa: its credit is the gradient (Γ deep of 0.99 or more), and it declares no way"

    def shown(
        deep: float, frozen_too: bool = False, format: str = "table", **declared: bool
    ) -> str:
        flags = {**dict.fromkeys(PASSPORT, False), **declared}
        found = measured(gamma=deep)
        own = seeds(DFA, [0.4, 0.42], passport=flags, measurements=found)
        if frozen_too:
            own = frozen(DFA, [0.4, 0.42], passport=flags, measurements=found)
        return leaderboard([*seeds(BP, [0.4, 0.41]), *own], format=format, width=None)

    assert told in shown(0.999)
    assert "does it pass `bench check`?" in shown(0.999, format="json")
    assert told not in shown(0.98)
    assert told not in shown(0.999, frozen_too=True)
    for way in PASSPORT:
        knows = way not in ("labels_below_head", "non_local_state", "local_heads")
        assert (told not in shown(0.999, **{way: True})) == knows


@pytest.mark.parametrize(
    ("deep", "steps", "told"),
    [
        (1.0, (0.03, -0.02), True),
        (1.0, (0.24, 0.26), True),  # a quarter, in the mean
        (1.0, (0.25, 0.27), False),
        (0.5, (0.0, 0.0), True),
        (0.49, (0.0, 0.0), False),
        (1.0, (0.03, None), False),  # not measured in a run
    ],
)
def test_a_line_asks_whether_a_rule_trains_by_the_credit_that_it_shows(
    deep: float, steps: tuple[float | None, ...], told: bool
) -> None:
    line = "dfa: its credit points along the gradient"

    def shown(make: Any) -> str:
        made = make(DFA, [0.4, 0.42])
        runs = [
            each.model_copy(
                update={
                    "measurements": {
                        **measured(gamma=deep),
                        **({} if step is None else {"projected_step": Measurement(value=step)}),
                    }
                }
            )
            for each, step in zip(made, steps, strict=True)
        ]
        return " ".join(leaderboard(runs, width=None).split())

    assert (line in shown(seeds)) == told
    assert line.removeprefix("dfa: ") not in shown(frozen)
    penalised = partial(seeds, params={"penalty": 10.0})  # which is in the step alone
    assert "points along the gradient" not in shown(penalised)


@pytest.mark.parametrize(
    ("deep", "blocks", "told"),
    [(0.01, None, True), (-0.015, None, True), (0.03, None, False), (0.3, 0.01, True),
     (0.01, 0.3, False), (None, None, True)],
)  # fmt: skip
def test_a_credit_without_direction_needs_floors_of_another_scale(
    deep: float | None, blocks: float | None, told: bool
) -> None:
    """Random blocks whose scale alone grows beat the floor, and put back they lose it again."""
    found = measured(gamma=0.0 if deep is None else deep)
    if deep is None:
        found["alignment"] = Measurement(value=None, not_diagnostic=NO_CREDIT)
    if blocks is not None:
        details = {**found["alignment"].details, "blocks_deep": blocks}
        found["alignment"] = Measurement(value=deep, details=details)
    rule, floor = seeds(DFA, [0.5, 0.52, 0.51], measurements=found), frozen(DFA, [0.4, 0.41, 0.4])
    bp = [*seeds(BP, [0.6, 0.61, 0.6]), *frozen(BP, [0.4, 0.41, 0.42])]
    made = [*rule, *floor, *bp]
    text = " ".join(leaderboard(made, width=None).split())
    verdict = "undetermined" if told else "trustworthy"
    assert f"dfa {verdict} " in text
    assert (
        "not compared with random blocks of another scale, which may reach as much: bp, dfa;"
        in text
    ) != told
    assert ("no credit whose direction could be measured" in text) == (deep is None)
    larger = {"freeze": "blocks", "block_scale": 100.0}
    tried = [*made, *seeds(DFA, [0.45, 0.46, 0.45], params=larger)]
    assert "dfa trustworthy " in " ".join(leaderboard(tried, width=None).split())
    outdone = [*made, *seeds(DFA, [0.5, 0.52, 0.51], params=larger)]
    assert "dfa not separated" in " ".join(leaderboard(outdone, width=None).split())


def test_a_rule_without_a_credit_is_told_by_the_words_of_the_diagnostic() -> None:
    source = Path(alignment_plugin.__file__).read_text()
    assert f'not_diagnostic="{NO_CREDIT}"' in source


def test_a_floor_that_explains_no_variance_judges_no_blocks() -> None:
    """A score below that of the mean is cut off at 0, and a margin over it says nothing."""

    def table(of_floor: list[float]) -> str:
        made = [
            *seeds(BP, [0.34, 0.44, 0.47]), *frozen(BP, of_floor),
            *seeds(DFA, [0.3, 0.31, 0.33]), *frozen(DFA, of_floor),
        ]  # fmt: skip
        made = [each.model_copy(update={"chance": None}) for each in made]
        return " ".join(leaderboard(made, width=None).split())

    assert "dfa trustworthy" not in table([0.0, 0.0, 0.0])
    assert "reaches 0 (no variance is explained)" in table([0.0, 0.0, 0.0])
    assert "dfa trustworthy" in table([0.1, 0.11, 0.12])


def test_floors_are_not_asked_whether_their_blocks_learn() -> None:
    found = {**measured(), "block_utility": Measurement(value=0.0, details={"initial": [0.0]})}
    table = leaderboard(frozen(DFA, [0.3, 0.31], measurements=found), width=None)
    assert "do its blocks learn at all?" not in table


def test_explained_variance_counts_no_samples() -> None:
    """Equal accuracies have the interval of a count's rounding; a regression's have none."""

    def shown(**fields: Any) -> Any:
        records = seeds(DFA, [0.0, 0.0, 0.0], **fields)
        (group,) = json.loads(leaderboard(records, format="json"))["suites"][0]["groups"]
        return group["rows"][0]["accuracy"]["half_width"]

    assert shown(chance=None) == 0
    failed = [run(DFA, 1, None, status="failed", chance=None)]
    done = seeds(DFA, [0.3, 0.3, 0.3], chance=0.1)
    (group,) = judge_all([*failed, *done])
    assert group.rows[0].accuracy.half_width > 0
    pair = [*seeds(DFA, [0.5, 0.5], chance=None), *frozen(DFA, [0.2, 0.2], chance=None)]
    (group,) = judge_all(pair)
    (row,) = (row for row in group.rows if row.role != "floor")
    assert row.margin.half_width == 0
    assert "samples can be by" not in leaderboard(pair, width=None)
    assert shown(chance=0.1) == pytest.approx(4.302653 / (100 * 6), rel=1e-5)
