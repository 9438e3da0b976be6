"""State distance to bp: laws of the distance, the pairing of runs, and what is said where there
is no pair."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from records import run
from safetensors.numpy import save_file

from bench_core.analysis import distance
from bench_core.analysis.distance import NAME, PROBE, attach, distances
from bench_core.analysis.gather import SuiteResults
from bench_core.analysis.verdicts.settings import Settings
from bench_core.report.export import runs
from bench_core.report.single import text
from bench_core.report.tables.formats import leaderboards
from bench_core.report.view import view
from bench_core.results.record import Measurement, RunRecord

ASKED = {NAME: Measurement(across="ceiling", details={"probe": 1280})}


def states(
    seed: int = 0, samples: int = 40, width: int = 6, scale: float = 1.0
) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(seed)
    rows = {
        f"h_{i}": draws.normal(size=(samples, width)).astype(np.float32) * scale for i in range(3)
    }
    return rows | {"g_0": np.zeros((samples, width), np.float32)}


def folder(home: Path, name: str, rows: dict[str, np.ndarray]) -> Path:
    (home / name).mkdir(parents=True)
    save_file(rows, home / name / PROBE)
    return home / name


def results(home: Path, *records: RunRecord) -> SuiteResults:
    return SuiteResults("s", Settings(), records, 0, home)


def record(method: str, identity: str, seed: int = 42, **fields: object) -> RunRecord:
    return run(method, seed, measurements=ASKED, **fields).model_copy(update={"identity": identity})  # type: ignore[arg-type]


def test_a_run_is_at_no_distance_from_itself_and_one_scaled_is_at_the_scale_less_one(
    tmp_path: Path,
) -> None:
    bp = folder(tmp_path, "bp", states())
    assert distances(bp, bp) == ([0.0, 0.0, 0.0], 40)
    found, _ = distances(folder(tmp_path, "far", {k: v * 4 for k, v in states().items()}), bp)
    assert found == pytest.approx([3.0] * 3, rel=1e-6)


def test_a_state_of_bp_near_zero_is_no_division_by_zero(tmp_path: Path) -> None:
    """Its norm counts as 1e-30 at least, and as it is above that."""
    for size, expected in ((0.0, 1e30 * 6**0.5), (1e-12, 1e12 - 1)):
        flat = {f"h_{layer}": np.full((4, 6), size, np.float32) for layer in range(3)}
        ones = {name: np.ones_like(rows) for name, rows in flat.items()}
        home = tmp_path / str(size)
        found, _ = distances(folder(home, "own", ones), folder(home, "bp", flat))
        assert found == pytest.approx([expected] * 3, rel=1e-6)


def test_it_is_the_plain_median(tmp_path: Path) -> None:
    own, other = states(1), states(2, samples=30)
    found, samples = distances(folder(tmp_path, "own", own), folder(tmp_path, "bp", other))
    assert samples == 30
    for layer, value in enumerate(found):
        pairs = zip(
            own[f"h_{layer}"].astype(float), other[f"h_{layer}"].astype(float), strict=False
        )
        each = sorted(math.dist(h, b) / math.hypot(*b) for h, b in pairs)
        assert value == pytest.approx((each[14] + each[15]) / 2)


def test_what_cannot_be_compared_says_why(tmp_path: Path) -> None:
    bp = folder(tmp_path, "bp", states())
    with pytest.raises(ValueError, match="other shapes"):
        distances(folder(tmp_path, "wide", states(width=7)), bp)
    with pytest.raises(ValueError, match=r"probe\.safetensors cannot be read"):
        distances(tmp_path / "nowhere", bp)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / PROBE).write_bytes((bp / PROBE).read_bytes()[:100])
    with pytest.raises(ValueError, match=r"probe\.safetensors cannot be read"):
        distances(tmp_path / "torn", bp)


def test_a_compact_run_has_no_states(tmp_path: Path) -> None:
    compact = {"original": {"run.json": {"bytes": 0, "blake2b": "x"}}}
    for own, bp, why in (({}, compact, "the run of bp is compact"), (compact, {}, "a compact run")):
        pair = record("bench-core/dfa", "own", **own), record("bench-core/bp", "bp", **bp)
        item = attach(results(tmp_path, *pair)).records[0].measurements[NAME]
        assert str(item.not_diagnostic).startswith(why)


def test_blocks_of_samples_have_the_numbers_of_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, bp = folder(tmp_path, "own", states(1)), folder(tmp_path, "bp", states(2, samples=31))
    whole = distances(own, bp)
    monkeypatch.setattr(distance, "BLOCK", 20)
    assert distances(own, bp) == whole


def test_a_large_probe_takes_little_memory(tmp_path: Path) -> None:
    """Its 16-bit states are compared as 64-bit numbers, a block at a time."""
    rows = {"h_0": np.ones((1000, 4000), np.float16)}  # 8 MB
    own, bp = folder(tmp_path, "own", rows), folder(tmp_path, "bp", rows)
    tracemalloc.start()
    assert distances(own, bp) == ([0.0], 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6  # 96 MB for the differences of all at once


@pytest.mark.parametrize(
    "content",
    [
        b'{"h_0": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4]}}',
        b'{"h_0": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}',
        b'{"h_0": {"dtype": "F8_E4M3", "shape": [2, 2], "data_offsets": [0, 4]}}',
        b'{"h_0": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]}}',
        b'{"h_0": {"dtype": "C64", "shape": [1, 2], "data_offsets": [0, 4]}}',
        b'{"h_0": {"dtype": "I32", "shape": [1, 1], "data_offsets": [0, 4]}}',
        b'{"h_1": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}}',
        b'{"h_0": {"dtype": "F32", "shape": [4, 0], "data_offsets": [0, 0]}}',
        b'{"h_0": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}',
        b" " * (2 << 20),
    ],
)
def test_a_hostile_probe_is_a_reason(tmp_path: Path, content: bytes) -> None:
    home = folder(tmp_path, "bp", states())
    (home / PROBE).write_bytes(len(content).to_bytes(8, "little") + content + b"0000")
    with pytest.raises(ValueError, match=r"probe\.safetensors (cannot be read|has no states)"):
        distances(home, home)


def test_states_that_are_not_finite_are_at_no_finite_distance(tmp_path: Path) -> None:
    found, _ = distances(
        folder(tmp_path, "x", states(scale=math.inf)), folder(tmp_path, "bp", states())
    )
    assert not any(math.isfinite(value) for value in found)


def test_runs_are_paired_with_bp_of_their_recipe_and_seed(tmp_path: Path) -> None:
    folder(tmp_path, "bp", states())
    folder(tmp_path, "bp2", {k: v * 2 for k, v in states().items()})
    folder(tmp_path, "dfa", {k: v * 4 for k, v in states().items()})
    records = [
        record("bench-core/bp", "bp"),
        record("bench-core/bp", "bp2", seed=123),
        record("bench-core/bp", "bp-frozen", params={"freeze": "blocks"}),
        record("bench-core/dfa", "dfa"),
        record("bench-core/dfa", "short", training={"epochs": 5}),
        record("bench-core/dfa", "lost", status="crashed"),
        run("bench-core/fa").model_copy(update={"identity": "nobody asked"}),
    ]
    found = {
        item.identity: item.measurements.get(NAME)
        for item in attach(results(tmp_path, *records)).records
    }
    own = found["dfa"]
    assert own is not None
    assert own.value == pytest.approx(3.0)
    assert (own.details["samples"], own.details["ceiling"]) == (40, "bp")
    assert found["bp"] is not None
    assert found["bp"].value == 0
    for identity, reason in (("short", "no finished run of bp"), ("bp-frozen", "cannot be read")):
        item = found[identity]
        assert item is not None
        assert item.value is None
        assert reason in str(item.not_diagnostic)
    assert found["lost"] is None
    assert found["nobody asked"] is None


def test_the_leaderboard_and_a_run_show_it(tmp_path: Path) -> None:
    folder(tmp_path, "bp", states())
    folder(tmp_path, "dfa", {k: v * 4 for k, v in states().items()})
    records = [
        record("bench-core/bp", "bp"),
        record("bench-core/dfa", "dfa"),
        record("bench-core/dfa", "far", seed=7),
    ]
    found = attach(results(tmp_path, *records))
    rows = {
        row["label"]: row["runs"]
        for row in json.loads(leaderboards([found], "json"))["suites"][0]["groups"][0]["rows"]
    }
    distance = {"layers": [0, 0, 0], "samples": 40, "probe": 1280, "missing": None}
    assert rows["bp"][0]["state_distance"] == distance
    far, dfa = rows["dfa"]
    assert dfa["state_distance"]["layers"] == pytest.approx([3.0] * 3)
    assert far["state_distance"]["missing"] == "no finished run of bp with this recipe and seed"
    seen = view(found)
    shown = {run.record.identity: text(seen, row, run, 100) for _, row, run in seen.runs}
    told = " ".join(shown["dfa"].split())
    means = "distance of h_l to bp's, over the norm of bp's; n = 40 of 1,280 probe samples"
    assert f"d_BP by layer 3 3 3 ({means})" in told
    assert "floor       none: no finished run of dfa[frozen]" in shown["dfa"]
    (line,) = [line for line in runs([view(found)]) if line["identity"] == "dfa"]
    assert (line["state_distance_samples"], line["state_distance_probe"]) == (40, 1280)
    assert "d_BP        not measured: no finished run" in shown["far"]


def test_a_run_names_the_runs_that_d_compares_it_with(tmp_path: Path) -> None:
    rows = [("lone", 7, None), ("pair", 42, None), ("f42", 42, "blocks"), ("f123", 123, "blocks")]
    records = [
        record("bench-core/dfa", name, seed, params={"freeze": freeze})
        for name, seed, freeze in rows
    ]
    page = view(results(tmp_path, *records))
    shown = {run.record.identity: text(page, row, run, None) for _, row, run in page.runs}
    floor = "floor       dfa[frozen], "
    assert f"{floor}its run of seed 42\n" in shown["pair"]
    assert (
        f"{floor}the mean of its seeds 42, 123: it has no finished run of seed 7" in shown["lone"]
    )
    assert "\nfloor " not in shown["f42"]
