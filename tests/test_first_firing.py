"""The rows of epochs.jsonl and first firings: laws, a naive computation, and the published shape
of dfa and bp."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
from records import measured, run, seeds

from bench_core.analysis.claims.outcomes import claims_of
from bench_core.analysis.first_firing import Firing, firings, of_row
from bench_core.analysis.gather import SuiteResults, gather
from bench_core.analysis.verdicts.judge import UNTRAINED, Judgement
from bench_core.analysis.verdicts.leaderboard import judge_all
from bench_core.analysis.verdicts.settings import Settings
from bench_core.results import epochs
from bench_core.results.epochs import Epoch
from bench_core.results.record import Measurement
from bench_core.results.store import EPOCHS, Unreadable
from bench_core.suite.claim import Expectation

# per sample; at N = 1024: 1.3e-4, 1.8e-7, 4e-8 …; at N = 128 it fires at 4
G = [1.3e-1, 1.8e-4, 4e-5, 1.7e-5, 8.6e-6, 5e-6]
GROWTH = [1.0, 20.0, 40.0, 49.0, 50.0, 51.0]


def rows(growth: list[float], g: list[float] | None = None, **more: Measurement) -> list[Epoch]:
    g = g or [0.1] * len(growth)
    return [
        Epoch(
            epoch=t,
            learning_rate=1e-3,
            accuracy=0.1 + 0.05 * t,
            seconds=0.0 if t == 0 else 2.0 + t,
            measurements={**measured(a=a, b=b, c=0.1), **more},
        )
        for t, (a, b) in enumerate(zip(growth, g, strict=True))
    ]


def by_key(found: tuple[Firing, ...]) -> dict[str, Firing]:
    return {firing.key: firing for firing in found}


def test_collapse_is_seen_when_it_happens_and_what_stopping_saves() -> None:
    found = by_key(firings(rows(GROWTH, G)))
    assert {key: firing.epoch for key, firing in found.items()} == {
        "a": 5,
        "b": 4,
        "b@1024": 2,
        "c": None,
    }
    b = found["b"]
    assert (b.epochs_saved, b.batch) == (1, 128)
    assert b.accuracy_change == pytest.approx(5.0)
    assert found["b@1024"].threshold == pytest.approx(1e-7 * 1024)
    assert found["b@1024"].epochs_saved == 3
    assert found["c"] == Firing("c", "batch_stability", None, 0.3)


def test_a_healthy_run_never_fires() -> None:
    assert all(
        firing.epoch is None and firing.not_diagnostic is None
        for firing in firings(rows([1.1] * 4))
    )


def test_what_fires_untrained_is_not_diagnostic() -> None:
    found = by_key(firings(rows([60.0, 70.0, 10.0, 80.0])))
    assert (found["a"].epoch, found["a"].not_diagnostic) == (None, UNTRAINED)


def test_a_value_that_is_not_finite_fires_and_one_that_is_not_diagnostic_does_not() -> None:
    assert by_key(firings(rows([1.0, 2.0, math.nan, 3.0])))["a"].epoch == 2
    silent = Measurement(
        value=0.9,
        letter="c",
        direction="above",
        threshold=0.3,
        not_diagnostic="2 full probe batches",
    )
    found = by_key(firings(rows([1.0, 2.0], batch_stability=silent)))
    assert (found["c"].epoch, found["c"].not_diagnostic) == (None, "2 full probe batches")
    *judged, last = rows([1.0, 2.0, 3.0])  # one epoch of several that cannot be judged
    measurements = {**last.measurements, "batch_stability": silent}
    found = by_key(firings([*judged, last.model_copy(update={"measurements": measurements})]))
    assert found["c"].not_diagnostic is None


def test_other_thresholds_replace_the_stored_ones() -> None:
    found = by_key(firings(rows(GROWTH, G), {"scale_growth": 30.0, "reference_floor": 4.1e-5}))
    assert {key: firing.epoch for key, firing in found.items()} == {
        "a": 2,
        "b": 2,
        "b@1024": 1,
        "c": None,
    }


def test_a_diagnostic_of_the_last_epoch_has_no_first_firing() -> None:
    course = rows([1.0, 60.0, 70.0])
    rest = {name: item for name, item in course[1].measurements.items() if name != "scale_growth"}
    between = course[1].model_copy(update={"measurements": rest})
    assert "a" not in by_key(firings([course[0], between, course[2]]))
    assert firings([]) == ()


@pytest.mark.parametrize("trial", range(50))
def test_first_firing_is_that_of_a_plain_search(trial: int) -> None:
    draws = random.Random(trial)
    growth = [draws.choice([1.0, 49.0, 50.0, 51.0, math.inf]) for _ in range(draws.randint(1, 8))]
    found = by_key(firings(rows(growth)))["a"]
    beyond = [t for t, value in enumerate(growth) if value > 50]
    if beyond[:1] == [0]:
        assert found.not_diagnostic == UNTRAINED
        return
    assert found.epoch == (beyond[0] if beyond else None)
    if beyond:
        assert found.epochs_saved == len(growth) - 1 - beyond[0]


def test_a_row_has_its_first_firings_by_seed() -> None:
    records = [
        item.model_copy(update={"identity": str(i)})
        for i, item in enumerate(seeds("bench-core/dfa", [0.3, 0.3]))
    ]
    row = judge_all(records)[0].rows[0]
    curves = {"0": rows(GROWTH, G), "1": rows([1.0, 2.0])}
    found = of_row(row, lambda record: curves[record.identity], Settings())
    assert {seed: firing.epoch for seed, firing in found["a"].items()} == {42: 5, 123: None}


# -------------------------------------------------------------------------------------- reading


def write(folder: Path, lines: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / EPOCHS).write_text("\n".join(lines) + "\n")
    return folder


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    course = rows([1.0, math.inf])
    assert epochs.read(write(tmp_path, [row.model_dump_json() for row in course])) == tuple(course)
    assert epochs.read(tmp_path / "nothing") == ()


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"epoch": 0}', '{"epoch": 1, "learning_rate": 1, "accuracy": 0.1}', "1" * 5000],
)
def test_a_file_that_cannot_be_trusted_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(Unreadable, match=r"epochs\.jsonl"):
        epochs.read(write(tmp_path, [line]))


def test_a_finished_run_has_a_row_per_epoch(finished: object) -> None:
    (results,), troubles = gather([finished.folder])  # type: ignore[attr-defined]
    assert troubles == []
    for record in results.records:
        course = epochs.read(results.run_folder(record))
        assert [row.epoch for row in course] == [0, 1]
        assert course[-1].accuracy == record.accuracy
        assert {firing.key for firing in firings(course)} >= {"a", "b", "b@1024", "c"}


def test_a_spoilt_file_is_a_line_not_a_crash(tmp_path: Path) -> None:
    record = run("bench-core/dfa").model_copy(update={"identity": "x"})
    fields = {"figure": "first_epoch.a", "method": "dfa", "at_least": 1.0, "source": "s"}
    claim = Expectation.model_validate(fields)
    folder = write(tmp_path / "x", [json.dumps({"epoch": 3})])
    results = SuiteResults("s", Settings(), (record,), 0, tmp_path, expect=(claim,))
    (found,), (line,) = claims_of(results)
    assert found.status == "not run"
    assert str(folder) in line


def test_what_fires_on_an_untrained_network_of_the_recipe_is_silent_at_both_batch_sizes() -> None:
    silent = Judgement("done", "method", not_diagnostic=(("b", UNTRAINED),))
    found = by_key(firings(rows([1.0] * 3, [1e-2, 4e-5, 4e-6]), judgement=silent))
    assert [found[key].not_diagnostic for key in ("b", "b@1024")] == [UNTRAINED, UNTRAINED]
    assert [found[key].epoch for key in ("b", "b@1024")] == [None, None]
