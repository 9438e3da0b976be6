"""Threshold sensitivity: against judging everything anew, on random runs; and the published
calibration."""

from __future__ import annotations

import math
import random
from functools import cache

import pytest
from records import frozen, measured, run, seeds

from bench_core.analysis.sensitivity import Sensitivity, sensitivities
from bench_core.analysis.verdicts.judge import UNTRAINED
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.analysis.verdicts.settings import Settings
from bench_core.results.record import Measurement, RunRecord

NAMES = {"a": "scale_growth", "b": "reference_floor", "c": "batch_stability", "d": "depth_utility"}
INF = math.inf


def of(records: list[RunRecord], settings: Settings | None = None) -> dict[str, Sensitivity]:
    settings = settings or Settings()
    return {found.letter: found for found in sensitivities(judge_all(records, settings), settings)}


def verdicts(records: list[RunRecord], settings: Settings) -> dict[str, str]:
    return {
        run.record.identity: run.judgement.text
        for group in judge_all(records, settings)
        for row in group.rows
        for run in row.runs
    }


def published() -> list[RunRecord]:
    """The audit's extremes: EP's seed 123 is the sickest healthy run, CB's the healthiest
    degenerate one."""
    return [
        *seeds("bench-core/bp", [0.61, 0.62], measurements=measured(a=5.0, b=3e-4 * 128, c=0.1)),
        run("bench-core/ep", 123, 0.36, measurements=measured(a=11.0, b=1.02e-4 * 128, c=-0.04)),
        run(
            "bench-core/credit_bridge",
            123,
            0.29,
            measurements=measured(a=694.0, b=4.18e-9 * 128, c=0.25),
        ),
        *seeds(
            "bench-core/dfa", [0.31, 0.32], measurements=measured(a=1000.0, b=1e-9 * 128, c=0.05)
        ),
        *frozen("bench-core/ep", [0.3]),
    ]


def test_the_published_calibration() -> None:
    found = of(published())
    a, b = found["a"], found["b"]
    assert a.band == (11.0, 694.0)
    assert b.band == pytest.approx((4.18e-9 * 128, 1.02e-4 * 128))
    assert a.gap is not None
    assert b.gap is not None
    assert a.gap.ratio == pytest.approx(63, abs=0.1)
    assert b.gap.ratio == pytest.approx(24338, rel=0.01)
    assert (
        a.gap.healthy.run.record.cell.method.short,
        a.gap.degenerate.run.record.cell.method.short,
    ) == (
        "ep",
        "credit_bridge",
    )
    assert a.gap.separated


def test_labels_that_overlap_are_not_separated() -> None:
    sick = run("bench-core/dfa", measurements=measured(a=3.0, b=1e-9))
    found = of([sick, run("bench-core/bp", measurements=measured(a=20.0))])
    assert found["a"].gap is not None
    assert not found["a"].gap.separated
    assert found["a"].gap.ratio == pytest.approx(3 / 20)
    assert found["c"].gap is not None
    assert found["c"].gap.difference == 0.0


def test_one_kind_only_has_no_gap_and_a_band_without_an_upper_end() -> None:
    found = of([run("bench-core/bp", measurements=measured(a=2.0))])
    assert found["a"].gap is None
    assert found["a"].band == (2.0, INF)


def test_a_value_that_is_not_finite_fires_at_every_threshold() -> None:
    for value in (math.nan, INF):
        found = of([run("bench-core/dfa", measurements=measured(a=value, b=value))])
        assert found["a"].band == found["b"].band == (-INF, INF)


def test_a_threshold_that_the_untrained_network_passes_makes_a_verdict_silent() -> None:
    """c at .9 before training: below .9 it is not diagnostic, between .9 and .95 it fires."""
    c = Measurement(value=0.9, letter="c", direction="above", threshold=0.3)
    records = [run("bench-core/dfa", measurements=measured(c=0.95), initial={"batch_stability": c})]
    found = of(records)["c"]
    assert found.band == (-INF, 0.9)
    assert dict(judge_all(records)[0].rows[0].runs[0].judgement.not_diagnostic)["c"] == UNTRAINED
    assert of(records, Settings({"batch_stability": 0.92}))["c"].band == (0.9, 0.95)


def test_d_is_read_from_the_margins() -> None:
    found = of([*seeds("bench-core/dfa", [0.40, 0.36]), *frozen("bench-core/dfa", [0.35, 0.35])])[
        "d"
    ]
    assert found.band == pytest.approx((1.0, 5.0))
    assert (found.n, found.name) == (2, "depth_utility")


@pytest.mark.parametrize("trial", range(40))
def test_bands_are_those_of_judging_anew(trial: int) -> None:
    draws = random.Random(trial)
    scales = {
        "a": [1.0, 30.0, 50.0, 80.0, INF],
        "b": [1e-9, 1e-5, 1.28e-5, 1e-3],
        "c": [0.05, 0.25, 0.3, 0.5],
    }
    records = []
    for number in range(6):
        final, initial = (
            {letter: draws.choice(values) for letter, values in scales.items()} for _ in range(2)
        )
        fields = {"initial": measured(**initial)} if draws.random() < 0.5 else {}
        method = draws.choice(["bench-core/dfa", "bench-core/fa"])
        records.append(
            run(
                method,
                number,
                draws.choice([0.35, 0.37, 0.4]),
                measurements=measured(**final),
                **fields,
            )
        )
    records += frozen("bench-core/dfa", [0.35, 0.35])
    before = verdicts(records, Settings())
    for letter, found in of(records).items():

        @cache
        def changed(limit: float, letter: str = letter) -> bool:
            return before != verdicts(records, Settings({NAMES[letter]: limit}))

        inside = [limit for limit in found.band if math.isfinite(limit)]
        above = found.direction == "above"
        closed, opened = found.band if above else reversed(found.band)
        assert not any(changed((limit + found.threshold) / 2) for limit in inside)
        assert math.isinf(closed) or not changed(closed)
        assert math.isinf(opened) or changed(opened)
        beyond = math.nextafter(closed, -INF if above else INF)
        assert math.isinf(closed) or changed(beyond)
