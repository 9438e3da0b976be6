"""stop_when: a diagnostic that fires ends the training, and the run says so."""

from __future__ import annotations

import json
import math

import pytest
from conftest import TINY, Here, fake_dist
from folders import leaderboard
from records import run

from bench_core.analysis.early_stop import savings
from bench_core.analysis.stats import t_critical
from bench_core.results.scan import scan

MEASURED = "diagnostics: [{name: scale_growth, threshold: 1.05}, alignment, loss_decrease]\n"
STOP = TINY.replace("epochs: 1", "epochs: 5, learning_rate: 0.02") + MEASURED + "floors: false\n"


def records(results):
    return {run.record.cell.method.short: run.record for run in scan([results]).runs}


def test_a_training_ends_when_a_diagnostic_fires(here: Here):
    """dfa's stream grows from the first epoch on; what is measured at the end is measured where
    it ended."""
    suite = here.cwd / "tiny.yaml"
    suite.write_text(STOP + "stop_when: [scale_growth]\n")
    done = here("run", suite)
    assert done.returncode == 0, done.stderr
    record = records(here.cwd / "results")["dfa"]
    assert (record.status, record.stopped_by) == ("done", "scale_growth")
    rows = [
        json.loads(line)
        for line in (here.cwd / "results/tiny" / record.identity / "epochs.jsonl")
        .read_text()
        .splitlines()
    ]
    growth = [row["measurements"]["scale_growth"]["value"] for row in rows]
    assert record.epochs == len(rows) - 1 < 5
    assert record.steps_per_batch == (1, 1)  # of the epochs that were trained
    depth = record.cell.arch.params["depth"]
    assert record.blocks_changed == (depth, depth)
    assert 0 <= record.reset_accuracy <= 1
    assert growth[-1] > 1.05
    assert all(value <= 1.05 for value in growth[1:-1])
    assert "loss_decrease" in record.measurements
    assert "loss_decrease" not in rows[1]["measurements"] or len(rows) == 2


DRIFTS = """
from bench_plugins.methods.dfa import DirectFeedbackAlignment


class Drifts(DirectFeedbackAlignment):
    \"\"\"Credits that grow with every call, once the training has begun.\"\"\"

    calls = -1.0

    def learn(self, states, y, epoch):
        self.calls = max(self.calls, 0.0)

    def credit(self, states, y, epoch):
        own = super().credit(states, y, epoch)
        self.calls += self.calls >= 0
        own.audited[0] = own.audited[0] * (1 + max(self.calls, 0.0))
        return own
"""


@pytest.mark.long
def test_the_credit_of_a_training_that_ends_early_is_checked_as_at_a_planned_end(here: Here):
    (here.cwd / "drifts.py").write_text(DRIFTS)
    suite = here.cwd / "tiny.yaml"
    suite.write_text(STOP + "stop_when: [scale_growth]\n")
    done = here("run", suite, "--method", "./drifts.py")
    assert done.returncode != 0
    failed = [record for record in records(here.cwd / "results").values() if record.reason]
    assert len(failed) == 1
    assert "credit() of Drifts returns another credit when it is asked for" in failed[0].reason


@pytest.mark.long
def test_what_fires_before_training_ends_nothing(here: Here):
    """It is not diagnostic in this suite."""
    suite = here.cwd / "tiny.yaml"
    text = STOP.replace("threshold: 1.05", "threshold: 0.5").replace("epochs: 5", "epochs: 2")
    suite.write_text(text + "stop_when: [scale_growth]\n")
    assert here("run", suite).returncode == 0
    record = records(here.cwd / "results")["dfa"]
    assert (record.epochs, record.stopped_by) == (2, None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("stop_when: [reference_floor]", "reference_floor is not among the suite's diagnostics"),
        ("stop_when: [alignment]", "alignment cannot end a training"),
        ("stop_when: [scale_growth, loss_decrease]", "loss_decrease cannot end a training"),
    ],
)
def test_a_diagnostic_that_cannot_end_a_training_is_refused(here: Here, line, message):
    suite = here.cwd / "tiny.yaml"
    suite.write_text(STOP + line + "\n")
    done = here("plan", suite)
    assert done.returncode == 2
    assert f"tiny.yaml:{len(STOP.splitlines()) + 1}:" in done.stderr
    assert message in done.stderr


