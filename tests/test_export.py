"""`bench show`, `export`, `cite` and `figure`: few, equal, missing and hostile runs."""

from __future__ import annotations

import ast
import csv
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import invoke
from folders import audit_folder, leaderboard, write
from pybtex.database import parse_string as bibliography
from records import SICK, audit, frozen, measured, run, seeds
from test_leaderboard import HOSTILE, forbidden, hostile

from bench_core import cli
from bench_core.analysis.claims.outcomes import judge_claims
from bench_core.analysis.gather import SuiteResults, gather
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.analysis.verdicts.settings import Settings
from bench_core.api import Component
from bench_core.errors import UsageError
from bench_core.registry.card import Card, card
from bench_core.report import comparison, export
from bench_core.report.comparison import as_text
from bench_core.report.tables import notes
from bench_core.report.view import view
from bench_core.report.words.cite import bibtex
from bench_core.results.record import Measurement
from bench_core.suite.claim import Expectation

DFA, BP, FA, EP = (f"bench-core/{name}" for name in ("dfa", "bp", "fa", "ep"))


def suite(records: list, name: str = "made") -> SuiteResults:  # type: ignore[type-arg]
    return SuiteResults(name, Settings(), tuple(records), 0)


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
    assert forbidden(as_text(found)) == []
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


COMPACT = {"run.json": {"bytes": 1, "blake2b": "0" * 32}}


def test_bibtex_states_recipe_hardware_and_reference() -> None:
    about = {"device_name": "a CPU", "threads": 1, "torch": "2.9"}
    recipe = {"batch_size": 128, "schedule": "cosine", "weight_decay": 0.01, "clip_norm": 1.0}
    recipe |= {"precision": "float32"}
    own = seeds("bench-core/dfa", [0.4, 0.41], environment=about, training=recipe)
    shipped = {**about, "device_name": "another", "reference": "1", "commit": "0123456789"}
    theirs = seeds("bench-core/bp", [0.6], environment=shipped, training=recipe, original=COMPACT)
    cut = {**recipe, "stop_after": 3, "clip_norm": None}
    short = seeds("bench-core/fa", [0.4], training=cut)
    text = bibtex([*own, *theirs, *short], {})
    assert (
        "% recipe: resmlp (depth=4, residual=true, width=256) on cifar10; 100 epochs, batches of "
        "128; AdamW, "
        "learning rate 0.001 (cosine); weight decay 0.01; the gradient of each group of parameters "
        "clipped to norm 1.0; float32; seeds 42, 123. 3 runs: 2 on a CPU, 1 on another, "
        "1 CPU thread, PyTorch 2.9"
    ) in text
    assert "; 3 epochs of a schedule of 100, batches of 128; " in text
    assert "; no clipping; " in text
    works = bibliography(text, "bibtex").entries
    assert works["bench_reference"].fields["version"] == "1"
    assert "trained by commits 0123456" in works["bench_reference"].fields["note"]
    assert "bench_reference" not in bibtex(own, {})
    limited = [
        run.model_copy(update={"cell": run.cell.model_copy(update={"data": {"limit": limit}})})
        for run, limit in zip(own, (100, 200), strict=True)
    ]
    assert bibtex(limited, {}).count("% recipe: ") == 2


def test_no_name_of_hardware_or_of_a_version_breaks_bibtex() -> None:
    """An @ begins an entry wherever it stands: Intel writes CPU @ 3.70GHz."""
    odd = {
        "device_name": "Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz",
        "commit": "@{",
        "torch": "@x{",
    }
    for version in ("1", "50% {", "1}, evil = {x", "1}\n}\n@misc{evil"):
        about = {**odd, "reference": version}
        made = seeds("bench-core/bp", [0.6], environment=about, original=COMPACT)
        works = bibliography(bibtex(made, {}), "bibtex").entries
        assert set(works) == {"bench", "hao2026", "bench_reference", "paszke2019"}


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.parametrize(
    ("text", "written"),
    [("--method", "-{}-method"), ("a---b-c", "a-{}-{}-b-c"), ("1–2", "1--2"), ("−1", "$-$1")],
)
def test_hyphens_are_no_dashes_in_latex(text: str, written: str) -> None:
    from bench_core.report.text.escape import latex

    assert latex(text) == written


@pytest.mark.long
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
