"""`bench compare`: paired statistics, and the tables of comparisons."""

from __future__ import annotations

import json
import math
import re
from itertools import product
from pathlib import Path

import pytest
from conftest import invoke
from folders import audit_folder, write
from hypothesis import given
from hypothesis import strategies as st
from records import SICK, frozen, run, seeds

from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.stats import holm, sign_flip_p, smallest_p
from bench_core.analysis.verdicts.settings import Settings
from bench_core.errors import UsageError
from bench_core.report import comparison
from bench_core.report.comparison import as_json, as_text
from bench_core.report.text.layout import limits, tabulated
from bench_core.results.record import ComponentRef, Measurement

DFA, BP, FA, EP = (f"bench-core/{name}" for name in ("dfa", "bp", "fa", "ep"))


def suite(records: list, name: str = "made") -> SuiteResults:  # type: ignore[type-arg]
    return SuiteResults(name, Settings(), tuple(records), 0)


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
    text = as_text([found], width=80)
    assert "dfa → fa  .310  .410  +10.00 ± 2.48    3" in text
    assert "Letters of a verdict" not in text  # it has none
    walked = [run(DFA, seed, 0.3, measurements=SICK) for seed in (42, 123, 456)]
    unlike = comparison.methods([suite([*walked, *seeds(FA, [0.4] * 3)])], "dfa", "fa")
    assert "Letters of a verdict: a scale_growth" in as_text(unlike, width=None)
    assert max(map(len, text.splitlines())) <= 80


def test_a_comparison_for_a_paper_has_what_its_numbers_need() -> None:
    records = [*seeds(DFA, [0.41, 0.42, 0.40]), *seeds(FA, [0.31, 0.31, 0.31])]
    found = comparison.methods([suite(records)], "dfa", "fa")
    latex = as_text(found, form="latex")
    assert r"dfa $\to$ fa & .410 & .310 & $-$10.00 $\pm$ 2.48 & 3 & .250 & .250 & .250 \\" in latex
    assert latex.index("B - A: difference") < latex.index(r"\end{table}")
    markdown = as_text(found, form="markdown")
    (row,) = (line for line in markdown.splitlines() if line.startswith("| dfa"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["dfa → fa", ".410", ".310", "-10.00 ± 2.48", "3", *[".250"] * 3]
    assert "- p: exact sign-flip test" in markdown
    assert "\n% only in B: fa\n" in as_text(found, ["only in B: fa"], "latex")


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
    for text in (as_text([found, none]), as_json([found, none])):
        assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)


def test_long_labels_fit_a_terminal_of_80_columns() -> None:
    names = ("bench-core/state_bridge", "bench-core/credit_bridge")
    made = suite(
        [run(name, seed, 0.3, params={"freeze": "blocks"}) for name in names for seed in (1, 2, 3)]
    )
    text = as_text(
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
    longer = seeds(FA, [0.5, 0.5], training={"epochs": 7})
    _, alone = comparison.sets([suite(ours)], [suite([*theirs, *longer])])
    only = "with this recipe only in {}, and several could be its pair: fa (made · resmlp · cifar10"
    assert [line[: len(only)] for line in alone] == [
        f"{only.format(side)} · {rest}"[: len(only)]
        for side, rest in (("A", "100"), ("B", "5"), ("B", "7"))
    ]
    document = json.loads(as_json(found, alone))
    assert document["schema"] == "bench-compare/1"
    assert len(document["comparisons"]) == 4


def test_a_folder_that_is_not_there_is_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine", seeds(DFA, [0.3, 0.31]))
    with pytest.raises(UsageError, match=r"^nope: no such results folder to compare with mine$"):
        invoke("compare", "mine", "nope")


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
    text = as_text(pairs, width=None)
    assert "accuracies on cifar10 and digits cannot be compared" in text, text
    assert " ± " not in text.partition("B - A:")[0]
    changed = [record.model_copy(update={"data_checksum": "b" * 32}) for record in one]
    before = [record.model_copy(update={"data_checksum": "a" * 32}) for record in one]
    pairs, _ = comparison.sets([suite(before)], [suite(changed)])
    assert "the data of cifar10 changed between these runs" in as_text(pairs, width=None)
    assert pairs[0].effect is None
    pairs, _ = comparison.sets([suite(before)], [suite(one)])  # an older record has no checksum
    assert pairs[0].effect is not None


def test_only_a_diagnostic_that_ended_a_training_makes_its_length_remarkable() -> None:
    """Who compares two lengths on purpose knows them."""
    of_fifty = seeds(DFA, [0.3, 0.31], training={"epochs": 50}, epochs=50)
    pairs, _ = comparison.sets([suite(seeds(DFA, [0.4, 0.42]))], [suite(of_fifty)])
    assert all("unequal length" not in pair.note for pair in pairs)


def test_two_equal_differences_have_no_interval() -> None:
    low, high = seeds(DFA, [0.3, 0.31]), seeds(DFA, [0.4, 0.41])
    pairs, _ = comparison.sets([suite(low)], [suite(high)])
    assert pairs[0].effect is not None
    assert (pairs[0].effect.half_width, pairs[0].n, pairs[0].p) == (None, 2, 0.5)
    assert "+10.00 (n=2)" in as_text(pairs, width=None)


def test_the_command_compares_folders_and_methods(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit_folder(tmp_path / "a", epochs=1)
    audit_folder(tmp_path / "b", epochs=1)
    assert "the same runs on both sides" not in invoke("compare", "dfa", "bp", tmp_path / "a")
    assert "dfa → bp" in invoke("compare", "dfa", "bp", tmp_path / "a")
    assert "+0.00 ± 0.00" in invoke("compare", tmp_path / "a", tmp_path / "b")
    monkeypatch.chdir(tmp_path)  # a folder may have the name of a method
    for name in ("dfa", "bp"):
        (tmp_path / name).mkdir()
    assert "dfa → bp" in invoke("compare", "dfa", "bp", "a")


def test_suites_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folders = [audit_folder(tmp_path / name, epochs=0) for name in ("a", "b")]
    name = invoke("leaderboard", folders[0]).partition(": ")[0]
    assert name == folders[0].name
    both = invoke("leaderboard", tmp_path / "a", tmp_path / "b")
    for folder in folders:
        assert f"{name} ({folder}): " in both