CLOCK = """
import time

from bench_core.api import Component, Diagnostic, Measured, hookimpl

@hookimpl
def bench_diagnostics():
    return [Component("clock", "clock_table:Clock")]

class Clock(Diagnostic):
    when, direction, threshold, repeatable = "epochs", "above", 1.0, False
    def measure(self, audit):
        return Measured(time.monotonic(), {})
"""


@pytest.mark.long
def test_a_clock_cannot_end_a_training(here: Here):
    """Otherwise two runs of one cell would be trained for different numbers of epochs."""
    folder = here.cwd / "site"
    fake_dist(folder, "x-clock", "clock_table", CLOCK)
    suite = here.cwd / "tiny.yaml"
    suite.write_text(STOP.replace("loss_decrease]", "clock]") + "stop_when: [clock]\n")
    done = here("plan", suite, path=[folder])
    assert done.returncode == 2
    assert "clock cannot end a training: its values are not repeatable" in done.stderr


def ended(seed, accuracy, epoch, **fields):
    training = {"stop_when": {"bench-core/reference_floor": None}}
    return run(
        seed=seed,
        accuracy=accuracy,
        training=training,
        epochs=epoch,
        stopped_by="reference_floor",
        **fields,
    )


def whole(seed, accuracy):
    return run(seed=seed, accuracy=accuracy, training={"stop_when": {}})


def test_what_was_saved_and_what_it_cost_are_paired_by_seed():
    runs = [
        ended(42, 0.308, 4, seconds_per_epoch=5.0),
        ended(123, 0.31, 4, seconds_per_epoch=5.0),
        whole(42, 0.306),
        whole(123, 0.32),
    ]
    (found,) = savings(runs)
    assert (found.diagnostic, found.at, found.planned, found.epochs) == (
        "reference_floor",
        {42: 4, 123: 4},
        100,
        192,
    )
    assert found.seconds == pytest.approx(960)
    assert found.cost.mean == pytest.approx((0.2 - 1.0) / 2)
    assert found.cost.n == 2


def test_equal_costs_have_the_interval_of_the_stated_test_set():
    """Two accuracies are subtracted, and each is a count of 1,000 samples."""
    cells = [(42, 0.3), (123, 0.31), (456, 0.32)]
    runs = [ended(seed, score, 4, test_samples=1_000) for seed, score in cells]
    (found,) = savings([*runs, *(whole(seed, score) for seed, score in cells)])
    assert found.cost.mean == 0
    assert found.cost.half_width == pytest.approx(t_critical(3) * 0.1 * math.sqrt(2 / 3 / 12))


def test_equal_costs_of_older_runs_have_the_step_of_their_accuracies():
    """They do not state their test samples: 0.308 and 0.306 are counts of 500, or of more."""
    cells = [(42, 0.308), (123, 0.314), (456, 0.322)]
    runs = [ended(seed, score, 4) for seed, score in cells]
    (found,) = savings([*runs, *(whole(seed, score - 0.002) for seed, score in cells)])
    assert found.cost.half_width == pytest.approx(t_critical(3) * 0.2 * math.sqrt(2 / 3 / 12))


def test_without_a_run_to_the_end_the_cost_is_not_known():
    (found,) = savings([ended(42, 0.3, 4), ended(123, 0.3, 5), whole(42, 0.3)])
    assert found.cost is None
    assert found.seconds is None
    assert savings([whole(42, 0.3)]) == []
    broken = run(seed=42, accuracy=0.3, status="interrupted", training={"stop_when": {}})
    (found,) = savings([ended(42, 0.31, 4), broken])  # it did not reach its end
    assert found.cost is None


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), None])
def test_an_accuracy_that_is_not_finite_leaves_the_cost_unknown(odd):
    """A record of somebody else may have such a one; every table reads it."""
    (found,) = savings([ended(42, odd, 4), whole(42, 0.3)])
    assert (found.at, found.cost) == ({42: 4}, None)
    (found,) = savings([ended(42, 0.3, 4), whole(42, odd)])
    assert found.cost is None


def test_the_leaderboard_says_so():
    text = leaderboard([ended(42, 0.308, 4, seconds_per_epoch=5.0), whole(42, 0.306)], width=400)
    assert (
        "ended by reference_floor after epoch 4 of 100: 96 epochs, about 480 s, saved; "
        "accuracy +0.2 points" in text
    )
    assert "is not known" in leaderboard([ended(42, 0.308, 4)], width=400)
