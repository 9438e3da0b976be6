"""A record that does not have its form is set aside by name; the rest of the table stands."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hostile
import pytest
from bench_plugins.diagnostics import bench_diagnostics
from conftest import TINY, Here
from folders import leaderboard, write
from records import frozen, seeds
from test_terminal_safety import CONTROL
from torch import nn

from bench_core.analysis.distance import distances
from bench_core.analysis.gather import gather
from bench_core.execution.worker.cell import attempt
from bench_core.report.tables.formats import FORMATS
from bench_core.results import details, store
from bench_core.training.diagnostic import Diagnostic, Measured
from bench_core.training.params import ParamsModel

BAD: dict[str, tuple[str, Any, str]] = {
    "no list": ("alignment", {"unclamped": 3.0}, "unclamped must be a list of numbers"),
    "a list of texts": ("alignment", {"ratio": ["x"]}, "ratio must be a list of numbers"),
    "a read-out": ("alignment", {"other_unclamped": {}}, "other_unclamped must be a list of"),
    "a flag": ("alignment", {"in_use": 1}, "in_use must be true or false"),
    "a state": ("scale_growth", {"h": {"x": 1}}, "h must be a list of numbers"),
    "samples": ("state_distance", {"samples": "many"}, "samples must be a whole number"),
    "null": ("null_calibration", {"flagged": 5}, "flagged must be a list of whole numbers"),
    "too deep": ("further", {"x": hostile.nested(9)}, "it is nested more than 6 deep"),
    "too many": ("further", {"x": list(range(30_000))}, "it has more than 20,000 values"),
    "too long": ("further", {"x": "y" * 20_000}, "a text has more than 10,000 characters"),
    "a long name": ("further", {"y" * 20_000: 1}, "a text has more than 10,000 characters"),
}


def spoiled(root: Path, change: Any) -> tuple[Path, str]:
    """Write results of dfa and bp; one run of dfa has a changed run.json with valid checksums."""
    records = [*seeds("bench-core/dfa", [0.4, 0.41]), *seeds("bench-core/bp", [0.6, 0.61])]
    folder = write(root, [*records, *frozen("bench-core/bp", [0.3, 0.31])])
    for path in sorted(folder.glob("*/run.json")):
        raw = json.loads(path.read_text())
        if raw["cell"]["method"]["name"].endswith("dfa"):
            change(raw)
            hostile.reseal(path.parent, raw)
            return folder, path.parent.name
    raise AssertionError


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("when", ["measurements", "initial"])
def test_details_without_their_form_set_one_run_aside(tmp_path: Path, kind: str, when: str) -> None:
    name, odd, reason = BAD[kind]

    def change(raw: dict[str, Any]) -> None:
        raw[when][name] = {"value": 0.1, "details": odd}

    folder, identity = spoiled(tmp_path, change)
    suites, troubles = gather([folder])
    (line,) = troubles
    assert identity in line
    assert f"details of {name}: {reason}" in line
    assert len(suites[0].records) == 5
    with pytest.raises(store.Unreadable, match="does not follow its schema"):
        store.read(folder / identity)


def test_a_run_with_thousands_of_measurements_is_set_aside(tmp_path: Path) -> None:
    """Each could be a column: a page of them took more than a minute."""
    many = {f"m{k}": {"value": 1.0, "direction": "above", "threshold": 0.5} for k in range(101)}
    folder, _ = spoiled(tmp_path, lambda raw: raw["measurements"].update(many))
    (line,) = gather([folder])[1]
    assert "measurements; at most 100 are read" in line


@pytest.mark.parametrize(
    ("key", "value"),
    [("stop_when", ["a"]), ("stop_when", {"a": "x"}), ("epochs", "9"), ("deterministic", 3)],
)
def test_settings_without_their_form_set_one_run_aside(
    tmp_path: Path, key: str, value: Any
) -> None:
    folder, identity = spoiled(tmp_path, lambda raw: raw["cell"]["training"].update({key: value}))
    suites, (line,) = gather([folder])
    assert identity in line
    assert f"cell.training.{key}" in line or "cell.training" in line
    assert len(suites[0].records) == 5


@pytest.mark.parametrize(
    "claimed",
    [
        {"training": "x"},
        {"recipes": 3},
        {"recipes": [{"training": {"stop_when": 3}}]},
        {"arch": {"name": 3}},
        {"axes": {}},
    ],
)
def test_a_claimed_recipe_without_its_form_is_named(tmp_path: Path, claimed: Any) -> None:
    records = [*seeds("bench-core/dfa", [0.4, 0.41])]
    folder = write(tmp_path, records, claimed_for=claimed)
    suites, (line,) = gather([folder])
    assert "default thresholds are used" in line
    assert leaderboard(suites[0].records)


def test_details_of_every_built_in_diagnostic_have_a_schema() -> None:
    names = {component.name for component in bench_diagnostics()}
    assert details.SCHEMAS.keys() == names


def test_a_diagnostic_whose_details_no_reader_takes_is_an_error_of_the_diagnostic() -> None:
    class Odd(Diagnostic):
        def measure(self, audit: Any) -> Measured:
            return Measured(1.0, {"x": hostile.nested(9)})

    unread = SimpleNamespace(net=nn.Identity())
    item = attempt("odd", Odd(ParamsModel()), unread)  # type: ignore[arg-type]
    assert item.value is None
    assert "nested more than 6 deep" in item.details["error"]


@pytest.mark.parametrize("number", range(15))
def test_an_odd_probe_is_a_reason_and_no_end(tmp_path: Path, number: int) -> None:
    class Chosen(random.Random):
        def choice(self, items: Any) -> Any:
            return items[number % len(items)]

    for name in ("own", "bp"):
        (tmp_path / name).mkdir()
    (tmp_path / "own" / store.PROBE).write_bytes(hostile.probes(Chosen()))
    (tmp_path / "bp" / store.PROBE).write_bytes(hostile.probes(Chosen()))
    try:
        by_layer, _ = distances(tmp_path / "own", tmp_path / "bp")
        reason = "probe" if all(map(math.isnan, by_layer)) else ""  # states that are not finite
    except ValueError as error:
        reason = str(error)
    assert "probe" in reason


@pytest.mark.parametrize("seed", range(10))
def test_commands_survive_a_fuzzed_record(here: Here, tmp_path: Path, seed: int) -> None:
    """A few of each reader; `make soak` has a hundred with real runs."""
    records = [*seeds("bench-core/dfa", [0.4, 0.41]), *seeds("bench-core/bp", [0.6, 0.61])]
    folder = write(tmp_path / "results", records, claimed_for={"training": {"epochs": 9}})
    path = sorted(folder.glob("*/run.json"))[0]
    hostile.reseal(path.parent, hostile.mutated(json.loads(path.read_text()), random.Random(seed)))
    for command in ("leaderboard", "leaderboard --format json", "compare dfa bp", "export"):
        done = here(*command.split(), folder.parent)
        assert done.returncode != 3, (command, done.stderr)
        assert "bp" in done.stdout or done.returncode == 2, command


# ---------------------------------------------------------------------------------------- make soak

FUZZED = 100  # records for each reader
READERS = (
    *(f"leaderboard --format {form} RESULTS" for form in FORMATS),
    "show RUN",
    "show RUN --suite",
    "show RUN --json",
    "status RESULTS",
    "why RUN --results RESULTS --json",
    "compare dfa bp RESULTS",
    "claims RESULTS",
    "cite RESULTS",
    "export RESULTS",
    "export --table epochs RESULTS",
    "export --table measurements RESULTS",
    "report RESULTS -o report.html",
    "figure temporal RESULTS -o figure.svg",
    "site RESULTS -o site",
    "verify RESULTS --json",
    "merge RESULTS --into merged",
    "clean RESULTS",
    "plan SUITE --results RESULTS",
    "audit RUN --diagnostic nudging",
)
EVERY = TINY.replace("epochs: 1", "epochs: 2") + (
    "diagnostics: [scale_growth, reference_floor, batch_stability, depth_utility, alignment,\n"
    "  state_distance, nudging, null_calibration, drift, layer0_dominance, gradient_support,\n"
    "  loss_decrease, perturbation_correlation]\n"
    "expect: [{figure: accuracy, method: dfa, at_least: 0.01, source: x}]\n"
)


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of dfa, bp and their floors with every diagnostic that fits."""
    home = tmp_path_factory.mktemp("varied")
    (home / "tiny.yaml").write_text(EVERY)
    done = Here(home)("run", "tiny.yaml", "--results", "results", "--workers", 2)
    assert done.returncode == 0, done.stderr
    return home / "results"


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("reader", READERS)
def test_soak_a_hundred_fuzzed_records(here: Here, varied: Path, reader: str) -> None:
    """Each command reads real runs of which one file has odd values and valid checksums."""
    codes: Counter[int] = Counter()
    for seed in range(FUZZED):
        for name in ("results", "merged", "site"):
            shutil.rmtree(here.cwd / name, ignore_errors=True)
        shutil.copytree(varied, here.cwd / "results")
        suite = here.cwd / "results" / "tiny"
        spoiled = hostile.spoil(suite, random.Random(f"{reader} {seed}"))
        run = sorted(suite.glob("*/run.json"))[seed % 4].parent
        command = reader.replace("RESULTS", "results").replace("RUN", str(run))
        command = command.replace("SUITE", str(varied.parent / "tiny.yaml"))
        done = here(*command.split())
        where = (seed, spoiled, done.stderr[-2000:])
        assert done.returncode in (0, 1, 2), where
        for text in (done.stdout, done.stderr):
            assert not CONTROL.search(text.replace("\t", " ")), where
        if reader.startswith("leaderboard"):
            assert "bp" in done.stdout, where
            assert "dfa" in done.stdout, where
        codes[done.returncode] += 1
    print(f"\n{FUZZED} fuzzed records, bench {reader}: exit codes {dict(codes)}")
